//! Tables that no entry points to: before they are linked, and after they were taken out.
//!
//! Linux 6.12: `pte_alloc_one`, `pagetable_pte_ctor`, `pte_free`.

use page_allocator::Hooks;
use platform::{Level, Platform, TableFormat};
use units::{Gfp, Order, Pfn, PhysAddr};

use super::Mmu;
use crate::atomic::{AtomicU64, Ordering};
use crate::error::ObjectError;
use crate::vmstat::NodeItem;

/// A table without entries that nothing points to yet.
#[derive(Debug)]
#[must_use = "dropping a table leaks it; `Mmu::free_fresh` frees it"]
pub struct FreshTable(Pfn);

impl FreshTable {
    /// Takes a table back that an entry did not take.
    pub(super) const fn of(pfn: Pfn) -> Self {
        Self(pfn)
    }

    /// Leaves the table to the entry that points to it from now on.
    pub(super) const fn into_pfn(self) -> Pfn {
        self.0
    }
}

impl<P: Platform, H: Hooks> Mmu<'_, P, H> {
    /// Allocates a table.
    ///
    /// # Errors
    /// [`ObjectError::OutOfMemory`].
    pub fn alloc_table(&self, gfp: Gfp) -> Result<FreshTable, ObjectError> {
        let block = self.objects.pages().alloc(self.cpu, (gfp | Gfp::ZERO) - Gfp::HIGHMEM, Order::ZERO)?;
        self.count_table(block.pfn(), 1);
        #[cfg(loom)]
        self.init_entries(block.pfn());
        Ok(FreshTable(block.into_table(self.objects.frames())))
    }

    /// Makes the entries, as loom's atomics are not zeroes.
    #[cfg(loom)]
    fn init_entries(&self, table: Pfn) {
        for index in 0..1 << self.format().index_bits() {
            let slot = self.objects.map().page(table).cast::<AtomicU64>().wrapping_add(index);
            // SAFETY: in the page of a table that nobody else has yet.
            unsafe { slot.write(AtomicU64::new(0)) };
        }
    }

    /// Frees a table that was not linked.
    pub fn free_fresh(&self, table: FreshTable) {
        // SAFETY: nothing ever pointed to it.
        unsafe { self.free_unreachable(table.0) };
    }

    /// Frees a table.
    ///
    /// # Safety
    /// No processor and no walk can reach it any more.
    pub(super) unsafe fn free_unreachable(&self, pfn: Pfn) {
        // SAFETY: the caller's contract.
        let block = unsafe { self.objects.frames().take_table(pfn) };
        debug_assert!(block.is_some(), "what is freed as a table is one");
        if let Some(block) = block {
            self.count_table(pfn, -1);
            self.objects.pages().free(self.cpu, block);
        }
    }

    fn count_table(&self, pfn: Pfn, delta: i64) {
        let node = self.objects.frame(pfn).place().node();
        self.objects.vmstat().mod_node(self.cpu, node, NodeItem::NrPageTablePages, delta);
    }

    /// Puts the kernel's entries into a root table, where user and kernel share one.
    pub(super) fn copy_kernel_half(&self, fresh: &FreshTable) {
        let format = self.format();
        let to = fresh.0.phys(format.page_shift());
        let root = format.root_level();
        for index in format.kernel_root_entries() {
            // Relaxed: the kernel's entries in its root do not change once they are there.
            let Some(entry) = self.slot(self.kernel.root, root, index).map(|from| from.load(Ordering::Relaxed)) else {
                return;
            };
            // Most of the kernel's half is empty, as the fresh table is.
            if entry != 0
                && let Some(to) = self.slot(to, root, index)
            {
                // Relaxed: the new table is published with its address.
                to.store(entry, Ordering::Relaxed);
            }
        }
    }

    /// Writes every entry of a table of `level`.
    pub(super) fn fill(&self, table: &FreshTable, level: Level, entry: impl Fn(u64) -> u64) {
        let at = table.0.phys(self.format().page_shift());
        for index in 0..self.format().entries(level) {
            if let Some(slot) = self.slot(at, level, index) {
                // Relaxed: published by the entry that will point to the table.
                slot.store(entry(index as u64), Ordering::Relaxed);
            }
        }
    }

    /// Returns an entry of a table of `level` that is fresh, or is the kernel's root.
    fn slot(&self, table: PhysAddr, level: Level, index: usize) -> Option<&AtomicU64> {
        if index >= self.format().entries(level) {
            return None;
        }
        let entry = self.objects.map().at(table).cast::<AtomicU64>().wrapping_add(index);
        // SAFETY: a page of the direct map, aligned, that stays during the call: it is the kernel's root, or nobody else has it.
        unsafe { entry.as_ref() }
    }
}
