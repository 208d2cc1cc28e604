//! Frames that are page tables of address spaces, and tables that wait beside others.
//!
//! A table that maps something large has a list of tables, one for each such entry, so that the entry can be split whatever memory there is. The list begins in
//! the private word of the upper table's descriptor and is linked by those of the waiting ones; a bit of the first word is its lock, under which nothing else is locked.
//! Used by `object-allocator`, which owns the tables. Linux 6.12: `pagetable_pte_ctor`, PGTY_table, `pgtable_trans_huge_deposit`.

use units::{Order, Pfn};

use crate::{FrameTable, OwnedBlock, PageType};

/// Bit of an upper table's private word that is set while its list changes.
const LOCKED: u64 = 1;

/// No table waits.
const NONE: u64 = 0;

impl OwnedBlock {
    /// Makes the page a page table, beside which none waits; [`FrameTable::take_table`] undoes it.
    pub fn into_table(self, frames: &FrameTable) -> Pfn {
        debug_assert!(self.order() == Order::ZERO, "a table has one page");
        let frame = frames.at(self.pfn());
        frame.set_state(PageType::Table, Order::ZERO);
        frame.set_private(NONE);
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

    /// Lets `table`, which nothing points to, wait beside the table `upper` (Linux: `pgtable_trans_huge_deposit`).
    pub fn deposit(&self, upper: Pfn, table: Pfn) {
        let list = self.at(upper);
        let first = list.lock_private(LOCKED);
        self.at(table).set_private(first);
        list.unlock_private((table.raw() + 1) << 1);
    }

    /// Takes a table that waits beside the table `upper`, if one does (Linux: `pgtable_trans_huge_withdraw`).
    pub fn withdraw(&self, upper: Pfn) -> Option<Pfn> {
        let list = self.at(upper);
        let first = list.lock_private(LOCKED);
        let table = (first >> 1).checked_sub(1).map(Pfn::new);
        list.unlock_private(table.map_or(NONE, |table| self.at(table).private()));
        table
    }
}
