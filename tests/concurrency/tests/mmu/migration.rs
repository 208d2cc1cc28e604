//! Anonymous pages that move to other frames, and pages that become an address space's own: nobody writes to a page that another one still maps, no write is lost, and who
//! holds a page keeps it where it is.

use std::sync::Mutex;

use frame_table::PageRef;
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::Relaxed;
use object_allocator::mmu::{EntryRef, Pte};
use page_tables::Migration;
use platform::Prot;
use units::{Gfp, Order, Pfn, VirtRange};

use crate::format::Tiny;
use crate::space::{View, anon, frame, map_one, map_shared, page, sharers, take, two_cpus};

/// Marks of a write.
const WRITES: Prot = Prot::WRITE.union(Prot::ACCESSED).union(Prot::DIRTY);

/// First frame of the machine.
const FIRST: u64 = 32;

loom::lazy_static! {
    /// A word of each frame.
    static ref WORDS: [AtomicU64; 32] = std::array::from_fn(|_| AtomicU64::new(0));
}

fn word(pfn: Pfn) -> &'static AtomicU64 {
    &WORDS[(pfn.raw() - FIRST) as usize]
}

/// Moves the page at page 0, wherever it is mapped, to a new frame, to `wanted` if it is free. Returns whether all entries map that now; `None` if there is no page.
fn migrate_to(view: &View<'_>, wanted: Option<Pfn>) -> Option<bool> {
    let pages = view.mmu.objects().pages();
    let walk = view.mmu.walk(view.tables).unwrap();
    let found = walk.pte(page(0)).and_then(|entry| view.mmu.page(&entry));
    drop(walk);
    let (from, _) = found?;
    let mut others = Vec::new();
    let to = loop {
        let block = pages.alloc(view.mmu.cpu(), Gfp::KERNEL, Order::ZERO).unwrap();
        if wanted.is_none_or(|wanted| block.pfn() == wanted) {
            break block;
        }
        others.push(block);
    };
    let copy = |to: &PageRef| {
        word(to.pfn()).store(word(from.pfn()).load(Relaxed), Relaxed);
        true
    };
    let outcome = match Migration::begin(&pages.map().frames, &from, to) {
        Ok(mut migration) => {
            // An area each, as in two address spaces: what the first entry held goes before the second is exchanged.
            for index in 0..2 {
                let area = VirtRange::new(page(index), page(index + 1));
                view.migrate(&mut view.gather(), area, &mut migration, copy);
            }
            let (to, outcome) = migration.end();
            view.mmu.put(to);
            outcome.is_ok()
        }
        Err((_, to)) => {
            pages.free(view.mmu.cpu(), to);
            false
        }
    };
    view.mmu.put(from);
    others.into_iter().for_each(|block| pages.free(view.mmu.cpu(), block));
    Some(outcome)
}

fn migrate(view: &View<'_>) -> Option<bool> {
    migrate_to(view, None)
}

/// Writes to the page at page `index` if its entry allows that. Returns whether it did.
fn write(view: &View<'_>, index: u64) -> bool {
    let walk = view.mmu.walk(view.tables).unwrap();
    let entry = walk.pte(page(index)).unwrap();
    let pte = entry.load();
    let is_writable = entry.prot(pte).is_some_and(|prot| prot.contains(Prot::WRITE));
    is_writable && view.mmu.while_mapped(&entry, pte, WRITES, |_, at| word(at).store(1, Relaxed)).is_some()
}

/// As a write fault to page `index` does: allows writing if the page, seen before it is held, is nobody else's. Returns whether it did.
fn reuse(view: &View<'_>, index: u64) -> bool {
    let walk = view.mmu.walk(view.tables).unwrap();
    let entry = walk.pte(page(index)).unwrap();
    reuse_seen(view, &entry, entry.load())
}

/// As [`reuse`], of an entry that held `pte` when it was read.
fn reuse_seen(view: &View<'_>, entry: &EntryRef<'_, Tiny>, pte: Pte) -> bool {
    let is_own = entry.is_exclusive(pte) || entry.sharers(pte).is_some_and(|(count, _)| count == 1);
    is_own && view.mmu.reuse(entry, pte, WRITES)
}

fn is_writable_or_exclusive(view: &View<'_>, index: u64) -> (bool, bool) {
    let walk = view.mmu.walk(view.tables).unwrap();
    let entry = walk.pte(page(index)).unwrap();
    let pte = entry.load();
    (entry.prot(pte).is_some_and(|prot| prot.contains(Prot::WRITE)), entry.is_exclusive(pte))
}

#[test]
fn a_page_is_taken_while_it_moves() {
    two_cpus(
        map_one,
        migrate,
        |view| take(view, page(0)),
        |view, _, taken| {
            assert!(taken, "an entry on its way was found empty");
            assert_eq!(sharers(view, page(0)), None);
        },
    );
}

#[test]
fn a_page_stays_where_it_is_while_somebody_holds_it() {
    let look = |view: &View<'_>| {
        let walk = view.mmu.walk(view.tables).unwrap();
        let entry = walk.pte(page(0)).unwrap();
        let held = view.mmu.page(&entry);
        if let Some((held, _)) = &held {
            assert_eq!(entry.leaf(entry.load()).unwrap().0, held.pfn(), "the page moved away from who holds it");
        }
        drop(walk);
        held.map(|(held, _)| view.mmu.put(held)).is_some()
    };
    two_cpus(map_one, migrate, look, |view, migrated, _| {
        assert!(migrated.is_some());
        assert_eq!(sharers(view, page(0)), Some((1, 1)));
    });
}

#[test]
fn a_write_goes_along_with_its_page() {
    two_cpus(
        map_one,
        migrate,
        |view| write(view, 0),
        |view, migrated, written| {
            assert_eq!((migrated, sharers(view, page(0))), (Some(true), Some((1, 1))));
            assert_eq!(word(frame(view, page(0)).unwrap()).load(Relaxed), u64::from(written));
            assert_eq!(is_writable_or_exclusive(view, 0), (true, true));
        },
    );
}

#[test]
fn a_page_of_two_is_nobody_s_own_while_it_moves() {
    two_cpus(
        map_shared,
        migrate,
        |view| reuse(view, 1),
        |view, migrated, reused| {
            assert!(!reused, "a page that another entry maps is written to");
            assert_eq!(migrated, Some(true));
            assert_eq!((frame(view, page(0)), sharers(view, page(0))), (frame(view, page(1)), Some((2, 2))));
            assert_eq!([0, 1].map(|index| is_writable_or_exclusive(view, index)), [(false, false); 2]);
        },
    );
}

#[test]
fn who_is_left_with_a_page_that_moves_writes_to_it_and_finds_that_again() {
    let end_of_other = |view: &View<'_>| {
        assert!(take(view, page(0)));
        let is_own = reuse(view, 1);
        assert!(!is_own || write(view, 1));
        is_own
    };
    two_cpus(map_shared, migrate, end_of_other, |view, _, is_own| {
        assert_eq!((sharers(view, page(0)), sharers(view, page(1))), (None, Some((1, 1))));
        assert_eq!(is_writable_or_exclusive(view, 1), (is_own, is_own));
        assert_eq!(word(frame(view, page(1)).unwrap()).load(Relaxed), u64::from(is_own));
    });
}

#[test]
fn both_are_left_with_a_page_each_if_one_of_two_entries_moves_and_nobody_writes_to_the_other_s() {
    let hold_and_reuse = |view: &View<'_>| {
        let walk = view.mmu.walk(view.tables).unwrap();
        let held = view.mmu.page(&walk.pte(page(1)).unwrap());
        drop(walk);
        held.into_iter().for_each(|(page, _)| view.mmu.put(page));
        reuse(view, 1) && write(view, 1)
    };
    two_cpus(map_shared, migrate, hold_and_reuse, |view, _, written| {
        let [first, second] = [0, 1].map(|index| frame(view, page(index)).unwrap());
        assert!(!written || first != second, "a page that another entry maps is written to");
        assert_eq!([first, second].map(|pfn| word(pfn).load(Relaxed)), [0, u64::from(written)]);
        let expected = if first == second { (2, 2) } else { (1, 1) };
        assert_eq!([0, 1].map(|index| sharers(view, page(index))), [Some(expected); 2]);
    });
}

#[test]
fn a_page_that_moves_away_and_back_is_not_taken_for_the_one_that_its_frame_was_in_between() {
    // The frame is another's own page in between, and comes back to the entry that was read before.
    let away_and_back = |view: &View<'_>| {
        let home = frame(view, page(0)).unwrap();
        assert_eq!(migrate(view), Some(true));
        let mut others = Vec::new();
        while others.last().is_none_or(|other: &PageRef| other.pfn() != home) {
            others.push(anon(&view.mmu, Order::ZERO));
        }
        others.into_iter().for_each(|other| view.mmu.put(other));
        assert_eq!(migrate_to(view, Some(home)), Some(true));
    };
    // Of no concern to the model: what the entry holds is the same in all its runs.
    static SEEN: Mutex<Option<Pte>> = Mutex::new(None);
    let setup = |view: &View<'_>| {
        map_shared(view);
        let walk = view.mmu.walk(view.tables).unwrap();
        *SEEN.lock().unwrap() = Some(walk.pte(page(1)).unwrap().load());
    };
    let reuse = |view: &View<'_>| {
        let walk = view.mmu.walk(view.tables).unwrap();
        reuse_seen(view, &walk.pte(page(1)).unwrap(), SEEN.lock().unwrap().unwrap())
    };
    // The one that only reads comes second: loom forgets that a word was read when another thread reads and then writes it.
    two_cpus(setup, away_and_back, reuse, |view, (), reused| {
        assert!(!reused, "a page that another entry maps is written to");
        assert_eq!([0, 1].map(|index| is_writable_or_exclusive(view, index)), [(false, false); 2]);
    });
}

#[test]
fn two_threads_that_reuse_one_page_agree_on_it() {
    let setup = |view: &View<'_>| {
        map_shared(view);
        assert!(take(view, page(1)));
    };
    let fault = |view: &View<'_>| reuse(view, 0) || is_writable_or_exclusive(view, 0).0;
    two_cpus(setup, fault, fault, |view, first, second| {
        assert!(first && second, "a page that nobody else has is copied");
        assert_eq!(is_writable_or_exclusive(view, 0), (true, true));
        assert_eq!((sharers(view, page(0)), frame(view, page(1))), (Some((1, 1)), None));
    });
}
