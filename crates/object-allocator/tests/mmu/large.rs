//! Large pages, and the tables that wait for them to be split.

use frame_table::{PageFlags, PageRef};
use mmkit_object_allocator::mmu::{Found, PageKind, Pte, UserTables};
use platform::{Level, Prot};
use units::{Gfp, Order, VirtAddr};

use crate::machine::{OnCpu, USED, anon, frames, free_tables, machine, map, page, with_tables};

#[test]
fn a_split_of_what_is_no_large_page_does_nothing() {
    with_tables(512, |mmu, tables| {
        let new = anon(&mmu, 0);
        let pfn = new.pfn();
        map(&mmu, tables, page(0), new, pfn);
        let mut gather = mmu.gather(tables);
        let walk = mmu.walk(tables).unwrap();
        let entry = walk.pte(page(0)).unwrap();
        assert_eq!(gather.split(&entry), None);
        let Some(Found::Entry(above)) = walk.find(page(0), Level::PMD) else { panic!("there is a table") };
        assert_eq!(gather.split(&above), None);
        assert!(above.load() != Pte::NONE && gather.take(&entry).is_some());
        drop(walk);
        drop(gather);
        free_tables(&mmu, tables);
    });
}

/// Returns a page of a file with 512 frames.
fn large_file_page(mmu: &OnCpu<'_>) -> PageRef {
    let block = mmu.objects().pages().alloc(mmu.cpu(), Gfp::KERNEL | Gfp::COMP, Order::new_truncate(9)).unwrap();
    let new = block.into_ref(frames(mmu));
    frames(mmu).at(new.pfn()).set_mapping(1, 0);
    new
}

#[test]
fn no_table_waits_for_a_large_page_of_a_file_and_a_split_takes_it_out() {
    with_tables(4096, |mmu, tables| {
        mmu.make_tables(tables, page(0), Level::PMD, Gfp::KERNEL).unwrap();
        let before = tables.nr_tables();
        let new = large_file_page(&mmu);
        let (pfn, held) = (new.pfn(), new.get(frames(&mmu)));
        let walk = mmu.walk(tables).unwrap();
        let Some(Found::Entry(entry)) = walk.find(page(0), Level::PMD) else { panic!("there is a table") };
        entry.install(Pte::NONE, new, pfn, USED).unwrap();
        let mut gather = mmu.gather(tables);
        let huge = anon(&mmu, 9);
        let huge = gather.replace(&entry, entry.load(), huge, USED).unwrap_err();
        assert_eq!(entry.leaf(entry.load()).map(|(at, _)| at), Some(pfn), "for which no table would wait");
        mmu.put(huge);
        let taken = gather.split(&entry).unwrap();
        assert_eq!((taken.kind, taken.order), (Some(PageKind::File), Order::new_truncate(9)));
        assert!(entry.load().is_none() && frames(&mmu).at(pfn).flags().contains(PageFlags::DIRTY));
        drop(walk);
        drop(gather);
        assert_eq!((frames(&mmu).at(pfn).count(), tables.nr_tables()), (1, before));
        mmu.put(held);
        mmu.make_tables(tables, page(0), Level::PTE, Gfp::KERNEL).unwrap();
        free_tables(&mmu, tables);
    });
}

#[test]
fn a_large_page_is_mapped_only_where_a_table_waits_and_nothing_is_in_the_way() {
    with_tables(4096, |mmu, tables| {
        mmu.make_tables(tables, page(0), Level::PMD, Gfp::KERNEL).unwrap();
        let before = tables.nr_tables();
        let spare = || mmu.alloc_table(Gfp::KERNEL).unwrap();
        let large = |new: PageRef| mmu.install_large(tables, page(0), new, USED, spare());
        mmu.put(large(anon(&mmu, 8)).unwrap_err());
        mmu.put(large(large_file_page(&mmu)).unwrap_err());
        let new = anon(&mmu, 9);
        let pfn = new.pfn();
        let new = mmu.install_large(tables, VirtAddr::ZERO, new, USED, spare()).unwrap_err();
        let walk = mmu.walk(tables).unwrap();
        let Some(Found::Entry(entry)) = walk.find(page(0), Level::PMD) else { panic!("there is a table") };
        let new = entry.install(Pte::NONE, new, pfn, USED).unwrap_err();
        large(new).unwrap();
        mmu.put(large(anon(&mmu, 9)).unwrap_err());
        assert_eq!(tables.nr_tables(), before + 1);
        mmu.gather(tables).take(&entry).unwrap();
        assert_eq!(tables.nr_tables(), before);
        drop(walk);
        mmu.make_tables(tables, page(0), Level::PTE, Gfp::KERNEL).unwrap();
        free_tables(&mmu, tables);
    });
}

#[test]
fn the_large_page_of_zeros_is_one_and_held_by_no_entry() {
    // The page that stays is made before it is counted what is free.
    let (objects, cpu) = machine(4096);
    let mmu = objects.start_mmu(&cpu).unwrap().on(&cpu);
    let zeros = mmu.huge_zero_page().unwrap();
    let before = objects.pages().check_invariants(&cpu).unwrap();
    assert_eq!(objects.start_mmu(&cpu).unwrap().on(&cpu).huge_zero_page(), Some(zeros));
    let tables = UserTables::new();
    mmu.make_root(&tables).unwrap();
    mmu.make_tables(&tables, page(0), Level::PMD, Gfp::KERNEL).unwrap();
    let (upper, spare) = (tables.nr_tables(), || mmu.alloc_table(Gfp::KERNEL).unwrap());
    assert!(!mmu.install_large_zeros(&tables, VirtAddr::ZERO, USED, spare()), "there are no tables");
    for index in [0, 512] {
        assert!(mmu.install_large_zeros(&tables, page(index), USED, spare()));
        assert!(!mmu.install_large_zeros(&tables, page(index), USED, spare()), "it is there");
    }
    assert_eq!(tables.nr_tables(), upper + 2);
    let walk = mmu.walk(&tables).unwrap();
    let entry = |index| match walk.find(page(index), Level::PMD) {
        Some(Found::Entry(entry)) => entry,
        other => panic!("{other:?}"),
    };
    let (first, second) = (entry(0), entry(512));
    assert_eq!(first.load(), second.load());
    assert!(first.is_zero_page(first.load()) && mmu.page(&first).is_none() && first.kind(first.load()).is_none());
    assert!(!first.set_attributes(first.load(), USED) && !first.set_prot(first.load(), USED.prot), "never written to");
    let mut gather = mmu.gather(&tables);
    let new = anon(&mmu, 9);
    assert_eq!(gather.replace(&second, second.load(), new, USED).unwrap().unwrap().kind, None);
    assert_eq!(gather.take(&second).unwrap().kind, Some(PageKind::Anon));
    assert_eq!(tables.nr_tables(), upper + 1);
    assert_eq!(gather.split(&first), None);
    for index in 0..512 {
        let part = walk.pte(page(index)).unwrap();
        let (pfn, attributes) = part.leaf(part.load()).unwrap();
        assert!(pfn == mmu.zero_page() && !attributes.prot.contains(Prot::WRITE), "part {index}");
        assert_eq!(gather.take(&part).unwrap().kind, None);
    }
    drop(walk);
    drop(gather);
    free_tables(&mmu, &tables);
    mmu.gather(&tables).free_root();
    assert_eq!(objects.pages().check_invariants(&cpu).unwrap(), before);
}

#[test]
fn a_child_maps_the_large_page_of_zeros_too() {
    let (objects, cpu) = machine(4096);
    let mmu = objects.start_mmu(&cpu).unwrap().on(&cpu);
    mmu.huge_zero_page().unwrap();
    let before = objects.pages().check_invariants(&cpu).unwrap();
    let both = [UserTables::new(), UserTables::new()];
    for tables in &both {
        mmu.make_root(tables).unwrap();
        mmu.make_tables(tables, page(0), Level::PMD, Gfp::KERNEL).unwrap();
    }
    let spare = || mmu.alloc_table(Gfp::KERNEL).unwrap();
    assert!(mmu.install_large_zeros(&both[0], page(0), USED, spare()));
    let walks = [mmu.walk(&both[0]).unwrap(), mmu.walk(&both[1]).unwrap()];
    let [Some(Found::Entry(entry)), Some(Found::Entry(child))] =
        walks.each_ref().map(|walk| walk.find(page(0), Level::PMD))
    else {
        panic!("there are tables")
    };
    for _ in 0..2 {
        // The second time the child's entry is not empty.
        let kind = mmu.duplicate_large(&entry, entry.load(), (&both[1], &child), Prot::USER, spare());
        assert_eq!((kind, child.is_zero_page(child.load()), both[1].nr_tables()), (None, true, 3));
    }
    for (tables, entry) in [(&both[0], &entry), (&both[1], &child)] {
        mmu.gather(tables).take(entry).unwrap();
        assert_eq!(tables.nr_tables(), 2);
    }
    drop(walks);
    for tables in &both {
        mmu.make_tables(tables, page(0), Level::PTE, Gfp::KERNEL).unwrap();
        free_tables(&mmu, tables);
        mmu.gather(tables).free_root();
    }
    assert_eq!(objects.pages().check_invariants(&cpu).unwrap(), before);
}
