//! Page tables as calls on areas see them.
//!
//! Linux 6.12: mm/mmap.c (`unmap_region`), mm/madvise.c, mm/gup.c (`populate_vma_page_range`), mm/mincore.c.

use address_space::{
    Access, AreaName, FileFacts, FileId, HugeRules, MmError, PAGE_SHIFT, PAGE_SIZE, PageAdvice, PageMark, PageTables,
    Pager, Reserve, Vma,
};
use object_allocator::mmu::Gather;
use page_allocator::Hooks;
use page_tables::{Bounds, Tables, ZapWhat};
use platform::{Level, Platform, TableFormat};
use units::{VirtAddr, VirtRange, VmFlags};

use crate::context::{FaultContext, FaultError};
use crate::decide::{AccessKind, FaultAction};
use crate::file_pages::FilePages;

/// The pages of one address space, for calls on its areas.
#[derive(Debug)]
pub struct MmPages<'a, P: Platform, H: Hooks, F: FilePages> {
    /// Its tables.
    pub pages: Tables<'a, P, H>,
    /// The files behind its areas.
    pub files: F,
    /// The tables that are copied, while an address space is made by fork.
    pub parent: Option<Tables<'a, P, H>>,
    /// What faults do about large pages.
    pub huge: HugeRules,
    unmapping: Option<Unmapping<'a, P, H>>,
}

/// An unmapping under way.
#[derive(Debug)]
struct Unmapping<'a, P: Platform, H: Hooks> {
    gather: Gather<'a, P, H>,
    /// Areas near each other whose tables wait to be freed in one descent.
    range: VirtRange,
    /// What their tables may serve and be freed.
    freeable: VirtRange,
}

impl<'a, P: Platform, H: Hooks> Unmapping<'a, P, H> {
    /// Frees the tables of the areas that wait for it.
    fn free_tables(&mut self, pages: &Tables<'a, P, H>) {
        let bounds = Bounds { floor: self.freeable.start, ceiling: self.freeable.end };
        pages.free_tables(&mut self.gather, core::mem::take(&mut self.range), bounds);
    }
}

impl<'a, P: Platform, H: Hooks, F: FilePages> MmPages<'a, P, H, F> {
    /// Shows the tables of an address space.
    pub const fn new(pages: Tables<'a, P, H>, files: F, huge: HugeRules) -> Self {
        Self { pages, files, parent: None, huge, unmapping: None }
    }

    /// Handles faults of the address space.
    pub const fn faults(&self) -> FaultContext<'a, '_, P, H, F> {
        FaultContext { pages: self.pages, files: &self.files, huge: self.huge }
    }

    /// Splits large pages of which only a part lies in `range`, unless others map them too (Linux: `madvise_free_huge_pmd`,
    /// `madvise_cold_or_pageout_pte_range`).
    fn split_own(&self, range: VirtRange) {
        for end in [range.start, range.end] {
            let mut is_own = false;
            if self.pages.crosses_large_page(end) {
                self.pages.for_each_mapped(VirtRange::with_len(end, PAGE_SIZE), |page| is_own = page.mapcount() == 1);
            }
            if is_own {
                let mut gather = self.pages.gather();
                self.pages.split_large(&mut gather, end);
            }
        }
    }

    /// Takes all pages of `range` out, with a flush of its own when the result is dropped.
    fn zap(&self, range: VirtRange) -> Gather<'a, P, H> {
        let mut gather = self.pages.gather();
        self.pages.split_ends(&mut gather, range);
        self.pages.zap(&mut gather, range, ZapWhat::All);
        gather
    }
}

impl<P: Platform, H: Hooks, F: FilePages> PageTables for MmPages<'_, P, H, F> {
    fn begin_unmap(&mut self) {
        let gather = self.pages.gather();
        self.unmapping = Some(Unmapping { gather, range: VirtRange::default(), freeable: VirtRange::default() });
    }

    fn unmap(&mut self, _: &Vma, range: VirtRange) {
        debug_assert!(self.unmapping.is_some(), "areas are unmapped between a beginning and an end");
        if let Some(unmapping) = &mut self.unmapping {
            self.pages.zap(&mut unmapping.gather, range, ZapWhat::All);
        }
    }

    fn free_tables(&mut self, range: VirtRange, freeable: VirtRange) {
        let near = self.pages.mmu.format().leaf_bytes(Level::PMD);
        if let Some(unmapping) = &mut self.unmapping {
            if !unmapping.range.is_empty() && range.start.since(unmapping.range.end) > near {
                unmapping.free_tables(&self.pages);
            }
            (unmapping.range, unmapping.freeable) = (unmapping.range.joined(range), freeable);
        }
    }

    fn end_unmap(&mut self) {
        if let Some(unmapping) = &mut self.unmapping {
            unmapping.free_tables(&self.pages);
        }
        // Flushed and freed where it is: it is large.
        self.unmapping = None;
    }

    fn copy(&mut self, parent: &Vma, child: &Vma) -> Result<(), MmError> {
        // Pages of files come back by faults; only what an area made for itself has to be copied, and frames that a driver mapped (Linux: `vma_needs_copy`).
        if parent.anon.is_none() && !parent.flags.intersects(VmFlags::PFNMAP | VmFlags::MIXEDMAP) {
            return Ok(());
        }
        debug_assert!(self.parent.is_some(), "fork says whose tables are copied");
        let source = self.parent.ok_or(MmError::Invalid)?;
        let mut gather = source.gather();
        source.copy_to(&self.pages, &mut gather, child.range, parent.flags).map_err(|_| MmError::NoMemory)
    }

    fn protect(&mut self, vma: &Vma, range: VirtRange) {
        let mut gather = self.pages.gather();
        self.pages.split_ends(&mut gather, range);
        self.pages.protect(&mut gather, range, vma.flags);
    }

    fn soft_dirty(&self) -> VmFlags {
        if self.pages.mmu.format().soft_dirty() == 0 { VmFlags::empty() } else { VmFlags::SOFTDIRTY }
    }

    fn clear_marks(&mut self, areas: &mut dyn Iterator<Item = Vma>, mark: PageMark) {
        let mut gather = self.pages.gather();
        for vma in areas {
            match mark {
                PageMark::Referenced => self.pages.clear_referenced(vma.range),
                PageMark::SoftDirty => self.pages.clear_soft_dirty(&mut gather, vma.range, vma.flags),
            }
        }
    }

    fn split_at(&mut self, at: VirtAddr) {
        if self.pages.crosses_large_page(at) {
            self.pages.split_large(&mut self.pages.gather(), at);
        }
    }

    fn relocate(&mut self, _: &Vma, old: VirtRange, _: &Vma, to: VirtAddr, room: u64) -> Result<(), MmError> {
        let mut gather = self.pages.gather();
        self.pages.relocate(&mut gather, old, to, room).map_err(|_| MmError::NoMemory)
    }

    fn advise(&mut self, vma: &Vma, range: VirtRange, advice: PageAdvice) -> Result<(), MmError> {
        match advice {
            PageAdvice::DontNeed => drop(self.zap(range)),
            PageAdvice::DontNeedTables => {
                let mut gather = self.zap(range);
                self.pages.free_lowest_tables(&mut gather, range);
            }
            PageAdvice::PageOut if vma.flags.contains(VmFlags::DROPPABLE) => {
                self.split_own(range);
                self.pages.drop_unheld(&mut self.pages.gather(), range);
            }
            // Nothing reclaims memory yet, so pages stay, as they do in Linux while memory is plenty and there is no swap.
            PageAdvice::Free | PageAdvice::Cold | PageAdvice::PageOut => self.split_own(range),
            PageAdvice::WillNeed => {}
            PageAdvice::Collapse(release) => self.faults().collapse(vma, range, release)?,
        }
        Ok(())
    }

    fn populate(&mut self, vma: &Vma, range: VirtRange, access: Access) -> Result<(), MmError> {
        let faults = self.faults();
        let kind = if access == Access::Write { AccessKind::Write } else { AccessKind::Read };
        for number in 0..range.len() >> PAGE_SHIFT {
            let addr = range.start.saturating_add(number << PAGE_SHIFT);
            let done = faults.make_possible(vma, addr, kind).map_err(|error| match error {
                FaultError::NoMemory => MmError::NoMemory,
                _ => MmError::BadAddress,
            })?;
            if done != FaultAction::Touch {
                faults.count();
            }
        }
        Ok(())
    }

    fn residency(&mut self, vma: &Vma, range: VirtRange, resident: &mut [u8]) {
        resident.fill(0);
        if let Some(file) = vma.file {
            self.files.residency(file, vma.pgoff_at(range.start), resident);
        }
        self.pages.for_each_mapped(range, |page| {
            let first = (page.range.start.since(range.start) >> PAGE_SHIFT) as usize;
            let covered = resident.iter_mut().skip(first).take(page.order.nr_pages() as usize);
            covered.for_each(|byte| *byte = 1);
        });
    }
}

impl<P: Platform, H: Hooks, F: FilePages> Pager for MmPages<'_, P, H, F> {
    fn facts(&self, file: FileId) -> Result<FileFacts, MmError> {
        self.files.facts(file)
    }

    fn shared_anonymous(&mut self, bytes: u64, reserve: Reserve) -> Result<FileId, MmError> {
        self.files.shared_anonymous(bytes, reserve)
    }

    fn open(&mut self, file: FileId) {
        self.files.open(file);
    }

    fn close(&mut self, file: FileId) {
        self.files.close(file);
    }

    fn map_writable(&mut self, file: FileId) -> Result<(), MmError> {
        self.files.map_writable(file)
    }

    fn copy_writable(&mut self, file: FileId) {
        self.files.copy_writable(file);
    }

    fn unmap_writable(&mut self, file: FileId) {
        self.files.unmap_writable(file);
    }

    fn name_get(&mut self, name: AreaName) {
        self.files.name_get(name);
    }

    fn name_put(&mut self, name: AreaName) {
        self.files.name_put(name);
    }

    fn sync(&mut self, file: FileId, offset: u64, bytes: u64) -> Result<(), MmError> {
        self.files.sync(file, offset, bytes)
    }

    fn punch_hole(&mut self, file: FileId, offset: u64, bytes: u64) -> Result<(), MmError> {
        self.files.punch_hole(file, offset, bytes)
    }
}
