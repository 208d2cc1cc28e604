//! A walk through the tables of an address space.
//!
//! Linux 6.12: `pgd_offset` and the like, mm/pagewalk.c, mm/pgtable-generic.c (`__pte_offset_map`).

use page_allocator::Hooks;
use platform::{Entry, Level, Platform, TableFormat};
use sync::ReadSection;
use units::{Gfp, PhysAddr, VirtAddr};

use super::entry::{EntryRef, Pte};
use super::table::FreshTable;
use super::{Mmu, UserTables, View};
use crate::atomic::{AtomicU64, Ordering};

/// A CPU looks at the tables of an address space. No table that it finds is freed before this is dropped. Nothing may be waited for meanwhile, and no
/// [`Gather`](super::Gather) that took tables out can be finished.
///
/// # Invariants
/// `view.root` was the root table of an address space of the machine of `view` within the section.
#[derive(Debug)]
pub struct Walk<'a, F> {
    view: View<'a, F>,
    _section: ReadSection<'a>,
}

/// A table that a walk found.
///
/// # Invariants
/// `at` is the address of a table of `level`, which stays one for `'w`.
#[derive(Debug)]
pub(super) struct TableRef<'w, F> {
    pub(super) view: &'w View<'w, F>,
    at: PhysAddr,
    pub(super) level: Level,
}

impl<F> Clone for TableRef<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for TableRef<'_, F> {}

/// Where a walk ended.
#[derive(Clone, Copy, Debug)]
pub enum Found<'w, F> {
    /// At an entry of the level that was asked for, whatever it holds.
    Entry(EntryRef<'w, F>),
    /// Above it, at an entry that points to no table: it is empty, or maps a large page.
    Above(EntryRef<'w, F>, Pte),
}

impl<'a, P: Platform, H: Hooks> Mmu<'a, P, H> {
    /// Begins a walk; `None` if the address space has no tables, or is one of another machine.
    #[inline]
    pub fn walk(&self, tables: &UserTables) -> Option<Walk<'a, P::Format>> {
        let section = self.objects.begin_walk(self.cpu)?;
        let root = tables.root_of(self.cpu.machine())?;
        // INVARIANT: read within the section.
        Some(Walk { view: self.view(root), _section: section })
    }
}

/// Why the tables down to an entry could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MakeError {
    /// No memory for a table.
    NoMemory,
    /// A large page is mapped there.
    LargePage,
    /// No user address, or an address space without tables.
    NoUserAddress,
}

impl<P: Platform, H: Hooks> Mmu<'_, P, H> {
    /// Makes the tables that are missing on the way to the entry of `level` that translates `virt` (Linux: `pmd_alloc`, `pte_alloc`).
    ///
    /// The caller keeps others from taking the tables out again. Not during a walk of the same CPU.
    ///
    /// # Errors
    /// [`MakeError`]; tables that were made stay.
    pub fn make_tables(&self, tables: &UserTables, virt: VirtAddr, level: Level, gfp: Gfp) -> Result<(), MakeError> {
        self.make_tables_with(tables, virt, level, gfp, None)
    }

    /// As [`Mmu::make_tables`], by somebody who saw that one is missing: it is allocated before anything is looked at.
    ///
    /// # Errors
    /// As [`Mmu::make_tables`].
    pub fn make_missing_tables(
        &self,
        tables: &UserTables,
        virt: VirtAddr,
        level: Level,
        gfp: Gfp,
    ) -> Result<(), MakeError> {
        let spare = self.alloc_table(gfp).map_err(|_| MakeError::NoMemory)?;
        self.make_tables_with(tables, virt, level, gfp, Some(spare))
    }

    /// Makes tables, of which `spare` is the first.
    fn make_tables_with(
        &self,
        tables: &UserTables,
        virt: VirtAddr,
        level: Level,
        gfp: Gfp,
        mut spare: Option<FreshTable>,
    ) -> Result<(), MakeError> {
        let made = loop {
            match self.link_next(tables, virt, level, &mut spare) {
                Ok(Progress::Done) => break Ok(()),
                Ok(Progress::Linked) => {}
                // Outside the walk, since an allocation may wait for memory to be freed.
                Ok(Progress::NeedsTable) => match self.alloc_table(gfp) {
                    Ok(fresh) => spare = Some(fresh),
                    Err(_) => break Err(MakeError::NoMemory),
                },
                Err(error) => break Err(error),
            }
        };
        if let Some(fresh) = spare {
            self.free_fresh(fresh);
        }
        made
    }

    /// Links `spare` where a table is missing.
    fn link_next(
        &self,
        tables: &UserTables,
        virt: VirtAddr,
        level: Level,
        spare: &mut Option<FreshTable>,
    ) -> Result<Progress, MakeError> {
        let walk = self.walk(tables).ok_or(MakeError::NoUserAddress)?;
        match walk.find(virt, level).ok_or(MakeError::NoUserAddress)? {
            Found::Entry(_) => Ok(Progress::Done),
            Found::Above(_, pte) if !pte.is_none() => Err(MakeError::LargePage),
            Found::Above(entry, _) => {
                let Some(fresh) = spare.take() else { return Ok(Progress::NeedsTable) };
                if let Err(fresh) = entry.link(fresh) {
                    *spare = Some(fresh);
                    return Ok(Progress::Linked);
                }
                tables.add_table_below(entry.level(), 1);
                Ok(if entry.level().down() == Some(level) { Progress::Done } else { Progress::Linked })
            }
        }
    }
}

/// How far tables are made.
enum Progress {
    Done,
    Linked,
    NeedsTable,
}

impl<F: TableFormat> Walk<'_, F> {
    /// Returns the format of the tables.
    #[inline]
    pub const fn format(&self) -> F {
        self.view.format
    }

    /// Goes down to the entry of `level` that translates `virt`, as far as there are tables. Addresses outside the user's part have none.
    #[inline]
    pub fn find(&self, virt: VirtAddr, level: Level) -> Option<Found<'_, F>> {
        let mut table = self.root_table(virt)?;
        loop {
            let entry = table.entry(virt);
            if table.level <= level {
                return Some(Found::Entry(entry));
            }
            match entry.table() {
                Ok(below) => table = below,
                Err(pte) => return Some(Found::Above(entry, pte)),
            }
        }
    }

    /// Returns the root table; `None` if the user's part of it does not translate `virt`.
    #[inline]
    pub(super) fn root_table(&self, virt: VirtAddr) -> Option<TableRef<'_, F>> {
        let format = self.view.format;
        // INVARIANT: the root stays for the section.
        let table = TableRef { view: &self.view, at: self.view.root, level: format.root_level() };
        is_user_address(format, virt).then_some(table)
    }

    /// Returns the entry of the lowest level that translates `virt`, if there is a table for it.
    #[inline]
    pub fn pte(&self, virt: VirtAddr) -> Option<EntryRef<'_, F>> {
        self.entry_of(virt, Level::PTE)
    }

    /// Returns the entry of the middle level, that of large pages, that translates `virt`, if there is a table for it.
    pub fn pmd(&self, virt: VirtAddr) -> Option<EntryRef<'_, F>> {
        self.entry_of(virt, Level::PMD)
    }

    #[inline]
    fn entry_of(&self, virt: VirtAddr, level: Level) -> Option<EntryRef<'_, F>> {
        match self.find(virt, level)? {
            Found::Entry(entry) => Some(entry),
            Found::Above(..) => None,
        }
    }
}

/// Returns true if the user's part of a root table translates `virt`.
#[inline]
fn is_user_address<F: TableFormat>(format: F, virt: VirtAddr) -> bool {
    let kernel = format.kernel_root_entries();
    virt.raw() >> format.virt_bits() == 0 && !kernel.contains(&format.index(format.root_level(), virt))
}

impl<'w, F: TableFormat> TableRef<'w, F> {
    #[inline]
    pub(super) fn entry(self, virt: VirtAddr) -> EntryRef<'w, F> {
        let format = self.view.format;
        // `index` is below the number of entries.
        self.entry_at(format.index(self.level, virt), virt.align_down(format.leaf_bytes(self.level)))
    }

    #[inline]
    fn entry_at(self, index: usize, virt: VirtAddr) -> EntryRef<'w, F> {
        // SAFETY: by the type invariant a table is there, in the direct map and aligned; entries are only ever reached as atomics.
        let entry = unsafe { &*self.slot(index) };
        EntryRef::new(self.view, entry, self.level, virt)
    }

    /// Returns where entry `index` lies.
    #[inline]
    pub(super) fn slot(self, index: usize) -> *const AtomicU64 {
        self.view.map.at(self.at).cast::<AtomicU64>().wrapping_add(index)
    }
}

impl<'w, F: TableFormat> EntryRef<'w, F> {
    /// Returns the table that the entry points to, or what it holds if it points to none.
    #[inline]
    pub(super) fn table(&self) -> Result<TableRef<'w, F>, Pte> {
        // Acquire: pairs with the Release of `link`, so that the table's first contents are seen.
        let value = self.load_as(Ordering::Acquire).raw();
        match (self.view().format.decode(self.level(), value), self.level().down()) {
            // INVARIANT: only `link` makes such entries, of tables of the level below, which stay while a section that saw them lasts.
            (Entry::Table(at), Some(level)) => Ok(TableRef { view: self.view(), at, level }),
            _ => Err(Pte::new(value)),
        }
    }

    /// Returns true if the entry points to a table that holds nothing.
    pub fn is_empty_table(&self) -> bool {
        let Ok(table) = self.table() else { return false };
        let entries = self.view().format.entries(table.level);
        // Relaxed: the caller keeps others from filling it.
        (0..entries).all(|index| table.entry_at(index, VirtAddr::ZERO).slot().load(Ordering::Relaxed) == 0)
    }
}
