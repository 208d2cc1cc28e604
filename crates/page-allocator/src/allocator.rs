//! The page allocator of a machine: its zones, lists and per-CPU sets, and how they are put together at boot.
//!
//! Locking: a CPU's set (`OwnerCell`) before a zone's lists (`rank::ZONE`); one zone at a time.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use collections::{BootSlice, PerCpuSlice};
use frame_table::FramePlace;
use platform::Platform;
use sync::{Cpu, OwnerCell};
use units::{CpuId, Gfp, NodeId, NodeMask, Pfn, ZoneType};

use crate::buddy::LockedZone;
use crate::debug::DebugOptions;
use crate::deferred::Deferred;
use crate::fallback::FallbackPolicy;
use crate::frame_map::FrameMap;
use crate::gates::{Gates, NO_ZONE};
use crate::layout::{NodeZonelists, ZoneRef, ZoneSet, Zonelist};
use crate::pcp::PcpLists;
use crate::pcp_index::PcpIndex;
use crate::pcp_rules::{FreeHighRule, PcpCounters, ZonePressure};
use crate::pressure::{Hooks, NoPressure};
use crate::trace::Tracepoints;
use crate::zone::{PcpLimits, ShortWay, Zone, ZoneEvents, ZoneFlags, ZoneSettings};
use crate::zone_table::{ZONE_BITS_VALUES, ZoneTable};

/// Tables that boot builds for the allocator out of the machine's memory.
#[derive(Debug)]
pub struct Parts {
    /// Descriptors, pageblock types and sizes.
    pub map: FrameMap,
    /// Zones with memory, in node order, lowest kind first.
    pub zones: BootSlice<Zone>,
    /// Zonelists of all nodes, as `layout::ZonelistWriter` writes them. Zone numbers are indexes of `zones`.
    pub zonelists: BootSlice<ZoneRef>,
    /// Where each node's lists are in `zonelists`, by node number.
    pub node_lists: BootSlice<NodeZonelists>,
    /// For each CPU a set per populated zone, by the zone's number, in memory near the CPU. They go to the CPU's place.
    pub pcps: PerCpuSlice<OwnerCell<PcpSet>>,
    /// Where each CPU is.
    pub cpus: BootSlice<CpuPlace>,
    /// Kinds of zones that the architecture has.
    pub configured: ZoneSet,
    /// Memory whose descriptors are initialised later.
    pub deferred: Option<Deferred>,
    /// Checks to run.
    pub debug: DebugOptions,
}

/// Where a CPU is, where its allocations start, and its sets.
#[derive(Debug)]
#[repr(align(64))]
pub struct CpuPlace {
    /// The CPU's set for each zone, by the zone's number.
    sets: BootSlice<OwnerCell<PcpSet>>,
    /// First zone of the node's fallback list that a request may use, by the request's zone flags.
    first_zone: [u16; ZONE_BITS_VALUES],
    node: NodeId,
}

impl CpuPlace {
    /// Puts a CPU on a node.
    pub const fn on(node: NodeId) -> Self {
        Self { sets: BootSlice::empty(), first_zone: [NO_ZONE; ZONE_BITS_VALUES], node }
    }

    /// Returns the number of the zone that an allocation with these zone flags prefers.
    #[inline(always)]
    pub(crate) const fn first_zone(&self, zone_bits: usize) -> u16 {
        self.first_zone[zone_bits % ZONE_BITS_VALUES]
    }

    /// Returns the CPU's set for the zone of a number.
    #[inline(always)]
    pub(crate) fn set_of_zone(&self, number: u16) -> Option<&OwnerCell<PcpSet>> {
        self.sets.get(usize::from(number))
    }
}

/// One CPU's lists for one zone.
#[derive(Debug)]
pub struct PcpSet(pub(crate) PcpLists);

impl PcpSet {
    /// Makes an empty set as Linux boots with: single pages go through, nothing is kept.
    pub const fn boot() -> Self {
        Self(PcpLists::new(PcpCounters::new(PcpLimits::BOOT, 5)))
    }
}

/// The page allocator.
///
/// Everything is reached through `&self`; each call that may lock takes the token of the CPU it runs on.
#[derive(Debug)]
pub struct PageAllocator<P: Platform, H: Hooks = NoPressure> {
    pub(crate) platform: P,
    pub(crate) hooks: H,
    pub(crate) map: FrameMap,
    zones: BootSlice<Zone>,
    zone_of_slot: [u16; FramePlace::SLOTS],
    zonelists: BootSlice<ZoneRef>,
    node_lists: BootSlice<NodeZonelists>,
    cpus: BootSlice<CpuPlace>,
    pub(crate) gates: Gates,
    pub(crate) pcp_index: PcpIndex,
    pub(crate) zone_table: ZoneTable,
    pub(crate) nodes: NodeMask,
    has_dma32: bool,
    group_by_mobility: AtomicBool,
    watermark_boost_factor: AtomicU64,
    pub(crate) deferred: Option<Deferred>,
    /// Something is to be done with every block that is handed out or taken back.
    pub(crate) instrumented: bool,
    pub(crate) debug: DebugOptions,
}

fn note_first_zones(parts: &mut Parts, zone_table: &ZoneTable) {
    for place in parts.cpus.iter_mut() {
        let lists = parts.node_lists.get(place.node.index()).copied().unwrap_or_default();
        for (bits, first) in (0..).zip(&mut place.first_zone) {
            let highest = zone_table.highest_zone(Gfp::from_bits_truncate(bits));
            let zones = lists.fallback(&parts.zonelists);
            *first = zones.walk(highest, NodeMask::ALL).next().map_or(NO_ZONE, |entry| entry.zone);
        }
    }
}

impl<P: Platform, H: Hooks> PageAllocator<P, H> {
    /// Puts the allocator together. No zone has a free page yet.
    pub fn new(platform: P, hooks: H, mut parts: Parts) -> Self {
        let mut zone_of_slot = [NO_ZONE; FramePlace::SLOTS];
        let mut nodes = NodeMask::EMPTY;
        for (number, zone) in parts.zones.iter().enumerate() {
            zone_of_slot[zone.place().slot()] = number as u16;
            nodes = nodes.with(zone.node());
            if parts.debug.is_active() {
                zone.set_short_way(ShortWay::Closed);
            }
            parts.map.pageblocks.note_zone(zone.span(), number as u16);
        }
        let zone_table = ZoneTable::new(parts.configured);
        note_first_zones(&mut parts, &zone_table);
        for (place, sets) in parts.cpus.iter_mut().zip(parts.pcps.into_slices()) {
            place.sets = sets;
        }
        Self {
            platform,
            hooks,
            instrumented: parts.debug.is_active(),
            zones: parts.zones,
            zone_of_slot,
            zonelists: parts.zonelists,
            node_lists: parts.node_lists,
            cpus: parts.cpus,
            gates: Gates::new(parts.map.geometry.max_order),
            pcp_index: PcpIndex::new(&parts.map.geometry),
            map: parts.map,
            zone_table,
            nodes,
            has_dma32: parts.configured.contains(ZoneType::Dma32),
            group_by_mobility: AtomicBool::new(true),
            watermark_boost_factor: AtomicU64::new(0),
            deferred: parts.deferred,
            debug: parts.debug,
        }
    }

    /// Returns descriptors, pageblock types and sizes.
    pub const fn map(&self) -> &FrameMap {
        &self.map
    }

    /// Returns the checks that run.
    pub const fn debug(&self) -> &DebugOptions {
        &self.debug
    }

    /// Returns what was injected at construction.
    pub const fn hooks(&self) -> &H {
        &self.hooks
    }

    /// Returns the machine.
    pub const fn platform(&self) -> &P {
        &self.platform
    }

    /// Returns the zones that have memory.
    pub fn zones(&self) -> &[Zone] {
        &self.zones
    }

    /// Returns the nodes that have memory.
    pub const fn nodes(&self) -> NodeMask {
        self.nodes
    }

    /// Returns the number of CPUs.
    pub fn nr_cpus(&self) -> usize {
        self.cpus.len()
    }

    /// Returns the zone that a frame belongs to.
    #[inline]
    pub fn zone_of(&self, pfn: Pfn) -> Option<&Zone> {
        let slot = self.map.frames.get(pfn)?.place().slot();
        self.zones.get(usize::from(*self.zone_of_slot.get(slot)?))
    }

    /// Returns a zone by node and kind, if it has memory.
    pub fn zone(&self, node: NodeId, kind: ZoneType) -> Option<&Zone> {
        let slot = FramePlace::new(node, kind).slot();
        self.zones.get(usize::from(*self.zone_of_slot.get(slot)?))
    }

    #[inline(always)]
    pub(crate) fn cpu_place(&self, cpu: CpuId) -> Option<&CpuPlace> {
        self.cpus.get(cpu.index())
    }

    #[inline]
    pub(crate) fn zone_number(&self, number: u16) -> Option<&Zone> {
        self.zones.get(usize::from(number))
    }

    /// Returns the zonelist of a node; with `this_node_only`, of its own zones alone.
    #[inline]
    pub(crate) fn zonelist(&self, node: NodeId, scope: ListScope) -> Zonelist<'_> {
        let lists = self.node_lists.get(node.index()).copied().unwrap_or_default();
        match scope {
            ListScope::Machine => lists.fallback(&self.zonelists),
            ListScope::ThisNode => lists.this_node(&self.zonelists),
        }
    }

    /// Returns the node of a CPU.
    #[inline]
    pub fn node_of_cpu(&self, cpu: CpuId) -> NodeId {
        self.cpu_place(cpu).map_or_else(NodeId::default, |place| place.node)
    }

    #[inline]
    pub(crate) fn pcp(&self, zone: &Zone, cpu: CpuId) -> Option<&OwnerCell<PcpSet>> {
        self.cpu_place(cpu)?.sets.get(zone.number)
    }

    pub(crate) fn lock<'a>(&'a self, zone: &'a Zone, cpu: &'a Cpu) -> LockedZone<'a> {
        let listener: Option<&dyn Tracepoints> = if self.hooks.is_listening() { Some(&self.hooks) } else { None };
        LockedZone::lock(zone, &self.map, &self.gates, listener, cpu)
    }

    /// Sets hints about a zone.
    pub(crate) fn set_zone_flags(&self, zone: &Zone, flags: ZoneFlags) {
        zone.set_flags(flags);
        self.gates.note(zone);
    }

    /// Clears hints about a zone.
    pub(crate) fn clear_zone_flags(&self, zone: &Zone, flags: ZoneFlags) {
        zone.clear_flags(flags);
        self.gates.note(zone);
    }

    #[inline]
    pub(crate) fn groups_by_mobility(&self) -> bool {
        // Relaxed: set at boot.
        self.group_by_mobility.load(Ordering::Relaxed)
    }

    /// Switches grouping by migratetype; off on machines with few pageblocks.
    pub fn set_group_by_mobility(&self, grouping: crate::layout::MobilityGrouping) {
        let on = grouping == crate::layout::MobilityGrouping::On;
        // Relaxed: set at boot.
        self.group_by_mobility.store(on, Ordering::Relaxed);
        self.open_or_close();
    }

    /// Lets `skip` requests succeed and fails the `times` after them (Linux: fail_page_alloc); a `skip` of `u64::MAX` ends it.
    pub fn arm_faults(&self, skip: u64, times: u64) {
        self.debug.faults.arm(skip, times);
        self.open_or_close();
    }

    /// Opens the short way to all zones if nothing on this machine speaks against it, else closes it.
    fn open_or_close(&self) {
        let is_open = self.groups_by_mobility() && !self.instrumented && !self.debug.faults.is_armed();
        for zone in self.zones() {
            zone.set_short_way(if is_open { ShortWay::Open } else { ShortWay::Closed });
            self.gates.note(zone);
        }
    }

    /// Sets vm.watermark_boost_factor.
    pub fn set_watermark_boost_factor(&self, factor: u64) {
        // Relaxed: read as a hint under the zone lock.
        self.watermark_boost_factor.store(factor, Ordering::Relaxed);
    }

    pub(crate) fn fallback_policy(&self) -> FallbackPolicy {
        FallbackPolicy {
            group_by_mobility: self.groups_by_mobility(),
            // Relaxed: see `set_watermark_boost_factor`.
            watermark_boost_factor: self.watermark_boost_factor.load(Ordering::Relaxed),
        }
    }

    /// Returns true if mixing types below the pageblock size is to be avoided at first in this zone: it is the Normal zone and a
    /// DMA32 zone below it could serve instead (Linux: alloc_flags_nofragment).
    #[inline]
    pub(crate) fn avoids_fragmentation(&self, zone: &Zone) -> bool {
        self.has_dma32
            && zone.kind() == ZoneType::Normal
            && (self.nodes.len() == 1 || self.zone(zone.node(), ZoneType::Dma32).is_some())
    }

    /// Gives a zone its watermarks, reserves and per-CPU limits, on every CPU.
    pub fn apply_settings(&self, cpu: &Cpu, zone: &Zone, settings: &ZoneSettings, batch_scale_max: u32) {
        zone.set_limits(settings);
        self.gates.note(zone);
        self.with_every_pcp(cpu, zone, |pcp| pcp.counters.set_limits(settings.pcp, batch_scale_max));
    }

    /// Chooses when frees of high orders empty a set, on every CPU.
    pub fn set_free_high_rule(&self, cpu: &Cpu, rule: FreeHighRule) {
        for zone in self.zones() {
            self.with_every_pcp(cpu, zone, |pcp| pcp.counters.set_free_high_rule(rule));
        }
    }

    /// Runs `f` on a CPU's set, from any CPU. Nothing happens if this is an interrupt inside that very set.
    pub(crate) fn with_pcp<R>(
        &self,
        cpu: &Cpu,
        cell: &OwnerCell<PcpSet>,
        f: impl FnOnce(&mut PcpLists) -> R,
    ) -> Option<R> {
        cell.with_remote(cpu, || self.platform.fence_other_cpus(), |set| f(&mut set.0))
    }

    /// Runs `f` on the sets of all CPUs for a zone, from any CPU, with one barrier on the others. An interrupt inside one of the sets leaves it out.
    pub(crate) fn with_every_pcp(&self, cpu: &Cpu, zone: &Zone, mut f: impl FnMut(&mut PcpLists)) {
        let cells = self.cpus.iter().filter_map(|place| place.sets.get(zone.number));
        OwnerCell::with_each(cells, cpu, || self.platform.fence_other_cpus(), |set| f(&mut set.0));
    }

    /// Returns a copy of a CPU's counters for a zone.
    pub fn pcp_counters(&self, cpu: &Cpu, zone: &Zone, of: CpuId) -> Option<PcpCounters> {
        self.with_pcp(cpu, self.pcp(zone, of)?, |pcp| pcp.counters)
    }

    /// Sums the event counts of a zone over all CPUs.
    pub fn zone_events(&self, cpu: &Cpu, zone: &Zone) -> ZoneEvents {
        let mut sum = *self.lock(zone, cpu).events();
        for place in self.cpus.iter() {
            let Some(cell) = place.sets.get(zone.number) else { continue };
            let local = place.node == zone.node();
            if let Some(events) = self.with_pcp(cpu, cell, |pcp| pcp.events(&self.map.geometry, local)) {
                sum.add(&events);
            }
        }
        sum
    }

    /// Returns the pages on all per-CPU lists of a zone (Linux: free_pcp in Mem-Info).
    pub fn pcp_pages(&self, cpu: &Cpu, zone: &Zone) -> u64 {
        let mut sum = 0;
        self.with_every_pcp(cpu, zone, |pcp| sum += u64::from(pcp.counters.count()));
        sum
    }
}

/// Which of a node's zonelists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ListScope {
    Machine,
    ThisNode,
}

/// Returns what the per-CPU rules need to know of a zone.
#[inline]
pub(crate) fn pressure_on(zone: &Zone) -> ZonePressure {
    let flags = zone.flags();
    if flags.is_empty() {
        ZonePressure::None
    } else if flags.contains(ZoneFlags::RECLAIM_ACTIVE) {
        ZonePressure::ReclaimActive
    } else if flags.contains(ZoneFlags::BELOW_HIGH) {
        ZonePressure::BelowHigh
    } else {
        ZonePressure::None
    }
}
