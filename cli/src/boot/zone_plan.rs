//! Zones and zonelists of a machine, laid out from its memory, and the log lines about them.

use std::fmt;

use page_allocator::layout::boot_log::{self, NodeState};
use page_allocator::layout::{
    MemmapCost, MemoryRange, MobilityGrouping, MovableRule, MovableStarts, NodeLayout, NodeOrders, Topology,
    UnavailableRange, ZoneLimits, first_deferred, for_each_unavailable, nodes_with_memory, policy_zone,
};
use units::{MigrateType, NodeId, NodeMask, Pfn, PfnRange, ZoneType};

use super::kernel_facts::{Architecture, KernelFacts, PAGE};

/// Address bits of the DMA zone on the Arm machines that were recorded.
const ARM_DMA_BITS: u32 = 32;

/// Zones of a machine.
pub(super) struct ZonePlan {
    pub(super) memory: Vec<MemoryRange>,
    pub(super) limits: ZoneLimits,
    pub(super) movable: MovableStarts,
    /// Every node that may come up, in ascending order.
    pub(super) nodes: Vec<NodeLayout>,
}

impl ZonePlan {
    /// Lays out the zones of `memory`, which is not empty.
    pub(super) fn new(memory: Vec<MemoryRange>, facts: &KernelFacts, rule: MovableRule) -> Self {
        let bounds = |span: PfnRange, range: &MemoryRange| {
            PfnRange::new(span.start.min(range.frames.start), span.end.max(range.frames.end))
        };
        let span = memory.iter().fold(PfnRange::new(Pfn::new(u64::MAX), Pfn::ZERO), bounds);
        let limits = match facts.architecture {
            Architecture::X86_64 => ZoneLimits::x86_64(span),
            Architecture::I386 => ZoneLimits::i386(span, facts.low_end.min(span.end)),
            Architecture::Arm64 => ZoneLimits::arm64(span, ARM_DMA_BITS, PAGE.page_shift),
        };
        let ranges = || memory.iter().copied();
        let movable = MovableStarts::compute(ranges(), &limits, rule, PAGE);
        let with_memory = nodes_with_memory(ranges());
        let possible = |node: &NodeId| with_memory.contains(*node) || facts.described_nodes.contains(*node);
        let nodes = NodeMask::ALL
            .iter()
            .filter(possible)
            .map(|node| NodeLayout::compute(node, ranges(), &limits, &movable))
            .collect();
        Self { memory, limits, movable, nodes }
    }

    /// Returns the memory as the computations take it.
    pub(super) fn ranges(&self) -> impl Iterator<Item = MemoryRange> + Clone + '_ {
        self.memory.iter().copied()
    }

    /// Returns the zones with memory, node by node.
    pub(super) fn zones(&self) -> impl Iterator<Item = (NodeId, ZoneType, PfnRange)> + '_ {
        self.nodes.iter().flat_map(|node| node.populated().map(|(kind, zone)| (node.node, kind, zone.span)))
    }

    /// Returns the frames with memory.
    pub(super) fn present(&self) -> u64 {
        self.nodes.iter().map(NodeLayout::present).sum()
    }

    /// Returns the first frame of each node whose descriptor is deferred, if one is.
    pub(super) fn first_deferred(&self, facts: &KernelFacts) -> Vec<(NodeId, Pfn)> {
        let Some(section_pages) = facts.deferred_section() else { return Vec::new() };
        let deferred = |node: &NodeLayout| Some((node.node, first_deferred(node, self.ranges(), section_pages)?));
        self.nodes.iter().filter_map(deferred).collect()
    }

    /// Writes the lines of zone and node setup up to the nodes' own.
    pub(super) fn write_zones(&self, log: &mut String, facts: &KernelFacts) -> fmt::Result {
        boot_log::write_zone_ranges(log, &self.limits, PAGE.page_shift)?;
        boot_log::write_movable_starts(log, &self.movable, PAGE.page_shift)?;
        boot_log::write_memory_ranges(log, self.ranges(), PAGE.page_shift)?;
        for node in &self.nodes {
            let state = if node.span.is_empty() { facts.arch_rules().memoryless } else { NodeState::Online };
            boot_log::write_node_setup(log, node, state, facts.release, PAGE.page_shift)?;
        }
        Ok(())
    }

    /// Writes the lines about descriptors without memory.
    pub(super) fn write_unavailable(&self, log: &mut String, facts: &KernelFacts) -> fmt::Result {
        let mut found: Vec<UnavailableRange> = Vec::new();
        for_each_unavailable(self.ranges(), &self.nodes, facts.memory_model(), |range| found.push(range));
        found.into_iter().try_for_each(|range| boot_log::write_unavailable(log, range))
    }

    /// Writes the lines about fallback orders and zonelists.
    ///
    /// `reserved_low` counts the reserved frames in the DMA zone of 64-bit x86.
    pub(super) fn write_zonelists(
        &self,
        log: &mut String,
        facts: &KernelFacts,
        distance: impl Fn(NodeId, NodeId) -> u8,
        reserved_low: u64,
    ) -> fmt::Result {
        let with_memory = nodes_with_memory(self.ranges());
        let with_cpus = facts.nodes_with_cpus();
        // CPUs register with their nodes only after the first lists were built.
        let topology = Topology { distance, with_memory, with_cpus: NodeMask::EMPTY, release: facts.release };
        let mut orders = NodeOrders::new(topology);
        if facts.is_numa() {
            for node in &self.nodes {
                boot_log::write_fallback_order(log, node.node, orders.next(node.node).as_slice())?;
            }
        }
        let online = self.nodes.iter().filter(|node| with_memory.contains(node.node) || with_cpus.contains(node.node));
        let total = self.memmap_cost(facts, reserved_low).total_pages(&self.nodes, facts.release);
        let grouping = MobilityGrouping::decide(total, PAGE.pageblock_pages(), nr_migrate_types(facts.architecture));
        boot_log::write_zonelists_built(log, online.count() as u64, grouping, total)?;
        if facts.is_numa() {
            let populated = self.zones().map(|(_, kind, _)| kind);
            boot_log::write_policy_zone(log, policy_zone(populated, self.limits.configured()))?;
        }
        Ok(())
    }

    fn memmap_cost(&self, facts: &KernelFacts, reserved_low: u64) -> MemmapCost {
        MemmapCost {
            descriptor_bytes: facts.arch_rules().descriptor_bytes,
            page_shift: PAGE.page_shift,
            model: facts.memory_model(),
            dma_reserve: reserved_low,
        }
    }
}

/// Counts the migratetypes of recorded kernels: on Arm they have contiguous memory areas.
const fn nr_migrate_types(architecture: Architecture) -> u64 {
    match architecture {
        Architecture::Arm64 => MigrateType::COUNT as u64,
        Architecture::X86_64 | Architecture::I386 => MigrateType::COUNT as u64 - 1,
    }
}
