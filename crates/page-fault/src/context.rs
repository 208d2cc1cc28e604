//! One access to one area, until it can go on.
//!
//! Linux 6.12: mm/memory.c (`__handle_mm_fault`, `handle_pte_fault`), include/linux/mm.h (`struct vm_fault`).

use address_space::{HugePolicy, MmError, Vma};
use object_allocator::mmu::{EntryRef, Found, PageKind, Pte};
use object_allocator::vmstat::VmEvent;
use page_allocator::Hooks;
use page_tables::Tables;
use platform::{Level, Platform};
use units::{VirtAddr, VirtRange, VmFlags};

use crate::decide::{AccessKind, Behind, EntryState, FaultAction, MappedWhat, Situation, decide, is_permitted};
use crate::file_pages::FilePages;

/// Where a fault is handled: an address space's tables, and the files behind its areas.
#[derive(Debug)]
pub struct FaultContext<'a, 'f, P: Platform, H: Hooks, F: FilePages> {
    /// The tables.
    pub pages: Tables<'a, P, H>,
    /// The files.
    pub files: &'f F,
    /// Which areas get large pages.
    pub huge: HugePolicy,
}

/// An access can go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Faulted {
    /// What was done, if anything.
    pub action: FaultAction,
}

/// An access cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultError {
    /// No area lies there (SIGSEGV, SEGV_MAPERR).
    NotMapped,
    /// The area forbids it (SIGSEGV, SEGV_ACCERR).
    Forbidden,
    /// The area's protection key forbids it (SIGSEGV, SEGV_PKUERR).
    ForbiddenByKey,
    /// Behind the end of the file, or no memory may be promised for it (SIGBUS, BUS_ADRERR).
    NoPage,
    /// No memory (the OOM killer's case).
    NoMemory,
    /// The area needs its anon_vma first: take the address space's lock, and try again.
    NeedsAnonVma,
}

impl core::fmt::Display for FaultError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NotMapped => "no area lies there",
            Self::Forbidden => "the area forbids the access",
            Self::ForbiddenByKey => "the key of the area forbids the access",
            Self::NoPage => "the file has no page there",
            Self::NoMemory => "no memory",
            Self::NeedsAnonVma => "the area has no anon_vma yet",
        })
    }
}

impl core::error::Error for FaultError {}

impl From<MmError> for FaultError {
    /// What a file refused.
    fn from(error: MmError) -> Self {
        if error == MmError::NoMemory { Self::NoMemory } else { Self::NoPage }
    }
}

/// An access that is being made possible.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault<'v> {
    pub(crate) vma: &'v Vma,
    /// Start of the page.
    pub(crate) page: VirtAddr,
    pub(crate) access: AccessKind,
}

/// What an attempt came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Attempt {
    /// The access can go on.
    Done,
    /// The entry was not what was expected; look again.
    Again,
}

impl<'a, P: Platform, H: Hooks, F: FilePages> FaultContext<'a, '_, P, H, F> {
    /// Makes an access to `addr`, an address of `vma`, possible, and counts the fault (Linux: handle_mm_fault).
    ///
    /// The caller keeps the area as it is. Not during a walk of the same CPU.
    ///
    /// # Errors
    /// [`FaultError`], never [`FaultError::NotMapped`].
    pub fn handle(&self, vma: &Vma, addr: VirtAddr, access: AccessKind) -> Result<Faulted, FaultError> {
        let objects = self.pages.mmu.objects();
        objects.vmstat().count_events(self.pages.mmu.cpu(), VmEvent::Pgfault, 1);
        self.make_possible(vma, addr, access)
    }

    /// As [`FaultContext::handle`], without counting: for the kernel's own accesses (Linux: faultin_page).
    ///
    /// # Errors
    /// As [`FaultContext::handle`].
    pub fn make_possible(&self, vma: &Vma, addr: VirtAddr, access: AccessKind) -> Result<Faulted, FaultError> {
        let page = addr.align_down(1 << self.pages.mmu.objects().pages().map().geometry.page_shift);
        let fault = Fault { vma, page, access };
        loop {
            let Some(seen) = self.look(&fault) else {
                self.check_before_table(&fault)?;
                if self.map_huge(&fault)? == Attempt::Done {
                    return Ok(Faulted { action: FaultAction::MapFresh });
                }
                continue;
            };
            let action = decide(&seen.situation);
            if seen.is_in_the_way(&fault, action) {
                self.split(&fault)?;
            } else if self.act(&fault, action, seen.pte)? == Attempt::Done {
                return Ok(Faulted { action });
            }
        }
    }

    /// Refuses, before a table is made for it, an access that no table would help: forbidden by the area, or behind the end of its file.
    fn check_before_table(&self, fault: &Fault<'_>) -> Result<(), FaultError> {
        if !is_permitted(fault.access, fault.vma.flags, EntryState::Empty) {
            return Err(FaultError::refusal(fault.vma.flags, fault.access));
        }
        if !fault.vma.is_anonymous() {
            // Linux has the tables above already when it asks the file.
            self.make_tables(fault, Level::PMD)?;
            let copies = fault.access == AccessKind::Write && !fault.vma.flags.contains(VmFlags::SHARED);
            if copies && fault.vma.anon.is_none() {
                // And the area has got its anon_vma.
                return Err(FaultError::NeedsAnonVma);
            }
            let (file, index) = Self::file_page(fault)?;
            if fault.access != AccessKind::Write && self.has_neighbours(fault) {
                // They are mapped first, and get their table, though the page itself may not be had.
                return Ok(());
            }
            self.pages.mmu.put(self.files.page(file, index, address_space::Access::Read)?);
        }
        Ok(())
    }

    /// Reads the entry; `None` if there is no table for it.
    #[inline]
    fn look(&self, fault: &Fault<'_>) -> Option<Seen> {
        let walk = self.pages.mmu.walk(self.pages.tables)?;
        let (entry, pte) = match walk.find(fault.page, Level::PTE)? {
            Found::Entry(entry) => (entry, entry.load()),
            Found::Above(_, pte) if pte.is_none() => return None,
            Found::Above(entry, pte) => (entry, pte),
        };
        let behind = if fault.vma.is_anonymous() { Behind::Anonymous } else { Behind::File };
        let state = entry_state(&entry, pte);
        let situation = Situation { access: fault.access, area: fault.vma.flags, behind, entry: state };
        Some(Seen { situation, pte, mapped: entry.range() })
    }
}

/// An entry as it was read.
struct Seen {
    situation: Situation,
    pte: Pte,
    /// What the entry translates.
    mapped: VirtRange,
}

impl Seen {
    /// Returns true if a large page has to become small ones first: it reaches out of the area, or a part of it is to be copied.
    fn is_in_the_way(&self, fault: &Fault<'_>, action: FaultAction) -> bool {
        let is_large = self.situation.entry != EntryState::Empty && self.mapped.start != fault.page
            || self.mapped.end.since(fault.page) > address_space::PAGE_SIZE;
        let is_inside = self.mapped.intersection(fault.vma.range) == self.mapped;
        let acts_on_all = matches!(action, FaultAction::Touch | FaultAction::Reuse | FaultAction::WriteShared);
        is_large && action != FaultAction::Refuse && !(is_inside && acts_on_all)
    }
}

#[inline]
fn entry_state<F: platform::TableFormat>(entry: &EntryRef<'_, F>, pte: Pte) -> EntryState {
    let Some((_, attributes)) = entry.leaf(pte) else { return EntryState::Empty };
    let what = match entry.kind(pte) {
        None => MappedWhat::Zeros,
        Some(PageKind::File | PageKind::Shmem) => MappedWhat::FilePage,
        Some(PageKind::Anon) if entry.is_exclusive(pte) => MappedWhat::Own,
        // One reference is this entry's: whoever shared the page let go of it.
        Some(PageKind::Anon) if entry.sharers(pte).is_some_and(|(count, _)| count == 1) => MappedWhat::Own,
        Some(PageKind::Anon) => MappedWhat::SharedAnon,
    };
    EntryState::Mapped(what, attributes.prot)
}
