//! Behaviour of single calls, and random calls compared with a model that knows every 256 bytes.

extern crate std;

mod model;

use std::boxed::Box;
use std::cell::Cell;
use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use collections::BootSlice;
use units::{NodeId, Order, Pfn, PfnRange, PhysAddr, PhysRange};

use super::*;

/// Memory for grown arrays from the host's heap; refuses calls once `left` is used up.
struct HeapArrays {
    left: Cell<usize>,
}

impl HeapArrays {
    fn new(left: usize) -> Self {
        Self { left: Cell::new(left) }
    }
}

impl RegionMemory for HeapArrays {
    fn region_slice(&self, at: PhysRange) -> Option<BootSlice<Region>> {
        self.left.set(self.left.get().checked_sub(1)?);
        let regions = vec![Region::default(); (at.len() / REGION_BYTES) as usize];
        Some(BootSlice::from_static(Box::leak(regions.into_boxed_slice())))
    }
}

#[derive(Default)]
struct Lines(Vec<String>);

impl BootLog for Lines {
    fn line(&mut self, args: core::fmt::Arguments<'_>) {
        self.0.push(args.to_string());
    }
}

fn addr(raw: u64) -> PhysAddr {
    PhysAddr::new(raw)
}

fn range(start: u64, end: u64) -> PhysRange {
    PhysRange::new(addr(start), addr(end))
}

fn node(raw: u64) -> NodeId {
    NodeId::try_new(raw).unwrap()
}

/// Runs `body` on a memblock with memory at `[0x10000, 0x100000)` and returns the log.
fn with_memory(config: MemblockConfig, body: impl FnOnce(&mut Memblock, &mut BootContext<'_>)) -> Vec<String> {
    let mut lines = Lines::default();
    let arrays = HeapArrays::new(100);
    let mut memblock = Memblock::new(config);
    let mut cx = BootContext::new(&arrays, &mut lines, "test");
    memblock.add(addr(0x10000), 0xf0000, &mut cx).unwrap();
    memblock.allow_resize();
    memblock.set_debug(DebugLines::On);
    body(&mut memblock, &mut cx);
    memblock.check_invariants();
    lines.0
}

fn reserved_ranges(memblock: &Memblock) -> Vec<PhysRange> {
    memblock.reserved().iter().map(Region::range).collect()
}

#[test]
fn touching_reservations_merge_into_one() {
    with_memory(MemblockConfig::new(), |memblock, cx| {
        memblock.reserve(addr(0x20000), 0x1000, cx).unwrap();
        memblock.reserve(addr(0x22000), 0x1000, cx).unwrap();
        memblock.reserve(addr(0x21000), 0x1000, cx).unwrap();
        assert_eq!(reserved_ranges(memblock), [range(0x20000, 0x23000)]);
        assert_eq!(memblock.reserved_size(), 0x3000);
    });
}

#[test]
fn memory_that_is_there_keeps_its_node_when_added_again() {
    with_memory(MemblockConfig::new(), |memblock, cx| {
        memblock.set_node(addr(0x20000), 0x10000, ListKind::Memory, Some(node(1)), cx).unwrap();
        memblock.add_node(addr(0), 0x110000, node(2), RegionFlags::empty(), cx).unwrap();
        let nodes: Vec<_> = memblock.memory().iter().map(|region| (region.base.raw(), region.node)).collect();
        let expected =
            [(0, Some(node(2))), (0x10000, None), (0x20000, Some(node(1))), (0x30000, None), (0x100000, Some(node(2)))];
        assert_eq!(nodes, expected);
    });
}

#[test]
fn freeing_the_middle_of_a_reservation_leaves_both_ends() {
    with_memory(MemblockConfig::new(), |memblock, cx| {
        memblock.reserve(addr(0x20000), 0x3000, cx).unwrap();
        memblock.phys_free(addr(0x21000), 0x1000, cx).unwrap();
        assert_eq!(reserved_ranges(memblock), [range(0x20000, 0x21000), range(0x22000, 0x23000)]);
    });
}

#[test]
fn top_down_allocations_descend_and_merge() {
    with_memory(MemblockConfig::new(), |memblock, cx| {
        let high = memblock.alloc(0x1000, 0x1000, cx).unwrap();
        let low = memblock.alloc(0x1000, 0x1000, cx).unwrap();
        assert_eq!((high, low), (range(0xff000, 0x100000), range(0xfe000, 0xff000)));
        assert_eq!(reserved_ranges(memblock), [range(0xfe000, 0x100000)]);
    });
}

#[test]
fn an_allocation_sees_what_was_freed_or_added_since_the_last_one() {
    with_memory(MemblockConfig::new(), |memblock, cx| {
        let high = memblock.alloc(0x1000, 0x1000, cx).unwrap();
        memblock.alloc(0x1000, 0x1000, cx).unwrap();
        memblock.phys_free(high.start, high.len(), cx).unwrap();
        assert_eq!(memblock.alloc(0x1000, 0x1000, cx).unwrap(), high);
        memblock.add(addr(0x200000), 0x1000, cx).unwrap();
        assert_eq!(memblock.alloc(0x1000, 0x1000, cx).unwrap(), range(0x200000, 0x201000));
    });
}

#[test]
fn small_gaps_that_a_large_request_passed_over_still_serve_small_ones() {
    with_memory(MemblockConfig::new(), |memblock, cx| {
        memblock.reserve(addr(0xff000), 0x800, cx).unwrap();
        assert_eq!(memblock.alloc(0x1000, 0x1000, cx).unwrap(), range(0xfe000, 0xff000));
        assert_eq!(memblock.alloc(0x800, 0x100, cx).unwrap(), range(0xff800, 0x100000));
    });
}

#[test]
fn bottom_up_allocations_start_above_the_kernel_and_fall_back_to_top_down() {
    with_memory(MemblockConfig::new(), |memblock, cx| {
        memblock.set_direction(Direction::BottomUp { above: Some(addr(0xf0000)) });
        assert_eq!(memblock.alloc(0x8000, 0x1000, cx).unwrap(), range(0xf0000, 0xf8000));
        assert_eq!(memblock.alloc(0x9000, 0x1000, cx).unwrap(), range(0xe7000, 0xf0000));
    });
}

#[test]
fn the_first_page_is_never_allocated() {
    with_memory(MemblockConfig::new(), |memblock, cx| {
        memblock.add(addr(0), 0x10000, cx).unwrap();
        memblock.set_direction(Direction::BottomUp { above: None });
        assert_eq!(memblock.alloc(0x100, 0x100, cx).unwrap().start, addr(0x1000));
    });
}

#[test]
fn the_current_limit_bounds_allocations_without_one() {
    with_memory(MemblockConfig::new(), |memblock, cx| {
        memblock.set_current_limit(addr(0x80000));
        assert_eq!(memblock.alloc(0x1000, 0x1000, cx).unwrap().end, addr(0x80000));
        let anywhere = range(0, u64::MAX);
        assert_eq!(memblock.phys_alloc_range(0x1000, 0x1000, anywhere, cx).unwrap().end, addr(0x100000));
    });
}

#[test]
fn a_lower_bound_is_given_up_when_nothing_fits_above_it() {
    with_memory(MemblockConfig::new(), |memblock, cx| {
        assert_eq!(memblock.alloc_from(0x1000, 0x1000, addr(0x200000), cx).unwrap().end, addr(0x100000));
        let above = PhysRange::new(addr(0x200000), MAX_ADDR_ACCESSIBLE);
        let error = memblock.phys_alloc_range(0x1000, 0x1000, above, cx).unwrap_err();
        assert_eq!(error, MemblockError::NoMemory { size: 0x1000 });
    });
}

#[test]
fn only_exact_requests_stay_on_a_full_node() {
    with_memory(MemblockConfig::new(), |memblock, cx| {
        memblock.set_node(addr(0), u64::MAX, ListKind::Memory, Some(node(0)), cx).unwrap();
        memblock.set_node(addr(0x10000), 0x1000, ListKind::Memory, Some(node(1)), cx).unwrap();
        memblock.reserve(addr(0x10000), 0x1000, cx).unwrap();
        let request = AllocRequest::new(0x1000, 0x1000).on_node(node(1));
        assert_eq!(memblock.alloc_exact_nid_raw(&request, cx).unwrap_err(), MemblockError::NoMemory { size: 0x1000 });
        assert_eq!(memblock.alloc_try_nid(&request, cx).unwrap().end, addr(0x100000));
    });
}

#[test]
fn mirrored_memory_is_taken_first_and_its_end_is_reported() {
    let config = MemblockConfig { mirror: MirrorPolicy::Prefer, ..MemblockConfig::new() };
    let log = with_memory(config, |memblock, cx| {
        memblock.mark_mirror(addr(0x30000), 0x1000, cx).unwrap();
        assert_eq!(memblock.alloc(0x1000, 0x1000, cx).unwrap(), range(0x30000, 0x31000));
        assert_eq!(memblock.alloc(0x1000, 0x1000, cx).unwrap(), range(0xff000, 0x100000));
    });
    assert!(log.contains(&"Could not allocate 0x0000000000001000 bytes of mirrored memory".to_string()));
}

#[test]
fn hot_pluggable_memory_is_avoided_only_when_configured() {
    for (hotplug, expected) in [(HotplugPolicy::Use, 0x100000), (HotplugPolicy::Avoid, 0x80000)] {
        with_memory(MemblockConfig { hotplug, ..MemblockConfig::new() }, |memblock, cx| {
            memblock.mark_hotplug(addr(0x80000), 0x80000, cx).unwrap();
            assert_eq!(memblock.alloc(0x1000, 0x1000, cx).unwrap().end, addr(expected));
        });
    }
}

#[test]
fn unmapped_memory_is_memory_but_never_free() {
    with_memory(MemblockConfig::new(), |memblock, cx| {
        memblock.mark_nomap(addr(0xf0000), 0x10000, cx).unwrap();
        assert!(memblock.is_memory(addr(0xf8000)) && !memblock.is_map_memory(addr(0xf8000)));
        assert_eq!(memblock.alloc(0x1000, 0x1000, cx).unwrap().end, addr(0xf0000));
        memblock.clear_nomap(addr(0xf0000), 0x10000, cx).unwrap();
        assert_eq!(memblock.memory().len(), 1);
    });
}

#[test]
fn an_alignment_that_is_no_power_of_two_is_refused() {
    with_memory(MemblockConfig::new(), |memblock, cx| {
        assert_eq!(memblock.alloc(0x1000, 0x3000, cx).unwrap_err(), MemblockError::BadAlignment { align: 0x3000 });
    });
}

#[test]
fn trimming_keeps_counting_what_it_shaves_off() {
    with_memory(MemblockConfig::new(), |memblock, cx| {
        memblock.add(addr(0x200400), 0x1000, cx).unwrap();
        memblock.add(addr(0x300000), 0x1800, cx).unwrap();
        memblock.trim_memory(0x1000);
        let ranges: Vec<_> = memblock.memory().iter().map(Region::range).collect();
        assert_eq!(ranges, [range(0x10000, 0x100000), range(0x300000, 0x301000)]);
        assert_eq!(memblock.phys_mem_size(), 0xf0000 + 0x1800);
    });
}

#[test]
fn a_memory_limit_counts_bytes_of_memory_and_cuts_both_lists() {
    with_memory(MemblockConfig::new(), |memblock, cx| {
        memblock.add(addr(0x200000), 0x10000, cx).unwrap();
        memblock.reserve(addr(0x204000), 0x8000, cx).unwrap();
        memblock.enforce_memory_limit(0xf8000, cx).unwrap();
        assert_eq!(memblock.end_of_dram(), addr(0x208000));
        assert_eq!(reserved_ranges(memblock), [range(0x204000, 0x208000)]);
    });
}

#[test]
fn capping_spares_unmapped_memory() {
    with_memory(MemblockConfig::new(), |memblock, cx| {
        memblock.mark_nomap(addr(0xf0000), 0x1000, cx).unwrap();
        memblock.reserve(addr(0x10000), 0x100000, cx).unwrap();
        memblock.cap_memory_range(addr(0x20000), 0x10000, cx).unwrap();
        let ranges: Vec<_> = memblock.memory().iter().map(Region::range).collect();
        assert_eq!(ranges, [range(0x20000, 0x30000), range(0xf0000, 0xf1000)]);
        assert_eq!(reserved_ranges(memblock), [range(0x20000, 0x30000)]);
    });
}

#[test]
fn a_limit_above_all_memory_changes_nothing() {
    with_memory(MemblockConfig::new(), |memblock, cx| {
        memblock.mem_limit_remove_map(0x1000000, cx).unwrap();
        memblock.enforce_memory_limit(0, cx).unwrap();
        assert_eq!(memblock.phys_mem_size(), 0xf0000);
    });
}

#[test]
fn a_full_array_doubles_out_of_free_memory_in_linux_words() {
    let config = MemblockConfig { reserved_regions: 2, ..MemblockConfig::new() };
    let log = with_memory(config, |memblock, cx| {
        for base in [0x20000, 0x40000, 0xff000] {
            memblock.reserve(addr(base), 0x1000, cx).unwrap();
        }
        assert_eq!(memblock.grown_arrays().collect::<Vec<_>>(), [range(0xfe000, 0xff000)]);
        assert_eq!(reserved_ranges(memblock).last(), Some(&range(0xfe000, 0x100000)));
    });
    let expected = [
        "memblock_reserve: [0x00000000000ff000-0x00000000000fffff] test",
        "memblock: reserved is doubled to 4 at [0x00000000000fe000-0x00000000000fe05f]",
        "memblock_reserve: [0x00000000000fe000-0x00000000000fefff] memblock_double_array",
    ];
    assert_eq!(log[2..], expected);
}

#[test]
fn an_array_that_grew_twice_gives_the_first_one_back() {
    let config = MemblockConfig { memory_regions: 1, ..MemblockConfig::new() };
    let log = with_memory(config, |memblock, cx| {
        for base in [0x200000, 0x210000, 0x220000] {
            memblock.add(addr(base), 0x1000, cx).unwrap();
        }
        assert_eq!(reserved_ranges(memblock).len(), 1);
    });
    assert!(log.contains(&"memblock_phys_free: [0x00000000000ff000-0x00000000000fffff] memblock_free".to_string()));
}

#[test]
fn an_array_does_not_grow_into_what_is_freed() {
    let config = MemblockConfig { reserved_regions: 2, ..MemblockConfig::new() };
    with_memory(config, |memblock, cx| {
        memblock.reserve(addr(0xd0000), 0x30000, cx).unwrap();
        memblock.reserve(addr(0x20000), 0x1000, cx).unwrap();
        // All that is free lies below the end of the range, which begins at 0.
        let refused = memblock.phys_free(addr(0), 0xd0000, cx);
        assert_eq!(refused, Err(MemblockError::CannotGrow { list: ListKind::Reserved, capacity: 2 }));
        assert_eq!(reserved_ranges(memblock), [range(0x20000, 0x21000), range(0xd0000, 0x100000)]);
    });
}

#[test]
fn growing_before_it_is_allowed_is_an_error_that_changes_nothing() {
    let mut memblock = Memblock::new(MemblockConfig { memory_regions: 1, ..MemblockConfig::new() });
    let mut log = SilentLog;
    let mut cx = BootContext::new(&(), &mut log, "test");
    memblock.add(addr(0x1000), 0x1000, &mut cx).unwrap();
    let error = memblock.add(addr(0x4000), 0x1000, &mut cx).unwrap_err();
    assert_eq!(error, MemblockError::CannotGrow { list: ListKind::Memory, capacity: 1 });
    assert_eq!(memblock.phys_mem_size(), 0x1000);
}

#[test]
fn a_removal_that_wraps_is_logged_as_given() {
    let log = with_memory(MemblockConfig::new(), |memblock, cx| {
        memblock.remove(addr(1 << 48), u64::MAX, cx).unwrap();
    });
    assert_eq!(log, ["memblock_remove: [0x0001000000000000-0x0000fffffffffffe] test"]);
}

#[test]
fn request_lines_read_as_linux_writes_them() {
    let log = with_memory(MemblockConfig::new(), |memblock, cx| {
        memblock.phys_alloc_range(0x1000, 0x1000, range(0, 0x80000), cx).unwrap();
        memblock.alloc_low(0x40, 0, cx).unwrap();
        memblock.add_node(addr(0x200000), 0x1000, node(1), RegionFlags::DRIVER_MANAGED, cx).unwrap();
    });
    let expected = [
        "memblock_phys_alloc_range: 4096 bytes align=0x1000 from=0x0000000000000000 max_addr=0x0000000000080000 test",
        "memblock_reserve: [0x000000000007f000-0x000000000007ffff] memblock_alloc_range_nid",
        "memblock_alloc_try_nid: 64 bytes align=0x0 nid=-1 from=0x0000000000000000 max_addr=0x00000000ffffffff test",
        "memblock_reserve: [0x00000000000fffc0-0x00000000000fffff] memblock_alloc_range_nid",
        "memblock_add_node: [0x0000000000200000-0x0000000000200fff] nid=1 flags=8 test",
    ];
    assert_eq!(log, expected);
}

#[test]
fn the_dump_names_nodes_and_flags() {
    let log = with_memory(MemblockConfig { wording: Wording::Linux6_1, ..MemblockConfig::new() }, |memblock, cx| {
        memblock.set_node(addr(0), u64::MAX, ListKind::Memory, Some(node(0)), cx).unwrap();
        memblock.mark_nomap(addr(0xf0000), 0x10000, cx).unwrap();
        memblock.dump_all(cx);
    });
    let expected = [
        "MEMBLOCK configuration:",
        " memory size = 0x00000000000f0000 reserved size = 0x0000000000000000",
        " memory.cnt  = 0x2",
        " memory[0x0]\t[0x0000000000010000-0x00000000000effff], 0x00000000000e0000 bytes on node 0 flags: 0x0",
        " memory[0x1]\t[0x00000000000f0000-0x00000000000fffff], 0x0000000000010000 bytes on node 0 flags: 0x4",
        " reserved.cnt  = 0x1",
        " reserved[0x0]\t[0x0000000000000000-0xffffffffffffffff], 0x0000000000000000 bytes flags: 0x0",
    ];
    assert_eq!(log, expected);
}

#[test]
fn without_nodes_every_request_for_one_is_served() {
    let config = MemblockConfig { nodes: NodeTracking::Flat, address_digits: 8, ..MemblockConfig::new() };
    let log = with_memory(config, |memblock, cx| {
        memblock.set_node(addr(0), u64::MAX, ListKind::Memory, Some(node(3)), cx).unwrap();
        memblock.alloc_node(0x1000, 0x1000, node(0), cx).unwrap();
        assert_eq!(memblock.search_pfn(Pfn::new(0x20)).unwrap().1, Some(node(0)));
    });
    assert_eq!(log[1], "memblock_reserve: [0x000ff000-0x000fffff] memblock_alloc_range_nid");
}

#[test]
fn the_hand_over_gives_whole_free_frames_below_the_limit() {
    with_memory(MemblockConfig::new(), |memblock, cx| {
        memblock.reserve(addr(0x20800), 0x1000, cx).unwrap();
        memblock.set_node(addr(0), u64::MAX, ListKind::Memory, Some(node(1)), cx).unwrap();
        memblock.finish(cx).unwrap();
        let free: Vec<_> = memblock.free_ranges(Pfn::new(0x80)).collect();
        let frames = |start, end| PfnRange::new(Pfn::new(start), Pfn::new(end));
        assert_eq!(free, [frames(0x10, 0x20), frames(0x22, 0x80)]);
        let reserved: Vec<_> = memblock.reserved_frames().collect();
        assert_eq!(reserved, [ReservedFrames { frames: frames(0x20, 0x22), node: Some(node(1)) }]);
    });
}

#[test]
fn free_frames_are_given_in_the_largest_aligned_blocks() {
    let blocks = FreeBlocks::new(PfnRange::new(Pfn::new(3), Pfn::new(21)), Order::new_truncate(2));
    let shape: Vec<_> = blocks.map(|(pfn, order)| (pfn.raw(), order.raw())).collect();
    assert_eq!(shape, [(3, 0), (4, 2), (8, 2), (12, 2), (16, 2), (20, 0)]);
}

#[test]
fn frames_that_hold_a_part_of_memory_are_not_listed() {
    with_memory(MemblockConfig::new(), |memblock, cx| {
        memblock.add(addr(0x200800), 0x1000, cx).unwrap();
        memblock.add_node(addr(0x300800), 0x1800, node(1), RegionFlags::empty(), cx).unwrap();
        let all: Vec<_> = memblock.mem_pfn_ranges(None).map(|(frames, node)| (frames.start.raw(), node)).collect();
        assert_eq!(all, [(0x10, None), (0x301, Some(node(1)))]);
        assert_eq!(memblock.mem_pfn_ranges(Some(node(1))).count(), 1);
    });
}

#[test]
fn queries_see_single_regions_and_overlaps() {
    with_memory(MemblockConfig::new(), |memblock, cx| {
        memblock.reserve(addr(0x20000), 0x1000, cx).unwrap();
        assert!(memblock.is_region_memory(addr(0x10000), 0xf0000));
        assert!(!memblock.is_region_memory(addr(0x10000), 0xf0001));
        assert!(memblock.is_region_reserved(addr(0x20fff), 2) && !memblock.is_region_reserved(addr(0x21000), 2));
        assert!(memblock.is_reserved(addr(0x20000)) && !memblock.is_reserved(addr(0x21000)));
        assert!(memblock.overlaps_memory(addr(0), 0x10001) && !memblock.overlaps_memory(addr(0), 0x10000));
        assert_eq!((memblock.start_of_dram(), memblock.end_of_dram()), (addr(0x10000), addr(0x100000)));
        assert_eq!(format!("{:?}", memblock.free_late(range(0x20800, 0x23000), cx)), "[pfn 0x21, 0x23)");
    });
}
