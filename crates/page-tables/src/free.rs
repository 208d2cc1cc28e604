//! Taking tables out that hold nothing any more.
//!
//! Linux 6.12: mm/memory.c (`free_pgtables`, `free_pgd_range`).

use object_allocator::mmu::{Gather, Row};
use page_allocator::Hooks;
use platform::{Level, Platform, TableFormat};
use units::{VirtAddr, VirtRange};

use crate::Tables;

/// The addresses around a range that hold no other area: from the end of the area before to the start of the one behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// End of the area before (Linux: floor).
    pub floor: VirtAddr,
    /// Start of the area behind (Linux: ceiling); the highest address if there is none.
    pub ceiling: VirtAddr,
}

impl Bounds {
    /// The bounds of an address space that has no area left.
    pub const NONE: Self = Self { floor: VirtAddr::ZERO, ceiling: VirtAddr::new(u64::MAX) };

    /// Returns true if the addresses hold all of a block of `bytes`, a power of two, of which a part lies in `range`: those of one table of the lowest level.
    fn hold_block(self, range: VirtRange, bytes: u64) -> bool {
        let first = self.floor.align_up(bytes).max(range.start.align_down(bytes));
        first < range.end && first.saturating_add(bytes) <= self.ceiling
    }
}

impl<'a, P: Platform, H: Hooks> Tables<'a, P, H> {
    /// Takes the tables out that only `range` needed, from which all pages were taken. They are freed when `gather` is finished.
    ///
    /// The caller holds the address space's lock for writing, and no area within `bounds` can be looked up.
    pub fn free_tables(&self, gather: &mut Gather<'a, P, H>, range: VirtRange, bounds: Bounds) {
        let block = self.mmu.format().leaf_bytes(Level::PMD);
        if !bounds.hold_block(range, block) {
            return;
        }
        let Some(walk) = self.walk() else { return };
        if let Some(row) = walk.root_row(range) {
            free_below(gather, row, range, bounds);
        }
    }
}

impl<'a, P: Platform, H: Hooks> Tables<'a, P, H> {
    /// Takes the tables of the lowest level out that hold nothing and whose addresses all lie in `range` (Linux 6.14: mm/pt_reclaim.c).
    ///
    /// The caller keeps faults from the range.
    pub fn free_lowest_tables(&self, gather: &mut Gather<'a, P, H>, range: VirtRange) {
        let Some(walk) = self.walk() else { return };
        let block = walk.format().leaf_bytes(Level::PMD);
        let mut at = range.start.align_up(block);
        while at < range.end && range.end.since(at) >= block {
            if let Some(entry) = walk.pmd(at)
                && entry.is_empty_table()
            {
                gather.take_table(&entry);
            }
            at = at.saturating_add(block);
        }
    }
}

/// Takes out what the entries of `row` for `range` point to, from the lowest level up.
fn free_below<P: Platform, H: Hooks>(
    gather: &mut Gather<'_, P, H>,
    row: Row<'_, P::Format>,
    range: VirtRange,
    bounds: Bounds,
) {
    for here in row.entries() {
        if here.load().is_none() {
            continue;
        }
        if let Some(below) = here.row_below(range).filter(|below| below.level() > Level::PTE) {
            free_below(gather, below, range, bounds);
        }
        if here.virt() >= bounds.floor && here.range().end <= bounds.ceiling {
            gather.take_table(&here);
        }
    }
}
