//! Page tables on a small machine: what is mapped is held, what is taken out is freed, and counts follow.

mod empty;
mod large;
mod machine;
mod marks;
mod whole_tables;

use std::collections::BTreeMap;

use mmkit_page_tables::{Bounds, WriteTracking, ZapWhat, attributes_of};
use object_allocator::mmu::{Found, PageKind, Pte, UserTables};
use platform::{Level, Prot};
use proptest::prelude::*;
use units::{Gfp, Order, Pfn, VirtAddr, VmFlags};

use machine::{View, WRITE, at, end, machine, map, mapped, range};

#[test]
fn what_was_mapped_is_freed_with_its_tables_and_counts_return_to_zero() {
    let (objects, cpu) = machine(512);
    let before = objects.pages().check_invariants(&cpu).unwrap();
    let tables = UserTables::new();
    let view = View { mmu: objects.start_mmu(&cpu).unwrap().on(&cpu), tables: &tables };
    view.mmu.make_root(&tables).unwrap();
    let pages: BTreeMap<u64, Pfn> = (0..200).map(|page| (page, map(&view, page))).collect();
    assert_eq!(tables.rss().anon, 200);
    assert_eq!(
        tables.nr_tables(),
        5,
        "two tables of pages on two sides of a border of 1 GiB, a table above each, one above all"
    );
    assert!(mapped(&view).iter().map(|(page, (pfn, _))| (*page, *pfn)).eq(pages));
    end(&view);
    assert_eq!((tables.rss().anon, tables.nr_tables(), tables.root()), (0, 0, None));
    assert_eq!(objects.pages().check_invariants(&cpu).unwrap(), before);
}

#[test]
fn a_neighbours_tables_stay() {
    let (objects, cpu) = machine(256);
    let tables = UserTables::new();
    let view = View { mmu: objects.start_mmu(&cpu).unwrap().on(&cpu), tables: &tables };
    view.mmu.make_root(&tables).unwrap();
    for page in 0..10 {
        map(&view, page);
    }
    let mut gather = view.mmu.gather(&tables);
    view.zap(&mut gather, range(0..8), ZapWhat::All);
    view.free_tables(&mut gather, range(0..8), Bounds { floor: VirtAddr::ZERO, ceiling: at(8) });
    drop(gather);
    assert_eq!(mapped(&view).into_keys().collect::<Vec<_>>(), [8, 9]);
    assert_eq!(tables.nr_tables(), 3, "those of the upper side");
    end(&view);
}

#[test]
fn forked_pages_are_shared_and_read_only_on_both_sides() {
    let (objects, cpu) = machine(512);
    let before = objects.pages().check_invariants(&cpu).unwrap();
    let (parent, child) = (UserTables::new(), UserTables::new());
    let mmu = objects.start_mmu(&cpu).unwrap().on(&cpu);
    let (of_parent, of_child) = (View { mmu, tables: &parent }, View { mmu, tables: &child });
    mmu.make_root(&parent).unwrap();
    mmu.make_root(&child).unwrap();
    let pfn = map(&of_parent, 7);
    of_parent.copy_to(&of_child, &mut mmu.gather(&parent), range(0..20), WRITE).unwrap();
    for view in [&of_parent, &of_child] {
        let (found, attributes) = mapped(view)[&7];
        assert_eq!(found, pfn);
        assert!(!attributes.prot.contains(Prot::WRITE) && attributes.prot.contains(Prot::DIRTY));
        assert_eq!(view.tables.rss().anon, 1);
    }
    let walk = mmu.walk(&child).unwrap();
    let entry = walk.pte(at(7)).unwrap();
    assert_eq!(entry.sharers(entry.load()), Some((2, 2)));
    assert!(!entry.is_exclusive(entry.load()));
    drop(walk);
    end(&of_parent);
    assert_eq!(mapped(&of_child)[&7].0, pfn, "the child keeps it");
    end(&of_child);
    assert_eq!(objects.pages().check_invariants(&cpu).unwrap(), before);
}

#[test]
fn pages_keep_their_marks_when_they_move() {
    let (objects, cpu) = machine(512);
    let tables = UserTables::new();
    let view = View { mmu: objects.start_mmu(&cpu).unwrap().on(&cpu), tables: &tables };
    view.mmu.make_root(&tables).unwrap();
    let pfn = map(&view, 3);
    view.relocate(&mut view.mmu.gather(&tables), range(0..8), at(1000), 0).unwrap();
    let found = mapped(&view);
    assert_eq!(found.len(), 1);
    assert_eq!(found[&1003].0, pfn);
    assert!(found[&1003].1.prot.contains(Prot::WRITE | Prot::DIRTY));
    assert_eq!(tables.rss().anon, 1);
    end(&view);
}

#[test]
fn taking_write_permission_and_giving_it_back_needs_no_fault_for_exclusive_pages() {
    let (objects, cpu) = machine(512);
    let tables = UserTables::new();
    let view = View { mmu: objects.start_mmu(&cpu).unwrap().on(&cpu), tables: &tables };
    view.mmu.make_root(&tables).unwrap();
    map(&view, 3);
    let writable = |view: &View<'_>| mapped(view)[&3].1.prot.contains(Prot::WRITE);
    let mut gather = view.mmu.gather(&tables);
    view.protect(&mut gather, range(0..8), VmFlags::READ | VmFlags::MAYWRITE);
    assert!(!writable(&view));
    view.protect(&mut gather, range(0..8), WRITE);
    assert!(writable(&view));
    view.protect(&mut gather, range(0..8), VmFlags::MAYWRITE);
    assert!(!mapped(&view)[&3].1.prot.contains(Prot::USER));
    drop(gather);
    end(&view);
}

#[test]
fn an_entry_takes_only_what_it_can_hold() {
    let (objects, cpu) = machine(512);
    let tables = UserTables::new();
    let view = View { mmu: objects.start_mmu(&cpu).unwrap().on(&cpu), tables: &tables };
    view.mmu.make_root(&tables).unwrap();
    map(&view, 3);
    let frames = &objects.pages().map().frames;
    let attributes = attributes_of(WRITE, WriteTracking::None);
    let page =
        || objects.pages().alloc(&cpu, Gfp::KERNEL, Order::ZERO).unwrap().into_anon(frames, PageKind::ANON_MAPPING, 0);
    let walk = view.mmu.walk(&tables).unwrap();
    let full = walk.pte(at(3)).unwrap();
    let fresh = page();
    let pfn = fresh.pfn();
    let fresh = full.install(Pte::NONE, fresh, pfn, attributes).unwrap_err();
    let fresh = full.install(full.load(), fresh, pfn, attributes).unwrap_err();
    assert!(!full.install_zero(full.load(), attributes));
    let empty = walk.pte(at(4)).unwrap();
    let fresh = empty.install(Pte::NONE, fresh, pfn.add(1), attributes).unwrap_err();
    assert!(empty.install_zero(Pte::NONE, attributes));
    assert!(empty.is_zero_page(empty.load()));
    empty.install(empty.load(), fresh, pfn, attributes).unwrap();
    assert!(walk.find(VirtAddr::new(1 << 47), Level::PTE).is_none(), "the kernel's half is not walked");
    assert!(matches!(walk.find(VirtAddr::new(0x1000), Level::PTE), Some(Found::Above(..))));
    drop(walk);
    end(&view);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Random maps, zaps, moves and forks agree with a map of pages.
    #[test]
    fn tables_agree_with_a_model(steps in proptest::collection::vec((0u8..4, 0u64..40, 1u64..12, 0u64..40), 1..60)) {
        let (objects, cpu) = machine(2048);
        let before = objects.pages().check_invariants(&cpu).unwrap();
        let tables = UserTables::new();
        let view = View { mmu: objects.start_mmu(&cpu).unwrap().on(&cpu), tables: &tables };
        view.mmu.make_root(&tables).unwrap();
        let mut model: BTreeMap<u64, Pfn> = BTreeMap::new();
        let mut forks = Vec::new();
        for (what, page, len, to) in steps {
            match what {
                0 if !model.contains_key(&page) => {
                    model.insert(page, map(&view, page));
                }
                1 => {
                    view.zap(&mut view.mmu.gather(&tables), range(page..page + len), ZapWhat::All);
                    model.retain(|at, _| !(page..page + len).contains(at));
                }
                2 => {
                    let to = 600 + 64 * to;
                    view.zap(&mut view.mmu.gather(&tables), range(to..to + len), ZapWhat::All);
                    model.retain(|at, _| !(to..to + len).contains(at));
                    view.relocate(&mut view.mmu.gather(&tables), range(page..page + len), at(to), 0).unwrap();
                    model = model.into_iter().map(|(at, pfn)| {
                        (if (page..page + len).contains(&at) { at - page + to } else { at }, pfn)
                    }).collect();
                }
                3 => {
                    let child = Box::new(UserTables::new());
                    view.mmu.make_root(&child).unwrap();
                    let of_child = View { mmu: view.mmu, tables: &child };
                    view.copy_to(&of_child, &mut view.mmu.gather(&tables), range(page..page + len), WRITE).unwrap();
                    let expected: Vec<u64> = model.range(page..page + len).map(|(at, _)| *at).collect();
                    prop_assert_eq!(mapped(&of_child).into_keys().collect::<Vec<_>>(), expected);
                    forks.push(child);
                }
                _ => {}
            }
            prop_assert!(mapped(&view).iter().map(|(page, (pfn, _))| (*page, *pfn)).eq(model.clone()));
            prop_assert_eq!(tables.rss().anon, model.len() as u64);
        }
        end(&view);
        for child in &forks {
            end(&View { mmu: view.mmu, tables: child });
        }
        prop_assert_eq!(objects.pages().check_invariants(&cpu).unwrap(), before);
    }
}
