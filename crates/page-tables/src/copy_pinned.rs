//! Fork and pinned pages: the child gets copies at once, so that the parent keeps the pages themselves.
//!
//! Whoever pins holds the area locked, and fork holds it locked for writing, so no pin comes meanwhile. Linux 6.12: mm/memory.c (`copy_present_page`).

use frame_table::{PageBytes, PageRef};
use object_allocator::mmu::{PageKind, Pte};
use page_allocator::Hooks;
use platform::{Attributes, Level, Platform, Prot, TableFormat};
use units::{Gfp, Order, VirtAddr, VirtRange, VmFlags};

use crate::copy::is_pinned;
use crate::{NoMemory, Tables};

impl<P: Platform, H: Hooks> Tables<'_, P, H> {
    /// Returns true if a pinned page is mapped at `at`.
    pub(crate) fn is_pinned(&self, at: VirtAddr) -> bool {
        self.with_entry(at, |entry, pte| is_pinned(&entry, pte).then_some(())).is_some()
    }

    /// Gives the child copies of the pinned pages of `part`, an area with `flags`, where it has tables.
    pub(crate) fn copy_pinned(&self, child: &Self, part: VirtRange, flags: VmFlags) -> Result<(), NoMemory> {
        let page_size = self.mmu.format().leaf_bytes(Level::PTE);
        let mut at = part.start;
        while at < part.end {
            if self.is_pinned(at) {
                self.copy_one(child, at, flags)?;
            }
            at = at.saturating_add(page_size);
        }
        Ok(())
    }

    /// Maps a copy of the page at `at` in the child. Nothing happens if the page went meanwhile.
    fn copy_one(&self, child: &Self, at: VirtAddr, flags: VmFlags) -> Result<(), NoMemory> {
        let pages = self.mmu.objects().pages();
        let block = pages.alloc(self.mmu.cpu(), Gfp::HIGHUSER_MOVABLE, Order::ZERO).map_err(|_| NoMemory)?;
        let source = self.with_entry(at, |entry, _| {
            let (page, pte) = self.mmu.page(&entry)?;
            Some((page, entry.leaf(pte)?))
        });
        let Some((source, (pfn, attributes))) = source else {
            pages.free(self.mmu.cpu(), block);
            return Ok(());
        };
        let copied = PageBytes::copy_page(pages.platform(), &block, (&source, pfn), pages.map().geometry.page_shift);
        let offset = pfn.since(source.pfn());
        let (mapping, index) = pages.map().frames.at(source.pfn()).mapping();
        self.mmu.put(source);
        if copied.is_err() {
            pages.free(self.mmu.cpu(), block);
            return Err(NoMemory);
        }
        let page = block.into_anon(&pages.map().frames, mapping, index + offset);
        let mut prot = (attributes.prot - Prot::ACCESSED) | Prot::WRITTEN;
        prot.set(Prot::WRITE, flags.contains(VmFlags::WRITE));
        child.enter_copy(at, page, Attributes { prot, ..attributes });
        Ok(())
    }

    fn enter_copy(&self, at: VirtAddr, page: PageRef, attributes: Attributes) {
        let pfn = page.pfn();
        let walk = self.walk();
        let refused = match walk.as_ref().and_then(|walk| walk.pte(at)) {
            Some(entry) => entry.install(Pte::NONE, page, pfn, attributes).err(),
            None => Some(page),
        };
        drop(walk);
        match refused {
            None => self.tables.add_rss(self.mmu.cpu(), PageKind::Anon, 1),
            Some(page) => self.mmu.put(page),
        }
    }
}
