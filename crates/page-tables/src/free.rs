//! Taking tables out that hold nothing any more.
//!
//! Linux 6.12: mm/memory.c (`free_pgtables`, `free_pgd_range`).

use object_allocator::mmu::{Found, Gather, Walk};
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
        let Some(walk) = self.walk() else { return };
        free_below(&walk, gather, range, bounds, walk.format().root_level());
    }
}

/// Takes out what the entries of `level` for `range`, which one table of that level translates, point to, from the lowest level up.
fn free_below<P: Platform, H: Hooks>(
    walk: &Walk<'_, P::Format>,
    gather: &mut Gather<'_, P, H>,
    range: VirtRange,
    bounds: Bounds,
    level: Level,
) {
    let (format, Some(below)) = (walk.format(), level.down()) else { return };
    let Some(Found::Entry(first)) = walk.find(range.start.align_down(format.leaf_bytes(level)), level) else { return };
    let mut entry = Some(first);
    while let Some(here) = entry.filter(|here| here.virt() < range.end) {
        if !here.load().is_none() {
            free_below(walk, gather, range.intersection(here.range()), bounds, below);
            if here.virt() >= bounds.floor && here.range().end <= bounds.ceiling {
                gather.take_table(&here);
            }
        }
        entry = here.next();
    }
}
