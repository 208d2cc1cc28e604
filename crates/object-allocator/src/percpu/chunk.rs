//! A chunk: a unit of address space for each CPU, its map of areas and the pages behind it.
//!
//! Used by `allocator`, `population` and `balance` under the chunks' lock, except rows, which are read without it.
//! Linux 6.12: `struct pcpu_chunk`, `pcpu_init_md_blocks`, `pcpu_update_empty_pages`.

use core::ops::Range;

use collections::BootSlice;
use units::PfnRange;

use super::area_map::AreaMap;
use super::bits;
use super::chunk_list::{Links, Slot};
use super::row::{Row, Rows};

/// What a chunk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ChunkKind {
    /// Part of the first units, for modules.
    Reserved,
    /// Part of the first units, for everybody.
    First,
    /// Made of pages of the machine; `metadata` holds the chunk itself.
    Dynamic { metadata: PfnRange },
}

/// State of a chunk's pages.
///
/// # Invariants
/// A page is `populated` if its row has a pointer to a page of its own for each CPU. A `busy` page has one owner, who may change its row and
/// frames without the lock; it is not populated and the chunk is not destroyed meanwhile. `joined` is set for a page whose next page
/// follows it in memory on every CPU.
pub(super) struct PageStates {
    pub(super) populated: BootSlice<u64>,
    pub(super) busy: BootSlice<u64>,
    pub(super) joined: BootSlice<u64>,
}

impl PageStates {
    /// Returns whether an area may touch all of `pages`: either they are there and, if several, contiguous; or none of them is there, and
    /// `missing` pages are acceptable.
    fn may_use(&self, pages: &Range<usize>, missing: MissingPages) -> bool {
        if bits::next_set(&self.busy, pages.clone()) < pages.end {
            return false;
        }
        if bits::next_clear(&self.populated, pages.clone()) == pages.end {
            return bits::next_clear(&self.joined, pages.start..pages.end - 1) == pages.end - 1;
        }
        missing == MissingPages::Accept && bits::next_set(&self.populated, pages.clone()) == pages.end
    }
}

/// A chunk. Its counters are those of its maps.
pub(super) struct Chunk {
    pub(super) links: Links,
    pub(super) slot: Slot,
    pub(super) kind: ChunkKind,
    pub(super) map: AreaMap,
    /// Taken from normal use until its empty pages are given back.
    pub(super) isolated: Isolation,
    pub(super) rows: Rows,
    states: PageStates,
    pub(super) nr_populated: usize,
    pub(super) nr_empty_populated: usize,
    pub(super) nr_alloc: usize,
    pub(super) max_alloc_size: usize,
}

/// Whether a chunk is being emptied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Isolation {
    /// In normal use.
    None,
    /// Used last, so that its pages come free.
    Isolated,
}

/// How a claim ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// The pages are there.
    Populated,
    /// They are not.
    Missing,
}

/// Memory for a chunk.
pub(super) struct ChunkRoom {
    pub(super) rows: Rows,
    pub(super) states: PageStates,
}

/// Whether a chunk's pages are there from the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pages {
    /// One after the other on each CPU.
    Embedded,
    /// None yet.
    OnDemand,
}

impl Chunk {
    /// Makes a chunk on no list.
    pub(super) fn new(kind: ChunkKind, map: AreaMap, mut room: ChunkRoom, pages: Pages) -> Self {
        let nr_pages = map.pages();
        let PageStates { populated, busy, joined } = &mut room.states;
        for bitmap in [&mut *populated, busy, &mut *joined] {
            bitmap.fill(0);
        }
        let (mut nr_populated, mut nr_empty_populated) = (0, 0);
        if pages == Pages::Embedded {
            bits::set(populated, 0..nr_pages);
            bits::set(joined, 0..nr_pages.saturating_sub(1));
            nr_populated = nr_pages;
            nr_empty_populated = (0..nr_pages).filter(|&page| map.is_empty(page)).count();
        }
        // INVARIANT: the rows of embedded pages are filled by the caller; no page is busy.
        Self {
            links: Links::default(),
            slot: Slot::NONE,
            kind,
            map,
            isolated: Isolation::None,
            rows: room.rows,
            states: room.states,
            nr_populated,
            nr_empty_populated,
            nr_alloc: 0,
            max_alloc_size: 0,
        }
    }

    /// Returns the row of a page.
    pub(super) fn row(&self, page: usize) -> Row {
        debug_assert!(page < self.map.pages(), "a row is asked for a page of the chunk");
        // SAFETY: areas lie inside the map, so the page is one of the chunk.
        unsafe { self.rows.row(page) }
    }

    /// Returns true if nobody has an area in the chunk and no page is on its way.
    pub(super) fn is_unused(&self) -> bool {
        self.nr_alloc == 0 && bits::next_set(&self.states.busy, 0..self.map.pages()) == self.map.pages()
    }

    /// Returns whether the page holds memory.
    pub(super) fn is_populated(&self, page: usize) -> bool {
        bits::is_set(&self.states.populated, page)
    }

    /// Takes an area. Returns its offset.
    pub(super) fn take(&mut self, size: usize, align: usize, missing: MissingPages) -> Option<usize> {
        let states = &self.states;
        let taken = self.map.take(size, align, |pages| states.may_use(&pages, missing))?;
        if self.is_populated(self.map.pages_of(taken.offset, size).start) {
            self.nr_empty_populated -= taken.were_empty;
        }
        self.nr_alloc += 1;
        self.max_alloc_size = self.max_alloc_size.max(size);
        Some(taken.offset)
    }

    /// Gives an area back. Returns its size, rounded up to steps.
    pub(super) fn give_back(&mut self, offset: usize) -> Option<usize> {
        let size = self.map.give_back(offset)?;
        let touched = self.map.pages_of(offset, size);
        self.nr_empty_populated += self.count_empty(touched);
        self.nr_alloc -= 1;
        Some(size)
    }

    fn count_empty(&self, mut pages: Range<usize>) -> usize {
        pages.by_ref().filter(|&page| self.is_populated(page) && self.map.is_empty(page)).count()
    }

    /// Returns the populated pages without an area that requests can count on.
    pub(super) fn spare_pages(&self) -> usize {
        let counted = self.kind != ChunkKind::Reserved && self.isolated == Isolation::None;
        if counted { self.nr_empty_populated } else { 0 }
    }

    /// Claims pages that are not populated.
    pub(super) fn claim(&mut self, pages: Range<usize>) {
        debug_assert!(bits::next_set(&self.states.busy, pages.clone()) == pages.end, "a busy page has one owner");
        bits::set(&mut self.states.busy, pages);
    }

    /// Ends a claim. If the pages are there now, they follow each other on every CPU.
    pub(super) fn end_claim(&mut self, pages: Range<usize>, ended: Ended) {
        bits::clear(&mut self.states.busy, pages.clone());
        if ended == Ended::Populated {
            bits::set(&mut self.states.populated, pages.clone());
            bits::set(&mut self.states.joined, pages.start..pages.end - 1);
            self.nr_populated += pages.len();
            self.nr_empty_populated += self.count_empty(pages);
        }
    }

    /// Finds the last populated page without an area and claims it, to be given back.
    pub(super) fn claim_empty(&mut self) -> Option<usize> {
        let page = (0..self.map.pages()).rev().find(|&page| self.is_populated(page) && self.map.is_empty(page))?;
        bits::clear(&mut self.states.populated, page..page + 1);
        bits::clear(&mut self.states.joined, page.saturating_sub(1)..page + 1);
        bits::set(&mut self.states.busy, page..page + 1);
        self.nr_populated -= 1;
        self.nr_empty_populated -= 1;
        Some(page)
    }

    /// Finds the first page that is neither populated nor on its way.
    pub(super) fn first_missing(&self) -> Option<usize> {
        (0..self.map.pages()).find(|&page| !self.is_populated(page) && !bits::is_set(&self.states.busy, page))
    }

    /// Checks the type's invariants.
    ///
    /// # Errors
    /// The rule that is broken.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        self.map.check()?;
        let pages = || 0..self.map.pages();
        if pages().filter(|&page| self.is_populated(page)).count() != self.nr_populated {
            return Err("a chunk's populated pages are the bits of its map");
        }
        if self.count_empty(pages()) != self.nr_empty_populated {
            return Err("a chunk's empty populated pages are counted");
        }
        if pages()
            .any(|page| !self.map.is_empty(page) && !self.is_populated(page) && !bits::is_set(&self.states.busy, page))
        {
            return Err("a page with an area is populated");
        }
        if self.map.sizes().count() != self.nr_alloc {
            return Err("a chunk's areas are counted");
        }
        // SAFETY: the chunk exists.
        let has_row = |page: usize| self.rows.cpus().all(|cpu| unsafe { self.row(page).get(cpu) }.is_some());
        if pages().any(|page| self.is_populated(page) && !has_row(page)) {
            return Err("a populated page lies somewhere for every CPU");
        }
        Ok(())
    }
}

/// What a request thinks of pages without memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MissingPages {
    /// They can be populated.
    Accept,
    /// The request is atomic.
    Refuse,
}
