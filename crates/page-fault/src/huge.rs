//! Transparent huge pages at faults: the fresh one, and the one that has to be split.
//!
//! Linux 6.12: mm/huge_memory.c (`do_huge_pmd_anonymous_page`, `__thp_vma_allowable_orders`, `vma_thp_gfp_mask`, `do_huge_pmd_wp_page`).

use address_space::HugeZeros;
use frame_table::PageRef;
use object_allocator::mmu::{FreshTable, MakeError, PageKind, Pte};
use object_allocator::vmstat::VmEvent;
use page_allocator::Hooks;
use page_tables::{WriteTracking, attributes_of};
use platform::{Attributes, Level, Platform, TableFormat};
use units::{Gfp, VirtRange, VmFlags};

use crate::context::{Attempt, Fault, FaultContext, FaultError};
use crate::file_pages::FilePages;

impl<P: Platform, H: Hooks, F: FilePages> FaultContext<'_, '_, P, H, F> {
    /// Returns the addresses of the large page around the fault if the area holds all of them and may have it.
    fn huge_range(&self, fault: &Fault<'_>) -> Option<VirtRange> {
        if !self.huge.policy.admits(fault.vma) {
            return None;
        }
        let bytes = self.pages.mmu.format().leaf_bytes(Level::PMD);
        let range = VirtRange::with_len(fault.page.align_down(bytes), bytes);
        (range.intersection(fault.vma.range) == range).then_some(range)
    }

    /// Maps a large page, of zeros that all share if it is only read, where no table is, if one may be and there is memory for it; else makes the tables for a small one.
    ///
    /// Returns [`Attempt::Again`] if the entry has to be looked at.
    pub(crate) fn map_huge(&self, fault: &Fault<'_>) -> Result<Attempt, FaultError> {
        if let Some(range) = self.huge_range(fault) {
            if fault.vma.anon.is_none() {
                return Err(FaultError::NeedsAnonVma);
            }
            self.make_tables(fault, Level::PMD)?;
            let attempt = if fault.access.is_write() || self.huge.zeros == HugeZeros::Unused {
                self.install_huge(fault, range)
            } else {
                self.install_huge_zeros(fault, range)
            };
            if attempt == Attempt::Done {
                return Ok(Attempt::Done);
            }
        }
        let mmu = &self.pages.mmu;
        made(mmu.make_missing_tables(self.pages.tables, fault.page, Level::PTE, Gfp::KERNEL))?;
        Ok(Attempt::Again)
    }

    pub(crate) fn make_tables(&self, fault: &Fault<'_>, level: Level) -> Result<(), FaultError> {
        made(self.pages.mmu.make_tables(self.pages.tables, fault.page, level, Gfp::KERNEL))
    }

    /// Puts a fresh large page at an empty entry above the lowest level. [`Attempt::Again`] if there is no memory for it or for the table that waits beside it, or
    /// the entry is not empty.
    fn install_huge(&self, fault: &Fault<'_>, range: VirtRange) -> Attempt {
        let Some(page) = self.alloc_huge(fault, range) else { return Attempt::Again };
        match self.pages.mmu.alloc_table(Gfp::KERNEL) {
            Ok(table) => self.enter_huge(range, page, Self::writable(fault.vma, fault.access), table),
            Err(_) => {
                self.pages.mmu.put(page);
                Attempt::Again
            }
        }
    }

    /// As [`Self::install_huge`], with the large page of zeros.
    fn install_huge_zeros(&self, fault: &Fault<'_>, range: VirtRange) -> Attempt {
        let mmu = &self.pages.mmu;
        let attributes = attributes_of(fault.vma.flags, WriteTracking::None);
        let is_mapped = mmu
            .alloc_table(Gfp::KERNEL)
            .is_ok_and(|table| mmu.install_large_zeros(self.pages.tables, range.start, attributes, table));
        if is_mapped {
            return Attempt::Done;
        }
        mmu.objects().vmstat().count_events(mmu.cpu(), VmEvent::ThpFaultFallback, 1);
        Attempt::Again
    }

    /// Lets a write to the large page of zeros, which the entry for `range` holds as `pte`, go on: with a fresh large page in its place, or with small
    /// ones of zeros if there is no memory for it. [`Attempt::Again`] if the entry has to be looked at.
    pub(crate) fn write_huge_zeros(
        &self,
        fault: &Fault<'_>,
        pte: Pte,
        range: VirtRange,
    ) -> Result<Attempt, FaultError> {
        if fault.vma.anon.is_none() {
            return Err(FaultError::NeedsAnonVma);
        }
        let Some(page) = self.alloc_huge(fault, range) else {
            self.split(fault);
            return Ok(Attempt::Again);
        };
        let (mmu, nr_pages) = (&self.pages.mmu, page.order().nr_pages());
        let mut gather = self.pages.gather();
        let walk = mmu.walk(self.pages.tables);
        let replaced = match walk.as_ref().and_then(|walk| walk.pmd(range.start)) {
            Some(entry) => gather.replace(&entry, pte, page, Self::writable(fault.vma, fault.access)),
            _ => Err(page),
        };
        drop(walk);
        match replaced {
            Ok(_) => {
                self.pages.tables.add_rss(mmu.cpu(), PageKind::Anon, nr_pages.cast_signed());
                Ok(Attempt::Done)
            }
            Err(page) => {
                mmu.put(page);
                Ok(Attempt::Again)
            }
        }
    }

    /// Maps a large page by the entry for `range`, beside which `table` waits, and counts it. [`Attempt::Again`], and both go, if the entry is not empty.
    pub(crate) fn enter_huge(
        &self,
        range: VirtRange,
        page: PageRef,
        attributes: Attributes,
        table: FreshTable,
    ) -> Attempt {
        let (mmu, nr_pages) = (&self.pages.mmu, page.order().nr_pages());
        match mmu.install_large(self.pages.tables, range.start, page, attributes, table) {
            Ok(()) => {
                self.pages.tables.add_rss(mmu.cpu(), PageKind::Anon, nr_pages.cast_signed());
                Attempt::Done
            }
            Err(page) => {
                mmu.put(page);
                Attempt::Again
            }
        }
    }

    /// Allocates a large page of zeros for the area. Counts what came of it.
    fn alloc_huge(&self, fault: &Fault<'_>, range: VirtRange) -> Option<PageRef> {
        let objects = self.pages.mmu.objects();
        // Without a request of the process nobody waits for a large page (defrag: madvise).
        let asked = fault.vma.flags.contains(VmFlags::HUGEPAGE);
        let gfp = if asked { Gfp::TRANSHUGE } else { Gfp::TRANSHUGE_LIGHT };
        let block =
            objects.pages().alloc(self.pages.mmu.cpu(), gfp | Gfp::ZERO | Gfp::COMP, self.pages.mmu.large_order());
        let event = if block.is_ok() { VmEvent::ThpFaultAlloc } else { VmEvent::ThpFaultFallback };
        objects.vmstat().count_events(self.pages.mmu.cpu(), event, 1);
        let at = Fault { page: range.start, ..*fault };
        self.own(&at, block.ok()?).map_err(|block| self.give_back(block)).ok()
    }

    /// Splits the large page at the fault.
    pub(crate) fn split(&self, fault: &Fault<'_>) {
        self.pages.split_large(&mut self.pages.gather(), fault.page);
    }
}

/// Says what a fault comes to if tables could not be made.
fn made(outcome: Result<(), MakeError>) -> Result<(), FaultError> {
    match outcome {
        // Somebody else mapped a large page meanwhile, which will be found.
        Ok(()) | Err(MakeError::LargePage) => Ok(()),
        Err(MakeError::NoMemory) => Err(FaultError::NoMemory),
        Err(MakeError::NoUserAddress) => Err(FaultError::NotMapped),
    }
}
