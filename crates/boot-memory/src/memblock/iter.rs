//! Walks over memory, free memory and reserved ranges.
//!
//! Linux 6.12: mm/memblock.c (`__next_mem_range`, `__next_mem_range_rev`, `__next_mem_pfn_range`, `should_skip_region`).

use core::slice;

use units::{NodeId, PfnRange, PhysAddr, PhysRange};

use super::region::{Region, RegionFlags};
use super::{HotplugPolicy, ListKind, Memblock, NodeTracking};

/// Free bytes and the node of the memory they lie in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FreeRange {
    /// The bytes.
    pub range: PhysRange,
    /// The node of the memory region; `None` if unknown.
    pub node: Option<NodeId>,
}

/// Which memory regions a walk visits.
#[derive(Clone, Copy, Debug)]
pub(super) struct RegionFilter {
    node: Option<NodeId>,
    flags: RegionFlags,
    hotplug: HotplugPolicy,
}

impl RegionFilter {
    #[inline]
    pub(super) fn skips(&self, region: &Region) -> bool {
        if self.node.is_some() && region.node != self.node {
            return true;
        }
        if region.flags == self.flags {
            return false;
        }
        let unasked = region.flags.difference(self.flags);
        (self.hotplug == HotplugPolicy::Avoid && unasked.contains(RegionFlags::HOTPLUG))
            || unasked.intersects(RegionFlags::NOMAP.union(RegionFlags::DRIVER_MANAGED))
            || (self.flags.contains(RegionFlags::MIRROR) && !region.flags.contains(RegionFlags::MIRROR))
    }
}

/// Free ranges in ascending order; what memory covers and no reservation does.
#[derive(Clone, Debug)]
pub struct FreeRanges<'a> {
    memory: &'a [Region],
    reserved: &'a [Region],
    filter: RegionFilter,
    at: PhysAddr,
    end: PhysAddr,
}

impl Iterator for FreeRanges<'_> {
    type Item = FreeRange;

    #[inline]
    fn next(&mut self) -> Option<FreeRange> {
        while let Some((region, more_memory)) = self.memory.split_first() {
            let start = self.at.max(region.base);
            let end = region.end().min(self.end);
            if start >= self.end {
                return None;
            }
            if start >= end || self.filter.skips(region) {
                self.memory = more_memory;
                continue;
            }
            match self.reserved.split_first() {
                Some((taken, more_reserved)) if taken.base <= start => {
                    self.at = start.max(taken.end());
                    self.reserved = more_reserved;
                }
                first => {
                    let end = first.map_or(end, |(taken, _)| taken.base.min(end));
                    self.at = end;
                    return Some(FreeRange { range: PhysRange::new(start, end), node: region.node });
                }
            }
        }
        None
    }
}

/// Free ranges in descending order.
#[derive(Clone, Debug)]
pub struct FreeRangesReverse<'a> {
    memory: &'a [Region],
    reserved: &'a [Region],
    filter: RegionFilter,
    at: PhysAddr,
}

impl Iterator for FreeRangesReverse<'_> {
    type Item = FreeRange;

    fn next(&mut self) -> Option<FreeRange> {
        while let Some((region, more_memory)) = self.memory.split_last() {
            let start = region.base;
            let end = self.at.min(region.end());
            if start >= end || self.filter.skips(region) {
                self.memory = more_memory;
                continue;
            }
            match self.reserved.split_last() {
                Some((taken, more_reserved)) if taken.end() >= end => {
                    self.at = end.min(taken.base);
                    self.reserved = more_reserved;
                }
                last => {
                    let start = last.map_or(start, |(taken, _)| taken.end().max(start));
                    self.at = start;
                    return Some(FreeRange { range: PhysRange::new(start, end), node: region.node });
                }
            }
        }
        None
    }
}

/// Whole frames of memory with their nodes, in ascending order (Linux: for_each_mem_pfn_range).
#[derive(Clone, Debug)]
pub struct MemPfnRanges<'a> {
    regions: slice::Iter<'a, Region>,
    node: Option<NodeId>,
    page_shift: u32,
}

impl Iterator for MemPfnRanges<'_> {
    type Item = (PfnRange, Option<NodeId>);

    fn next(&mut self) -> Option<Self::Item> {
        self.regions.by_ref().find_map(|region| {
            let frames = region.range().whole_frames(self.page_shift);
            let wanted = self.node.is_none() || region.node == self.node;
            (wanted && !frames.is_empty()).then_some((frames, region.node))
        })
    }
}

impl Memblock {
    /// Returns the regions of memory (Linux: for_each_mem_region).
    pub fn memory(&self) -> &[Region] {
        self.memory.regions()
    }

    /// Returns the reserved regions with their flags (Linux: for_each_reserved_mem_region).
    pub fn reserved(&self) -> &[Region] {
        self.reserved.regions()
    }

    /// Iterates over the whole frames of memory on `node`, or on every node (Linux: for_each_mem_pfn_range).
    pub fn mem_pfn_ranges(&self, node: Option<NodeId>) -> MemPfnRanges<'_> {
        MemPfnRanges {
            regions: self.memory().iter(),
            node: self.searched_node(node),
            page_shift: self.config.page_shift,
        }
    }

    /// Iterates upwards over free memory on `node`, or on every node (Linux: for_each_free_mem_range).
    ///
    /// Memory that is not mapped or that a driver manages is left out unless `flags` ask for it; `RegionFlags::MIRROR` leaves
    /// out what is not mirrored.
    pub fn free_mem_ranges(&self, node: Option<NodeId>, flags: RegionFlags) -> FreeRanges<'_> {
        self.free_within(PhysRange::new(PhysAddr::ZERO, PhysAddr::new(u64::MAX)), node, flags)
    }

    /// Iterates downwards over free memory (Linux: for_each_free_mem_range_reverse).
    pub fn free_mem_ranges_reverse(&self, node: Option<NodeId>, flags: RegionFlags) -> FreeRangesReverse<'_> {
        FreeRangesReverse {
            memory: self.memory(),
            reserved: self.reserved(),
            filter: self.filter(node, flags),
            at: PhysAddr::new(u64::MAX),
        }
    }

    /// Iterates upwards over the free parts of `bounds`.
    pub(super) fn free_within(&self, bounds: PhysRange, node: Option<NodeId>, flags: RegionFlags) -> FreeRanges<'_> {
        FreeRanges {
            memory: &self.memory()[self.list(ListKind::Memory).first_ending_above(bounds.start)..],
            reserved: &self.reserved()[self.list(ListKind::Reserved).first_ending_above(bounds.start)..],
            filter: self.filter(node, flags),
            at: bounds.start,
            end: bounds.end,
        }
    }

    pub(super) fn filter(&self, node: Option<NodeId>, flags: RegionFlags) -> RegionFilter {
        RegionFilter { node: self.searched_node(node), flags, hotplug: self.config.hotplug }
    }

    /// Without node tracking regions carry none, so a search for a node must not compare it.
    fn searched_node(&self, node: Option<NodeId>) -> Option<NodeId> {
        match self.config.nodes {
            NodeTracking::Numa => node,
            NodeTracking::Flat => None,
        }
    }
}
