//! Taking tables out that hold nothing any more.
//!
//! Linux 6.12: mm/memory.c (`free_pgtables`, `free_pgd_range`).

use object_allocator::mmu::{Found, Gather};
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
}

impl<'a, P: Platform, H: Hooks> Tables<'a, P, H> {
    /// Takes the tables out that only `range` needed, from which all pages were taken. They are freed when `gather` is finished.
    ///
    /// The caller holds the address space's lock for writing, and no area within `bounds` can be looked up.
    pub fn free_tables(&self, gather: &mut Gather<'a, P, H>, range: VirtRange, bounds: Bounds) {
        let mut level = Level::PTE;
        while let Some(above) = up(level).filter(|&above| above <= self.mmu.format().root_level()) {
            self.free_level(gather, range, bounds, above);
            level = above;
        }
    }

    /// Takes out what entries of `level` point to.
    fn free_level(&self, gather: &mut Gather<'a, P, H>, range: VirtRange, bounds: Bounds, level: Level) {
        let Some(walk) = self.mmu.walk(self.tables) else { return };
        let format = walk.format();
        let bytes = format.leaf_bytes(level);
        let mut at = range.start.align_down(bytes);
        while at < range.end {
            let behind = at.checked_add(bytes).unwrap_or(VirtAddr::new(u64::MAX));
            match walk.find(at, level) {
                None => return,
                Some(Found::Entry(entry)) => {
                    if at >= bounds.floor && behind <= bounds.ceiling {
                        gather.take_table(&entry);
                    }
                    at = behind;
                }
                Some(Found::Above(entry, _)) => {
                    let skipped = format.leaf_bytes(entry.level());
                    let Some(behind) = at.align_down(skipped).checked_add(skipped) else { return };
                    at = behind;
                }
            }
        }
    }
}

fn up(level: Level) -> Option<Level> {
    [Level::PMD, Level::PUD, Level::P4D, Level::PGD].into_iter().find(|above| above.down() == Some(level))
}
