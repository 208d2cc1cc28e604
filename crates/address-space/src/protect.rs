//! mprotect.
//!
//! Linux 6.12: mm/mprotect.c (`do_mprotect_pkey`, `mprotect_fixup`).

use page_allocator::Hooks;
use platform::Platform;
use units::{VirtAddr, VirtRange, VmFlags};

use crate::backing::{Access, PageTables, Pager};
use crate::call::Call;
use crate::error::MmError;
use crate::flags::Prot;
use crate::limits::Rights;
use crate::vma::{Among, PAGE_SIZE, Vma};

impl<'k, P: Platform, H: Hooks, B: PageTables + Pager> Call<'_, 'k, P, H, B> {
    /// Changes the permissions of the pages of `len` bytes from `start` (Linux: `mprotect`).
    ///
    /// # Errors
    /// What mprotect(2) says. Areas before the one that fails have the new permissions then.
    pub fn mprotect(&mut self, start: VirtAddr, len: u64, prot: Prot) -> Result<(), MmError> {
        let grows = prot & (Prot::GROWSDOWN | Prot::GROWSUP);
        let prot = prot - grows;
        if grows == Prot::GROWSDOWN | Prot::GROWSUP || !start.raw().is_multiple_of(PAGE_SIZE) {
            return Err(MmError::Invalid);
        }
        if len == 0 {
            return Ok(());
        }
        let end = len.checked_next_multiple_of(PAGE_SIZE).and_then(|len| start.checked_add(len));
        let end = end.filter(|&end| end > start).ok_or(MmError::NoMemory)?;
        if !(Prot::READ | Prot::WRITE | Prot::EXEC | Prot::SEM).contains(prot) {
            return Err(MmError::Invalid);
        }
        let mut found = self.mm.among(VirtRange::new(start, end)).ok_or(MmError::NoMemory)?;
        let range = protected_range(&found.area.vma, VirtRange::new(start, end), grows)?;
        let mut at = range.start;
        if at < start {
            found = self.mm.among(range).ok_or(MmError::NoMemory)?;
        }
        loop {
            let part = VirtRange::new(at, found.area.vma.end().min(range.end));
            at = self.protect_part(&found, part, prot)?;
            if at >= range.end {
                return Ok(());
            }
            let next = self.mm.among(VirtRange::new(at, range.end));
            found = next.filter(|next| next.area.vma.start() <= at).ok_or(MmError::NoMemory)?;
        }
    }

    /// Returns where the area ends that holds the part then: it may have become one with what is behind it.
    fn protect_part(&mut self, found: &Among<'_, 'k>, part: VirtRange, mut prot: Prot) -> Result<VirtAddr, MmError> {
        let vma = &found.area.vma;
        let implies_exec = self.process.rights.contains(Rights::READ_IMPLIES_EXEC) && prot.contains(Prot::READ);
        prot.set(Prot::EXEC, prot.contains(Prot::EXEC) || implies_exec && vma.flags.contains(VmFlags::MAYEXEC));
        let flags = self.vm_flags(prot) | (vma.flags - VmFlags::ACCESS - VmFlags::PKEY_BIT0);
        let may = VmFlags::from_bits_truncate((flags & VmFlags::MAYACCESS).bits() >> 4);
        if !may.contains(flags & VmFlags::ACCESS) || self.mm.mm().flags().denies(vma.flags, flags) {
            return Err(MmError::AccessDenied);
        }
        self.protect_fixup(found, part, flags)
    }

    /// Gives a part of an area other permissions; returns where the area ends that holds it then (Linux: `mprotect_fixup`).
    fn protect_fixup(
        &mut self,
        found: &Among<'_, 'k>,
        part: VirtRange,
        mut flags: VmFlags,
    ) -> Result<VirtAddr, MmError> {
        let vma = &found.area.vma;
        if !vma.can_modify() {
            return Err(MmError::NotPermitted);
        }
        let old = vma.flags;
        if flags == old {
            return Ok(vma.end());
        }
        let nr_pages = vma.part(part).nr_pages();
        let mut charged = 0;
        if flags.contains(VmFlags::WRITE) {
            // Only what did not count as data before can be refused for it.
            if !self.may_expand(flags, nr_pages) && self.may_expand(old, nr_pages) {
                return Err(MmError::NoMemory);
            }
            let counted = VmFlags::ACCOUNT | VmFlags::WRITE | VmFlags::HUGETLB | VmFlags::SHARED | VmFlags::NORESERVE;
            if !old.intersects(counted) {
                charged = nr_pages;
                self.charge(charged)?;
                flags |= VmFlags::ACCOUNT;
            }
        } else if old.contains(VmFlags::ACCOUNT) && vma.is_anonymous() && vma.anon.is_none() {
            // Nothing was written yet, so the promise can be taken back.
            flags -= VmFlags::ACCOUNT;
        }
        let changed = Vma { flags, ..*vma };
        let whole =
            self.modify_area(found, part, &changed).inspect_err(|_| self.spaces.overcommit.uncharge(charged))?;
        self.backing.protect(&whole, part);
        if old.contains(VmFlags::ACCOUNT) && !flags.contains(VmFlags::ACCOUNT) {
            self.spaces.overcommit.uncharge(nr_pages);
        }
        self.mm.counters.remove(old, nr_pages);
        self.mm.counters.add(flags, nr_pages);
        let was_locked = old & (VmFlags::WRITE | VmFlags::SHARED | VmFlags::LOCKED) == VmFlags::LOCKED;
        if was_locked && flags.contains(VmFlags::WRITE) && !flags.contains(VmFlags::LOCKONFAULT) {
            // Locked pages are made the area's own at once, so that no write waits for a copy.
            let _ = self.populate_part(&whole, part, Access::Write);
        }
        Ok(whole.end())
    }
}

/// Extends the range to the start or end of the first area, if asked for.
fn protected_range(first: &Vma, range: VirtRange, grows: Prot) -> Result<VirtRange, MmError> {
    if grows.contains(Prot::GROWSDOWN) {
        let grown = VirtRange::new(first.start(), range.end);
        return if first.flags.contains(VmFlags::GROWSDOWN) { Ok(grown) } else { Err(MmError::Invalid) };
    }
    if first.start() > range.start {
        return Err(MmError::NoMemory);
    }
    // No area of x86-64 grows upwards.
    if grows.contains(Prot::GROWSUP) { Err(MmError::Invalid) } else { Ok(range) }
}
