//! Reaching a page through the entry that maps it, while nobody can share it, protect it or take it out.
//!
//! Linux 6.12: mm/memory.c (`wp_can_reuse_anon_folio`, `wp_page_reuse`) does the second under the table's lock.

use frame_table::PageRef;
use page_allocator::Hooks;
use platform::{Platform, Prot, TableFormat};
use units::Pfn;

use super::Mmu;
use super::entry::{EntryRef, Mapped, Pte};

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
        self.with_held(entry, pte, |mapped, pfn| (lend(mapped, pfn, act), marks))
    }

    /// As [`Self::while_mapped`], and only if the page is anonymous and nobody else has it, as for [`Self::reuse`]. The entry may be read-only.
    #[inline]
    pub fn while_own<R>(
        &self,
        entry: &EntryRef<'_, P::Format>,
        pte: Pte,
        marks: Prot,
        act: impl FnOnce(&PageRef, Pfn) -> R,
    ) -> Option<R> {
        let done = self.with_held(entry, pte, |mapped, pfn| {
            // Marked before the entry is let go: once it is writable, nobody may take the page for shared.
            let is_own = mapped.become_own(self.objects.frames().at(pfn));
            let result = is_own.then(|| lend(mapped, pfn, act));
            (result, if is_own { marks } else { Prot::empty() })
        });
        done.flatten()
    }

    /// Makes the anonymous page that `entry` maps the address space's own and gives the entry the marks `marks`, if it still holds `pte` and nobody else has the page:
    /// it is marked so, or the entry has the only reference. Returns whether it did.
    ///
    /// Asked while the entry is held. What was read of the descriptor before may be of another page's life: the page may have been moved away, used elsewhere and
    /// have come back to the same entry, with others who have it too.
    #[inline]
    pub fn reuse(&self, entry: &EntryRef<'_, P::Format>, pte: Pte, marks: Prot) -> bool {
        self.while_own(entry, pte, marks, |_, _| ()).is_some()
    }

    /// Calls `act` with the page that `entry` maps and the frame that it shows, while the entry is held, if it still holds `pte`. The entry gets the marks that `act` returns
    /// beside its result. `None`, with nothing changed, if `pte` maps no page, or the page of zeros.
    #[inline(always)]
    fn with_held<R>(
        &self,
        entry: &EntryRef<'_, P::Format>,
        pte: Pte,
        act: impl FnOnce(&Mapped<'_>, Pfn) -> (R, Prot),
    ) -> Option<R> {
        let ((pfn, _), before) = (entry.leaf(pte)?, entry.prot(pte)?);
        if entry.shows_zeros(pfn) || !entry.hold_if(pte) {
            return None;
        }
        let (result, marks) = match entry.mapped_frame(pfn) {
            Some(mapped) => {
                let (result, marks) = act(&mapped, pfn);
                (Some(result), marks)
            }
            None => (None, Prot::empty()),
        };
        entry.let_go(Pte::new(self.format().with_prot(entry.level(), pte.raw(), before | marks)));
        result
    }
}

/// Calls `act` with the page of an entry that the caller holds.
#[inline(always)]
fn lend<R>(mapped: &Mapped<'_>, pfn: Pfn, act: impl FnOnce(&PageRef, Pfn) -> R) -> R {
    // SAFETY: the reference that the entry has, which nobody takes while it is held; it is the entry's again below.
    let page = unsafe { PageRef::from_raw(mapped.head, mapped.order) };
    let result = act(&page, pfn);
    page.into_raw();
    result
}
