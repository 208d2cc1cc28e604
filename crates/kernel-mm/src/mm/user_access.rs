//! Reading and writing a process's memory from the kernel, on behalf of the process or of another one.
//!
//! Pages are found in the page tables, what is missing is faulted in, as if the process had touched it. A page is held while it is read; it is written to while the
//! entry that maps it is held, as a fork in between would let a child see what is written afterwards.
//! Linux 6.12: `copy_from_user`, `copy_to_user`, mm/memory.c (`access_process_vm`), mm/gup.c.

use core::ops::Range;

use address_space::{Mm, Process, ProtectionKeys};
use frame_table::{NotMapped, PageBytes, PageRef};
use object_allocator::mmu::{EntryRef, Found, PageKind};
use page_allocator::Hooks;
use page_fault::AccessKind;
use platform::{Level, Platform, Prot};
use sync::Cpu;
use units::{Pfn, VirtAddr};

use super::MemoryManager;
use super::fault::UserPlace;

/// Part of a range of a process's memory cannot be reached (EFAULT).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadUserAddress {
    /// Bytes before the first that cannot be reached; they were moved.
    pub done: usize,
}

impl core::fmt::Display for BadUserAddress {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "the process has no such memory behind {} bytes", self.done)
    }
}

impl core::error::Error for BadUserAddress {}

/// What an address of a process shows.
pub(super) enum UserPage {
    /// The page of zeros.
    Zeros,
    /// A page that is held, and where in it the address is.
    Held(PageRef, usize),
}

impl<'k, P: Platform, H: Hooks + Sync> MemoryManager<'k, P, H> {
    /// Copies bytes of a process from `addr` on into `to`.
    ///
    /// # Errors
    /// [`BadUserAddress`].
    pub fn read_user(
        &self,
        cpu: &Cpu,
        mm: &Mm<'k>,
        process: &Process,
        addr: VirtAddr,
        to: &mut [u8],
    ) -> Result<(), BadUserAddress> {
        let start = UserPlace { cpu, mm, process, addr };
        self.each_user_page(start, to.len(), |place, part| self.read_part(place, to.get_mut(part)?, AccessKind::Read))
    }

    /// Copies bytes to a process from `addr` on.
    ///
    /// # Errors
    /// [`BadUserAddress`].
    pub fn write_user(
        &self,
        cpu: &Cpu,
        mm: &Mm<'k>,
        process: &Process,
        addr: VirtAddr,
        from: &[u8],
    ) -> Result<(), BadUserAddress> {
        let start = UserPlace { cpu, mm, process, addr };
        self.each_user_page(start, from.len(), |place, part| self.write_part(place, from.get(part)?, AccessKind::Write))
    }

    /// Calls `visit` for each part of the `len` bytes from `start` on that lies in one page: where it is, and which bytes of the range those are. Stops where it
    /// returns `None`.
    pub(super) fn each_user_page(
        &self,
        start: UserPlace<'_, 'k>,
        len: usize,
        mut visit: impl FnMut(UserPlace<'_, 'k>, Range<usize>) -> Option<()>,
    ) -> Result<(), BadUserAddress> {
        let page_size = 1usize << self.page_shift();
        let mut at = 0;
        while at < len {
            let bad = BadUserAddress { done: at };
            let addr = start.addr.checked_add(at as u64).ok_or(bad)?;
            let part = (len - at).min(page_size - (addr.raw() as usize & (page_size - 1)));
            visit(UserPlace { addr, ..start }, at..at + part).ok_or(bad)?;
            at += part;
        }
        Ok(())
    }

    /// Reads bytes of one page; `None` if they cannot be reached.
    pub(super) fn read_part(&self, place: UserPlace<'_, 'k>, to: &mut [u8], access: AccessKind) -> Option<()> {
        match self.hold_user_page(place, access)? {
            UserPage::Zeros => to.fill(0),
            UserPage::Held(page, offset) => {
                let shown = PageBytes::new(self.objects.pages().platform(), &page, self.page_shift());
                let read = shown.map(|bytes| bytes.read(offset, to));
                self.objects.pages().put(place.cpu, page);
                read.ok()?;
            }
        }
        Some(())
    }

    /// Writes bytes of one page; `None` if they cannot be reached.
    pub(super) fn write_part(&self, place: UserPlace<'_, 'k>, from: &[u8], access: AccessKind) -> Option<()> {
        loop {
            if let Some(written) = self.write_mapped(place, from, access) {
                return written.ok();
            }
            self.fault(place.cpu, place.mm, place.process, place.addr, access).ok()?;
        }
    }

    /// Writes bytes of one page through the entry that maps it: a fork that shares the page then, or who moves it, finds all of them written or none. `None` if
    /// it takes a fault first. By force a page that nobody else has is written whatever its entry allows (Linux: `can_follow_write_pte`).
    fn write_mapped(&self, place: UserPlace<'_, 'k>, from: &[u8], access: AccessKind) -> Option<Result<(), NotMapped>> {
        let tables = self.tables(place.cpu, place.mm);
        let walk = tables.mmu.walk(tables.tables)?;
        let (Found::Entry(entry) | Found::Above(entry, _)) = walk.find(place.addr, Level::PTE)?;
        let pte = entry.load();
        let allowed = entry.prot(pte)?.contains(Prot::USER | Prot::WRITE);
        let write = |page: &PageRef, at| {
            let bytes = PageBytes::new(self.objects.pages().platform(), page, self.page_shift())?;
            bytes.write(self.offset_in(page, at, &entry, place.addr), from);
            Ok(())
        };
        if allowed {
            tables.mmu.while_mapped(&entry, pte, Prot::ACCESSED | Prot::DIRTY, write)
        } else if access == AccessKind::ForcedWrite {
            tables.mmu.while_own(&entry, pte, Prot::ACCESSED | Prot::WRITTEN, write)
        } else {
            None
        }
    }

    /// Takes hold of the page at `place` to read it, faulting it in if need be; `None` if the process may not reach it.
    pub(super) fn hold_user_page(&self, place: UserPlace<'_, 'k>, access: AccessKind) -> Option<UserPage> {
        let fault = || self.fault(place.cpu, place.mm, place.process, place.addr, access).ok();
        if self.spaces.settings().keys == ProtectionKeys::Present {
            // Entries carry no key here, so whether the area may be read, or executed only, is asked of the area.
            fault()?;
        }
        loop {
            if let Some(page) = self.find_user_page(place, access) {
                return Some(page);
            }
            fault()?;
        }
    }

    /// Takes hold of the page at `place` if an entry allows the access, and marks the entry as used.
    pub(super) fn find_user_page(&self, place: UserPlace<'_, 'k>, access: AccessKind) -> Option<UserPage> {
        let tables = self.tables(place.cpu, place.mm);
        let walk = tables.mmu.walk(tables.tables)?;
        let (Found::Entry(entry) | Found::Above(entry, _)) = walk.find(place.addr, Level::PTE)?;
        let pte = entry.load();
        let (pfn, mut attributes) = entry.leaf(pte)?;
        let (needed, marks) = match access {
            AccessKind::Write | AccessKind::ForcedWrite => (Prot::USER | Prot::WRITE, Prot::ACCESSED | Prot::DIRTY),
            AccessKind::Read | AccessKind::Fetch | AccessKind::Unshare => (Prot::USER, Prot::ACCESSED),
            AccessKind::ForcedRead => (Prot::empty(), Prot::ACCESSED),
        };
        if !attributes.prot.contains(needed) {
            return None;
        }
        if entry.is_zero_page(pte) {
            return Some(UserPage::Zeros);
        }
        let (page, now) = tables.mmu.page(&entry)?;
        attributes.prot |= marks;
        // Asked of the page that is held, as it says nothing of one that moves meanwhile and comes back.
        let may_be_shared =
            access == AccessKind::Unshare && entry.kind(pte) == Some(PageKind::Anon) && !entry.is_exclusive(pte);
        // Marked before the bytes move; if the entry changed meanwhile, it is looked at again.
        if now != pte || may_be_shared || (entry.leaf(pte)?.1 != attributes && !entry.set_attributes(pte, attributes)) {
            drop(walk);
            self.objects.pages().put(place.cpu, page);
            return None;
        }
        let offset = self.offset_in(&page, pfn, &entry, place.addr);
        Some(UserPage::Held(page, offset))
    }

    /// Returns where in `page` the address is which `entry` translates, an entry that shows frame `at` of the page.
    fn offset_in(&self, page: &PageRef, at: Pfn, entry: &EntryRef<'_, P::Format>, addr: VirtAddr) -> usize {
        (at.since(page.pfn()) << self.page_shift()).saturating_add(addr.since(entry.virt())) as usize
    }

    pub(super) fn page_shift(&self) -> u32 {
        self.objects.pages().map().geometry.page_shift
    }
}
