//! Division of each node's memory into zones: first frame, frames spanned, frames present.
//!
//! Linux 6.12: mm/mm_init.c (`calculate_node_totalpages`, `zone_spanned_pages_in_node`, `zone_absent_pages_in_node`).

use units::{NodeId, PfnRange, ZoneType};

use super::memory_range::{MemoryKind, MemoryRange, MemoryRanges, node_span, present_pages};
use super::movable::{MovableRule, MovableStarts};
use super::zone_limits::ZoneLimits;

/// Frames of one zone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ZoneLayout {
    /// From the first frame to behind the last one, holes included; both 0 for a zone without memory.
    pub span: PfnRange,
    /// Frames within `span` that have memory behind them.
    pub present: u64,
}

impl ZoneLayout {
    /// Returns true if the zone has memory (Linux: populated_zone).
    pub const fn is_populated(&self) -> bool {
        self.present != 0
    }
}

/// Zones of one node, by kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeLayout {
    /// The node.
    pub node: NodeId,
    /// From its first frame with memory to behind its last one; empty for a node without memory.
    pub span: PfnRange,
    zones: [ZoneLayout; ZoneType::COUNT],
}

impl NodeLayout {
    /// Divides the memory of `node`.
    pub fn compute<M: MemoryRanges>(node: NodeId, memory: M, limits: &ZoneLimits, movable: &MovableStarts) -> Self {
        let span = node_span(memory.clone(), node).unwrap_or_default();
        let mut zones = [ZoneLayout::default(); ZoneType::COUNT];
        for kind in limits.configured().iter() {
            let zone_span = zone_span(node, span, kind, limits, movable);
            if zone_span.is_empty() {
                continue;
            }
            let present = present_pages(memory.clone(), node, zone_span)
                - excluded_by_mirror(memory.clone(), node, kind, zone_span, movable);
            zones[kind.index()] = ZoneLayout { span: zone_span, present };
        }
        Self { node, span, zones }
    }

    /// Returns the zone of `kind`.
    pub const fn zone(&self, kind: ZoneType) -> &ZoneLayout {
        &self.zones[kind.index()]
    }

    /// Iterates over the zones that have memory, lowest kind first.
    pub fn populated(&self) -> impl DoubleEndedIterator<Item = (ZoneType, &ZoneLayout)> {
        ZoneType::ALL.into_iter().zip(&self.zones).filter(|(_, zone)| zone.is_populated())
    }

    /// Returns the frames of the node that have memory behind them.
    pub fn present(&self) -> u64 {
        self.zones.iter().map(|zone| zone.present).sum()
    }
}

/// Computes where zone `kind` of `node` lies; empty if nowhere.
fn zone_span(
    node: NodeId,
    node_span: PfnRange,
    kind: ZoneType,
    limits: &ZoneLimits,
    movable: &MovableStarts,
) -> PfnRange {
    if node_span.is_empty() {
        return PfnRange::default();
    }
    let Some(movable_start) = movable.start(node) else {
        return nonempty(limits.range(kind).intersection(node_span));
    };
    if kind == ZoneType::Movable {
        let end = limits.movable_source().map_or(node_span.end, |source| limits.range(source).end);
        return nonempty(PfnRange::new(movable_start, node_span.end.min(end)));
    }
    let span = limits.range(kind).intersection(node_span);
    if span.start >= movable_start {
        return PfnRange::default();
    }
    // Under kernelcore=mirror the two zones interleave, so Normal keeps its end; the pages are told apart by their kind.
    let end = if movable.rule() == MovableRule::Mirror { span.end } else { span.end.min(movable_start) };
    nonempty(PfnRange::new(span.start, end))
}

fn nonempty(span: PfnRange) -> PfnRange {
    if span.is_empty() { PfnRange::default() } else { span }
}

/// Counts the frames in `span` that belong to the other of Normal and Movable under kernelcore=mirror.
fn excluded_by_mirror(
    memory: impl MemoryRanges,
    node: NodeId,
    kind: ZoneType,
    span: PfnRange,
    movable: &MovableStarts,
) -> u64 {
    if movable.rule() != MovableRule::Mirror || movable.start(node).is_none() {
        return 0;
    }
    let excluded = |range: &MemoryRange| match kind {
        ZoneType::Movable => range.kind == MemoryKind::Mirrored,
        ZoneType::Normal => range.kind != MemoryKind::Mirrored,
        _ => false,
    };
    present_pages(memory.filter(excluded), node, span)
}
