//! Reaching a page through the entry that maps it, while nobody can share it, protect it or take it out.

use frame_table::PageRef;
use page_allocator::Hooks;
use platform::{Platform, Prot, TableFormat};
use units::Pfn;

use super::Mmu;
use super::entry::{EntryRef, Pte};

impl<P: Platform, H: Hooks> Mmu<'_, P, H> {
    /// Calls `act` with the page that `entry` maps and the frame in it that the entry shows, if the entry still holds `pte`, which gets the marks of use `marks`.
    /// `None` if it holds something else, or `pte` maps no page, or the page of zeros.
    ///
    /// Meanwhile whoever looks at the entry waits, as a processor that has to walk does in its fault. Processors that remember the entry go on using the page. What
    /// `act` does is done before the page is anybody else's too, as it is for a processor, which is told before a page is shared. `act` waits for nobody and
    /// looks at no page table.
    #[inline]
    pub fn while_mapped<R>(
        &self,
        entry: &EntryRef<'_, P::Format>,
        pte: Pte,
        marks: Prot,
        act: impl FnOnce(&PageRef, Pfn) -> R,
    ) -> Option<R> {
        let (pfn, _) = entry.leaf(pte)?;
        let marked = Pte::new(self.format().with_prot(entry.level(), pte.raw(), entry.prot(pte)? | marks));
        if entry.shows_zeros(pfn) || !entry.hold_if(pte) {
            return None;
        }
        let result = entry.mapped_frame(pfn).map(|mapped| {
            // SAFETY: the reference that the entry has, which nobody takes while it is held; it is the entry's again below.
            let page = unsafe { PageRef::from_raw(mapped.head, mapped.order) };
            let result = act(&page, pfn);
            page.into_raw();
            result
        });
        entry.let_go(marked);
        result
    }
}
