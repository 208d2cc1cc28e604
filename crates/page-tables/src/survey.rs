//! What is mapped in a range, page by page: for smaps, pagemap, mincore.
//!
//! Linux 6.12: fs/proc/task_mmu.c (`smaps_pte_range`, `pagemap_pmd_range`), mm/mincore.c.

use object_allocator::mmu::PageFacts;
use page_allocator::Hooks;
use platform::{Attributes, Platform};
use units::{Order, Pfn, VirtRange};

use crate::Tables;
use crate::each::{Seen, each_leaf};

/// Memory that one entry maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MappedPage {
    /// Addresses that the entry translates, whether or not all were asked for.
    pub range: VirtRange,
    /// Frame behind it.
    pub pfn: Pfn,
    /// Order of what the entry maps.
    pub order: Order,
    /// What the mapping allows, and whether it was used.
    pub attributes: Attributes,
    /// The page; `None` for the page of zeros.
    pub page: Option<PageFacts>,
    /// An anonymous page that belongs to this address space alone.
    pub exclusive: bool,
}

impl MappedPage {
    /// Returns how many entries map the page, in all address spaces; of a part of a larger page, how many do on average, at least one
    /// (Linux: `folio_precise_page_mapcount`, and since 6.15 `folio_average_page_mapcount`).
    pub fn mapcount(&self) -> u64 {
        let Some(page) = self.page else { return 0 };
        let mapcount = u64::from(page.mapcount);
        if page.order == self.order { mapcount } else { (mapcount >> page.order.raw()).max(1) }
    }
}

impl<P: Platform, H: Hooks> Tables<'_, P, H> {
    /// Calls `visit` with everything that is mapped in `range`, ascending. Nothing may be waited for in `visit`.
    pub fn for_each_mapped(&self, range: VirtRange, mut visit: impl FnMut(MappedPage)) {
        let Some(walk) = self.walk() else { return };
        each_leaf(&walk, range, |entry, pte| {
            if let Some((pfn, attributes)) = entry.leaf(pte) {
                let (page, exclusive) = (entry.page_facts(pte), entry.is_exclusive(pte));
                let (range, order) = (entry.range(), entry.order());
                visit(MappedPage { range, pfn, order, attributes, page, exclusive });
            }
            Seen::Done
        });
    }
}
