//! Page tables of address spaces: what entries hold, when it is flushed, and when it goes.
#![cfg(not(loom))]

mod held;
mod large;
mod machine;

use std::cell::RefCell;
use std::rc::Rc;

use mmkit_object_allocator::ObjectError;
use mmkit_object_allocator::mmu::{Found, MakeError, PageKind, Pte, UserTables};
use platform::{Attributes, Level, Prot};
use units::{Gfp, Order, PhysAddr, VirtAddr, VirtRange};

use machine::{USED, anon, frames, free_tables, machine, map, on_flush, page, with_tables};

#[test]
fn more_pages_than_a_batch_are_all_flushed_before_they_are_freed() {
    with_tables(1024, |mmu, tables| {
        let frames = frames(&mmu);
        let mut pages = Vec::new();
        for index in 0..400 {
            let new = anon(&mmu, 0);
            pages.push((page(index), new.pfn()));
            let pfn = new.pfn();
            map(&mmu, tables, page(index), new, pfn);
        }
        let flushed: Rc<RefCell<Vec<(PhysAddr, VirtRange)>>> = Rc::default();
        let log = Rc::clone(&flushed);
        on_flush(move |root, range| log.borrow_mut().push((root, range)));
        let check = || {
            let flushed = flushed.borrow();
            for (virt, pfn) in &pages {
                let is_flushed = flushed.iter().any(|(_, range)| range.contains(*virt));
                assert!(is_flushed || frames.at(*pfn).count() == 1, "{virt:?} was freed and not flushed");
            }
        };
        let mut gather = mmu.gather(tables);
        let walk = mmu.walk(tables).unwrap();
        for (virt, _) in &pages {
            gather.take(&walk.pte(*virt).unwrap()).unwrap();
            check();
        }
        drop(walk);
        drop(gather);
        check();
        let flushed = flushed.borrow().clone();
        assert!((2..5).contains(&flushed.len()), "{} flushes for 400 pages", flushed.len());
        assert!(flushed.iter().all(|(root, _)| Some(*root) == tables.root()));
        assert!(pages.iter().all(|(_, pfn)| frames.at(*pfn).count() == 0));
        free_tables(&mmu, tables);
    });
}

#[test]
fn what_moved_is_flushed_and_belongs_to_its_place_alone() {
    with_tables(512, |mmu, tables| {
        let (first, last) = (anon(&mmu, 0), anon(&mmu, 0));
        let pfns = [first.pfn(), last.pfn()];
        map(&mmu, tables, page(0), first, pfns[0]);
        map(&mmu, tables, page(2), last, pfns[1]);
        let flushed: Rc<RefCell<Vec<VirtRange>>> = Rc::default();
        let told = Rc::clone(&flushed);
        on_flush(move |_, range| told.borrow_mut().push(range));
        let (mut mover, mut taker) = (mmu.gather(tables), mmu.gather(tables));
        let walk = mmu.walk(tables).unwrap();
        let row = |start, end| walk.row(VirtRange::new(page(start), page(end))).unwrap();
        assert_eq!(mover.relocate(row(0, 4), row(4, 8)), 2);
        assert_eq!(flushed.borrow()[..], [VirtRange::new(page(0), page(4))]);
        assert!(row(0, 4).entries().all(|entry| entry.load().is_none()));
        let moved = row(4, 8).entries().filter_map(|entry| Some((entry.virt(), entry.leaf(entry.load())?.0)));
        assert!(moved.eq([(page(4), pfns[0]), (page(6), pfns[1])]));
        assert!(pfns.iter().all(|&pfn| frames(&mmu).at(pfn).count() == 1), "no reference was taken");
        row(4, 8).entries().for_each(|entry| _ = taker.take(&entry));
        drop(walk);
        drop(taker);
        assert!(pfns.iter().all(|&pfn| frames(&mmu).at(pfn).count() == 0), "nobody remembers the old addresses");
        free_tables(&mmu, tables);
    });
}

#[test]
fn what_finds_no_place_stays_where_it_was() {
    with_tables(512, |mmu, tables| {
        let (here, there) = (anon(&mmu, 0), anon(&mmu, 0));
        let pfns = [here.pfn(), there.pfn()];
        map(&mmu, tables, page(0), here, pfns[0]);
        map(&mmu, tables, page(1), there, pfns[1]);
        let mut gather = mmu.gather(tables);
        let walk = mmu.walk(tables).unwrap();
        let row = |start, end| walk.row(VirtRange::new(page(start), page(end))).unwrap();
        assert_eq!(gather.relocate(row(0, 1), row(1, 2)), 0);
        let mapped = row(0, 2).entries().map(|entry| entry.leaf(entry.load()).unwrap().0);
        assert!(mapped.eq(pfns));
        row(0, 2).entries().for_each(|entry| _ = gather.take(&entry));
        drop(walk);
        drop(gather);
        free_tables(&mmu, tables);
    });
}

#[test]
fn parts_of_a_compound_page_hold_it_one_by_one() {
    with_tables(512, |mmu, tables| {
        let (new, frames) = (anon(&mmu, 2), frames(&mmu));
        let head = new.pfn();
        let second = new.get(frames);
        map(&mmu, tables, page(0), new, head);
        map(&mmu, tables, page(1), second, head.add(3));
        let state = || (frames.at(head).count(), frames.at(head).mapcount());
        assert_eq!(state(), (2, 2));
        let mut gather = mmu.gather(tables);
        let walk = mmu.walk(tables).unwrap();
        let taken = gather.take(&walk.pte(page(1)).unwrap()).unwrap();
        assert_eq!((taken.kind, taken.order), (Some(PageKind::Anon), Order::ZERO));
        gather.finish();
        assert_eq!(state(), (1, 1));
        gather.take(&walk.pte(page(0)).unwrap()).unwrap();
        drop(walk);
        gather.finish();
        assert_eq!(state(), (0, 0));
        free_tables(&mmu, tables);
    });
}

#[test]
fn a_page_of_a_file_that_was_written_to_through_an_entry_becomes_dirty() {
    with_tables(512, |mmu, tables| {
        let block = mmu.objects().pages().alloc(mmu.cpu(), Gfp::KERNEL, Order::ZERO).unwrap();
        let held = block.into_ref(frames(&mmu));
        let pfn = held.pfn();
        map(&mmu, tables, page(0), held.get(frames(&mmu)), pfn);
        let is_dirty = || frames(&mmu).at(pfn).flags().contains(frame_table::PageFlags::DIRTY);
        let mut gather = mmu.gather(tables);
        let walk = mmu.walk(tables).unwrap();
        assert!(!is_dirty());
        assert_eq!(gather.take(&walk.pte(page(0)).unwrap()).unwrap().kind, Some(PageKind::File));
        assert!(is_dirty());
        drop(walk);
        drop(gather);
        mmu.put(held);
        free_tables(&mmu, tables);
    });
}

#[test]
fn what_an_entry_is_replaced_by_is_its_own_page() {
    with_tables(512, |mmu, tables| {
        let (old, new) = (anon(&mmu, 0), anon(&mmu, 0));
        let (before, after) = (old.pfn(), new.pfn());
        map(&mmu, tables, page(0), old, before);
        let mut gather = mmu.gather(tables);
        let walk = mmu.walk(tables).unwrap();
        let entry = walk.pte(page(0)).unwrap();
        let new = gather.replace(&entry, Pte::NONE, new, USED).unwrap_err();
        gather.replace(&entry, entry.load(), new, USED).unwrap().unwrap();
        assert_eq!(entry.leaf(entry.load()), Some((after, USED)));
        gather.finish();
        assert_eq!(frames(&mmu).at(before).count(), 0);
        gather.take(&entry).unwrap();
        drop(walk);
        drop(gather);
        free_tables(&mmu, tables);
    });
}

#[test]
fn an_entry_is_never_of_all_address_spaces() {
    with_tables(512, |mmu, tables| {
        let new = anon(&mmu, 0);
        let pfn = new.pfn();
        map(&mmu, tables, page(0), new, pfn);
        let mut gather = mmu.gather(tables);
        let walk = mmu.walk(tables).unwrap();
        let entry = walk.pte(page(0)).unwrap();
        let global = Attributes { prot: USED.prot | Prot::GLOBAL, ..USED };
        assert!(entry.set_attributes(entry.load(), global));
        assert_eq!(entry.leaf(entry.load()), Some((pfn, USED)));
        gather.take(&entry).unwrap();
        drop(walk);
        drop(gather);
        free_tables(&mmu, tables);
    });
}

#[test]
fn a_walk_ends_before_the_kernels_half() {
    with_tables(512, |mmu, tables| {
        let walk = mmu.walk(tables).unwrap();
        let last = VirtAddr::new((1 << 47) - 4096);
        let Some(Found::Entry(entry)) = walk.find(last, Level::P4D) else { panic!("the root is there") };
        assert_eq!(entry.virt(), VirtAddr::new((1 << 47) - (1 << 39)));
        let row = walk.root_row(VirtRange::new(VirtAddr::ZERO, VirtAddr::new(u64::MAX))).unwrap();
        assert_eq!((row.nr_entries(), row.range().end), (256, VirtAddr::new(1 << 47)), "the others are the kernel's");
        assert!(walk.find(VirtAddr::new(1 << 47), Level::P4D).is_none());
        assert!(walk.find(VirtAddr::new(u64::MAX), Level::P4D).is_none());
        assert!(
            matches!(walk.find(last, Level::PTE), Some(Found::Above(above, Pte::NONE)) if above.level() == Level::P4D)
        );
    });
}

#[test]
fn tables_are_made_as_far_as_there_is_memory() {
    for available in 0..4 {
        with_tables(512, |mmu, tables| {
            let pages = mmu.objects().pages();
            let mut hoard = Vec::new();
            while let Ok(block) = pages.alloc(mmu.cpu(), Gfp::KERNEL, Order::ZERO) {
                hoard.push(block);
            }
            let rest = hoard.split_off(hoard.len() - available);
            rest.into_iter().for_each(|block| pages.free(mmu.cpu(), block));
            let made = mmu.make_tables(tables, page(0), Level::PTE, Gfp::KERNEL);
            assert_eq!(made, if available < 3 { Err(MakeError::NoMemory) } else { Ok(()) });
            assert_eq!(tables.nr_tables(), available.min(3) as u64);
            hoard.into_iter().for_each(|block| pages.free(mmu.cpu(), block));
            mmu.make_tables(tables, page(0), Level::PTE, Gfp::KERNEL).unwrap();
            free_tables(&mmu, tables);
        });
    }
}

#[test]
fn a_large_page_is_in_the_way_of_a_table() {
    with_tables(2048, |mmu, tables| {
        mmu.make_tables(tables, page(0), Level::PMD, Gfp::KERNEL).unwrap();
        let new = anon(&mmu, 9);
        let mut gather = mmu.gather(tables);
        mmu.install_large(tables, page(0), new, USED, mmu.alloc_table(Gfp::KERNEL).unwrap()).unwrap();
        let walk = mmu.walk(tables).unwrap();
        let Some(Found::Entry(entry)) = walk.find(page(0), Level::PMD) else { panic!("there is a table") };
        let made = mmu.make_tables(tables, page(3), Level::PTE, Gfp::KERNEL);
        assert_eq!(made, Err(MakeError::LargePage));
        assert!(!gather.take_table(&entry), "it points to none");
        assert_eq!(gather.take(&entry).unwrap().order, Order::new_truncate(9));
        drop(walk);
        drop(gather);
        mmu.make_tables(tables, page(3), Level::PTE, Gfp::KERNEL).unwrap();
        free_tables(&mmu, tables);
    });
}

#[test]
fn an_address_space_belongs_to_one_machine_and_has_one_root() {
    with_tables(512, |mmu, tables| {
        assert_eq!(mmu.make_root(tables), Err(ObjectError::Impossible));
        let (other, cpu) = machine(512);
        let elsewhere = other.start_mmu(&cpu).unwrap().on(&cpu);
        assert_eq!(elsewhere.make_root(tables), Err(ObjectError::Impossible));
        assert!(elsewhere.walk(tables).is_none());
        elsewhere.gather(tables).free_root();
        assert!(tables.root().is_some(), "the other machine cannot take it");
    });
}

#[test]
fn the_page_of_zeros_is_held_by_no_entry_and_never_written_to() {
    with_tables(512, |mmu, tables| {
        mmu.make_tables(tables, page(0), Level::PTE, Gfp::KERNEL).unwrap();
        let mut gather = mmu.gather(tables);
        let walk = mmu.walk(tables).unwrap();
        let (entry, empty) = (walk.pte(page(0)).unwrap(), walk.pte(page(1)).unwrap());
        let read = Attributes { prot: USED.prot - Prot::WRITE, ..USED };
        assert!(!entry.install_zero(Pte::NONE, USED));
        assert!(entry.install_zero(Pte::NONE, read));
        assert!(!entry.set_attributes(entry.load(), USED));
        assert!(mmu.page(&entry).is_none());
        let row = |start, end| walk.row(VirtRange::new(page(start), page(end))).unwrap();
        assert_eq!(gather.relocate(row(0, 1), row(1, 2)), 1);
        assert!(empty.is_zero_page(empty.load()) && entry.load().is_none());
        assert_eq!(gather.take(&empty).unwrap().kind, None);
        drop(walk);
        drop(gather);
        free_tables(&mmu, tables);
    });
}

#[test]
fn a_second_start_finds_the_same_page_of_zeros() {
    let (objects, cpu) = machine(512);
    let first = objects.start_mmu(&cpu).unwrap().on(&cpu).zero_page();
    let free = objects.pages().check_invariants(&cpu).unwrap();
    assert_eq!(objects.start_mmu(&cpu).unwrap().on(&cpu).zero_page(), first);
    assert_eq!(objects.pages().check_invariants(&cpu).unwrap(), free);
}

#[test]
fn a_table_that_found_no_place_is_given_back() {
    with_tables(512, |mmu, tables| {
        mmu.make_tables(tables, page(0), Level::PTE, Gfp::KERNEL).unwrap();
        let walk = mmu.walk(tables).unwrap();
        let Some(Found::Entry(full)) = walk.find(page(0), Level::PMD) else { panic!("there is a table") };
        let fresh = full.link(mmu.alloc_table(Gfp::KERNEL).unwrap()).unwrap_err();
        let fresh = walk.pte(page(0)).unwrap().link(fresh).unwrap_err();
        drop(walk);
        mmu.free_fresh(fresh);
        free_tables(&mmu, tables);
    });
}

#[test]
fn a_gather_without_a_root_takes_nothing() {
    let (objects, cpu) = machine(512);
    let mmu = objects.start_mmu(&cpu).unwrap().on(&cpu);
    let tables = UserTables::new();
    let mut early = mmu.gather(&tables);
    mmu.make_root(&tables).unwrap();
    let new = anon(&mmu, 0);
    let pfn = new.pfn();
    map(&mmu, &tables, page(0), new, pfn);
    let walk = mmu.walk(&tables).unwrap();
    assert!(early.take(&walk.pte(page(0)).unwrap()).is_none(), "it would not know what to flush");
    early.free_root();
    assert!(tables.root().is_some());
}
