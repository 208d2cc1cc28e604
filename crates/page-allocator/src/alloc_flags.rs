//! How hard one attempt of an allocation tries.
//!
//! Linux 6.12: ALLOC_ flags of mm/internal.h, `gfp_to_alloc_flags`, `alloc_flags_nofragment`.

use units::{Gfp, Order};

use crate::zone::Watermark;

bitflags::bitflags! {
    /// Flags of one attempt.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct AllocFlags: u16 {
        /// The low watermark must hold (without a mark flag: the min watermark).
        const WMARK_LOW = 1 << 0;
        /// The high watermark must hold.
        const WMARK_HIGH = 1 << 1;
        /// No watermark must hold.
        const NO_WATERMARKS = 1 << 2;
        /// Part of the reserves for a task that is being killed.
        const OOM = 1 << 3;
        /// The caller cannot wait: a quarter more of the reserves.
        const NON_BLOCK = 1 << 4;
        /// Half of the min reserve (GFP HIGH).
        const MIN_RESERVE = 1 << 5;
        /// The cpuset must allow the node.
        const CPUSET = 1 << 6;
        /// CMA memory is acceptable.
        const CMA = 1 << 7;
        /// Types must not mix below the pageblock size.
        const NOFRAGMENT = 1 << 8;
        /// HighAtomic reserves are acceptable.
        const HIGHATOMIC = 1 << 9;
        /// kswapd may be woken.
        const KSWAPD = 1 << 11;
        /// Any access to reserves.
        const RESERVES = Self::NON_BLOCK.bits() | Self::MIN_RESERVE.bits() | Self::OOM.bits();
    }
}

impl AllocFlags {
    /// Flags of the first attempt, before any reclaim.
    pub const FAST: Self = Self::WMARK_LOW;

    /// Returns the watermark that must hold.
    #[inline]
    pub const fn watermark(self) -> Watermark {
        if self.contains(Self::WMARK_HIGH) {
            Watermark::High
        } else if self.contains(Self::WMARK_LOW) {
            Watermark::Low
        } else {
            Watermark::Min
        }
    }

    /// Adds CMA for movable memory (Linux: gfp_to_alloc_flags_cma).
    #[inline]
    #[must_use]
    pub const fn with_cma_for(self, gfp: Gfp) -> Self {
        if gfp.contains(Gfp::MOVABLE) { self.union(Self::CMA) } else { self }
    }

    /// Derives the flags of the slow path.
    pub const fn slow(gfp: Gfp, order: Order) -> Self {
        let mut flags = Self::CPUSET;
        if gfp.contains(Gfp::HIGH) {
            flags = flags.union(Self::MIN_RESERVE);
        }
        if gfp.contains(Gfp::KSWAPD_RECLAIM) {
            flags = flags.union(Self::KSWAPD);
        }
        if !gfp.contains(Gfp::DIRECT_RECLAIM) {
            if !gfp.contains(Gfp::NOMEMALLOC) {
                flags = flags.union(Self::NON_BLOCK);
                // Whoever merely does not wait must not use up what is kept for those who cannot.
                if order.raw() > 0 && flags.contains(Self::MIN_RESERVE) {
                    flags = flags.union(Self::HIGHATOMIC);
                }
            }
            // An atomic allocation that may use reserves is worth more than the cpuset's borders.
            if flags.contains(Self::MIN_RESERVE) {
                flags = flags.difference(Self::CPUSET);
            }
        }
        flags.with_cma_for(gfp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atomic_allocations_get_reserves_and_leave_the_cpuset() {
        let flags = AllocFlags::slow(Gfp::ATOMIC, Order::ZERO);
        assert_eq!(flags, AllocFlags::MIN_RESERVE | AllocFlags::NON_BLOCK | AllocFlags::KSWAPD);
        let flags = AllocFlags::slow(Gfp::ATOMIC, Order::new_truncate(1));
        assert!(flags.contains(AllocFlags::HIGHATOMIC));
    }

    #[test]
    fn ordinary_kernel_memory_keeps_the_min_watermark() {
        let flags = AllocFlags::slow(Gfp::KERNEL, Order::ZERO);
        assert_eq!(flags, AllocFlags::CPUSET | AllocFlags::KSWAPD);
        assert_eq!(flags.watermark(), Watermark::Min);
    }

    #[test]
    fn a_request_without_high_gets_no_highatomic_reserve() {
        let flags = AllocFlags::slow(Gfp::NOWAIT, Order::new_truncate(1));
        assert_eq!(flags & AllocFlags::RESERVES, AllocFlags::NON_BLOCK);
        assert!(!flags.contains(AllocFlags::HIGHATOMIC));
    }

    #[test]
    fn nomemalloc_keeps_an_atomic_caller_out_of_the_reserves() {
        let flags = AllocFlags::slow(Gfp::NOWAIT | Gfp::NOMEMALLOC, Order::new_truncate(1));
        assert!(!flags.intersects(AllocFlags::RESERVES | AllocFlags::HIGHATOMIC));
    }
}
