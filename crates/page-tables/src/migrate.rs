//! An anonymous page that moves to another frame: each entry that maps it gets the new one.
//!
//! Guarantee first: nobody holds the old page when its bytes are copied but who moves it and the entries. The page of one entry is asked while that entry maps
//! neither frame, so whoever takes a reference after that finds the new page. One with more entries is read-only in all of them, stays as it was copied, and
//! belongs to no address space alone as long as who moves it holds it.
//! Linux 6.12: mm/migrate.c (`migrate_folio`, `folio_expected_refs`, `set_migration_pte`, `remove_migration_pte`).

use frame_table::{FrameTable, OwnedBlock, PageFlags, PageRef};
use object_allocator::mmu::Gather;
use page_allocator::Hooks;
use platform::Platform;
use units::VirtRange;

use crate::Tables;
use crate::each::Seen;

/// Why an entry, or more, still map the old page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unmoved {
    /// Nothing maps the page.
    Unmapped,
    /// Somebody else holds it.
    Held,
    /// Its bytes could not be copied.
    NotCopied,
    /// An entry was not shown, or maps a part of the page.
    Mapped,
}

/// An anonymous page on its way to another frame.
#[derive(Debug)]
pub struct Migration<'m> {
    frames: &'m FrameTable,
    from: &'m PageRef,
    to: PageRef,
    is_copied: bool,
    refused: Option<Unmoved>,
}

impl<'m> Migration<'m> {
    /// Begins to move `from`, an anonymous page that the caller holds once, to the frames of `to`, which are as many.
    ///
    /// # Errors
    /// [`Unmoved::Unmapped`] and [`Unmoved::Held`], with the frames.
    pub fn begin(frames: &'m FrameTable, from: &'m PageRef, to: OwnedBlock) -> Result<Self, (Unmoved, OwnedBlock)> {
        let (mapping, index) = frames.at(from.pfn()).mapping();
        if frames.at(from.pfn()).mapcount() == 0 {
            return Err((Unmoved::Unmapped, to));
        }
        if is_held(frames, from) {
            return Err((Unmoved::Held, to));
        }
        Ok(Self { frames, from, to: to.into_anon(frames, mapping, index), is_copied: false, refused: None })
    }

    /// Returns true if the new page may be entered: nobody holds the old one, and `copy` filled the new one or did before.
    fn is_ready(&mut self, copy: impl FnOnce(&PageRef) -> bool) -> bool {
        let refused = match () {
            () if is_held(self.frames, self.from) => Unmoved::Held,
            () if self.is_copied => return true,
            () if !copy(&self.to) => Unmoved::NotCopied,
            () => {
                self.take_flags_along();
                self.is_copied = true;
                return true;
            }
        };
        self.refused = Some(refused);
        false
    }

    fn take_flags_along(&self) {
        let (old, new) = (self.frames.at(self.from.pfn()), self.frames.at(self.to.pfn()));
        new.set_flags(old.flags() & PageFlags::MIGRATED);
        if !old.flags().contains(PageFlags::ANON_EXCLUSIVE) {
            new.clear_flags(PageFlags::ANON_EXCLUSIVE);
        }
    }

    /// Ends it. Returns the new page, which the caller gives back, and whether the old one is mapped no longer.
    pub fn end(self) -> (PageRef, Result<(), Unmoved>) {
        let is_mapped = self.frames.at(self.from.pfn()).mapcount() > 0;
        let left = self.refused.or(is_mapped.then_some(Unmoved::Mapped));
        (self.to, left.map_or(Ok(()), Err))
    }
}

/// Returns true if somebody holds the page but its entries and who moves it.
fn is_held(frames: &FrameTable, page: &PageRef) -> bool {
    let frame = frames.at(page.pfn());
    // The latest: who takes a reference and finds the entry as it was before it was emptied is counted.
    i64::from(frame.latest_count()) != i64::from(frame.mapcount()) + 1
}

impl<'a, P: Platform, H: Hooks> Tables<'a, P, H> {
    /// Puts the new page in the place of the old one in each entry in `range` that maps all of that. `copy` fills the new one, when nobody uses the old one through the
    /// entry any more; it may refuse. Entries that map a part of the page stay. The entries' references go when `gather`, which is of these tables, is finished.
    ///
    /// The caller keeps fork away from the address space.
    pub fn migrate(
        &self,
        gather: &mut Gather<'a, P, H>,
        range: VirtRange,
        migration: &mut Migration<'_>,
        mut copy: impl FnMut(&PageRef) -> bool,
    ) {
        let from = migration.from;
        self.each_entry_of(range, from, |entry, pte| {
            let Some((_, attributes)) = entry.leaf(pte).filter(|_| entry.order() == from.order()) else {
                return Seen::Done;
            };
            let to = migration.to.get(migration.frames);
            let mut is_refused = false;
            let replaced = gather.replace_when(entry, pte, to, attributes, || {
                is_refused = !migration.is_ready(&mut copy);
                !is_refused
            });
            match replaced {
                Ok(_) => Seen::Done,
                Err(page) => {
                    self.mmu.put(page);
                    if is_refused { Seen::Done } else { Seen::Changed }
                }
            }
        });
    }
}
