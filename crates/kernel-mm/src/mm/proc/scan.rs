//! The scan of pages by category (PAGEMAP_SCAN).
//!
//! Nothing here watches writes by userfaultfd, so every page that is there counts as written, and no area may be watched.
//! Linux 6.12: fs/proc/task_mmu.c (`pagemap_scan_test_walk`, `pagemap_page_category`, `pagemap_thp_category`, `pagemap_scan_pte_hole`).

use address_space::Vma;
use object_allocator::mmu::PageKind;
use page_allocator::Hooks;
use page_tables::MappedPage;
use platform::{Platform, Prot};
use proc_files::page_scan::{PageCategories, PageScan, ScanFull};
use units::{Order, VirtAddr, VirtRange, VmFlags};

use super::ProcMm;

/// What is looked at before a scan is asked whether it has room: more than one large page, and little enough to look at again.
const BLOCK: u64 = 32 << 20;
/// Blocks that one call looks at, as nobody changes the areas meanwhile.
const BLOCKS: usize = 64;

/// Why a scan stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScanStop {
    /// Everything before this address was looked at.
    Reached(VirtAddr),
    /// There is no room for what begins here.
    Full(VirtAddr),
}

impl<P: Platform, H: Hooks + Sync> ProcMm<'_, '_, P, H> {
    /// Returns true if an area lies in the range.
    pub fn has_areas(&self, range: VirtRange) -> bool {
        self.mm.read(self.cpu).find_intersection(range).is_some()
    }

    /// Tells a scan of the pages of a range, those that areas could have included, up to its end or for a while.
    pub fn scan_pages(&self, range: VirtRange, scan: &mut PageScan<'_>) -> ScanStop {
        let locked = self.mm.read(self.cpu);
        let mut at = range.start;
        for _ in 0..BLOCKS {
            let rest = VirtRange::new(at, range.end);
            let Some(vma) = locked.find_intersection(rest) else { return ScanStop::Reached(range.end) };
            let start = at.max(vma.start());
            let end = start.align_down(BLOCK).saturating_add(BLOCK).min(vma.end()).min(range.end);
            if let Err(full) = self.scan_block(&vma, VirtRange::new(start, end), scan) {
                return ScanStop::Full(full.at);
            }
            at = end;
        }
        ScanStop::Reached(at)
    }

    fn scan_block(&self, vma: &Vma, block: VirtRange, scan: &mut PageScan<'_>) -> Result<(), ScanFull> {
        let mut area = PageCategories::empty();
        area.set(PageCategories::SOFT_DIRTY, vma.flags.contains(VmFlags::SOFTDIRTY));
        if !scan.filter().takes_area(area) {
            return Ok(());
        }
        let (mut at, mut outcome) = (block.start, Ok(()));
        self.manager.tables(self.cpu, self.mm).for_each_mapped(block, |mapped| {
            let part = mapped.range.intersection(block);
            outcome = outcome
                .and_then(|()| scan.add(VirtRange::new(at, part.start), area))
                .and_then(|()| scan.add(part, area | categories_of(&mapped)));
            at = part.end;
        });
        outcome?;
        scan.add(VirtRange::new(at, block.end), area)
    }
}

fn categories_of(mapped: &MappedPage) -> PageCategories {
    let mut categories = PageCategories::PRESENT | PageCategories::WRITTEN;
    categories.set(PageCategories::HUGE, mapped.order > Order::ZERO);
    categories.set(PageCategories::PFNZERO, mapped.page.is_none());
    categories.set(PageCategories::FILE, mapped.page.is_some_and(|page| page.kind != PageKind::Anon));
    categories.set(PageCategories::SOFT_DIRTY, mapped.attributes.prot.contains(Prot::SOFT_DIRTY));
    categories
}
