//! Laws of the arithmetic on frames, addresses, orders and sets, on random values and against counting by hand.

use std::collections::BTreeSet;

use mmkit_units::{
    CpuId, Gfp, MAX_CPUS, MAX_NODES, MigrateType, NodeId, NodeMask, Order, Pfn, PfnRange, PhysAddr, PhysRange,
    VirtAddr, ZoneType,
};
use proptest::prelude::*;

fn any_order() -> impl Strategy<Value = Order> {
    (0..=Order::MAX.raw()).prop_map(Order::new_truncate)
}

fn any_pfn() -> impl Strategy<Value = Pfn> {
    prop_oneof![0..64_u64, 0..1_u64 << 40].prop_map(Pfn::new)
}

/// Ranges small enough to be counted, some of them empty, some inside out.
fn small_range() -> impl Strategy<Value = (u64, u64)> {
    (0..40_u64, 0..40_u64)
}

fn small_frames((start, end): (u64, u64)) -> PfnRange {
    PfnRange::new(Pfn::new(start), Pfn::new(end))
}

fn small_bytes((start, end): (u64, u64)) -> PhysRange {
    PhysRange::new(PhysAddr::new(start), PhysAddr::new(end))
}

proptest! {
    #[test]
    fn buddies_are_halves_of_one_block(pfn in any_pfn(), order in any_order()) {
        let block = pfn.align_down(order.nr_pages());
        let buddy = block.buddy(order);
        prop_assert_eq!(buddy.buddy(order), block);
        prop_assert_eq!(block.merged(order), block.min(buddy));
        prop_assert_eq!(buddy.merged(order), block.merged(order));
        prop_assert_eq!(block.max(buddy).since(block.min(buddy)), order.nr_pages());
        prop_assert_eq!(block.merged(order), block.align_down(2 * order.nr_pages()));
    }

    #[test]
    fn alignment_is_the_largest_order_that_fits(pfn in any_pfn(), limit in any_order()) {
        let order = pfn.alignment(limit);
        prop_assert!(order <= limit && pfn.is_aligned(order));
        let larger = order.up().filter(|&larger| larger <= limit);
        prop_assert!(larger.is_none_or(|larger| !pfn.is_aligned(larger)));
    }

    #[test]
    fn rounding_brackets_a_frame_and_leaves_multiples_alone(pfn in any_pfn(), order in any_order()) {
        let (down, up) = (pfn.align_down(order.nr_pages()), pfn.align_up(order.nr_pages()));
        prop_assert!(down <= pfn && pfn <= up);
        prop_assert!(down.is_aligned(order) && up.is_aligned(order));
        prop_assert_eq!(up.since(down), if pfn.is_aligned(order) { 0 } else { order.nr_pages() });
    }

    #[test]
    fn rounding_of_addresses_is_that_of_numbers(raw in 0..1_u64 << 60, shift in 0..30_u32) {
        let align = 1_u64 << shift;
        prop_assert_eq!(PhysAddr::new(raw).align_down(align).raw(), raw / align * align);
        prop_assert_eq!(VirtAddr::new(raw).align_up(align).raw(), raw.next_multiple_of(align));
    }

    #[test]
    fn covering_is_the_smallest_order_that_holds(nr_pages in 0..20_000_u64) {
        match Order::covering(nr_pages) {
            Some(order) => {
                prop_assert!(order.nr_pages() >= nr_pages);
                prop_assert!(order.down().is_none_or(|smaller| smaller.nr_pages() < nr_pages));
            }
            None => prop_assert!(nr_pages > Order::MAX.nr_pages()),
        }
    }

    #[test]
    fn a_frame_is_in_an_intersection_if_it_is_in_both(one in small_range(), other in small_range()) {
        let (one, other) = (small_frames(one), small_frames(other));
        let both = one.intersection(other);
        let counted: Vec<Pfn> = one.iter().filter(|&pfn| other.contains(pfn)).collect();
        prop_assert!(both.iter().eq(counted.iter().copied()));
        prop_assert_eq!(both.nr_pages(), counted.len() as u64);
        prop_assert_eq!(both.is_empty(), counted.is_empty());
    }

    #[test]
    fn byte_ranges_overlap_if_they_share_a_byte(one in small_range(), other in small_range()) {
        let (one, other) = (small_bytes(one), small_bytes(other));
        let shared = (0..40).map(PhysAddr::new).filter(|&addr| one.contains(addr) && other.contains(addr)).count();
        prop_assert_eq!(one.overlaps(other), shared > 0, "{:?} {:?}", one, other);
        prop_assert_eq!(one.intersection(other).len(), shared as u64);
    }

    #[test]
    fn whole_frames_lie_inside_and_touched_frames_cover(range in small_range(), page_shift in 1..4_u32) {
        prop_assume!(range.0 < range.1);
        let range = small_bytes(range);
        let (whole, touched) = (range.whole_frames(page_shift), range.touched_frames(page_shift));
        for frame in (0..40).map(Pfn::new) {
            let bytes = PfnRange::with_len(frame, 1).phys(page_shift);
            prop_assert_eq!(whole.contains(frame), bytes.intersection(range) == bytes);
            prop_assert_eq!(touched.contains(frame), bytes.overlaps(range));
        }
    }

    #[test]
    fn a_frame_and_its_address_name_each_other(pfn in any_pfn(), page_shift in 12..=16_u32) {
        let addr = pfn.phys(page_shift);
        prop_assert_eq!(addr.pfn_down(page_shift), pfn);
        prop_assert_eq!(addr.pfn_up(page_shift), pfn);
        prop_assert_eq!(addr.saturating_add(1).pfn_up(page_shift), pfn.add(1));
    }

    #[test]
    fn a_node_mask_is_a_set(nodes in prop::collection::vec(0..MAX_NODES as u64, 0..20), gone in 0..MAX_NODES as u64) {
        let ids = nodes.iter().filter_map(|&raw| NodeId::try_new(raw));
        let mask = ids.fold(NodeMask::EMPTY, NodeMask::with);
        let set: BTreeSet<u64> = nodes.iter().copied().collect();
        let listed = |mask: NodeMask| mask.iter().map(|node| u64::from(node.raw())).collect::<Vec<_>>();
        prop_assert_eq!(listed(mask), set.iter().copied().collect::<Vec<_>>());
        prop_assert_eq!(mask.len() as usize, set.len());
        prop_assert_eq!(mask.and(NodeMask::ALL), mask);
        let without = mask.without(NodeId::try_new(gone).unwrap());
        prop_assert_eq!(listed(without), set.into_iter().filter(|&node| node != gone).collect::<Vec<_>>());
    }

    #[test]
    fn any_gfp_mask_asks_for_a_type_that_pcp_lists_keep(bits in any::<u32>()) {
        let gfp = Gfp::from_bits_truncate(bits);
        prop_assert!(gfp.migrate_type().index() < MigrateType::PCP_COUNT);
        prop_assert_eq!(gfp.may_block(), bits & 1 << 10 != 0);
    }
}

#[test]
fn orders_step_up_and_down_between_their_ends() {
    assert_eq!(Order::ZERO.down(), None);
    assert_eq!(Order::MAX.up(), None);
    assert!(Order::ZERO.through(Order::MAX).map(Order::index).eq(0..Order::COUNT));
    assert!(Order::ZERO.through(Order::MAX).rev().eq((0..=Order::MAX.raw()).rev().map(Order::new_truncate)));
}

#[test]
fn an_empty_range_overlaps_nothing_even_inside_another() {
    let whole = small_bytes((0, 10));
    assert!(!small_bytes((5, 5)).overlaps(whole));
    assert!(!whole.overlaps(small_bytes((5, 5))));
}

#[test]
fn a_cpu_number_is_checked_against_the_limit() {
    assert_eq!(CpuId::try_new(MAX_CPUS as u64 - 1).map(CpuId::index), Some(MAX_CPUS - 1));
    assert_eq!(CpuId::try_new(MAX_CPUS as u64), None);
}

#[test]
fn addresses_above_the_last_saturate_or_are_refused() {
    let last = PhysAddr::new(u64::MAX);
    assert_eq!(last.saturating_add(1), last);
    assert_eq!(last.checked_add(1), None);
    assert_eq!(PhysRange::with_len(last, 5).len(), 0);
}

#[test]
fn every_zone_and_migratetype_reads_back_from_its_number_and_name() {
    for (index, zone) in ZoneType::ALL.into_iter().enumerate() {
        assert_eq!(ZoneType::from_index(index), Some(zone));
        assert_eq!(ZoneType::from_name(zone.name()), Some(zone));
    }
    for (raw, kind) in (0..).zip(MigrateType::ALL) {
        assert_eq!(MigrateType::from_raw(raw), Some(kind));
        assert_eq!(kind.is_mergeable(), kind.pcp_type() == Some(kind));
    }
}
