//! Entries side by side in one table, for who works on many of them.
//!
//! A walk from the root finds the first; the others need none. Linux 6.12: the loops over `pte_offset_map_lock` to `pte_unmap_unlock`, mm/pagewalk.c.

use core::slice;

use platform::{Level, TableFormat};
use units::{VirtAddr, VirtRange};

use super::View;
use super::entry::EntryRef;
use super::walk::{TableRef, Walk};
use crate::atomic::AtomicU64;

/// Entries side by side in one table.
#[derive(Debug)]
pub struct Row<'w, F> {
    view: &'w View<'w, F>,
    slots: &'w [AtomicU64],
    level: Level,
    /// First address that the first entry translates.
    virt: VirtAddr,
}

impl<F> Clone for Row<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Row<'_, F> {}

impl<'w, F: TableFormat> Row<'w, F> {
    /// Returns the level of the table.
    #[inline]
    pub const fn level(&self) -> Level {
        self.level
    }

    /// Returns the number of entries, at least one.
    #[inline]
    pub const fn nr_entries(&self) -> usize {
        self.slots.len()
    }

    /// Returns the addresses that the entries translate.
    #[inline]
    pub fn range(&self) -> VirtRange {
        VirtRange::with_len(self.virt, (self.slots.len() as u64) << self.view.format.shift(self.level))
    }

    /// Returns the first `len` entries, or all if there are fewer.
    #[inline]
    pub fn first(self, len: usize) -> Self {
        let slots = self.slots.get(..len).unwrap_or(self.slots);
        Self { slots, ..self }
    }

    /// Returns the first `len` entries, and those behind them if there are any.
    #[inline]
    pub fn split_at(self, len: usize) -> (Self, Option<Self>) {
        let rest = self.slots.get(len..).filter(|rest| !rest.is_empty());
        let virt = VirtAddr::new(self.virt.raw().wrapping_add((len as u64) << self.view.format.shift(self.level)));
        (self.first(len), rest.map(|slots| Self { slots, virt, ..self }))
    }

    /// Returns the entries, ascending.
    #[inline(always)]
    pub fn entries(self) -> impl Iterator<Item = EntryRef<'w, F>> {
        self.entries_as::<false>()
    }

    /// As [`Row::entries`], for a row of the lowest level, which the compiler knows then; `None` for others.
    #[inline(always)]
    pub fn lowest_entries(self) -> Option<impl Iterator<Item = EntryRef<'w, F>>> {
        (self.level == Level::PTE).then(|| self.entries_as::<true>())
    }

    /// The two kinds have types of their own, so that code for one is not made one with that for the other.
    #[inline(always)]
    fn entries_as<const LOWEST: bool>(self) -> impl Iterator<Item = EntryRef<'w, F>> {
        let Self { view, slots, virt, .. } = self;
        let level = if LOWEST { Level::PTE } else { self.level };
        let shift = view.format.shift(level);
        slots.iter().enumerate().map(move |(number, slot)| {
            EntryRef::new(view, slot, level, VirtAddr::new(virt.raw().wrapping_add((number as u64) << shift)))
        })
    }

    #[inline]
    pub(super) const fn root(&self) -> units::PhysAddr {
        self.view.root
    }
}

impl<F: TableFormat> Walk<'_, F> {
    /// Returns the entries that translate the first part of `range`: those of one table of the lowest level, or one above at which the walk ended. `None` for what is
    /// no user address, or no address at all.
    #[inline]
    pub fn row(&self, range: VirtRange) -> Option<Row<'_, F>> {
        if range.is_empty() {
            return None;
        }
        let mut table = self.root_table(range.start)?;
        while table.level > Level::PTE {
            let entry = table.entry(range.start);
            match entry.table() {
                Ok(below) => table = below,
                Err(_) => return Some(table.row(range).first(1)),
            }
        }
        Some(table.row(range))
    }

    /// Returns the entries of the root table that translate a part of `range`, of which the first address is a user's.
    #[inline]
    pub fn root_row(&self, range: VirtRange) -> Option<Row<'_, F>> {
        if range.is_empty() { None } else { Some(self.root_table(range.start)?.row(range)) }
    }
}

impl<'w, F: TableFormat> EntryRef<'w, F> {
    /// Returns the entries of the table that this one points to that translate a part of `range`; `None` if it points to none, or translates nothing of the range.
    #[inline]
    pub fn row_below(&self, range: VirtRange) -> Option<Row<'w, F>> {
        let part = range.intersection(self.range());
        if part.is_empty() { None } else { Some(self.table().ok()?.row(part)) }
    }
}

impl<'w, F: TableFormat> TableRef<'w, F> {
    /// Returns the entries from the one that translates the start of `range`, which is not empty, to its end or the table's.
    #[inline]
    fn row(self, range: VirtRange) -> Row<'w, F> {
        let format = self.view.format;
        let first = self.entry(range.start);
        let entries = if self.level == format.root_level() && !format.kernel_root_entries().is_empty() {
            format.kernel_root_entries().start
        } else {
            format.entries(self.level)
        };
        let index = format.index(self.level, range.start);
        let wanted = ((range.end.since(first.virt()) - 1) >> format.shift(self.level)) as usize + 1;
        let len = wanted.min(entries.saturating_sub(index));
        // SAFETY: by the invariant of `TableRef` a table is there, aligned, of `entries` atomics that are the user's; `index` and `len` stay below.
        let slots = unsafe { slice::from_raw_parts(self.slot(index), len) };
        Row { view: self.view, slots, level: self.level, virt: first.virt() }
    }
}
