//! Writes to what is mapped read-only, and marks of use.
//!
//! Linux 6.12: mm/memory.c (`do_wp_page`, `wp_page_reuse`, `wp_page_copy`, `wp_page_shared`), `ptep_set_access_flags`.

use address_space::Access;
use object_allocator::mmu::{EntryRef, Found, PageKind, Pte, Taken};
use page_allocator::Hooks;
use platform::{Attributes, Level, Platform, Prot};
use units::VmFlags;

use crate::context::{Attempt, Fault, FaultContext, FaultError};
use crate::decide::AccessKind;
use crate::file_pages::FilePages;

impl<P: Platform, H: Hooks, F: FilePages> FaultContext<'_, '_, P, H, F> {
    /// Gives the entry at the fault, of whatever level, other attributes if it still holds `pte`.
    fn change(&self, fault: &Fault<'_>, pte: Pte, change: impl FnOnce(Attributes) -> Attributes) -> Attempt {
        self.with_entry(fault, |entry| {
            let (_, before) = entry.leaf(pte)?;
            let after = change(before);
            (after == before && entry.load() == pte || entry.set_attributes(pte, after)).then_some(())
        })
    }

    /// Calls `act` with the entry that maps the page at the fault; `None` from it, or no entry, is another attempt.
    fn with_entry(&self, fault: &Fault<'_>, act: impl FnOnce(&EntryRef<'_, P::Format>) -> Option<()>) -> Attempt {
        let walk = self.pages.mmu.walk(self.pages.tables);
        let found = walk.as_ref().and_then(|walk| walk.find(fault.page, Level::PTE));
        let done = found.and_then(|found| match found {
            Found::Entry(entry) | Found::Above(entry, _) => act(&entry),
        });
        if done.is_some() { Attempt::Done } else { Attempt::Again }
    }

    /// Marks the entry as used, and as what the area allows to user mode.
    pub(crate) fn touch(&self, fault: &Fault<'_>, pte: Pte) -> Attempt {
        self.change(fault, pte, |mut attributes| {
            attributes.prot |= Prot::ACCESSED;
            attributes.prot.set(Prot::USER, fault.vma.flags.intersects(VmFlags::ACCESS));
            attributes.prot.set(Prot::EXECUTE, fault.vma.flags.contains(VmFlags::EXEC));
            if fault.access.is_write() {
                attributes.prot |= Prot::WRITTEN;
            }
            attributes
        })
    }

    /// Makes the page, which is nobody else's, the area's own, and writable if it is to be written and the area allows that. That nobody else has it is asked again while the entry is held.
    pub(crate) fn reuse(&self, fault: &Fault<'_>, pte: Pte) -> Attempt {
        let mut marks = Prot::ACCESSED;
        marks.set(Prot::WRITTEN, fault.access.is_write());
        marks.set(Prot::WRITE, fault.access.is_write() && fault.vma.flags.contains(VmFlags::WRITE));
        self.with_entry(fault, |entry| self.pages.mmu.reuse(entry, pte, marks).then_some(()))
    }

    /// Tells the file of the write, then allows it.
    pub(crate) fn write_shared(&self, fault: &Fault<'_>, pte: Pte) -> Result<Attempt, FaultError> {
        let (file, index) = Self::file_page(fault)?;
        let page = self.files.page(file, index, Access::Write)?;
        let attempt = self.change(fault, pte, |mut attributes| {
            attributes.prot |= Prot::WRITE | Prot::WRITTEN | Prot::ACCESSED;
            attributes
        });
        self.pages.mmu.put(page);
        Ok(attempt)
    }

    /// Puts a copy in the place of a page that others have too.
    pub(crate) fn copy(&self, fault: &Fault<'_>, pte: Pte) -> Result<Attempt, FaultError> {
        if fault.vma.anon.is_none() {
            return Err(FaultError::NeedsAnonVma);
        }
        let Some((source, at)) = self.hold(fault, pte) else { return Ok(Attempt::Again) };
        let copied = self.copy_of(fault, &source, at);
        self.pages.mmu.put(source);
        Ok(self.exchange(fault, pte, copied?))
    }

    /// Takes a reference to the page that the entry maps, if it still holds `pte`.
    fn hold(&self, fault: &Fault<'_>, pte: Pte) -> Option<(frame_table::PageRef, units::Pfn)> {
        let walk = self.pages.mmu.walk(self.pages.tables)?;
        let (Found::Entry(entry) | Found::Above(entry, _)) = walk.find(fault.page, Level::PTE)?;
        let (at, _) = entry.leaf(pte)?;
        let (page, now) = self.pages.mmu.page(&entry)?;
        if now == pte {
            return Some((page, at));
        }
        drop(walk);
        self.pages.mmu.put(page);
        None
    }

    /// Puts `page` in the place of what the entry maps, if it still holds `pte`, and counts it.
    pub(crate) fn exchange(&self, fault: &Fault<'_>, pte: Pte, page: frame_table::PageRef) -> Attempt {
        let mut gather = self.pages.gather();
        let walk = self.pages.mmu.walk(self.pages.tables);
        let replaced = match walk.as_ref().and_then(|walk| walk.pte(fault.page)) {
            Some(entry) => {
                let mut attributes = Self::writable(fault.vma, fault.access);
                if fault.access == AccessKind::Unshare {
                    // A copy that nobody wrote to counts as written to if the page did.
                    attributes.prot |= entry.prot(pte).unwrap_or_default() & Prot::SOFT_DIRTY;
                }
                gather.replace(&entry, pte, page, attributes)
            }
            None => Err(page),
        };
        drop(walk);
        match replaced {
            Ok(taken) => {
                self.count_exchange(taken);
                Attempt::Done
            }
            Err(page) => {
                self.pages.mmu.put(page);
                Attempt::Again
            }
        }
    }

    /// Counts an anonymous page in the place of what was mapped.
    fn count_exchange(&self, taken: Option<Taken>) {
        let before = taken.and_then(|taken| taken.kind);
        if before != Some(PageKind::Anon) {
            before.into_iter().for_each(|kind| self.pages.tables.add_rss(self.pages.mmu.cpu(), kind, -1));
            self.pages.tables.add_rss(self.pages.mmu.cpu(), PageKind::Anon, 1);
        }
    }
}
