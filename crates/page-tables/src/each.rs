//! A walk over the leaves of a range.
//!
//! Holes are skipped table by table. Linux 6.12: mm/pagewalk.c (`walk_page_range`).

use object_allocator::mmu::{EntryRef, Found, Pte, Row, Walk};
use page_allocator::Hooks;
use platform::{Level, Platform, TableFormat};
use units::{VirtAddr, VirtRange};

use crate::Tables;

impl<'a, P: Platform, H: Hooks> Tables<'a, P, H> {
    /// Begins a walk of these tables.
    pub(crate) fn walk(&self) -> Option<Walk<'a, P::Format>> {
        self.mmu.walk(self.tables)
    }

    /// Calls `look` with the lowest entry that there is for `virt`, and what it holds, which is no table.
    pub(crate) fn with_entry<R>(
        &self,
        virt: VirtAddr,
        look: impl FnOnce(EntryRef<'_, P::Format>, Pte) -> Option<R>,
    ) -> Option<R> {
        let walk = self.walk()?;
        match walk.find(virt, Level::PTE)? {
            Found::Entry(entry) => look(entry, entry.load()),
            Found::Above(entry, pte) => look(entry, pte),
        }
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

/// Returns true if `range`, of whole pages, holds all that the entry, which translates some of it, maps.
#[inline]
pub(crate) fn holds_whole<F: TableFormat>(range: VirtRange, entry: &EntryRef<'_, F>) -> bool {
    entry.level() == Level::PTE || range.intersection(entry.range()) == entry.range()
}

/// What is done with each entry of a walk that maps something.
///
/// Its method is inlined twice: for entries of the lowest level, which are nearly all, with all that follows from the level as constants; and for others.
pub(crate) trait Visitor<'w, F> {
    /// Looks at an entry that held `pte`.
    fn visit(&mut self, entry: EntryRef<'w, F>, pte: Pte) -> Seen;
}

/// Calls `visitor` with each entry that maps something in `range`, ascending, and what it held.
///
/// An entry of a large page is visited if a part of it lies in the range.
#[inline]
pub(crate) fn visit_leaves<'w, F: TableFormat>(
    walk: &'w Walk<'_, F>,
    range: VirtRange,
    visitor: &mut impl Visitor<'w, F>,
) {
    let mut at = range.start;
    while let Some(row) = walk.row(VirtRange::new(at, range.end)) {
        at = row.range().end;
        let changed = match row.lowest_entries() {
            Some(entries) => visit_row(entries, visitor),
            None => visit_row(row.entries(), visitor),
        };
        if let Some(virt) = changed {
            at = virt.max(range.start);
        }
    }
}

/// Visits entries of one table. Returns where one is that is to be looked at again; those behind it were not visited.
#[inline(always)]
fn visit_row<'w, F: TableFormat>(
    entries: impl Iterator<Item = EntryRef<'w, F>>,
    visitor: &mut impl Visitor<'w, F>,
) -> Option<VirtAddr> {
    for entry in entries {
        let pte = entry.load();
        if pte.is_none() {
            continue;
        }
        if entry.level() != Level::PTE && entry.leaf(pte).is_none() {
            // A large page was split, or a table made, since the row was found: the walk goes down there.
            return Some(entry.virt());
        }
        if visitor.visit(entry, pte) == Seen::Changed {
            return Some(entry.virt());
        }
    }
    None
}

/// A visitor that is a closure, for walks that need not be fast.
struct ByClosure<V>(V);

impl<'w, F: 'w, V: FnMut(EntryRef<'w, F>, Pte) -> Seen> Visitor<'w, F> for ByClosure<V> {
    fn visit(&mut self, entry: EntryRef<'w, F>, pte: Pte) -> Seen {
        (self.0)(entry, pte)
    }
}

/// As [`visit_leaves`], with a closure.
pub(crate) fn each_leaf<'w, F: TableFormat>(
    walk: &'w Walk<'_, F>,
    range: VirtRange,
    visit: impl FnMut(EntryRef<'w, F>, Pte) -> Seen,
) {
    visit_leaves(walk, range, &mut ByClosure(visit));
}

/// Calls `visit` with the entries of `range` and those of as many addresses from `to` up, row by row, as far as both lie in one table each and of the same level.
pub(crate) fn each_pair<'w, F: TableFormat>(
    walk: &'w Walk<'_, F>,
    range: VirtRange,
    to_walk: &'w Walk<'_, F>,
    to: VirtAddr,
    mut visit: impl FnMut(Row<'w, F>, Row<'w, F>),
) {
    let mut at = range.start;
    while at < range.end {
        let there = to.saturating_add(at.since(range.start));
        let Some(row) = walk.row(VirtRange::new(at, range.end)) else { return };
        let Some(target) = to_walk.row(VirtRange::with_len(there, range.end.since(at))) else { return };
        let here = row.range().end.since(at);
        let bytes = here.min(target.range().end.since(there));
        if row.level() == target.level() {
            let len = row.nr_entries().min(target.nr_entries());
            visit(row.first(len), target.first(len));
        }
        at = at.saturating_add(bytes);
    }
}
