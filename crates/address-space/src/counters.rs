//! Pages of an address space by kind.
//!
//! Kept by every call that maps, unmaps or changes areas. Linux 6.12: mm/mmap.c (`vm_stat_account`), include/linux/mm_types.h (`total_vm`, `data_vm`,
//! `exec_vm`, `stack_vm`, `locked_vm`, `pinned_vm`).

use units::VmFlags;

/// Pages of an address space by what they are for; names and meanings are those of /proc/PID/status.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VmCounters {
    /// All (VmSize).
    pub total: u64,
    /// Private and writable (VmData).
    pub data: u64,
    /// Code (VmExe and VmLib).
    pub exec: u64,
    /// Stacks (VmStk).
    pub stack: u64,
    /// Locked in memory (VmLck).
    pub locked: u64,
    /// Pinned by devices (VmPin).
    pub pinned: u64,
    /// Most that `total` was before it last fell (hiwater_vm).
    pub hiwater: u64,
}

impl VmCounters {
    /// Returns the most that there ever were (VmPeak).
    pub const fn peak(&self) -> u64 {
        if self.hiwater > self.total { self.hiwater } else { self.total }
    }

    /// Counts an area of `nr_pages` (Linux: `vm_stat_account`).
    pub(crate) fn add(&mut self, flags: VmFlags, nr_pages: u64) {
        self.total += nr_pages;
        if let Some(kind) = self.kind(flags) {
            *kind += nr_pages;
        }
    }

    /// Counts an area no longer (Linux: `update_hiwater_vm` comes with it).
    pub(crate) fn remove(&mut self, flags: VmFlags, nr_pages: u64) {
        debug_assert!(self.total >= nr_pages, "an area was counted before");
        self.hiwater = self.peak();
        self.total -= nr_pages;
        if let Some(kind) = self.kind(flags) {
            debug_assert!(*kind >= nr_pages, "an area was counted before, as of this kind");
            *kind -= nr_pages;
        }
    }

    fn kind(&mut self, flags: VmFlags) -> Option<&mut u64> {
        match () {
            () if flags.is_exec_mapping() => Some(&mut self.exec),
            () if flags.is_stack_mapping() => Some(&mut self.stack),
            () if flags.is_data_mapping() => Some(&mut self.data),
            () => None,
        }
    }
}
