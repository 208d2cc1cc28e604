//! Reading a file's page, and mapping its neighbours that are in memory with it.
//!
//! Linux 6.12: mm/memory.c (`do_read_fault`, `do_fault_around`, `fault_around_pages`), mm/filemap.c (`filemap_map_pages`).

use address_space::{Access, PAGE_SHIFT, PAGE_SIZE};
use frame_table::PageRef;
use object_allocator::mmu::{PageKind, Pte, Row};
use page_allocator::Hooks;
use page_tables::{WriteTracking, attributes_of};
use platform::{Attributes, Level, Platform, TableFormat};
use units::VirtRange;

use crate::context::{Attempt, Fault, FaultContext, FaultError};
use crate::file_pages::FilePages;

/// Pages around a fault that are mapped with it (debugfs: fault_around_bytes, 64 KiB).
const AROUND: u64 = 16;

/// The addresses to map around a fault: up to [`AROUND`] pages, aligned to as many, within the area and the table.
fn window(fault: &Fault<'_>, table_bytes: u64) -> VirtRange {
    let vma = fault.vma.range;
    let table = VirtRange::with_len(fault.page.align_down(table_bytes), table_bytes);
    let start = fault.page.align_down(AROUND << PAGE_SHIFT);
    // Below the area's start the window is shorter, not moved: it ends where the pages from its start on end.
    let start = if start < vma.start { vma.start } else { start };
    let end = start.saturating_add(AROUND << PAGE_SHIFT);
    VirtRange::new(start, end).intersection(vma).intersection(table)
}

impl<P: Platform, H: Hooks, F: FilePages> FaultContext<'_, '_, P, H, F> {
    pub(crate) fn map_file(&self, fault: &Fault<'_>) -> Result<Attempt, FaultError> {
        if self.map_around(fault) {
            return Ok(Attempt::Done);
        }
        let (file, index) = Self::file_page(fault)?;
        let page = self.files.page(file, index, Access::Read)?;
        Ok(self.install_read(fault, page))
    }

    /// Maps the page of the area's file at the fault for reading.
    #[inline]
    pub(crate) fn install_read(&self, fault: &Fault<'_>, page: PageRef) -> Attempt {
        let kind = self.kind_of(&page);
        self.install_file(fault, page, kind, self.read_attributes(fault, kind))
    }

    /// Returns the addresses that are looked at around the fault; `None` if that is one page, which is found by the way that makes it if need be.
    fn window(&self, fault: &Fault<'_>) -> Option<VirtRange> {
        let window = window(fault, self.pages.mmu.format().leaf_bytes(Level::PMD));
        (window.len() > PAGE_SIZE).then_some(window)
    }

    /// Returns true if some page around the fault is in memory.
    pub(crate) fn has_neighbours(&self, fault: &Fault<'_>) -> bool {
        let Some(window) = self.window(fault) else { return false };
        let mut pages = self.find_around(fault, window).into_iter().flatten().peekable();
        let has_some = pages.peek().is_some();
        pages.for_each(|page| self.pages.mmu.put(page));
        has_some
    }

    /// Finds the pages of `window`, around the fault, that are in memory.
    #[inline(always)]
    fn find_around(&self, fault: &Fault<'_>, window: VirtRange) -> [Option<PageRef>; AROUND as usize] {
        let mut found = [const { None }; AROUND as usize];
        if let Some((file, wanted)) = fault.vma.file.zip(found.get_mut(..(window.len() >> PAGE_SHIFT) as usize)) {
            self.files.resident_pages(file, fault.vma.pgoff_at(window.start), wanted);
        }
        found
    }

    /// Maps the pages around the fault that are in memory. Returns true if the page at the fault is mapped then.
    fn map_around(&self, fault: &Fault<'_>) -> bool {
        let Some(window) = self.window(fault) else { return false };
        let mut found = self.find_around(fault, window);
        let is_mapped = self.map_row(fault, window, &mut found);
        for page in found.into_iter().flatten() {
            self.pages.mmu.put(page);
        }
        is_mapped
    }

    /// Maps the pages of `window`, which lies in one table, where nothing is mapped. What is not mapped stays in `pages`. Returns true if something is mapped at the fault then.
    fn map_row(&self, fault: &Fault<'_>, window: VirtRange, pages: &mut [Option<PageRef>]) -> bool {
        let walk = self.pages.mmu.walk(self.pages.tables);
        let row = walk.as_ref().and_then(|walk| walk.row(window));
        let Some(entries) = row.and_then(Row::lowest_entries) else { return false };
        let mut counts = [(PageKind::File, 0), (PageKind::Shmem, 0)];
        let mut is_mapped = false;
        for (entry, slot) in entries.zip(pages) {
            let Some(page) = slot.take() else { continue };
            let (pfn, kind) = (page.pfn(), self.kind_of(&page));
            match entry.install(Pte::NONE, page, pfn, self.read_attributes(fault, kind)) {
                Ok(()) => {
                    counts.iter_mut().filter(|(counted, _)| *counted == kind).for_each(|(_, nr_pages)| *nr_pages += 1);
                    if !self.belongs_to_file(fault, pfn, fault.vma.pgoff_at(entry.virt())) {
                        self.take_back(&Fault { page: entry.virt(), ..*fault }, pfn);
                    }
                }
                Err(page) => *slot = Some(page),
            }
            is_mapped |= entry.virt() == fault.page && !entry.load().is_none();
        }
        for (kind, nr_pages) in counts.into_iter().filter(|(_, nr_pages)| *nr_pages != 0) {
            self.pages.tables.add_rss(self.pages.mmu.cpu(), kind, nr_pages);
        }
        is_mapped
    }

    /// Returns what a page that is read gets.
    #[inline(always)]
    fn read_attributes(&self, fault: &Fault<'_>, kind: PageKind) -> Attributes {
        let flags = fault.vma.flags;
        attributes_of(flags, WriteTracking::of(self.pages.mmu.format(), flags, kind))
    }
}

#[cfg(test)]
mod tests {
    use address_space::Vma;
    use units::{VirtAddr, VmFlags};

    use super::*;
    use crate::decide::AccessKind;

    fn area(start: u64, end: u64) -> Vma {
        let range = VirtRange::new(VirtAddr::new(start), VirtAddr::new(end));
        Vma { range, flags: VmFlags::READ, pgoff: 0, file: None, anon: None, uffd: 0, name: None }
    }

    fn pages(start: u64, end: u64, at: u64) -> (u64, u64) {
        let vma = area(start << 12, end << 12);
        let fault = Fault { vma: &vma, page: VirtAddr::new(at << 12), access: AccessKind::Read };
        let window = window(&fault, 2 << 20);
        (window.start.raw() >> 12, window.end.raw() >> 12)
    }

    #[test]
    fn the_window_is_aligned_and_stays_in_the_area_and_the_table() {
        assert_eq!(pages(0, 1000, 37), (32, 48));
        assert_eq!(pages(0, 40, 37), (32, 40));
        assert_eq!(pages(36, 1000, 37), (36, 52));
        assert_eq!(pages(500, 1000, 511), (500, 512));
    }
}
