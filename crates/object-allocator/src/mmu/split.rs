//! Large mappings that become mappings of their parts.
//!
//! The entry is held meanwhile: whoever looks at it waits, and hardware faults and then waits. The table of the parts waited beside it, so nothing is allocated and
//! nothing can fail. Linux 6.12: mm/huge_memory.c (`__split_huge_pmd_locked`).

use frame_table::{PageFlags, PageRef};
use page_allocator::Hooks;
use platform::{Level, Platform, Prot, TableFormat};
use units::Pfn;

use super::entry::{EntryRef, Pte, Taken};
use super::table::FreshTable;
use super::{Gather, Mmu};

/// What a large entry maps, which holds nothing else meanwhile, and how its parts are mapped.
struct Large<'e, 'w, F> {
    entry: &'e EntryRef<'w, F>,
    pte: Pte,
    first: Pfn,
    /// The large page of zeros.
    is_zeros: bool,
}

impl<F: TableFormat> Large<'_, '_, F> {
    /// Returns the number of parts.
    fn parts(&self) -> u32 {
        self.entry.view().format.entries(Level::PTE) as u32
    }

    /// Returns the first frame of a part: of zeros, the small page of zeros (Linux: `__split_huge_zero_page_pmd`).
    fn part(&self, index: u64) -> Pfn {
        let format = self.entry.view().format;
        if self.is_zeros {
            return self.entry.view().zero_page;
        }
        self.first.add(index * (format.leaf_bytes(Level::PTE) >> format.page_shift()))
    }

    /// Lets every part belong to one address space alone if the whole does, and to none if not, whatever is left in the descriptors from the frames' last use.
    fn mark_parts(&self) {
        let is_exclusive = self.entry.is_exclusive(self.pte);
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
    /// Maps what `entry` maps as one large page part by part. Permissions and marks of use are inherited; the resident pages stay as many. A large page of a
    /// file is taken out instead, since faults bring it back, and returned; its address space's counters are the caller's.
    ///
    /// Does nothing if the entry maps no large page, or is one of another address space.
    pub fn split(&mut self, entry: &EntryRef<'_, P::Format>) -> Option<Taken> {
        if entry.level() != Level::PMD || !self.is_of(entry) {
            return None;
        }
        let pte = entry.hold()?;
        self.note(entry.range());
        if !entry.has_deposit(pte) {
            entry.let_go(Pte::NONE);
            return self.release(entry, pte);
        }
        match (entry.leaf(pte), entry.withdraw()) {
            (Some((first, _)), Some(table)) => {
                let is_zeros = entry.is_zero_page(pte);
                self.mmu().link_parts(&Large { entry, pte, first, is_zeros }, table);
            }
            _ => entry.let_go(pte),
        }
        None
    }
}

impl<P: Platform, H: Hooks> Mmu<'_, P, H> {
    /// Counts a reference and a mapping for each part, fills the table, and lets the entry, which is held, point to it.
    fn link_parts(&self, large: &Large<'_, '_, P::Format>, table: FreshTable) {
        let Some((_, mut attributes)) = large.entry.leaf(large.pte) else { return };
        // What is dirty makes its parts count as written to, though the mark was taken back from the whole (Linux does so where making dirty makes soft-dirty).
        attributes.prot.set(Prot::SOFT_DIRTY, attributes.prot.intersects(Prot::WRITTEN));
        if let Some(mapped) = large.entry.mapped(large.pte) {
            // SAFETY: the reference of the entry, which is held; it stays, for one of the parts.
            let page = unsafe { PageRef::from_raw(mapped.head, mapped.order) };
            // Counted first, since others may take parts out as soon as they are found.
            page.get_mapped(self.objects.frames(), large.parts().saturating_sub(1));
            page.into_raw();
            large.mark_parts();
        }
        self.fill(&table, Level::PTE, |index| large.entry.encode(Level::PTE, large.part(index), attributes));
        large.entry.point_to(table);
    }
}
