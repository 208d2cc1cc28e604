//! The scan of a process's pages by category: an ioctl of /proc/PID/pagemap, PAGEMAP_SCAN.
//!
//! A [`PageScan`] gathers what it is told of pages, in the order of their addresses, into regions of neighbours that are alike.
//! Linux 6.12: fs/proc/task_mmu.c (`do_pagemap_scan`), include/uapi/linux/fs.h, Documentation/admin-guide/mm/pagemap.rst.

use units::{VirtAddr, VirtRange};

bitflags::bitflags! {
    /// What a page is (PAGE_IS_).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct PageCategories: u64 {
        /// Writes to it can be watched by userfaultfd.
        const WPALLOWED = 1 << 0;
        /// Present and not write-protected by userfaultfd.
        const WRITTEN = 1 << 1;
        /// A page of a file or of shared anonymous memory.
        const FILE = 1 << 2;
        /// In memory.
        const PRESENT = 1 << 3;
        /// Swapped out.
        const SWAPPED = 1 << 4;
        /// The page of zeros.
        const PFNZERO = 1 << 5;
        /// Mapped by a large entry.
        const HUGE = 1 << 6;
        /// Written since the mark was cleared.
        const SOFT_DIRTY = 1 << 7;
    }
}

/// Which pages are looked for, and what is told of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PageFilter {
    /// Categories that count the other way round.
    pub inverted: PageCategories,
    /// All of these are needed.
    pub all: PageCategories,
    /// And one of these, if there are any.
    pub any: PageCategories,
    /// What is told.
    pub shown: PageCategories,
}

impl PageFilter {
    /// Returns true if a page of these categories is looked for.
    pub fn takes(&self, categories: PageCategories) -> bool {
        let counted = categories ^ self.inverted;
        counted.contains(self.all) && (self.any.is_empty() || counted.intersects(self.any))
    }

    /// Returns true if an area of these categories may have such pages.
    pub fn takes_area(&self, categories: PageCategories) -> bool {
        (categories ^ self.inverted).contains(self.all & PageCategories::WPALLOWED)
    }
}

/// Neighbours that are alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PageRegion {
    /// First address.
    pub start: VirtAddr,
    /// Address behind the last.
    pub end: VirtAddr,
    /// What they are.
    pub categories: PageCategories,
}

/// There is room for no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScanFull {
    /// Where to go on.
    pub at: VirtAddr,
}

/// A scan under way.
#[derive(Debug)]
pub struct PageScan<'b> {
    filter: PageFilter,
    page_shift: u32,
    regions: &'b mut [PageRegion],
    /// Regions that were found.
    len: usize,
    /// Pages that may still be found.
    pages_left: u64,
}

impl<'b> PageScan<'b> {
    /// Begins a scan for up to `max_pages` pages. Without room for regions it passes over everything and finds nothing.
    pub const fn new(filter: PageFilter, page_shift: u32, regions: &'b mut [PageRegion], max_pages: u64) -> Self {
        Self { filter, page_shift, regions, len: 0, pages_left: max_pages }
    }

    /// Returns what is looked for.
    pub const fn filter(&self) -> &PageFilter {
        &self.filter
    }

    /// Returns how many pages may still be found.
    pub const fn pages_left(&self) -> u64 {
        self.pages_left
    }

    /// Returns the regions that were found.
    pub fn regions(&self) -> &[PageRegion] {
        self.regions.get(..self.len).unwrap_or_default()
    }

    /// Makes room for `room` regions, as far as there is so much, once those that were found are somewhere else.
    pub fn clear(&mut self, room: usize) {
        self.len = 0;
        let regions = core::mem::take(&mut self.regions);
        let room = room.min(regions.len());
        self.regions = regions.get_mut(..room).unwrap_or_default();
    }

    /// Takes note of pages that are alike, which follow those before.
    ///
    /// # Errors
    /// [`ScanFull`] if not all of them were noted.
    pub fn add(&mut self, range: VirtRange, categories: PageCategories) -> Result<(), ScanFull> {
        if self.regions.is_empty() || range.is_empty() || !self.filter.takes(categories) {
            return Ok(());
        }
        let nr_pages = (range.len() >> self.page_shift).min(self.pages_left);
        let taken = VirtRange::with_len(range.start, nr_pages << self.page_shift);
        if nr_pages == 0 || !self.push(taken, categories & self.filter.shown) {
            return Err(ScanFull { at: range.start });
        }
        self.pages_left -= nr_pages;
        if taken.end < range.end { Err(ScanFull { at: taken.end }) } else { Ok(()) }
    }

    fn push(&mut self, range: VirtRange, categories: PageCategories) -> bool {
        let last = self.len.checked_sub(1).and_then(|last| self.regions.get_mut(last));
        if let Some(last) = last.filter(|last| last.end == range.start && last.categories == categories) {
            last.end = range.end;
            return true;
        }
        let Some(next) = self.regions.get_mut(self.len) else { return false };
        *next = PageRegion { start: range.start, end: range.end, categories };
        self.len += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRESENT: PageCategories = PageCategories::PRESENT;
    const ZERO: PageCategories = PageCategories::PRESENT.union(PageCategories::PFNZERO);

    fn pages(first: u64, count: u64) -> VirtRange {
        VirtRange::with_len(VirtAddr::new(first << 12), count << 12)
    }

    fn filter(all: PageCategories, shown: PageCategories) -> PageFilter {
        PageFilter { all, shown, ..PageFilter::default() }
    }

    #[test]
    fn masks_ask_for_all_for_any_and_for_what_is_not() {
        let (inverted, any) = (PageCategories::PFNZERO, PageCategories::FILE | PageCategories::HUGE);
        assert!(filter(PRESENT, PRESENT).takes(ZERO));
        assert!(!filter(ZERO, PRESENT).takes(PRESENT));
        let not_zero = PageFilter { inverted, ..filter(ZERO, PRESENT) };
        assert!(not_zero.takes(PRESENT) && !not_zero.takes(ZERO) && !not_zero.takes(PageCategories::empty()));
        let one_of = PageFilter { any, ..filter(PRESENT, PRESENT) };
        assert!(one_of.takes(PRESENT | PageCategories::FILE) && !one_of.takes(ZERO));
        let watched = filter(PRESENT | PageCategories::WPALLOWED, PRESENT);
        assert!(!watched.takes_area(PageCategories::empty()) && not_zero.takes_area(PageCategories::empty()));
    }

    #[test]
    fn neighbours_that_look_alike_are_one_region() {
        let mut room = [PageRegion::default(); 3];
        let mut scan = PageScan::new(filter(PRESENT, PRESENT), 12, &mut room, u64::MAX);
        scan.add(pages(1, 2), PRESENT).unwrap();
        scan.add(pages(3, 1), ZERO).unwrap();
        scan.add(pages(4, 1), PageCategories::empty()).unwrap();
        scan.add(pages(5, 1), PRESENT).unwrap();
        let found: std::vec::Vec<_> =
            scan.regions().iter().map(|it| (it.start.raw() >> 12, it.end.raw() >> 12)).collect();
        assert_eq!(found, [(1, 4), (5, 6)]);
    }

    #[test]
    fn a_full_scan_says_where_to_go_on() {
        let mut room = [PageRegion::default(); 1];
        let mut scan = PageScan::new(filter(PRESENT, ZERO), 12, &mut room, 5);
        scan.add(pages(1, 2), PRESENT).unwrap();
        assert_eq!(scan.add(pages(3, 2), ZERO), Err(ScanFull { at: VirtAddr::new(3 << 12) }));
        scan.clear(1);
        assert_eq!(scan.add(pages(3, 9), ZERO), Err(ScanFull { at: VirtAddr::new(6 << 12) }), "three pages are left");
        assert_eq!((scan.pages_left(), scan.regions()[0].end), (0, VirtAddr::new(6 << 12)));
        assert_eq!(scan.add(pages(6, 1), ZERO), Err(ScanFull { at: VirtAddr::new(6 << 12) }));
        let mut none = PageScan::new(filter(PRESENT, ZERO), 12, &mut [], 5);
        assert_eq!((none.add(pages(1, 9), ZERO), none.pages_left()), (Ok(()), 5));
    }
}
