//! How much memory processes were promised, and whether more may be.
//!
//! Locking: none; the sum is one atomic counter. Linux 6.12: mm/util.c (`__vm_enough_memory`, `vm_commit_limit`), vm.overcommit_memory.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use crate::error::MmError;
use crate::limits::{Process, Rights};

/// What is refused (vm.overcommit_memory).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OvercommitMode {
    /// One request for more than the machine has (0).
    #[default]
    Guess,
    /// Nothing (1).
    Always,
    /// Whatever goes beyond the limit (2).
    Never,
}

/// Sizes that the limit is made of, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommitRules {
    /// The mode.
    pub mode: OvercommitMode,
    /// Pages of memory (`totalram_pages`).
    pub ram: u64,
    /// Pages of swap space.
    pub swap: u64,
    /// Pages of hugetlbfs, which are promised separately.
    pub huge: u64,
    /// vm.overcommit_ratio, in percent of memory.
    pub ratio: u64,
    /// vm.overcommit_kbytes in pages; 0 lets the ratio decide.
    pub fixed: u64,
    /// vm.admin_reserve_kbytes in pages.
    pub admin_reserve: u64,
    /// vm.user_reserve_kbytes in pages.
    pub user_reserve: u64,
}

impl CommitRules {
    /// Linux's defaults for a machine with `ram` pages: ratio 50, 8 MiB for the administrator, at most 128 MiB for the user.
    pub const fn for_ram(ram: u64) -> Self {
        let share = ram / 32;
        Self {
            mode: OvercommitMode::Guess,
            ram,
            swap: 0,
            huge: 0,
            ratio: 50,
            fixed: 0,
            admin_reserve: if share < 2048 { share } else { 2048 },
            user_reserve: if share < 32768 { share } else { 32768 },
        }
    }

    /// Returns CommitLimit of /proc/meminfo, in pages.
    pub const fn limit(&self) -> u64 {
        let ram = if self.fixed != 0 { self.fixed } else { self.ram.saturating_sub(self.huge) * self.ratio / 100 };
        ram + self.swap
    }
}

/// The sum of what was promised on a machine (Committed_AS).
#[derive(Debug)]
pub struct Overcommit {
    rules: CommitRules,
    committed: AtomicU64,
}

impl Overcommit {
    /// Starts with nothing promised.
    pub const fn new(rules: CommitRules) -> Self {
        Self { rules, committed: AtomicU64::new(0) }
    }

    /// Returns the rules.
    pub const fn rules(&self) -> &CommitRules {
        &self.rules
    }

    /// Returns what was promised, in pages.
    pub fn committed(&self) -> u64 {
        // Relaxed: a count, nothing is read because of it.
        self.committed.load(Relaxed)
    }

    /// Promises `nr_pages` to a process with `total_vm` pages.
    ///
    /// # Errors
    /// [`MmError::NoMemory`]; then nothing was promised.
    pub fn charge(&self, nr_pages: u64, process: &Process, total_vm: u64) -> Result<(), MmError> {
        // Relaxed: as in `committed`. Adding first is Linux's order: two requests at once may both fail, never both exceed.
        let committed = self.committed.fetch_add(nr_pages, Relaxed) + nr_pages;
        if self.admits(nr_pages, committed, process, total_vm) {
            return Ok(());
        }
        self.uncharge(nr_pages);
        Err(MmError::NoMemory)
    }

    fn admits(&self, nr_pages: u64, committed: u64, process: &Process, total_vm: u64) -> bool {
        let rules = &self.rules;
        match rules.mode {
            OvercommitMode::Always => true,
            OvercommitMode::Guess => nr_pages <= rules.ram + rules.swap,
            OvercommitMode::Never => {
                let admin = if process.rights.contains(Rights::SYS_ADMIN) { 0 } else { rules.admin_reserve };
                let user = (total_vm / 32).min(rules.user_reserve);
                committed < rules.limit().saturating_sub(admin).saturating_sub(user)
            }
        }
    }

    /// Takes a promise without asking (Linux: `vm_acct_memory`).
    pub(crate) fn charge_unasked(&self, nr_pages: u64) {
        // Relaxed: as in `committed`.
        self.committed.fetch_add(nr_pages, Relaxed);
    }

    /// Takes a promise back.
    #[inline]
    pub fn uncharge(&self, nr_pages: u64) {
        if nr_pages == 0 {
            return;
        }
        // Relaxed: as in `committed`.
        let before = self.committed.fetch_sub(nr_pages, Relaxed);
        debug_assert!(before >= nr_pages, "only what was promised is taken back");
    }
}
