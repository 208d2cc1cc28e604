//! madvise: advice that changes areas, and advice on their pages, which goes to the layer below.
//!
//! Linux 6.12: mm/madvise.c (`do_madvise`, `madvise_walk_vmas`, `madvise_vma_behavior`), mm/ksm.c (`ksm_madvise`), mm/mseal.c.

use page_allocator::Hooks;
use platform::Platform;
use units::{VirtAddr, VirtRange, VmFlags};

use crate::backing::{Access, PageAdvice, PageTables, Pager};
use crate::call::Call;
use crate::error::{Absent, MmError};
use crate::limits::{Release, Rights, SwapSupport};
use crate::vma::{PAGE_SHIFT, PAGE_SIZE, Vma};

/// Bytes that a page table maps, with one entry of eight bytes a page.
const TABLE_BYTES: u64 = PAGE_SIZE / 8 * PAGE_SIZE;

/// Advice, with Linux's numbers (MADV_).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names are Linux's; madvise(2) says what each means")]
pub enum Advice {
    Normal = 0,
    Random = 1,
    Sequential = 2,
    WillNeed = 3,
    DontNeed = 4,
    Free = 8,
    Remove = 9,
    DontFork = 10,
    DoFork = 11,
    Mergeable = 12,
    Unmergeable = 13,
    HugePage = 14,
    NoHugePage = 15,
    DontDump = 16,
    DoDump = 17,
    WipeOnFork = 18,
    KeepOnFork = 19,
    Cold = 20,
    PageOut = 21,
    PopulateRead = 22,
    PopulateWrite = 23,
    DontNeedLocked = 24,
    Collapse = 25,
    GuardInstall = 102,
    GuardRemove = 103,
}

impl Advice {
    /// All advice that 6.12 knows when it is built without CONFIG_MEMORY_FAILURE: nothing here poisons pages.
    pub const ALL: [Self; 23] = [
        Self::Normal,
        Self::Random,
        Self::Sequential,
        Self::WillNeed,
        Self::DontNeed,
        Self::Free,
        Self::Remove,
        Self::DontFork,
        Self::DoFork,
        Self::Mergeable,
        Self::Unmergeable,
        Self::HugePage,
        Self::NoHugePage,
        Self::DontDump,
        Self::DoDump,
        Self::WipeOnFork,
        Self::KeepOnFork,
        Self::Cold,
        Self::PageOut,
        Self::PopulateRead,
        Self::PopulateWrite,
        Self::DontNeedLocked,
        Self::Collapse,
    ];

    /// Returns the advice with Linux's number.
    ///
    /// # Errors
    /// [`MmError::Invalid`], which madvise fails with.
    pub fn try_new(number: u32) -> Result<Self, MmError> {
        let known = Self::ALL.into_iter().chain([Self::GuardInstall, Self::GuardRemove]);
        known.into_iter().find(|advice| *advice as u32 == number).ok_or(MmError::Invalid)
    }

    /// Returns true if the advice may be given to another process: it costs time at most (Linux: `process_madvise_behavior_valid`).
    pub const fn is_hint(self) -> bool {
        matches!(self, Self::Cold | Self::PageOut | Self::WillNeed | Self::Collapse)
    }

    /// Returns true if contents are lost, at once or in a child.
    const fn discards(self) -> bool {
        matches!(
            self,
            Self::Free | Self::DontNeed | Self::DontNeedLocked | Self::Remove | Self::DontFork | Self::WipeOnFork
        )
    }
}

/// Whose memory process_madvise is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// The caller's.
    Own,
    /// Another process's.
    Other,
}

impl<P: Platform, H: Hooks, B: PageTables + Pager> Call<'_, '_, P, H, B> {
    /// Takes advice on the pages of `len` bytes from `start` (Linux: `madvise`).
    ///
    /// # Errors
    /// What madvise(2) says. Parts that are not mapped are skipped, and [`MmError::NoMemory`] tells of them at the end.
    pub fn madvise(&mut self, start: VirtAddr, len: u64, advice: Advice) -> Result<(), MmError> {
        if matches!(advice, Advice::GuardInstall | Advice::GuardRemove) {
            // 6.13 brought them; 6.12 does not know the numbers.
            let is_known = self.release() >= Release::V6_18;
            return Err(if is_known { MmError::Absent(Absent::GuardRegions) } else { MmError::Invalid });
        }
        let Some(range) = advised_range(start, len)? else { return Ok(()) };
        match advice {
            Advice::PopulateRead => self.advise_populate(range, Access::Read),
            Advice::PopulateWrite => self.advise_populate(range, Access::Write),
            _ => self.advise_areas(range, advice),
        }
    }

    /// Takes advice on ranges of an address space, one after the other; returns how many bytes of them it was taken on (Linux: `process_madvise`,
    /// behind the look at the caller's rights to the process). `whose` says whether the caller advises on itself.
    ///
    /// # Errors
    /// [`MmError::Invalid`] for advice that is not for others, [`MmError::NotPermitted`] for another's memory without `SYS_NICE`; what the first
    /// range fails with. Where a later one fails, the bytes before it are returned.
    pub fn process_madvise(
        &mut self,
        ranges: impl IntoIterator<Item = (VirtAddr, u64)>,
        advice: Advice,
        whose: Whose,
    ) -> Result<u64, MmError> {
        // Since 6.13 a process may give itself any advice this way.
        let is_any_allowed = whose == Whose::Own && self.release() >= Release::V6_18;
        if !is_any_allowed && !advice.is_hint() {
            return Err(MmError::Invalid);
        }
        if whose == Whose::Other && !self.process.rights.contains(Rights::SYS_NICE) {
            return Err(MmError::NotPermitted);
        }
        let mut advised = 0;
        for (start, len) in ranges {
            match self.madvise(start, len, advice) {
                Ok(()) => advised += len,
                Err(error) if advised == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(advised)
    }

    fn advise_areas(&mut self, range: VirtRange, advice: Advice) -> Result<(), MmError> {
        self.walk_areas(range, |call, vma, part| call.advise_area(vma, part, advice))
    }

    /// Calls `visit` with each area in `range` and the part of it there; goes on behind gaps, and tells of them at the end
    /// (Linux: `madvise_walk_vmas`).
    pub(crate) fn walk_areas(
        &mut self,
        range: VirtRange,
        mut visit: impl FnMut(&mut Self, &Vma, VirtRange) -> Result<(), MmError>,
    ) -> Result<(), MmError> {
        let mut at = range.start;
        let mut result = Ok(());
        while at < range.end {
            let vma = self.mm.find(at).ok_or(MmError::NoMemory)?;
            if vma.start() > at {
                result = Err(MmError::NoMemory);
                at = vma.start();
                if at >= range.end {
                    break;
                }
            }
            let part = VirtRange::new(at, vma.end().min(range.end));
            visit(self, &vma, part)?;
            at = self.mm.lookup(at).map_or(part.end, |whole| whole.end());
        }
        result
    }

    /// Linux: `madvise_vma_behavior`.
    fn advise_area(&mut self, vma: &Vma, part: VirtRange, advice: Advice) -> Result<(), MmError> {
        if advice.discards() && keeps_contents(vma) {
            return Err(MmError::NotPermitted);
        }
        match self.page_advice(vma, part, advice)? {
            PageOutcome::Done => Ok(()),
            PageOutcome::Flags(flags) if flags == vma.flags => Ok(()),
            PageOutcome::Flags(flags) => {
                // Out of memory is worth another try here (EAGAIN).
                let changed = self.modify(vma, part, &Vma { flags, ..*vma });
                changed.map(drop).map_err(|_| MmError::TryAgain)
            }
        }
    }

    /// Gives advice on pages to the layer below, or returns the flags that other advice leads to.
    fn page_advice(&mut self, vma: &Vma, part: VirtRange, advice: Advice) -> Result<PageOutcome, MmError> {
        let forbidden = VmFlags::PFNMAP | VmFlags::HUGETLB;
        let is_locked = vma.flags.contains(VmFlags::LOCKED);
        let refused = match advice {
            Advice::Cold | Advice::PageOut | Advice::DontNeed | Advice::Free => {
                is_locked || vma.flags.intersects(forbidden) || advice == Advice::Free && !vma.is_anonymous()
            }
            Advice::DontNeedLocked => vma.flags.intersects(VmFlags::PFNMAP),
            _ => false,
        };
        if refused {
            return Err(MmError::Invalid);
        }
        let page_advice = match advice {
            Advice::WillNeed => return self.will_need(vma, part).map(|()| PageOutcome::Done),
            Advice::Remove => return self.remove(vma, part).map(|()| PageOutcome::Done),
            Advice::Cold => PageAdvice::Cold,
            Advice::PageOut => PageAdvice::PageOut,
            // Since 6.14 tables go with what they mapped, if all their addresses are meant.
            Advice::DontNeed | Advice::DontNeedLocked
                if self.release() >= Release::V6_18 && part.len() >= TABLE_BYTES =>
            {
                self.write_lock(vma.start());
                PageAdvice::DontNeedTables
            }
            Advice::DontNeed | Advice::DontNeedLocked => PageAdvice::DontNeed,
            Advice::Free => PageAdvice::Free,
            Advice::Collapse => {
                // Faults would write to pages that are being copied.
                self.write_lock(vma.start());
                PageAdvice::Collapse(self.release())
            }
            _ => return advised_flags(vma, advice).map(PageOutcome::Flags),
        };
        self.backing.advise(vma, part, page_advice)?;
        Ok(PageOutcome::Done)
    }

    fn will_need(&mut self, vma: &Vma, part: VirtRange) -> Result<(), MmError> {
        if vma.is_anonymous() && self.spaces.settings.swap == SwapSupport::Absent {
            return Err(MmError::BadFile);
        }
        self.backing.advise(vma, part, PageAdvice::WillNeed)
    }

    /// Frees pages of the file (Linux: `madvise_remove`).
    fn remove(&mut self, vma: &Vma, part: VirtRange) -> Result<(), MmError> {
        if vma.flags.contains(VmFlags::LOCKED) {
            return Err(MmError::Invalid);
        }
        let file = vma.file.ok_or(MmError::Invalid)?;
        if !vma.flags.is_shared_maywrite() {
            return Err(MmError::AccessDenied);
        }
        self.backing.punch_hole(file, vma.pgoff_at(part.start) << PAGE_SHIFT, part.len())
    }

    /// Linux: `madvise_populate`.
    fn advise_populate(&mut self, range: VirtRange, access: Access) -> Result<(), MmError> {
        let mut at = range.start;
        while at < range.end {
            let vma = self.mm.lookup(at).ok_or(MmError::NoMemory)?;
            let part = VirtRange::new(at, vma.end().min(range.end));
            let wanted = if access == Access::Write { VmFlags::WRITE } else { VmFlags::READ };
            if vma.flags.intersects(VmFlags::IO | VmFlags::PFNMAP) || !vma.flags.contains(wanted) {
                return Err(MmError::Invalid);
            }
            self.populate_part(&vma, part, access)?;
            at = part.end;
        }
        Ok(())
    }
}

/// Returns true if a seal keeps contents: whoever cannot write an anonymous area may not empty it either (Linux: `can_modify_vma_madv`).
fn keeps_contents(vma: &Vma) -> bool {
    !vma.can_modify() && vma.is_anonymous() && !vma.flags.contains(VmFlags::WRITE)
}

/// What became of advice on one area.
enum PageOutcome {
    /// The pages have it.
    Done,
    /// The area is to have these flags.
    Flags(VmFlags),
}

/// Checks the range in Linux's order; `None` if it is empty.
pub(crate) fn advised_range(start: VirtAddr, len: u64) -> Result<Option<VirtRange>, MmError> {
    if !start.raw().is_multiple_of(PAGE_SIZE) {
        return Err(MmError::Invalid);
    }
    let len = len.checked_next_multiple_of(PAGE_SIZE).ok_or(MmError::Invalid)?;
    let end = start.checked_add(len).ok_or(MmError::Invalid)?;
    Ok((len != 0).then(|| VirtRange::new(start, end)))
}

/// Returns the flags of an area after advice that changes them.
fn advised_flags(vma: &Vma, advice: Advice) -> Result<VmFlags, MmError> {
    let flags = vma.flags;
    let reads = VmFlags::RAND_READ | VmFlags::SEQ_READ;
    let is_droppable = flags.contains(VmFlags::DROPPABLE);
    let refused = match advice {
        Advice::DoFork => flags.contains(VmFlags::IO),
        Advice::WipeOnFork => vma.file.is_some() || flags.contains(VmFlags::SHARED),
        Advice::KeepOnFork => is_droppable,
        Advice::DoDump => is_droppable || flags.intersects(VmFlags::SPECIAL),
        _ => false,
    };
    if refused {
        return Err(MmError::Invalid);
    }
    Ok(match advice {
        Advice::Normal => flags - reads,
        Advice::Random => (flags - reads) | VmFlags::RAND_READ,
        Advice::Sequential => (flags - reads) | VmFlags::SEQ_READ,
        Advice::DontFork => flags | VmFlags::DONTCOPY,
        Advice::DoFork => flags - VmFlags::DONTCOPY,
        Advice::WipeOnFork => flags | VmFlags::WIPEONFORK,
        Advice::KeepOnFork => flags - VmFlags::WIPEONFORK,
        Advice::DontDump => flags | VmFlags::DONTDUMP,
        Advice::DoDump => flags - VmFlags::DONTDUMP,
        Advice::HugePage => (flags - VmFlags::NOHUGEPAGE) | VmFlags::HUGEPAGE,
        Advice::NoHugePage => (flags - VmFlags::HUGEPAGE) | VmFlags::NOHUGEPAGE,
        Advice::Mergeable if is_ksm_compatible(flags) => flags | VmFlags::MERGEABLE,
        Advice::Unmergeable => flags - VmFlags::MERGEABLE,
        _ => flags,
    })
}

/// Returns true if KSM looks at such areas; advice for others is ignored (Linux: `vma_ksm_compatible`).
fn is_ksm_compatible(flags: VmFlags) -> bool {
    let unfit = VmFlags::SHARED | VmFlags::MAYSHARE | VmFlags::SPECIAL | VmFlags::HUGETLB | VmFlags::DROPPABLE;
    !flags.intersects(unfit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_found_by_linux_s_number_and_by_no_other() {
        for advice in Advice::ALL {
            assert_eq!(Advice::try_new(advice as u32), Ok(advice));
        }
        let unknown = (0..200).filter(|&number| Advice::try_new(number).is_err()).count();
        // Guard regions are known, but not among what 6.12 has.
        assert_eq!(unknown, 200 - Advice::ALL.len() - 2);
    }

    #[test]
    fn a_length_that_wraps_is_refused_and_an_empty_one_is_not() {
        let start = VirtAddr::new(PAGE_SIZE);
        assert_eq!(advised_range(start, 0), Ok(None));
        assert_eq!(advised_range(start, u64::MAX), Err(MmError::Invalid));
        assert_eq!(advised_range(VirtAddr::new(1), 0), Err(MmError::Invalid));
        assert_eq!(advised_range(start, 1), Ok(Some(VirtRange::with_len(start, PAGE_SIZE))));
    }
}
