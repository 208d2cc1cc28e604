//! Flags of protections and of the calls, with Linux's bits.
//!
//! Linux 6.12: include/uapi/asm-generic/mman-common.h, include/uapi/linux/mman.h, x86's mman.h.

use units::VmFlags;

bitflags::bitflags! {
    /// Permissions that a call asks for (PROT_).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Prot: u32 {
        /// PROT_READ.
        const READ = 1;
        /// PROT_WRITE.
        const WRITE = 2;
        /// PROT_EXEC.
        const EXEC = 4;
        /// PROT_SEM, which changes nothing.
        const SEM = 8;
        /// PROT_GROWSDOWN: from the start of the area down.
        const GROWSDOWN = 1 << 24;
        /// PROT_GROWSUP: to the end of the area.
        const GROWSUP = 1 << 25;
        const _ = !0;
    }

    /// Flags of mmap (MAP_); the low four bits are the type.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct MapFlags: u32 {
        /// MAP_SHARED.
        const SHARED = 1;
        /// MAP_PRIVATE.
        const PRIVATE = 2;
        /// MAP_SHARED_VALIDATE.
        const SHARED_VALIDATE = 3;
        /// MAP_DROPPABLE.
        const DROPPABLE = 8;
        /// MAP_FIXED.
        const FIXED = 0x10;
        /// MAP_ANONYMOUS.
        const ANONYMOUS = 0x20;
        /// MAP_32BIT.
        const LOW_2GB = 0x40;
        /// MAP_ABOVE4G.
        const ABOVE_4GB = 0x80;
        /// MAP_GROWSDOWN.
        const GROWSDOWN = 0x100;
        /// MAP_DENYWRITE, ignored.
        const DENYWRITE = 0x800;
        /// MAP_EXECUTABLE, ignored.
        const EXECUTABLE = 0x1000;
        /// MAP_LOCKED.
        const LOCKED = 0x2000;
        /// MAP_NORESERVE.
        const NORESERVE = 0x4000;
        /// MAP_POPULATE.
        const POPULATE = 0x8000;
        /// MAP_NONBLOCK.
        const NONBLOCK = 0x1_0000;
        /// MAP_STACK.
        const STACK = 0x2_0000;
        /// MAP_HUGETLB.
        const HUGETLB = 0x4_0000;
        /// MAP_SYNC.
        const SYNC = 0x8_0000;
        /// MAP_FIXED_NOREPLACE.
        const FIXED_NOREPLACE = 0x10_0000;
        const _ = !0;
    }

    /// Flags of mremap (MREMAP_).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct RemapFlags: u32 {
        /// MREMAP_MAYMOVE.
        const MAYMOVE = 1;
        /// MREMAP_FIXED.
        const FIXED = 2;
        /// MREMAP_DONTUNMAP.
        const DONTUNMAP = 4;
        const _ = !0;
    }

    /// Flags of msync (MS_).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct SyncFlags: u32 {
        /// MS_ASYNC.
        const ASYNC = 1;
        /// MS_INVALIDATE.
        const INVALIDATE = 2;
        /// MS_SYNC.
        const SYNC = 4;
        const _ = !0;
    }

    /// Flags of mlockall (MCL_).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct LockAllFlags: u32 {
        /// MCL_CURRENT.
        const CURRENT = 1;
        /// MCL_FUTURE.
        const FUTURE = 2;
        /// MCL_ONFAULT.
        const ONFAULT = 4;
        const _ = !0;
    }
}

impl Prot {
    /// Returns the flags of an area that the permissions set.
    pub fn vm_flags(self) -> VmFlags {
        VmFlags::from_bits_truncate(u64::from((self & (Self::READ | Self::WRITE | Self::EXEC)).bits()))
    }
}

impl MapFlags {
    /// The bits of the type (Linux: `MAP_TYPE`).
    pub(crate) const TYPE: u32 = 0xf;
    /// Flags that a file's mapping may have with MAP_SHARED_VALIDATE (Linux: `LEGACY_MAP_MASK`, with MAP_HUGE_2MB and MAP_HUGE_1GB).
    pub(crate) const LEGACY: Self = Self::SHARED_VALIDATE
        .union(Self::FIXED)
        .union(Self::ANONYMOUS)
        .union(Self::LOW_2GB)
        .union(Self::ABOVE_4GB)
        .union(Self::GROWSDOWN)
        .union(Self::DENYWRITE)
        .union(Self::EXECUTABLE)
        .union(Self::LOCKED)
        .union(Self::NORESERVE)
        .union(Self::POPULATE)
        .union(Self::NONBLOCK)
        .union(Self::STACK)
        .union(Self::HUGETLB)
        .union(Self::from_bits_retain((21 << 26) | (30 << 26)));

    /// Returns the type of the mapping.
    pub(crate) const fn kind(self) -> Self {
        Self::from_bits_retain(self.bits() & Self::TYPE)
    }
}
