//! The page tables of one address space: where they begin, and what is counted of them.
//!
//! Type-stable, so that it can be part of an object that lookups without locks may still read. Linux 6.12: `mm_struct` (pgd, rss_stat, pgtables_bytes),
//! kernel/fork.c (`mm_alloc_pgd`).

use core::sync::atomic::AtomicI64;

use page_allocator::Hooks;
use platform::{Level, Platform, TableFormat};
use sync::Cpu;
use units::{Gfp, PhysAddr};

use super::entry::PageKind;
use super::rss::{Rss, RssCounters};
use super::table::FreshTable;
use super::{Gather, Mmu};
use crate::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::error::ObjectError;

/// No root.
const NONE: u64 = u64::MAX;

/// Page tables of an address space.
///
/// # Invariants
/// `root` is all ones, or the address of a root table of the machine whose number is in `machine`, which only [`Gather::free_root`] takes away.
/// `machine` is all ones until the first root is made, and does not change after.
#[derive(Debug)]
pub struct UserTables {
    root: AtomicU64,
    machine: AtomicU64,
    /// In lines of their own: every walk reads what is above.
    rss: RssCounters,
    /// Most resident pages before there were fewer (hiwater_rss).
    hiwater_rss: AtomicI64,
    /// Tables below the root.
    nr_tables: AtomicI64,
    /// Whether a page was ever pinned (MMF_HAS_PINNED).
    has_pinned: AtomicBool,
    /// Whether a page was ever mapped by an entry above the lowest level.
    has_large: AtomicBool,
}

impl Default for UserTables {
    fn default() -> Self {
        Self::new()
    }
}

impl UserTables {
    /// Makes an address space without tables.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self::with(AtomicU64::new(NONE), AtomicU64::new(NONE), AtomicBool::new(false), AtomicBool::new(false))
    }

    /// Makes an address space without tables.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self::with(AtomicU64::new(NONE), AtomicU64::new(NONE), AtomicBool::new(false), AtomicBool::new(false))
    }

    const fn with(root: AtomicU64, machine: AtomicU64, has_pinned: AtomicBool, has_large: AtomicBool) -> Self {
        let (hiwater_rss, nr_tables) = (AtomicI64::new(0), AtomicI64::new(0));
        Self { root, machine, rss: RssCounters::new(), hiwater_rss, nr_tables, has_pinned, has_large }
    }

    /// Returns where the root table is, for the processor (CR3; TTBR0); `None` without tables.
    #[inline]
    pub fn root(&self) -> Option<PhysAddr> {
        // Acquire: pairs with the Release store in `make_root`, so that the table's entries are seen.
        let root = self.root.load(Ordering::Acquire);
        (root != NONE).then(|| PhysAddr::new(root))
    }

    /// As [`UserTables::root`], if the tables are of machine `machine`.
    #[inline]
    pub(super) fn root_of(&self, machine: u32) -> Option<PhysAddr> {
        let root = self.root()?;
        // Relaxed: written before the root.
        (self.machine.load(Ordering::Relaxed) == u64::from(machine)).then_some(root)
    }

    /// Takes `root` away if it is the root.
    pub(super) fn take_root(&self, root: PhysAddr) -> bool {
        // AcqRel: as in `root`; and the next root is set after.
        self.root.compare_exchange(root.raw(), NONE, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Becomes an address space of `machine`; false if it is one of another.
    fn join(&self, machine: u32) -> bool {
        let machine = u64::from(machine);
        // Relaxed: published with the root.
        let joined = self.machine.compare_exchange(NONE, machine, Ordering::Relaxed, Ordering::Relaxed);
        joined.is_ok() || joined == Err(machine)
    }

    /// Returns the resident pages by kind.
    pub fn rss(&self) -> Rss {
        self.rss.read()
    }

    /// Counts `nr_pages` more resident pages of a kind, or fewer.
    #[inline]
    pub fn add_rss(&self, cpu: &Cpu, kind: PageKind, nr_pages: i64) {
        self.rss.add(cpu, kind, nr_pages);
    }

    /// Notes how many pages are resident, before some go (Linux: `update_hiwater_rss`).
    #[inline]
    pub fn note_rss(&self) {
        let now = self.rss().resident().cast_signed();
        // Relaxed: a statistic; of two CPUs that note at once one may be lost, as in Linux.
        if now > self.hiwater_rss.load(Ordering::Relaxed) {
            self.hiwater_rss.store(now, Ordering::Relaxed);
        }
    }

    /// Returns the most resident pages that there were, as far as it was noted (VmHWM).
    pub fn peak_rss(&self) -> u64 {
        // Relaxed: a statistic.
        u64::try_from(self.hiwater_rss.load(Ordering::Relaxed)).unwrap_or(0).max(self.rss().resident())
    }

    /// Lets the most resident pages be those that there are (Linux: `reset_mm_hiwater_rss`).
    pub fn reset_peak_rss(&self) {
        // Relaxed: a statistic.
        self.hiwater_rss.store(self.rss().resident().cast_signed(), Ordering::Relaxed);
    }

    /// Returns the number of tables below the root, of PUD, PMD and PTE entries (Linux: mm_pgtables_bytes, in pages).
    pub fn nr_tables(&self) -> u64 {
        // Relaxed: a statistic.
        u64::try_from(self.nr_tables.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Notes that pages are pinned from now on; the caller holds a lock that keeps fork out (Linux: mm_set_has_pinned_flag).
    pub fn note_pinned(&self) {
        // Relaxed: the lock orders it. Written once only, since fork and pins of other areas read the line.
        if !self.has_pinned() {
            self.has_pinned.store(true, Ordering::Relaxed);
        }
    }

    /// Returns true if pages may be pinned.
    pub fn has_pinned(&self) -> bool {
        self.has_pinned.load(Ordering::Relaxed)
    }

    /// Notes that a large page is about to be mapped; the caller holds a lock that keeps out who changes areas there.
    pub fn note_large(&self) {
        // Relaxed: the lock orders it. Written once only, as in `note_pinned`.
        if !self.has_large() {
            self.has_large.store(true, Ordering::Relaxed);
        }
    }

    /// Returns true if large pages may be mapped.
    #[inline]
    pub fn has_large(&self) -> bool {
        self.has_large.load(Ordering::Relaxed)
    }

    /// Counts a table that an entry at `level` points to from now on, or no longer. One of P4D entries does not count.
    pub(super) fn add_table_below(&self, level: Level, delta: i64) {
        if level <= Level::P4D {
            self.add_tables(delta);
        }
    }

    pub(super) fn add_tables(&self, delta: i64) {
        // Relaxed: a statistic.
        self.nr_tables.fetch_add(delta, Ordering::Relaxed);
    }
}

impl<P: Platform, H: Hooks> Mmu<'_, P, H> {
    /// Gives an address space a root table; where an architecture has one root for both halves, the kernel's entries are in it (Linux: pgd_alloc).
    ///
    /// Entries of the kernel's root that are made later are not seen: the machine makes all that it will ever have before.
    ///
    /// # Errors
    /// [`ObjectError::OutOfMemory`]; [`ObjectError::Impossible`] if the address space has a root, or had one on another machine.
    pub fn make_root(&self, tables: &UserTables) -> Result<(), ObjectError> {
        if tables.root().is_some() || !tables.join(self.cpu().machine()) {
            return Err(ObjectError::Impossible);
        }
        let fresh = self.alloc_table(Gfp::KERNEL)?;
        // Relaxed: a statistic, of an address space that nobody uses yet.
        tables.hiwater_rss.store(0, Ordering::Relaxed);
        tables.has_pinned.store(false, Ordering::Relaxed);
        tables.has_large.store(false, Ordering::Relaxed);
        self.copy_kernel_half(&fresh);
        let pfn = fresh.into_pfn();
        let root = pfn.phys(self.format().page_shift()).raw();
        // INVARIANT: a table that holds nothing but the kernel's entries. Release: pairs with the Acquire load in `root`.
        if tables.root.compare_exchange(NONE, root, Ordering::Release, Ordering::Relaxed).is_err() {
            self.free_fresh(FreshTable::of(pfn));
            return Err(ObjectError::Impossible);
        }
        Ok(())
    }
}

impl<P: Platform, H: Hooks> Gather<'_, P, H> {
    /// Takes the root table away; the address space must hold no other table, and no processor may run it any more (Linux: pgd_free).
    pub fn free_root(&mut self) {
        if let Some(root) = self.root().filter(|&root| self.tables().take_root(root)) {
            self.add_dead_root(root);
        }
    }
}
