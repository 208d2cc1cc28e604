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
/// `head` is `NIL`, or it and `tail` are frames of the table; following `next` from `head` reaches `tail`, and `prev` mirrors it. The head's `prev` means
/// nothing, so taking the head touches no other descriptor. The tail of an empty list means nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameList {
    head: u32,
    tail: u32,
}

impl Default for FrameList {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameList {
    /// Makes an empty list.
    pub const fn new() -> Self {
        Self { head: NIL, tail: NIL }
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
        self.link_front(frames, frames.at(block.pfn()), frames.index(block.pfn()), block.order(), kind);
    }

    /// Takes an owner's block back to the head, marked as `kind`: [`OwnedBlock::into_free`] and [`FrameList::push_front`] in one visit
    /// to the descriptor. Gives back a compound page, and a block of another table.
    #[inline(always)]
    pub fn push_front_owned(&mut self, frames: &FrameTable, block: OwnedBlock, kind: PageType) -> Option<OwnedBlock> {
        let Some(frame) = frames.get(block.pfn()) else { return Some(block) };
        if block.is_compound() {
            return Some(block);
        }
        self.link_front(frames, frame, frames.index(block.pfn()), block.order(), kind);
        None
    }

    #[inline(always)]
    fn link_front(&mut self, frames: &FrameTable, frame: &Frame, index: u32, order: Order, kind: PageType) {
        frame.set_state(kind, order);
        frame.set_next(self.head);
        match frames.linked(self.head) {
            Some(head) => head.set_prev(index),
            None => self.tail = index,
        }
        self.head = index;
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
        debug_assert!(frame.has_clean_flags(), "a free block has no flags");
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
        Some((index, frame))
    }

    /// Moves up to `count` blocks from the head to the tail of `to`, where they keep their order. They are marked as `kinds[0]` with `order`
    /// before and as `kinds[1]` after. Each is shown to `visit`. Returns how many went.
    ///
    /// Their links to each other stay, so that a block costs little more than its mark.
    #[inline]
    pub fn move_front_to(
        &mut self,
        to: &mut Self,
        frames: &FrameTable,
        order: Order,
        kinds: [PageType; 2],
        count: u32,
        visit: impl Fn(Pfn),
    ) -> u32 {
        let (mut last, mut next, mut moved) = (NIL, self.head, 0);
        while moved < count
            && let Some(frame) = frames.linked(next)
        {
            if !frame.is(kinds[0], order) {
                debug_assert!(false, "a block on a list carries the list's mark");
                break;
            }
            frame.set_state(kinds[1], order);
            visit(frames.pfn(next));
            (last, next) = (next, frame.next());
            moved += 1;
        }
        let Some(end) = frames.linked(last) else { return 0 };
        end.set_next(NIL);
        let first = core::mem::replace(&mut self.head, next);
        if to.head == NIL {
            to.head = first;
        } else {
            frames.at_index(to.tail).set_next(first);
            frames.at_index(first).set_prev(to.tail);
        }
        to.tail = last;
        moved
    }

    /// Cuts up to `count` blocks of `order` off the lower end of a larger block and adds them at the tail, in ascending order, marked as
    /// `kind`; shows each to `visit`. What is left goes to `rest` in the largest aligned pieces. Returns how many were cut.
    #[expect(clippy::too_many_arguments, reason = "what to cut, into what, and who hears of it")]
    #[inline]
    pub fn push_back_cut(
        &mut self,
        frames: &FrameTable,
        block: FreeBlock,
        order: Order,
        kind: PageType,
        count: u32,
        visit: impl Fn(Pfn),
        rest: impl FnMut(FreeBlock),
    ) -> u32 {
        let (pfn, size) = (block.pfn(), order.nr_pages() as u32);
        let cut = block.cut_rest(order, count, rest);
        let mut index = frames.index(pfn);
        for at in 0..cut {
            let frame = frames.at_index(index);
            frame.set_state(kind, order);
            frame.set_prev(self.tail);
            frame.set_next(index + size);
            visit(frames.pfn(index));
            if at == 0 {
                match frames.linked(self.head) {
                    Some(_) => frames.at_index(self.tail).set_next(index),
                    None => self.head = index,
                }
            }
            self.tail = index;
            index += size;
        }
        if cut > 0 {
            frames.at_index(self.tail).set_next(NIL);
        }
        cut
    }

    /// Takes up to `count` blocks, the last one first, if they are marked as `kind` with `order`, and hands each to `take`. Returns how many.
    ///
    /// `take` may do with a block what it likes.
    #[inline]
    pub fn take_back(
        &mut self,
        frames: &FrameTable,
        kind: PageType,
        order: Order,
        count: u32,
        mut take: impl FnMut(FreeBlock),
    ) -> u32 {
        let (mut index, mut taken) = (if self.head == NIL { NIL } else { self.tail }, 0);
        while taken < count
            && let Some(frame) = frames.linked(index)
        {
            if !frame.is(kind, order) {
                debug_assert!(false, "a block on a list carries the list's mark");
                break;
            }
            let prev = if index == self.head { NIL } else { frame.prev() };
            frame.set_state(PageType::Detached, order);
            take(FreeBlock::new(frames.pfn(index), order));
            index = prev;
            taken += 1;
        }
        if taken == 0 {
            return 0;
        }
        match frames.linked(index) {
            Some(tail) => {
                tail.set_next(NIL);
                self.tail = index;
            }
            None => self.head = NIL,
        }
        taken
    }

    /// Takes a block from anywhere on this list if it is marked as `kind` with `order`.
    ///
    /// The caller knows that a block with this mark is on this list: the pageblock's type says which one it is.
    #[inline]
    pub fn remove(&mut self, frames: &FrameTable, pfn: Pfn, kind: PageType, order: Order) -> Option<FreeBlock> {
        let (frame, index) = (frames.get(pfn)?, frames.index(pfn));
        if !frame.is(kind, order) {
            return None;
        }
        frame.set_state(PageType::Detached, order);
        let next = frame.next();
        if self.head == index {
            self.head = next;
        } else {
            let prev = frame.prev();
            match frames.linked(next) {
                Some(next) => next.set_prev(prev),
                None => self.tail = prev,
            }
            frames.at_index(prev).set_next(next);
        }
        Some(FreeBlock::new(pfn, order))
    }

    /// Iterates over the first frames of the blocks, head first.
    pub fn iter<'a>(&self, frames: &'a FrameTable) -> impl Iterator<Item = Pfn> + use<'a> {
        let mut next = self.head;
        core::iter::from_fn(move || {
            let pfn = frames.pfn(next);
            next = frames.linked(next)?.next();
            Some(pfn)
        })
    }

    /// Walks the whole list and checks the type's invariants and the mark of every block; returns the number of blocks.
    ///
    /// # Errors
    /// The first frame that breaks them, with the rule that it breaks.
    pub fn check(&self, frames: &FrameTable, kind: PageType, order: Order) -> Result<u64, (Pfn, &'static str)> {
        let (mut index, mut prev, mut len) = (self.head, NIL, 0);
        while let Some(frame) = frames.linked(index) {
            if len == frames.span().nr_pages() {
                return Err((frames.pfn(index), "a list ends"));
            }
            if !frame.is(kind, order) {
                return Err((frames.pfn(index), "a block on a list carries the list's mark and order"));
            }
            if prev != NIL && frame.prev() != prev {
                return Err((frames.pfn(index), "prev mirrors next"));
            }
            (prev, index, len) = (index, frame.next(), len + 1);
        }
        if len > 0 && self.tail != prev {
            return Err((Pfn::ZERO, "the list ends at its tail"));
        }
        Ok(len)
    }
}
