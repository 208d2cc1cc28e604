//! What is mapped in a range, page by page: for smaps, pagemap, mincore.
//!
//! Linux 6.12: fs/proc/task_mmu.c (`smaps_pte_range`, `pagemap_pmd_range`), mm/mincore.c.

use object_allocator::mmu::PageKind;
use page_allocator::Hooks;
use platform::{Attributes, Platform};
use units::{Order, Pfn, VirtAddr, VirtRange};

use crate::Tables;
use crate::each::{Seen, each_leaf};

/// Memory that one entry maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MappedPage {
    /// First address.
    pub virt: VirtAddr,
    /// Frame behind it.
    pub pfn: Pfn,
    /// Order of what the entry maps.
    pub order: Order,
    /// What the mapping allows, and whether it was used.
    pub attributes: Attributes,
    /// What the page is counted as; `None` for the page of zeros.
    pub kind: Option<PageKind>,
    /// How many entries map the page, in all address spaces.
    pub mapcount: u32,
    /// An anonymous page that belongs to this address space alone.
    pub exclusive: bool,
}

impl<P: Platform, H: Hooks> Tables<'_, P, H> {
    /// Calls `visit` with everything that is mapped in `range`, ascending. Nothing may be waited for in `visit`.
    pub fn for_each_mapped(&self, range: VirtRange, mut visit: impl FnMut(MappedPage)) {
        let Some(walk) = self.walk() else { return };
        each_leaf(&walk, range, |virt, entry, pte| {
            if let Some((pfn, attributes)) = entry.leaf(pte) {
                let mapcount = entry.sharers(pte).map_or(0, |(_, mapcount)| mapcount);
                let (kind, exclusive) = (entry.kind(pte), entry.is_exclusive(pte));
                visit(MappedPage { virt, pfn, order: entry.order(), attributes, kind, mapcount, exclusive });
            }
            Seen::Done
        });
    }
}
