//! What is done about a fault on an empty entry, and the marks of use.
//!
//! Linux 6.12: mm/memory.c (`do_anonymous_page`, `do_read_fault`, `do_cow_fault`, `do_shared_fault`).

use address_space::{Access, FileId, Vma};
use frame_table::{PageBytes, PageRef};
use object_allocator::mmu::{PageKind, Pte};
use page_allocator::Hooks;
use page_tables::attributes_of;
use platform::{Attributes, Platform, Prot};
use units::{Gfp, Order, Pfn};

use crate::context::{Attempt, Fault, FaultContext, FaultError};
use crate::decide::{AccessKind, FaultAction};
use crate::file_pages::FilePages;

impl<P: Platform, H: Hooks, F: FilePages> FaultContext<'_, '_, P, H, F> {
    /// Does what the table says; `pte` is what the entry held.
    #[inline]
    pub(crate) fn act(&self, fault: &Fault<'_>, action: FaultAction, pte: Pte) -> Result<Attempt, FaultError> {
        match action {
            FaultAction::Refuse => Err(FaultError::refusal(fault.vma.flags, fault.access)),
            FaultAction::Touch => Ok(self.touch(fault, pte)),
            FaultAction::MapZeros => Ok(self.map_zeros(fault)),
            FaultAction::MapFresh => self.map_fresh(fault, pte),
            FaultAction::MapFile => self.map_file(fault),
            FaultAction::MapFileCopy => self.map_file_copy(fault),
            FaultAction::MapFileShared => self.map_file_shared(fault),
            FaultAction::WriteShared => self.write_shared(fault, pte),
            FaultAction::Reuse => Ok(self.reuse(fault, pte)),
            FaultAction::Copy => self.copy(fault, pte),
        }
    }

    /// Returns the file behind the area, and the page of it at the fault.
    pub(crate) fn file_page(fault: &Fault<'_>) -> Result<(FileId, u64), FaultError> {
        let file = fault.vma.file.ok_or(FaultError::NoPage)?;
        Ok((file, fault.vma.pgoff_at(fault.page)))
    }

    /// Returns the attributes of a page that is the area's own, or written.
    pub(crate) fn writable(vma: &Vma, access: AccessKind) -> Attributes {
        let mut attributes = attributes_of(vma.flags, page_tables::WriteTracking::None);
        let is_writable = vma.flags.contains(units::VmFlags::WRITE) && access != AccessKind::Unshare;
        attributes.prot.set(Prot::WRITE, is_writable);
        attributes.prot.set(Prot::WRITTEN, access.is_write());
        attributes
    }

    /// Allocates the bytes of an anonymous page. They are zeros with [`Gfp::ZERO`].
    pub(crate) fn alloc_page(&self, gfp: Gfp) -> Result<frame_table::OwnedBlock, FaultError> {
        let objects = self.pages.mmu.objects();
        let block = objects.pages().alloc(self.pages.mmu.cpu(), Gfp::HIGHUSER_MOVABLE | gfp, Order::ZERO);
        block.map_err(|_| FaultError::NoMemory)
    }

    /// Makes a page that nothing maps yet the area's own at the fault.
    pub(crate) fn own(
        &self,
        fault: &Fault<'_>,
        block: frame_table::OwnedBlock,
    ) -> Result<PageRef, frame_table::OwnedBlock> {
        let Some(anon) = fault.vma.anon else { return Err(block) };
        let mapping = PageKind::ANON_MAPPING | anon.root.family();
        let frames = &self.pages.mmu.objects().pages().map().frames;
        Ok(block.into_anon(frames, mapping, fault.vma.pgoff_at(fault.page)))
    }

    /// Copies the bytes of one page, of a larger block perhaps, into a block that nobody else knows.
    pub(crate) fn copy_bytes(&self, to: &frame_table::OwnedBlock, from: &PageRef, at: Pfn) -> Result<(), FaultError> {
        let pages = self.pages.mmu.objects().pages();
        let copied = PageBytes::copy_page(pages.platform(), to, (from, at), pages.map().geometry.page_shift);
        copied.map_err(|_| FaultError::NoMemory)
    }

    /// Maps a page at an entry that still holds `expected`, and counts it.
    pub(crate) fn install(
        &self,
        fault: &Fault<'_>,
        expected: Pte,
        page: PageRef,
        kind: PageKind,
        attributes: Attributes,
    ) -> Attempt {
        let pfn = page.pfn();
        let refused = match self.pages.mmu.walk(self.pages.tables) {
            Some(walk) => match walk.pte(fault.page) {
                Some(entry) => entry.install(expected, page, pfn, attributes).err(),
                None => Some(page),
            },
            None => Some(page),
        };
        match refused {
            None => {
                self.pages.tables.add_rss(self.pages.mmu.cpu(), kind, 1);
                Attempt::Done
            }
            Some(page) => {
                self.pages.mmu.put(page);
                Attempt::Again
            }
        }
    }

    fn map_zeros(&self, fault: &Fault<'_>) -> Attempt {
        let attributes = attributes_of(fault.vma.flags, page_tables::WriteTracking::None);
        let attributes = Attributes { prot: attributes.prot - Prot::WRITE, ..attributes };
        let walk = self.pages.mmu.walk(self.pages.tables);
        let mapped = walk.as_ref().and_then(|walk| walk.pte(fault.page));
        let mapped = mapped.is_some_and(|entry| entry.install_zero(Pte::NONE, attributes));
        if mapped { Attempt::Done } else { Attempt::Again }
    }

    fn map_fresh(&self, fault: &Fault<'_>, expected: Pte) -> Result<Attempt, FaultError> {
        if fault.vma.anon.is_none() {
            return Err(FaultError::NeedsAnonVma);
        }
        let block = self.alloc_page(Gfp::ZERO)?;
        let page = match self.own(fault, block) {
            Ok(page) => page,
            Err(block) => return Err(self.give_back(block)),
        };
        if !expected.is_none() {
            return Ok(self.exchange(fault, expected, page));
        }
        Ok(self.install(fault, expected, page, PageKind::Anon, Self::writable(fault.vma, fault.access)))
    }

    /// Frees a block for which there is no use after all.
    pub(crate) fn give_back(&self, block: frame_table::OwnedBlock) -> FaultError {
        self.pages.mmu.objects().pages().free(self.pages.mmu.cpu(), block);
        FaultError::NeedsAnonVma
    }

    fn map_file_copy(&self, fault: &Fault<'_>) -> Result<Attempt, FaultError> {
        if fault.vma.anon.is_none() {
            return Err(FaultError::NeedsAnonVma);
        }
        let (file, index) = Self::file_page(fault)?;
        let source = self.files.page(file, index, Access::Read)?;
        let copied = self.copy_of(fault, &source, source.pfn());
        self.pages.mmu.put(source);
        let attributes = Self::writable(fault.vma, fault.access);
        Ok(self.install(fault, Pte::NONE, copied?, PageKind::Anon, attributes))
    }

    /// Makes an anonymous page with the bytes of frame `at` of `source`.
    pub(crate) fn copy_of(&self, fault: &Fault<'_>, source: &PageRef, at: Pfn) -> Result<PageRef, FaultError> {
        let block = self.alloc_page(Gfp::empty())?;
        if let Err(error) = self.copy_bytes(&block, source, at) {
            self.give_back(block);
            return Err(error);
        }
        self.own(fault, block).map_err(|block| self.give_back(block))
    }

    fn map_file_shared(&self, fault: &Fault<'_>) -> Result<Attempt, FaultError> {
        let (file, index) = Self::file_page(fault)?;
        let page = self.files.page(file, index, Access::Write)?;
        let kind = self.kind_of(&page);
        Ok(self.install_file(fault, page, kind, Self::writable(fault.vma, fault.access)))
    }

    /// Maps the page of the area's file at the fault, of this kind, at an empty entry, unless the file lost the page meanwhile.
    ///
    /// A page that was cut off a file is taken out of page tables first and last, and knows no file in between; so either the cutting finds the entry, or this
    /// finds the page without its file (Linux: the check of `folio->mapping` under the folio's lock).
    pub(crate) fn install_file(
        &self,
        fault: &Fault<'_>,
        page: PageRef,
        kind: PageKind,
        attributes: Attributes,
    ) -> Attempt {
        let pfn = page.pfn();
        let attempt = self.install(fault, Pte::NONE, page, kind, attributes);
        if attempt == Attempt::Done && !self.belongs_to_file(fault, pfn, fault.vma.pgoff_at(fault.page)) {
            self.take_back(fault, pfn);
            return Attempt::Again;
        }
        attempt
    }

    pub(crate) fn belongs_to_file(&self, fault: &Fault<'_>, pfn: Pfn, index: u64) -> bool {
        let mapping = self.pages.mmu.objects().pages().map().frames.at(pfn).mapping();
        fault.vma.file.is_some_and(|file| (u64::from(mapping.0), mapping.1) == (file.raw(), index))
    }

    /// Takes frame `pfn` out of the entry at the fault again.
    pub(crate) fn take_back(&self, fault: &Fault<'_>, pfn: Pfn) {
        let mut gather = self.pages.gather();
        let walk = self.pages.mmu.walk(self.pages.tables);
        let entry = walk.as_ref().and_then(|walk| walk.pte(fault.page));
        let entry = entry.filter(|entry| entry.leaf(entry.load()).is_some_and(|(mapped, _)| mapped == pfn));
        let taken = entry.and_then(|entry| gather.take(&entry));
        drop(walk);
        if let Some(kind) = taken.and_then(|taken| taken.kind) {
            self.pages.tables.add_rss(self.pages.mmu.cpu(), kind, -1);
        }
    }

    /// Returns what a page of a file is counted as.
    pub(crate) fn kind_of(&self, page: &PageRef) -> PageKind {
        PageKind::of_page(self.pages.mmu.objects().pages().map().frames.at(page.pfn()))
    }
}
