//! Acts on the debug options when a block is handed out or taken back.
//!
//! Linux 6.12: `check_new_pages`, `free_page_is_bad`, `kernel_poison_pages`, `kernel_init_pages`, `bad_page`, page_owner.

use core::sync::atomic::Ordering;

use frame_table::{FreeBlock, OwnedBlock, PageFlags, fill, first_difference};
use platform::Platform;
use sync::Cpu;
use units::Pfn;

use crate::alloc_context::{AllocError, AllocRequest};
use crate::allocator::PageAllocator;
use crate::debug::{BadPage, Checks, PAGE_POISON, PageOwner};
use crate::pressure::Hooks;

impl<P: Platform, H: Hooks> PageAllocator<P, H> {
    /// Zeroes a block; HighMem that the kernel does not map is left as it is, and the caller maps and clears it.
    pub(crate) fn zero(&self, block: &mut OwnedBlock) {
        let _mapped = fill(&self.platform, block, self.map.geometry.page_shift, 0);
    }

    /// Verifies poison, zeroes, and records the owner of a block that is about to be handed out.
    ///
    /// A block that was written after it was freed is reported and kept out of use; the request fails.
    #[cold]
    pub(crate) fn check_new_block(
        &self,
        cpu: &Cpu,
        request: &AllocRequest,
        mut block: OwnedBlock,
    ) -> Result<OwnedBlock, AllocError> {
        let checks = self.debug.checks;
        let shift = self.map.geometry.page_shift;
        if checks.contains(Checks::POISON)
            && let Ok(Some(written)) = first_difference(&self.platform, &mut block, shift, PAGE_POISON)
        {
            self.report_bad(BadPage::WrittenAfterFree(written));
            return Err(AllocError::OutOfMemory);
        }
        if checks.contains(Checks::INIT_ON_ALLOC) {
            self.zero(&mut block);
        }
        let owner = PageOwner { gfp: request.gfp, order: request.order, cpu: cpu.id() };
        self.debug.owners.note_alloc(self.frame_index(block.pfn()), owner);
        Ok(block)
    }

    /// Checks a block that is freed; returns `None` if it is bad and stays out of use.
    #[cold]
    pub(crate) fn check_freed_block(&self, mut block: OwnedBlock) -> Option<OwnedBlock> {
        let checks = self.debug.checks;
        self.debug.owners.note_free(self.frame_index(block.pfn()));
        if checks.contains(Checks::BAD_PAGE)
            && let Some(bad) = self.find_bad(&block)
        {
            self.report_bad(bad);
            return None;
        }
        let shift = self.map.geometry.page_shift;
        if checks.contains(Checks::INIT_ON_FREE) {
            self.zero(&mut block);
        } else if checks.contains(Checks::POISON) {
            let _mapped = fill(&self.platform, &mut block, shift, PAGE_POISON);
        }
        Some(block)
    }

    fn find_bad(&self, block: &OwnedBlock) -> Option<BadPage> {
        block.frames().iter().find_map(|pfn| {
            let frame = self.map.frames.get(pfn)?;
            let flags = frame.flags() & PageFlags::CHECK_AT_FREE;
            if !flags.is_empty() {
                return Some(BadPage::Flags(pfn, flags));
            }
            (frame.count() != 0).then(|| BadPage::Referenced(pfn, frame.count()))
        })
    }

    fn report_bad(&self, bad: BadPage) {
        // Relaxed: a count.
        self.debug.bad_pages.fetch_add(1, Ordering::Relaxed);
        self.hooks.bad_page(bad);
    }

    /// Fills a block that boot hands over with poison, so that the check at allocation holds for it too.
    pub(crate) fn poison_boot_block(&self, block: FreeBlock) -> FreeBlock {
        if !self.debug.checks.contains(Checks::POISON) {
            return block;
        }
        let mut block = block.into_owned(&self.map.frames);
        let _mapped = fill(&self.platform, &mut block, self.map.geometry.page_shift, PAGE_POISON);
        block.into_free(&self.map.frames)
    }

    pub(crate) fn frame_index(&self, pfn: Pfn) -> u64 {
        pfn.since(self.map.frames.span().start)
    }
}
