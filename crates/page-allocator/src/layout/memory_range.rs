//! Memory as boot computations read it: ascending runs of whole frames, each on one node. Made from memblock by the caller.

use boot_memory::memblock::{Memblock, RegionFlags};
use units::{NodeId, NodeMask, PfnRange};

/// What firmware says about a run of memory (Linux: MEMBLOCK_HOTPLUG, MEMBLOCK_MIRROR).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum MemoryKind {
    /// Neither of the others.
    #[default]
    Plain,
    /// May be taken out of the running machine.
    HotPluggable,
    /// Kept twice by the hardware, so that it survives an uncorrectable error.
    Mirrored,
}

/// Run of whole frames on one node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MemoryRange {
    /// The frames.
    pub frames: PfnRange,
    /// Node that they are close to.
    pub node: NodeId,
    /// What firmware says about them.
    pub kind: MemoryKind,
}

impl MemoryRange {
    /// Makes a run without special properties.
    pub const fn plain(frames: PfnRange, node: NodeId) -> Self {
        Self { frames, node, kind: MemoryKind::Plain }
    }
}

/// Runs of memory in ascending order, not overlapping; walked several times.
///
/// Linux: `for_each_mem_pfn_range`. Any cloneable iterator will do, so memblock's own can be used without a copy.
pub trait MemoryRanges: Iterator<Item = MemoryRange> + Clone {}

impl<I: Iterator<Item = MemoryRange> + Clone> MemoryRanges for I {}

/// Iterates over the whole frames of memblock's memory; regions without a node are on node 0.
pub fn memblock_ranges(memblock: &Memblock, page_shift: u32) -> impl MemoryRanges + '_ {
    let ranges = memblock.memory().iter().map(move |region| {
        let kind = if region.flags.contains(RegionFlags::HOTPLUG) {
            MemoryKind::HotPluggable
        } else if region.flags.contains(RegionFlags::MIRROR) {
            MemoryKind::Mirrored
        } else {
            MemoryKind::Plain
        };
        MemoryRange { frames: region.range().whole_frames(page_shift), node: region.node.unwrap_or(NodeId::ZERO), kind }
    });
    ranges.filter(|range| !range.frames.is_empty())
}

/// Returns the frames of all runs, holes not counted.
pub fn total_pages(memory: impl MemoryRanges) -> u64 {
    memory.map(|range| range.frames.nr_pages()).sum()
}

/// Returns the nodes that have memory (Linux: N_MEMORY).
pub fn nodes_with_memory(memory: impl MemoryRanges) -> NodeMask {
    memory.filter(|range| !range.frames.is_empty()).fold(NodeMask::EMPTY, |nodes, range| nodes.with(range.node))
}

/// Returns the smallest range that holds all memory of `node`, or `None` if it has none (Linux: get_pfn_range_for_nid).
pub fn node_span(memory: impl MemoryRanges, node: NodeId) -> Option<PfnRange> {
    memory
        .filter(|range| range.node == node && !range.frames.is_empty())
        .map(|range| range.frames)
        .reduce(|all, frames| PfnRange::new(all.start.min(frames.start), all.end.max(frames.end)))
}

/// Returns the frames of `node` that lie within `span` and have memory behind them.
pub fn present_pages(memory: impl MemoryRanges, node: NodeId, span: PfnRange) -> u64 {
    memory.filter(|range| range.node == node).map(|range| range.frames.intersection(span).nr_pages()).sum()
}
