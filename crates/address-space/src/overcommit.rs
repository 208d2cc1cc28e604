//! How much memory processes were promised, and whether more may be.
//!
//! Locking: none; the sum is one atomic counter. Linux 6.12: mm/util.c (`__vm_enough_memory`, `vm_commit_limit`), vm.overcommit_memory.

use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU8, AtomicU64};

use crate::PAGE_SHIFT;
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
    /// vm.overcommit_ratio, in percent of memory: what Linux's unsigned arithmetic makes of its int.
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
        let share = self.ram.saturating_sub(self.huge).wrapping_mul(self.ratio) / 100;
        let ram = if self.fixed != 0 { self.fixed } else { share };
        ram.wrapping_add(self.swap)
    }
}

/// The sum of what was promised on a machine (Committed_AS).
#[derive(Debug)]
pub struct Overcommit {
    /// As of the start; what may be set later is behind it.
    rules: CommitRules,
    mode: AtomicU8,
    ratio: AtomicU64,
    sizes: [AtomicU64; 3],
    committed: AtomicU64,
}

/// A size that may be set, in kB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitSize {
    /// vm.overcommit_kbytes.
    Fixed,
    /// vm.admin_reserve_kbytes.
    AdminReserve,
    /// vm.user_reserve_kbytes.
    UserReserve,
}

const KB_SHIFT: u32 = PAGE_SHIFT - 10;

impl Overcommit {
    /// Starts with nothing promised.
    pub const fn new(rules: CommitRules) -> Self {
        let sizes = [rules.fixed, rules.admin_reserve, rules.user_reserve];
        let [fixed, admin, user] = sizes;
        Self {
            rules,
            mode: AtomicU8::new(rules.mode as u8),
            ratio: AtomicU64::new(rules.ratio),
            sizes: [
                AtomicU64::new(fixed << KB_SHIFT),
                AtomicU64::new(admin << KB_SHIFT),
                AtomicU64::new(user << KB_SHIFT),
            ],
            committed: AtomicU64::new(0),
        }
    }

    /// Returns the rules as they are now.
    pub fn rules(&self) -> CommitRules {
        let [fixed, admin_reserve, user_reserve] =
            [CommitSize::Fixed, CommitSize::AdminReserve, CommitSize::UserReserve]
                .map(|size| self.kib(size) >> KB_SHIFT);
        // Relaxed here and below: each setting counts by itself.
        let ratio = self.ratio.load(Relaxed);
        CommitRules { mode: self.mode(), ratio, fixed, admin_reserve, user_reserve, ..self.rules }
    }

    /// Returns what is refused.
    #[inline]
    pub fn mode(&self) -> OvercommitMode {
        match self.mode.load(Relaxed) {
            0 => OvercommitMode::Guess,
            1 => OvercommitMode::Always,
            _ => OvercommitMode::Never,
        }
    }

    /// Sets what is refused from now on.
    pub fn set_mode(&self, mode: OvercommitMode) {
        self.mode.store(mode as u8, Relaxed);
    }

    /// Sets vm.overcommit_ratio, which takes the place of vm.overcommit_kbytes.
    pub fn set_ratio(&self, percent: i32) {
        self.ratio.store(i64::from(percent) as u64, Relaxed);
        self.sizes[CommitSize::Fixed as usize].store(0, Relaxed);
    }

    /// Returns a size in kB.
    pub fn kib(&self, size: CommitSize) -> u64 {
        self.sizes[size as usize].load(Relaxed)
    }

    /// Sets a size in kB. vm.overcommit_kbytes takes the place of vm.overcommit_ratio.
    pub fn set_kib(&self, size: CommitSize, kib: u64) {
        self.sizes[size as usize].store(kib, Relaxed);
        if size == CommitSize::Fixed {
            self.ratio.store(0, Relaxed);
        }
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
        match self.mode() {
            OvercommitMode::Always => true,
            OvercommitMode::Guess => nr_pages <= self.rules.ram + self.rules.swap,
            OvercommitMode::Never => {
                let rules = self.rules();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_and_the_fixed_size_take_each_other_s_place() {
        let overcommit = Overcommit::new(CommitRules::for_ram(1000));
        assert_eq!(overcommit.rules(), CommitRules::for_ram(1000));
        overcommit.set_kib(CommitSize::Fixed, 402);
        let rules = overcommit.rules();
        assert_eq!((rules.ratio, rules.fixed, rules.limit(), overcommit.kib(CommitSize::Fixed)), (0, 100, 100, 402));
        overcommit.set_ratio(80);
        let rules = overcommit.rules();
        assert_eq!((rules.ratio, rules.fixed, rules.limit()), (80, 0, 800));
        overcommit.set_ratio(-1);
        assert!(overcommit.rules().limit() > 1 << 50, "as Linux's unsigned arithmetic has it");
    }

    #[test]
    fn a_mode_that_is_set_counts_for_the_next_promise() {
        let overcommit = Overcommit::new(CommitRules::for_ram(1000));
        let process = Process::default();
        overcommit.charge(900, &process, 0).unwrap();
        overcommit.set_mode(OvercommitMode::Never);
        assert_eq!(overcommit.charge(1, &process, 0), Err(MmError::NoMemory));
        overcommit.set_mode(OvercommitMode::Always);
        overcommit.charge(5000, &process, 0).unwrap();
    }
}
