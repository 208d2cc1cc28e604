//! Tables that wait beside entries that map large pages, so that a split never fails for want of memory.
//!
//! Each entry of the middle level that maps an anonymous page whole, or the large page of zeros, has one, in the list of the table that the entry is in. It is put there before the entry can be
//! found, and taken by whoever emptied the entry or holds it, so there always is one for whoever is entitled to it, in whatever order. Linux 6.12:
//! mm/pgtable-generic.c (`pgtable_trans_huge_deposit`), mm/huge_memory.c (`zap_deposited_table`).

use frame_table::PageRef;
use page_allocator::Hooks;
use platform::{Attributes, Level, Platform, Prot, TableFormat};
use units::{Pfn, VirtAddr};

use super::entry::{EntryRef, PageKind, Pte};
use super::table::FreshTable;
use super::{Gather, Mmu, UserTables};

impl<F: TableFormat> EntryRef<'_, F> {
    /// Returns the frame of the table that the entry is in.
    fn upper_table(&self) -> Pfn {
        self.view().map.pfn(core::ptr::from_ref(self.slot()).cast())
    }

    /// Returns true if a table waits for the entry while it holds `pte`. Others keep what that maps as it is.
    #[cold]
    #[inline(never)]
    pub(super) fn has_deposit(self, pte: Pte) -> bool {
        self.level() == Level::PMD && (self.kind(pte) == Some(PageKind::Anon) || self.is_zero_page(pte))
    }

    /// Lets `table` wait for the entry.
    fn deposit(&self, table: FreshTable) {
        self.view().frames.deposit(self.upper_table(), table.into_pfn());
    }

    /// Takes a table that waits for the entry, by the one who emptied or holds it.
    pub(super) fn withdraw(&self) -> Option<FreshTable> {
        let table = self.view().frames.withdraw(self.upper_table()).map(FreshTable::of);
        debug_assert!(table.is_some(), "a table waits for each entry that maps a large page");
        table
    }

    /// Lets the table that waits for this entry, which the caller emptied, wait for `target` (Linux: `pmd_move_must_withdraw`).
    pub(super) fn move_deposit(&self, target: &Self) {
        if self.upper_table() != target.upper_table()
            && let Some(table) = self.withdraw()
        {
            target.deposit(table);
        }
    }
}

impl<P: Platform, H: Hooks> Mmu<'_, P, H> {
    /// Maps `page`, an anonymous one, whole by the entry of the middle level for `virt`, if that is empty. `table` waits for the entry then, and goes if not.
    ///
    /// # Errors
    /// Gives the page back if the entry holds something, tables above it are missing, or the page has another size.
    pub fn install_large(
        &self,
        tables: &UserTables,
        virt: VirtAddr,
        page: PageRef,
        attributes: Attributes,
        table: FreshTable,
    ) -> Result<(), PageRef> {
        let walk = self.walk(tables);
        match walk.as_ref().and_then(|walk| walk.pmd(virt)) {
            Some(entry) if entry.fits_whole(&page) => {
                self.with_deposit(tables, &entry, table, page, |page| entry.install_whole(page, attributes))
            }
            _ => {
                self.free_fresh(table);
                Err(page)
            }
        }
    }

    /// Maps what `entry`, which has a table that waits for it, maps at `child` too, an empty entry of `tables`, for which `table` waits then; it goes if nothing is
    /// mapped. Otherwise as [`Mmu::duplicate`].
    pub fn duplicate_large(
        &self,
        entry: &EntryRef<'_, P::Format>,
        pte: Pte,
        child: (&UserTables, &EntryRef<'_, P::Format>),
        prot: Prot,
        table: FreshTable,
    ) -> Option<PageKind> {
        let (tables, child) = child;
        if entry.is_zero_page(pte) {
            self.duplicate_zeros(entry, pte, (tables, child), prot, table);
            return None;
        }
        entry.make_shared(pte);
        let held = if entry.has_deposit(pte) && child.level() == Level::PMD { self.page(entry) } else { None };
        let Some((page, now)) = held else {
            self.free_fresh(table);
            return None;
        };
        let (kind, head) = (entry.kind(now), self.objects().frames().at(page.pfn()));
        match self.with_deposit(tables, child, table, page, |page| child.install_same(page, head, now, prot)) {
            Ok(()) => kind,
            Err(page) => {
                self.put(page);
                None
            }
        }
    }

    /// As [`Mmu::duplicate_large`], for the large page of zeros, which the entry maps.
    fn duplicate_zeros(
        &self,
        entry: &EntryRef<'_, P::Format>,
        pte: Pte,
        (tables, child): (&UserTables, &EntryRef<'_, P::Format>),
        prot: Prot,
        table: FreshTable,
    ) {
        match entry.leaf(pte).filter(|_| child.level() == Level::PMD) {
            Some((zeros, attributes)) => {
                let attributes = Attributes { prot, ..attributes };
                let install = |()| child.install_huge_zero(zeros, attributes);
                // If the child's entry is not empty, its table went, and there is nothing else to give back.
                let _ = self.with_deposit(tables, child, table, (), install);
            }
            None => self.free_fresh(table),
        }
    }

    /// Lets `table` wait for `entry` of `tables` while `install` fills that with `held`; if it cannot, the table goes.
    pub(super) fn with_deposit<T>(
        &self,
        tables: &UserTables,
        entry: &EntryRef<'_, P::Format>,
        table: FreshTable,
        held: T,
        install: impl FnOnce(T) -> Result<(), T>,
    ) -> Result<(), T> {
        tables.note_large();
        entry.deposit(table);
        let installed = install(held);
        match &installed {
            Ok(()) => tables.add_tables(1),
            Err(_) => entry.withdraw().into_iter().for_each(|table| self.free_fresh(table)),
        }
        installed
    }
}

impl<P: Platform, H: Hooks> Gather<'_, P, H> {
    /// Frees the table that waited for `entry`, which the caller emptied of `pte` (Linux: `zap_deposited_table`). No processor and no walk ever saw it.
    #[cold]
    #[inline(never)]
    pub(super) fn free_deposit(&mut self, entry: EntryRef<'_, P::Format>, pte: Pte) {
        if entry.has_deposit(pte)
            && let Some(table) = entry.withdraw()
        {
            self.tables().add_tables(-1);
            self.mmu().free_fresh(table);
        }
    }
}
