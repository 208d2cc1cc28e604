//! Checks that a machine may switch on: poisoning, initialisation, bad-page checks, injected failures, page owner.
//!
//! Linux 6.12: page_poison=, init_on_alloc=, init_on_free=, check_pages, fail_page_alloc, page_owner=.

use core::sync::atomic::{AtomicU64, Ordering};

use boot_memory::firmware::MemoryDebug;
use collections::BootSlice;
use units::{CpuId, Gfp, Order, Pfn};

bitflags::bitflags! {
    /// Checks by name.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Checks: u8 {
        /// Freed memory is filled with a pattern, which is verified when it is handed out.
        const POISON = 1 << 0;
        /// Memory is zeroed when it is handed out.
        const INIT_ON_ALLOC = 1 << 1;
        /// Memory is zeroed when it is freed.
        const INIT_ON_FREE = 1 << 2;
        /// Flags, counts and mappings of freed pages are checked.
        const BAD_PAGE = 1 << 3;
    }
}

impl From<&MemoryDebug> for Checks {
    /// Derives the checks that kernel options ask for; any of them also checks freed pages
    /// (Linux: init_mem_debugging_and_hardening).
    ///
    /// Pages cannot be taken out of a kernel's mapping here, so `debug_pagealloc=on` fills freed pages with poison, as Linux does on
    /// such architectures.
    fn from(options: &MemoryDebug) -> Self {
        let asked = [
            (options.page_poison, Self::POISON),
            (options.debug_pagealloc, Self::POISON),
            (options.init_on_alloc, Self::INIT_ON_ALLOC),
            (options.init_on_free, Self::INIT_ON_FREE),
        ];
        let on = asked.into_iter().filter(|(switch, _)| *switch == Some(true));
        on.fold(Self::empty(), |checks, (_, check)| checks | check | Self::BAD_PAGE)
    }
}

/// Pattern of freed memory (Linux: PAGE_POISON).
pub const PAGE_POISON: u8 = 0xaa;

/// Which allocations fail on purpose (Linux: fail_page_alloc).
#[derive(Debug)]
pub(crate) struct FaultPlan {
    /// Requests that still succeed before the first failure; `u64::MAX` switches injection off.
    left: AtomicU64,
    /// Failures still to come.
    times: AtomicU64,
}

impl FaultPlan {
    /// Never fails.
    pub(crate) const fn off() -> Self {
        Self { left: AtomicU64::new(u64::MAX), times: AtomicU64::new(0) }
    }

    /// As [`crate::PageAllocator::arm_faults`].
    pub(crate) fn arm(&self, skip: u64, times: u64) {
        // Relaxed: tests arm before they allocate; races only shift which request fails.
        self.times.store(times, Ordering::Relaxed);
        self.left.store(skip, Ordering::Relaxed);
    }

    /// Returns true if a request may be failed.
    pub(crate) fn is_armed(&self) -> bool {
        // Relaxed: see `arm`.
        self.left.load(Ordering::Relaxed) != u64::MAX
    }

    /// Returns true if the request is to fail. NOFAIL requests never do.
    #[inline]
    pub(crate) fn should_fail(&self, gfp: Gfp) -> bool {
        self.is_armed() && self.count_down(gfp)
    }

    #[cold]
    fn count_down(&self, gfp: Gfp) -> bool {
        if gfp.contains(Gfp::NOFAIL) {
            return false;
        }
        let step = |value: u64| value.checked_sub(1);
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).is_ok() {
            return false;
        }
        self.times.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).is_ok()
    }
}

/// Who allocated a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageOwner {
    /// Flags of the request.
    pub gfp: Gfp,
    /// Order of the request.
    pub order: Order,
    /// CPU that it ran on.
    pub cpu: CpuId,
}

/// Owners by frame, while page_owner is on.
#[derive(Debug, Default)]
pub struct OwnerTable(BootSlice<AtomicU64>);

const ALLOCATED: u64 = 1 << 63;

impl OwnerTable {
    /// Takes over one zeroed entry per frame of the table's span; empty switches the record off.
    pub const fn new(entries: BootSlice<AtomicU64>) -> Self {
        Self(entries)
    }

    pub(crate) fn note_alloc(&self, index: u64, owner: PageOwner) {
        if let Some(entry) = self.0.get(index as usize) {
            let word = u64::from(owner.gfp.bits())
                | u64::from(owner.order.raw()) << 32
                | u64::from(owner.cpu.raw()) << 40
                | ALLOCATED;
            // Relaxed: written by the owner of the block, read for reports.
            entry.store(word, Ordering::Relaxed);
        }
    }

    pub(crate) fn note_free(&self, index: u64) {
        if let Some(entry) = self.0.get(index as usize) {
            // Relaxed: see `note_alloc`. The rest of the record stays, as the last owner.
            entry.fetch_and(!ALLOCATED, Ordering::Relaxed);
        }
    }

    fn get(&self, index: u64) -> Option<(PageOwner, bool)> {
        // Relaxed: see `note_alloc`.
        let word = self.0.get(index as usize)?.load(Ordering::Relaxed);
        if word == 0 {
            return None;
        }
        let owner = PageOwner {
            gfp: Gfp::from_bits_truncate(word as u32),
            order: Order::new_truncate((word >> 32) as u8),
            cpu: CpuId::try_new(word >> 40 & 0xffff)?,
        };
        Some((owner, word & ALLOCATED != 0))
    }

    pub(crate) fn is_on(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Checks of a machine. Set up at boot.
#[derive(Debug)]
pub struct DebugOptions {
    /// What is checked.
    pub checks: Checks,
    /// Failures to inject.
    pub(crate) faults: FaultPlan,
    /// Who owns what.
    pub owners: OwnerTable,
    /// Pages that failed a check; they are never handed out again (Linux: bad_page).
    pub(crate) bad_pages: AtomicU64,
}

impl Default for DebugOptions {
    fn default() -> Self {
        Self {
            checks: Checks::empty(),
            faults: FaultPlan::off(),
            owners: OwnerTable::default(),
            bad_pages: AtomicU64::new(0),
        }
    }
}

impl DebugOptions {
    /// Runs these checks.
    pub fn with_checks(checks: Checks) -> Self {
        // Poison would not survive zeroing, and says more (Linux decides the same way).
        let zeroing = Checks::INIT_ON_ALLOC | Checks::INIT_ON_FREE;
        let checks = if checks.contains(Checks::POISON) { checks - zeroing } else { checks };
        Self { checks, ..Self::default() }
    }

    /// Records who owns what in `owners`.
    #[must_use]
    pub fn with_owners(self, owners: OwnerTable) -> Self {
        Self { owners, ..self }
    }

    /// Returns how many blocks failed a check and were taken out of use.
    pub fn bad_pages(&self) -> u64 {
        // Relaxed: a count.
        self.bad_pages.load(Ordering::Relaxed)
    }

    /// Returns the last owner of the block that starts `index` frames into the table, and whether it still is.
    pub fn owner(&self, index: u64) -> Option<(PageOwner, bool)> {
        self.owners.get(index)
    }

    /// Returns true if allocation and free have anything to do here.
    #[inline]
    pub(crate) fn is_active(&self) -> bool {
        !self.checks.is_empty() || self.owners.is_on()
    }
}

/// What a failed check found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadPage {
    /// Memory was written after it was freed.
    WrittenAfterFree(units::PhysAddr),
    /// Flags that must be clear are set.
    Flags(Pfn, frame_table::PageFlags),
    /// Somebody still refers to the page.
    Referenced(Pfn, i32),
}

#[cfg(test)]
mod tests {
    use boot_memory::firmware::BootOptions;

    use super::*;

    fn checks(command_line: &str) -> Checks {
        Checks::from(&BootOptions::parse(command_line).unwrap().debug)
    }

    #[test]
    fn every_option_checks_freed_pages_too() {
        assert_eq!(checks("quiet init_on_alloc=off"), Checks::empty());
        assert_eq!(checks("page_owner=on"), Checks::empty());
        assert_eq!(checks("page_poison=1"), Checks::POISON | Checks::BAD_PAGE);
        assert_eq!(checks("debug_pagealloc=on"), Checks::POISON | Checks::BAD_PAGE);
        let zeroing = Checks::INIT_ON_ALLOC | Checks::INIT_ON_FREE;
        assert_eq!(checks("init_on_alloc=1 init_on_free=1"), zeroing | Checks::BAD_PAGE);
    }

    #[test]
    fn poison_takes_the_place_of_zeroing() {
        let options = DebugOptions::with_checks(checks("page_poison=1 init_on_free=1"));
        assert_eq!(options.checks, Checks::POISON | Checks::BAD_PAGE);
    }
}
