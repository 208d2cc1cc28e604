//! Allocation flags: what kind of memory is wanted and how far the allocator may go to get it.
//!
//! Bit positions are those of Linux 6.12, so that masks in recorded traces and logs read without translation.
//! Linux 6.12: include/linux/gfp_types.h.

use crate::MigrateType;

bitflags::bitflags! {
    /// Allocation flags (Linux: gfp_t).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Gfp: u32 {
        /// Memory of the DMA zone.
        const DMA = 1 << 0;
        /// HighMem is acceptable.
        const HIGHMEM = 1 << 1;
        /// Memory of the DMA32 zone.
        const DMA32 = 1 << 2;
        /// The contents can be moved; ZONE_MOVABLE is acceptable together with HIGHMEM.
        const MOVABLE = 1 << 3;
        /// The contents can be given up through a shrinker.
        const RECLAIMABLE = 1 << 4;
        /// High priority: may go below the min watermark.
        const HIGH = 1 << 5;
        /// May start physical I/O.
        const IO = 1 << 6;
        /// May call into a file system.
        const FS = 1 << 7;
        /// Zeroed contents.
        const ZERO = 1 << 8;
        /// May reclaim memory itself.
        const DIRECT_RECLAIM = 1 << 10;
        /// May wake kswapd.
        const KSWAPD_RECLAIM = 1 << 11;
        /// The caller will dirty the page: spread over nodes by dirty limits.
        const WRITE = 1 << 12;
        /// No report if the allocation fails.
        const NOWARN = 1 << 13;
        /// Tries hard, but may fail.
        const RETRY_MAYFAIL = 1 << 14;
        /// Never fails.
        const NOFAIL = 1 << 15;
        /// Gives up after one try of reclaim.
        const NORETRY = 1 << 16;
        /// May use all memory, the reserves included.
        const MEMALLOC = 1 << 17;
        /// Builds a compound page.
        const COMP = 1 << 18;
        /// Keeps out of the reserves; wins over MEMALLOC.
        const NOMEMALLOC = 1 << 19;
        /// Enforces the cpuset.
        const HARDWALL = 1 << 20;
        /// Only the given node.
        const THISNODE = 1 << 21;
        /// Charged to the memory cgroup.
        const ACCOUNT = 1 << 22;
        /// Zeroes memory tags too.
        const ZEROTAGS = 1 << 23;
        /// No object extension is allocated for the slab.
        const NO_OBJ_EXT = 1 << 24;

        /// Both kinds of reclaim.
        const RECLAIM = Self::DIRECT_RECLAIM.bits() | Self::KSWAPD_RECLAIM.bits();
        /// Atomic context, with access to part of the reserves.
        const ATOMIC = Self::HIGH.bits() | Self::KSWAPD_RECLAIM.bits();
        /// Ordinary kernel memory.
        const KERNEL = Self::RECLAIM.bits() | Self::IO.bits() | Self::FS.bits();
        /// Kernel memory that is charged to a cgroup.
        const KERNEL_ACCOUNT = Self::KERNEL.bits() | Self::ACCOUNT.bits();
        /// Atomic context without reserves.
        const NOWAIT = Self::KSWAPD_RECLAIM.bits() | Self::NOWARN.bits();
        /// Reclaim without starting I/O.
        const NOIO = Self::RECLAIM.bits();
        /// Reclaim without calling into file systems.
        const NOFS = Self::RECLAIM.bits() | Self::IO.bits();
        /// Memory for user space that the kernel also uses.
        const USER = Self::KERNEL.bits() | Self::HARDWALL.bits();
        /// Memory for user space that need not be mapped by the kernel.
        const HIGHUSER = Self::USER.bits() | Self::HIGHMEM.bits();
        /// Memory for user space that can be moved.
        const HIGHUSER_MOVABLE = Self::HIGHUSER.bits() | Self::MOVABLE.bits();
        /// Huge page without reclaim or compaction by the caller.
        const TRANSHUGE_LIGHT = (Self::HIGHUSER_MOVABLE.bits() | Self::COMP.bits() | Self::NOMEMALLOC.bits()
            | Self::NOWARN.bits()) & !Self::RECLAIM.bits();
        /// Huge page with direct reclaim.
        const TRANSHUGE = Self::TRANSHUGE_LIGHT.bits() | Self::DIRECT_RECLAIM.bits();
    }
}

impl Gfp {
    /// Returns the mobility class that the flags ask for (Linux: gfp_migratetype).
    ///
    /// MOVABLE and RECLAIMABLE together are a caller's mistake; MOVABLE wins here.
    #[inline]
    pub const fn migrate_type(self) -> MigrateType {
        const BY_BITS: [MigrateType; 4] =
            [MigrateType::Unmovable, MigrateType::Movable, MigrateType::Reclaimable, MigrateType::Movable];
        BY_BITS[(self.bits() >> Self::MOVABLE.bits().trailing_zeros() & 3) as usize]
    }

    /// Returns true if the caller may sleep in reclaim (Linux: gfpflags_allow_blocking).
    #[inline]
    pub const fn may_block(self) -> bool {
        self.contains(Self::DIRECT_RECLAIM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masks_of_recorded_traces_read_back() {
        assert_eq!(Gfp::HIGHUSER_MOVABLE.bits(), 0x0010_0cca);
        assert_eq!(Gfp::KERNEL.bits(), 0xcc0);
        assert_eq!(Gfp::from_bits(0x0014_0dca), Some(Gfp::HIGHUSER_MOVABLE | Gfp::ZERO | Gfp::COMP));
    }

    #[test]
    fn mobility_follows_the_flags() {
        assert_eq!(Gfp::HIGHUSER_MOVABLE.migrate_type(), MigrateType::Movable);
        assert_eq!((Gfp::KERNEL | Gfp::RECLAIMABLE).migrate_type(), MigrateType::Reclaimable);
        assert_eq!(Gfp::KERNEL.migrate_type(), MigrateType::Unmovable);
    }
}
