//! munmap, and making room for what is mapped over it.
//!
//! In two parts, as in Linux: [`Call::gather`] splits at the ends and may fail, [`Call::complete_unmap`] takes out and cannot.
//! Linux 6.12: mm/vma.c (`do_vmi_munmap`, `vms_gather_munmap_vmas`, `vms_complete_munmap_vmas`).

use collections::range_tree::{Around, Entry};
use page_allocator::Hooks;
use platform::Platform;
use units::{VirtAddr, VirtRange, VmFlags};

use crate::backing::{PageTables, Pager};
use crate::call::Call;
use crate::error::MmError;
use crate::vma::{Among, Area, PAGE_SIZE, Slot};

/// The areas that are about to go, and those beside them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gathered<'a, 'k> {
    /// The lowest of them.
    pub(crate) first: Option<Area<'k>>,
    /// Those beside them.
    pub(crate) around: Around<'a, Slot<'k>>,
    /// Their pages.
    pub(crate) nr_pages: u64,
    /// Those of them that are promised.
    pub(crate) accounted: u64,
}

impl<'a, 'k> Gathered<'a, 'k> {
    /// Begins with what a lookup of the range found.
    pub(crate) fn of(around: Around<'a, Slot<'k>>) -> Self {
        Self { first: None, around, nr_pages: 0, accounted: 0 }
    }
}

impl<'a, 'k, P: Platform, H: Hooks, B: PageTables + Pager> Call<'a, 'k, P, H, B> {
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
        let around = self.mm.around(range);
        let inside = |area: &VirtRange| area.start < range.start && range.end < area.end;
        if let Some(area) = around.first.filter(|first| inside(&first.range))
            && self.unmap_inside(&Among { area: Area::at(area.value), around }, range)?
        {
            return Ok(());
        }
        let mut gathered = Gathered::of(around);
        self.gather_into(&mut gathered, range)?;
        self.complete_unmap(range, &gathered, 0);
        Ok(())
    }

    /// Unmaps a range inside an area, whose ends become two. Returns false, with nothing changed, if that takes more than one step in the tree.
    fn unmap_inside(&mut self, found: &Among<'_, 'k>, range: VirtRange) -> Result<bool, MmError> {
        let area = &found.area;
        self.check_cut(area, range)?;
        let vma = &area.vma;
        let lower = vma.part(VirtRange::new(vma.start(), range.start));
        let upper = vma.part(VirtRange::new(range.end, vma.end()));
        self.mm.start_write(&area.slot);
        let going = Area { slot: area.slot, vma: vma.part(range) };
        let is_done = self.punch(found, &lower, &upper, |call| {
            call.backing.begin_unmap();
            call.unmap_area(&going);
        })?;
        if is_done {
            self.backing.free_tables(range, range);
            self.backing.end_unmap();
            if vma.flags.contains(VmFlags::ACCOUNT) {
                self.spaces.overcommit.uncharge(going.vma.nr_pages());
            }
        }
        Ok(is_done)
    }

    /// What must hold for a range to go that begins inside an area. The number of areas may go above its limit for a moment, but not stay there.
    fn check_cut(&self, area: &Area<'k>, range: VirtRange) -> Result<(), MmError> {
        if range.end < area.vma.end() && self.mm.nr_areas() >= self.spaces.max_map_count() {
            return Err(MmError::NoMemory);
        }
        if area.vma.can_modify() { Ok(()) } else { Err(MmError::NotPermitted) }
    }

    /// Splits areas at the ends of `range`, and sums up what lies in it.
    ///
    /// # Errors
    /// [`MmError::NotPermitted`] if one is sealed, [`MmError::NoMemory`]. Splits that were made stay, as in Linux.
    pub(crate) fn gather(&mut self, range: VirtRange) -> Result<Gathered<'a, 'k>, MmError> {
        let mut gathered = Gathered::of(self.mm.around(range));
        self.gather_into(&mut gathered, range)?;
        Ok(gathered)
    }

    /// As [`Call::gather`], of what was looked up.
    pub(crate) fn gather_into(&mut self, gathered: &mut Gathered<'a, 'k>, range: VirtRange) -> Result<(), MmError> {
        let Some(first) = gathered.around.first.take() else { return Ok(()) };
        let mut area = Area::at(first.value);
        if range.start > area.vma.start() {
            self.check_cut(&area, range)?;
            let upper = self.split_unlimited(&area, range.start)?;
            gathered.around.before =
                Some(Entry { range: VirtRange::new(area.vma.start(), range.start), value: area.slot });
            area = upper;
        }
        loop {
            if !area.vma.can_modify() {
                return Err(MmError::NotPermitted);
            }
            if area.vma.end() > range.end {
                gathered.around.behind = Some(self.split_unlimited(&area, range.end)?.entry());
                area.vma = area.vma.part(range);
            }
            gathered.first.get_or_insert(area);
            gathered.nr_pages += area.vma.nr_pages();
            if area.vma.flags.contains(VmFlags::ACCOUNT) {
                gathered.accounted += area.vma.nr_pages();
            }
            if area.vma.end() >= range.end {
                return Ok(());
            }
            // What is behind the last area is found with it.
            let next = self.mm.around(VirtRange::new(area.vma.end(), range.end));
            gathered.around.behind = next.behind;
            let Some(next) = next.first else { return Ok(()) };
            area = Area::at(next.value);
        }
    }

    /// Takes out the areas that were gathered in a range. `kept` promised pages stay promised, for what comes in their place.
    ///
    /// Pages go first, then the areas, and tables last: until an area is out of the reverse map, somebody may look for its pages.
    pub(crate) fn complete_unmap(&mut self, range: VirtRange, gathered: &Gathered<'_, 'k>, kept: u64) {
        let Some(first) = gathered.first else { return };
        self.backing.begin_unmap();
        let mut accounted = 0;
        let mut next = Some(first);
        while let Some(area) = next {
            debug_assert!(range.intersection(area.vma.range) == area.vma.range, "gathered ranges end where areas end");
            self.mm.start_write(&area.slot);
            accounted += self.unmap_area(&area);
            next = self.mm.area_in(VirtRange::new(area.vma.end(), range.end));
        }
        let floor = gathered.around.before.map_or(VirtAddr::ZERO, |before| before.range.end);
        let ceiling = gathered.around.behind.map_or(VirtAddr::new(u64::MAX), |behind| behind.range.start);
        let mut next = Some(first);
        while let Some(area) = next {
            self.take_out(&area);
            next = self.mm.area_in(VirtRange::new(area.vma.end(), range.end));
            let ceiling = next.map_or(ceiling, |next| next.vma.start());
            self.backing.free_tables(area.vma.range, VirtRange::new(floor, ceiling));
        }
        self.backing.end_unmap();
        // What comes may need fewer pages than go.
        self.spaces.overcommit.uncharge(accounted.saturating_sub(kept));
    }

    /// Forgets the pages of an area that is locked for writing; they are counted no longer. Returns how many were promised.
    fn unmap_area(&mut self, Area { vma, .. }: &Area<'k>) -> u64 {
        let nr_pages = vma.nr_pages();
        self.backing.unmap(vma, vma.range);
        self.mm.counters.remove(vma.flags, nr_pages);
        if vma.flags.contains(VmFlags::LOCKED) {
            self.mm.counters.locked -= nr_pages;
        }
        if vma.flags.contains(VmFlags::ACCOUNT) { nr_pages } else { 0 }
    }
}
