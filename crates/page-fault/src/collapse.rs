//! Small pages that become a large one.
//!
//! The pages are made read-only, copied, and then exchanged; the area is locked against faults meanwhile, so that nobody makes them writable again.
//! Linux 6.12: mm/khugepaged.c (`collapse_huge_page`, `__collapse_huge_page_copy`).

use address_space::{HugePolicy, MmError, Vma};
use frame_table::{OwnedBlock, PageBytes};
use object_allocator::mmu::{FreshTable, PageKind};
use page_allocator::Hooks;
use page_tables::ZapWhat;
use platform::{Level, Platform, TableFormat};
use units::{Gfp, VirtRange};

use crate::context::{Attempt, Fault, FaultContext};
use crate::decide::AccessKind;
use crate::file_pages::FilePages;
use crate::huge::allows_huge;

/// What is mapped where a large page would be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Block {
    /// A large page already.
    Large,
    /// Nothing.
    Empty,
    /// Small pages, all of which may be copied.
    Small,
    /// Something that has to stay as it is: pages that others share.
    Fixed,
}

impl<P: Platform, H: Hooks, F: FilePages> FaultContext<'_, '_, P, H, F> {
    /// Puts the pages of `range` into large pages, wherever a whole one fits (Linux: madvise_collapse).
    ///
    /// The caller holds the area locked for writing.
    ///
    /// # Errors
    /// [`MmError::Invalid`] if the area may have no large pages or none fits; [`MmError::NoMemory`]; [`MmError::TryAgain`] if pages are shared.
    pub fn collapse(&self, vma: &Vma, range: VirtRange) -> Result<(), MmError> {
        let bytes = self.pages.mmu.format().leaf_bytes(Level::PMD);
        let whole = VirtRange::new(range.start.align_up(bytes), range.end.align_down(bytes));
        // Asking for it overrules a machine that leaves it to madvise.
        let policy = if self.huge == HugePolicy::Never { HugePolicy::Never } else { HugePolicy::Always };
        if whole.is_empty() || !allows_huge(policy, vma) {
            return Err(MmError::Invalid);
        }
        let mut at = whole.start;
        while at < whole.end {
            self.collapse_block(vma, VirtRange::with_len(at, bytes))?;
            at = at.saturating_add(bytes);
        }
        Ok(())
    }

    fn collapse_block(&self, vma: &Vma, block: VirtRange) -> Result<(), MmError> {
        match self.survey(block) {
            Block::Large => Ok(()),
            Block::Fixed => Err(MmError::TryAgain),
            // Nothing to gather; a fault will make a large page at once.
            Block::Empty => Ok(()),
            Block::Small => self.exchange_block(vma, block),
        }
    }

    fn survey(&self, block: VirtRange) -> Block {
        let mut found = Block::Empty;
        self.pages.for_each_mapped(block, |page| {
            // Somebody who holds the page otherwise, by a pin for instance, would go on with what nobody sees any more.
            let is_held = page.page.is_some_and(|page| i64::from(page.count) > i64::from(page.mapcount));
            let is_own =
                page.exclusive || page.page.is_none_or(|page| page.kind == PageKind::Anon && page.mapcount == 1);
            let may_move = is_own && !is_held;
            found = match found {
                _ if page.order > units::Order::ZERO => Block::Large,
                Block::Fixed => Block::Fixed,
                _ if may_move => Block::Small,
                _ => Block::Fixed,
            };
        });
        found
    }

    fn exchange_block(&self, vma: &Vma, block: VirtRange) -> Result<(), MmError> {
        let objects = self.pages.mmu.objects();
        let gfp = Gfp::TRANSHUGE | Gfp::ZERO | Gfp::COMP;
        let large = objects.pages().alloc(self.pages.mmu.cpu(), gfp, self.huge_order());
        let large = large.map_err(|_| MmError::NoMemory)?;
        let Ok(table) = self.pages.mmu.alloc_table(Gfp::KERNEL) else {
            objects.pages().free(self.pages.mmu.cpu(), large);
            return Err(MmError::NoMemory);
        };
        self.forbid_writes(block);
        if self.copy_block(block, &large).is_err() {
            objects.pages().free(self.pages.mmu.cpu(), large);
            self.pages.mmu.free_fresh(table);
            return Err(MmError::NoMemory);
        }
        let mut gather = self.pages.gather();
        self.pages.zap(&mut gather, block, ZapWhat::All);
        self.pages.free_tables(&mut gather, block, page_tables::Bounds { floor: block.start, ceiling: block.end });
        drop(gather);
        self.install_block(vma, block, large, table)
    }

    /// Makes all pages of the block read-only, on every CPU.
    fn forbid_writes(&self, block: VirtRange) {
        let mut gather = self.pages.gather();
        self.pages.write_protect(&mut gather, block);
    }

    fn copy_block(&self, block: VirtRange, large: &OwnedBlock) -> Result<(), frame_table::NotMapped> {
        let pages = self.pages.mmu.objects().pages();
        let shift = pages.map().geometry.page_shift;
        let target = PageBytes::new(pages.platform(), large, shift)?;
        let Some(walk) = self.pages.mmu.walk(self.pages.tables) else { return Ok(()) };
        for number in 0..large.order().nr_pages() {
            let virt = block.start.saturating_add(number << shift);
            let Some(entry) = walk.pte(virt) else { continue };
            let Some((page, pte)) = self.pages.mmu.page(&entry) else { continue };
            let at = entry.leaf(pte).map_or(page.pfn(), |(pfn, _)| pfn);
            let copied = PageBytes::new(pages.platform(), &page, shift).map(|source| {
                let offset = (at.since(page.pfn()) << shift) as usize;
                target.part((number << shift) as usize, 1 << shift).copy_from(&source.part(offset, 1 << shift));
            });
            self.pages.mmu.put(page);
            copied?;
        }
        Ok(())
    }

    fn install_block(&self, vma: &Vma, block: VirtRange, large: OwnedBlock, table: FreshTable) -> Result<(), MmError> {
        let fault = Fault { vma, page: block.start, access: AccessKind::Write };
        let page = match self.own(&fault, large) {
            Ok(page) => page,
            Err(large) => {
                self.give_back(large);
                self.pages.mmu.free_fresh(table);
                return Err(MmError::Invalid);
            }
        };
        let entered = self.enter_huge(block, page, Self::writable(vma, AccessKind::Write), table);
        debug_assert!(entered == Attempt::Done, "nobody fills an area that is locked for writing");
        Ok(())
    }
}
