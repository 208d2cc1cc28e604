//! Flags of areas, of protections and of the calls, with Linux's bits.
//!
//! Linux 6.12: include/linux/mm.h (VM_ flags), include/uapi/asm-generic/mman-common.h, include/uapi/linux/mman.h, x86's mman.h.

bitflags::bitflags! {
    /// What an area is (Linux: `vm_flags_t`).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct VmFlags: u64 {
        /// May be read.
        const READ = 1;
        /// May be written.
        const WRITE = 1 << 1;
        /// May be executed.
        const EXEC = 1 << 2;
        /// Writes are seen by everyone who maps the same file.
        const SHARED = 1 << 3;
        /// mprotect may set `READ`.
        const MAYREAD = 1 << 4;
        /// mprotect may set `WRITE`.
        const MAYWRITE = 1 << 5;
        /// mprotect may set `EXEC`.
        const MAYEXEC = 1 << 6;
        /// Mapped as shared, even if its file cannot be written.
        const MAYSHARE = 1 << 7;
        /// Grows downwards when touched below (stacks).
        const GROWSDOWN = 1 << 8;
        /// userfaultfd tracks missing pages.
        const UFFD_MISSING = 1 << 9;
        /// Bare frame numbers without descriptors.
        const PFNMAP = 1 << 10;
        /// userfaultfd tracks writes.
        const UFFD_WP = 1 << 12;
        /// Pages stay in memory.
        const LOCKED = 1 << 13;
        /// Memory of a device.
        const IO = 1 << 14;
        /// Will be read in order.
        const SEQ_READ = 1 << 15;
        /// Will be read at random.
        const RAND_READ = 1 << 16;
        /// Not copied by fork.
        const DONTCOPY = 1 << 17;
        /// mremap may not grow it.
        const DONTEXPAND = 1 << 18;
        /// Pages are locked when they are faulted in.
        const LOCKONFAULT = 1 << 19;
        /// Counted in the machine's committed memory.
        const ACCOUNT = 1 << 20;
        /// Not to be counted.
        const NORESERVE = 1 << 21;
        /// Pages of hugetlbfs.
        const HUGETLB = 1 << 22;
        /// Synchronous page faults (DAX).
        const SYNC = 1 << 23;
        /// Zeroed in the child of a fork.
        const WIPEONFORK = 1 << 25;
        /// Not in core dumps.
        const DONTDUMP = 1 << 26;
        /// Frames with and without descriptors.
        const MIXEDMAP = 1 << 28;
        /// madvise asked for huge pages.
        const HUGEPAGE = 1 << 29;
        /// madvise asked for none.
        const NOHUGEPAGE = 1 << 30;
        /// KSM may merge equal pages.
        const MERGEABLE = 1 << 31;
        /// userfaultfd tracks minor faults.
        const UFFD_MINOR = 1 << 38;
        /// Pages may be dropped at any time.
        const DROPPABLE = 1 << 40;
        /// No call may change it.
        const SEALED = 1 << 63;

        /// The permissions in force (Linux: `VM_ACCESS_FLAGS`).
        const ACCESS = Self::READ.bits() | Self::WRITE.bits() | Self::EXEC.bits();
        /// All that permissions may become.
        const MAYACCESS = Self::MAYREAD.bits() | Self::MAYWRITE.bits() | Self::MAYEXEC.bits();
        /// What mlock sets and munlock clears (Linux: `VM_LOCKED_MASK`).
        const LOCKED_MASK = Self::LOCKED.bits() | Self::LOCKONFAULT.bits();
        /// Areas that are never merged or locked (Linux: `VM_SPECIAL`).
        const SPECIAL = Self::IO.bits() | Self::DONTEXPAND.bits() | Self::PFNMAP.bits() | Self::MIXEDMAP.bits();
        /// Areas that userfaultfd watches.
        const UFFD = Self::UFFD_MISSING.bits() | Self::UFFD_WP.bits() | Self::UFFD_MINOR.bits();
    }
}

impl VmFlags {
    /// Returns true if this is code: executable, not writable, no stack.
    pub const fn is_exec_mapping(self) -> bool {
        self.bits() & (Self::EXEC.bits() | Self::WRITE.bits() | Self::GROWSDOWN.bits()) == Self::EXEC.bits()
    }

    /// Returns true if this is a stack.
    pub const fn is_stack_mapping(self) -> bool {
        self.contains(Self::GROWSDOWN)
    }

    /// Returns true if this counts against the limit of data: private and writable, no stack.
    pub const fn is_data_mapping(self) -> bool {
        self.bits() & (Self::WRITE.bits() | Self::SHARED.bits() | Self::GROWSDOWN.bits()) == Self::WRITE.bits()
    }

    /// Returns true if the area will own what is written to it, and so counts as committed memory.
    pub const fn is_accountable(self) -> bool {
        self.bits() & (Self::NORESERVE.bits() | Self::SHARED.bits() | Self::WRITE.bits()) == Self::WRITE.bits()
    }

    /// Returns true if the area can be written through to its file.
    pub const fn is_shared_maywrite(self) -> bool {
        self.contains(Self::SHARED.union(Self::MAYWRITE))
    }

    /// Returns the flags behind the permissions of mmap or mprotect.
    pub fn of_prot(prot: Prot) -> Self {
        Self::from_bits_truncate(u64::from((prot & (Prot::READ | Prot::WRITE | Prot::EXEC)).bits()))
    }
}

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
