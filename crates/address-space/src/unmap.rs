//! munmap, and making room for what is mapped over it.
//!
//! In two parts, as in Linux: [`Call::gather`] splits at the ends and may fail, [`Call::complete_unmap`] takes out and cannot.
//! Linux 6.12: mm/vma.c (`do_vmi_munmap`, `vms_gather_munmap_vmas`, `vms_complete_munmap_vmas`).

use page_allocator::Hooks;
use platform::Platform;
use units::{VirtAddr, VirtRange, VmFlags};

use crate::backing::{PageTables, Pager};
use crate::call::Call;
use crate::error::MmError;
use crate::vma::{Area, PAGE_SIZE};

/// Sums over the areas that are about to go, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Gathered {
    /// All.
    pub(crate) nr_pages: u64,
    /// Promised ones.
    pub(crate) accounted: u64,
}

impl<'k, P: Platform, H: Hooks, B: PageTables + Pager> Call<'_, 'k, P, H, B> {
    /// Unmaps whatever is mapped in the pages of `len` bytes from `start` (Linux: `munmap`).
    ///
    /// # Errors
    /// [`MmError::Invalid`] for a bad range, [`MmError::NotPermitted`] for a sealed area, [`MmError::NoMemory`] if an area cannot be split.
    /// Nothing is unmapped then, though an area may be split at an end of the range.
    pub fn munmap(&mut self, start: VirtAddr, len: u64) -> Result<(), MmError> {
        let range = self.user_range(start, len)?;
        self.unmap_range(range)
    }

    /// Linux: the checks of `do_vmi_munmap`.
    fn user_range(&self, start: VirtAddr, len: u64) -> Result<VirtRange, MmError> {
        let top = self.spaces.settings.task_size;
        if !start.raw().is_multiple_of(PAGE_SIZE) || start > top || len > top.since(start) {
            return Err(MmError::Invalid);
        }
        let range = VirtRange::with_len(start, len.next_multiple_of(PAGE_SIZE));
        if range.is_empty() { Err(MmError::Invalid) } else { Ok(range) }
    }

    /// Unmaps a checked range (Linux: `do_vmi_align_munmap`).
    pub(crate) fn unmap_range(&mut self, range: VirtRange) -> Result<(), MmError> {
        self.gather(range)?;
        self.complete_unmap(range, 0);
        Ok(())
    }

    /// Splits areas at the ends of `range`, and sums up what lies in it.
    ///
    /// # Errors
    /// [`MmError::NotPermitted`] if one is sealed, [`MmError::NoMemory`]. Splits that were made stay, as in Linux.
    pub(crate) fn gather(&mut self, range: VirtRange) -> Result<Gathered, MmError> {
        let mut sums = Gathered::default();
        let Some(mut area) = self.mm.area_in(range) else { return Ok(sums) };
        if range.start > area.vma.start() {
            // The number of areas may go above its limit for a moment, but not stay there.
            if range.end < area.vma.end() && self.mm.nr_areas() >= self.spaces.settings.max_map_count {
                return Err(MmError::NoMemory);
            }
            if !area.vma.can_modify() {
                return Err(MmError::NotPermitted);
            }
            area = self.split_unlimited(&area, range.start)?;
        }
        loop {
            if !area.vma.can_modify() {
                return Err(MmError::NotPermitted);
            }
            let part = area.vma.part(range);
            if area.vma.end() > range.end {
                self.split_unlimited(&area, range.end)?;
            }
            sums.nr_pages += part.nr_pages();
            if part.flags.contains(VmFlags::ACCOUNT) {
                sums.accounted += part.nr_pages();
            }
            match self.mm.area_in(VirtRange::new(part.end(), range.end)) {
                Some(next) => area = next,
                None => return Ok(sums),
            }
        }
    }

    /// Takes out the areas in a gathered range. `kept` promised pages stay promised, for what comes in their place.
    ///
    /// Pages go first, then the areas, and tables last: until an area is out of the reverse map, somebody may look for its pages.
    pub(crate) fn complete_unmap(&mut self, range: VirtRange, kept: u64) {
        let Some(first) = self.mm.area_in(range) else { return };
        let accounted = self.unmap_pages(range, first);
        let floor = self.mm.find_before(range.start).map_or(VirtAddr::ZERO, |before| before.end());
        let mut next = Some(first.vma.range);
        while let Some(area) = next
            && area.overlaps(range)
        {
            self.take_out(area.start);
            next = self.mm.tree.find_at_or_after(area.end).map(|behind| behind.range);
            let ceiling = next.map_or(VirtAddr::new(u64::MAX), |behind| behind.start);
            self.backing.free_tables(area, VirtRange::new(floor, ceiling));
        }
        self.backing.end_unmap();
        // What comes may need fewer pages than go.
        self.spaces.overcommit.uncharge(accounted.saturating_sub(kept));
    }

    /// Begins the gather, and forgets the pages of the areas in `range`, of which `first` is the lowest; they are counted no longer. Returns how many pages were promised.
    fn unmap_pages(&mut self, range: VirtRange, first: Area<'k>) -> u64 {
        let mut accounted = 0;
        self.backing.begin_unmap();
        let mut next = Some(first);
        while let Some(Area { slot, vma }) = next {
            debug_assert!(range.intersection(vma.range) == vma.range, "gathered ranges end where areas end");
            let nr_pages = vma.nr_pages();
            self.mm.start_write(&slot);
            self.backing.unmap(&vma, vma.range);
            self.mm.counters.remove(vma.flags, nr_pages);
            if vma.flags.contains(VmFlags::LOCKED) {
                self.mm.counters.locked -= nr_pages;
            }
            if vma.flags.contains(VmFlags::ACCOUNT) {
                accounted += nr_pages;
            }
            next = self.mm.area_in(VirtRange::new(vma.end(), range.end));
        }
        accounted
    }
}
