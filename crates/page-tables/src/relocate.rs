//! Moving what is mapped to other addresses of the same address space.
//!
//! Linux 6.12: mm/mremap.c (`move_page_tables`, `move_ptes`).

use object_allocator::mmu::Gather;
use page_allocator::Hooks;
use platform::{Level, Platform, TableFormat};
use units::{Gfp, VirtAddr, VirtRange};

use crate::each::each_leaf;
use crate::{NoMemory, Tables};

impl<'a, P: Platform, H: Hooks> Tables<'a, P, H> {
    /// Moves the pages of `old` to the addresses from `to` up, where nothing is mapped. The old addresses are noted in `gather`, which the caller finishes before
    /// the new area can be used.
    ///
    /// The caller holds both areas locked for writing, and has split large pages that lie differently on both sides.
    ///
    /// # Errors
    /// [`NoMemory`]; then nothing was moved. Tables that were made stay.
    pub fn relocate(&self, gather: &mut Gather<'a, P, H>, old: VirtRange, to: VirtAddr) -> Result<(), NoMemory> {
        self.prepare(old, to)?;
        let Some(walk) = self.walk() else { return Ok(()) };
        each_leaf(&walk, old, |virt, entry, _| {
            let target = walk.pte(to.saturating_add(virt.since(old.start)));
            if target.is_some_and(|target| entry.relocate(&target).is_some()) {
                gather.note(VirtRange::with_len(virt, walk.format().leaf_bytes(Level::PTE)));
            }
        });
        Ok(())
    }

    /// Makes the tables that the pages of `old` need at their new addresses.
    fn prepare(&self, old: VirtRange, to: VirtAddr) -> Result<(), NoMemory> {
        let block = self.mmu.format().leaf_bytes(Level::PMD);
        let mut at = old.start;
        while at < old.end {
            let here = to.saturating_add(at.since(old.start));
            // Up to the end of a table on the new side.
            let bytes = here.align_down(block).saturating_add(block).since(here);
            let part = VirtRange::with_len(at, bytes.min(old.end.since(at)));
            if self.maps_any(part) {
                self.mmu.make_tables(self.tables, here, Level::PTE, Gfp::KERNEL).map_err(|_| NoMemory)?;
            }
            at = part.end;
        }
        Ok(())
    }

    /// Returns true if something is mapped in `range`.
    pub fn maps_any(&self, range: VirtRange) -> bool {
        let mut found = false;
        if let Some(walk) = self.walk() {
            each_leaf(&walk, range, |_, _, _| found = true);
        }
        found
    }
}
