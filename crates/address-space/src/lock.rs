//! mlock, mlock2, munlock, mlockall, munlockall.
//!
//! Linux 6.12: mm/mlock.c (`do_mlock`, `apply_vma_lock_flags`, `mlock_fixup`, `apply_mlockall_flags`).

use page_allocator::Hooks;
use platform::Platform;
use units::{VirtAddr, VirtRange, VmFlags};

use crate::backing::{PageTables, Pager};
use crate::call::Call;
use crate::error::MmError;
use crate::flags::LockAllFlags;
use crate::limits::Rights;
use crate::vma::{PAGE_SHIFT, PAGE_SIZE, Vma};

/// When pages are locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockWhen {
    /// At once: all pages are brought in (mlock).
    Now,
    /// As they are used (MLOCK_ONFAULT).
    OnFault,
}

impl LockWhen {
    const fn flags(self) -> VmFlags {
        match self {
            Self::Now => VmFlags::LOCKED,
            Self::OnFault => VmFlags::LOCKED_MASK,
        }
    }
}

/// Returns the whole pages that `len` bytes from `start` touch, cut as Linux's arithmetic cuts them.
const fn touched_pages(start: VirtAddr, len: u64) -> (VirtAddr, u64) {
    let len = len.wrapping_add(start.raw() % PAGE_SIZE).wrapping_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1);
    (start.align_down(PAGE_SIZE), len)
}

impl<P: Platform, H: Hooks, B: PageTables + Pager> Call<'_, '_, P, H, B> {
    /// Locks the pages that `len` bytes from `start` touch (Linux: `mlock`, `mlock2`).
    ///
    /// # Errors
    /// [`MmError::NotPermitted`] if nothing may be locked, [`MmError::NoMemory`] above the limit or if part of the range is not mapped or cannot be
    /// populated, [`MmError::TryAgain`] (EAGAIN) if memory ran out. Areas before the one that fails are locked then.
    pub fn mlock(&mut self, start: VirtAddr, len: u64, when: LockWhen) -> Result<(), MmError> {
        if !self.may_lock_at_all() {
            return Err(MmError::NotPermitted);
        }
        let (start, len) = touched_pages(start, len);
        let limit = self.process.limits.locked >> PAGE_SHIFT;
        let unlimited = self.process.rights.contains(Rights::IPC_LOCK);
        let mut locked = (len >> PAGE_SHIFT) + self.mm.counters.locked;
        if locked > limit && !unlimited {
            locked -= self.locked_in(VirtRange::with_len(start, len));
        }
        if locked > limit && !unlimited {
            return Err(MmError::NoMemory);
        }
        self.apply_lock_flags(start, len, when.flags())?;
        self.populate_strictly(VirtRange::with_len(start, len)).map_err(|error| match error {
            MmError::NoMemory => MmError::TryAgain,
            _ => MmError::NoMemory,
        })
    }

    /// Unlocks the pages that `len` bytes from `start` touch (Linux: `munlock`).
    ///
    /// # Errors
    /// [`MmError::NoMemory`] if part of the range is not mapped, [`MmError::Invalid`] if it wraps.
    pub fn munlock(&mut self, start: VirtAddr, len: u64) -> Result<(), MmError> {
        let (start, len) = touched_pages(start, len);
        self.apply_lock_flags(start, len, VmFlags::empty())
    }

    /// Locks everything that is mapped, will be mapped, or both (Linux: `mlockall`).
    ///
    /// # Errors
    /// [`MmError::Invalid`], [`MmError::NotPermitted`], [`MmError::NoMemory`] above the limit.
    pub fn mlockall(&mut self, flags: LockAllFlags) -> Result<(), MmError> {
        let known = LockAllFlags::CURRENT | LockAllFlags::FUTURE | LockAllFlags::ONFAULT;
        if flags.is_empty() || !known.contains(flags) || flags == LockAllFlags::ONFAULT {
            return Err(MmError::Invalid);
        }
        if !self.may_lock_at_all() {
            return Err(MmError::NotPermitted);
        }
        let limit = self.process.limits.locked >> PAGE_SHIFT;
        let fits = self.mm.counters.total <= limit || self.process.rights.contains(Rights::IPC_LOCK);
        let is_current = flags.contains(LockAllFlags::CURRENT);
        if is_current && !fits {
            return Err(MmError::NoMemory);
        }
        self.apply_lock_all(flags);
        if is_current {
            // Linux does not tell what could not be brought in.
            let _ = self.populate(VirtRange::new(VirtAddr::ZERO, self.spaces.settings.task_size));
        }
        Ok(())
    }

    /// Unlocks everything (Linux: `munlockall`).
    pub fn munlockall(&mut self) {
        self.apply_lock_all(LockAllFlags::empty());
    }

    fn apply_lock_all(&mut self, flags: LockAllFlags) {
        let mut wanted = VmFlags::LOCKED;
        wanted.set(VmFlags::LOCKONFAULT, flags.contains(LockAllFlags::ONFAULT));
        self.mm.def_flags -= VmFlags::LOCKED_MASK;
        let is_current = flags.contains(LockAllFlags::CURRENT);
        if flags.contains(LockAllFlags::FUTURE) {
            self.mm.def_flags |= wanted;
            if !is_current {
                return;
            }
        }
        let wanted = if is_current { wanted } else { VmFlags::empty() };
        let mut at = VirtAddr::ZERO;
        while let Some(vma) = self.mm.find(at) {
            // An area that cannot change stays as it is; Linux goes on as well.
            let _ = self.lock_fixup(&vma, vma.range, wanted);
            at = self.mm.lookup(vma.start()).map_or(vma.end(), |whole| whole.end());
        }
    }

    fn locked_in(&self, range: VirtRange) -> u64 {
        let areas = self.mm.tree.range(range).map(|entry| entry.value.load());
        let locked = areas.filter(|vma| vma.flags.contains(VmFlags::LOCKED));
        locked.map(|vma| vma.range.intersection(range).len() >> PAGE_SHIFT).sum()
    }

    /// Linux: `apply_vma_lock_flags`.
    fn apply_lock_flags(&mut self, start: VirtAddr, len: u64, wanted: VmFlags) -> Result<(), MmError> {
        let end = start.checked_add(len).ok_or(MmError::Invalid)?;
        let mut at = start;
        while at < end {
            let vma = self.mm.lookup(at).ok_or(MmError::NoMemory)?;
            let part = VirtRange::new(at, vma.end().min(end));
            self.lock_fixup(&vma, part, wanted)?;
            at = self.mm.lookup(at).map_or(part.end, |vma| vma.end());
        }
        Ok(())
    }

    /// Linux: `mlock_fixup`.
    fn lock_fixup(&mut self, vma: &Vma, part: VirtRange, wanted: VmFlags) -> Result<(), MmError> {
        let old = vma.flags;
        let flags = (old - VmFlags::LOCKED_MASK) | wanted;
        if flags == old || !vma.supports_mlock() {
            return Ok(());
        }
        self.modify(vma, part, &Vma { flags, ..*vma })?;
        let nr_pages = part.len() >> PAGE_SHIFT;
        let locked = &mut self.mm.counters.locked;
        match (old.contains(VmFlags::LOCKED), flags.contains(VmFlags::LOCKED)) {
            (false, true) => *locked += nr_pages,
            (true, false) => *locked = locked.saturating_sub(nr_pages),
            (false, false) | (true, true) => {}
        }
        Ok(())
    }
}
