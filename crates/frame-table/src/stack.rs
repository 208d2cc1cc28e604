//! Blocks that come and go at one end all the time, and leave at the other end in batches: the lists of a CPU.
//!
//! A [`FrameList`] whose newest blocks are linked one way only, so that adding a block touches no other one. The links back are made up
//! for when something is to be done at the tail.

use units::Order;

use crate::frame::NIL;
use crate::{Frame, FrameList, FrameTable, FreeBlock, OwnedBlock, PageType};

/// Stack of free blocks whose bottom can be reached too.
///
/// # Invariants
/// Following `next` from the list's head reaches all blocks. From the first block on whose `prev` is not `NIL`, the list's own invariants
/// hold; if there is none, its tail means nothing.
#[derive(Debug, Default)]
pub struct FrameStack(FrameList);

impl FrameStack {
    /// Makes an empty stack.
    pub const fn new() -> Self {
        Self(FrameList::new())
    }

    /// Returns true if there is no block.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a block, marked as `kind`.
    #[inline]
    pub fn push(&mut self, frames: &FrameTable, block: FreeBlock, kind: PageType) {
        self.link(frames.at(block.pfn()), frames.index(block.pfn()), block.order(), kind);
    }

    /// Takes an owner's block back, marked as `kind`: [`OwnedBlock::into_free`] and [`FrameStack::push`] in one visit to the descriptor.
    /// Gives back a compound page, and a block of another table.
    #[inline(always)]
    pub fn push_owned(&mut self, frames: &FrameTable, block: OwnedBlock, kind: PageType) -> Option<OwnedBlock> {
        let Some(frame) = frames.get(block.pfn()) else { return Some(block) };
        if block.is_compound() {
            return Some(block);
        }
        self.link(frame, frames.index(block.pfn()), block.order(), kind);
        None
    }

    #[inline(always)]
    fn link(&mut self, frame: &Frame, index: u32, order: Order, kind: PageType) {
        frame.set_next(self.0.head);
        frame.set_prev(NIL);
        frame.set_state(kind, order);
        self.0.head = index;
    }

    /// Takes the last added block if it is marked as `kind` with `order`.
    #[inline]
    pub fn pop(&mut self, frames: &FrameTable, kind: PageType, order: Order) -> Option<FreeBlock> {
        self.0.pop_front(frames, kind, order)
    }

    /// Hands the last added block to an owner if it is marked as `kind` with `order`; see [`FrameList::pop_front_owned`].
    #[inline(always)]
    pub fn pop_owned(&mut self, frames: &FrameTable, kind: PageType, order: Order) -> Option<OwnedBlock> {
        self.0.pop_front_owned(frames, kind, order)
    }

    /// Makes up for the links back, and returns the list with the last added block at its head. Costs a visit to each block added since it
    /// was called before.
    #[inline]
    pub fn linked_both_ways(&mut self, frames: &FrameTable) -> &mut FrameList {
        let (mut newer, mut index) = (NIL, self.0.head);
        loop {
            let Some(frame) = frames.linked(index) else {
                self.0.tail = newer;
                break;
            };
            let is_linked_below = frame.prev() != NIL;
            frame.set_prev(newer);
            if is_linked_below {
                break;
            }
            (newer, index) = (index, frame.next());
        }
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::collections::VecDeque;
    use std::vec::Vec;

    use proptest::prelude::*;
    use units::Pfn;

    use super::*;
    use crate::tests::table;

    const PAGES: u64 = 24;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Push,
        Pop,
        PushBottom,
        TakeBottom(u32),
        Append(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Push),
            3 => Just(Step::Pop),
            1 => Just(Step::PushBottom),
            1 => (0..6u32).prop_map(Step::TakeBottom),
            1 => (0..4u32).prop_map(Step::Append),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        fn a_stack_gives_its_blocks_at_both_ends_as_a_queue_does(steps in steps()) {
            let (_memory, frames) = table(PAGES);
            // Blocks that are not on the stack wait on a list, so that they bring links of another life.
            let (mut stack, mut rest, mut model) = (FrameStack::new(), FrameList::new(), VecDeque::new());
            for pfn in 0..PAGES {
                let block = frames.release_boot_block(Pfn::new(pfn), Order::ZERO).unwrap();
                rest.push_back(&frames, block, PageType::Buddy);
            }
            for step in steps {
                match step {
                    Step::Push => {
                        let Some(block) = rest.pop_front(&frames, PageType::Buddy, Order::ZERO) else { continue };
                        model.push_front(block.pfn());
                        prop_assert!(stack.push_owned(&frames, block.into_owned(&frames), PageType::Pcp).is_none());
                    }
                    Step::Pop => {
                        let owned = stack.pop_owned(&frames, PageType::Pcp, Order::ZERO);
                        prop_assert_eq!(owned.as_ref().map(OwnedBlock::pfn), model.pop_front());
                        owned.into_iter().for_each(|owned| rest.push_front(&frames, owned.into_free(&frames), PageType::Buddy));
                    }
                    Step::PushBottom => {
                        let Some(block) = rest.pop_front(&frames, PageType::Buddy, Order::ZERO) else { continue };
                        model.push_back(block.pfn());
                        stack.linked_both_ways(&frames).push_back(&frames, block, PageType::Pcp);
                    }
                    Step::TakeBottom(count) => {
                        let list = stack.linked_both_ways(&frames);
                        list.take_back(&frames, PageType::Pcp, Order::ZERO, count, |block| {
                            assert_eq!(Some(block.pfn()), model.pop_back());
                            rest.push_back(&frames, block, PageType::Buddy);
                        });
                    }
                    Step::Append(count) => {
                        let kinds = [PageType::Buddy, PageType::Pcp];
                        let first = rest.iter(&frames).take(count as usize).collect::<Vec<_>>();
                        let list = stack.linked_both_ways(&frames);
                        rest.move_front_to(list, &frames, Order::ZERO, kinds, count, |_| ());
                        model.extend(first);
                    }
                }
                prop_assert_eq!(stack.is_empty(), model.is_empty());
                // Now and then, so that several steps find the links missing.
                if model.len() % 3 == 0 {
                    let list = stack.linked_both_ways(&frames);
                    prop_assert_eq!(list.check(&frames, PageType::Pcp, Order::ZERO), Ok(model.len() as u64));
                    prop_assert!(list.iter(&frames).eq(model.iter().copied()));
                }
                prop_assert_eq!(rest.check(&frames, PageType::Buddy, Order::ZERO), Ok(PAGES - model.len() as u64));
            }
        }
    }
}
