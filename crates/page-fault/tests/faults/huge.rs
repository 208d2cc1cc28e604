//! Large pages: made by a fault, split, copied in parts, gathered from small ones.

use address_space::{PageAdvice, PageTables};
use mmkit_page_fault::MmPages;

use crate::*;
use FaultAction as Did;

fn huge_machine() -> (Objects, Cpu) {
    machine(4096)
}

fn space<'a>(objects: &'a Objects, cpu: &'a Cpu, tables: &'a UserTables, files: &'a Files<'a>) -> Space<'a> {
    Space { huge: HugePolicy::Always, ..Space::new(objects, cpu, tables, files) }
}

#[test]
fn one_fault_maps_a_large_page_where_the_area_holds_all_of_it() {
    let (objects, cpu) = huge_machine();
    let before = objects.pages().check_invariants(&cpu).unwrap();
    let (tables, files) = (UserTables::new(), Files::new(&objects, &cpu, 0));
    let space = space(&objects, &cpu, &tables, &files);
    let vma = area(WRITE, 512 + 4, None);
    assert_eq!(space.access(&vma, 7, Some(3)), Ok((3, vec![Did::MapFresh])));
    assert_eq!(space.access(&vma, 500, None), Ok((0, vec![])));
    assert_eq!(space.access(&vma, 513, Some(4)), Ok((4, vec![Did::MapFresh])));
    assert_eq!((space.rss().anon, tables.nr_tables()), (513, 4), "with the table that waits beside the large page");
    space.end();
    assert_eq!(objects.pages().check_invariants(&cpu).unwrap(), before);
}

#[test]
fn areas_that_refuse_or_did_not_ask_get_small_pages() {
    let (objects, cpu) = huge_machine();
    for (policy, flags, expected) in [
        (HugePolicy::Always, WRITE | VmFlags::NOHUGEPAGE, 1),
        (HugePolicy::Madvise, WRITE, 1),
        (HugePolicy::Madvise, WRITE | VmFlags::HUGEPAGE, 512),
        (HugePolicy::Never, WRITE | VmFlags::HUGEPAGE, 1),
    ] {
        let (tables, files) = (UserTables::new(), Files::new(&objects, &cpu, 0));
        let space = Space { huge: policy, ..Space::new(&objects, &cpu, &tables, &files) };
        space.access(&area(flags, 512, None), 7, Some(3)).unwrap();
        assert_eq!(space.rss().anon, expected, "{policy:?} {flags:?}");
        space.end();
    }
}

#[test]
fn a_child_copies_only_the_small_page_that_it_writes() {
    let (objects, cpu) = huge_machine();
    let before = objects.pages().check_invariants(&cpu).unwrap();
    let (tables, other, files) = (UserTables::new(), UserTables::new(), Files::new(&objects, &cpu, 0));
    let (parent, child) = (space(&objects, &cpu, &tables, &files), space(&objects, &cpu, &other, &files));
    let vma = area(WRITE, 512, None);
    parent.access(&vma, 7, Some(3)).unwrap();
    parent.access(&vma, 8, Some(4)).unwrap();
    parent.view.copy_to(&child.view, &mut parent.view.mmu.gather(&tables), vma.range, vma.flags).unwrap();
    assert_eq!(child.access(&vma, 7, Some(9)), Ok((9, vec![Did::Copy])));
    assert_eq!((parent.access(&vma, 7, None).unwrap().0, child.access(&vma, 8, None).unwrap().0), (3, 4));
    assert_eq!((parent.rss().anon, child.rss().anon), (512, 512));
    parent.end();
    child.end();
    assert_eq!(objects.pages().check_invariants(&cpu).unwrap(), before);
}

#[test]
fn small_pages_are_gathered_into_a_large_one_with_what_they_hold() {
    let (objects, cpu) = huge_machine();
    let before = objects.pages().check_invariants(&cpu).unwrap();
    let (tables, files) = (UserTables::new(), Files::new(&objects, &cpu, 0));
    let mut space = space(&objects, &cpu, &tables, &files);
    space.huge = HugePolicy::Madvise;
    let vma = area(WRITE, 512, None);
    for page in [0, 9, 511] {
        space.access(&vma, page, Some(page as u8 | 1)).unwrap();
    }
    space.access(&vma, 10, None).unwrap();
    space.faults().collapse(&vma, vma.range).unwrap();
    assert!(space.view.is_large(at(0)));
    for page in [0, 9, 511] {
        assert_eq!(space.access(&vma, page, None), Ok((page as u8 | 1, vec![])));
    }
    assert_eq!(space.access(&vma, 300, Some(5)), Ok((5, vec![])));
    assert_eq!(space.rss().anon, 512);
    space.end();
    assert_eq!(objects.pages().check_invariants(&cpu).unwrap(), before);
}

#[test]
fn without_a_large_block_small_pages_serve() {
    let (objects, cpu) = machine(400);
    let (tables, files) = (UserTables::new(), Files::new(&objects, &cpu, 0));
    let space = space(&objects, &cpu, &tables, &files);
    let vma = area(WRITE, 512, None);
    assert_eq!(space.access(&vma, 7, Some(3)), Ok((3, vec![Did::MapFresh])));
    assert_eq!(space.rss().anon, 1);
    space.end();
}

#[test]
fn a_part_of_a_large_page_that_leaves_the_area_is_split_off_by_the_next_fault() {
    let (objects, cpu) = huge_machine();
    let (tables, files) = (UserTables::new(), Files::new(&objects, &cpu, 0));
    let space = space(&objects, &cpu, &tables, &files);
    let vma = area(WRITE, 512, None);
    space.access(&vma, 7, Some(3)).unwrap();
    let half = Vma { range: VirtRange::new(at(0), at(256)), flags: VmFlags::READ | VmFlags::MAYWRITE, ..vma };
    space.view.protect(&mut space.view.mmu.gather(&tables), half.range, half.flags);
    assert_eq!(space.access(&half, 7, Some(1)), Err(FaultError::Forbidden));
    assert_eq!(space.access(&half, 7, None), Ok((3, vec![Did::Touch])));
    assert!(!space.view.is_large(at(0)));
    space.end();
}

#[test]
fn advice_on_a_part_splits_a_large_page_that_nobody_else_maps() {
    let (objects, cpu) = huge_machine();
    let (tables, other, files) = (UserTables::new(), UserTables::new(), Files::new(&objects, &cpu, 0));
    let (parent, child) = (space(&objects, &cpu, &tables, &files), space(&objects, &cpu, &other, &files));
    let vma = area(WRITE, 512, None);
    parent.access(&vma, 7, Some(3)).unwrap();
    let mut pages = MmPages::new(parent.view, Files::new(&objects, &cpu, 0), HugePolicy::Always);
    let mut cool = |from, to| {
        pages.advise(&vma, VirtRange::new(at(from), at(to)), PageAdvice::Cold).unwrap();
        parent.view.is_large(at(7))
    };
    assert!(cool(0, 512), "all of it is meant");
    parent.view.copy_to(&child.view, &mut parent.view.mmu.gather(&tables), vma.range, vma.flags).unwrap();
    assert!(cool(2, 5), "the child maps it too");
    child.end();
    assert!(!cool(2, 5));
    assert_eq!(parent.access(&vma, 7, None), Ok((3, vec![])));
    parent.end();
}
