//! Pins against fork: who pinned a page keeps it, and the child gets a copy; or the pin comes after, and finds a page that others have too.
//!
//! The locks are those of an address space with one area, taken as `Mm::lock_area` and a fork do.

use frame_table::Pin;
use object_allocator::mmu::UserTables;
use platform::Prot;
use sync::{PartLock, RwSpinLock, TurnCount, rank};

use crate::space::{View, end, fork, frame, map_one, page, sharers, two_cpus};

/// The owner of the area.
const OWNER: u64 = 1;

struct Locks {
    mm: RwSpinLock<{ rank::MMAP_LOCK }, ()>,
    turns: TurnCount,
    area: PartLock<{ rank::VMA_LOCK }>,
}

loom::lazy_static! {
    static ref LOCKS: Locks =
        Locks { mm: RwSpinLock::new(()), turns: TurnCount::default(), area: PartLock::default() };
}

fn setup(view: &View<'_>) {
    map_one(view);
    let own = LOCKS.turns.own();
    LOCKS.area.attach(view.mmu.cpu(), OWNER, own);
    LOCKS.turns.end(own);
}

/// Pins the page at page 0 for writing; `None` if it takes a fault first.
fn pin(view: &View<'_>) -> Option<Pin> {
    let cpu = view.mmu.cpu();
    let area = LOCKS.area.try_read(cpu, OWNER, &LOCKS.turns);
    let whole = area.is_none().then(|| LOCKS.mm.read(cpu));
    view.tables.note_pinned();
    let walk = view.mmu.walk(view.tables).unwrap();
    let entry = walk.pte(page(0)).unwrap();
    let allowed = entry.prot(entry.load()).is_some_and(|prot| prot.contains(Prot::WRITE));
    let held = if allowed { view.mmu.page(&entry) } else { None };
    drop(walk);
    let pinned = held.map(|(held, _)| Pin::new(held, &view.mmu.objects().pages().map().frames).unwrap());
    drop((area, whole));
    pinned
}

/// Makes a child, with the locks held for writing.
fn fork_locked(view: &View<'_>) -> Box<UserTables> {
    let held = LOCKS.mm.write(view.mmu.cpu());
    let own = LOCKS.turns.own();
    LOCKS.area.start_write(view.mmu.cpu(), own);
    let tables = fork(view);
    LOCKS.turns.end(own);
    drop(held);
    tables
}

#[test]
fn a_pinned_page_is_the_parent_s_alone() {
    two_cpus(setup, fork_locked, pin, |view, child, pinned| {
        let child = View { mmu: view.mmu, tables: &child };
        let [parent_s, child_s] = [view, &child].map(|view| frame(view, page(0)).unwrap());
        match pinned {
            Some(pinned) => {
                assert_eq!(pinned.page().pfn(), parent_s, "the parent left its pinned page");
                assert_ne!(parent_s, child_s, "the child maps a pinned page");
                view.mmu.put(pinned.into_ref(&view.mmu.objects().pages().map().frames));
                assert_eq!([view, &child].map(|view| sharers(view, page(0))), [Some((1, 1)); 2]);
            }
            None => assert_eq!((parent_s, sharers(view, page(0))), (child_s, Some((2, 2)))),
        }
        end(&child);
    });
}
