//! Large pages: made by a fault, split, copied in parts, gathered from small ones.

use address_space::{PageAdvice, PageTables, Release};
use mmkit_page_fault::MmPages;
use object_allocator::vmstat::VmEvent;

use crate::*;
use FaultAction as Did;

fn huge_machine() -> (Objects, Cpu) {
    machine(4096)
}

fn space<'a>(objects: &'a Objects, cpu: &'a Cpu, tables: &'a UserTables, files: &'a Files<'a>) -> Space<'a> {
    Space { huge: crate::huge(HugePolicy::Always), ..Space::new(objects, cpu, tables, files) }
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
        let space = Space { huge: crate::huge(policy), ..Space::new(&objects, &cpu, &tables, &files) };
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
    space.huge = crate::huge(HugePolicy::Madvise);
    let vma = area(WRITE, 512, None);
    for page in [0, 9, 511] {
        space.access(&vma, page, Some(page as u8 | 1)).unwrap();
    }
    space.access(&vma, 10, None).unwrap();
    space.faults().collapse(&vma, vma.range, Release::V6_12).unwrap();
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
    let mut pages = MmPages::new(parent.view, Files::new(&objects, &cpu, 0), crate::huge(HugePolicy::Always));
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

/// A machine whose large page of zeros is there already.
fn machine_with_zeros(nr_pages: u64) -> (Objects, Cpu) {
    let (objects, cpu) = machine(nr_pages);
    objects.start_mmu(&cpu).unwrap().on(&cpu).huge_zero_page().unwrap();
    (objects, cpu)
}

#[test]
fn a_read_maps_zeros_for_all_pages_at_once_and_a_write_a_large_page_in_their_place() {
    let (objects, cpu) = machine_with_zeros(8192);
    let before = objects.pages().check_invariants(&cpu).unwrap();
    let (tables, files) = (UserTables::new(), Files::new(&objects, &cpu, 0));
    let space = space(&objects, &cpu, &tables, &files);
    let vma = area(WRITE, 1024, None);
    assert_eq!(space.access(&vma, 7, None), Ok((0, vec![Did::MapZeros])));
    assert_eq!(space.access(&vma, 500, None), Ok((0, vec![])));
    assert_eq!((space.rss().anon, tables.nr_tables()), (0, 3));
    assert_eq!(space.access(&vma, 8, Some(5)), Ok((5, vec![Did::MapFresh])));
    assert_eq!((space.rss().anon, tables.nr_tables()), (512, 3));
    assert_eq!((space.access(&vma, 7, None), space.access(&vma, 8, None)), (Ok((0, vec![])), Ok((5, vec![]))));
    let rest = VirtRange::new(at(512), at(1024));
    assert_eq!(space.access(&vma, 600, None), Ok((0, vec![Did::MapZeros])));
    space.view.zap(&mut space.view.gather(), rest, ZapWhat::All);
    assert_eq!((space.rss().anon, tables.nr_tables()), (512, 3), "zeros go with their table, and count for nothing");
    space.end();
    assert_eq!(objects.pages().check_invariants(&cpu).unwrap(), before);
}

#[test]
fn rules_say_what_becomes_of_large_zeros() {
    for (zeros, read, written) in
        [(HugeZeros::Unused, 512, 512), (HugeZeros::Split, 0, 1), (HugeZeros::Replaced, 0, 512)]
    {
        let (objects, cpu) = machine_with_zeros(4096);
        let (tables, files) = (UserTables::new(), Files::new(&objects, &cpu, 0));
        let huge = HugeRules { zeros, ..crate::huge(HugePolicy::Always) };
        let space = Space { huge, ..Space::new(&objects, &cpu, &tables, &files) };
        let vma = area(WRITE, 512, None);
        space.access(&vma, 7, None).unwrap();
        assert_eq!(space.rss().anon, read, "{zeros:?}");
        assert_eq!(space.access(&vma, 8, Some(5)).unwrap().0, 5, "{zeros:?}");
        assert_eq!((space.rss().anon, space.access(&vma, 9, None).unwrap().0), (written, 0), "{zeros:?}");
        space.end();
    }
}

#[test]
fn a_write_to_large_zeros_without_a_large_block_copies_one_small_page() {
    let (objects, cpu) = machine_with_zeros(4096);
    let before = objects.pages().check_invariants(&cpu).unwrap();
    let (tables, files) = (UserTables::new(), Files::new(&objects, &cpu, 0));
    let space = space(&objects, &cpu, &tables, &files);
    let vma = area(WRITE, 512, None);
    space.access(&vma, 7, None).unwrap();
    let gfp = Gfp::KERNEL | Gfp::NORETRY | Gfp::NOWARN;
    let order = Order::new_truncate(9);
    let blocks: Vec<_> = std::iter::from_fn(|| objects.pages().alloc(&cpu, gfp, order).ok()).collect();
    assert_eq!(space.access(&vma, 8, Some(5)), Ok((5, vec![Did::MapFresh])));
    assert_eq!((space.rss().anon, tables.nr_tables(), space.view.is_large(at(8))), (1, 3, false));
    assert_eq!((space.access(&vma, 7, None), space.access(&vma, 9, None)), (Ok((0, vec![])), Ok((0, vec![]))));
    blocks.into_iter().for_each(|block| objects.pages().free(&cpu, block));
    space.end();
    assert_eq!(objects.pages().check_invariants(&cpu).unwrap(), before);
}

#[test]
fn large_zeros_stay_whole_where_they_can_when_they_are_protected_moved_and_copied() {
    let (objects, cpu) = machine_with_zeros(8192);
    let before = objects.pages().check_invariants(&cpu).unwrap();
    let (tables, other, files) = (UserTables::new(), UserTables::new(), Files::new(&objects, &cpu, 0));
    let (parent, child) = (space(&objects, &cpu, &tables, &files), space(&objects, &cpu, &other, &files));
    let vma = area(WRITE, 512, None);
    parent.access(&vma, 7, None).unwrap();
    let mut gather = parent.view.gather();
    parent.view.protect(&mut gather, vma.range, WRITE);
    parent.view.copy_to(&child.view, &mut gather, vma.range, vma.flags).unwrap();
    assert_eq!((child.view.is_large(at(0)), child.rss().anon, other.nr_tables()), (true, 0, tables.nr_tables()));
    assert_eq!(child.access(&vma, 9, Some(4)), Ok((4, vec![Did::MapFresh])), "and nothing is writable at once");
    assert_eq!(parent.access(&vma, 9, None), Ok((0, vec![])));
    parent.view.relocate(&mut gather, vma.range, at(1 << 20), 0).unwrap();
    assert_eq!((parent.view.is_large(at(0)), parent.view.is_large(at(1 << 20))), (false, true));
    let part = VirtRange::new(at(1 << 20), at((1 << 20) + 3));
    parent.view.split_ends(&mut gather, part);
    parent.view.zap(&mut gather, part, ZapWhat::All);
    drop(gather);
    let mut zeros = 0;
    parent
        .view
        .for_each_mapped(EVERYTHING, |page| zeros += u64::from(page.page.is_none() && page.order == Order::ZERO));
    assert_eq!(zeros, 509);
    parent.end();
    child.end();
    assert_eq!(objects.pages().check_invariants(&cpu).unwrap(), before);
}

#[test]
fn without_memory_for_large_zeros_small_ones_serve() {
    let (objects, cpu) = machine(400);
    let (tables, files) = (UserTables::new(), Files::new(&objects, &cpu, 0));
    let space = space(&objects, &cpu, &tables, &files);
    let vma = area(WRITE, 512, None);
    assert_eq!(space.access(&vma, 7, None), Ok((0, vec![Did::MapZeros])));
    assert!(!space.view.is_large(at(7)));
    let count = |event| objects.vmstat().events(event);
    assert_eq!(count(VmEvent::ThpZeroPageAllocFailed), 1);
    assert_eq!((count(VmEvent::ThpZeroPageAlloc), count(VmEvent::ThpFaultFallback)), (0, 1));
    space.end();
}
