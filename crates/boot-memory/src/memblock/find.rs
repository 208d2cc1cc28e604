//! Search for a free range.
//!
//! Linux 6.12: mm/memblock.c (`memblock_find_in_range_node`, `__memblock_find_range_bottom_up`,
//! `__memblock_find_range_top_down`, `memblock_find_in_range`).

use units::{NodeId, PhysAddr, PhysRange};

use super::context::BootContext;
use super::region::RegionFlags;
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

impl Memblock {
    /// Finds a free range, from the top or the bottom as configured, and returns its address.
    ///
    /// Never returns the first page, so that address 0 can mean failure to callers that need it.
    pub fn find_in_range_node(&self, request: &FindRequest) -> Option<PhysAddr> {
        let limit = match request.end {
            MAX_ADDR_ACCESSIBLE | MAX_ADDR_NOLEAKTRACE => self.current_limit,
            end => end,
        };
        let start = request.start.max(PhysAddr::new(self.page_size()));
        let bounds = PhysRange::new(start, limit.max(start));
        match self.direction {
            Direction::TopDown => self.find_top_down(bounds, request),
            Direction::BottomUp { above: None } => self.find_bottom_up(bounds, request),
            Direction::BottomUp { above: Some(kernel_end) } => {
                let above_kernel = PhysRange::new(bounds.start.max(kernel_end), bounds.end);
                self.find_bottom_up(above_kernel, request).or_else(|| self.find_top_down(bounds, request))
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

    fn find_top_down(&self, bounds: PhysRange, request: &FindRequest) -> Option<PhysAddr> {
        self.free_within_reverse(bounds, request.node, request.flags).find_map(|free| {
            if free.range.len() < request.size {
                return None;
            }
            let highest = PhysAddr::new(free.range.end.since(PhysAddr::new(request.size)));
            let candidate = highest.align_down(request.align);
            (candidate >= free.range.start).then_some(candidate)
        })
    }
}
