//! A small machine on the host's heap, put together by hand.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use collections::{BootSlice, PerCpuSlice};
use frame_table::{FrameTable, HeapMemory, MemoryModel, PageFlags, SectionMap};
use mmkit_page_allocator::layout::{MemoryRange, NodeZonelists, ZoneRef, ZoneSet, ZonelistWriter};
use mmkit_page_allocator::{
    CpuPlace, DebugOptions, Deferred, FrameMap, Geometry, Hooks, PageAllocator, PageblockTypes, Parts, PcpLimits,
    PcpSet, Zone, ZoneSettings,
};
use sync::{Cpu, IrqControl, OwnerCell};
use units::{CpuId, NodeId, Pfn, PfnRange, PhysAddr, PhysRange, ZoneType};

pub(crate) const ZONES: [ZoneType; 4] = [ZoneType::Dma, ZoneType::Dma32, ZoneType::Normal, ZoneType::Movable];

/// A machine under test: allocator and CPU tokens.
pub(crate) struct Machine<H: Hooks> {
    pub(crate) allocator: PageAllocator<HeapMemory, H>,
    pub(crate) cpus: Vec<Cpu>,
}

fn leak<T: 'static>(values: Vec<T>) -> BootSlice<T> {
    BootSlice::from_static(Box::leak(values.into_boxed_slice()))
}

/// One zone of a machine to build.
#[derive(Clone, Copy)]
pub(crate) struct ZonePlan {
    pub(crate) node: u64,
    pub(crate) kind: ZoneType,
    pub(crate) pages: u64,
    /// Pages at the start of the zone that are there from the beginning; the others come when they are needed, by `SECTION`.
    pub(crate) early: u64,
    pub(crate) settings: ZoneSettings,
}

/// Pages by which a zone grows.
pub(crate) const SECTION: u64 = 1024;

pub(crate) const PCP: PcpLimits = PcpLimits { high_min: 32, high_max: 64, batch: 8 };

impl ZonePlan {
    pub(crate) fn normal(pages: u64) -> Self {
        let settings =
            ZoneSettings { watermarks: [128, 160, 192, 224], lowmem_reserve: [0; ZoneType::COUNT], pcp: PCP };
        Self { node: 0, kind: ZoneType::Normal, pages, early: pages, settings }
    }
}

/// Builds a machine of `plans`, one after the other in physical memory, all early memory free.
#[allow(dead_code, reason = "not every test wants its memory free")]
pub(crate) fn machine<H: Hooks>(plans: &[ZonePlan], nr_cpus: u64, hooks: H, debug: DebugOptions) -> Machine<H> {
    let machine = unfilled_machine(plans, nr_cpus, hooks, debug);
    for (zone, plan) in machine.allocator.zones().iter().zip(plans) {
        let early = PfnRange::with_len(zone.span().start, plan.early);
        machine.allocator.release_boot_range(&machine.cpus[0], early).unwrap();
    }
    machine
}

/// Builds a machine whose memory is all held by boot.
pub(crate) fn unfilled_machine<H: Hooks>(
    plans: &[ZonePlan],
    nr_cpus: u64,
    hooks: H,
    debug: DebugOptions,
) -> Machine<H> {
    static MACHINES: AtomicU32 = AtomicU32::new(1000);
    let number = MACHINES.fetch_add(1, Ordering::Relaxed);
    let cpus: Vec<Cpu> = (0..nr_cpus)
        // SAFETY: the machine number is used once, and each CPU of it once.
        .map(|id| unsafe { Cpu::new(number, CpuId::try_new(id).unwrap(), IrqControl::NONE) })
        .collect();
    let total: u64 = plans.iter().map(|plan| plan.pages).sum();
    let memory = HeapMemory::new(PhysRange::with_len(PhysAddr::ZERO, total << 12)).unwrap();
    let span = PfnRange::with_len(Pfn::ZERO, total);
    let sections = SectionMap::new(MemoryModel::Flat, span, BootSlice::empty());
    let frames = FrameTable::new(&memory, span, sections).unwrap();
    let geometry = Geometry::FOUR_KIB;
    let entries = PageblockTypes::entries(span, geometry.pageblock_order);
    let types = leak((0..entries).map(|_| AtomicU32::new(0)).collect());
    let (mut zones, mut start) = (Vec::new(), Pfn::ZERO);
    for (number, plan) in plans.iter().enumerate() {
        let node = NodeId::try_new(plan.node).unwrap();
        let range = PfnRange::with_len(start, plan.pages);
        let zone = Zone::new(node, plan.kind, range, plan.pages, number);
        frames.init_range(PfnRange::with_len(start, plan.early), zone.place(), PageFlags::empty());
        zones.push(zone);
        start = range.end;
    }
    let (zonelists, node_lists) = zonelists(plans);
    let cells = cpus.iter().flat_map(|cpu| zones.iter().map(|_| OwnerCell::new(cpu.tag(), PcpSet::boot())));
    let rows = BootSlice::from_static(vec![NonNull::dangling(); cpus.len()].leak());
    let pcps = PerCpuSlice::divide(leak(cells.collect()), rows);
    let last_node = plans.iter().map(|plan| plan.node).max().unwrap_or(0);
    let cpus_on = (0..nr_cpus).map(|id| CpuPlace::on(NodeId::try_new(id % (last_node + 1)).unwrap())).collect();
    let late = zones.iter().zip(plans).filter(|(_, plan)| plan.early < plan.pages);
    let late: Vec<MemoryRange> = late.map(|(zone, _)| MemoryRange::plain(zone.span(), zone.node())).collect();
    let marks =
        zones.iter().zip(plans).map(|(zone, plan)| AtomicU64::new(zone.span().start.raw() + plan.early)).collect();
    let deferred = (!late.is_empty()).then(|| Deferred::new(leak(marks), leak(late), SECTION));
    let allocator = PageAllocator::new(
        memory,
        hooks,
        Parts {
            map: FrameMap { frames, pageblocks: PageblockTypes::new(types, span, geometry.pageblock_order), geometry },
            zones: leak(zones),
            zonelists,
            node_lists,
            pcps,
            cpus: leak(cpus_on),
            configured: ZoneSet::of(&ZONES),
            deferred,
            debug,
        },
    );
    allocator.init_pageblocks(span);
    for (zone, plan) in allocator.zones().iter().zip(plans) {
        allocator.apply_settings(&cpus[0], zone, &plan.settings, 5);
    }
    Machine { allocator, cpus }
}

fn zonelists(plans: &[ZonePlan]) -> (BootSlice<ZoneRef>, BootSlice<NodeZonelists>) {
    let nodes = plans.iter().map(|plan| plan.node).max().unwrap_or(0) + 1;
    let mut table = vec![ZoneRef::UNUSED; NodeZonelists::table_len(nodes as usize, plans.len())];
    let mut writer = ZonelistWriter::new(&mut table);
    let zone_of = |node: NodeId, kind: ZoneType| {
        let found = plans.iter().position(|plan| plan.node == u64::from(node.raw()) && plan.kind == kind);
        found.map(|number| number as u16)
    };
    let lists = (0..nodes).map(|local| {
        let order: Vec<NodeId> = (0..nodes).map(|step| NodeId::try_new((local + step) % nodes).unwrap()).collect();
        writer.write(order[0], &order, ZoneSet::of(&ZONES), zone_of).unwrap()
    });
    let lists = lists.collect();
    (leak(table), leak(lists))
}
