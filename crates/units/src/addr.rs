//! Physical and virtual byte addresses and ranges of them.
//!
//! Linux: phys_addr_t, unsigned long addresses; PFN_UP, PFN_DOWN.

use core::fmt;

use crate::{Pfn, PfnRange};

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Address 0.
            pub const ZERO: Self = Self(0);

            /// Wraps a raw address.
            #[inline]
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }

            /// Returns the raw address.
            #[inline]
            pub const fn raw(self) -> u64 {
                self.0
            }

            /// Returns the address `bytes` above, or the highest address if that would wrap.
            #[inline]
            pub const fn saturating_add(self, bytes: u64) -> Self {
                Self(self.0.saturating_add(bytes))
            }

            /// Returns the address `bytes` above, or `None` if that would wrap.
            #[inline]
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(raw) => Some(Self(raw)),
                    None => None,
                }
            }

            /// Returns the bytes between `origin` and this address; 0 if `origin` is above.
            #[inline]
            pub const fn since(self, origin: Self) -> u64 {
                self.0.saturating_sub(origin.0)
            }

            /// Rounds down to a multiple of `align`, a power of two.
            #[inline]
            pub const fn align_down(self, align: u64) -> Self {
                debug_assert!(align.is_power_of_two());
                Self(self.0 & !(align - 1))
            }

            /// Rounds up to a multiple of `align`, a power of two; wraps to 0 above the last multiple.
            #[inline]
            pub const fn align_up(self, align: u64) -> Self {
                debug_assert!(align.is_power_of_two());
                Self(self.0.wrapping_add(align - 1) & !(align - 1))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

address! {
    /// Physical byte address.
    PhysAddr
}

address! {
    /// Virtual byte address, kernel or user.
    VirtAddr
}

impl PhysAddr {
    /// Returns the frame that holds this byte.
    #[inline]
    pub const fn pfn_down(self, page_shift: u32) -> Pfn {
        Pfn::new(self.0 >> page_shift)
    }

    /// Returns the first frame that starts at or above this byte.
    #[inline]
    pub const fn pfn_up(self, page_shift: u32) -> Pfn {
        Pfn::new((self.0 >> page_shift) + ((self.0 & ((1 << page_shift) - 1)) != 0) as u64)
    }
}

macro_rules! range {
    ($(#[$doc:meta])* $name:ident of $address:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $name {
            /// First byte.
            pub start: $address,
            /// Byte after the last one.
            pub end: $address,
        }

        impl $name {
            /// Makes the range `[start, end)`.
            #[inline]
            pub const fn new(start: $address, end: $address) -> Self {
                Self { start, end }
            }

            /// Makes the range of `bytes` from `start`, cut at the highest address.
            #[inline]
            pub const fn with_len(start: $address, bytes: u64) -> Self {
                Self { start, end: start.saturating_add(bytes) }
            }

            /// Returns the number of bytes.
            #[inline]
            pub const fn len(self) -> u64 {
                self.end.since(self.start)
            }

            /// Returns true if the range holds no byte.
            #[inline]
            pub const fn is_empty(self) -> bool {
                self.end.raw() <= self.start.raw()
            }

            /// Returns true if `addr` lies inside.
            #[inline]
            pub const fn contains(self, addr: $address) -> bool {
                self.start.raw() <= addr.raw() && addr.raw() < self.end.raw()
            }

            /// Returns true if the ranges share a byte.
            #[inline]
            pub const fn overlaps(self, other: Self) -> bool {
                !self.intersection(other).is_empty()
            }

            /// Returns the part that both ranges share; empty if they do not overlap.
            #[inline]
            pub const fn intersection(self, other: Self) -> Self {
                let start = if self.start.raw() > other.start.raw() { self.start } else { other.start };
                let end = if self.end.raw() < other.end.raw() { self.end } else { other.end };
                Self { start, end: if end.raw() < start.raw() { start } else { end } }
            }

            /// Returns the smallest range that holds both; an empty one counts for nothing.
            #[inline]
            #[must_use]
            pub const fn joined(self, other: Self) -> Self {
                if self.is_empty() {
                    return other;
                }
                if other.is_empty() {
                    return self;
                }
                let start = if self.start.raw() < other.start.raw() { self.start } else { other.start };
                let end = if self.end.raw() > other.end.raw() { self.end } else { other.end };
                Self { start, end }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "[{:#x}, {:#x})", self.start.raw(), self.end.raw())
            }
        }
    };
}

range! {
    /// Half-open range of physical bytes `[start, end)`; empty if `end <= start`.
    PhysRange of PhysAddr
}

range! {
    /// Half-open range of virtual bytes `[start, end)`, kernel or user; empty if `end <= start`.
    VirtRange of VirtAddr
}

impl PhysRange {
    /// Returns the frames that lie wholly inside.
    #[inline]
    pub const fn whole_frames(self, page_shift: u32) -> PfnRange {
        PfnRange::new(self.start.pfn_up(page_shift), self.end.pfn_down(page_shift))
    }

    /// Returns the frames that hold at least one byte of the range.
    #[inline]
    pub const fn touched_frames(self, page_shift: u32) -> PfnRange {
        PfnRange::new(self.start.pfn_down(page_shift), self.end.pfn_up(page_shift))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_pages_are_touched_but_not_whole() {
        let range = PhysRange::new(PhysAddr::new(0x1800), PhysAddr::new(0x3800));
        assert_eq!(range.whole_frames(12), PfnRange::new(Pfn::new(2), Pfn::new(3)));
        assert_eq!(range.touched_frames(12), PfnRange::new(Pfn::new(1), Pfn::new(4)));
    }

    #[test]
    fn the_highest_address_rounds_up_to_a_frame_without_wrapping() {
        assert_eq!(PhysAddr::new(u64::MAX).pfn_up(12).raw(), 1 << 52);
    }

    #[test]
    fn an_empty_range_adds_nothing_to_a_joined_one() {
        let range = |start, end| VirtRange::new(VirtAddr::new(start), VirtAddr::new(end));
        assert_eq!(range(0x4000, 0x6000).joined(range(0x1000, 0x2000)), range(0x1000, 0x6000));
        assert_eq!(VirtRange::default().joined(range(0x1000, 0x2000)), range(0x1000, 0x2000));
    }
}
