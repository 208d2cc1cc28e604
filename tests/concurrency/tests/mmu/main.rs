//! Models of page tables: a page is counted once for each entry that maps it and freed once, no table goes while a walk sees it, and no mark of use is
//! lost, whatever two CPUs do at once.
//!
//! One file a concern: `migration` (pages that change their frame), `moves` (entries that move), `pins`, `space` (the address space that all work on). Preemptions are
//! bounded at `space::PREEMPTIONS` a run, or at LOOM_MAX_PREEMPTIONS.
#![cfg(loom)]

#[path = "../machine/format.rs"]
mod format;
#[path = "../machine/objects.rs"]
mod machine;
mod migration;
mod moves;
mod pins;
mod space;

use loom::sync::atomic::{AtomicU64, Ordering};
use object_allocator::mmu::Found;
use page_tables::{Bounds, ZapWhat};
use platform::{Level, Prot};
use units::{Gfp, Order, VirtRange};

use space::{
    EVERYTHING, USED, View, anon, end, fork, install, make_tables, map_large, map_large_at, map_one, page, sharers,
    split, split_at, take, two_cpus,
};

#[test]
fn two_cpus_fill_one_entry() {
    let fill = |view: &View<'_>| install(view, page(0), anon(&view.mmu, Order::ZERO), 0);
    two_cpus(make_tables, fill, fill, |view, first, second| {
        assert!(first != second, "one of them has to see the other's page");
        assert_eq!(sharers(view, page(0)), Some((1, 1)));
    });
}

#[test]
fn an_entry_is_filled_while_it_is_emptied() {
    let fill = |view: &View<'_>| install(view, page(0), anon(&view.mmu, Order::ZERO), 0);
    two_cpus(
        map_one,
        fill,
        |view| take(view, page(0)),
        |view, filled, taken| {
            assert!(taken);
            assert_eq!(sharers(view, page(0)), filled.then_some((1, 1)));
        },
    );
}

#[test]
fn two_cpus_empty_one_entry() {
    let empty = |view: &View<'_>| take(view, page(0));
    two_cpus(map_one, empty, empty, |_, first, second| assert!(first != second));
}

#[test]
fn a_page_that_was_found_is_the_one_that_is_mapped_and_stays_while_it_is_held() {
    let setup = |view: &View<'_>| {
        make_tables(view);
        // The second frame of a page of two.
        assert!(install(view, page(0), anon(&view.mmu, Order::new_truncate(1)), 1));
    };
    let find = |view: &View<'_>| {
        let walk = view.mmu.walk(view.tables).unwrap();
        let entry = walk.pte(page(0)).unwrap();
        let found = view.mmu.page(&entry);
        if let Some((held, pte)) = &found {
            let (at, _) = entry.leaf(*pte).unwrap();
            assert!(held.pfn() <= at && at < held.pfn().add(held.order().nr_pages()), "another page is held");
            assert!(view.mmu.objects().pages().map().frames.at(held.pfn()).count() > 0);
        }
        drop(walk);
        if let Some((held, _)) = found {
            view.mmu.put(held);
        }
    };
    // The block is freed and comes back as two pages, of which the second is mapped at the same place.
    let reuse = |view: &View<'_>| {
        take(view, page(0));
        let first = anon(&view.mmu, Order::ZERO);
        install(view, page(0), anon(&view.mmu, Order::ZERO), 0);
        view.mmu.put(first);
    };
    two_cpus(setup, find, reuse, |_, (), ()| ());
}

#[test]
fn two_cpus_make_the_same_tables() {
    two_cpus(|_| (), make_tables, make_tables, |view, (), ()| assert_eq!(view.tables.nr_tables(), 2));
}

#[test]
fn a_table_stays_a_table_while_a_walk_sees_it() {
    let look = |view: &View<'_>| {
        let walk = view.mmu.walk(view.tables).unwrap();
        let entry = walk.pte(page(0));
        entry.is_some_and(|entry| !entry.load().is_none())
    };
    // What was the table of page 0 becomes the table of page 4, and shows a page there.
    let reuse = |view: &View<'_>| {
        let mut gather = view.mmu.gather(view.tables);
        view.free_tables(&mut gather, VirtRange::new(page(0), page(1)), Bounds::NONE);
        drop(gather);
        view.mmu.make_tables(view.tables, page(4), Level::PTE, Gfp::KERNEL).unwrap();
        assert!(install(view, page(4), anon(&view.mmu, Order::ZERO), 0));
    };
    two_cpus(make_tables, look, reuse, |_, saw_a_page, ()| assert!(!saw_a_page, "a table was freed under a walk"));
}

#[test]
fn a_page_is_replaced_while_it_is_taken() {
    let copy = |view: &View<'_>| {
        let new = anon(&view.mmu, Order::ZERO);
        let mut gather = view.mmu.gather(view.tables);
        let walk = view.mmu.walk(view.tables).unwrap();
        let entry = walk.pte(page(0)).unwrap();
        let replaced = gather.replace(&entry, entry.load(), new, USED);
        drop(walk);
        replaced.map_err(|new| view.mmu.put(new)).is_ok()
    };
    two_cpus(
        map_one,
        copy,
        |view| take(view, page(0)),
        |view, _, taken| {
            assert!(taken);
            assert_eq!(sharers(view, page(0)), None);
        },
    );
}

loom::lazy_static! {
    /// A word of the page that [`map_one`] maps.
    static ref WORD: AtomicU64 = AtomicU64::new(0);
}

#[test]
fn a_page_that_is_shared_by_fork_is_written_before_or_not_at_all() {
    let write = |view: &View<'_>| {
        let walk = view.mmu.walk(view.tables).unwrap();
        let entry = walk.pte(page(0)).unwrap();
        let pte = entry.load();
        if entry.prot(pte).unwrap().contains(Prot::WRITE) {
            view.mmu.while_mapped(&entry, pte, Prot::DIRTY, |_, _| {
                WORD.store(1, Ordering::Relaxed);
                WORD.store(2, Ordering::Relaxed);
            });
        }
    };
    let look = |view: &View<'_>| {
        let tables = fork(view);
        let child = View { mmu: view.mmu, tables: &tables };
        let word = WORD.load(Ordering::Relaxed);
        assert_ne!(word, 1, "half a write is in the child's page");
        assert_eq!(WORD.load(Ordering::Relaxed), word, "the child's page changes");
        assert_eq!(sharers(&child, page(0)), Some((2, 2)));
        end(&child);
    };
    // The one that only reads the word comes second, as in `migration`.
    two_cpus(map_one, write, look, |_, (), ()| ());
}

#[test]
fn a_mark_of_use_is_not_lost_when_a_large_page_is_split() {
    // As the processor does it: it looks again until it has marked the entry that translates the address.
    let write = |view: &View<'_>| {
        let walk = view.mmu.walk(view.tables).unwrap();
        loop {
            let (Found::Entry(entry) | Found::Above(entry, _)) = walk.find(page(1), Level::PTE).unwrap();
            let pte = entry.load();
            if entry.prot(pte).is_some_and(|now| entry.set_prot(pte, now | Prot::DIRTY)) {
                return;
            }
        }
    };
    two_cpus(map_large, write, split, |view, (), ()| {
        let mut dirty = Vec::new();
        view.for_each_mapped(EVERYTHING, |page| dirty.push(page.attributes.prot.contains(Prot::DIRTY)));
        assert!(matches!(dirty[..], [_, true]), "page 1 was written to: {dirty:?}");
        assert_eq!(sharers(view, page(0)), Some((2, 2)));
    });
}

#[test]
fn a_large_page_is_split_while_it_is_taken() {
    let zap = |view: &View<'_>| {
        let mut gather = view.mmu.gather(view.tables);
        view.zap(&mut gather, VirtRange::new(page(0), page(2)), ZapWhat::All);
    };
    two_cpus(map_large, split, zap, |view, (), ()| {
        view.for_each_mapped(EVERYTHING, |page| panic!("{page:?} is mapped"));
    });
}

#[test]
fn two_cpus_split_one_large_page() {
    two_cpus(map_large, split, split, |view, (), ()| {
        assert_eq!(sharers(view, page(0)), Some((2, 2)));
        assert_eq!(view.tables.nr_tables(), 2);
    });
}

#[test]
fn tables_that_wait_beside_one_table_go_to_who_is_entitled_to_them() {
    let zap = |view: &View<'_>| {
        let mut gather = view.mmu.gather(view.tables);
        view.zap(&mut gather, VirtRange::new(page(2), page(4)), ZapWhat::All);
    };
    let setup = |view: &View<'_>| {
        map_large(view);
        map_large_at(view, page(2));
        assert_eq!(view.tables.nr_tables(), 3);
    };
    two_cpus(setup, split, zap, |view, (), ()| {
        assert_eq!((sharers(view, page(0)), sharers(view, page(2))), (Some((2, 2)), None));
        assert_eq!(view.tables.nr_tables(), 2);
    });
}

#[test]
fn a_large_page_is_mapped_while_its_neighbour_is_taken() {
    let take_first = |view: &View<'_>| {
        let mut gather = view.mmu.gather(view.tables);
        view.zap(&mut gather, VirtRange::new(page(0), page(2)), ZapWhat::All);
    };
    two_cpus(
        map_large,
        take_first,
        |view| map_large_at(view, page(2)),
        |view, (), ()| {
            assert_eq!(view.tables.nr_tables(), 2);
            split_at(view, page(2));
            assert_eq!((sharers(view, page(0)), sharers(view, page(2))), (None, Some((2, 2))));
        },
    );
}
