//! Random requests against a model that knows one thing: who owns which frames.
//!
//! After every step the allocator's own laws hold, and every frame that the model does not own is free.

use std::collections::BTreeMap;

use frame_table::{OwnedBlock, PageType};
use model_tests::{Machine, machine, shape};
use page_allocator::{AllocError, AllocRequest, DebugOptions};
use proptest::prelude::*;
use sim::CpuGuard;
use units::{CpuId, Gfp, MigrateType, NodeId, NodeMask, Order, Pfn, ZoneType};

const GFPS: [Gfp; 7] = [
    Gfp::KERNEL,
    Gfp::HIGHUSER_MOVABLE,
    Gfp::ATOMIC,
    Gfp::KERNEL.union(Gfp::RECLAIMABLE),
    Gfp::KERNEL.union(Gfp::DMA32),
    Gfp::KERNEL.union(Gfp::THISNODE).union(Gfp::NOWARN),
    Gfp::KERNEL.union(Gfp::COMP).union(Gfp::ZERO),
];

#[derive(Clone, Debug)]
enum Op {
    Alloc { cpu: u8, order: u8, gfp: usize },
    AllocOnNode { cpu: u8, order: u8, node: u8 },
    AllocFromReserves { cpu: u8, order: u8 },
    AllocBulk { cpu: u8, nr_pages: u8 },
    AllocExact { cpu: u8, nr_pages: u16 },
    Free { cpu: u8, which: usize },
    FreeRaw { cpu: u8, which: usize },
    FreeCounted { cpu: u8, which: usize },
    Split { which: usize },
    DrainAll { cpu: u8 },
    Decay { cpu: u8 },
    Isolate { cpu: u8, pageblock: u8 },
    Unisolate { cpu: u8, which: usize },
    FailNext { skip: u8 },
}

fn ops() -> impl Strategy<Value = Op> {
    let cpu = || 0..2u8;
    // Small blocks most of the time, every order sometimes.
    let order = || prop_oneof![4 => 0..4u8, 1 => 0..12u8];
    let which = || any::<usize>();
    prop_oneof![
        12 => (cpu(), order(), 0..GFPS.len()).prop_map(|(cpu, order, gfp)| Op::Alloc { cpu, order, gfp }),
        2 => (cpu(), order(), 0..2u8).prop_map(|(cpu, order, node)| Op::AllocOnNode { cpu, order, node }),
        2 => (cpu(), order()).prop_map(|(cpu, order)| Op::AllocFromReserves { cpu, order }),
        2 => (cpu(), any::<u8>()).prop_map(|(cpu, nr_pages)| Op::AllocBulk { cpu, nr_pages }),
        1 => (cpu(), 1..1500u16).prop_map(|(cpu, nr_pages)| Op::AllocExact { cpu, nr_pages }),
        10 => (cpu(), which()).prop_map(|(cpu, which)| Op::Free { cpu, which }),
        3 => (cpu(), which()).prop_map(|(cpu, which)| Op::FreeRaw { cpu, which }),
        2 => (cpu(), which()).prop_map(|(cpu, which)| Op::FreeCounted { cpu, which }),
        2 => which().prop_map(|which| Op::Split { which }),
        1 => cpu().prop_map(|cpu| Op::DrainAll { cpu }),
        1 => cpu().prop_map(|cpu| Op::Decay { cpu }),
        1 => (cpu(), 0..9u8).prop_map(|(cpu, pageblock)| Op::Isolate { cpu, pageblock }),
        1 => (cpu(), which()).prop_map(|(cpu, which)| Op::Unisolate { cpu, which }),
        1 => (0..4u8).prop_map(|skip| Op::FailNext { skip }),
    ]
}

/// The machine with what the model knows about it.
struct Model<'m> {
    machine: &'m Machine,
    cpus: [CpuGuard<'m>; 2],
    owned: Vec<OwnedBlock>,
    /// Isolated pageblocks, by first frame, with the type that they had.
    isolated: BTreeMap<u64, MigrateType>,
}

impl<'m> Model<'m> {
    fn new(machine: &'m Machine) -> Self {
        let cpu = |id| machine.pages().platform().cpu(CpuId::try_new(id).unwrap()).unwrap();
        Self { machine, cpus: [cpu(0), cpu(1)], owned: Vec::new(), isolated: BTreeMap::new() }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Alloc { cpu, order, gfp } => self.alloc(cpu, order, |request| request, GFPS[gfp]),
            Op::AllocOnNode { cpu, order, node } => {
                let node = NodeId::try_new(u64::from(node)).unwrap();
                let within = |request: AllocRequest| request.on_node(node).within(NodeMask::EMPTY.with(node));
                self.alloc(cpu, order, within, Gfp::KERNEL);
            }
            Op::AllocFromReserves { cpu, order } => {
                // A failure on purpose would say nothing about the reserves.
                self.machine.pages().arm_faults(u64::MAX, 0);
                self.alloc(cpu, order, |request| request, Gfp::KERNEL | Gfp::MEMALLOC);
            }
            Op::AllocBulk { cpu, nr_pages } => self.alloc_bulk(cpu, nr_pages),
            Op::AllocExact { cpu, nr_pages } => self.alloc_exact(cpu, nr_pages),
            Op::Free { cpu, which } => self.free(cpu, which),
            Op::FreeRaw { cpu, which } => self.free_raw(cpu, which),
            Op::FreeCounted { cpu, which } => self.free_counted(cpu, which),
            Op::Split { which } => self.split(which),
            Op::DrainAll { cpu } => self.machine.pages().drain_all_pages(self.cpu(cpu), NodeMask::ALL),
            Op::Decay { cpu } => {
                self.machine.pages().decay_pcp_high(self.cpu(cpu));
            }
            Op::Isolate { cpu, pageblock } => self.isolate(cpu, pageblock),
            Op::Unisolate { cpu, which } => self.unisolate(cpu, which),
            Op::FailNext { skip } => self.machine.pages().arm_faults(u64::from(skip), 1),
        }
        self.machine.check(&self.cpus[0], self.held());
    }

    fn cpu(&self, index: u8) -> &CpuGuard<'m> {
        &self.cpus[usize::from(index)]
    }

    fn held(&self) -> u64 {
        self.owned.iter().map(|block| block.order().nr_pages()).sum()
    }

    fn alloc(&mut self, cpu: u8, order: u8, shape: impl Fn(AllocRequest) -> AllocRequest, gfp: Gfp) {
        let order = Order::try_new(u64::from(order)).unwrap();
        let request = shape(AllocRequest::new(gfp, order));
        match self.machine.pages().alloc_request(self.cpu(cpu), &request) {
            Ok(block) => {
                assert_eq!(block.order(), order);
                self.take(block, &request);
            }
            Err(AllocError::TooLarge(max)) => assert!(order > max),
            Err(AllocError::NoZone) => panic!("every request here has an acceptable zone"),
            Err(AllocError::OutOfMemory) => self.check_refusal(cpu, &request),
        }
    }

    /// Checks that nobody else owns the block and that the request allowed it.
    fn take(&mut self, block: OwnedBlock, request: &AllocRequest) {
        let (pages, frames) = (self.machine.pages(), block.frames());
        assert!(block.pfn().is_aligned(block.order()));
        for other in &self.owned {
            assert!(other.frames().intersection(frames).is_empty(), "{block:?} overlaps {other:?}");
        }
        let zone = pages.zone_of(block.pfn()).unwrap();
        assert!(frames.iter().all(|pfn| pages.zone_of(pfn).is_some_and(|other| other.span() == zone.span())));
        assert!(request.nodes.contains(zone.node()));
        assert!(zone.kind() <= highest(request.gfp));
        for isolated in self.isolated.keys() {
            assert!(!frames.contains(Pfn::new(*isolated)), "{block:?} is in an isolated pageblock");
        }
        self.owned.push(block);
    }

    /// A request that may use all reserves is refused only if no zone has a block for it on its lists.
    fn check_refusal(&self, cpu: u8, request: &AllocRequest) {
        if !request.gfp.contains(Gfp::MEMALLOC) {
            return;
        }
        let pages = self.machine.pages();
        for zone in pages.zones().iter().filter(|zone| zone.kind() <= highest(request.gfp)) {
            let counts = pages.free_counts(self.cpu(cpu), zone);
            let fitting = &counts[request.order.index()..];
            for migratetype in [MigrateType::Unmovable, MigrateType::Movable, MigrateType::Reclaimable] {
                let found: u32 = fitting.iter().map(|by_type| by_type[migratetype.index()]).sum();
                assert_eq!(found, 0, "{request:?} was refused with {migratetype:?} blocks free in {:?}", zone.span());
            }
        }
    }

    fn alloc_bulk(&mut self, cpu: u8, nr_pages: u8) {
        let mut blocks = Vec::new();
        let request = AllocRequest::new(Gfp::KERNEL, Order::ZERO);
        let pages = self.machine.pages();
        let got = pages.alloc_bulk(self.cpu(cpu), request.gfp, u64::from(nr_pages), |block| blocks.push(block));
        assert_eq!(blocks.len() as u64, got);
        assert!(got <= u64::from(nr_pages));
        blocks.into_iter().for_each(|block| self.take(block, &request));
    }

    fn alloc_exact(&mut self, cpu: u8, nr_pages: u16) {
        let pages = self.machine.pages();
        let held = self.held();
        if let Ok(exact) = pages.alloc_exact(self.cpu(cpu), Gfp::KERNEL, u64::from(nr_pages)) {
            self.machine.check(self.cpu(cpu), held + u64::from(nr_pages));
            pages.free_exact(self.cpu(cpu), exact);
        }
    }

    fn remove(&mut self, which: usize) -> Option<OwnedBlock> {
        let index = which.checked_rem(self.owned.len())?;
        Some(self.owned.swap_remove(index))
    }

    fn free(&mut self, cpu: u8, which: usize) {
        if let Some(block) = self.remove(which) {
            self.machine.pages().free(self.cpu(cpu), block);
        }
    }

    /// By number: the wrong order and the second free are refused and change nothing.
    fn free_raw(&mut self, cpu: u8, which: usize) {
        let Some(block) = self.remove(which) else { return };
        let (pages, order) = (self.machine.pages(), block.order());
        let pfn = block.into_raw(&pages.map().frames);
        let cpu = &self.cpus[usize::from(cpu)];
        if let Some(other) = order.up() {
            let refused = pages.free_raw(cpu, pfn, other).unwrap_err();
            assert_eq!(refused.found, Some((PageType::Raw, order)));
        }
        pages.free_raw(cpu, pfn, order).unwrap();
        assert!(pages.free_raw(cpu, pfn, order).is_err());
    }

    /// With another reference to its head: everything is free once both are gone, whoever goes first.
    fn free_counted(&mut self, cpu: u8, which: usize) {
        let Some(block) = self.remove(which) else { return };
        let pages = self.machine.pages();
        let counted = block.into_counted(&pages.map().frames);
        let reference = counted.get(&pages.map().frames);
        if which.is_multiple_of(2) {
            pages.free_counted(self.cpu(cpu), counted);
            pages.put(self.cpu(cpu), reference);
        } else {
            pages.put(self.cpu(cpu), reference);
            pages.free_counted(self.cpu(cpu), counted);
        }
    }

    fn split(&mut self, which: usize) {
        if let Some(block) = self.remove(which) {
            self.owned.extend(block.split_pages(&self.machine.pages().map().frames));
        }
    }

    fn isolate(&mut self, cpu: u8, pageblock: u8) {
        let pages = self.machine.pages();
        let pfn = Pfn::new(u64::from(pageblock) * pages.map().geometry.pageblock_pages());
        let known = self.isolated.get(&pfn.raw()).copied();
        if let Ok(before) = pages.isolate_pageblock(self.cpu(cpu), pfn) {
            assert_eq!(known, None, "isolated twice");
            self.isolated.insert(pfn.raw(), before);
        }
    }

    fn unisolate(&mut self, cpu: u8, which: usize) {
        let Some(index) = which.checked_rem(self.isolated.len()) else { return };
        let (pfn, migratetype) = self.isolated.iter().nth(index).map(|(pfn, before)| (*pfn, *before)).unwrap();
        self.machine.pages().unisolate_pageblock(self.cpu(cpu), Pfn::new(pfn), migratetype).unwrap();
        self.isolated.remove(&pfn);
    }

    /// Gives everything back; then the machine is as it was at the start.
    fn end(mut self) {
        while !self.isolated.is_empty() {
            self.unisolate(0, 0);
        }
        while let Some(block) = self.owned.pop() {
            self.machine.pages().free(&self.cpus[1], block);
        }
        let pages = self.machine.pages();
        pages.drain_all_pages(&self.cpus[0], NodeMask::ALL);
        self.machine.check(&self.cpus[0], 0);
        let free: u64 = pages.zones().iter().map(|zone| zone.free_pages()).sum();
        assert_eq!(free, self.machine.shape().nr_pages(), "every page can be allocated again");
    }
}

fn highest(gfp: Gfp) -> ZoneType {
    if gfp.contains(Gfp::DMA32) { ZoneType::Dma32 } else { ZoneType::Movable }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn frames_have_one_owner_and_none_is_lost(ops in prop::collection::vec(ops(), 1..200)) {
        let machine = machine(shape(1, 2), None, DebugOptions::default()).unwrap();
        let mut model = Model::new(&machine);
        for op in &ops {
            model.apply(op);
        }
        model.end();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn frames_have_one_owner_while_atomic_requests_reserve_pageblocks(ops in prop::collection::vec(ops(), 50..200)) {
        // Large enough that a hundredth of a zone, the most that may be reserved, is a pageblock; and full.
        let machine = machine(shape(64, 2), None, DebugOptions::default()).unwrap();
        let mut model = Model::new(&machine);
        for order in [10, 8, 3] {
            let mut held = usize::MAX;
            while std::mem::replace(&mut held, model.owned.len()) != model.owned.len() {
                model.apply(&Op::Alloc { cpu: 0, order, gfp: 0 });
            }
        }
        (0..12).for_each(|_| model.apply(&Op::Alloc { cpu: 1, order: 1, gfp: 2 }));
        let reserved: u64 = machine.pages().zones().iter().map(|zone| zone.reserved_highatomic()).sum();
        assert!(reserved > 0, "no atomic request reserved memory");
        for op in &ops {
            model.apply(op);
        }
        model.end();
    }
}

#[test]
fn a_workload_survives_the_failure_of_any_one_request() {
    let script: Vec<Op> = (0..40u8)
        .flat_map(|step| {
            let cpu = step % 2;
            let pair = [
                Op::Alloc { cpu, order: step % 11, gfp: usize::from(step) % GFPS.len() },
                Op::AllocExact { cpu, nr_pages: 5 },
                Op::AllocBulk { cpu, nr_pages: 20 },
            ];
            pair.into_iter().chain((step % 3 == 2).then_some(Op::Free { cpu, which: usize::from(step) }))
        })
        .collect();
    let outcome = |skip| {
        let machine = machine(shape(1, 2), None, DebugOptions::default()).unwrap();
        machine.pages().arm_faults(skip, 1);
        let mut model = Model::new(&machine);
        let held = script.iter().map(|op| (model.apply(op), model.held()).1).collect::<Vec<_>>();
        model.end();
        held
    };
    let undisturbed = outcome(1 << 32);
    let changed = (0..script.len() as u64).filter(|&skip| outcome(skip) != undisturbed).count();
    assert!(changed > script.len() / 2, "{changed} failures changed what the workload got");
}
