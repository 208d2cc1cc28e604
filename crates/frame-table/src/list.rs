//! Doubly linked lists of free blocks, threaded through the descriptors by frame index.
//!
//! Every operation takes the table and costs O(1). A block on a list is marked with the list's kind ([`PageType::Buddy`] or
//! [`PageType::Pcp`]); taking it off checks the mark, so a frame cannot leave two lists.
//! Locking: `&mut self` is the protection of the list; it comes from the zone lock or the per-CPU section.

use units::{Order, Pfn};

use crate::frame::NIL;
use crate::{Frame, FrameTable, FreeBlock, OwnedBlock, PageType};

/// List of free blocks.
///
/// # Invariants
/// `head` is `NIL`, or it and `tail` are frames of the table; following `next` from `head` reaches `tail` in `len` frames, and
/// `prev` mirrors it. The head's `prev` means nothing, so taking the head touches no other descriptor. The tail of an empty list means
/// nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameList {
    head: u32,
    tail: u32,
    len: u32,
}

impl Default for FrameList {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameList {
    /// Makes an empty list.
    pub const fn new() -> Self {
        Self { head: NIL, tail: NIL, len: 0 }
    }

    /// Returns the number of blocks.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Returns true if there is no block.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.head == NIL
    }

    /// Returns the first block's frame.
    #[inline]
    pub fn front(&self, frames: &FrameTable) -> Option<Pfn> {
        (self.head != NIL).then(|| frames.pfn(self.head))
    }

    /// Adds a block at the head, marked as `kind`.
    #[inline]
    pub fn push_front(&mut self, frames: &FrameTable, block: FreeBlock, kind: PageType) {
        self.link_front(frames, block.pfn(), block.order(), kind);
    }

    #[inline(always)]
    fn link_front(&mut self, frames: &FrameTable, pfn: Pfn, order: Order, kind: PageType) {
        let index = frames.index(pfn);
        let frame = frames.at_index(index);
        frame.set_state(kind, order);
        frame.set_next(self.head);
        match frames.linked(self.head) {
            Some(head) => head.set_prev(index),
            None => self.tail = index,
        }
        self.head = index;
        self.len += 1;
    }

    /// Takes an owner's block back to the head, marked as `kind`: [`OwnedBlock::into_free`] and [`FrameList::push_front`] in one visit
    /// to the descriptor.
    #[inline(always)]
    pub fn push_front_owned(&mut self, frames: &FrameTable, block: OwnedBlock, kind: PageType) {
        block.dissolve(frames);
        self.link_front(frames, block.pfn(), block.order(), kind);
    }

    /// Adds a block at the tail, marked as `kind`.
    #[inline]
    pub fn push_back(&mut self, frames: &FrameTable, block: FreeBlock, kind: PageType) {
        let index = frames.index(block.pfn());
        let frame = frames.at_index(index);
        frame.set_state(kind, block.order());
        frame.set_next(NIL);
        frame.set_prev(self.tail);
        if self.head == NIL {
            self.head = index;
        } else {
            frames.at_index(self.tail).set_next(index);
        }
        self.tail = index;
        self.len += 1;
    }

    /// Takes the first block if it is marked as `kind` with `order`.
    #[inline]
    pub fn pop_front(&mut self, frames: &FrameTable, kind: PageType, order: Order) -> Option<FreeBlock> {
        let (index, frame) = self.unlink_front(frames, kind, order)?;
        frame.set_state(PageType::Detached, order);
        Some(FreeBlock::new(frames.pfn(index), order))
    }

    /// Hands the first block to an owner if it is marked as `kind` with `order`: [`FrameList::pop_front`] and [`FreeBlock::into_owned`] in
    /// one visit to the descriptor.
    #[inline(always)]
    pub fn pop_front_owned(&mut self, frames: &FrameTable, kind: PageType, order: Order) -> Option<OwnedBlock> {
        let (index, frame) = self.unlink_front(frames, kind, order)?;
        frame.reset_flags();
        frame.set_state(PageType::Owned, order);
        Some(OwnedBlock::new(frames.pfn(index), order))
    }

    #[inline(always)]
    fn unlink_front<'a>(&mut self, frames: &'a FrameTable, kind: PageType, order: Order) -> Option<(u32, &'a Frame)> {
        let index = self.head;
        let frame = frames.linked(index)?;
        if !frame.is(kind, order) {
            debug_assert!(false, "the head of a list carries the list's mark");
            return None;
        }
        self.head = frame.next();
        self.len -= 1;
        Some((index, frame))
    }

    /// Takes the last block if it is marked as `kind` with `order`.
    #[inline]
    pub fn pop_back(&mut self, frames: &FrameTable, kind: PageType, order: Order) -> Option<FreeBlock> {
        if self.head == NIL {
            return None;
        }
        let index = self.tail;
        let frame = frames.at_index(index);
        if !frame.is(kind, order) {
            debug_assert!(false, "the tail of a list carries the list's mark");
            return None;
        }
        frame.set_state(PageType::Detached, order);
        if self.head == index {
            self.head = NIL;
        } else {
            self.tail = frame.prev();
            frames.at_index(self.tail).set_next(NIL);
        }
        self.len -= 1;
        Some(FreeBlock::new(frames.pfn(index), order))
    }

    /// Takes a block from anywhere on this list if it is marked as `kind` with `order`.
    ///
    /// The caller knows that a block with this mark is on this list: the pageblock's type says which one it is.
    #[inline]
    pub fn remove(&mut self, frames: &FrameTable, pfn: Pfn, kind: PageType, order: Order) -> Option<FreeBlock> {
        let frame = frames.get(pfn)?;
        if !frame.is(kind, order) {
            return None;
        }
        if self.head == frames.index(pfn) {
            return self.pop_front(frames, kind, order);
        }
        frame.set_state(PageType::Detached, order);
        let (next, prev) = (frame.next(), frame.prev());
        if next == NIL {
            self.tail = prev;
        } else {
            frames.at_index(next).set_prev(prev);
        }
        frames.at_index(prev).set_next(next);
        self.len -= 1;
        Some(FreeBlock::new(pfn, order))
    }

    /// Iterates over the first frames of the blocks, head first.
    pub fn iter<'a>(&self, frames: &'a FrameTable) -> impl Iterator<Item = Pfn> + use<'a> {
        let (mut next, mut left) = (self.head, self.len);
        core::iter::from_fn(move || {
            if left == 0 || next == NIL {
                return None;
            }
            let pfn = frames.pfn(next);
            next = frames.at_index(next).next();
            left -= 1;
            Some(pfn)
        })
    }

    /// Walks the whole list and checks the type's invariants and the mark of every block.
    ///
    /// # Errors
    /// The first frame that breaks them, with the rule that it breaks.
    pub fn check(&self, frames: &FrameTable, kind: PageType, order: Order) -> Result<(), (Pfn, &'static str)> {
        let (mut index, mut prev) = (self.head, NIL);
        for _ in 0..self.len {
            if index == NIL {
                return Err((Pfn::ZERO, "the list ends before its length"));
            }
            let frame = frames.at_index(index);
            if !frame.is(kind, order) {
                return Err((frames.pfn(index), "a block on a list carries the list's mark and order"));
            }
            if prev != NIL && frame.prev() != prev {
                return Err((frames.pfn(index), "prev mirrors next"));
            }
            prev = index;
            index = frame.next();
        }
        if index != NIL || self.len > 0 && self.tail != prev {
            return Err((Pfn::ZERO, "the list ends at its tail after its length"));
        }
        Ok(())
    }
}
