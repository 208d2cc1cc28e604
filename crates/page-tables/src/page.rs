//! One page, wherever an address space maps it: what a walk of the reverse map does in each area that it finds.
//!
//! Entries that map another page are left alone, and so is one that gets another page meanwhile. Linux 6.12: mm/rmap.c (`folio_referenced_one`,
//! `page_vma_mkclean_one`, `try_to_unmap_one`), mm/page_vma_mapped.c.

use frame_table::PageRef;
use object_allocator::mmu::{EntryRef, Gather, Pte};
use page_allocator::Hooks;
use platform::{Platform, Prot};
use units::{Pfn, VirtRange};

use crate::each::{Seen, each_leaf};
use crate::protect::change;
use crate::{RssDelta, Tables};

impl<'a, P: Platform, H: Hooks> Tables<'a, P, H> {
    /// Clears the mark of use of each entry in `range` that maps `page` or a part of it; returns how many had it.
    ///
    /// TLBs are not told, as Linux does not on x86: a use that they remember is seen the next time.
    pub fn take_referenced(&self, range: VirtRange, page: &PageRef) -> u32 {
        let mut referenced = 0;
        self.each_entry_of(range, page, |entry, pte| {
            let Some(before) = entry.prot(pte).filter(|before| before.contains(Prot::ACCESSED)) else {
                return Seen::Done;
            };
            if !entry.set_prot(pte, before - Prot::ACCESSED) {
                return Seen::Changed;
            }
            referenced += 1;
            Seen::Done
        });
        referenced
    }

    /// Makes each entry in `range` that maps `page` or a part of it read-only and clean, so that the next write is a fault; returns how many could be, or were,
    /// written through. Writes are over when `gather`, which is of these tables, is finished.
    pub fn make_clean(&self, gather: &mut Gather<'a, P, H>, range: VirtRange, page: &PageRef) -> u32 {
        let mut cleaned = 0;
        self.each_entry_of(range, page, |entry, pte| {
            let writes = Prot::WRITE | Prot::DIRTY;
            let Some(before) = entry.prot(pte).filter(|before| before.intersects(writes)) else { return Seen::Done };
            let seen = change(gather, entry, pte, before, before - writes);
            cleaned += u32::from(seen == Seen::Done);
            seen
        });
        cleaned
    }

    /// Takes `page` out of each entry in `range` that maps it or a part of it. The entries' references go when `gather`, which is of these tables, is
    /// finished; that the page was written to is noted in its descriptor.
    pub fn unmap_page(&self, gather: &mut Gather<'a, P, H>, range: VirtRange, page: &PageRef) {
        if !gather.flushes(self.tables) {
            return;
        }
        self.tables.note_rss();
        let mut delta = RssDelta::default();
        self.each_entry_of(range, page, |entry, pte| match gather.take_if(entry, pte) {
            Some(taken) => {
                delta.remove(&taken);
                Seen::Done
            }
            None => Seen::Changed,
        });
        delta.apply(self.mmu.cpu(), self.tables);
    }

    /// Shows each entry in `range` that maps `page` or a part of it, with what it held.
    pub(crate) fn each_entry_of(
        &self,
        range: VirtRange,
        page: &PageRef,
        mut visit: impl FnMut(&EntryRef<'_, P::Format>, Pte) -> Seen,
    ) {
        let Some(walk) = self.walk() else { return };
        let behind = page.pfn().add(page.order().nr_pages());
        let is_part = |pfn: Pfn| page.pfn() <= pfn && pfn < behind;
        each_leaf(&walk, range, |entry, pte| match entry.leaf(pte) {
            Some((pfn, _)) if is_part(pfn) => visit(&entry, pte),
            _ => Seen::Done,
        });
    }
}
