//! One access to one area, until it can go on.
//!
//! Linux 6.12: mm/memory.c (`__handle_mm_fault`, `handle_pte_fault`), include/linux/mm.h (`struct vm_fault`).

use address_space::{HugeRules, HugeZeros, MmError, Vma};
use frame_table::PageRef;
use object_allocator::mmu::{EntryRef, Found, PageKind, Pte};
use object_allocator::vmstat::VmEvent;
use page_allocator::Hooks;
use page_tables::Tables;
use platform::{Level, Platform, TableFormat};
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
    /// What is done about large pages.
    pub huge: HugeRules,
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
    /// Counts a fault.
    pub(crate) fn count(&self) {
        let objects = self.pages.mmu.objects();
        objects.vmstat().count_events(self.pages.mmu.cpu(), VmEvent::Pgfault, 1);
    }

    /// Makes an access to `addr`, an address of `vma`, possible (Linux: handle_mm_fault). The caller counts the fault.
    ///
    /// Returns what was done about it. The caller keeps the area as it is. Not during a walk of the same CPU.
    ///
    /// # Errors
    /// [`FaultError`], never [`FaultError::NotMapped`].
    pub fn make_possible(&self, vma: &Vma, addr: VirtAddr, access: AccessKind) -> Result<FaultAction, FaultError> {
        let page = addr.align_down(1 << self.pages.mmu.objects().pages().map().geometry.page_shift);
        let fault = Fault { vma, page, access };
        match self.attempt(&fault)? {
            Some(action) => Ok(action),
            None => self.attempt_again(&fault),
        }
    }

    /// Goes on until the access is possible. Apart from the first attempt, which nearly always is the last, so that nothing of that one is
    /// computed ahead as what all rounds of a loop have in common.
    #[cold]
    #[inline(never)]
    fn attempt_again(&self, fault: &Fault<'_>) -> Result<FaultAction, FaultError> {
        loop {
            if let Some(action) = self.attempt(fault)? {
                return Ok(action);
            }
        }
    }

    /// Reads the entry, and does what has to be done about it. `None` if the entry was not what was expected.
    #[inline(always)]
    fn attempt(&self, fault: &Fault<'_>) -> Result<Option<FaultAction>, FaultError> {
        let seen = match self.look(fault) {
            Look::Entry(seen) => seen,
            Look::NoTable(above) => return self.map_without_table(fault, above),
        };
        let action = decide(&seen.situation);
        if seen.is_in_the_way(fault, action) {
            return self.make_way(fault, &seen, action);
        }
        let attempt = self.act(fault, action, seen.pte)?;
        Ok((attempt == Attempt::Done).then_some(action))
    }

    /// Lets an access go on that a large page is in the way of: zeros give way to a fresh page if the rules say so, others to their parts. `None` if the entry has to be looked at.
    #[cold]
    #[inline(never)]
    fn make_way(&self, fault: &Fault<'_>, seen: &Seen, action: FaultAction) -> Result<Option<FaultAction>, FaultError> {
        let is_inside = seen.mapped.intersection(fault.vma.range) == seen.mapped;
        if action == FaultAction::MapFresh && is_inside && self.huge.zeros == HugeZeros::Replaced {
            let attempt = self.write_huge_zeros(fault, seen.pte, seen.mapped)?;
            return Ok((attempt == Attempt::Done).then_some(action));
        }
        self.split(fault);
        Ok(None)
    }

    /// Handles a fault where there are tables down to level `above` only: makes the others, and maps what was found on the way. `None` if the entry has to
    /// be looked at.
    #[inline(never)]
    fn map_without_table(&self, fault: &Fault<'_>, above: Level) -> Result<Option<FaultAction>, FaultError> {
        let page = self.check_before_table(fault, above)?;
        match (self.map_huge(fault), page) {
            (Ok(Attempt::Again), Some(page)) => {
                let attempt = self.install_read(fault, page);
                Ok((attempt == Attempt::Done).then_some(FaultAction::MapFile))
            }
            (made, page) => {
                page.into_iter().for_each(|page| self.pages.mmu.put(page));
                let is_write = fault.access.is_write();
                let action = if is_write { FaultAction::MapFresh } else { FaultAction::MapZeros };
                Ok((made? == Attempt::Done).then_some(action))
            }
        }
    }

    /// Refuses, before a table is made for it, an access that no table would help: forbidden by the area, or behind the end of its file. Returns the file's page
    /// if that is all that is to be mapped.
    fn check_before_table(&self, fault: &Fault<'_>, above: Level) -> Result<Option<PageRef>, FaultError> {
        if !is_permitted(fault.access, fault.vma.flags, EntryState::Empty) {
            return Err(FaultError::refusal(fault.vma.flags, fault.access));
        }
        if fault.vma.is_anonymous() {
            return Ok(None);
        }
        // Linux has the tables above already when it asks the file.
        if above > Level::PMD {
            self.make_tables(fault, Level::PMD)?;
        }
        let is_read = !fault.access.is_write();
        if !is_read && !fault.vma.flags.contains(VmFlags::SHARED) && fault.vma.anon.is_none() {
            // And the area has got its anon_vma.
            return Err(FaultError::NeedsAnonVma);
        }
        if is_read && self.has_neighbours(fault) {
            // They are mapped first, and get their table, though the page itself may not be had.
            return Ok(None);
        }
        let (file, index) = Self::file_page(fault)?;
        let page = self.files.page(file, index, address_space::Access::Read)?;
        if is_read {
            return Ok(Some(page));
        }
        self.pages.mmu.put(page);
        Ok(None)
    }

    /// Reads the entry.
    #[inline]
    fn look(&self, fault: &Fault<'_>) -> Look {
        let walk = self.pages.mmu.walk(self.pages.tables);
        let Some(found) = walk.as_ref().and_then(|walk| walk.find(fault.page, Level::PTE)) else {
            return Look::NoTable(self.pages.mmu.format().root_level());
        };
        let (entry, pte) = match found {
            Found::Entry(entry) => (entry, entry.load()),
            Found::Above(entry, pte) if pte.is_none() => return Look::NoTable(entry.level()),
            Found::Above(entry, pte) => (entry, pte),
        };
        let behind = if fault.vma.is_anonymous() { Behind::Anonymous } else { Behind::File };
        let state = entry_state(&entry, pte);
        let situation = Situation { access: fault.access, area: fault.vma.flags, behind, entry: state };
        Look::Entry(Seen { situation, pte, mapped: entry.range() })
    }
}

/// What a walk to the entry found.
enum Look {
    /// The entry.
    Entry(Seen),
    /// No table for it: the walk ended at an entry of this level.
    NoTable(Level),
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

/// Says what the entry held. Its page is not held, so this may be wrong about one that went meanwhile: who acts on it asks again what must not be wrong.
#[inline]
fn entry_state<F: platform::TableFormat>(entry: &EntryRef<'_, F>, pte: Pte) -> EntryState {
    let Some((_, attributes)) = entry.leaf(pte) else { return EntryState::Empty };
    let what = match entry.kind(pte) {
        None if entry.is_zero_page(pte) => MappedWhat::Zeros,
        // Of a page that went meanwhile; to copy it is to look again.
        None => MappedWhat::SharedAnon,
        Some(PageKind::File | PageKind::Shmem) => MappedWhat::FilePage,
        Some(PageKind::Anon) if entry.is_exclusive(pte) => MappedWhat::Own,
        // One reference is this entry's: whoever shared the page let go of it.
        Some(PageKind::Anon) if entry.sharers(pte).is_some_and(|(count, _)| count == 1) => MappedWhat::Own,
        Some(PageKind::Anon) => MappedWhat::SharedAnon,
    };
    EntryState::Mapped(what, attributes.prot)
}
