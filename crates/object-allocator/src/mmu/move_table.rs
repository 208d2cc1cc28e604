//! Tables that move with all that they map to other addresses.
//!
//! Guarantee first: while a table moves nothing reaches it. It is taken out, the walks that saw it end and the old addresses are flushed, and then it is put in
//! at its new place; so whoever empties one of its entries notes the addresses by which processors know it. Linux 6.12: mm/mremap.c (`move_normal_pmd`).

use page_allocator::Hooks;
use platform::{Level, Platform};
use units::VirtAddr;

use super::Gather;
use super::table::FreshTable;
use super::walk::Found;

impl<P: Platform, H: Hooks> Gather<'_, P, H> {
    /// Moves the table that the entry of `level` for `from` points to, to the empty entry of the same level for `to`. Returns false if there is no such table, the
    /// tables above the new place are missing, or something is there: then nothing moved.
    ///
    /// The caller keeps others from both places. Not during a walk of the same CPU.
    pub fn relocate_table(&mut self, from: VirtAddr, to: VirtAddr, level: Level) -> bool {
        if !self.has_room(to, level) {
            return false;
        }
        let Some(table) = self.detach(from, level) else { return false };
        let has_settled = self.settle();
        debug_assert!(has_settled, "no table moves during a walk of the same CPU");
        let place = if has_settled { to } else { from };
        match self.attach(place, level, table) {
            Ok(()) => has_settled,
            Err(table) => {
                let is_back = self.attach(from, level, table).is_ok();
                debug_assert!(is_back, "others are kept from the place of a table that moves");
                false
            }
        }
    }

    fn has_room(&self, to: VirtAddr, level: Level) -> bool {
        let walk = self.mmu().walk(self.tables());
        let found = walk.as_ref().and_then(|walk| walk.find(to, level));
        matches!(found, Some(Found::Entry(entry)) if self.is_of(&entry) && entry.load().is_none())
    }

    fn detach(&mut self, from: VirtAddr, level: Level) -> Option<FreshTable> {
        let walk = self.mmu().walk(self.tables())?;
        let Some(Found::Entry(entry)) = walk.find(from, level) else { return None };
        let table = entry.unlink()?;
        self.note(entry.range());
        Some(FreshTable::of(table))
    }

    fn attach(&self, to: VirtAddr, level: Level, table: FreshTable) -> Result<(), FreshTable> {
        let walk = self.mmu().walk(self.tables());
        match walk.as_ref().and_then(|walk| walk.find(to, level)) {
            Some(Found::Entry(entry)) => entry.link(table),
            _ => Err(table),
        }
    }
}
