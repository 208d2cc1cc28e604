//! Ownership, lists and sharing over a small table.

extern crate std;
use std::cell::RefCell;
use std::vec;
use std::vec::Vec;

use collections::BootSlice;
use units::{NodeId, Order, Pfn, PfnRange, PhysAddr, PhysRange, ZoneType};

use crate::heap_memory::HeapMemory;
use crate::*;

pub(crate) fn table(nr_pages: u64) -> (HeapMemory, FrameTable) {
    let memory = HeapMemory::new(PhysRange::with_len(PhysAddr::ZERO, nr_pages << 12)).unwrap();
    let span = PfnRange::with_len(Pfn::ZERO, nr_pages);
    let sections = SectionMap::new(MemoryModel::Flat, span, BootSlice::empty());
    let frames = FrameTable::new(&memory, span, sections).unwrap();
    frames.init_range(span, FramePlace::new(NodeId::ZERO, ZoneType::Normal), PageFlags::RESERVED);
    (memory, frames)
}

fn order(raw: u8) -> Order {
    Order::new_truncate(raw)
}

#[test]
fn boot_memory_is_released_once() {
    let (_memory, frames) = table(16);
    let block = frames.release_boot_block(Pfn::new(8), order(3)).unwrap();
    assert_eq!((block.pfn(), block.order()), (Pfn::new(8), order(3)));
    let again = frames.release_boot_block(Pfn::new(8), order(0)).unwrap_err();
    assert_eq!(again.found, Some((PageType::Detached, order(3))));
    assert!(frames.release_boot_block(Pfn::new(15), order(0)).is_err());
    assert!(frames.release_boot_block(Pfn::new(4), order(3)).is_err(), "misaligned");
    assert!(frames.release_boot_block(Pfn::new(16), order(0)).is_err(), "beyond the table");
}

#[test]
fn a_list_keeps_order_and_gives_each_block_once() {
    let (_memory, frames) = table(16);
    let mut list = FrameList::new();
    for pfn in [1, 2, 3] {
        list.push_back(&frames, frames.release_boot_block(Pfn::new(pfn), order(0)).unwrap(), PageType::Buddy);
    }
    list.push_front(&frames, frames.release_boot_block(Pfn::new(0), order(0)).unwrap(), PageType::Buddy);
    assert!(list.iter(&frames).eq([0, 1, 2, 3].map(Pfn::new)));
    assert_eq!(list.check(&frames, PageType::Buddy, order(0)), Ok(4));
    let middle = list.remove(&frames, Pfn::new(2), PageType::Buddy, order(0));
    assert_eq!(middle.map(|block| block.pfn()), Some(Pfn::new(2)));
    assert_eq!(list.remove(&frames, Pfn::new(2), PageType::Buddy, order(0)), None);
    let mut taken = Vec::new();
    assert_eq!(list.take_back(&frames, PageType::Buddy, order(0), 1, |block| taken.push(block)), 1);
    let last = taken.remove(0);
    let first = list.pop_front(&frames, PageType::Buddy, order(0)).unwrap();
    assert_eq!((first.pfn(), last.pfn()), (Pfn::new(0), Pfn::new(3)));
    assert_eq!(list.check(&frames, PageType::Buddy, order(0)), Ok(1));
    assert!(list.check(&frames, PageType::Pcp, order(0)).is_err());
}

#[test]
fn only_the_two_halves_of_a_block_join() {
    let (_memory, frames) = table(16);
    let whole = frames.release_boot_block(Pfn::ZERO, order(2)).unwrap();
    let (low, high) = whole.split();
    let high = high.unwrap();
    let (low_low, low_high) = low.split();
    let (low_low, high) = low_low.join(high).unwrap_err();
    let low = low_low.join(low_high.unwrap()).unwrap();
    let whole = high.join(low).unwrap();
    assert_eq!((whole.pfn(), whole.order()), (Pfn::ZERO, order(2)));
}

#[test]
fn a_raw_block_comes_back_once_and_only_at_its_order() {
    let (_memory, frames) = table(16);
    let owned = frames.release_boot_block(Pfn::new(4), order(2)).unwrap().into_owned(&frames);
    let pfn = owned.into_raw(&frames);
    let wrong = frames.adopt_raw(pfn, order(1)).unwrap_err();
    assert_eq!(wrong.found, Some((PageType::Raw, order(2))));
    let owned = frames.adopt_raw(pfn, order(2)).unwrap();
    assert!(frames.adopt_raw(pfn, order(2)).is_err(), "double free");
    let _free = owned.into_free(&frames);
    assert!(frames.adopt_raw(pfn, order(2)).is_err(), "free of a free block");
}

#[test]
fn freeing_a_plain_block_whose_head_is_referenced_leaves_the_head() {
    let (_memory, frames) = table(16);
    let owned = frames.release_boot_block(Pfn::ZERO, order(2)).unwrap().into_owned(&frames);
    let counted = owned.into_counted(&frames);
    let reference = counted.get(&frames);
    let mut freed = Vec::new();
    counted.free(&frames, |block| freed.push((block.pfn().raw(), block.order().raw())));
    assert_eq!(freed, [(2, 1), (1, 0)]);
    let Put::Last(head) = reference.put(&frames) else { panic!("the last reference") };
    assert_eq!((head.pfn(), head.order()), (Pfn::ZERO, order(0)));
}

#[test]
fn a_compound_block_goes_whole_with_its_last_reference() {
    let (_memory, frames) = table(16);
    let mut owned = frames.release_boot_block(Pfn::new(8), order(2)).unwrap().into_owned(&frames);
    owned.make_compound(&frames);
    assert_eq!(frames.compound_head(Pfn::new(11)), Some(Pfn::new(8)));
    let counted = owned.into_counted(&frames);
    let reference = counted.get(&frames);
    counted.free(&frames, |_| panic!("still referenced"));
    let Put::Last(block) = reference.put(&frames) else { panic!("the last reference") };
    assert_eq!(block.order(), order(2));
    let _free = block.into_free(&frames);
    assert_eq!(frames.compound_head(Pfn::new(11)), Some(Pfn::new(11)));
}

#[test]
fn every_reference_to_a_shared_block_holds_it_whole() {
    let (_memory, frames) = table(16);
    let owned = frames.release_boot_block(Pfn::new(8), order(2)).unwrap().into_owned(&frames);
    let first = owned.into_ref(&frames);
    let second = first.get(&frames);
    assert_eq!((second.pfn(), second.order()), (Pfn::new(8), order(2)));
    assert_eq!(frames.compound_head(Pfn::new(10)), Some(Pfn::new(8)));
    assert_eq!(first.put(&frames), Put::Shared);
    let Put::Last(block) = second.put(&frames) else { panic!("the last reference") };
    assert_eq!(block.order(), order(2));
}

#[test]
fn an_anonymous_page_is_found_from_any_of_its_frames_while_somebody_holds_it() {
    let (_memory, frames) = table(16);
    assert_eq!(PageRef::try_get(&frames, Pfn::new(9)), None, "not allocated");
    let owned = frames.release_boot_block(Pfn::new(8), order(2)).unwrap().into_owned(&frames);
    assert_eq!(PageRef::try_get(&frames, Pfn::new(8)), None, "one owner has it alone");
    let first = owned.into_anon(&frames, 1 << 31 | 5, 0xab_0000_0007);
    assert_eq!((frames.compound_order(first.pfn()), frames.compound_order(Pfn::new(9))), (order(2), order(0)));
    let head = frames.at(first.pfn());
    assert_eq!(head.mapping(), (1 << 31 | 5, 0xab_0000_0007));
    assert!(head.flags().contains(PageFlags::SWAPBACKED | PageFlags::ANON_EXCLUSIVE | PageFlags::HEAD));
    let second = PageRef::try_get(&frames, Pfn::new(11)).unwrap();
    assert_eq!((second.pfn(), second.order(), head.count()), (Pfn::new(8), order(2), 2));
    assert_eq!(first.put(&frames), Put::Shared);
    let Put::Last(block) = second.put(&frames) else { panic!("the last reference") };
    assert_eq!(PageRef::try_get(&frames, Pfn::new(11)), None);
    assert_eq!(PageRef::try_get(&frames, Pfn::new(16)), None, "beyond the table");
    let _free = block.into_free(&frames);
}

#[test]
fn references_that_map_a_page_keep_it() {
    let (_memory, frames) = table(16);
    let page = frames.release_boot_block(Pfn::new(8), order(2)).unwrap().into_owned(&frames).into_ref(&frames);
    page.get_mapped(&frames, 3);
    let head = frames.at(page.pfn());
    assert_eq!((head.count(), head.mapcount()), (4, 3));
    assert_eq!(page.put(&frames), Put::Shared);
}

#[test]
fn a_page_table_is_taken_back_once() {
    let (_memory, frames) = table(16);
    let owned = frames.release_boot_block(Pfn::new(8), order(0)).unwrap().into_owned(&frames);
    let pfn = owned.into_table(&frames);
    assert_eq!(frames.at(pfn).page_type(), Some((PageType::Table, order(0))));
    assert_eq!(PageRef::try_get(&frames, pfn), None, "a table has no references");
    // SAFETY: nothing uses it as a table.
    let block = unsafe { frames.take_table(pfn) }.unwrap();
    // SAFETY: as above.
    assert_eq!(unsafe { frames.take_table(pfn) }, None);
    assert_eq!((block.pfn(), block.order()), (pfn, order(0)));
    let _free = block.into_free(&frames);
}

#[test]
fn tables_that_wait_beside_another_are_each_taken_once() {
    let (_memory, frames) = table(16);
    let made =
        |pfn| frames.release_boot_block(Pfn::new(pfn), order(0)).unwrap().into_owned(&frames).into_table(&frames);
    // What the last owner left in the word is no list.
    frames.at(Pfn::new(8)).set_private(7 << 1);
    let [upper, other, first, second] = [8, 9, 0, 11].map(made);
    assert_eq!(frames.withdraw(upper), None);
    frames.deposit(upper, first);
    frames.deposit(upper, second);
    assert_eq!(frames.withdraw(other), None, "they wait beside one table");
    let mut taken = [frames.withdraw(upper).unwrap(), frames.withdraw(upper).unwrap()];
    taken.sort();
    assert_eq!((taken, frames.withdraw(upper)), ([first, second], None));
}

#[test]
fn a_write_after_filling_is_found_at_its_byte() {
    let (memory, frames) = table(16);
    let mut owned = frames.release_boot_block(Pfn::new(2), order(1)).unwrap().into_owned(&frames);
    fill(&memory, &mut owned, 12, 0xaa).unwrap();
    assert_eq!(first_difference(&memory, &mut owned, 12, 0xaa), Ok(None));
    assert_eq!(first_difference(&memory, &mut owned, 12, 0), Ok(Some(PhysAddr::new(0x2000))));
}

#[test]
fn splitting_into_pages_keeps_every_frame_owned() {
    let (_memory, frames) = table(16);
    let owned = frames.release_boot_block(Pfn::new(8), order(3)).unwrap().into_owned(&frames);
    let pages: Vec<_> = owned.split_pages(&frames).collect();
    assert!(pages.iter().map(OwnedBlock::pfn).eq((8..16).map(Pfn::new)));
    assert!(pages.iter().all(|page| frames.get(page.pfn()).unwrap().is(PageType::Owned, order(0))));
}

#[test]
fn cutting_takes_from_the_lower_end_and_leaves_the_largest_pieces() {
    for (count, cut, left) in [
        (3, vec![0, 2, 4], vec![(6, 1), (8, 3)]),
        (0, vec![], vec![(0, 4)]),
        (9, vec![0, 2, 4, 6, 8, 10, 12, 14], vec![]),
    ] {
        let (_memory, frames) = table(32);
        let mut list = FrameList::new();
        list.push_back(&frames, frames.release_boot_block(Pfn::new(16), order(1)).unwrap(), PageType::Pcp);
        let whole = frames.release_boot_block(Pfn::ZERO, order(4)).unwrap();
        let (seen, mut rest) = (RefCell::new(Vec::new()), Vec::new());
        let taken = list.push_back_cut(
            &frames,
            whole,
            order(1),
            PageType::Pcp,
            count,
            |pfn| seen.borrow_mut().push(pfn.raw()),
            |piece| rest.push((piece.pfn().raw(), piece.order().raw())),
        );
        assert_eq!((taken as usize, &seen.into_inner(), rest), (cut.len(), &cut, left));
        assert!(list.iter(&frames).map(Pfn::raw).eq([16].into_iter().chain(cut)));
        assert_eq!(list.check(&frames, PageType::Pcp, order(1)), Ok(u64::from(taken) + 1));
    }
}

#[test]
fn blocks_move_to_another_list_in_their_order() {
    let (_memory, frames) = table(16);
    let (mut from, mut to) = (FrameList::new(), FrameList::new());
    for pfn in 0..6 {
        from.push_back(&frames, frames.release_boot_block(Pfn::new(pfn), order(0)).unwrap(), PageType::Buddy);
    }
    for (count, moved, left) in [(2, 2, 4), (0, 0, 4), (1, 1, 3), (9, 3, 0), (1, 0, 0)] {
        let kinds = [PageType::Buddy, PageType::Pcp];
        assert_eq!(from.move_front_to(&mut to, &frames, order(0), kinds, count, |_| ()), moved);
        assert_eq!(from.check(&frames, PageType::Buddy, order(0)), Ok(left));
        assert_eq!(to.check(&frames, PageType::Pcp, order(0)), Ok(6 - left));
    }
    assert!(to.iter(&frames).eq((0..6).map(Pfn::new)) && from.is_empty());
}

#[test]
fn blocks_leave_from_the_tail() {
    let (_memory, frames) = table(16);
    let mut list = FrameList::new();
    for pfn in 0..5 {
        list.push_back(&frames, frames.release_boot_block(Pfn::new(pfn), order(0)).unwrap(), PageType::Pcp);
    }
    for (count, expected, left) in [(2, vec![4, 3], 3), (0, vec![], 3), (9, vec![2, 1, 0], 0), (1, vec![], 0)] {
        let mut gone = Vec::new();
        let taken = list.take_back(&frames, PageType::Pcp, order(0), count, |block| gone.push(block.pfn().raw()));
        assert_eq!((taken as usize, &gone), (expected.len(), &expected));
        assert_eq!(list.check(&frames, PageType::Pcp, order(0)), Ok(left));
    }
    assert!(frames.get(Pfn::new(3)).unwrap().is(PageType::Detached, order(0)));
}

#[test]
fn what_its_users_left_in_the_flags_ends_with_the_last_reference() {
    let (_memory, frames) = table(16);
    let owned = frames.release_boot_block(Pfn::new(8), order(1)).unwrap().into_owned(&frames);
    let shared = owned.into_ref(&frames);
    let [head, tail] = [8, 9].map(|pfn| frames.get(Pfn::new(pfn)).unwrap());
    head.set_flags(PageFlags::DIRTY | PageFlags::HWPOISON);
    tail.set_flags(PageFlags::ANON_EXCLUSIVE);
    let Put::Last(owned) = shared.put(&frames) else { panic!("the only reference") };
    assert_eq!(head.flags(), PageFlags::HEAD | PageFlags::HWPOISON, "broken memory stays marked");
    let free = owned.into_free(&frames);
    assert_eq!((head.flags(), tail.flags()), (PageFlags::HWPOISON, PageFlags::empty()));
    assert_eq!(free.into_owned(&frames).pfn(), Pfn::new(8));
}
