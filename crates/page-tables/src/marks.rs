//! Taking back the marks that use and writes leave.
//!
//! Linux 6.12: fs/proc/task_mmu.c (`clear_refs_pte_range`, `clear_soft_dirty`, `clear_soft_dirty_pmd`, `pte_is_pinned`).

use frame_table::PageFlags;
use object_allocator::mmu::Gather;
use page_allocator::Hooks;
use platform::{Level, Platform, Prot};
use units::{VirtRange, VmFlags};

use crate::Tables;
use crate::copy::is_cow_mapping;
use crate::each::{Seen, each_leaf};
use crate::protect::change;

impl<'a, P: Platform, H: Hooks> Tables<'a, P, H> {
    /// Clears the marks of use of what is mapped in `range`: those of entries and of the pages' descriptors. TLBs are not told, as in
    /// [`Tables::take_referenced`]. The page of zeros keeps its entries' marks: it is nobody's.
    pub fn clear_referenced(&self, range: VirtRange) {
        let Some(walk) = self.walk() else { return };
        let frames = &self.mmu.objects().pages().map().frames;
        each_leaf(&walk, range, |entry, _| {
            // Held, so that what is marked in the descriptor is still this page.
            let Some((page, pte)) = self.mmu.page(&entry) else { return Seen::Done };
            let is_cleared = match entry.prot(pte) {
                Some(before) if before.contains(Prot::ACCESSED) => entry.set_prot(pte, before - Prot::ACCESSED),
                _ => true,
            };
            frames.at(page.pfn()).clear_flags(PageFlags::REFERENCED | PageFlags::YOUNG);
            self.mmu.put(page);
            if is_cleared { Seen::Done } else { Seen::Changed }
        });
    }

    /// Clears the marks of writes of what is mapped in `range`, of an area with `flags`, and makes it read-only, so that the next write is a fault that marks it again.
    /// Writes without one are over when `gather`, which is of these tables, is finished. A pinned page that may be written stays as it is: its holder writes without a fault.
    ///
    /// The caller keeps faults away, or has the area watched already: one that finds it new would make entries writable without the mark.
    pub fn clear_soft_dirty(&self, gather: &mut Gather<'a, P, H>, range: VirtRange, flags: VmFlags) {
        let Some(walk) = self.walk() else { return };
        let may_be_pinned = is_cow_mapping(flags) && self.tables.has_pinned();
        each_leaf(&walk, range, |entry, pte| {
            let Some(before) = entry.prot(pte) else { return Seen::Done };
            let is_small = entry.level() == Level::PTE;
            if may_be_pinned && is_small && before.contains(Prot::WRITE) && entry.is_maybe_pinned(pte) {
                return Seen::Done;
            }
            change(gather, &entry, pte, before, before - Prot::WRITE - Prot::SOFT_DIRTY)
        });
    }
}
