//! What a process has chosen for all of its memory, by prctl.
//!
//! Linux 6.12: include/linux/sched/coredump.h (`MMF_*`, `mmf_init_flags`), include/linux/mman.h (`map_deny_write_exec`), kernel/sys.c
//! (`prctl_set_mdwe`, PR_SET_THP_DISABLE).

use units::VmFlags;

use crate::atomic::Ordering::Relaxed;
use crate::error::MmError;
use crate::mm::Mm;

bitflags::bitflags! {
    /// Choices for an address space.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct MmFlags: u64 {
        /// No transparent huge pages (MMF_DISABLE_THP).
        const DISABLE_THP = 1 << 0;
        /// Nothing becomes executable that was not, or may be written too (MMF_HAS_MDWE).
        const MDWE = 1 << 1;
        /// Children and programs to come are without `MDWE` (MMF_HAS_MDWE_NO_INHERIT).
        const MDWE_NO_INHERIT = 1 << 2;
    }
}

impl MmFlags {
    const ALL_MDWE: Self = Self::MDWE.union(Self::MDWE_NO_INHERIT);

    /// Returns what a child, or the next program, has of these (Linux: `mmf_init_flags`).
    #[must_use]
    pub const fn inherited(self) -> Self {
        if self.contains(Self::MDWE_NO_INHERIT) { self.difference(Self::ALL_MDWE) } else { self }
    }

    /// Returns true if an area may not get the flags `new` in place of `old` (Linux: `map_deny_write_exec`).
    pub(crate) const fn denies(self, old: VmFlags, new: VmFlags) -> bool {
        let gains = new.contains(VmFlags::WRITE) || !old.contains(VmFlags::EXEC);
        self.contains(Self::MDWE) && new.contains(VmFlags::EXEC) && gains
    }
}

impl Mm<'_> {
    /// Returns what was chosen. Calls and faults under way on other CPUs may still go by what was before.
    pub fn flags(&self) -> MmFlags {
        // Relaxed: nothing else is read by it.
        MmFlags::from_bits_retain(self.flags.load(Relaxed))
    }

    /// Chooses what a new address space starts with; nobody uses it yet.
    pub fn inherit_flags(&self, parent: MmFlags) {
        // Relaxed: as in `flags`.
        self.flags.store(parent.inherited().bits(), Relaxed);
    }

    /// Permits or forbids transparent huge pages from now on; those that are there stay (PR_SET_THP_DISABLE).
    pub fn forbid_huge_pages(&self, is_forbidden: bool) {
        let bit = MmFlags::DISABLE_THP.bits();
        // Relaxed: as in `flags`.
        let _ = if is_forbidden { self.flags.fetch_or(bit, Relaxed) } else { self.flags.fetch_and(!bit, Relaxed) };
    }

    /// Forbids to gain executable memory: `wanted` is `MDWE`, perhaps with `MDWE_NO_INHERIT`, or empty (PR_SET_MDWE).
    ///
    /// # Errors
    /// [`MmError::Invalid`] for other flags; [`MmError::NotPermitted`] to change a choice that was made.
    pub fn set_mdwe(&self, wanted: MmFlags) -> Result<(), MmError> {
        if !MmFlags::ALL_MDWE.contains(wanted) || wanted == MmFlags::MDWE_NO_INHERIT {
            return Err(MmError::Invalid);
        }
        let chosen = self.flags() & MmFlags::ALL_MDWE;
        if !chosen.is_empty() && chosen != wanted {
            return Err(MmError::NotPermitted);
        }
        // Relaxed: as in `flags`.
        self.flags.fetch_or(wanted.bits(), Relaxed);
        Ok(())
    }
}
