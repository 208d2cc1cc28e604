//! Boot log lines about zones, nodes and zonelists, in the words of Linux and without time stamps.
//!
//! Each function writes whole lines. Linux 6.12: mm/mm_init.c (`free_area_init`), mm/page_alloc.c (`build_all_zonelists`).

use core::fmt;

use units::{NodeId, NodeMask, PfnRange, ZoneType};

use super::memory_range::MemoryRanges;
use super::movable::MovableStarts;
use super::release::Release;
use super::unavailable::UnavailableRange;
use super::zone_limits::ZoneLimits;
use super::zone_spans::NodeLayout;
use super::zonelist::MobilityGrouping;

/// Writes a range of frames as the log does: addresses of the first and the last byte.
fn write_range(log: &mut impl fmt::Write, frames: PfnRange, page_shift: u32) -> fmt::Result {
    let bytes = frames.phys(page_shift);
    writeln!(log, "[mem {:#018x}-{:#018x}]", bytes.start.raw(), bytes.end.raw().wrapping_sub(1))
}

/// Writes the limits of the zones.
///
/// # Errors
/// Only what `log` returns; so for all functions here.
pub fn write_zone_ranges(log: &mut impl fmt::Write, limits: &ZoneLimits, page_shift: u32) -> fmt::Result {
    writeln!(log, "Zone ranges:")?;
    for kind in limits.configured().iter().filter(|&kind| kind != ZoneType::Movable) {
        write!(log, "  {:<8} ", kind.name())?;
        let range = limits.range(kind);
        if range.is_empty() {
            writeln!(log, "empty")?;
        } else {
            write_range(log, range, page_shift)?;
        }
    }
    Ok(())
}

/// Writes where ZONE_MOVABLE starts.
pub fn write_movable_starts(log: &mut impl fmt::Write, starts: &MovableStarts, page_shift: u32) -> fmt::Result {
    writeln!(log, "Movable zone start for each node")?;
    for node in NodeMask::ALL.iter() {
        if let Some(start) = starts.start(node) {
            writeln!(log, "  Node {node}: {:#018x}", start.phys(page_shift).raw())?;
        }
    }
    Ok(())
}

/// Writes the memory ranges of the nodes.
pub fn write_memory_ranges(log: &mut impl fmt::Write, memory: impl MemoryRanges, page_shift: u32) -> fmt::Result {
    writeln!(log, "Early memory node ranges")?;
    for range in memory.filter(|range| !range.frames.is_empty()) {
        write!(log, "  node {:>3}: ", range.node.raw())?;
        write_range(log, range.frames, page_shift)?;
    }
    Ok(())
}

/// Whether a node was known to have memory or CPUs when its zones were made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NodeState {
    /// Its descriptor was there already.
    Online,
    /// The node is possible, but nothing of it has shown up.
    Offline,
}

/// Writes that the node's zones are set up.
pub fn write_node_setup(
    log: &mut impl fmt::Write,
    layout: &NodeLayout,
    state: NodeState,
    release: Release,
    page_shift: u32,
) -> fmt::Result {
    let node = layout.node;
    if state == NodeState::Offline && release <= Release::V6_1 {
        writeln!(log, "Initializing node {node} as memoryless")?;
    }
    if layout.span.is_empty() {
        return writeln!(log, "Initmem setup node {node} as memoryless");
    }
    write!(log, "Initmem setup node {node} ")?;
    write_range(log, layout.span, page_shift)
}

/// Writes how many descriptors without memory one hole has.
pub fn write_unavailable(log: &mut impl fmt::Write, found: UnavailableRange) -> fmt::Result {
    let UnavailableRange { node, zone, nr_pages } = found;
    writeln!(log, "On node {node}, zone {}: {nr_pages} pages in unavailable ranges", zone.name())
}

/// Writes a node's fallback order.
pub fn write_fallback_order(log: &mut impl fmt::Write, local: NodeId, order: &[NodeId]) -> fmt::Result {
    write!(log, "Fallback order for Node {local}: ")?;
    for node in order {
        write!(log, "{node} ")?;
    }
    writeln!(log)
}

/// Writes how many nodes have zonelists, and what they list.
pub fn write_zonelists_built(
    log: &mut impl fmt::Write,
    online_nodes: u64,
    grouping: MobilityGrouping,
    total_pages: u64,
) -> fmt::Result {
    let grouping = match grouping {
        MobilityGrouping::On => "on",
        MobilityGrouping::Off => "off",
    };
    writeln!(log, "Built {online_nodes} zonelists, mobility grouping {grouping}.  Total pages: {total_pages}")
}

/// Writes the zone kind that memory policies apply to; only kernels for several nodes do.
pub fn write_policy_zone(log: &mut impl fmt::Write, kind: ZoneType) -> fmt::Result {
    writeln!(log, "Policy zone: {}", kind.name())
}

/// Figures of the Memory: line, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryFigures<'a> {
    /// Free pages.
    pub available: u64,
    /// Frames with memory.
    pub present: u64,
    /// Sizes of the kernel image as the line has them, from `K kernel code` to `K bss`.
    pub image_sizes: &'a str,
    /// Frames that the page allocator does not get.
    pub reserved: u64,
    /// Frames of contiguous-memory areas.
    pub cma: u64,
    /// Free pages that the kernel does not map for good; only kernels with HighMem print them.
    pub highmem: Option<u64>,
}

/// Sizes of a kernel image of which nothing is known but that it is reserved memory.
pub const NO_IMAGE_SIZES: &str = "0K kernel code, 0K rwdata, 0K rodata, 0K init, 0K bss";

/// Writes how much memory there is and what is taken (Linux: mem_init_print_info).
pub fn write_memory(log: &mut impl fmt::Write, figures: &MemoryFigures<'_>, page_shift: u32) -> fmt::Result {
    let kib = |pages: u64| pages << (page_shift - 10);
    let MemoryFigures { available, present, image_sizes, reserved, cma, highmem } = *figures;
    write!(log, "Memory: {}K/{}K available ({image_sizes}, ", kib(available), kib(present))?;
    write!(log, "{}K reserved, {}K cma-reserved", kib(reserved), kib(cma))?;
    if let Some(highmem) = highmem {
        write!(log, ", {}K highmem", kib(highmem))?;
    }
    writeln!(log, ")")
}
