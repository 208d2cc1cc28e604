//! Changes of the tree of areas: enter, take out, split, and the counts that follow.
//!
//! Used by every call of this crate. Locking: `&mut` to the address space. Linux 6.12: mm/vma.c (`vma_link`, `__split_vma`, `split_vma`).

use collections::range_tree::TreeError;
use object_allocator::CachedNodes;
use page_allocator::Hooks;
use platform::Platform;
use units::{Gfp, VirtAddr, VirtRange, VmFlags};

use crate::backing::{PageTables, Pager};
use crate::error::MmError;
use crate::limits::{NO_LIMIT, Rights};
use crate::mm::Call;
use crate::vma::{PAGE_SHIFT, Vma};

impl<'k, P: Platform, H: Hooks, B: PageTables + Pager> Call<'_, 'k, P, H, B> {
    fn nodes(&self) -> CachedNodes<'_, 'k, P, H> {
        CachedNodes { cache: &self.spaces.nodes, cpu: self.cpu, gfp: Gfp::KERNEL }
    }

    /// Enters an area whose addresses are free. Counts nothing and opens no file.
    ///
    /// # Errors
    /// [`MmError::NoMemory`]; nothing remains.
    pub(crate) fn enter(&mut self, vma: &Vma) -> Result<(), MmError> {
        let slot = self.spaces.areas.alloc(self.cpu, Gfp::KERNEL)?;
        slot.store(vma);
        self.mm.tree.insert(vma.range, slot, &mut self.nodes()).map_err(|error| {
            self.spaces.areas.free(self.cpu, slot);
            debug_assert!(error == TreeError::NoMemory, "an area is entered where nothing is: {error}");
            MmError::NoMemory
        })
    }

    /// Takes the area that begins at `start` out and closes its file. Counts nothing.
    pub(crate) fn take_out(&mut self, start: VirtAddr) {
        let taken = self.mm.tree.remove(start, &mut self.nodes());
        debug_assert!(taken.is_some(), "an area that is taken out is there");
        let Some(entry) = taken else { return };
        if let Some(file) = entry.value.load(entry.range).file {
            self.backing.close(file);
        }
        self.spaces.areas.free(self.cpu, entry.value);
    }

    /// Gives the area that begins at `start` other addresses between its neighbours, and what else `vma` says.
    pub(crate) fn rewrite(&mut self, start: VirtAddr, vma: &Vma) {
        let slot = self.mm.slot(start);
        debug_assert!(slot.is_some(), "an area that is changed is there");
        if let Some(slot) = slot {
            slot.store(vma);
        }
        let moved = self.mm.tree.set_bounds(start, vma.range);
        debug_assert!(moved.is_ok(), "an area grows only where nothing is: {moved:?}");
    }

    /// Changes the properties of an area without moving it.
    pub(crate) fn store(&mut self, vma: &Vma) {
        if let Some(slot) = self.mm.slot(vma.start()) {
            slot.store(vma);
        }
    }

    /// Splits an area in two at `at`, whatever the number of areas (Linux: `__split_vma`).
    ///
    /// # Errors
    /// [`MmError::NoMemory`]; the area is whole then.
    pub(crate) fn split_unlimited(&mut self, vma: &Vma, at: VirtAddr) -> Result<(), MmError> {
        let upper = vma.part(VirtRange::new(at, vma.end()));
        let slot = self.spaces.areas.alloc(self.cpu, Gfp::KERNEL)?;
        slot.store(&upper);
        self.mm.tree.split(at, slot, &mut self.nodes()).map_err(|error| {
            self.spaces.areas.free(self.cpu, slot);
            debug_assert!(error == TreeError::NoMemory, "an area is split inside: {error}");
            MmError::NoMemory
        })?;
        if let Some(file) = vma.file {
            self.backing.open(file);
        }
        Ok(())
    }

    /// Splits an area in two at `at` (Linux: `split_vma`).
    ///
    /// # Errors
    /// [`MmError::NoMemory`], also if there are as many areas as may be; the area is whole then.
    pub(crate) fn split(&mut self, vma: &Vma, at: VirtAddr) -> Result<(), MmError> {
        if self.mm.nr_areas() >= self.spaces.settings.max_map_count {
            return Err(MmError::NoMemory);
        }
        self.split_unlimited(vma, at)
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
    pub(crate) fn data_limit_admits(&self, brk: VirtAddr) -> bool {
        let program = &self.mm.program;
        let limit = self.process.limits.data;
        limit == NO_LIMIT || brk.raw().wrapping_sub(program.start_brk.raw()).wrapping_add(program.data.len()) <= limit
    }
}
