//! Where ZONE_MOVABLE starts on each node, from kernelcore=, movablecore= and movable_node.
//!
//! Linux 6.12: mm/mm_init.c (`find_zone_movable_pfns_for_nodes`, `cmdline_parse_core`).

use boot_memory::firmware::{BootOptions, CoreSize};
use units::{MAX_NODES, NodeId, Pfn, PhysAddr, ZoneType};

use super::memory_range::{MemoryKind, MemoryRanges, node_span, nodes_with_memory, total_pages};
use super::zone_limits::ZoneLimits;
use crate::geometry::Geometry;

/// What the command line asks of ZONE_MOVABLE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MovableRule {
    /// kernelcore= and movablecore=: the larger kernel part wins. [`CoreSize::Mirror`] counts as not given.
    Sizes {
        /// Memory that stays usable for the kernel.
        kernelcore: Option<CoreSize>,
        /// Memory that becomes movable only.
        movablecore: Option<CoreSize>,
    },
    /// kernelcore=mirror: all memory that the hardware does not mirror.
    Mirror,
    /// movable_node: all memory that can be unplugged.
    HotPluggable,
}

impl MovableRule {
    /// No option was given.
    pub const NONE: Self = Self::Sizes { kernelcore: None, movablecore: None };
}

impl From<&BootOptions<'_>> for MovableRule {
    /// Chooses the rule: movable_node wins over kernelcore=mirror, and that over sizes.
    fn from(options: &BootOptions<'_>) -> Self {
        match options.kernelcore {
            _ if options.movable_node => Self::HotPluggable,
            Some(CoreSize::Mirror) => Self::Mirror,
            kernelcore => Self::Sizes { kernelcore, movablecore: options.movablecore },
        }
    }
}

/// Returns the pages of `total` that `size` asks for; 0 if it was not given.
fn resolve(size: Option<CoreSize>, total: u64, page_shift: u32) -> u64 {
    match size {
        Some(CoreSize::Bytes(bytes)) => bytes >> page_shift,
        Some(CoreSize::Percent(percent)) => total.saturating_mul(100).saturating_mul(u64::from(percent)) / 10_000,
        Some(CoreSize::Mirror) | None => 0,
    }
}

/// First frame of ZONE_MOVABLE on each node, if it has one (Linux: zone_movable_pfn).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MovableStarts {
    /// 0 means none: a movable zone cannot hold frame 0, which the kernel keeps.
    starts: [Pfn; MAX_NODES],
    rule: MovableRule,
}

/// Memory below this is always the kernel's under kernelcore=mirror.
const MIRROR_KEEP_END: PhysAddr = PhysAddr::new(4 << 30);

impl MovableStarts {
    /// No node has a ZONE_MOVABLE.
    pub const NONE: Self = Self { starts: [Pfn::ZERO; MAX_NODES], rule: MovableRule::NONE };

    /// Computes the starts for `memory` under `rule`.
    ///
    /// Every start is rounded up to the largest buddy block.
    pub fn compute<M: MemoryRanges>(memory: M, limits: &ZoneLimits, rule: MovableRule, geometry: Geometry) -> Self {
        let mut found = Self { rule, ..Self::NONE };
        match rule {
            MovableRule::Sizes { kernelcore, movablecore } => {
                let total = total_pages(memory.clone());
                let kernelcore = resolve(kernelcore, total, geometry.page_shift);
                let movablecore = resolve(movablecore, total, geometry.page_shift);
                let Some(core) = core_pages(total, kernelcore, movablecore, geometry) else { return found };
                let Some(source) = limits.movable_source() else { return found };
                found.spread(memory.clone(), limits, source, core);
            }
            MovableRule::HotPluggable => {
                found.lowest_of(memory.clone().filter(|range| range.kind == MemoryKind::HotPluggable));
            }
            MovableRule::Mirror => {
                if !memory.clone().any(|range| range.kind == MemoryKind::Mirrored) {
                    return found;
                }
                let keep_end = MIRROR_KEEP_END.pfn_down(geometry.page_shift);
                found.lowest_of(
                    memory.clone().filter(|range| range.kind != MemoryKind::Mirrored && range.frames.start >= keep_end),
                );
            }
        }
        found.round_up(memory, geometry);
        found
    }

    /// Says what kernelcore=mirror cannot do for `memory`, in the kernel log's words; `None` if it does what it says.
    pub fn mirror_warning(memory: impl MemoryRanges, rule: MovableRule, page_shift: u32) -> Option<&'static str> {
        if rule != MovableRule::Mirror {
            return None;
        }
        let keep_end = MIRROR_KEEP_END.pfn_down(page_shift);
        if !memory.clone().any(|range| range.kind == MemoryKind::Mirrored) {
            return Some("The system has no mirror memory, ignore kernelcore=mirror.");
        }
        let low = memory.clone().any(|range| range.kind != MemoryKind::Mirrored && range.frames.start < keep_end);
        low.then_some("This configuration results in unmirrored kernel memory.")
    }

    /// Returns the first frame of ZONE_MOVABLE on `node`, or `None` if the node has no such zone.
    pub fn start(&self, node: NodeId) -> Option<Pfn> {
        let start = self.starts[node.index()];
        (start != Pfn::ZERO).then_some(start)
    }

    /// Returns the rule that the starts came from.
    pub const fn rule(&self) -> MovableRule {
        self.rule
    }

    /// Starts each node's zone at its lowest range in `ranges`.
    fn lowest_of(&mut self, ranges: impl MemoryRanges) {
        for range in ranges {
            let start = &mut self.starts[range.node.index()];
            *start = if *start == Pfn::ZERO { range.frames.start } else { range.frames.start.min(*start) };
        }
    }

    /// Gives each node an equal share of `core` kernel pages; what a small node cannot take is shared again by the rest.
    fn spread<M: MemoryRanges>(&mut self, memory: M, limits: &ZoneLimits, source: ZoneType, mut core: u64) {
        let usable_start = limits.range(source).start;
        let nodes = nodes_with_memory(memory.clone());
        let mut usable_nodes = u64::from(nodes.len());
        while usable_nodes > 0 {
            let mut share = core / usable_nodes;
            for node in nodes.iter() {
                if core < share {
                    share = core / usable_nodes;
                }
                self.fill_node(memory.clone().filter(|range| range.node == node), usable_start, share, &mut core);
            }
            usable_nodes -= 1;
            if core <= usable_nodes {
                return;
            }
        }
    }

    /// Moves one node's start up over `share` pages, those below `usable_start` for nothing; takes them off `core`.
    fn fill_node(&mut self, ranges: impl MemoryRanges, usable_start: Pfn, share: u64, core: &mut u64) {
        let mut remaining = share;
        for range in ranges {
            let movable = &mut self.starts[range.node.index()];
            let end = range.frames.end;
            let mut start = range.frames.start.max(*movable);
            if start >= end {
                continue;
            }
            if start < usable_start {
                let kernel_pages = end.min(usable_start).since(start);
                remaining = remaining.saturating_sub(kernel_pages);
                *core = core.saturating_sub(kernel_pages);
                if end <= usable_start {
                    // Left behind the range, so that a later round does not count it twice.
                    *movable = end;
                    continue;
                }
                start = usable_start;
            }
            let taken = end.since(start).min(remaining);
            *movable = start.add(taken);
            *core = core.saturating_sub(taken);
            remaining -= taken;
            if remaining == 0 {
                break;
            }
        }
    }

    /// Rounds up to whole blocks and drops starts at or above the end of their node.
    fn round_up(&mut self, memory: impl MemoryRanges, geometry: Geometry) {
        for (index, start) in self.starts.iter_mut().enumerate() {
            *start = start.align_up(geometry.max_order.nr_pages());
            let end = NodeId::try_new(index as u64)
                .and_then(|node| node_span(memory.clone(), node))
                .map_or(Pfn::ZERO, |span| span.end);
            if *start >= end {
                *start = Pfn::ZERO;
            }
        }
    }
}

/// Returns how many pages stay the kernel's, or `None` if no ZONE_MOVABLE is wanted or possible.
fn core_pages(total: u64, kernelcore: u64, movablecore: u64, geometry: Geometry) -> Option<u64> {
    let mut core = kernelcore;
    if movablecore != 0 {
        let movable = movablecore.checked_next_multiple_of(geometry.max_order.nr_pages()).unwrap_or(total).min(total);
        core = core.max(total - movable);
    }
    (core != 0 && core < total).then_some(core)
}
