//! Frames that are page tables of address spaces.
//!
//! Used by `object-allocator`, which owns the tables. Linux 6.12: `pagetable_pte_ctor`, PGTY_table.

use units::{Order, Pfn};

use crate::{FrameTable, OwnedBlock, PageType};

impl OwnedBlock {
    /// Makes the page a page table; [`FrameTable::take_table`] undoes it.
    pub fn into_table(self, frames: &FrameTable) -> Pfn {
        debug_assert!(self.order() == Order::ZERO, "a table has one page");
        frames.at(self.pfn()).set_state(PageType::Table, Order::ZERO);
        self.pfn()
    }
}

impl FrameTable {
    /// Takes a page table back; `None` if the frame is none.
    ///
    /// # Safety
    /// No processor and no other code can reach the table any more.
    pub unsafe fn take_table(&self, pfn: Pfn) -> Option<OwnedBlock> {
        let was_table = self.get(pfn)?.change_state(PageType::Table, PageType::Owned, Order::ZERO);
        was_table.then(|| OwnedBlock::found(self, pfn, Order::ZERO))
    }
}
