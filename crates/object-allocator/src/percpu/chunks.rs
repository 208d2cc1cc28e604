//! All chunks of an allocator, as its lock guards them.
//!
//! Linux 6.12: `pcpu_update_empty_pages`, `pcpu_chunk_relocate`, `pcpu_isolate_chunk`, `pcpu_reintegrate_chunk`, `pcpu_should_reclaim_chunk`.

use core::ptr::NonNull;

use super::EMPTY_POPULATED_HIGH;
use super::area::PercpuArea;
use super::chunk::{Chunk, ChunkKind, Isolation, MissingPages};
use super::chunk_list::{ChunkLists, Slot};
use super::first_chunk::FirstChunk;
use super::population::Claim;
use super::statistics::Counts;

/// A chunk is worth emptying if this share of its pages is empty (Linux: PCPU_EMPTY_POP_RECLAIM_THRESHOLD).
const RECLAIM_SHARE: usize = 4;

/// Which chunks a request looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// The reserved one.
    Reserved,
    /// All others.
    Dynamic,
}

/// A checked request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    pub(super) size: usize,
    pub(super) align: usize,
    pub(super) part: Part,
    pub(super) missing: MissingPages,
}

/// An area that was found.
pub(super) struct Found {
    pub(super) area: PercpuArea,
    /// Pages that the area touches and nobody has populated.
    pub(super) claim: Option<Claim>,
}

/// Whether pages or chunks should be made or given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Balance {
    Wanted,
    Fine,
}

/// What the allocator's lock guards.
pub(super) struct Chunks {
    pub(super) lists: ChunkLists,
    pub(super) counts: Counts,
    /// Populated pages without an area, of chunks that are in normal use and not reserved.
    pub(super) nr_empty_populated: usize,
    /// Populated pages of all chunks and of the static part.
    pub(super) nr_populated: usize,
    /// Of these, the pages of the first unit.
    nr_embedded: usize,
}

impl Chunks {
    pub(super) const fn new() -> Self {
        let counts = Counts::new();
        Self { lists: ChunkLists::new(), counts, nr_empty_populated: 0, nr_populated: 0, nr_embedded: 0 }
    }

    /// Lists the chunks of boot.
    pub(super) fn list_first(&mut self, first: &FirstChunk) {
        let parts = [first.reserved().map(|chunk| (chunk, Slot::RESERVED)), Some((first.chunk(), Slot::FREE))];
        for (chunk, slot) in parts.into_iter().flatten() {
            // SAFETY: the first chunk's parts are on no list, nobody else has them, and they are never destroyed.
            unsafe { self.lists.insert(chunk, slot) };
            // SAFETY: just listed.
            self.nr_empty_populated += unsafe { self.lists.chunk(chunk) }.spare_pages();
            self.counts.note_chunk();
        }
        // Parts share a page where one ends, so the pages are those of the unit.
        self.nr_embedded = first.sizes().used() >> first.page_shift();
        self.nr_populated += self.nr_embedded;
    }

    /// Changes a chunk and counts what that did to its pages.
    ///
    /// # Safety
    /// The chunk is on one of the lists.
    pub(super) unsafe fn change<R>(&mut self, chunk: NonNull<Chunk>, change: impl FnOnce(&mut Chunk) -> R) -> R {
        // SAFETY: the caller's contract.
        let chunk = unsafe { self.lists.chunk(chunk) };
        let (populated, spare) = (chunk.nr_populated, chunk.spare_pages());
        let result = change(chunk);
        let (populated_after, spare_after) = (chunk.nr_populated, chunk.spare_pages());
        self.nr_populated = self.nr_populated + populated_after - populated;
        self.nr_empty_populated = self.nr_empty_populated + spare_after - spare;
        result
    }

    /// Takes an area from a chunk, and claims the pages that it lacks.
    ///
    /// # Safety
    /// The chunk is on one of the lists.
    pub(super) unsafe fn take_from(&mut self, chunk: NonNull<Chunk>, want: &Want) -> Option<Found> {
        let take = |taken: &mut Chunk| {
            let offset = taken.take(want.size, want.align, want.missing)?;
            // What is used is in normal use again.
            taken.isolated = Isolation::None;
            let touched = taken.map.pages_of(offset, want.size);
            let row = taken.row(touched.start);
            let in_page = offset % taken.map.page_bytes();
            let missing = !taken.is_populated(touched.start);
            if missing {
                taken.claim(touched.clone());
            }
            // INVARIANT: the map gave the area to nobody else; the row is that of its first page, and its pages follow each other.
            let area = PercpuArea {
                row,
                chunk: Some(chunk),
                offset: offset as u32,
                in_page: in_page as u32,
                size: want.size as u32,
            };
            // INVARIANT: just marked busy.
            Some(Found { area, claim: missing.then_some(Claim { chunk, rows: taken.rows, pages: touched }) })
        };
        // SAFETY: the caller's contract.
        let found = unsafe { self.change(chunk, take) }?;
        self.counts.note_alloc(want.size);
        // SAFETY: the caller's contract.
        unsafe { self.relocate(chunk) };
        Some(found)
    }

    /// Puts a chunk on the list for what still fits into it.
    ///
    /// # Safety
    /// The chunk is on one of the lists.
    unsafe fn relocate(&mut self, chunk: NonNull<Chunk>) {
        // SAFETY: the caller's contract.
        let found = unsafe { self.lists.chunk(chunk) };
        if found.kind != ChunkKind::Reserved && found.isolated == Isolation::None {
            let slot = Slot::of(found);
            // SAFETY: the caller's contract.
            unsafe { self.lists.relocate(chunk, slot) };
        }
    }

    /// Decides where a chunk belongs after an area in it was freed.
    ///
    /// # Safety
    /// The chunk is on one of the lists.
    pub(super) unsafe fn settle(&mut self, chunk: NonNull<Chunk>) -> Balance {
        // SAFETY: the caller's contract.
        if unsafe { self.lists.chunk(chunk) }.nr_alloc == 0 {
            // SAFETY: the caller's contract.
            unsafe { self.reintegrate(chunk) };
        }
        // SAFETY: the caller's contract.
        unsafe { self.relocate(chunk) };
        let all_empty = self.nr_empty_populated;
        // SAFETY: the caller's contract.
        let found = unsafe { self.lists.chunk(chunk) };
        if !matches!(found.kind, ChunkKind::Dynamic { .. }) {
            return Balance::Fine;
        }
        let empty = found.nr_empty_populated;
        let many = all_empty > EMPTY_POPULATED_HIGH + empty && empty >= found.map.pages() / RECLAIM_SHARE;
        let isolated = found.isolated == Isolation::Isolated;
        if found.nr_alloc == 0 {
            // One free chunk is kept, a second one is to go.
            let others = self.lists.first(Slot::FREE).is_some_and(|first| {
                // SAFETY: the head of a list.
                first != chunk || unsafe { self.lists.next(first) }.is_some()
            });
            return if others { Balance::Wanted } else { Balance::Fine };
        }
        if isolated && empty > 0 || many {
            // SAFETY: the caller's contract.
            unsafe { self.change(chunk, |chunk| chunk.isolated = Isolation::Isolated) };
            // SAFETY: the caller's contract.
            unsafe { self.lists.relocate(chunk, Slot::TO_DEPOPULATE) };
            return Balance::Wanted;
        }
        Balance::Fine
    }

    /// Puts an isolated chunk back into normal use.
    ///
    /// # Safety
    /// The chunk is on one of the lists.
    pub(super) unsafe fn reintegrate(&mut self, chunk: NonNull<Chunk>) {
        // SAFETY: the caller's contract.
        unsafe { self.change(chunk, |chunk| chunk.isolated = Isolation::None) };
        // SAFETY: the caller's contract.
        unsafe { self.relocate(chunk) };
    }

    /// Checks every chunk and the sums over them.
    ///
    /// # Errors
    /// The rule that is broken.
    pub(super) fn check(&mut self) -> Result<(), &'static str> {
        let (mut result, mut populated, mut spare) = (Ok(()), self.nr_embedded, 0);
        self.lists.for_each(|chunk| {
            result = result.and_then(|()| chunk.check());
            if matches!(chunk.kind, ChunkKind::Dynamic { .. }) {
                populated += chunk.nr_populated;
            }
            spare += chunk.spare_pages();
        });
        result?;
        if (populated, spare) != (self.nr_populated, self.nr_empty_populated) {
            return Err("populated and empty pages of all chunks add up");
        }
        Ok(())
    }
}
