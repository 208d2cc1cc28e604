//! Search for a free range.
//!
//! Linux 6.12: mm/memblock.c (`memblock_find_in_range_node`, `__memblock_find_range_bottom_up`,
//! `__memblock_find_range_top_down`, `memblock_find_in_range`).

use units::{NodeId, PhysAddr, PhysRange};

use super::context::BootContext;
use super::iter::RegionFilter;
use super::region::{Region, RegionFlags};
use super::{Direction, Memblock};

/// Upper bound that means the current limit (Linux: MEMBLOCK_ALLOC_ACCESSIBLE).
pub const MAX_ADDR_ACCESSIBLE: PhysAddr = PhysAddr::new(0);
/// Upper bound that means the current limit, for memory that leak tracing ignores (Linux: MEMBLOCK_ALLOC_NOLEAKTRACE).
pub const MAX_ADDR_NOLEAKTRACE: PhysAddr = PhysAddr::new(1);
/// Upper bound that means no bound (Linux: MEMBLOCK_ALLOC_ANYWHERE).
pub const MAX_ADDR_ANYWHERE: PhysAddr = PhysAddr::new(u64::MAX);

/// What a search looks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FindRequest {
    /// Bytes.
    pub size: u64,
    /// Power of two that the address is a multiple of.
    pub align: u64,
    /// Lower bound.
    pub start: PhysAddr,
    /// Upper bound: an address, [`MAX_ADDR_ACCESSIBLE`] or [`MAX_ADDR_NOLEAKTRACE`].
    pub end: PhysAddr,
    /// The only node to look at; `None` for all.
    pub node: Option<NodeId>,
    /// Kinds of memory that are wanted beside ordinary memory.
    pub flags: RegionFlags,
}

/// What searches from the top have learnt: no free range of `size` bytes starts at or above `from`.
///
/// Holds until memory changes; what is freed above `from` raises it. Linux has no such memory and scans every gap again.
///
/// # Invariants
/// A free range that begins below `from` and goes on above it is smaller than `size`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exhausted {
    size: u64,
    from: PhysAddr,
}

impl Exhausted {
    /// Nothing is known.
    pub(super) const NOTHING: Self = Self { size: u64::MAX, from: PhysAddr::new(u64::MAX) };

    /// Takes into account that a free range has grown, which ends at or below `end`.
    pub(super) fn note_free_up_to(&mut self, end: PhysAddr) {
        self.from = self.from.max(end);
    }
}

/// Outcome of a search from the top.
struct TopDown {
    found: Option<PhysAddr>,
    /// Where [`Exhausted::from`] may be set to if the search began at the top.
    exhausted_from: PhysAddr,
}

impl Memblock {
    /// Finds a free range like [`Memblock::find_in_range_node`] and remembers where looking again is useless.
    #[inline]
    pub(super) fn find_and_learn(&mut self, request: &FindRequest) -> Option<PhysAddr> {
        if self.direction != Direction::TopDown {
            return self.find_in_range_node(request);
        }
        let mut bounds = self.bounds(request);
        let known = self.exhausted.size <= request.size;
        let reaches_top = (known && bounds.end >= self.exhausted.from) || bounds.end >= self.end_of_dram();
        if known {
            bounds.end = bounds.end.min(self.exhausted.from).max(bounds.start);
        }
        let search = self.find_top_down(bounds, request);
        if reaches_top && search.exhausted_from > bounds.start {
            self.exhausted = Exhausted { size: request.size, from: search.exhausted_from };
        }
        search.found
    }

    /// Returns the addresses to look at: never the first page, and nothing above the current limit unless asked for.
    #[inline]
    fn bounds(&self, request: &FindRequest) -> PhysRange {
        let limit = match request.end {
            MAX_ADDR_ACCESSIBLE | MAX_ADDR_NOLEAKTRACE => self.current_limit,
            end => end,
        };
        let start = request.start.max(PhysAddr::new(self.page_size()));
        PhysRange::new(start, limit.max(start))
    }

    /// Finds a free range, from the top or the bottom as configured, and returns its address.
    ///
    /// Never returns the first page, so that address 0 can mean failure to callers that need it.
    pub fn find_in_range_node(&self, request: &FindRequest) -> Option<PhysAddr> {
        let bounds = self.bounds(request);
        match self.direction {
            Direction::TopDown => self.find_top_down(bounds, request).found,
            Direction::BottomUp { above: None } => self.find_bottom_up(bounds, request),
            Direction::BottomUp { above: Some(kernel_end) } => {
                let above_kernel = PhysRange::new(bounds.start.max(kernel_end), bounds.end);
                self.find_bottom_up(above_kernel, request).or_else(|| self.find_top_down(bounds, request).found)
            }
        }
    }

    /// Finds a free range on any node, in mirrored memory if the machine has some (Linux: memblock_find_in_range).
    pub fn find_in_range(
        &self,
        bounds: PhysRange,
        size: u64,
        align: u64,
        cx: &mut BootContext<'_>,
    ) -> Option<PhysAddr> {
        let flags = self.choose_flags();
        let request = FindRequest { size, align, start: bounds.start, end: bounds.end, node: None, flags };
        self.find_in_range_node(&request).or_else(|| {
            if flags.is_empty() {
                return None;
            }
            self.warn_no_mirror(size, cx);
            self.find_in_range_node(&FindRequest { flags: RegionFlags::empty(), ..request })
        })
    }

    /// Returns the kind of memory that allocations look for first (Linux: choose_memblock_flags).
    pub(super) const fn choose_flags(&self) -> RegionFlags {
        if self.has_mirror { RegionFlags::MIRROR } else { RegionFlags::empty() }
    }

    fn find_bottom_up(&self, bounds: PhysRange, request: &FindRequest) -> Option<PhysAddr> {
        self.free_within(bounds, request.node, request.flags).find_map(|free| {
            let candidate = free.range.start.align_up(request.align);
            let rounded_past_end = candidate < free.range.start || candidate >= free.range.end;
            (!rounded_past_end && free.range.end.since(candidate) >= request.size).then_some(candidate)
        })
    }

    #[inline]
    fn find_top_down(&self, bounds: PhysRange, request: &FindRequest) -> TopDown {
        let filter = self.filter(request.node, request.flags);
        let memory = &self.memory()[..self.memory.first_starting_at(bounds.end)];
        let reserved = &self.reserved()[..self.reserved.first_starting_at(bounds.end)];
        GapScan { reserved, request, exhausted_from: None }.run(memory, bounds, &filter)
    }
}

/// Walk down the gaps between reserved regions.
struct GapScan<'a> {
    /// Reserved regions that were not passed yet.
    reserved: &'a [Region],
    request: &'a FindRequest,
    /// Set once a range was seen that has the size, or may have it beyond the bounds.
    exhausted_from: Option<PhysAddr>,
}

impl GapScan<'_> {
    #[inline]
    fn run(mut self, memory: &[Region], bounds: PhysRange, filter: &RegionFilter) -> TopDown {
        for region in memory.iter().rev().take_while(|region| region.end() > bounds.start) {
            let part = region.range().intersection(bounds);
            if filter.skips(region) {
                self.exhausted_from.get_or_insert(part.end);
                continue;
            }
            let found = self.scan(part);
            if found.is_some() || part.start > region.base {
                return TopDown { found, exhausted_from: self.exhausted_from.unwrap_or(part.end) };
            }
        }
        TopDown { found: None, exhausted_from: self.exhausted_from.unwrap_or(bounds.start) }
    }

    /// Looks at the gaps of one memory region, highest first. A reserved region that reaches below it stays for the next.
    #[inline]
    fn scan(&mut self, part: PhysRange) -> Option<PhysAddr> {
        let mut upper = part.end;
        while let Some((taken, below)) = self.reserved.split_last()
            && taken.end() > part.start
        {
            let gap = upper.since(taken.end());
            if gap >= self.request.size
                && gap > 0
                && let Some(found) = self.fit(PhysRange::new(taken.end(), upper))
            {
                return Some(found);
            }
            upper = upper.min(taken.base);
            if taken.base <= part.start {
                return None;
            }
            self.reserved = below;
        }
        if upper.since(part.start) >= self.request.size { self.fit(PhysRange::new(part.start, upper)) } else { None }
    }

    /// Returns the highest aligned place in a gap that is large enough before alignment.
    #[inline]
    fn fit(&mut self, gap: PhysRange) -> Option<PhysAddr> {
        self.exhausted_from.get_or_insert(gap.end);
        let highest = PhysAddr::new(gap.end.since(PhysAddr::new(self.request.size)));
        let candidate = highest.align_down(self.request.align);
        (candidate >= gap.start).then_some(candidate)
    }
}
