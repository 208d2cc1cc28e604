//! Tables that no entry points to: before they are linked, and after they were taken out.
//!
//! Linux 6.12: `pte_alloc_one`, `pagetable_pte_ctor`, `pte_free`.

use core::sync::atomic::{AtomicU64, Ordering};

use page_allocator::Hooks;
use platform::{Platform, TableFormat};
use units::{Gfp, Order, Pfn, PhysAddr};

use super::Mmu;
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
        Ok(FreshTable(block.into_table(self.objects.frames())))
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
        for index in format.kernel_root_entries() {
            let (Some(from), Some(to)) = (self.slot(self.kernel.root, index), self.slot(to, index)) else { return };
            // Relaxed: the kernel's entries in its root do not change once they are there; the new table is published with its address.
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Returns an entry of a root table.
    fn slot(&self, table: PhysAddr, index: usize) -> Option<&AtomicU64> {
        if index >= self.format().entries(self.format().root_level()) {
            return None;
        }
        let entry = self.objects.map().at(table).cast::<AtomicU64>().wrapping_add(index);
        // SAFETY: both tables are memory of the direct map, aligned, and stay during the call: one is the kernel's root, one is fresh.
        unsafe { entry.as_ref() }
    }
}
