//! One list of a CPU's set: its newest blocks in a magazine, and the others linked.
//!
//! Linux 6.12: one of `struct per_cpu_pages`' lists.

use frame_table::{FrameList, FrameTable, FreeBlock, OwnedBlock, PageType};
use units::{Order, Pfn};

use crate::magazine::Magazine;

/// Blocks of one order and type, newest first: those in the magazine, then the linked ones.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct PcpList {
    newest: Magazine,
    linked: FrameList,
    /// Blocks taken on the short way, each a hit of the wanted node.
    pub(crate) taken: u64,
}

impl PcpList {
    pub(crate) const EMPTY: Self = Self { newest: Magazine::EMPTY, linked: FrameList::new(), taken: 0 };

    /// Takes the newest block for an owner, on the short way, and counts it as a hit of the wanted node; `count` is called if there is one.
    #[inline(always)]
    pub(crate) fn take(&mut self, frames: &FrameTable, order: Order, count: impl FnOnce()) -> Option<OwnedBlock> {
        let Some(newest) = self.newest.pop() else {
            let block = self.linked.pop_front_owned(frames, PageType::Pcp, order)?;
            self.taken += 1;
            count();
            return Some(block);
        };
        // Counted before it is looked at: the caller asks in any case whether there is a block.
        self.taken += 1;
        count();
        newest.take()
    }

    /// Puts an owner's block that is not compound at the head; gives it back if [`PcpList::settle`] has to come first.
    #[inline(always)]
    pub(crate) fn put(&mut self, block: OwnedBlock) -> Option<OwnedBlock> {
        self.newest.push(block)
    }

    /// As [`PcpList::put`], past the magazine; gives back a compound block, and one of another table.
    #[inline]
    pub(crate) fn link(&mut self, frames: &FrameTable, block: OwnedBlock) -> Option<OwnedBlock> {
        if self.newest.len() > 0 {
            self.settle(frames);
        }
        self.linked.push_front_owned(frames, block, PageType::Pcp)
    }

    /// Links what is in the magazine.
    pub(crate) fn settle(&mut self, frames: &FrameTable) {
        for block in self.newest.take_all() {
            let refused = self.linked.push_front_owned(frames, block, PageType::Pcp);
            debug_assert!(refused.is_none(), "a plain block of this table");
        }
    }

    /// Takes the first block.
    #[inline]
    pub(crate) fn pop(&mut self, frames: &FrameTable, order: Order) -> Option<FreeBlock> {
        if let Some(block) = self.newest.pop().and_then(Option::take) {
            return Some(block.into_free(frames));
        }
        self.linked.pop_front(frames, PageType::Pcp, order)
    }

    /// Puts a block at the head.
    #[inline]
    pub(crate) fn push(&mut self, frames: &FrameTable, block: FreeBlock) {
        self.settle(frames);
        self.linked.push_front(frames, block, PageType::Pcp);
    }

    /// Puts a block at the tail.
    #[inline]
    pub(crate) fn push_back(&mut self, frames: &FrameTable, block: FreeBlock) {
        self.linked.push_back(frames, block, PageType::Pcp);
    }

    /// Returns the linked blocks: to put some at the tail, or after [`PcpList::settle`] all.
    #[inline]
    pub(crate) fn linked(&mut self) -> &mut FrameList {
        &mut self.linked
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.newest.len() == 0 && self.linked.is_empty()
    }

    /// Checks the links and marks; returns the number of blocks.
    ///
    /// # Errors
    /// The first frame at which a rule is broken, and the rule.
    pub(crate) fn check(&self, frames: &FrameTable, order: Order) -> Result<u64, (Pfn, &'static str)> {
        Ok(self.linked.check(frames, PageType::Pcp, order)? + self.newest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::collections::VecDeque;
    use std::vec::Vec;

    use collections::BootSlice;
    use frame_table::{FramePlace, HeapMemory, MemoryModel, PageFlags, SectionMap};
    use proptest::prelude::*;
    use units::{NodeId, PfnRange, PhysAddr, PhysRange, ZoneType};

    use super::*;

    const PAGES: u64 = 48;

    fn table() -> (HeapMemory, FrameTable) {
        let memory = HeapMemory::new(PhysRange::with_len(PhysAddr::ZERO, PAGES << 12)).unwrap();
        let span = PfnRange::with_len(Pfn::ZERO, PAGES);
        let frames = FrameTable::new(&memory, span, SectionMap::new(MemoryModel::Flat, span, BootSlice::empty()));
        let frames = frames.unwrap();
        frames.init_range(span, FramePlace::new(NodeId::ZERO, ZoneType::Normal), PageFlags::RESERVED);
        (memory, frames)
    }

    /// What is done to a list, on the short way or the long one.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Put,
        Link,
        Take,
        Push,
        Pop,
        PushBack,
        TakeBack(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => Just(Step::Put),
            2 => Just(Step::Link),
            5 => Just(Step::Take),
            1 => Just(Step::Push),
            1 => Just(Step::Pop),
            1 => Just(Step::PushBack),
            1 => (0..9u32).prop_map(Step::TakeBack),
        ];
        prop::collection::vec(step, 1..300)
    }

    proptest! {
        #[test]
        fn a_list_with_a_magazine_is_a_queue_of_which_each_block_leaves_once(steps in steps()) {
            let (_memory, frames) = table();
            let (mut list, mut model) = (PcpList::EMPTY, VecDeque::new());
            let out = (0..PAGES).map(|pfn| frames.release_boot_block(Pfn::new(pfn), Order::ZERO).unwrap());
            let mut out: Vec<OwnedBlock> = out.map(|block| block.into_owned(&frames)).collect();
            for step in steps {
                match step {
                    Step::Put | Step::Link | Step::Push | Step::PushBack => {
                        let Some(block) = out.pop() else { continue };
                        let pfn = block.pfn();
                        match step {
                            Step::Put => {
                                if let Some(refused) = list.put(block) {
                                    list.settle(&frames);
                                    prop_assert!(list.put(refused).is_none());
                                }
                            }
                            Step::Link => prop_assert!(list.link(&frames, block).is_none()),
                            Step::Push => list.push(&frames, block.into_free(&frames)),
                            _ => list.push_back(&frames, block.into_free(&frames)),
                        }
                        if matches!(step, Step::PushBack) { model.push_back(pfn) } else { model.push_front(pfn) }
                    }
                    Step::Take | Step::Pop => {
                        let mut counted = 0;
                        let owned = |block: FreeBlock| block.into_owned(&frames);
                        let taken = match step {
                            Step::Take => list.take(&frames, Order::ZERO, || counted += 1),
                            _ => list.pop(&frames, Order::ZERO).map(owned),
                        };
                        prop_assert_eq!(counted, u32::from(matches!(step, Step::Take) && taken.is_some()));
                        prop_assert_eq!(taken.as_ref().map(OwnedBlock::pfn), model.pop_front());
                        out.extend(taken);
                    }
                    Step::TakeBack(count) => {
                        list.settle(&frames);
                        list.linked().take_back(&frames, PageType::Pcp, Order::ZERO, count, |block| {
                            assert_eq!(Some(block.pfn()), model.pop_back());
                            out.push(block.into_owned(&frames));
                        });
                    }
                }
                prop_assert_eq!(list.check(&frames, Order::ZERO), Ok(model.len() as u64));
                prop_assert_eq!(list.is_empty(), model.is_empty());
            }
        }
    }
}
