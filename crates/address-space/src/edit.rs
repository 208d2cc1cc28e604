//! Changes of the tree of areas: enter, take out, split, and the counts that follow.
//!
//! Used by every call of this crate. Locking: the address space for writing, and each area that is changed. Linux 6.12: mm/vma.c (`vma_link`, `__split_vma`, `split_vma`).

use collections::range_tree::{Around, Entry, TreeError};
use object_allocator::CachedNodes;
use page_allocator::Hooks;
use platform::Platform;
use units::{Gfp, VirtAddr, VirtRange, VmFlags};

use crate::backing::{PageTables, Pager};
use crate::call::Call;
use crate::error::MmError;
use crate::limits::{NO_LIMIT, Rights};
use crate::name::AreaName;
use crate::program::ProgramRanges;
use crate::vma::{Among, Area, PAGE_SHIFT, Slot, Vma};

impl<'k, P: Platform, H: Hooks, B: PageTables + Pager> Call<'_, 'k, P, H, B> {
    fn nodes(&self) -> CachedNodes<'_, 'k, P, H> {
        self.spaces.node_source(self.cpu)
    }

    /// Makes an area of an object that says what `vma` does, which is in no tree yet.
    fn make_area(&self, vma: &Vma) -> Result<Slot<'k>, MmError> {
        let slot = self.spaces.areas.alloc(self.cpu, Gfp::KERNEL)?;
        self.mm.attach(&slot);
        slot.store(vma);
        Ok(slot)
    }

    /// Frees an area's object. It is in no tree any more.
    fn free_area(&self, slot: Slot<'k>) {
        slot.lock.detach();
        self.spaces.areas.free(self.cpu, slot);
    }

    /// Enters an area whose addresses are free. Counts nothing and opens no file.
    ///
    /// # Errors
    /// [`MmError::NoMemory`]; nothing remains.
    pub(crate) fn enter(&mut self, vma: &Vma) -> Result<(), MmError> {
        let slot = self.make_area(vma)?;
        self.mm.tree.insert(vma.range, slot, &mut self.nodes()).map_err(|error| {
            self.free_area(slot);
            debug_assert!(error == TreeError::NoMemory, "an area is entered where nothing is: {error}");
            MmError::NoMemory
        })?;
        self.spaces.rmap.link(self.cpu, slot, vma);
        self.count_name(None, vma.name);
        Ok(())
    }

    /// Takes an area, which this call has locked for writing, out and closes its file. Counts nothing.
    pub(crate) fn take_out(&mut self, area: &Area<'k>) {
        let taken = self.mm.tree.remove(area.vma.start(), &mut self.nodes());
        debug_assert!(taken == Some(area.entry()), "an area that is taken out is there");
        self.retire(area);
    }

    /// Lets an area go that is in the tree no longer.
    fn retire(&mut self, area: &Area<'k>) {
        self.spaces.rmap.unlink(self.cpu, area);
        self.close_file(&area.vma);
        self.count_name(area.vma.name, None);
        self.free_area(area.slot);
    }

    /// Write-locks the area that begins at `start`: faults on it have ended, and others wait, until the call's lock opens
    /// (Linux: `vma_start_write`). Returns its slot.
    pub(crate) fn write_lock(&self, start: VirtAddr) -> Option<Slot<'k>> {
        let slot = self.mm.slot(start);
        debug_assert!(slot.is_some(), "an area that is changed is there");
        if let Some(slot) = slot {
            self.mm.start_write(&slot);
        }
        slot
    }

    /// Has faults on the area that begins at `start` end, and keeps others out, until the call's lock opens; for who exchanges its pages.
    pub fn hold_area(&self, start: VirtAddr) {
        self.write_lock(start);
    }

    /// Gives an area other addresses between its neighbours, and what else `vma` says.
    ///
    /// `make_room` takes what becomes part of it away from its neighbours, after the area is found there in the reverse map: a walk finds each
    /// page at least once.
    pub(crate) fn rewrite(&mut self, area: &Area<'k>, vma: &Vma, make_room: impl FnOnce(&mut Self)) {
        self.mm.start_write(&area.slot);
        self.store_in(area, vma);
        make_room(self);
        let moved = self.mm.tree.set_bounds(area.vma.start(), vma.range);
        debug_assert!(moved.is_ok(), "an area grows only where nothing is: {moved:?}");
    }

    /// Lets the area `first` be what `whole` says, over the areas `others` behind it. Before the first of these there may be room; the rest touch. Who looks up an
    /// address of one of them meanwhile finds an area.
    pub(crate) fn join_areas(
        &mut self,
        around: &Around<'_, Slot<'k>>,
        first: &Area<'k>,
        whole: &Vma,
        others: &[&Area<'k>],
    ) {
        self.mm.start_write(&first.slot);
        others.iter().for_each(|other| self.mm.start_write(&other.slot));
        self.store_in(first, whole);
        let entry = Entry { range: whole.range, value: first.slot };
        if !around.splice(whole.start(), 1 + others.len(), &[entry]) {
            self.join_in_tree(first, others);
        }
        others.iter().for_each(|other| self.retire(other));
    }

    /// As the splice of [`Call::join_areas`], where the areas do not lie in one node of the tree.
    fn join_in_tree(&self, first: &Area<'k>, others: &[&Area<'k>]) {
        let start = first.vma.start();
        if let Some(next) = others.first().filter(|next| first.vma.end() < next.vma.start()) {
            let moved = self.mm.tree.set_bounds(start, VirtRange::new(start, next.vma.start()));
            debug_assert!(moved.is_ok(), "an area grows only where nothing is: {moved:?}");
        }
        for other in others {
            let upper = self.mm.tree.merge_next(start, &mut self.nodes());
            debug_assert!(upper == Some(other.slot), "areas that become one touch");
        }
    }

    /// Changes the properties of an area without moving it.
    pub(crate) fn store(&mut self, vma: &Vma) {
        if let Some(slot) = self.write_lock(vma.start()) {
            self.store_in(&Area::at(slot), vma);
        }
    }

    /// As [`Call::store`], of an area that was found, and that this call has locked for writing.
    pub(crate) fn store_in(&mut self, area: &Area<'k>, vma: &Vma) {
        self.spaces.rmap.rewrite(self.cpu, area, vma);
        self.count_name(area.vma.name, vma.name);
    }

    /// Counts the names of an area that had the one and has the other.
    fn count_name(&mut self, before: Option<AreaName>, after: Option<AreaName>) {
        if before == after {
            return;
        }
        if let Some(name) = after {
            self.backing.name_get(name);
        }
        if let Some(name) = before {
            self.backing.name_put(name);
        }
    }

    /// Splits an area in two at `at`, whatever the number of areas; returns the upper one (Linux: `__split_vma`).
    ///
    /// # Errors
    /// [`MmError::NoMemory`]; the area is whole then.
    pub(crate) fn split_unlimited(&mut self, area: &Area<'k>, at: VirtAddr) -> Result<Area<'k>, MmError> {
        let vma = &area.vma;
        let rest = vma.part(VirtRange::new(at, vma.end()));
        let upper = self.make_area(&rest)?;
        self.mm.start_write(&area.slot);
        self.backing.split_at(at);
        self.mm.tree.split(at, upper, &mut self.nodes()).map_err(|error| {
            self.free_area(upper);
            debug_assert!(error == TreeError::NoMemory, "an area is split inside: {error}");
            MmError::NoMemory
        })?;
        let upper = Area { slot: upper, vma: rest };
        self.spaces.rmap.split(self.cpu, area, &vma.part(VirtRange::new(vma.start(), at)), &[&upper]);
        self.open_file(vma);
        self.count_name(None, vma.name);
        Ok(upper)
    }

    /// Makes a hole in an area, which is locked for writing, from where `lower` ends to where `upper` begins, whatever the number of areas. `in_between` lets the
    /// pages there go, when no lookup finds them in an area, and the reverse map still does.
    ///
    /// Returns false, with nothing changed, if that takes more than one step in the tree.
    ///
    /// # Errors
    /// [`MmError::NoMemory`]; the area is whole then.
    pub(crate) fn punch(
        &mut self,
        found: &Among<'_, 'k>,
        lower: &Vma,
        upper: &Vma,
        in_between: impl FnOnce(&mut Self),
    ) -> Result<bool, MmError> {
        let area = &found.area;
        let upper = Area { slot: self.make_area(upper)?, vma: *upper };
        [lower.end(), upper.vma.start()].into_iter().for_each(|at| self.backing.split_at(at));
        let parts = [Entry { range: lower.range, value: area.slot }, upper.entry()];
        if !found.around.splice(lower.start(), 1, &parts) {
            self.free_area(upper.slot);
            return Ok(false);
        }
        in_between(self);
        self.spaces.rmap.split(self.cpu, area, lower, &[&upper]);
        self.open_file(&area.vma);
        self.count_name(None, upper.vma.name);
        Ok(true)
    }

    /// Makes a part inside an area, which is locked for writing, an area of its own that is as `middle` says.
    ///
    /// Returns false, with nothing changed, if memory is short, there would be too many areas, or it takes more than one step in the tree.
    pub(crate) fn split_out(&mut self, found: &Among<'_, 'k>, middle: &Vma) -> bool {
        if self.mm.nr_areas().saturating_add(1) >= self.spaces.max_map_count() {
            return false;
        }
        let area = &found.area;
        let vma = &area.vma;
        let lower = vma.part(VirtRange::new(vma.start(), middle.start()));
        let rest = vma.part(VirtRange::new(middle.end(), vma.end()));
        let Ok(slot) = self.make_area(middle) else { return false };
        let middle = Area { slot, vma: *middle };
        let Ok(slot) = self.make_area(&rest) else {
            self.free_area(middle.slot);
            return false;
        };
        let upper = Area { slot, vma: rest };
        [middle.vma.start(), upper.vma.start()].into_iter().for_each(|at| self.backing.split_at(at));
        let parts = [Entry { range: lower.range, value: area.slot }, middle.entry(), upper.entry()];
        if !found.around.splice(lower.start(), 1, &parts) {
            [middle, upper].into_iter().for_each(|part| self.free_area(part.slot));
            return false;
        }
        self.spaces.rmap.split(self.cpu, area, &lower, &[&middle, &upper]);
        for part in [&middle.vma, &upper.vma] {
            self.open_file(part);
            self.count_name(None, part.name);
        }
        true
    }

    /// Counts an area that was made of another as a user of its file.
    pub(crate) fn open_file(&mut self, vma: &Vma) {
        let Some(file) = vma.file else { return };
        self.backing.open(file);
        if vma.flags.is_shared_maywrite() {
            self.backing.copy_writable(file);
        }
    }

    /// Counts an area no longer as a user of its file.
    pub(crate) fn close_file(&mut self, vma: &Vma) {
        let Some(file) = vma.file else { return };
        if vma.flags.is_shared_maywrite() {
            self.backing.unmap_writable(file);
        }
        self.backing.close(file);
    }

    /// As [`Call::split_unlimited`], if there are fewer areas than may be (Linux: `split_vma`).
    ///
    /// # Errors
    /// [`MmError::NoMemory`]; the area is whole then.
    pub(crate) fn split(&mut self, area: &Area<'k>, at: VirtAddr) -> Result<Area<'k>, MmError> {
        if self.mm.nr_areas() >= self.spaces.max_map_count() {
            return Err(MmError::NoMemory);
        }
        self.split_unlimited(area, at)
    }

    /// Returns true if `nr_pages` more of this kind keep the limits on addresses and data (Linux: `may_expand_vm`).
    pub(crate) fn may_expand(&self, flags: VmFlags, nr_pages: u64) -> bool {
        let limits = &self.process.limits;
        let counters = &self.mm.counters;
        if counters.total.saturating_add(nr_pages) > limits.address_space >> PAGE_SHIFT {
            return false;
        }
        let data = counters.data.saturating_add(nr_pages);
        if !flags.is_data_mapping() || data <= limits.data >> PAGE_SHIFT {
            return true;
        }
        // A soft limit of 0 is how some programs keep the heap away from brk; then the hard one counts.
        limits.data == 0 && data <= limits.data_max >> PAGE_SHIFT
    }

    /// Returns true if `bytes` more with these flags keep the limit on locked memory (Linux: `mlock_future_ok`).
    pub(crate) fn may_lock(&self, flags: VmFlags, bytes: u64) -> bool {
        if !flags.contains(VmFlags::LOCKED) || self.process.rights.contains(Rights::IPC_LOCK) {
            return true;
        }
        let pages = (bytes >> PAGE_SHIFT).saturating_add(self.mm.counters.locked);
        pages <= self.process.limits.locked >> PAGE_SHIFT
    }

    /// Returns true if the process may lock memory at all (Linux: `can_do_mlock`).
    pub(crate) fn may_lock_at_all(&self) -> bool {
        self.process.limits.locked != 0 || self.process.rights.contains(Rights::IPC_LOCK)
    }

    /// Promises `nr_pages` (Linux: `security_vm_enough_memory_mm`).
    ///
    /// # Errors
    /// [`MmError::NoMemory`].
    pub(crate) fn charge(&self, nr_pages: u64) -> Result<(), MmError> {
        self.spaces.overcommit.charge(nr_pages, self.process, self.mm.counters.total)
    }

    /// Returns true if a heap up to `brk` keeps RLIMIT_DATA (Linux: `check_data_rlimit`).
    pub(crate) fn data_limit_admits(&self, program: &ProgramRanges, brk: VirtAddr) -> bool {
        let limit = self.process.limits.data;
        limit == NO_LIMIT || brk.raw().wrapping_sub(program.start_brk.raw()).wrapping_add(program.data.len()) <= limit
    }
}
