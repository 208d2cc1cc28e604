//! Flags of an area of an address space, with the names that smaps shows.
//!
//! The bits are those of 6.12. Linux 6.12: include/linux/mm.h (VM_ flags), fs/proc/task_mmu.c (`show_smap_vma_flags`).

use core::fmt;

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
        /// Belongs to the architecture.
        const ARCH_1 = 1 << 24;
        /// Zeroed in the child of a fork.
        const WIPEONFORK = 1 << 25;
        /// Not in core dumps.
        const DONTDUMP = 1 << 26;
        /// Written since the mark was cleared.
        const SOFTDIRTY = 1 << 27;
        /// Frames with and without descriptors.
        const MIXEDMAP = 1 << 28;
        /// madvise asked for huge pages.
        const HUGEPAGE = 1 << 29;
        /// madvise asked for none.
        const NOHUGEPAGE = 1 << 30;
        /// KSM may merge equal pages.
        const MERGEABLE = 1 << 31;
        /// VM_PKEY_BIT0: the lowest bit of the area's protection key, which smaps does not show among the flags.
        const PKEY_BIT0 = 1 << 32;
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
    /// Every flag with its two letters, in the order of bits, which is the order of the line.
    const MNEMONICS: [(Self, &'static str); 34] = [
        (Self::READ, "rd"),
        (Self::WRITE, "wr"),
        (Self::EXEC, "ex"),
        (Self::SHARED, "sh"),
        (Self::MAYREAD, "mr"),
        (Self::MAYWRITE, "mw"),
        (Self::MAYEXEC, "me"),
        (Self::MAYSHARE, "ms"),
        (Self::GROWSDOWN, "gd"),
        (Self::UFFD_MISSING, "um"),
        (Self::PFNMAP, "pf"),
        (Self::UFFD_WP, "uw"),
        (Self::LOCKED, "lo"),
        (Self::IO, "io"),
        (Self::SEQ_READ, "sr"),
        (Self::RAND_READ, "rr"),
        (Self::DONTCOPY, "dc"),
        (Self::DONTEXPAND, "de"),
        (Self::LOCKONFAULT, "lf"),
        (Self::ACCOUNT, "ac"),
        (Self::NORESERVE, "nr"),
        (Self::HUGETLB, "ht"),
        (Self::SYNC, "sf"),
        (Self::ARCH_1, "ar"),
        (Self::WIPEONFORK, "wf"),
        (Self::DONTDUMP, "dd"),
        (Self::SOFTDIRTY, "sd"),
        (Self::MIXEDMAP, "mm"),
        (Self::HUGEPAGE, "hg"),
        (Self::NOHUGEPAGE, "nh"),
        (Self::MERGEABLE, "mg"),
        (Self::UFFD_MINOR, "ui"),
        (Self::DROPPABLE, "dp"),
        (Self::SEALED, "sl"),
    ];

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

    /// Returns the flag that smaps shows as `mnemonic`.
    pub fn from_mnemonic(mnemonic: &str) -> Option<Self> {
        Self::MNEMONICS.iter().find(|(_, letters)| *letters == mnemonic).map(|&(flag, _)| flag)
    }
}

impl fmt::Display for VmFlags {
    /// Writes two letters and a blank for each flag.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = Self::MNEMONICS.iter().filter(|(flag, _)| self.contains(*flag));
        set.map(|(_, letters)| letters).try_for_each(|letters| write!(f, "{letters} "))
    }
}
