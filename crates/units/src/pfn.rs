//! Page frame numbers and half-open ranges of them.
//!
//! A `Pfn` is the index of a page frame in physical memory; the page size is the machine's, so conversions to
//! addresses take the page shift. Linux: pfn, PFN_PHYS, PHYS_PFN.

use core::fmt;

use crate::{Order, PhysAddr, PhysRange};

/// Number of a page frame: a physical address divided by the page size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Pfn(u64);

impl Pfn {
    /// Frame at physical address 0.
    pub const ZERO: Self = Self(0);

    /// Wraps a raw frame number.
    #[inline]
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// Returns the raw frame number.
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Returns the physical address of the frame's first byte.
    #[inline]
    pub const fn phys(self, page_shift: u32) -> PhysAddr {
        PhysAddr::new(self.0 << page_shift)
    }

    /// Returns the frame `nr_pages` above this one; wraps at 2^64 like the address space does.
    #[inline]
    pub const fn add(self, nr_pages: u64) -> Self {
        Self(self.0.wrapping_add(nr_pages))
    }

    /// Returns the frame `nr_pages` below this one, or frame 0 if there is none.
    #[inline]
    pub const fn saturating_sub(self, nr_pages: u64) -> Self {
        Self(self.0.saturating_sub(nr_pages))
    }

    /// Returns how many frames lie between `origin` and this one; 0 if `origin` is above.
    #[inline]
    pub const fn since(self, origin: Self) -> u64 {
        self.0.saturating_sub(origin.0)
    }

    /// Returns true if a block of `order` may start here.
    #[inline]
    pub const fn is_aligned(self, order: Order) -> bool {
        self.0 & (order.nr_pages() - 1) == 0
    }

    /// Rounds down to a multiple of `nr_pages`, which must be a power of two.
    #[inline]
    pub const fn align_down(self, nr_pages: u64) -> Self {
        debug_assert!(nr_pages.is_power_of_two());
        Self(self.0 & !(nr_pages - 1))
    }

    /// Rounds up to a multiple of `nr_pages`, which must be a power of two.
    #[inline]
    pub const fn align_up(self, nr_pages: u64) -> Self {
        debug_assert!(nr_pages.is_power_of_two());
        Self(self.0.wrapping_add(nr_pages - 1) & !(nr_pages - 1))
    }

    /// Returns the other half of the block of order `order + 1` that contains the block here.
    ///
    /// Linux: `__find_buddy_pfn`. Flipping bit `order` is its own inverse, so buddies name each other.
    #[inline]
    pub const fn buddy(self, order: Order) -> Self {
        Self(self.0 ^ order.nr_pages())
    }

    /// Returns the first frame of the block of order `order + 1` that contains the block here.
    #[inline]
    pub const fn merged(self, order: Order) -> Self {
        Self(self.0 & !order.nr_pages())
    }

    /// Returns the largest order at which a block may start here, at most `limit`.
    #[inline]
    pub const fn alignment(self, limit: Order) -> Order {
        let zeros = self.0.trailing_zeros();
        if zeros >= limit.raw() as u32 { limit } else { Order::new_truncate(zeros as u8) }
    }
}

impl fmt::Debug for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pfn:{:#x}", self.0)
    }
}

impl fmt::LowerHex for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// Half-open range of frames `[start, end)`; empty if `end <= start`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PfnRange {
    /// First frame.
    pub start: Pfn,
    /// Frame after the last one.
    pub end: Pfn,
}

impl PfnRange {
    /// Makes the range `[start, end)`.
    #[inline]
    pub const fn new(start: Pfn, end: Pfn) -> Self {
        Self { start, end }
    }

    /// Makes the range of `nr_pages` frames from `start`.
    #[inline]
    pub const fn with_len(start: Pfn, nr_pages: u64) -> Self {
        Self { start, end: start.add(nr_pages) }
    }

    /// Returns the number of frames.
    #[inline]
    pub const fn nr_pages(self) -> u64 {
        self.end.since(self.start)
    }

    /// Returns true if the range holds no frame.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.end.raw() <= self.start.raw()
    }

    /// Returns true if `pfn` lies inside.
    #[inline]
    pub const fn contains(self, pfn: Pfn) -> bool {
        self.start.raw() <= pfn.raw() && pfn.raw() < self.end.raw()
    }

    /// Returns the part that both ranges share; empty if they do not overlap.
    #[inline]
    pub const fn intersection(self, other: Self) -> Self {
        let start = if self.start.raw() > other.start.raw() { self.start } else { other.start };
        let end = if self.end.raw() < other.end.raw() { self.end } else { other.end };
        Self { start, end: if end.raw() < start.raw() { start } else { end } }
    }

    /// Returns the byte range that the frames cover.
    #[inline]
    pub const fn phys(self, page_shift: u32) -> PhysRange {
        PhysRange::new(self.start.phys(page_shift), self.end.phys(page_shift))
    }

    /// Iterates over the frames in ascending order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Pfn> + use<> {
        (self.start.raw()..self.end.raw()).map(Pfn::new)
    }
}

impl fmt::Debug for PfnRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[pfn {:#x}, {:#x})", self.start.raw(), self.end.raw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buddies_name_each_other_and_merge_to_the_lower() {
        let order = Order::new_truncate(3);
        let pfn = Pfn::new(0x18);
        assert_eq!(pfn.buddy(order), Pfn::new(0x10));
        assert_eq!(pfn.buddy(order).buddy(order), pfn);
        assert_eq!(pfn.merged(order), Pfn::new(0x10));
    }

    #[test]
    fn alignment_is_capped_and_frame_zero_fits_every_order() {
        let limit = Order::new_truncate(10);
        assert_eq!(Pfn::ZERO.alignment(limit), limit);
        assert_eq!(Pfn::new(0x30).alignment(limit).raw(), 4);
        assert_eq!(Pfn::new(1 << 20).alignment(limit), limit);
    }

    #[test]
    fn disjoint_ranges_intersect_in_nothing() {
        let low = PfnRange::with_len(Pfn::new(0), 4);
        let high = PfnRange::with_len(Pfn::new(8), 4);
        assert!(low.intersection(high).is_empty());
        assert_eq!(low.intersection(high).nr_pages(), 0);
    }
}
