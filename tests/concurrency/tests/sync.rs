//! Models of `sync`: nobody meets inside an owner cell or a spin lock, and what one left the next one sees.
#![cfg(loom)]

use std::sync::atomic::AtomicU32 as HostAtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use loom::sync::Arc;
use loom::thread;
use sync::{Cpu, IrqControl, OwnerCell, ReaderCell, SetOnce, SpinLock, rank};
use units::CpuId;

/// Makes the token of a CPU of `machine`.
fn cpu(machine: u32, id: u64) -> Cpu {
    // SAFETY: each iteration of each model takes a machine number of its own from `machine()`, and its threads name distinct CPUs.
    unsafe { Cpu::new(machine, CpuId::try_new(id).unwrap(), IrqControl::NONE) }
}

fn machine() -> u32 {
    static NEXT: HostAtomicU32 = HostAtomicU32::new(1);
    NEXT.fetch_add(1, Relaxed)
}

/// Runs one owner, who enters `entries` times, against remote CPUs who enter once each; all entries must be counted.
fn owner_against_remotes(remotes: u64, entries: u64) {
    loom::model(move || {
        let machine = machine();
        let cell = Arc::new(OwnerCell::new(Cpu::tag_of(machine, CpuId::ZERO), 0u64));
        let threads: Vec<_> = (1..=remotes)
            .map(|id| {
                let cell = Arc::clone(&cell);
                thread::spawn(move || cell.with_remote(&cpu(machine, id), || (), |value| *value += 1))
            })
            .collect();
        let owner = cpu(machine, 0);
        let entered = (0..entries).filter(|_| cell.try_with(&owner, |value| *value += 1).is_some()).count() as u64;
        for thread in threads {
            assert_eq!(thread.join().unwrap(), Some(()));
        }
        // With the remote CPUs gone nothing can turn the owner away.
        assert_eq!(cell.try_with(&owner, |value| *value), Some(entered + remotes));
    });
}

#[test]
fn an_owner_and_a_remote_cpu_exclude_each_other() {
    owner_against_remotes(1, 2);
}

#[test]
fn an_owner_and_two_remote_cpus_exclude_each_other() {
    owner_against_remotes(2, 1);
}

#[test]
fn the_owner_enters_its_own_cell_the_remote_way_against_a_remote_cpu() {
    loom::model(|| {
        let machine = machine();
        let cell = Arc::new(OwnerCell::new(Cpu::tag_of(machine, CpuId::ZERO), 0u64));
        let remote = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || cell.with_remote(&cpu(machine, 1), || (), |value| *value += 1))
        };
        let owner = cpu(machine, 0);
        assert_eq!(cell.with_remote(&owner, || (), |value| *value += 1), Some(()));
        assert_eq!(remote.join().unwrap(), Some(()));
        assert_eq!(cell.try_with(&owner, |value| *value), Some(2));
    });
}

#[test]
fn cpus_that_claim_each_other_s_cells_together_exclude_each_other_and_the_owners() {
    loom::model(|| {
        let machine = machine();
        let tag = |id| Cpu::tag_of(machine, CpuId::try_new(id).unwrap());
        let cells = Arc::new([OwnerCell::new(tag(0), 0u64), OwnerCell::new(tag(1), 0u64)]);
        let add_to_all = |cells: &[OwnerCell<u64>; 2], cpu: &Cpu| {
            OwnerCell::with_each(cells.iter(), cpu, || (), |value| *value += 1)
        };
        let other = {
            let cells = Arc::clone(&cells);
            thread::spawn(move || {
                let one = cpu(machine, 1);
                let entered = cells[1].try_with(&one, |value| *value += 1).is_some();
                add_to_all(&cells, &one);
                u64::from(entered)
            })
        };
        let zero = cpu(machine, 0);
        add_to_all(&cells, &zero);
        let entered = other.join().unwrap();
        assert_eq!(cells[0].try_with(&zero, |value| *value), Some(2));
        assert_eq!(cells[1].with_remote(&zero, || (), |value| *value), Some(2 + entered));
    });
}

#[test]
fn holders_of_a_spin_lock_see_what_the_holder_before_did() {
    loom::model(|| {
        let machine = machine();
        let lock = Arc::new(SpinLock::<{ rank::ZONE }, _>::new((0u64, 0u64)));
        let add = |lock: &SpinLock<{ rank::ZONE }, (u64, u64)>, cpu: &Cpu| {
            let mut value = lock.lock(cpu);
            assert_eq!(value.0, value.1);
            value.0 += 1;
            value.1 += 1;
        };
        let other = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || add(&lock, &cpu(machine, 1)))
        };
        let zero = cpu(machine, 0);
        add(&lock, &zero);
        other.join().unwrap();
        assert_eq!(*lock.lock(&zero), (2, 2));
    });
}

#[test]
fn an_owner_that_refills_under_a_lock_never_meets_a_remote_drain() {
    loom::model(|| {
        let machine = machine();
        let list = Arc::new(OwnerCell::new(Cpu::tag_of(machine, CpuId::ZERO), 0u64));
        let zone = Arc::new(SpinLock::<{ rank::ZONE }, _>::new(2u64));
        let drain = {
            let (list, zone) = (Arc::clone(&list), Arc::clone(&zone));
            thread::spawn(move || {
                let cpu = cpu(machine, 1);
                list.with_remote(&cpu, || (), |count| *zone.lock(&cpu) += std::mem::take(count));
            })
        };
        let owner = cpu(machine, 0);
        let taken = list.try_with(&owner, |count| {
            let mut free = zone.lock(&owner);
            *count += std::mem::take(&mut *free);
        });
        drain.join().unwrap();
        let held = list.try_with(&owner, |count| *count).unwrap();
        assert_eq!(held + *zone.lock(&owner), 2, "pages are neither lost nor doubled");
        assert!(taken.is_some() || held == 0);
    });
}

#[test]
fn who_finds_a_value_that_is_set_once_finds_all_of_it() {
    loom::model(|| {
        let room = Arc::new(SetOnce::new());
        let setters: Vec<_> = [1u64, 2]
            .into_iter()
            .map(|value| {
                let room = Arc::clone(&room);
                thread::spawn(move || room.set([value; 2]).is_ok())
            })
            .collect();
        let early = room.get().copied();
        let set = setters.into_iter().map(|setter| setter.join().unwrap()).filter(|set| *set).count();
        assert_eq!(set, 1);
        let value = *room.get().unwrap();
        assert_eq!(value[0], value[1]);
        assert!(early.is_none_or(|early| early == value));
    });
}

/// What a reader looks for, and what says where it is.
struct Published {
    linked: loom::sync::atomic::AtomicBool,
    object: loom::cell::UnsafeCell<u64>,
    reader: ReaderCell,
}

// SAFETY: what the models check: the object is read only by a reader who found it linked, and written only after the wait.
unsafe impl Sync for Published {}

/// Runs a reader with `sections` sections, each with an inner one, against a CPU that unlinks the object, waits and destroys it.
fn reader_against_remover(sections: u32) {
    use loom::sync::atomic::{AtomicBool, Ordering, fence};
    loom::model(move || {
        let machine = machine();
        let shared = Arc::new(Published {
            linked: AtomicBool::new(true),
            object: loom::cell::UnsafeCell::new(7),
            reader: ReaderCell::new(Cpu::tag_of(machine, CpuId::ZERO)),
        });
        let remover = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.linked.store(false, Ordering::Relaxed);
                // The barrier of all CPUs, of which the reader pays its half.
                fence(Ordering::SeqCst);
                shared.reader.wait();
                // SAFETY: nobody reads it any more, which loom checks.
                shared.object.with_mut(|object| unsafe { *object = 0 });
            })
        };
        let cpu = cpu(machine, 0);
        for _ in 0..sections {
            let outer = shared.reader.enter(&cpu).unwrap();
            drop(shared.reader.enter(&cpu).unwrap());
            if shared.linked.load(Ordering::Relaxed) {
                // SAFETY: as above.
                assert_eq!(shared.object.with(|object| unsafe { *object }), 7, "it was freed under a reader");
            }
            drop(outer);
        }
        remover.join().unwrap();
    });
}

#[test]
fn what_a_reader_found_is_not_freed_before_its_section_ends() {
    reader_against_remover(1);
}

#[test]
fn a_remover_waits_for_one_section_and_not_for_the_next() {
    reader_against_remover(2);
}
