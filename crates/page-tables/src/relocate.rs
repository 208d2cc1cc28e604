//! Moving what is mapped to other addresses of the same address space.
//!
//! Linux 6.12: mm/mremap.c (`move_page_tables`, `move_ptes`).

use object_allocator::mmu::Gather;
use page_allocator::Hooks;
use platform::{Level, Platform, TableFormat};
use units::{Gfp, VirtAddr, VirtRange};

use crate::each::each_pair;
use crate::{NoMemory, Tables};

impl<'a, P: Platform, H: Hooks> Tables<'a, P, H> {
    /// Moves the pages of `old` to the addresses from `to` up, where nothing is mapped. The old addresses are flushed before anything is found at the new ones.
    ///
    /// The caller holds both areas locked for writing. Large pages move whole if they lie alike on both sides, and are split if not; so do tables, with what they
    /// map. `room` bytes below both places belong to no area: a table that reaches down there moves whole too.
    ///
    /// # Errors
    /// [`NoMemory`]; then nothing was moved. Tables that were made stay, and pages that were split.
    // As in `protect`: inlined into a caller, the loop takes more instructions a page.
    #[inline(never)]
    pub fn relocate(
        &self,
        gather: &mut Gather<'a, P, H>,
        old: VirtRange,
        to: VirtAddr,
        room: u64,
    ) -> Result<(), NoMemory> {
        let (old, to) = self.with_room(old, to, room);
        self.prepare(gather, old, to)?;
        self.move_tables(gather, old, to);
        let Some(walk) = self.walk() else { return Ok(()) };
        each_pair(&walk, old, &walk, to, |from, to| {
            gather.relocate(from, to);
        });
        Ok(())
    }

    /// Begins at the table's start on both sides, if nothing but `old` lies in the table (Linux: `try_realign_addr`).
    fn with_room(&self, old: VirtRange, to: VirtAddr, room: u64) -> (VirtRange, VirtAddr) {
        let block = self.mmu.format().leaf_bytes(Level::PMD);
        let into = old.start.raw() % block;
        let is_alike = into == to.raw() % block && into != 0;
        if !is_alike || room < into || old.len() < block - into {
            return (old, to);
        }
        (VirtRange::new(old.start.align_down(block), old.end), to.align_down(block))
    }

    /// Moves the tables that `old` fills to where nothing is.
    fn move_tables(&self, gather: &mut Gather<'a, P, H>, old: VirtRange, to: VirtAddr) {
        let block = self.mmu.format().leaf_bytes(Level::PMD);
        if old.len() < block || !(to.raw() ^ old.start.raw()).is_multiple_of(block) {
            return;
        }
        let mut at = old.start.align_up(block);
        while at < old.end && old.end.since(at) >= block {
            gather.relocate_table(at, to.saturating_add(at.since(old.start)), Level::PMD);
            at = at.saturating_add(block);
        }
    }

    /// Makes the tables that the pages of `old` need at their new addresses, and splits what cannot move whole.
    fn prepare(&self, gather: &mut Gather<'a, P, H>, old: VirtRange, to: VirtAddr) -> Result<(), NoMemory> {
        let block = self.mmu.format().leaf_bytes(Level::PMD);
        let to_end_of_block = |at: VirtAddr| at.align_down(block).saturating_add(block).since(at);
        let mut at = old.start;
        while at < old.end {
            let here = to.saturating_add(at.since(old.start));
            // Up to the end of a table on either side.
            let bytes = to_end_of_block(at).min(to_end_of_block(here));
            let part = VirtRange::with_len(at, bytes.min(old.end.since(at)));
            if self.is_large(at) && !(self.is_one_large(part) && self.takes_large(here)?) {
                self.split_large(gather, at);
            }
            match self.lowest_entry(at) {
                // The table itself moves.
                Some((Level::PTE, _)) if part.len() == block && self.takes_large(here)? => {}
                Some((Level::PTE, _)) => self.make_tables(here, Level::PTE)?,
                // Linux makes the table above before it sees that there is nothing below.
                Some((Level::PMD, true)) => self.make_tables(here, Level::PUD)?,
                _ => {}
            }
            at = part.end;
        }
        Ok(())
    }

    /// Returns true if a large page can be mapped at `virt`, having made the tables above.
    pub(crate) fn takes_large(&self, virt: VirtAddr) -> Result<bool, NoMemory> {
        self.make_tables(virt, Level::PMD)?;
        let Some(walk) = self.walk() else { return Ok(false) };
        Ok(walk.pmd(virt).is_some_and(|entry| entry.load().is_none()))
    }

    /// Makes the tables down to `level`.
    pub(crate) fn make_tables(&self, virt: VirtAddr, level: Level) -> Result<(), NoMemory> {
        self.mmu.make_tables(self.tables, virt, level, Gfp::KERNEL).map_err(|_| NoMemory)
    }

    /// Returns the level of the lowest entry that there is for `virt`, and whether it is empty.
    pub fn lowest_entry(&self, virt: VirtAddr) -> Option<(Level, bool)> {
        self.with_entry(virt, |entry, pte| Some((entry.level(), pte.is_none())))
    }
}
