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
    /// The walk may end.
    Enough,
}

/// Entries at rising addresses, of a second range that is walked beside the first: as long as they lie side by side in one table, no walk from the root is
/// needed.
pub(crate) struct Beside<'w, 'a, F> {
    walk: &'w Walk<'a, F>,
    last: Option<EntryRef<'w, F>>,
}

impl<'w, 'a, F: TableFormat> Beside<'w, 'a, F> {
    pub(crate) const fn new(walk: &'w Walk<'a, F>) -> Self {
        Self { walk, last: None }
    }

    /// Returns the entry of `level` that translates `virt`; `None` if there is no table for it.
    pub(crate) fn entry(&mut self, virt: VirtAddr, level: Level) -> Option<EntryRef<'w, F>> {
        let next = self.last.filter(|last| last.level() == level).and_then(|last| last.next());
        self.last = match next.filter(|next| next.virt() == virt) {
            Some(next) => Some(next),
            None => match self.walk.find(virt, level)? {
                Found::Entry(entry) => Some(entry),
                Found::Above(..) => None,
            },
        };
        self.last
    }
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
                match if pte.is_none() { Seen::Done } else { visit(start, entry, pte) } {
                    Seen::Done => {}
                    Seen::Changed => continue,
                    Seen::Enough => return,
                }
                let Some(behind) = start.checked_add(bytes) else { return };
                at = behind;
            }
            Some(Found::Entry(first)) => {
                let mut entry = Some(first);
                while let Some(here) = entry.filter(|_| at < range.end) {
                    let pte = here.load();
                    match if pte.is_none() { Seen::Done } else { visit(at, here, pte) } {
                        Seen::Done => {}
                        Seen::Changed => continue,
                        Seen::Enough => return,
                    }
                    at = at.saturating_add(page);
                    entry = here.next();
                }
            }
        }
    }
}
