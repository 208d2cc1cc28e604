//! The bitmap of one node and the place of the last allocation.
//!
//! Linux 2.6 to 4.19: mm/bootmem.c (`bootmem_data_t`, `__free`, `__reserve`, `alloc_bootmem_bdata`,
//! `free_all_bootmem_core`).

use core::ops::Range;

use collections::BootSlice;
use units::{NodeId, Order, Pfn, PfnRange, PhysAddr, PhysRange};

use super::alloc::BootmemRequest;
use super::bitmap::Bitmap;
use super::{BootmemError, Overlap};

/// Pages of one word of the bitmap, which are freed as one block of this order when all are free.
const WORD_ORDER: Order = Order::new_truncate(6);

/// One node.
#[derive(Debug)]
pub(super) struct BootmemNode {
    node: NodeId,
    frames: PfnRange,
    map_frames: PfnRange,
    map: Bitmap,
    page_shift: u32,
    /// Byte after the last allocation, from the start of the node. The rest of its page is used by the next one.
    last_end_offset: u64,
    /// Page index at which searches begin: nothing was freed below it since the last allocation.
    hint: u64,
}

impl BootmemNode {
    /// Makes a node without free pages; `None` if the bitmap is too small.
    pub(super) fn new(
        node: NodeId,
        frames: PfnRange,
        map_frames: PfnRange,
        map: BootSlice<u64>,
        page_shift: u32,
    ) -> Option<Self> {
        let map = Bitmap::new(map, frames.nr_pages())?;
        Some(Self { node, frames, map_frames, map, page_shift, last_end_offset: 0, hint: 0 })
    }

    pub(super) const fn node(&self) -> NodeId {
        self.node
    }

    pub(super) const fn frames(&self) -> PfnRange {
        self.frames
    }

    const fn indexes(&self, frames: PfnRange) -> Range<u64> {
        frames.start.since(self.frames.start)..frames.end.since(self.frames.start)
    }

    pub(super) fn is_free(&self, pfn: Pfn) -> bool {
        self.frames.contains(pfn) && !self.map.is_set(pfn.since(self.frames.start))
    }

    /// Fails if a page of `frames`, which lie on this node, is free.
    pub(super) fn check_reserved(&self, frames: PfnRange) -> Result<(), BootmemError> {
        match self.map.first_clear(self.indexes(frames)) {
            Some(index) => Err(BootmemError::NotReserved(self.frames.start.add(index))),
            None => Ok(()),
        }
    }

    /// Fails if a page of `frames` is reserved and `overlap` refuses that.
    pub(super) fn check_free(&self, frames: PfnRange, overlap: Overlap) -> Result<(), BootmemError> {
        match self.map.first_set(self.indexes(frames)) {
            Some(index) if overlap == Overlap::Refused => Err(BootmemError::Busy(self.frames.start.add(index))),
            _ => Ok(()),
        }
    }

    /// Frees pages of this node.
    pub(super) fn free(&mut self, frames: PfnRange) {
        let indexes = self.indexes(frames);
        self.hint = self.hint.min(indexes.start);
        self.map.clear(indexes);
    }

    /// Reserves pages of this node.
    pub(super) fn reserve(&mut self, frames: PfnRange) {
        self.map.set(self.indexes(frames));
    }

    /// Takes the lowest range that fits, from the hint on and then from the goal or the start of the node.
    pub(super) fn alloc(&mut self, request: &BootmemRequest) -> Option<PhysRange> {
        let limit = request.limit.map_or(self.frames.end, |limit| limit.pfn_down(self.page_shift).min(self.frames.end));
        let step = (request.align >> self.page_shift).max(1);
        let goal = request.goal.pfn_down(self.page_shift);
        let from = if self.frames.start < goal && goal < limit { goal } else { self.frames.start };
        let first = from.align_up(step).since(self.frames.start);
        let end = limit.since(self.frames.start);
        let hinted = (self.hint > first).then(|| self.align_index(self.hint, step));
        let nr_pages = PhysAddr::new(request.size).pfn_up(self.page_shift).raw();
        let starts = [hinted, Some(first)];
        let index = starts.into_iter().flatten().find_map(|start| self.find_run(start..end, nr_pages, step))?;
        Some(self.take(index, request))
    }

    /// Returns the lowest multiple of `step` at which `nr_pages` pages of `range` are free.
    fn find_run(&self, range: Range<u64>, nr_pages: u64, step: u64) -> Option<u64> {
        let mut index = range.start;
        loop {
            index = self.align_index(self.map.first_clear(index..range.end)?, step);
            let run = index..index.checked_add(nr_pages).filter(|&end| end <= range.end)?;
            match self.map.first_set(run) {
                None => return Some(index),
                Some(busy) => index = self.align_index(busy + 1, step),
            }
        }
    }

    /// Reserves `request.size` bytes at page `index`, or from the end of the last allocation on if that is on the page before.
    ///
    /// Linux does not look whether that page has been freed since; here it must still be reserved.
    fn take(&mut self, index: u64, request: &BootmemRequest) -> PhysRange {
        let page_offset = index << self.page_shift;
        let last = PhysAddr::new(self.last_end_offset);
        let partial = last.align_down(1 << self.page_shift) != last;
        let last_page = last.pfn_down(self.page_shift).raw();
        let reuses = partial && last_page + 1 == index && self.map.is_set(last_page);
        let base = self.frames.start.phys(self.page_shift);
        let start = if reuses {
            base.saturating_add(self.last_end_offset).align_up(request.align)
        } else {
            base.saturating_add(page_offset)
        };
        let taken = PhysRange::with_len(start, request.size);
        self.last_end_offset = taken.end.since(base);
        let end_index = PhysAddr::new(self.last_end_offset).pfn_up(self.page_shift).raw();
        self.hint = end_index;
        self.map.set(index.min(end_index)..end_index);
        taken
    }

    /// Rounds a page index up so that the frame is a multiple of `step`.
    const fn align_index(&self, index: u64, step: u64) -> u64 {
        self.frames.start.add(index).align_up(step).since(self.frames.start)
    }

    /// Releases the free pages and those of the bitmap, and returns how many there were.
    pub(super) fn free_all(self, release: &mut impl FnMut(Pfn, Order)) -> u64 {
        let word_pages = WORD_ORDER.nr_pages();
        let mut released = self.map_frames.nr_pages();
        let mut pfn = self.frames.start;
        while pfn < self.frames.end {
            let free = self.map.clear_bits_from(pfn.since(self.frames.start));
            let next = pfn.add(1).align_up(word_pages);
            if free == u64::MAX && pfn.is_aligned(WORD_ORDER) {
                release(pfn, WORD_ORDER);
                released += word_pages;
            } else {
                for offset in (0..next.since(pfn)).filter(|offset| free >> offset & 1 == 1) {
                    release(pfn.add(offset), Order::ZERO);
                    released += 1;
                }
            }
            pfn = next;
        }
        self.map_frames.iter().for_each(|pfn| release(pfn, Order::ZERO));
        released
    }

    pub(super) fn check_invariants(&self) {
        assert_eq!(self.map.len(), self.frames.nr_pages(), "one bit a page");
        self.map.check_invariants();
    }
}
