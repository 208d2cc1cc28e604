//! What is done to a page while the entry that maps it is held: a page that nobody else has becomes the address space's own.

use frame_table::PageRef;
use mmkit_object_allocator::mmu::Pte;
use platform::Prot;
use units::{Gfp, Order};

use crate::machine::{OnCpu, anon, frames, free_tables, map, page, with_tables};

const MARKS: Prot = Prot::ACCESSED.union(Prot::WRITE).union(Prot::DIRTY);

/// Maps `first` at page 0, for reading, asks for it with the marks of a write, and returns whether it became the address space's own and what the entry allows then.
/// `before` runs between reading the entry and asking.
fn ask(first: impl Fn(&OnCpu<'_>) -> PageRef, before: impl Fn(&OnCpu<'_>, &PageRef)) -> (bool, bool, Option<Prot>) {
    let mut seen = None;
    with_tables(512, |mmu, tables| {
        let new = first(&mmu);
        let (pfn, extra) = (new.pfn(), new.get(frames(&mmu)));
        map(&mmu, tables, page(0), new, pfn);
        let walk = mmu.walk(tables).unwrap();
        let entry = walk.pte(page(0)).unwrap();
        let writable = entry.load();
        assert!(entry.set_prot(writable, entry.prot(writable).unwrap() - MARKS));
        let pte = entry.load();
        before(&mmu, &extra);
        mmu.put(extra);
        let is_own = mmu.reuse(&entry, pte, MARKS);
        seen = Some((is_own, entry.is_exclusive(entry.load()), entry.prot(entry.load())));
        mmu.gather(tables).take(&entry);
        drop(walk);
        free_tables(&mmu, tables);
    });
    seen.unwrap()
}

fn anon_page(mmu: &OnCpu<'_>) -> PageRef {
    let new = anon(mmu, 0);
    frames(mmu).at(new.pfn()).clear_flags(frame_table::PageFlags::ANON_EXCLUSIVE);
    new
}

fn cached_page(mmu: &OnCpu<'_>) -> PageRef {
    let block = mmu.objects().pages().alloc(mmu.cpu(), Gfp::KERNEL, Order::ZERO).unwrap();
    let new = block.into_ref(frames(mmu));
    frames(mmu).at(new.pfn()).set_mapping(1, 0);
    new
}

#[test]
fn a_page_that_nobody_else_has_becomes_the_address_space_s_own() {
    let (is_own, is_exclusive, prot) = ask(anon_page, |_, _| ());
    assert!(is_own && is_exclusive);
    assert!(prot.unwrap().contains(MARKS));
}

#[test]
fn a_page_that_is_marked_as_own_is_reused_whoever_holds_it_for_a_moment() {
    with_tables(512, |mmu, tables| {
        let new = anon(&mmu, 0);
        let (pfn, held) = (new.pfn(), new.get(frames(&mmu)));
        map(&mmu, tables, page(0), new, pfn);
        let walk = mmu.walk(tables).unwrap();
        let entry = walk.pte(page(0)).unwrap();
        assert!(entry.is_exclusive(entry.load()) && mmu.reuse(&entry, entry.load(), MARKS));
        mmu.put(held);
        mmu.gather(tables).take(&entry);
        drop(walk);
        free_tables(&mmu, tables);
    });
}

#[test]
fn a_page_that_others_have_too_is_left_read_only_though_the_entry_is_as_it_was_read() {
    with_tables(512, |mmu, tables| {
        let new = anon_page(&mmu);
        let (pfn, other) = (new.pfn(), new.get(frames(&mmu)));
        map(&mmu, tables, page(0), new, pfn);
        map(&mmu, tables, page(1), other, pfn);
        let walk = mmu.walk(tables).unwrap();
        let [entry, second] = [0, 1].map(|index| walk.pte(page(index)).unwrap());
        let before = entry.load();
        assert!(!mmu.reuse(&entry, before, MARKS));
        assert_eq!((entry.load(), entry.is_exclusive(before)), (before, false));
        mmu.gather(tables).take(&second);
        assert!(mmu.reuse(&entry, before, MARKS), "the other let go of it");
        assert!(!mmu.reuse(&second, before, MARKS), "that one maps nothing");
        assert!(!mmu.reuse(&second, Pte::NONE, MARKS));
        mmu.gather(tables).take(&entry);
        drop(walk);
        free_tables(&mmu, tables);
    });
}

#[test]
fn a_page_that_is_not_anonymous_when_the_entry_is_held_is_left_read_only() {
    let become_cached = |mmu: &OnCpu<'_>, held: &PageRef| {
        assert!(frames(mmu).at(held.pfn()).set_mapping(1, 0));
    };
    for (is_own, is_exclusive, prot) in [ask(cached_page, |_, _| ()), ask(anon_page, become_cached)] {
        assert!(!is_own && !is_exclusive && !prot.unwrap().contains(Prot::WRITE));
    }
}
