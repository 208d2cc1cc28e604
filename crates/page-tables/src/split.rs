//! Large pages that become small ones.
//!
//! Linux 6.12: mm/huge_memory.c (`__split_huge_pmd`, `vma_adjust_trans_huge`).

use object_allocator::mmu::{EntryRef, Found, FreshTable, Gather};
use page_allocator::Hooks;
use platform::{Level, Platform};
use units::{Gfp, VirtAddr, VirtRange};

use crate::{NoMemory, Tables};

impl<'a, P: Platform, H: Hooks> Tables<'a, P, H> {
    /// Lets a large page that is mapped at `virt` be mapped by entries of the lowest level. `gather`, which is of these tables, is told. Does nothing
    /// if no large page is mapped there.
    ///
    /// The caller keeps others from taking tables out.
    ///
    /// # Errors
    /// [`NoMemory`]; the mapping stays as it was, or has become one of less large pages.
    pub fn split_large(&self, gather: &mut Gather<'a, P, H>, virt: VirtAddr) -> Result<(), NoMemory> {
        debug_assert!(gather.flushes(self.tables), "a gather is used for its own tables");
        while gather.flushes(self.tables) && self.is_large(virt) {
            // Outside the walk, since an allocation may wait for memory to be freed.
            let table = self.mmu.alloc_table(Gfp::KERNEL).map_err(|_| NoMemory)?;
            if let Some(table) = self.split_by(gather, virt, table) {
                self.mmu.free_fresh(table);
            }
        }
        Ok(())
    }

    /// Splits large pages that begin outside `range` and end in it, or begin in it and end outside.
    ///
    /// # Errors
    /// [`NoMemory`]; some may be split.
    pub fn split_ends(&self, gather: &mut Gather<'a, P, H>, range: VirtRange) -> Result<(), NoMemory> {
        for end in [range.start, range.end] {
            if self.crosses_large_page(end) {
                self.split_large(gather, end)?;
            }
        }
        Ok(())
    }

    /// Returns true if a large page crosses `at`.
    pub fn crosses_large_page(&self, at: VirtAddr) -> bool {
        self.with_large(at, |entry| entry.virt() != at).unwrap_or(false)
    }

    /// Returns true if a large page is mapped at `at`.
    pub fn is_large(&self, at: VirtAddr) -> bool {
        self.with_large(at, |_| ()).is_some()
    }

    /// Returns true if `range` is what one large page is mapped at.
    pub(crate) fn is_one_large(&self, range: VirtRange) -> bool {
        self.with_large(range.start, |entry| entry.range() == range).unwrap_or(false)
    }

    /// Puts `table` in the place of the large entry at `virt`. Returns the table if it was not needed.
    fn split_by(&self, gather: &mut Gather<'a, P, H>, virt: VirtAddr, table: FreshTable) -> Option<FreshTable> {
        let mut table = Some(table);
        self.with_large(virt, |entry| {
            if let Some(Err(back)) = table.take().map(|table| gather.split(&entry, table)) {
                table = Some(back);
            }
        });
        table
    }

    /// Calls `visit` with the entry that maps a large page at `virt`, if there is one.
    fn with_large<R>(&self, virt: VirtAddr, visit: impl FnOnce(EntryRef<'_, P::Format>) -> R) -> Option<R> {
        let walk = self.walk()?;
        match walk.find(virt, Level::PTE)? {
            Found::Above(entry, pte) if entry.leaf(pte).is_some() => Some(visit(entry)),
            _ => None,
        }
    }
}
