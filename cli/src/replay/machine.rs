//! The recorded machine, booted on our kernel: its memory, zones, CPUs and lists as they were at the first event.
//!
//! Memory is the hosted machine's sparse reservation, of which only the descriptors are touched. Frames that the recorded kernel had in
//! use stay boot memory until the replay frees them, because only then the size of their block is known.

use boot_memory::firmware::CoreSize;
use kernel_mm::Kernel;
use page_allocator::layout::{ArchRules, MemoryRange, MovableRule, ZoneLimits, ZoneSet};
use page_allocator::{FreeHighRule, Geometry, PageAllocator};
use recordings::NodeDistances;
use recordings::pages::{CpuNodes, InitialState, PcpList, PresentRange, Snapshot};
use sim::{CpuGuard, RecordedMachine, SimMachine, SimPlatform};
use sync::Cpu;
use units::{CpuId, NodeId, Order, Pfn, ZoneType};

use super::recorder::Recorder;
use super::zone_settings::SettingsSource;
use crate::failure::Failure;

/// The machine of a replay.
pub(super) type ReplayMachine = SimMachine<Recorder>;

/// Its page allocator.
pub(super) type ReplayAllocator = PageAllocator<SimPlatform, Recorder>;
/// What it belongs to.
pub(super) type ReplayKernel = Kernel<SimPlatform, Recorder>;

/// What a machine is built from.
#[derive(Clone, Copy)]
pub(super) struct Plan<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) present: &'a [PresentRange],
    pub(super) cpu_nodes: &'a CpuNodes,
    pub(super) distances: &'a NodeDistances,
    /// Watermarks, reserves and per-CPU limits.
    pub(super) settings: &'a SettingsSource,
    pub(super) free_high_rule: FreeHighRule,
}

/// Boots the machine with every frame in use and no list filled.
///
/// # Errors
/// The host has no room, or the recorded zones are not those that a kernel lays over the recorded memory.
pub(super) fn boot(plan: Plan<'_>) -> Result<ReplayMachine, Failure> {
    let Plan { snapshot, present, cpu_nodes, .. } = plan;
    let configured = ZoneSet::of(&snapshot.zone_kinds);
    let first = present.first().map_or(Pfn::ZERO, |range| range.frames.start);
    let recorded = RecordedMachine {
        geometry: geometry(snapshot)?,
        memory: present.iter().map(|range| MemoryRange::plain(range.frames, range.node)).collect(),
        arch: arch_rules(configured),
        limits: ZoneLimits::stacked(configured, first, |kind| end_of(snapshot, kind)),
        movable: movable_rule(snapshot),
        cpu_nodes: cpu_nodes.nodes.clone(),
        distances: distance_table(plan),
        profile: snapshot.profile,
    };
    let machine = SimMachine::boot_recorded(&recorded, Recorder::of(snapshot.zones.iter().map(|zone| zone.span)))
        .map_err(|error| Failure::Machine(error.to_string()))?;
    check_zones(&machine, snapshot)?;
    Ok(machine)
}

/// Returns the distances between all nodes up to the last that has memory or a CPU.
fn distance_table(plan: Plan<'_>) -> Vec<Vec<u8>> {
    let last = plan.snapshot.nodes().into_iter().chain(plan.cpu_nodes.nodes.iter().copied()).max();
    let nodes: Vec<NodeId> = (0..=u64::from(last.unwrap_or_default().raw())).filter_map(NodeId::try_new).collect();
    nodes.iter().map(|from| nodes.iter().map(|to| plan.distances.get(*from, *to)).collect()).collect()
}

/// Tells architectures apart by the kinds of zones that their kernels have.
fn arch_rules(configured: ZoneSet) -> ArchRules {
    if configured.contains(ZoneType::HighMem) {
        ArchRules::I386
    } else if configured.contains(ZoneType::Device) {
        ArchRules::X86_64
    } else {
        ArchRules::ARM64
    }
}

/// Returns where a kind of zone ends; memory of ZONE_MOVABLE counts for the zone below it, from which it is taken.
fn end_of(snapshot: &Snapshot, kind: ZoneType) -> Pfn {
    let own = snapshot.zones.iter().filter(|zone| zone.zone == kind);
    let highest = snapshot.zones.iter().rfind(|zone| zone.zone != ZoneType::Movable).map(|zone| zone.zone);
    let movable = snapshot.zones.iter().filter(|zone| zone.zone == ZoneType::Movable && highest == Some(kind));
    own.chain(movable).map(|zone| zone.span.end).max().unwrap_or_default()
}

/// Returns the rule that gives ZONE_MOVABLE the memory that it has.
fn movable_rule(snapshot: &Snapshot) -> MovableRule {
    let movable = snapshot.zones.iter().filter(|zone| zone.zone == ZoneType::Movable);
    let bytes = movable.map(|zone| zone.present).sum::<u64>() << page_shift(snapshot);
    MovableRule::Sizes { kernelcore: None, movablecore: (bytes > 0).then_some(CoreSize::Bytes(bytes)) }
}

fn check_zones(machine: &ReplayMachine, snapshot: &Snapshot) -> Result<(), Failure> {
    let ours = machine.pages().zones();
    for (zone, recorded) in ours.iter().zip(&snapshot.zones) {
        if (zone.node(), zone.kind(), zone.span()) != (recorded.node, recorded.zone, recorded.span) {
            let (node, name, span) = (recorded.node, recorded.zone.name(), recorded.span);
            let (at, ours) = (zone.node(), zone.kind().name());
            let text = format!(
                "zone {name} of node {node} spans {span:?} in the recording, but a boot gives zone {ours} of node {at} {:?}",
                zone.span()
            );
            return Err(Failure::Machine(text));
        }
    }
    if ours.len() == snapshot.zones.len() {
        return Ok(());
    }
    Err(Failure::Machine(format!("{} recorded zones, but {} after a boot", snapshot.zones.len(), ours.len())))
}

/// Largest block of the recorded machine; /proc/buddyinfo has a column for each order.
fn max_order(snapshot: &Snapshot) -> Order {
    let columns = snapshot.zones.iter().map(|zone| zone.free_blocks.len()).max().unwrap_or(0);
    Order::try_new(columns.saturating_sub(1) as u64).unwrap_or(Order::MAX)
}

/// Returns log2 of the page size, which no file names: kernels with larger pages have larger blocks.
fn page_shift(snapshot: &Snapshot) -> u32 {
    let sizes = [Geometry::SIXTEEN_KIB, Geometry::SIXTY_FOUR_KIB];
    let larger = sizes.into_iter().find(|geometry| geometry.max_order == max_order(snapshot));
    larger.unwrap_or(Geometry::FOUR_KIB).page_shift
}

fn geometry(snapshot: &Snapshot) -> Result<Geometry, Failure> {
    let (max_order, pageblock_order) = (max_order(snapshot), snapshot.pageblock_order);
    if pageblock_order > max_order || pageblock_order <= Order::COSTLY {
        let text = format!("pageblocks of order {pageblock_order} with blocks up to order {max_order}");
        return Err(Failure::Machine(text));
    }
    Ok(Geometry { page_shift: page_shift(snapshot), max_order, pageblock_order })
}

/// Takes the tokens of all CPUs.
pub(super) fn cpus(machine: &ReplayMachine) -> Result<Vec<CpuGuard<'_>>, Failure> {
    cpu_ids(machine.platform().nr_cpus())
        .map(|id| machine.cpu(id).ok_or_else(|| Failure::Machine(format!("CPU {id} is taken"))))
        .collect()
}

/// Loads the recorded state. Returns the blocks that could not be loaded, because the state is not consistent.
pub(super) fn load(machine: &ReplayMachine, cpu: &Cpu, plan: Plan<'_>, state: &InitialState) -> u64 {
    let allocator = machine.pages();
    let pageblock_order = plan.snapshot.pageblock_order;
    for (index, migrate_type) in state.pageblock_types.iter().enumerate() {
        allocator.load_pageblock_type(Pfn::new((index as u64) << pageblock_order.raw()), *migrate_type);
    }
    for (zone, recorded) in allocator.zones().iter().zip(&plan.snapshot.zones) {
        allocator.load_managed(zone, recorded.managed);
    }
    let mut refused = 0;
    for block in &state.free_blocks {
        let loaded = allocator.load_free_block(cpu, block.pfn, block.order, block.migrate_type);
        refused += u64::from(loaded.is_err());
    }
    plan.settings.apply(machine.kernel(), cpu, plan.snapshot, plan.cpu_nodes);
    allocator.set_free_high_rule(cpu, plan.free_high_rule);
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
fn cpu_ids(nr_cpus: usize) -> impl Iterator<Item = CpuId> {
    (0..nr_cpus as u64).filter_map(CpuId::try_new)
}
