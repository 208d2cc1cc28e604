//! Lists of blocks beside a queue.

extern crate std;
use std::collections::VecDeque;
use std::vec::Vec;

use proptest::prelude::*;
use units::{Order, Pfn};

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
    fn a_list_gives_its_blocks_at_both_ends_as_a_queue_does(steps in steps()) {
        let (_memory, frames) = table(PAGES);
        // Blocks that are not on the list wait on another, so that they bring links of another life.
        let (mut list, mut rest, mut model) = (FrameList::new(), FrameList::new(), VecDeque::new());
        for pfn in 0..PAGES {
            let block = frames.release_boot_block(Pfn::new(pfn), Order::ZERO).unwrap();
            rest.push_back(&frames, block, PageType::Buddy);
        }
        for step in steps {
            match step {
                Step::Push => {
                    let Some(block) = rest.pop_front(&frames, PageType::Buddy, Order::ZERO) else { continue };
                    model.push_front(block.pfn());
                    prop_assert!(list.push_front_owned(&frames, block.into_owned(&frames), PageType::Pcp).is_none());
                }
                Step::Pop => {
                    let owned = list.pop_front_owned(&frames, PageType::Pcp, Order::ZERO);
                    prop_assert_eq!(owned.as_ref().map(OwnedBlock::pfn), model.pop_front());
                    owned.into_iter().for_each(|owned| rest.push_front(&frames, owned.into_free(&frames), PageType::Buddy));
                }
                Step::PushBottom => {
                    let Some(block) = rest.pop_front(&frames, PageType::Buddy, Order::ZERO) else { continue };
                    model.push_back(block.pfn());
                    list.push_back(&frames, block, PageType::Pcp);
                }
                Step::TakeBottom(count) => {
                    list.take_back(&frames, PageType::Pcp, Order::ZERO, count, |block| {
                        assert_eq!(Some(block.pfn()), model.pop_back());
                        rest.push_back(&frames, block, PageType::Buddy);
                    });
                }
                Step::Append(count) => {
                    let kinds = [PageType::Buddy, PageType::Pcp];
                    let first = rest.iter(&frames).take(count as usize).collect::<Vec<_>>();
                    rest.move_front_to(&mut list, &frames, Order::ZERO, kinds, count, |_| ());
                    model.extend(first);
                }
            }
            prop_assert_eq!(list.is_empty(), model.is_empty());
            prop_assert_eq!(list.check(&frames, PageType::Pcp, Order::ZERO), Ok(model.len() as u64));
            prop_assert!(list.iter(&frames).eq(model.iter().copied()));
            prop_assert_eq!(rest.check(&frames, PageType::Buddy, Order::ZERO), Ok(PAGES - model.len() as u64));
        }
    }
}
