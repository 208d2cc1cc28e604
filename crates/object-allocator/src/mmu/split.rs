//! Large mappings that become mappings of their parts.
//!
//! The table of the parts is filled before an entry points to it, so no walk and no processor finds it half filled, and the memory is never unmapped
//! in between. Linux 6.12: mm/huge_memory.c (`__split_huge_pmd_locked`).

use frame_table::{PageFlags, PageRef};
use page_allocator::Hooks;
use platform::{Attributes, Level, Platform, TableFormat};
use units::Pfn;

use super::entry::{EntryRef, Pte};
use super::table::FreshTable;
use super::{Gather, Mmu};

/// What a large entry maps, and how its parts are mapped.
struct Large<'e, 'w, F> {
    entry: &'e EntryRef<'w, F>,
    first: Pfn,
    /// Level of the entries that map the parts.
    below: Level,
}

impl<F: TableFormat> Large<'_, '_, F> {
    /// Returns the number of parts.
    fn parts(&self) -> u32 {
        self.entry.view().format.entries(self.below) as u32
    }

    /// Returns the first frame of a part.
    fn part(&self, index: u64) -> Pfn {
        let format = self.entry.view().format;
        self.first.add(index * (format.leaf_bytes(self.below) >> format.page_shift()))
    }

    /// Returns how the memory is mapped if the entry holds `pte`; `None` if it maps another.
    fn attributes(&self, pte: Pte) -> Option<Attributes> {
        self.entry.leaf(pte).filter(|(now, _)| *now == self.first).map(|(_, attributes)| attributes)
    }

    /// Lets every part belong to one address space alone if the whole does, and to none if not, whatever is left in the descriptors from the frames' last use.
    fn mark_parts(&self, pte: Pte) {
        let is_exclusive = self.entry.is_exclusive(pte);
        let parts = (0..u64::from(self.parts())).filter_map(|index| self.entry.view().frames.get(self.part(index)));
        for part in parts {
            if is_exclusive {
                part.set_flags(PageFlags::ANON_EXCLUSIVE);
            } else if part.flags().contains(PageFlags::ANON_EXCLUSIVE) {
                part.clear_flags(PageFlags::ANON_EXCLUSIVE);
            }
        }
    }
}

impl<P: Platform, H: Hooks> Gather<'_, P, H> {
    /// Maps what `entry` maps as one large page part by part, through `table`. Permissions and marks of use are inherited; the resident pages stay as many.
    ///
    /// # Errors
    /// Gives the table back, empty, if the entry maps no large page, or is one of another address space.
    pub fn split(&mut self, entry: &EntryRef<'_, P::Format>, table: FreshTable) -> Result<(), FreshTable> {
        let Some(below) = entry.level().down().filter(|_| self.is_of(entry)) else { return Err(table) };
        // Held, so that its counts may change whatever happens to the entry.
        let Some((page, pte)) = self.mmu().page(entry) else { return Err(table) };
        let split = match entry.leaf(pte) {
            Some((first, _)) => self.mmu().link_parts(&Large { entry, first, below }, &page, pte, table),
            None => Err(table),
        };
        self.mmu().put(page);
        if split.is_ok() {
            self.note(entry.range());
            self.tables().add_tables(1);
        }
        split
    }
}

impl<P: Platform, H: Hooks> Mmu<'_, P, H> {
    /// Counts a reference and a mapping for each part of `page`, fills the table, and puts it in the place of `pte`.
    fn link_parts(
        &self,
        large: &Large<'_, '_, P::Format>,
        page: &PageRef,
        mut pte: Pte,
        mut table: FreshTable,
    ) -> Result<(), FreshTable> {
        let frames = self.objects.frames();
        // The large entry's own become those of one part. Counted first, since others may take parts out as soon as they are found.
        let more = large.parts().saturating_sub(1);
        page.get_mapped(frames, more);
        while let Some(attributes) = large.attributes(pte) {
            large.mark_parts(pte);
            let part = |index| large.entry.encode(large.below, large.part(index), attributes);
            self.fill(&table, large.below, part);
            match large.entry.swap_for_table(pte, table) {
                Ok(()) => return Ok(()),
                // Hardware marked the entry, or somebody took the page.
                Err(back) => (table, pte) = (back, large.entry.load()),
            }
        }
        // SAFETY: taken above, and left to no entry.
        unsafe { page.put_mapped(frames, more) };
        self.fill(&table, large.below, |_| 0);
        Err(table)
    }
}
