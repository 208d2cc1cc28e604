//! What an access to memory needs of the areas, before any page table is looked at: the area, a stack that grows, an anon_vma.
//!
//! Called by populating calls here and by page faults above. Linux 6.12: mm/memory.c (`lock_mm_and_find_vma`), mm/mmap.c
//! (`expand_downwards`, `acct_stack_growth`), mm/gup.c (`__mm_populate`).

use page_allocator::Hooks;
use platform::Platform;
use units::{VirtAddr, VirtRange, VmFlags};

use crate::backing::{Access, PageTables, Pager};
use crate::call::Call;
use crate::error::MmError;
use crate::vma::{PAGE_SHIFT, PAGE_SIZE, Vma};

impl<P: Platform, H: Hooks, B: PageTables + Pager> Call<'_, '_, P, H, B> {
    /// Returns the area that an access at `addr` is for: a stack just above grows down to it, and a private area that is written gets its
    /// anon_vma.
    ///
    /// # Errors
    /// [`MmError::BadAddress`] if no area is there (SEGV_MAPERR), or the stack cannot grow; [`MmError::AccessDenied`] if the area forbids the
    /// access (SEGV_ACCERR); [`MmError::NoMemory`].
    pub fn area_for_access(&mut self, addr: VirtAddr, access: Access) -> Result<Vma, MmError> {
        let mut vma = self.mm.find(addr).ok_or(MmError::BadAddress)?;
        if vma.start() > addr {
            self.expand_stack(&vma, addr).map_err(|_| MmError::BadAddress)?;
            vma = self.mm.lookup(addr).ok_or(MmError::BadAddress)?;
        }
        let permitted = match access {
            Access::Write => vma.flags.contains(VmFlags::WRITE),
            // Without keys x86 can forbid writing and executing only, so any right is a right to read; but no right is none.
            Access::Read => vma.is_accessible() && !vma.flags.contains(VmFlags::PKEY_BIT0),
        };
        if !permitted {
            return Err(MmError::AccessDenied);
        }
        self.prepare_anon(&vma, VirtRange::with_len(addr.align_down(PAGE_SIZE), PAGE_SIZE), access)
    }

    /// Gives the area an anon_vma if the access to `range` makes a page of its own, or a huge one (Linux: `vmf_anon_prepare`).
    fn prepare_anon(&mut self, vma: &Vma, range: VirtRange, access: Access) -> Result<Vma, MmError> {
        let is_private = !vma.flags.intersects(VmFlags::SHARED | VmFlags::SPECIAL);
        if is_private && (access == Access::Write || self.has_huge_fault(vma, range)) {
            self.anon_vma_prepare(vma)
        } else {
            Ok(*vma)
        }
    }

    /// Returns true if a fault in `range` looks for a huge page, even if it is the zero page that it finds.
    fn has_huge_fault(&self, vma: &Vma, range: VirtRange) -> bool {
        let huge = self.spaces.settings.huge_page;
        if huge == 0 || !self.spaces.huge_rules(self.mm.mm()).policy.admits(vma) {
            return false;
        }
        let whole = VirtRange::new(vma.start().align_up(huge), vma.end().align_down(huge));
        !whole.is_empty() && whole.overlaps(range)
    }

    /// Gives the area an anon_vma if it has none (Linux: `anon_vma_prepare`).
    ///
    /// # Errors
    /// [`MmError::NoMemory`].
    pub fn anon_vma_prepare(&mut self, vma: &Vma) -> Result<Vma, MmError> {
        self.mm.prepare_anon(self.spaces, self.cpu, vma)
    }

    /// Grows a stack down to `addr`, which is below it (Linux: `expand_downwards`).
    ///
    /// # Errors
    /// [`MmError::BadAddress`] if the area is no stack, [`MmError::NotPermitted`] below vm.mmap_min_addr, [`MmError::NoMemory`] if the guard gap or a
    /// limit is in the way.
    pub fn expand_stack(&mut self, stack: &Vma, addr: VirtAddr) -> Result<(), MmError> {
        if !stack.flags.contains(VmFlags::GROWSDOWN) {
            return Err(MmError::BadAddress);
        }
        let settings = &self.spaces.settings;
        let addr = addr.align_down(PAGE_SIZE);
        if addr < self.spaces.min_addr() {
            return Err(MmError::NotPermitted);
        }
        if let Some(before) = self.mm.find_before(stack.start()) {
            let is_wall = !before.flags.contains(VmFlags::GROWSDOWN) && before.is_accessible();
            if is_wall && addr.raw().wrapping_sub(before.end().raw()) < settings.guard_gap {
                return Err(MmError::NoMemory);
            }
        }
        let stack = self.anon_vma_prepare(stack)?;
        if addr >= stack.start() {
            return Ok(());
        }
        let grow = stack.start().since(addr) >> PAGE_SHIFT;
        if grow > stack.pgoff {
            return Err(MmError::NoMemory);
        }
        let area = self.mm.area(stack.start()).ok_or(MmError::NoMemory)?;
        self.account_stack_growth(&stack, stack.end().since(addr), grow)?;
        let range = VirtRange::new(addr, stack.end());
        self.rewrite(&area, &Vma { range, pgoff: stack.pgoff - grow, ..stack }, |_| ());
        self.mm.counters.add(stack.flags, grow);
        if stack.flags.contains(VmFlags::LOCKED) {
            self.mm.counters.locked += grow;
        }
        Ok(())
    }

    /// Linux: `acct_stack_growth`.
    fn account_stack_growth(&self, stack: &Vma, size: u64, grow: u64) -> Result<(), MmError> {
        let fits = self.may_expand(stack.flags, grow)
            && size <= self.process.limits.stack
            && self.may_lock(stack.flags, grow << PAGE_SHIFT);
        if fits { self.charge(grow) } else { Err(MmError::NoMemory) }
    }

    /// Makes all pages of `range` present that can be; areas of devices are left out, as are those without any permission (Linux: `mm_populate`).
    ///
    /// # Errors
    /// The first error; the rest of the range was tried all the same.
    pub(crate) fn populate(&mut self, range: VirtRange) -> Result<(), MmError> {
        let mut result = Ok(());
        let mut at = range.start;
        while let Some(vma) = self.mm.find_intersection(VirtRange::new(at, range.end)) {
            let part = vma.range.intersection(range);
            at = part.end;
            result = result.and(self.populate_area(&vma, part));
        }
        result
    }

    /// Makes all pages of `range` present, up to the first that cannot be (Linux: `__mm_populate` that does not ignore errors).
    ///
    /// # Errors
    /// [`MmError::BadAddress`], [`MmError::NoMemory`].
    pub(crate) fn populate_strictly(&mut self, range: VirtRange) -> Result<(), MmError> {
        let mut at = range.start;
        while let Some(vma) = self.mm.find_intersection(VirtRange::new(at, range.end)) {
            let part = vma.range.intersection(range);
            at = part.end;
            self.populate_area(&vma, part)?;
        }
        Ok(())
    }

    fn populate_area(&mut self, vma: &Vma, part: VirtRange) -> Result<(), MmError> {
        if vma.flags.intersects(VmFlags::IO | VmFlags::PFNMAP | VmFlags::LOCKONFAULT) {
            return Ok(());
        }
        let is_keyed = vma.flags.contains(VmFlags::PKEY_BIT0);
        if !vma.is_accessible() || is_keyed || !vma.flags.intersects(VmFlags::READ | VmFlags::MAYREAD) {
            return Err(MmError::BadAddress);
        }
        let owns = vma.flags & (VmFlags::WRITE | VmFlags::SHARED) == VmFlags::WRITE;
        self.populate_part(vma, part, if owns { Access::Write } else { Access::Read })
    }

    /// Makes the pages of a part of an area present (Linux: `populate_vma_page_range`).
    pub(crate) fn populate_part(&mut self, vma: &Vma, part: VirtRange, access: Access) -> Result<(), MmError> {
        let vma = self.prepare_anon(vma, part, access)?;
        self.backing.populate(&vma, part, access)
    }
}
