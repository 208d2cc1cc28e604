//! Lists of chunks by how much fits into them.
//!
//! Chunks lie in their own metadata pages and are linked through them. Locking: all under `rank::PERCPU`.
//! Linux 6.12: `pcpu_chunk_lists`, `pcpu_size_to_slot`, `pcpu_chunk_slot`, `pcpu_chunk_move`.

use core::ptr::NonNull;

use super::MIN_ALLOC_SIZE;
use super::chunk::Chunk;

/// Neighbours of a chunk on its list.
#[derive(Default)]
pub(super) struct Links {
    next: Option<NonNull<Chunk>>,
    previous: Option<NonNull<Chunk>>,
}

/// Number of a list. The order is that in which a request looks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Slot(u8);

impl Slot {
    /// Chunks into which nothing fits.
    pub(super) const FULL: Self = Self(0);
    /// Chunks that are used only when all others are full, so that they empty.
    pub(super) const SIDELINED: Self = Self(29);
    /// Chunks without an area.
    pub(super) const FREE: Self = Self(30);
    /// Chunks whose empty pages are to be given back; no request looks here.
    pub(super) const TO_DEPOPULATE: Self = Self(31);
    /// The reserved chunk; only requests for it look here.
    pub(super) const RESERVED: Self = Self(32);
    /// On no list.
    pub(super) const NONE: Self = Self(u8::MAX);
    /// Number of lists.
    pub(super) const COUNT: usize = 33;
    /// Sizes up to this share the lists below the first power of two.
    const BASE_SHIFT: u32 = 5;

    /// Returns the first list where a request of `size` bytes looks.
    pub(super) fn for_size(size: usize) -> Self {
        let highest_bit = usize::BITS - size.leading_zeros();
        let slot = (highest_bit + 2).saturating_sub(Self::BASE_SHIFT).max(1);
        Self(u8::try_from(slot).unwrap_or(u8::MAX).min(Self::SIDELINED.0 - 1))
    }

    /// Returns the list of a chunk in normal use.
    pub(super) fn of(chunk: &Chunk) -> Self {
        if chunk.nr_alloc == 0 {
            Self::FREE
        } else if chunk.map.free_bytes() < MIN_ALLOC_SIZE || chunk.map.largest_bytes() == 0 {
            Self::FULL
        } else {
            Self::for_size(chunk.map.largest_bytes())
        }
    }

    /// Iterates from this list to `last`.
    pub(super) fn through(self, last: Self) -> impl Iterator<Item = Self> + use<> {
        (self.0..=last.0).map(Self)
    }

    /// Returns the number as an array index; `None` for [`Slot::NONE`].
    fn index(self) -> Option<usize> {
        Some(usize::from(self.0)).filter(|&index| index < Self::COUNT)
    }
}

/// All lists.
///
/// # Invariants
/// Every chunk on a list exists, is on one list only, knows it as its `slot`, and is reached through these lists by one caller at a time.
pub(super) struct ChunkLists {
    heads: [Option<NonNull<Chunk>>; Slot::COUNT],
}

// SAFETY: chunks are reached through the lists alone, so they move with them.
unsafe impl Send for ChunkLists {}

impl ChunkLists {
    pub(super) const fn new() -> Self {
        Self { heads: [None; Slot::COUNT] }
    }

    /// Returns a chunk.
    ///
    /// # Safety
    /// The chunk is on one of these lists, or about to be.
    pub(super) unsafe fn chunk(&mut self, mut chunk: NonNull<Chunk>) -> &mut Chunk {
        // SAFETY: by the type invariant the chunk exists, and `&mut self` makes this the only way to it.
        unsafe { chunk.as_mut() }
    }

    /// Returns the first chunk of a list.
    pub(super) fn first(&self, slot: Slot) -> Option<NonNull<Chunk>> {
        self.heads.get(slot.index()?).copied().flatten()
    }

    /// Returns the chunk behind another one on its list.
    ///
    /// # Safety
    /// The chunk is on one of these lists.
    pub(super) unsafe fn next(&mut self, chunk: NonNull<Chunk>) -> Option<NonNull<Chunk>> {
        // SAFETY: the caller's contract.
        unsafe { self.chunk(chunk) }.links.next
    }

    /// Puts a chunk at the head of a list.
    ///
    /// # Safety
    /// The chunk exists, is on no list, and whoever removes it does so before it ceases to exist.
    pub(super) unsafe fn insert(&mut self, chunk: NonNull<Chunk>, slot: Slot) {
        let Some(index) = slot.index() else { return };
        let head = self.heads.get(index).copied().flatten();
        // SAFETY: the caller's contract; on no list, nobody else reaches it.
        let inserted = unsafe { self.chunk(chunk) };
        inserted.links = Links { next: head, previous: None };
        inserted.slot = slot;
        if let Some(head) = head {
            // SAFETY: it is the head of a list.
            unsafe { self.chunk(head) }.links.previous = Some(chunk);
        }
        if let Some(place) = self.heads.get_mut(index) {
            *place = Some(chunk);
        }
    }

    /// Takes a chunk off its list.
    ///
    /// # Safety
    /// The chunk is on one of these lists.
    pub(super) unsafe fn remove(&mut self, chunk: NonNull<Chunk>) {
        // SAFETY: the caller's contract.
        let removed = unsafe { self.chunk(chunk) };
        let (slot, Links { next, previous }) = (removed.slot, core::mem::take(&mut removed.links));
        removed.slot = Slot::NONE;
        if let Some(next) = next {
            // SAFETY: neighbours are on the same list.
            unsafe { self.chunk(next) }.links.previous = previous;
        }
        match (previous, slot.index()) {
            // SAFETY: neighbours are on the same list.
            (Some(previous), _) => unsafe { self.chunk(previous) }.links.next = next,
            (None, Some(index)) => {
                if let Some(head) = self.heads.get_mut(index) {
                    *head = next;
                }
            }
            (None, None) => {}
        }
    }

    /// Moves a chunk to the head of another list; stays where it is if that is its list.
    ///
    /// # Safety
    /// The chunk is on one of these lists.
    pub(super) unsafe fn relocate(&mut self, chunk: NonNull<Chunk>, slot: Slot) {
        // SAFETY: the caller's contract.
        if unsafe { self.chunk(chunk) }.slot != slot {
            // SAFETY: the caller's contract.
            unsafe { self.remove(chunk) };
            // SAFETY: just taken off its list; it exists as long as the caller's contract says.
            unsafe { self.insert(chunk, slot) };
        }
    }

    /// Calls `visit` with every chunk.
    pub(super) fn for_each(&mut self, mut visit: impl FnMut(&mut Chunk)) {
        for slot in Slot::FULL.through(Slot::RESERVED) {
            let mut at = self.first(slot);
            while let Some(chunk) = at {
                // SAFETY: found on a list.
                let chunk = unsafe { self.chunk(chunk) };
                at = chunk.links.next;
                visit(chunk);
            }
        }
    }
}
