//! Marks of use and of writes: taken back, kept, carried along.

use frame_table::PageFlags;
use object_allocator::mmu::UserTables;
use platform::{Arm64, Level, PageTableFormat, Prot, X86_64, X86Pae};
use units::VmFlags;

use crate::machine::{View, WATCHED, at, end, everything, machine, machine_of, map, map_at, mapped, range};

fn prot(view: &View<'_>, page: u64) -> Prot {
    mapped(view)[&page].1.prot
}

fn clear(view: &View<'_>) {
    view.clear_soft_dirty(&mut view.mmu.gather(view.tables), range(0..100), WATCHED);
}

fn with_view(test: impl FnOnce(&View<'_>)) {
    let (objects, cpu) = machine(2048);
    let before = objects.pages().check_invariants(&cpu).unwrap();
    let tables = UserTables::new();
    let view = View { mmu: objects.start_mmu(&cpu).unwrap().on(&cpu), tables: &tables };
    view.mmu.make_root(&tables).unwrap();
    test(&view);
    end(&view);
    assert_eq!(objects.pages().check_invariants(&cpu).unwrap(), before);
}

#[test]
fn what_lost_the_mark_is_read_only_and_dirty_still() {
    with_view(|view| {
        map(view, 3);
        map(view, 200);
        clear(view);
        assert_eq!(prot(view, 3) & (Prot::WRITE | Prot::WRITTEN), Prot::DIRTY);
        assert_eq!(prot(view, 200) & (Prot::WRITE | Prot::WRITTEN), Prot::WRITE | Prot::WRITTEN, "outside the range");
    });
}

#[test]
fn mprotect_gives_write_permission_back_only_to_what_has_the_mark_or_is_not_watched() {
    with_view(|view| {
        let protect = |flags| view.protect(&mut view.mmu.gather(view.tables), range(0..8), flags);
        map(view, 3);
        clear(view);
        map(view, 4);
        protect(VmFlags::READ | VmFlags::MAYWRITE);
        protect(WATCHED);
        assert!(!prot(view, 3).intersects(Prot::WRITE | Prot::SOFT_DIRTY));
        assert!(prot(view, 4).contains(Prot::WRITE | Prot::SOFT_DIRTY));
        protect(WATCHED | VmFlags::SOFTDIRTY);
        assert!(prot(view, 3).contains(Prot::WRITE));
    });
}

#[test]
fn a_child_inherits_the_mark_and_a_move_sets_it() {
    with_view(|view| {
        map(view, 3);
        clear(view);
        map(view, 4);
        let child = UserTables::new();
        view.mmu.make_root(&child).unwrap();
        let of_child = View { mmu: view.mmu, tables: &child };
        view.copy_to(&of_child, &mut view.mmu.gather(view.tables), range(0..20), WATCHED).unwrap();
        for view in [view, &of_child] {
            assert_eq!([3, 4].map(|page| prot(view, page).contains(Prot::SOFT_DIRTY)), [false, true]);
            assert_eq!([3, 4].map(|page| prot(view, page).contains(Prot::WRITE)), [false, false]);
        }
        end(&of_child);
        view.relocate(&mut view.mmu.gather(view.tables), range(3..4), at(1000), 0).unwrap();
        assert_eq!(prot(view, 1000) & (Prot::WRITE | Prot::WRITTEN), Prot::WRITTEN);
    });
}

/// Maps a large page, takes its mark back, and splits it. Returns what the large entry and then each part had of WRITE and the marks of writes.
fn split_after_clear<F: PageTableFormat>(format: F) -> Vec<Prot> {
    let (objects, cpu) = machine_of(4096, format);
    let tables = UserTables::new();
    let view = View { mmu: objects.start_mmu(&cpu).unwrap().on(&cpu), tables: &tables };
    view.mmu.make_root(&tables).unwrap();
    let start = at(0).align_up(F::leaf_bytes(Level::PMD)).align_down(F::leaf_bytes(Level::PMD));
    let mut seen = Vec::new();
    if map_at(&view, start, Level::PMD).is_some() {
        let mut gather = view.mmu.gather(&tables);
        view.clear_soft_dirty(&mut gather, everything::<F>(), WATCHED);
        let mut look = || {
            view.for_each_mapped(everything::<F>(), |page| {
                seen.push(page.attributes.prot & (Prot::WRITE | Prot::WRITTEN));
            });
        };
        look();
        view.split_large(&mut gather, start);
        look();
    }
    end(&view);
    seen
}

#[test]
fn parts_of_a_large_page_that_is_dirty_count_as_written_to() {
    let seen = split_after_clear(X86_64::<4>);
    assert_eq!(seen.len(), 513);
    assert_eq!(seen[0], Prot::DIRTY);
    assert!(seen[1..].iter().all(|prot| *prot == Prot::WRITTEN));
}

#[test]
fn formats_without_the_mark_never_show_it() {
    assert_eq!(split_after_clear(Arm64::<12, 48>), [Prot::DIRTY; 513]);
    assert_eq!((Arm64::<16, 48>::SOFT_DIRTY, X86Pae::SOFT_DIRTY), (0, 0));
}

#[test]
fn marks_of_use_go_from_the_entry_and_from_the_page() {
    with_view(|view| {
        let pfn = map(view, 3);
        map(view, 200);
        let frame = view.mmu.objects().pages().map().frames.at(pfn);
        frame.set_flags(PageFlags::REFERENCED | PageFlags::YOUNG);
        view.clear_referenced(range(0..100));
        assert_eq!(prot(view, 3) & (Prot::ACCESSED | Prot::WRITTEN), Prot::WRITTEN);
        assert!(!frame.flags().intersects(PageFlags::REFERENCED | PageFlags::YOUNG));
        assert!(prot(view, 200).contains(Prot::ACCESSED));
    });
}
