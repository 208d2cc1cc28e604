//! Changes of the tree of areas: enter, take out, split, and the counts that follow.
//!
//! Used by every call of this crate. Locking: the address space for writing, and each area that is changed. Linux 6.12: mm/vma.c (`vma_link`, `__split_vma`, `split_vma`).

use collections::range_tree::TreeError;
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
use crate::vma::{Area, PAGE_SHIFT, Slot, Vma};

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

    /// Takes the area that begins at `start`, which this call has locked for writing, out and closes its file. Counts nothing.
    pub(crate) fn take_out(&mut self, start: VirtAddr) {
        let taken = self.mm.tree.remove(start, &mut self.nodes());
        debug_assert!(taken.is_some(), "an area that is taken out is there");
        if let Some(entry) = taken {
            self.retire(entry.value);
        }
    }

    /// Lets an area go that is in the tree no longer.
    fn retire(&mut self, slot: Slot<'k>) {
        self.spaces.rmap.unlink(self.cpu, slot);
        let vma = slot.load();
        self.close_file(&vma);
        self.count_name(vma.name, None);
        self.free_area(slot);
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
        self.store_in(area.slot, vma);
        make_room(self);
        let moved = self.mm.tree.set_bounds(area.vma.start(), vma.range);
        debug_assert!(moved.is_ok(), "an area grows only where nothing is: {moved:?}");
    }

    /// Lets the area `first` be what `whole` says, over the areas `others` behind it. Up to `reach`, where the first of these begins, there may be room; the rest touch. Who
    /// looks up an address of one of them meanwhile finds an area.
    pub(crate) fn join_areas(&mut self, first: &Area<'k>, whole: &Vma, reach: VirtAddr, others: &[Slot<'k>]) {
        let start = first.vma.start();
        self.mm.start_write(&first.slot);
        self.store_in(first.slot, whole);
        if first.vma.end() < reach {
            let moved = self.mm.tree.set_bounds(start, VirtRange::new(start, reach));
            debug_assert!(moved.is_ok(), "an area grows only where nothing is: {moved:?}");
        }
        for other in others {
            self.mm.start_write(other);
            let upper = self.mm.tree.merge_next(start, &mut self.nodes());
            debug_assert!(upper == Some(*other), "areas that become one touch");
            if let Some(upper) = upper {
                self.retire(upper);
            }
        }
    }

    /// Changes the properties of an area without moving it.
    pub(crate) fn store(&mut self, vma: &Vma) {
        if let Some(slot) = self.write_lock(vma.start()) {
            self.store_in(slot, vma);
        }
    }

    /// As [`Call::store`], of an area that this call has locked for writing.
    pub(crate) fn store_in(&mut self, slot: Slot<'k>, vma: &Vma) {
        let name = self.spaces.rmap.rewrite(self.cpu, slot, vma);
        self.count_name(name, vma.name);
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
        self.spaces.rmap.split(self.cpu, area.slot, &vma.part(VirtRange::new(vma.start(), at)), upper);
        self.open_file(vma);
        self.count_name(None, vma.name);
        Ok(Area { slot: upper, vma: rest })
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
        if self.mm.nr_areas() >= self.spaces.settings.max_map_count {
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
