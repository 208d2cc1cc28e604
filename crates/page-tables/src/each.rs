//! A walk over the leaves of a range.
//!
//! Holes are skipped table by table. Linux 6.12: mm/pagewalk.c (`walk_page_range`).

use object_allocator::mmu::{EntryRef, Found, Pte, Walk};
use page_allocator::Hooks;
use platform::{Level, Platform, TableFormat};
use units::{VirtAddr, VirtRange};

use crate::Tables;

impl<'a, P: Platform, H: Hooks> Tables<'a, P, H> {
    /// Begins a walk of these tables.
    pub(crate) fn walk(&self) -> Option<Walk<'a, P::Format>> {
        self.mmu.walk(self.tables)
    }
}

/// What a visitor did with an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    /// It is done with it.
    Done,
    /// Others changed the entry since it was read: look again, at what a split put in its place too.
    Changed,
}

/// Calls `visit` with each entry that maps something in `range`, ascending: the first address that it translates, the entry, and what it held.
///
/// An entry of a large page is visited if a part of it lies in the range, with its own first address.
pub(crate) fn each_leaf<F: TableFormat>(
    walk: &Walk<'_, F>,
    range: VirtRange,
    mut visit: impl FnMut(VirtAddr, EntryRef<'_, F>, Pte) -> Seen,
) {
    let format = walk.format();
    let page = format.leaf_bytes(Level::PTE);
    let mut at = range.start;
    while at < range.end {
        match walk.find(at, Level::PTE) {
            None => return,
            Some(Found::Above(entry, pte)) => {
                let bytes = format.leaf_bytes(entry.level());
                let start = at.align_down(bytes);
                if !pte.is_none() && visit(start, entry, pte) == Seen::Changed {
                    continue;
                }
                let Some(behind) = start.checked_add(bytes) else { return };
                at = behind;
            }
            Some(Found::Entry(first)) => {
                let mut entry = Some(first);
                while let Some(here) = entry.filter(|_| at < range.end) {
                    let mut pte = here.load();
                    while !pte.is_none() && visit(at, here, pte) == Seen::Changed {
                        pte = here.load();
                    }
                    at = at.saturating_add(page);
                    entry = here.next();
                }
            }
        }
    }
}
