//! Reading and writing a process's memory from the kernel, on behalf of the process or of another one.
//!
//! Pages are found in the page tables and held while their bytes move; what is missing is faulted in, as if the process had touched it.
//! Linux 6.12: `copy_from_user`, `copy_to_user`, mm/memory.c (`access_process_vm`), mm/gup.c.

use address_space::{Mm, Process, ProtectionKeys};
use frame_table::{PageBytes, PageRef};
use object_allocator::mmu::{Found, PageKind};
use page_allocator::Hooks;
use page_fault::AccessKind;
use platform::{Level, Platform, Prot, TableFormat};
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
        self.each_user_page(start, to.len(), AccessKind::Read, |bytes, offset, at, len| {
            let Some(part) = to.get_mut(at..at + len) else { return };
            match bytes {
                Some(bytes) => {
                    bytes.read(offset, part);
                }
                None => part.fill(0),
            }
        })
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
        self.each_user_page(start, from.len(), AccessKind::Write, |bytes, offset, at, len| {
            if let (Some(bytes), Some(part)) = (bytes, from.get(at..at + len)) {
                bytes.write(offset, part);
            }
        })
    }

    /// Calls `visit` for each part of the `len` bytes from `start` on that lies in one page: the page's bytes, `None` for zeros, the offset there, the offset in the range, the length.
    fn each_user_page(
        &self,
        start: UserPlace<'_, 'k>,
        len: usize,
        access: AccessKind,
        mut visit: impl FnMut(Option<PageBytes<'_>>, usize, usize, usize),
    ) -> Result<(), BadUserAddress> {
        let shift = self.objects.pages().map().geometry.page_shift;
        let page_size = 1usize << shift;
        let mut at = 0;
        while at < len {
            let bad = BadUserAddress { done: at };
            let addr = start.addr.checked_add(at as u64).ok_or(bad)?;
            let place = UserPlace { addr, ..start };
            let part = (len - at).min(page_size - (addr.raw() as usize & (page_size - 1)));
            match self.hold_user_page(place, access).ok_or(bad)? {
                UserPage::Zeros => visit(None, 0, at, part),
                UserPage::Held(page, offset) => {
                    let shown = PageBytes::new(self.objects.pages().platform(), &page, shift);
                    let is_shown = shown.map(|bytes| visit(Some(bytes), offset, at, part)).is_ok();
                    let frame = page.pfn().add((offset >> shift) as u64);
                    self.objects.pages().put(place.cpu, page);
                    if !is_shown {
                        return Err(bad);
                    }
                    if access == AccessKind::Write && !self.is_writable_at(place, frame) {
                        // Meanwhile a fork shared the page, and another thread may have a copy of it without what was written.
                        continue;
                    }
                }
            }
            at += part;
        }
        Ok(())
    }

    /// Takes hold of the page at `place`, faulting it in if need be; `None` if the process may not reach it.
    fn hold_user_page(&self, place: UserPlace<'_, 'k>, access: AccessKind) -> Option<UserPage> {
        if self.spaces.settings().keys == ProtectionKeys::Present && access == AccessKind::Read {
            // Entries carry no key here, so whether the area may be read, or executed only, is asked of the area.
            self.fault(place.cpu, place.mm, place.process, place.addr, access).ok()?;
        }
        loop {
            if let Some(page) = self.find_user_page(place, access) {
                return Some(page);
            }
            self.fault(place.cpu, place.mm, place.process, place.addr, access).ok()?;
        }
    }

    /// Returns true if frame `frame` is mapped at `place` and may be written there.
    fn is_writable_at(&self, place: UserPlace<'_, 'k>, frame: Pfn) -> bool {
        let tables = self.tables(place.cpu, place.mm);
        let walk = tables.mmu.walk(tables.tables);
        let found = walk.as_ref().and_then(|walk| walk.find(place.addr, Level::PTE));
        let Some(Found::Entry(entry) | Found::Above(entry, _)) = found else { return false };
        entry.leaf(entry.load()).is_some_and(|(pfn, attributes)| {
            let in_leaf = place.addr.raw() & (tables.mmu.format().leaf_bytes(entry.level()) - 1);
            let shift = self.objects.pages().map().geometry.page_shift;
            pfn.add(in_leaf >> shift) == frame && attributes.prot.contains(Prot::USER | Prot::WRITE)
        })
    }

    /// Takes hold of the page at `place` if an entry allows the access, and marks the entry as used.
    pub(super) fn find_user_page(&self, place: UserPlace<'_, 'k>, access: AccessKind) -> Option<UserPage> {
        let tables = self.tables(place.cpu, place.mm);
        let walk = tables.mmu.walk(tables.tables)?;
        let (Found::Entry(entry) | Found::Above(entry, _)) = walk.find(place.addr, Level::PTE)?;
        let pte = entry.load();
        let (pfn, mut attributes) = entry.leaf(pte)?;
        let (needed, marks) = match access {
            AccessKind::Write => (Prot::USER | Prot::WRITE, Prot::ACCESSED | Prot::DIRTY),
            AccessKind::Read | AccessKind::Fetch | AccessKind::Unshare => (Prot::USER, Prot::ACCESSED),
        };
        let may_be_shared =
            access == AccessKind::Unshare && entry.kind(pte) == Some(PageKind::Anon) && !entry.is_exclusive(pte);
        if !attributes.prot.contains(needed) || may_be_shared {
            return None;
        }
        if entry.is_zero_page(pte) {
            return Some(UserPage::Zeros);
        }
        let (page, now) = tables.mmu.page(&entry)?;
        attributes.prot |= marks;
        // Marked before the bytes move; if the entry changed meanwhile, it is looked at again.
        if now != pte || (entry.leaf(pte)?.1 != attributes && !entry.set_attributes(pte, attributes)) {
            drop(walk);
            self.objects.pages().put(place.cpu, page);
            return None;
        }
        let in_leaf = place.addr.raw() & (walk.format().leaf_bytes(entry.level()) - 1);
        let shift = self.objects.pages().map().geometry.page_shift;
        let offset = (pfn.since(page.pfn()) << shift).saturating_add(in_leaf);
        Some(UserPage::Held(page, offset as usize))
    }
}
