//! Reading a file's page, and mapping its neighbours that are in memory with it.
//!
//! Linux 6.12: mm/memory.c (`do_read_fault`, `do_fault_around`, `fault_around_pages`), mm/filemap.c (`filemap_map_pages`).

use address_space::{Access, PAGE_SHIFT};
use frame_table::PageRef;
use object_allocator::mmu::PageKind;
use page_allocator::Hooks;
use page_tables::{WriteTracking, attributes_of};
use platform::{Attributes, Level, Platform, TableFormat};
use units::{VirtAddr, VirtRange};

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
        let attributes = read_attributes(fault, self.kind_of(&page));
        Ok(self.install_file(fault, index, page, attributes))
    }

    /// Returns true if some page around the fault is in memory.
    pub(crate) fn has_neighbours(&self, fault: &Fault<'_>) -> bool {
        let mut found: [Option<PageRef>; AROUND as usize] = [const { None }; AROUND as usize];
        self.find_around(fault, &mut found);
        let mut pages = found.into_iter().flatten().peekable();
        let has_some = pages.peek().is_some();
        pages.for_each(|page| self.pages.mmu.put(page));
        has_some
    }

    /// Finds the pages around the fault that are in memory; returns the addresses of all of them, empty if there is no other than the fault's.
    fn find_around(&self, fault: &Fault<'_>, found: &mut [Option<PageRef>; AROUND as usize]) -> VirtRange {
        let window = window(fault, self.pages.mmu.format().leaf_bytes(Level::PMD));
        let wanted = (window.len() >> PAGE_SHIFT) as usize;
        // One page is found by the way that makes it if need be.
        let (Some(file), Some(wanted)) = (fault.vma.file, found.get_mut(..wanted).filter(|wanted| wanted.len() > 1))
        else {
            return VirtRange::default();
        };
        self.files.resident_pages(file, fault.vma.pgoff_at(window.start), wanted);
        window
    }

    /// Maps the pages around the fault that are in memory. Returns true if the page at the fault is mapped then.
    fn map_around(&self, fault: &Fault<'_>) -> bool {
        let mut found: [Option<PageRef>; AROUND as usize] = [const { None }; AROUND as usize];
        let window = self.find_around(fault, &mut found);
        let mut is_mapped = false;
        for (slot, number) in found.iter_mut().zip(0..) {
            let Some(page) = slot.take() else { continue };
            let virt = window.start.saturating_add(number << PAGE_SHIFT);
            if self.map_neighbour(fault, virt, page) {
                is_mapped |= virt == fault.page;
            }
        }
        is_mapped
    }

    /// Maps a page where nothing is mapped; true if it or something else is mapped there then.
    fn map_neighbour(&self, fault: &Fault<'_>, virt: VirtAddr, page: PageRef) -> bool {
        let here = Fault { page: virt, ..*fault };
        let attributes = read_attributes(fault, self.kind_of(&page));
        let attempt = self.install_file(&here, fault.vma.pgoff_at(virt), page, attributes);
        attempt == Attempt::Done || self.pages.is_mapped(virt)
    }
}

/// Returns what a page that is read gets.
fn read_attributes(fault: &Fault<'_>, kind: PageKind) -> Attributes {
    attributes_of(fault.vma.flags, WriteTracking::of(kind))
}

#[cfg(test)]
mod tests {
    use address_space::Vma;
    use units::VmFlags;

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
