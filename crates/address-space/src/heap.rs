//! brk: the heap.
//!
//! Linux 6.12: mm/mmap.c (`brk`, `check_brk_limits`), mm/vma.c (`do_brk_flags`).

use page_allocator::Hooks;
use platform::Platform;
use units::{VirtAddr, VirtRange, VmFlags};

use crate::backing::{PageTables, Pager};
use crate::call::Call;
use crate::error::MmError;
use crate::flags::MapFlags;
use crate::limits::Rights;
use crate::place::PlaceRequest;
use crate::vma::{PAGE_SHIFT, PAGE_SIZE, Vma};

impl<P: Platform, H: Hooks, B: PageTables + Pager> Call<'_, '_, P, H, B> {
    /// Moves the end of the heap to `brk` if that is possible; returns where it is then (Linux: `brk`, which does not fail).
    pub fn brk(&mut self, brk: VirtAddr) -> VirtAddr {
        if let Ok(range) = self.move_brk(brk) {
            self.mm.program.brk = brk;
            if !range.is_empty() && self.mm.def_flags.contains(VmFlags::LOCKED) {
                // What cannot be populated is faulted in, or not, when it is used.
                let _ = self.populate(range);
            }
        }
        self.mm.program.brk
    }

    /// Maps or unmaps the pages between the old and the new end; returns what was mapped.
    fn move_brk(&mut self, brk: VirtAddr) -> Result<VirtRange, MmError> {
        let program = self.mm.program;
        if brk < program.start_brk {
            return Err(MmError::Invalid);
        }
        if !self.data_limit_admits(&program, brk) {
            return Err(MmError::NoMemory);
        }
        let (old, new) = (program.brk.align_up(PAGE_SIZE), brk.align_up(PAGE_SIZE));
        if new < brk {
            // The last page of all addresses: rounded up it would wrap.
            return Err(MmError::NoMemory);
        }
        if old == new {
            return Ok(VirtRange::default());
        }
        if brk <= program.brk {
            let heap = self.mm.find_intersection(VirtRange::new(new, old)).ok_or(MmError::NoMemory)?;
            debug_assert!(heap.start() < old, "the area intersects the part of the heap that goes");
            self.unmap_range(VirtRange::new(new, old))?;
            return Ok(VirtRange::default());
        }
        let range = VirtRange::new(old, new);
        self.check_brk_limits(range)?;
        let beyond = new.saturating_add(PAGE_SIZE);
        let guard_gap = self.spaces.settings.guard_gap;
        let next = self.mm.find_intersection(VirtRange::new(old, beyond.saturating_add(guard_gap)));
        if next.is_some_and(|next| beyond > next.start_with_gap(guard_gap)) {
            return Err(MmError::NoMemory);
        }
        self.grow_heap(range)?;
        Ok(range)
    }

    fn check_brk_limits(&self, range: VirtRange) -> Result<(), MmError> {
        let request =
            PlaceRequest { file: None, addr: range.start, len: range.len(), pgoff: 0, flags: MapFlags::FIXED };
        self.unmapped_area(&request)?;
        if self.may_lock(self.mm.def_flags, range.len()) { Ok(()) } else { Err(MmError::TryAgain) }
    }

    /// Maps a range of the heap, where nothing is (Linux: `do_brk_flags`).
    fn grow_heap(&mut self, range: VirtRange) -> Result<(), MmError> {
        let mut flags = VmFlags::READ | VmFlags::WRITE | VmFlags::MAYACCESS | VmFlags::ACCOUNT | self.mm.def_flags;
        flags |= self.backing.soft_dirty();
        flags.set(VmFlags::EXEC, self.process.rights.contains(Rights::READ_IMPLIES_EXEC));
        let nr_pages = range.len() >> PAGE_SHIFT;
        if !self.may_expand(flags, nr_pages) || self.mm.nr_areas() > self.spaces.max_map_count() {
            return Err(MmError::NoMemory);
        }
        self.charge(nr_pages)?;
        let pgoff = Self::page_of(range.start);
        let vma = Vma { range, flags, pgoff, file: None, anon: None, uffd: 0, name: None };
        // Below the start of the heap lies the program's own data, which stays apart.
        if self.merge_new_before(&vma, self.mm.program.start_brk).is_none() {
            self.enter(&vma).inspect_err(|_| self.spaces.overcommit.uncharge(nr_pages))?;
        }
        self.mm.counters.total += nr_pages;
        self.mm.counters.data += nr_pages;
        if flags.contains(VmFlags::LOCKED) {
            self.mm.counters.locked += nr_pages;
        }
        Ok(())
    }
}
