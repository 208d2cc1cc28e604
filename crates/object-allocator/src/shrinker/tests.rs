//! Shrinkers on small machines.

extern crate std;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::vec;
use std::vec::Vec;

use core::cell::Cell;
use proptest::prelude::*;
use sync::Cpu;
use units::{Gfp, NodeId};

use super::*;
use crate::tests::Machine;

/// Counts of objects by node.
#[derive(Default)]
struct Counted {
    objects: [AtomicU64; 2],
    calls: AtomicU64,
    stops: AtomicBool,
}

struct Counting(Arc<Counted>);

impl Shrinker for Counting {
    fn count_objects(&self, control: &ShrinkControl<'_>) -> u64 {
        self.0.objects[control.node.index()].load(Ordering::Relaxed)
    }

    fn scan_objects(&self, control: &ShrinkControl<'_>, nr_to_scan: u64) -> Scanned {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        if self.0.stops.load(Ordering::Relaxed) {
            return Scanned::Stop;
        }
        let objects = &self.0.objects[control.node.index()];
        let freed = nr_to_scan.min(objects.load(Ordering::Relaxed));
        objects.fetch_sub(freed, Ordering::Relaxed);
        Scanned::Objects { scanned: nr_to_scan, freed }
    }
}

fn node(raw: u64) -> NodeId {
    NodeId::try_new(raw).unwrap()
}

fn call(on: u64, priority: u32) -> ShrinkSlab {
    ShrinkSlab { gfp: Gfp::KERNEL, node: node(on), priority }
}

fn numa() -> ShrinkerParams {
    ShrinkerParams { flags: ShrinkerFlags::NUMA_AWARE, ..ShrinkerParams::default() }
}

#[test]
fn a_node_that_is_short_shrinks_its_own_objects() {
    let (machine, cpu) = Machine::new(1, 2, 512);
    let counted = Arc::new(Counted::default());
    counted.objects.iter().for_each(|objects| objects.store(1000, Ordering::Relaxed));
    let handle = machine.register_shrinker(&cpu, numa(), Counting(counted.clone())).unwrap();
    let done = machine.shrink_slab(&cpu, &call(1, 2));
    // 1000 / 4 * 4 / 2 = 500 are asked for; three batches of 128 are due, the rest waits.
    assert_eq!((done.freed, done.scanned), (384, 384));
    assert_eq!(counted.objects[0].load(Ordering::Relaxed), 1000);
    assert_eq!((handle.deferred(node(0)), handle.deferred(node(1))), (0, 116));
    handle.unregister(&cpu).unwrap();
}

#[test]
fn a_shrinker_that_does_not_look_at_nodes_counts_once() {
    let (machine, cpu) = Machine::new(1, 2, 512);
    let counted = Arc::new(Counted::default());
    counted.objects[0].store(64, Ordering::Relaxed);
    let handle = machine.register_shrinker(&cpu, ShrinkerParams::default(), Counting(counted.clone())).unwrap();
    assert_eq!(machine.shrink_slab(&cpu, &call(1, 0)).freed, 64);
    assert_eq!(handle.deferred(node(1)), 0);
    handle.unregister(&cpu).unwrap();
}

#[test]
fn what_a_shrinker_cannot_do_now_is_done_later() {
    let (machine, cpu) = Machine::new(1, 1, 512);
    let counted = Arc::new(Counted::default());
    counted.objects[0].store(10_000, Ordering::Relaxed);
    counted.stops.store(true, Ordering::Relaxed);
    let handle = machine.register_shrinker(&cpu, ShrinkerParams::default(), Counting(counted.clone())).unwrap();
    for _ in 0..3 {
        assert_eq!(machine.shrink_slab(&cpu, &call(0, 4)).scanned, 0);
    }
    assert_eq!(handle.deferred(node(0)), 3 * (10_000 / 16 * 4 / 2));
    counted.stops.store(false, Ordering::Relaxed);
    let done = machine.shrink_slab(&cpu, &call(0, 0));
    assert_eq!(done.freed, 10_000);
    handle.unregister(&cpu).unwrap();
}

#[test]
fn an_unregistered_shrinker_is_not_called_and_comes_back() {
    let (machine, cpu) = Machine::new(1, 1, 512);
    machine.shrink_caches(&cpu);
    let free = machine.check(&cpu);
    let counted: Vec<Arc<Counted>> = (0..3).map(|_| Arc::default()).collect();
    let mut handles: Vec<_> = counted
        .iter()
        .map(|counted| machine.register_shrinker(&cpu, ShrinkerParams::default(), Counting(counted.clone())).unwrap())
        .collect();
    counted.iter().for_each(|counted| counted.objects[0].store(10, Ordering::Relaxed));
    let returned = handles.remove(1).unregister(&cpu).unwrap();
    assert!(Arc::ptr_eq(&returned.0, &counted[1]));
    assert_eq!(machine.shrink_slab(&cpu, &call(0, 0)).freed, 20);
    let calls: Vec<u64> = counted.iter().map(|counted| counted.calls.load(Ordering::Relaxed)).collect();
    assert_eq!(calls, [1, 0, 1]);
    handles.into_iter().for_each(|handle| drop(handle.unregister(&cpu).unwrap()));
    assert_eq!(machine.shrink_slab(&cpu, &call(0, 0)), Shrunk::default());
    machine.shrink_caches(&cpu);
    assert_eq!(machine.check(&cpu), free, "the list keeps no memory");
}

/// A shrinker whose scan runs what the test put there.
struct Running<'a>(&'a (dyn Fn(&Cpu) + Sync));

impl Shrinker for Running<'_> {
    fn count_objects(&self, _control: &ShrinkControl<'_>) -> u64 {
        1
    }

    fn scan_objects(&self, control: &ShrinkControl<'_>, nr_to_scan: u64) -> Scanned {
        self.0(control.cpu);
        Scanned::Objects { scanned: nr_to_scan, freed: 0 }
    }
}

#[test]
fn a_shrinker_that_runs_is_not_removed_under_its_scan() {
    let (machine, cpu) = Machine::new(1, 1, 512);
    let refused = std::sync::Mutex::new(0);
    let handle = std::sync::Mutex::new(None);
    let try_it = |cpu: &Cpu| {
        let taken: Option<RegisteredShrinker<'_, Running<'_>, _, _>> = handle.lock().unwrap().take();
        if let Some(Err(StillRunning(again))) = taken.map(|handle| handle.unregister(cpu)) {
            *refused.lock().unwrap() += 1;
            *handle.lock().unwrap() = Some(again);
        }
    };
    // SAFETY: unregistered at the end of the test.
    let made = unsafe { machine.register_borrowing(&cpu, ShrinkerParams::default(), Running(&try_it)) }.unwrap();
    *handle.lock().unwrap() = Some(made);
    machine.shrink_slab(&cpu, &call(0, 0));
    assert_eq!(*refused.lock().unwrap(), 1, "its own scan holds it");
    machine.shrink_slab(&cpu, &call(0, 0));
    assert_eq!(*refused.lock().unwrap(), 1, "no new scan takes it");
    let kept = handle.lock().unwrap().take().unwrap();
    assert!(kept.unregister(&cpu).is_ok());
}

#[test]
fn a_shrinker_that_looks_at_nothing_is_not_asked_for_ever() {
    struct Idle(Cell<u32>);
    // SAFETY: the test has one thread.
    unsafe impl Sync for Idle {}
    impl Shrinker for Idle {
        fn count_objects(&self, _control: &ShrinkControl<'_>) -> u64 {
            500
        }
        fn scan_objects(&self, _control: &ShrinkControl<'_>, _nr_to_scan: u64) -> Scanned {
            self.0.set(self.0.get() + 1);
            Scanned::Objects { scanned: 0, freed: 0 }
        }
    }
    let (machine, cpu) = Machine::new(1, 1, 512);
    let handle = machine.register_shrinker(&cpu, ShrinkerParams::default(), Idle(Cell::new(0))).unwrap();
    machine.shrink_slab(&cpu, &call(0, 0));
    assert_eq!(handle.get().0.get(), 1);
    handle.unregister(&cpu).unwrap();
}

#[test]
fn without_memory_there_is_no_registration_and_no_leak() {
    let (machine, cpu) = Machine::new(1, 1, 512);
    machine.shrink_caches(&cpu);
    let free = machine.check(&cpu);
    for skip in 0..4 {
        machine.pages().arm_faults(skip, u64::MAX);
        let counted = Arc::new(Counted::default());
        let outcome = machine.register_shrinker(&cpu, numa(), Counting(counted.clone()));
        machine.pages().arm_faults(u64::MAX, 0);
        match outcome {
            Ok(handle) => drop(handle.unregister(&cpu).unwrap()),
            Err(_) => assert_eq!(Arc::strong_count(&counted), 1),
        }
        machine.shrink_caches(&cpu);
        assert_eq!(machine.check(&cpu), free);
    }
}

#[test]
fn scans_registrations_and_removals_meet_on_several_cpus() {
    let (machine, cpu) = Machine::new(4, 1, 2048);
    let counted = Arc::new(Counted::default());
    counted.objects[0].store(1 << 40, Ordering::Relaxed);
    let steady = machine.register_shrinker(&cpu, ShrinkerParams::default(), Counting(counted.clone())).unwrap();
    std::thread::scope(|scope| {
        for id in 1..3 {
            let machine = &machine;
            scope.spawn(move || {
                let cpu = machine.cpu(id);
                for _ in 0..400 {
                    let own = Arc::new(Counted::default());
                    own.objects[0].store(5, Ordering::Relaxed);
                    let mut handle = Some(
                        machine.register_shrinker(&cpu, ShrinkerParams::default(), Counting(own.clone())).unwrap(),
                    );
                    while let Some(registered) = handle.take() {
                        handle = registered.unregister(&cpu).err().map(|StillRunning(again)| again);
                    }
                    assert_eq!(Arc::strong_count(&own), 1, "nothing keeps it");
                }
            });
        }
        let machine = &machine;
        scope.spawn(move || {
            let cpu = machine.cpu(3);
            for _ in 0..400 {
                // 2^40 / 2^30 * 4 / 2, in whole batches.
                assert!(machine.shrink_slab(&cpu, &call(0, 30)).freed >= 15 * SHRINK_BATCH);
            }
        });
    });
    steady.unregister(&cpu).unwrap();
}

proptest! {
    #[test]
    fn no_work_is_lost_and_none_is_made_up(
        calls in proptest::collection::vec((0..5000_u64, 0..13_u32), 1..30),
        seeks in 0..5_u32,
        batch in prop_oneof![Just(0), 1..600_u64],
    ) {
        let params = ShrinkerParams { seeks, batch, ..ShrinkerParams::default() };
        let (mut deferred, mut owed) = (0_u64, 0_u128);
        let mut done = vec![];
        for (freeable, priority) in calls {
            let mut scan = Scan::new(&params, freeable, deferred, priority);
            let asked = match u64::from(seeks) {
                0 => freeable / 2,
                seeks => (freeable >> priority) * 4 / seeks,
            };
            owed += u128::from(asked);
            let mut scanned = 0;
            while let Some(batch) = scan.next_batch() {
                prop_assert!(batch > 0);
                scanned += batch;
                scan.note(batch);
            }
            prop_assert!(scanned <= 2 * freeable);
            done.push(scanned);
            deferred = scan.deferred();
            prop_assert!(deferred <= 2 * freeable);
            let total: u128 = done.iter().copied().map(u128::from).sum();
            prop_assert!(total + u128::from(deferred) <= owed);
        }
    }
}
