//! The recorded machine on our allocator: its memory, zones, CPUs and lists as they were at the first event.
//!
//! Memory is the hosted machine's sparse reservation, of which only the descriptors are touched. Frames that the recorded kernel had in
//! use stay boot memory until the replay frees them, because only then the size of their block is known.

use std::sync::atomic::AtomicU32;

use collections::BootSlice;
use frame_table::{FrameTable, MemoryModel, PageFlags, SectionMap};
use page_allocator::layout::{NodeZonelists, ZoneRef, ZoneSet, ZonelistWriter};
use page_allocator::{
    DebugOptions, FrameMap, FreeHighRule, Geometry, PageAllocator, PageblockTypes, Parts, PcpSet, Zone, ZoneSettings,
};
use recordings::pages::{InitialState, PcpList, Snapshot};
use sim::{CpuGuard, HostPages, MemoryLayout, SimPlatform};
use sync::{Cpu, OwnerCell};
use units::{CpuId, NodeId, Order, Pfn, PfnRange};

use super::recorder::Recorder;
use crate::failure::Failure;

/// The allocator of a replay.
pub(super) type ReplayAllocator = PageAllocator<SimPlatform, Recorder>;

/// What a machine is built from.
#[derive(Clone, Copy)]
pub(super) struct Plan<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) present: &'a [PfnRange],
    pub(super) nr_cpus: usize,
    /// Watermarks, reserves and per-CPU limits of each zone of the snapshot.
    pub(super) settings: &'a [ZoneSettings],
    pub(super) watermark_boost_factor: u64,
}

/// Builds the machine with every frame in use and no list filled.
pub(super) fn build(plan: Plan<'_>) -> Result<ReplayAllocator, Failure> {
    let geometry = geometry(plan.snapshot)?;
    let ram = plan.present.iter().map(|range| range.phys(geometry.page_shift)).collect();
    let layout = MemoryLayout { ram, memmap_pages: HostPages::Huge, ..MemoryLayout::default() };
    let platform =
        SimPlatform::new(&layout, plan.nr_cpus, None).map_err(|error| Failure::Machine(error.to_string()))?;
    let span = PfnRange::new(Pfn::ZERO, plan.snapshot.end());
    let sections = SectionMap::new(MemoryModel::Flat, span, BootSlice::empty());
    let frames = FrameTable::new(&platform, span, sections)
        .map_err(|error| Failure::Machine(format!("no room for descriptors: {error:?}")))?;
    let zones = zones(plan);
    for zone in &zones {
        for range in plan.present {
            frames.init_range(range.intersection(zone.span()), zone.place(), PageFlags::empty());
        }
    }
    let configured = ZoneSet::of(&plan.snapshot.zone_kinds);
    let (zonelists, node_lists) = zonelists(plan.snapshot, configured)?;
    let tags: Vec<u64> = cpu_ids(plan.nr_cpus).map(|id| Cpu::tag_of(platform.number(), id)).collect();
    let pcps = zones.iter().flat_map(|_| &tags).map(|tag| OwnerCell::new(*tag, PcpSet::boot())).collect();
    let types = (0..PageblockTypes::entries(span, geometry.pageblock_order)).map(|_| AtomicU32::new(0)).collect();
    let map =
        FrameMap { frames, pageblocks: PageblockTypes::new(leak(types), span, geometry.pageblock_order), geometry };
    let parts = Parts {
        map,
        zones: leak(zones),
        zonelists,
        node_lists,
        pcps: leak(pcps),
        cpu_nodes: leak(vec![NodeId::ZERO; plan.nr_cpus]),
        configured,
        deferred: None,
        debug: DebugOptions::default(),
    };
    let allocator = PageAllocator::new(platform, Recorder::default(), parts);
    allocator.set_watermark_boost_factor(plan.watermark_boost_factor);
    Ok(allocator)
}

/// Sizes of a machine with 4 KiB pages; /proc/buddyinfo has a column for each order.
fn geometry(snapshot: &Snapshot) -> Result<Geometry, Failure> {
    let columns = snapshot.zones.iter().map(|zone| zone.free_blocks.len()).max().unwrap_or(0);
    let max_order = Order::try_new(columns.saturating_sub(1) as u64).unwrap_or(Order::MAX);
    let pageblock_order = snapshot.pageblock_order;
    if pageblock_order > max_order || pageblock_order <= Order::COSTLY {
        let text = format!("pageblocks of order {pageblock_order} with blocks up to order {max_order}");
        return Err(Failure::Machine(text));
    }
    Ok(Geometry { max_order, pageblock_order, ..Geometry::FOUR_KIB })
}

/// Takes the tokens of all CPUs.
pub(super) fn cpus(allocator: &ReplayAllocator) -> Result<Vec<CpuGuard<'_>>, Failure> {
    let platform = allocator.platform();
    cpu_ids(platform.nr_cpus())
        .map(|id| platform.cpu(id).ok_or_else(|| Failure::Machine(format!("CPU {id} is taken"))))
        .collect()
}

/// Loads the recorded state. Returns the blocks that could not be loaded, because the state is not consistent.
pub(super) fn load(
    allocator: &ReplayAllocator,
    cpu: &Cpu,
    plan: Plan<'_>,
    state: &InitialState,
    free_high_rule: FreeHighRule,
) -> u64 {
    let pageblock_order = plan.snapshot.pageblock_order;
    for (index, migrate_type) in state.pageblock_types.iter().enumerate() {
        allocator.load_pageblock_type(Pfn::new((index as u64) << pageblock_order.raw()), *migrate_type);
    }
    let mut refused = 0;
    for block in &state.free_blocks {
        let loaded = allocator.load_free_block(cpu, block.pfn, block.order, block.migrate_type);
        refused += u64::from(loaded.is_err());
    }
    for (zone, settings) in allocator.zones().iter().zip(plan.settings) {
        allocator.apply_settings(cpu, zone, settings, 5);
    }
    allocator.set_free_high_rule(cpu, free_high_rule);
    for set in &state.page_sets {
        for (list, blocks) in PcpList::all().zip(&set.lists) {
            let (order, migrate_type) = (list.order(pageblock_order), list.migrate_type());
            for pfn in blocks {
                refused += u64::from(allocator.load_pcp_block(cpu, set.cpu, *pfn, order, migrate_type).is_err());
            }
        }
        if let Some(zone) = allocator.zones().get(set.zone) {
            allocator.load_pcp_high(cpu, set.cpu, zone, u32::try_from(set.high).unwrap_or(u32::MAX));
        }
    }
    refused
}

/// Returns the numbers of the first `nr_cpus` CPUs.
pub(super) fn cpu_ids(nr_cpus: usize) -> impl Iterator<Item = CpuId> {
    (0..nr_cpus as u64).filter_map(CpuId::try_new)
}

fn zones(plan: Plan<'_>) -> Vec<Zone> {
    let zone = |(number, zone): (usize, &recordings::pages::ZoneSnapshot)| {
        Zone::new(zone.node, zone.zone, zone.span, zone.present, number * plan.nr_cpus)
    };
    plan.snapshot.zones.iter().enumerate().map(zone).collect()
}

/// Lists of the one node that a page trace covers.
fn zonelists(
    snapshot: &Snapshot,
    configured: ZoneSet,
) -> Result<(BootSlice<ZoneRef>, BootSlice<NodeZonelists>), Failure> {
    let node = NodeId::ZERO;
    let mut table = vec![ZoneRef::UNUSED; NodeZonelists::table_len(1, snapshot.zones.len())];
    let lists = ZonelistWriter::new(&mut table).write(node, &[node], configured, |node, kind| {
        let found = snapshot.zones.iter().position(|zone| (zone.node, zone.zone) == (node, kind));
        found.and_then(|number| u16::try_from(number).ok())
    });
    match lists {
        Some(lists) => Ok((leak(table), leak(vec![lists]))),
        None => Err(Failure::Machine("the zones do not fit a zonelist".to_owned())),
    }
}

/// Gives a table to the machine for the rest of the process's life, as boot does. A command builds a handful of machines.
fn leak<T: 'static>(values: Vec<T>) -> BootSlice<T> {
    BootSlice::from_static(Box::leak(values.into_boxed_slice()))
}
