//! Entries that move to other addresses, while they are taken out, filled, and read.
//!
//! The callers of `Tables::relocate` keep others from both places; what a page is counted as holds nevertheless.

use loom::sync::atomic::Ordering::Relaxed;
use page_tables::ZapWhat;
use platform::Level;
use units::{Gfp, Order, VirtAddr, VirtRange};

use crate::space::{
    EVERYTHING, View, anon, frame, install, make_tables, map_large, map_large_at, page, sharers, split_at, take,
    two_cpus,
};

/// Maps two pages, and makes the tables of the place that they move to.
fn map_two(view: &View<'_>) {
    make_tables(view);
    view.mmu.make_tables(view.tables, page(4), Level::PTE, Gfp::KERNEL).unwrap();
    for index in 0..2 {
        assert!(install(view, page(index), anon(&view.mmu, Order::ZERO), 0));
    }
}

/// Moves pages 0 and 1 to 4 and 5, entry by entry.
fn move_two(view: &View<'_>) {
    let mut gather = view.gather();
    let walk = view.mmu.walk(view.tables).unwrap();
    let row = |start, end| walk.row(VirtRange::new(page(start), page(end))).unwrap();
    gather.relocate(row(0, 2), row(4, 6));
}

fn mapped(view: &View<'_>) -> Vec<VirtAddr> {
    let mut mapped = Vec::new();
    view.for_each_mapped(EVERYTHING, |page| mapped.push(page.range.start));
    mapped
}

#[test]
fn a_page_that_moves_is_taken_at_one_of_its_places_or_stays_at_the_new_one() {
    let take_both = |view: &View<'_>| [0, 4].map(|index| take(view, page(index)));
    two_cpus(map_two, move_two, take_both, |view, (), taken| {
        assert_ne!(taken, [true, true], "one page is taken twice");
        let expected = if taken == [false, false] { vec![page(4), page(5)] } else { vec![page(5)] };
        assert_eq!(mapped(view), expected);
        assert!(expected.into_iter().all(|virt| sharers(view, virt) == Some((1, 1))));
    });
}

#[test]
fn a_page_that_finds_its_new_place_filled_stays_or_goes() {
    let fill_both = |view: &View<'_>| {
        [4, 0].map(|index| {
            let new = anon(&view.mmu, Order::ZERO);
            let pfn = new.pfn();
            install(view, page(index), new, 0).then_some(pfn)
        })
    };
    two_cpus(map_two, move_two, fill_both, |view, (), filled| {
        for (virt, new) in [page(4), page(0)].into_iter().zip(filled) {
            assert!(new.is_none() || frame(view, virt) == new, "what was mapped there is lost");
        }
        assert!(mapped(view).into_iter().all(|virt| sharers(view, virt) == Some((1, 1))));
        assert_eq!(frame(view, page(1)), None);
    });
}

#[test]
fn who_finds_a_page_at_its_new_place_finds_the_old_one_empty_and_flushed() {
    let look = |view: &View<'_>| {
        let walk = view.mmu.walk(view.tables).unwrap();
        let [old, new] = [0, 4].map(|index| walk.pte(page(index)).unwrap());
        let held = [&new, &old].map(|entry| view.mmu.page(entry));
        if let [Some((found, _)), before] = &held {
            let platform = view.mmu.objects().pages().platform();
            assert_ne!(platform.flushed.load(Relaxed) & 1, 0, "the old address was not flushed");
            assert!(before.is_none(), "a page is mapped twice");
            assert!(view.mmu.objects().pages().map().frames.at(found.pfn()).count() > 1);
        }
        drop(walk);
        held.into_iter().flatten().for_each(|(page, _)| view.mmu.put(page));
    };
    two_cpus(map_two, move_two, look, |view, (), ()| {
        assert_eq!(mapped(view), [page(4), page(5)]);
        assert!([4, 5].into_iter().all(|index| sharers(view, page(index)) == Some((1, 1))));
    });
}

/// Moves the large page at page 0 to page 4, with the table that waits for it.
fn move_large(view: &View<'_>) {
    view.relocate(&mut view.gather(), VirtRange::new(page(0), page(2)), page(4), 0).unwrap();
}

fn zap(view: &View<'_>, start: u64, end: u64) {
    view.zap(&mut view.gather(), VirtRange::new(page(start), page(end)), ZapWhat::All);
}

#[test]
fn a_large_page_that_moves_is_taken_with_its_table() {
    let setup = |view: &View<'_>| {
        map_large(view);
        view.mmu.make_tables(view.tables, page(4), Level::PMD, Gfp::KERNEL).unwrap();
    };
    two_cpus(
        setup,
        move_large,
        |view| zap(view, 0, 8),
        |view, (), ()| {
            let is_mapped = !mapped(view).is_empty();
            assert_eq!(view.tables.nr_tables(), 2 + u64::from(is_mapped));
            if is_mapped {
                split_at(view, page(4));
                assert_eq!(sharers(view, page(4)), Some((2, 2)));
            }
        },
    );
}

#[test]
fn the_table_of_a_large_page_moves_with_it_while_its_neighbour_s_goes() {
    let setup = |view: &View<'_>| {
        map_large(view);
        map_large_at(view, page(2));
    };
    two_cpus(
        setup,
        move_large,
        |view| zap(view, 2, 4),
        |view, (), ()| {
            assert_eq!((mapped(view), view.tables.nr_tables()), (vec![page(4)], 3));
            split_at(view, page(4));
            assert_eq!((sharers(view, page(4)), view.tables.nr_tables()), (Some((2, 2)), 3));
        },
    );
}
