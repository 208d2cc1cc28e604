//! Small pages that become a large one.
//!
//! The pages are made read-only, copied, and then exchanged; the area is locked against faults meanwhile, so that nobody makes them writable again.
//! Linux 6.12: mm/khugepaged.c (`hpage_collapse_scan_pmd`, `collapse_huge_page`, `__collapse_huge_page_copy`).

use address_space::{HugePolicy, MmError, PAGE_SHIFT, Release, Vma};
use frame_table::{OwnedBlock, PageBytes};
use object_allocator::mmu::{FreshTable, PageKind};
use object_allocator::vmstat::VmEvent;
use page_allocator::Hooks;
use page_tables::{MappedPage, ZapWhat};
use platform::{Level, Platform, Prot, TableFormat};
use units::{Gfp, Order, VirtRange};

use crate::context::{Attempt, Fault, FaultContext};
use crate::decide::AccessKind;
use crate::file_pages::FilePages;

/// How many entries of a large page's addresses may be otherwise than present and the process's own (Linux: /sys/kernel/mm/transparent_hugepage/khugepaged).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KhugepagedLimits {
    /// Entries without a page, or with the page of zeros (max_ptes_none).
    pub max_none: u64,
    /// Entries whose page others map too (max_ptes_shared).
    pub max_shared: u64,
}

impl KhugepagedLimits {
    /// Linux's defaults for large pages of 512 small ones.
    pub const DEFAULT: Self = Self { max_none: 511, max_shared: 256 };
}

/// What is mapped where a large page would be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Block {
    /// A large page already.
    Large,
    /// Small pages, which may be gathered.
    Small,
}

/// Why small pages are not gathered (Linux: `enum scan_result`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refusal {
    /// Nothing is there that may be written: no page at all, or none of its own. Not asked since 6.18.
    NothingWritable,
    /// No table of small pages, though the one above is there.
    NoTable,
    /// Somebody holds a page otherwise than by an entry.
    Held,
    /// A page is no anonymous one.
    NotAnon,
    /// More than the limits say.
    Exceeded,
    /// None was used since it was last asked.
    NotUsed,
    /// No memory for a large page.
    NoMemory,
}

impl Refusal {
    /// Returns what the call says that asked for it (Linux: `madvise_collapse_errno`).
    const fn error(self) -> MmError {
        match self {
            Self::Held => MmError::TryAgain,
            Self::NoMemory => MmError::NoMemory,
            _ => MmError::Invalid,
        }
    }

    /// Returns true if the pages behind are tried all the same.
    const fn goes_on(self) -> bool {
        matches!(self, Self::NothingWritable | Self::Held)
    }
}

/// The entries of a block, counted.
#[derive(Default)]
struct Survey {
    is_large: bool,
    present: u64,
    shared: u64,
    used: u64,
    is_writable: bool,
    refusal: Option<Refusal>,
}

impl Survey {
    fn see(&mut self, mapped: &MappedPage) {
        self.is_large |= mapped.order > Order::ZERO;
        self.is_writable |= mapped.attributes.prot.contains(Prot::WRITE);
        self.used += u64::from(mapped.attributes.prot.contains(Prot::ACCESSED));
        let Some(page) = mapped.page else { return };
        self.present += 1;
        self.shared += u64::from(page.mapcount > 1 && !mapped.exclusive);
        // Whoever holds the page otherwise, by a pin for instance, would go on with what nobody sees any more.
        let is_held = i64::from(page.count) > i64::from(page.mapcount);
        let refusal = match () {
            () if page.kind != PageKind::Anon => Some(Refusal::NotAnon),
            () if is_held => Some(Refusal::Held),
            () => None,
        };
        self.refusal = self.refusal.or(refusal);
    }

    /// Says what is to be done with a block of `entries` by the rules of `release`; without limits somebody asked for it.
    fn judge(&self, entries: u64, limits: Option<KhugepagedLimits>, release: Release) -> Result<Block, Refusal> {
        let exceeds = |limits: KhugepagedLimits| {
            entries.saturating_sub(self.present) > limits.max_none || self.shared > limits.max_shared
        };
        match (self.refusal, limits) {
            _ if self.is_large => Ok(Block::Large),
            (Some(refusal), _) => Err(refusal),
            (None, Some(limits)) if exceeds(limits) => Err(Refusal::Exceeded),
            _ if !self.is_writable && release < Release::V6_18 => Err(Refusal::NothingWritable),
            (None, Some(_)) if self.used == 0 => Err(Refusal::NotUsed),
            _ => Ok(Block::Small),
        }
    }
}

impl<P: Platform, H: Hooks, F: FilePages> FaultContext<'_, '_, P, H, F> {
    /// Puts the pages of `range`, in the area, into large pages, wherever a whole one fits (Linux: madvise_collapse).
    ///
    /// The caller holds the area locked for writing.
    ///
    /// # Errors
    /// [`MmError::Invalid`] if the area may have no large page, or a part has no page that may be written; [`MmError::NoMemory`]; [`MmError::TryAgain`] if somebody
    /// holds a page; [`MmError::NotSupported`] for files. The other large pages of the range may be made all the same.
    pub fn collapse(&self, vma: &Vma, range: VirtRange, release: Release) -> Result<(), MmError> {
        // Asking for it overrules a machine that leaves it to madvise.
        let policy = if self.huge.policy == HugePolicy::Never { HugePolicy::Never } else { HugePolicy::Always };
        let bytes = self.pages.mmu.format().leaf_bytes(Level::PMD);
        if !vma.is_anonymous() && holds_large(vma, bytes) && is_file_aligned(vma, bytes) {
            return Err(MmError::NotSupported);
        }
        let (first, end) = (range.start.align_up(bytes), range.end.align_down(bytes));
        if !policy.admits(vma) || vma.anon.is_none() || !holds_large(vma, bytes) || end < first {
            return Err(MmError::Invalid);
        }
        let (mut at, mut last) = (first, None);
        while at < end {
            if let Err(refusal) = self.gather_block(vma, VirtRange::with_len(at, bytes), None, release) {
                last = Some(refusal);
                if !refusal.goes_on() {
                    break;
                }
            }
            at = at.saturating_add(bytes);
        }
        last.map_or(Ok(()), |refusal| Err(refusal.error()))
    }

    /// Returns true if khugepaged looks at the area: it may have large pages, and has pages of its own (Linux: thp_vma_allowable_order).
    pub fn may_gather(&self, vma: &Vma) -> bool {
        vma.anon.is_some() && self.huge.policy.admits(vma)
    }

    /// Puts the pages of one large page's addresses into one, if `limits` permit it; returns true if it did (Linux: hpage_collapse_scan_pmd).
    ///
    /// The block lies in the area, which the caller holds locked for writing.
    pub fn khugepaged(&self, vma: &Vma, block: VirtRange, limits: KhugepagedLimits, release: Release) -> bool {
        self.may_gather(vma) && self.gather_block(vma, block, Some(limits), release) == Ok(Block::Small)
    }

    /// Puts the pages of a block into a large one if they may be; says what was there.
    fn gather_block(
        &self,
        vma: &Vma,
        block: VirtRange,
        limits: Option<KhugepagedLimits>,
        release: Release,
    ) -> Result<Block, Refusal> {
        let mut survey = Survey::default();
        self.pages.for_each_mapped(block, |page| survey.see(&page));
        if self.pages.lowest_entry(block.start) == Some((Level::PMD, true)) {
            return Err(Refusal::NoTable);
        }
        let found = survey.judge(self.pages.mmu.large_order().nr_pages(), limits, release)?;
        if found == Block::Small {
            self.exchange_block(vma, block)?;
        }
        Ok(found)
    }

    fn exchange_block(&self, vma: &Vma, block: VirtRange) -> Result<(), Refusal> {
        let objects = self.pages.mmu.objects();
        let gfp = Gfp::TRANSHUGE | Gfp::ZERO | Gfp::COMP;
        let large = objects.pages().alloc(self.pages.mmu.cpu(), gfp, self.pages.mmu.large_order());
        let event = if large.is_ok() { VmEvent::ThpCollapseAlloc } else { VmEvent::ThpCollapseAllocFailed };
        objects.vmstat().count_events(self.pages.mmu.cpu(), event, 1);
        let large = large.map_err(|_| Refusal::NoMemory)?;
        let Ok(table) = self.pages.mmu.alloc_table(Gfp::KERNEL) else {
            objects.pages().free(self.pages.mmu.cpu(), large);
            return Err(Refusal::NoMemory);
        };
        self.forbid_writes(block);
        if self.copy_block(block, &large).is_err() {
            objects.pages().free(self.pages.mmu.cpu(), large);
            self.pages.mmu.free_fresh(table);
            return Err(Refusal::NoMemory);
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

    fn install_block(&self, vma: &Vma, block: VirtRange, large: OwnedBlock, table: FreshTable) -> Result<(), Refusal> {
        let fault = Fault { vma, page: block.start, access: AccessKind::Write };
        let page = match self.own(&fault, large) {
            Ok(page) => page,
            Err(large) => {
                self.give_back(large);
                self.pages.mmu.free_fresh(table);
                return Err(Refusal::NotAnon);
            }
        };
        let entered = self.enter_huge(block, page, Self::writable(vma, AccessKind::Write), table);
        debug_assert!(entered == Attempt::Done, "nobody fills an area that is locked for writing");
        Ok(())
    }
}

/// Returns true if a large page fits into the area (Linux: `thp_vma_suitable_order`).
fn holds_large(vma: &Vma, bytes: u64) -> bool {
    vma.start().align_up(bytes) < vma.end().align_down(bytes)
}

/// Returns true if large pages of the file would lie at the same addresses as large pages of the area.
fn is_file_aligned(vma: &Vma, bytes: u64) -> bool {
    vma.start().raw().wrapping_sub(vma.pgoff << PAGE_SHIFT).is_multiple_of(bytes)
}
