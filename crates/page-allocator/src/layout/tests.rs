//! Properties of the boot computations on random machines, and simple models of the two that Linux computes frame by frame.

extern crate std;

use std::collections::{BTreeMap, BTreeSet};
use std::vec;
use std::vec::Vec;

use boot_memory::firmware::CoreSize;
use frame_table::MemoryModel;
use proptest::prelude::*;
use units::{NodeId, NodeMask, Pfn, PfnRange, ZoneType};

use super::*;
use crate::Geometry;

const PAGE: Geometry = Geometry {
    page_shift: 12,
    max_order: units::Order::new_truncate(3),
    pageblock_order: units::Order::new_truncate(3),
};
const SECTION_PAGES: u64 = 64;

/// Random machine: gap and length of each range, and which node it is on.
#[derive(Clone, Debug)]
struct RandomMachine {
    memory: Vec<MemoryRange>,
    limits: ZoneLimits,
    movable: MovableStarts,
    nodes: Vec<NodeLayout>,
}

impl RandomMachine {
    /// Small frame numbers, so that frames can be counted one by one; the zones' ends are scaled down with them.
    fn new(pieces: &[(u64, u64, u64)], ends: [u64; 2], rule: MovableRule) -> Self {
        let mut at = Pfn::new(1);
        let mut memory = Vec::new();
        for &(gap, len, node) in pieces {
            let frames = PfnRange::with_len(at.add(gap), len);
            memory.push(MemoryRange::plain(frames, NodeId::try_new(node).unwrap()));
            at = frames.end;
        }
        let configured = ZoneSet::of(&[ZoneType::Dma, ZoneType::Dma32, ZoneType::Normal, ZoneType::Movable]);
        let limits = ZoneLimits::stacked(configured, memory[0].frames.start, |kind| match kind {
            ZoneType::Dma => Pfn::new(ends[0]).min(at),
            ZoneType::Dma32 => Pfn::new(ends[0] + ends[1]).min(at),
            _ => at,
        });
        let movable = MovableStarts::compute(memory.iter().copied(), &limits, rule, PAGE);
        let nodes = nodes_with_memory(memory.iter().copied())
            .iter()
            .map(|node| NodeLayout::compute(node, memory.iter().copied(), &limits, &movable))
            .collect();
        Self { memory, limits, movable, nodes }
    }

    fn memory(&self) -> impl Iterator<Item = MemoryRange> + Clone {
        self.memory.iter().copied()
    }

    /// Laws that hold on every machine without mirrored memory.
    fn check_invariants(&self) {
        for node in &self.nodes {
            let on_node = self.memory().filter(|range| range.node == node.node);
            assert_eq!(node.present(), total_pages(on_node), "no frame is lost or counted twice");
            let spans: Vec<PfnRange> =
                ZoneType::ALL.iter().map(|&kind| node.zone(kind).span).filter(|span| !span.is_empty()).collect();
            assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start), "zones lie in the order of their kinds");
            assert!(spans.iter().all(|span| node.span.start <= span.start && span.end <= node.span.end));
            let movable = node.zone(ZoneType::Movable);
            assert!(movable.span.start.raw().is_multiple_of(PAGE.max_order.nr_pages()));
            assert_eq!(movable.span.is_empty(), self.movable.start(node.node).is_none());
            assert!(ZoneType::ALL.iter().all(|&kind| node.zone(kind).present <= node.zone(kind).span.nr_pages()));
        }
    }
}

fn rule() -> impl Strategy<Value = MovableRule> {
    let size = prop_oneof![
        Just(None),
        (0u64..2000).prop_map(|pages| Some(CoreSize::Bytes(pages << 12))),
        (0u8..=100).prop_map(|percent| Some(CoreSize::Percent(percent))),
    ];
    (size.clone(), size).prop_map(|(kernelcore, movablecore)| MovableRule::Sizes { kernelcore, movablecore })
}

fn machine() -> impl Strategy<Value = RandomMachine> {
    let pieces = proptest::collection::vec((0u64..100, 1u64..200, 0u64..4), 1..12);
    (pieces, [0u64..300, 0u64..600], rule()).prop_map(|(pieces, ends, rule)| RandomMachine::new(&pieces, ends, rule))
}

/// Frames that have a descriptor but no memory, found one by one.
fn unavailable_model(machine: &RandomMachine) -> u64 {
    let has_memory = |pfn: Pfn| machine.memory().any(|range| range.frames.contains(pfn));
    let sections: BTreeSet<u64> = machine
        .memory()
        .flat_map(|range| range.frames.start.raw() / SECTION_PAGES..=(range.frames.end.raw() - 1) / SECTION_PAGES)
        .collect();
    let frames = sections.iter().flat_map(|section| section * SECTION_PAGES..(section + 1) * SECTION_PAGES);
    frames.filter(|&pfn| !has_memory(Pfn::new(pfn))).count() as u64
}

/// First deferred frame of a node, found as the kernel finds it: frame by frame, with a counter.
fn deferred_model(machine: &RandomMachine, node: &NodeLayout) -> Option<Pfn> {
    let mut initialised = 0;
    for range in machine.memory().filter(|range| range.node == node.node) {
        for pfn in range.frames.iter() {
            let (_, zone) = node.populated().find(|(_, zone)| zone.span.contains(pfn)).unwrap();
            if zone.span.end < node.span.end {
                continue;
            }
            initialised += 1;
            if initialised > SECTION_PAGES && pfn.raw().is_multiple_of(SECTION_PAGES) {
                return Some(pfn);
            }
        }
    }
    None
}

proptest! {
    #[test]
    fn every_frame_is_in_one_zone_of_its_node(machine in machine()) {
        machine.check_invariants();
    }

    #[test]
    fn the_kernel_keeps_at_least_what_kernelcore_asks(
        pieces in proptest::collection::vec((0u64..100, 1u64..200, 0u64..4), 1..12),
        percent in 1u8..100,
    ) {
        let kernelcore = Some(CoreSize::Percent(percent));
        let machine = RandomMachine::new(&pieces, [10, 10], MovableRule::Sizes { kernelcore, movablecore: None });
        let total = total_pages(machine.memory());
        let movable: u64 = machine.nodes.iter().map(|node| node.zone(ZoneType::Movable).present).sum();
        let core = total * u64::from(percent) / 100;
        // Up to one page a node is lost in dividing, as in Linux.
        prop_assert!(total - movable + machine.nodes.len() as u64 >= core);
    }

    #[test]
    fn unavailable_ranges_cover_every_described_frame_without_memory(machine in machine()) {
        let mut found = 0;
        let model = MemoryModel::Sparse { section_order: SECTION_PAGES.ilog2(), subsection_order: 0 };
        for_each_unavailable(machine.memory(), &machine.nodes, model, |range| found += range.nr_pages);
        prop_assert_eq!(found, unavailable_model(&machine));
    }

    #[test]
    fn deferral_starts_where_counting_frames_says(machine in machine()) {
        for node in &machine.nodes {
            prop_assert_eq!(first_deferred(node, machine.memory(), SECTION_PAGES), deferred_model(&machine, node));
        }
    }

    #[test]
    fn every_zonelist_names_each_populated_zone_once(machine in machine(), seed in proptest::array::uniform16(11u8..60)) {
        let zones: BTreeMap<(NodeId, ZoneType), u16> = machine
            .nodes
            .iter()
            .flat_map(|node| node.populated().map(|(kind, _)| (node.node, kind)))
            .zip(0..)
            .collect();
        let with_memory = nodes_with_memory(machine.memory());
        let distance = |from: NodeId, to: NodeId| if from == to { 10 } else { seed[4 * from.index() + to.index()] };
        let topology =
            Topology { distance, with_memory, with_cpus: NodeMask::EMPTY, release: Release::V6_12 };
        let mut orders = NodeOrders::new(topology);
        let mut table = vec![ZoneRef::UNUSED; NodeZonelists::table_len(machine.nodes.len(), zones.len())];
        let mut writer = ZonelistWriter::new(&mut table);
        let mut lists = Vec::new();
        for node in with_memory.iter() {
            let order = orders.next(node);
            prop_assert!(order.as_slice().windows(2).skip(1).all(|pair| distance(node, pair[0]) <= distance(node, pair[1]) + 1));
            let zone_of = |node, kind| zones.get(&(node, kind)).copied();
            lists.push((node, writer.write(node, order.as_slice(), machine.limits.configured(), zone_of).unwrap()));
        }
        for (node, list) in lists {
            let mut listed: Vec<u16> = list.fallback(&table).entries().iter().map(|entry| entry.zone).collect();
            prop_assert_eq!(list.fallback(&table).entries()[0].node, node);
            listed.sort_unstable();
            prop_assert_eq!(listed, (0..zones.len() as u16).collect::<Vec<_>>());
            prop_assert!(list.this_node(&table).entries().iter().all(|entry| entry.node == node));
            let first = list.fallback(&table).walk(ZoneType::Dma, NodeMask::ALL).next();
            prop_assert_eq!(first.is_some(), zones.keys().any(|&(_, kind)| kind == ZoneType::Dma));
        }
    }

    #[test]
    fn watermarks_rise_and_do_not_exceed_their_share(
        managed in 0u64..1 << 32, others in 0u64..1 << 32, min_free_kbytes in 0u64..1 << 20, scale_factor in 1u64..3000,
    ) {
        for kind in [ZoneType::Normal, ZoneType::HighMem, ZoneType::Movable] {
            let rule = WatermarkRule {
                min_free_kbytes, scale_factor, page_shift: 12, movable_source: ZoneType::HighMem, release: Release::V6_12,
            };
            let marks = rule.zone(kind, managed, managed + others);
            prop_assert!(marks.min <= marks.low && marks.low <= marks.high && marks.high <= marks.promo);
            prop_assert!(marks.min <= (min_free_kbytes / 4).max(128));
            prop_assert_eq!(marks.promo - marks.high, marks.low - marks.min);
        }
    }
}

fn pages(count: u64) -> Option<CoreSize> {
    Some(CoreSize::Bytes(count << 12))
}

#[test]
fn kernelcore_is_shared_evenly_and_a_small_node_leaves_its_rest_to_the_others() {
    let rule = MovableRule::Sizes { kernelcore: pages(300), movablecore: None };
    let machine = RandomMachine::new(&[(7, 100, 0), (0, 400, 1), (0, 400, 2)], [0, 0], rule);
    machine.check_invariants();
    let kernel: Vec<u64> =
        machine.nodes.iter().map(|node| node.present() - node.zone(ZoneType::Movable).present).collect();
    // Rounded up to blocks of 8 from the nodes' starts at 8, 108 and 508.
    assert_eq!(kernel, [100, 100, 100]);
    let machine = RandomMachine::new(&[(7, 40, 0), (0, 400, 1), (0, 400, 2)], [0, 0], rule);
    let kernel: u64 = machine.nodes.iter().map(|node| node.present() - node.zone(ZoneType::Movable).present).sum();
    assert!((300..316).contains(&kernel), "{kernel} pages");
}

#[test]
fn asking_for_all_memory_leaves_no_movable_zone() {
    let rule = MovableRule::Sizes { kernelcore: pages(5000), movablecore: None };
    let machine = RandomMachine::new(&[(0, 400, 0)], [10, 10], rule);
    assert_eq!(machine.movable.start(NodeId::ZERO), None);
}

#[test]
fn hot_pluggable_memory_is_movable_under_movable_node() {
    let mut memory: Vec<MemoryRange> =
        RandomMachine::new(&[(0, 100, 0), (4, 96, 0)], [10, 10], MovableRule::NONE).memory;
    memory[1].kind = MemoryKind::HotPluggable;
    let limits = ZoneLimits::x86_64(PfnRange::new(memory[0].frames.start, memory[1].frames.end));
    let movable = MovableStarts::compute(memory.iter().copied(), &limits, MovableRule::HotPluggable, PAGE);
    assert_eq!(movable.start(NodeId::ZERO), Some(memory[1].frames.start.align_up(8)));
}

#[test]
fn mirrored_memory_stays_the_kernels_wherever_it_lies() {
    let above = 1 << 20;
    let range =
        |start, kind| MemoryRange { frames: PfnRange::with_len(Pfn::new(start), 800), node: NodeId::ZERO, kind };
    let memory = [
        range(8, MemoryKind::Mirrored),
        range(above, MemoryKind::Mirrored),
        range(above + 800, MemoryKind::Plain),
        range(above + 1600, MemoryKind::Mirrored),
    ];
    let limits = ZoneLimits::x86_64(PfnRange::new(Pfn::new(8), Pfn::new(above + 2400)));
    let movable = MovableStarts::compute(memory.into_iter(), &limits, MovableRule::Mirror, PAGE);
    let node = NodeLayout::compute(NodeId::ZERO, memory.into_iter(), &limits, &movable);
    assert_eq!(node.zone(ZoneType::Movable).present, 800);
    assert_eq!(node.zone(ZoneType::Normal).present, 1600);
    assert_eq!(node.present(), 3200);
    let plain = [range(8, MemoryKind::Plain)];
    assert_eq!(MovableStarts::compute(plain.into_iter(), &limits, MovableRule::Mirror, PAGE).start(NodeId::ZERO), None);

    let warning = |memory: &[MemoryRange], rule| {
        MovableStarts::mirror_warning(memory.iter().copied(), rule, PAGE.page_shift).unwrap_or_default()
    };
    assert!(warning(&plain, MovableRule::Mirror).contains("has no mirror memory"));
    assert_eq!(warning(&memory, MovableRule::Mirror), "");
    let low = [memory[1], plain[0]];
    assert!(warning(&low, MovableRule::Mirror).contains("unmirrored kernel memory"));
    assert_eq!(warning(&plain, MovableRule::NONE), "");
}

#[test]
fn the_policy_zone_is_never_movable() {
    let configured = ZoneSet::of(&[ZoneType::Dma, ZoneType::Normal, ZoneType::Movable]);
    let populated = [ZoneType::Dma, ZoneType::Normal, ZoneType::Movable];
    assert_eq!(policy_zone(populated.into_iter(), configured), ZoneType::Normal);
}

#[test]
fn too_few_pageblocks_turn_grouping_off() {
    assert_eq!(MobilityGrouping::decide(512 * 5 - 1, 512, 5), MobilityGrouping::Off);
    assert_eq!(MobilityGrouping::decide(512 * 5, 512, 5), MobilityGrouping::On);
}
