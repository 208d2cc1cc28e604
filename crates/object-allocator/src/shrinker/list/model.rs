//! Models of the list: no scan runs a shrinker that was removed, and every scan finds its way to the end.

extern crate std;
use std::boxed::Box;
use std::sync::Arc;
use std::sync::atomic::AtomicU32 as HostAtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use loom::cell::UnsafeCell;
use loom::thread;
use sync::IrqControl;
use units::{CpuId, Gfp, NodeId};

use super::super::{Scanned, ShrinkControl};
use super::*;

/// A shrinker whose life loom watches: scans read it, the remover writes it at the end.
struct Watched(UnsafeCell<u64>);

// SAFETY: loom reports every access that is not ordered.
unsafe impl Sync for Watched {}

impl Shrinker for Watched {
    fn count_objects(&self, _control: &ShrinkControl<'_>) -> u64 {
        // SAFETY: as for `Sync`.
        self.0.with(|objects| unsafe { *objects })
    }

    fn scan_objects(&self, _control: &ShrinkControl<'_>, _nr_to_scan: u64) -> Scanned {
        Scanned::Stop
    }
}

/// An entry with its shrinker, freed with the value.
struct Node {
    entry: NonNull<Entry>,
    watched: NonNull<Watched>,
    deferred: NonNull<AtomicU64>,
}

// SAFETY: the pointers own what they point to.
unsafe impl Send for Node {}

impl Node {
    fn new(objects: u64) -> Self {
        let watched = NonNull::from(Box::leak(Box::new(Watched(UnsafeCell::new(objects)))));
        let deferred = NonNull::from(Box::leak(Box::new(AtomicU64::new(0))));
        let entry =
            Entry::new(NewEntry { shrinker: watched, params: ShrinkerParams::default(), deferred, nr_deferred: 1 });
        Self { entry: NonNull::from(Box::leak(Box::new(entry))), watched, deferred }
    }

    fn insert(&self, list: &ShrinkerList, cpu: &Cpu) {
        // SAFETY: freed after its removal only.
        unsafe { list.insert(cpu, self.entry) };
    }

    /// Removes and frees the node; gives it back if a scan runs it. One try, since loom cannot end a model that repeats it.
    fn remove(self, list: &ShrinkerList, cpu: &Cpu) -> Option<Self> {
        // SAFETY: it was inserted.
        if !unsafe { list.remove(cpu, self.entry) } {
            return Some(self);
        }
        // SAFETY: nobody reaches it any more, which is what the model checks: loom sees this write against all reads.
        let watched = unsafe { Box::from_raw(self.watched.as_ptr()) };
        // SAFETY: as above.
        watched.0.with_mut(|objects| unsafe { *objects = 0 });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(self.entry.as_ptr()) });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(self.deferred.as_ptr()) });
        None
    }

    /// Removes a node that was given back, when no scan is left.
    fn remove_at_last(node: Option<Self>, list: &ShrinkerList, cpu: &Cpu) {
        assert!(node.and_then(|node| node.remove(list, cpu)).is_none(), "without a scan nothing holds a shrinker");
    }
}

fn machine() -> u32 {
    static NEXT: HostAtomicU32 = HostAtomicU32::new(1);
    NEXT.fetch_add(1, Relaxed)
}

fn cpu(machine: u32, id: u64) -> Cpu {
    // SAFETY: each run of a model takes a machine number of its own, and its threads name distinct CPUs.
    unsafe { Cpu::new(machine, CpuId::try_new(id).unwrap(), IrqControl::NONE) }
}

/// Counts the objects of all shrinkers in one scan.
fn scan(list: &ShrinkerList, cpu: &Cpu) -> u64 {
    let (mut held, mut objects) = (list.next(cpu, None), 0);
    while let Some(running) = held {
        // SAFETY: held.
        let entry = unsafe { running.entry().as_ref() };
        let control = ShrinkControl { cpu, gfp: Gfp::KERNEL, node: NodeId::ZERO };
        // SAFETY: held.
        objects += unsafe { entry.shrinker.as_ref() }.count_objects(&control);
        held = list.next(cpu, Some(running));
    }
    objects
}

/// Runs `work` in every interleaving with at most three preemptions.
fn explore(work: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.max_branches = 20_000;
    model.preemption_bound.get_or_insert(3);
    model.check(work);
}

#[test]
fn a_shrinker_is_freed_after_the_scans_that_run_it() {
    explore(|| {
        let (machine, list) = (machine(), Arc::new(ShrinkerList::new()));
        let main = cpu(machine, 0);
        let (first, second) = (Node::new(1), Node::new(10));
        first.insert(&list, &main);
        second.insert(&list, &main);
        let scanner = {
            let list = Arc::clone(&list);
            thread::spawn(move || scan(&list, &cpu(machine, 1)))
        };
        let refused = first.remove(&list, &main);
        let seen = scanner.join().unwrap();
        assert!(seen == 10 || seen == 11, "the one that stays is always found: {seen}");
        assert_eq!(scan(&list, &main), 10, "a closed shrinker takes no new scan");
        Node::remove_at_last(refused, &list, &main);
        Node::remove_at_last(Some(second), &list, &main);
        assert_eq!(scan(&list, &main), 0);
    });
}

#[test]
fn two_scans_hold_a_shrinker_each_for_itself() {
    explore(|| {
        let (machine, list) = (machine(), Arc::new(ShrinkerList::new()));
        let main = cpu(machine, 0);
        let only = Node::new(1);
        only.insert(&list, &main);
        let scanner = {
            let list = Arc::clone(&list);
            thread::spawn(move || scan(&list, &cpu(machine, 1)))
        };
        let held = list.next(&main, None);
        assert!(held.is_some());
        let refused = only.remove(&list, &main);
        assert!(refused.is_some(), "this scan holds it, whatever the other one does");
        assert!(list.next(&main, held).is_none());
        assert!(scanner.join().unwrap() <= 1);
        Node::remove_at_last(refused, &list, &main);
    });
}

#[test]
fn a_scan_meets_a_registration_and_a_removal() {
    explore(|| {
        let (machine, list) = (machine(), Arc::new(ShrinkerList::new()));
        let main = cpu(machine, 0);
        let (old, new) = (Node::new(1), Node::new(10));
        old.insert(&list, &main);
        let scanner = {
            let list = Arc::clone(&list);
            thread::spawn(move || scan(&list, &cpu(machine, 1)))
        };
        new.insert(&list, &main);
        let refused = old.remove(&list, &main);
        assert!([0, 1, 10, 11].contains(&scanner.join().unwrap()));
        Node::remove_at_last(refused, &list, &main);
        assert_eq!(scan(&list, &main), 10);
        Node::remove_at_last(Some(new), &list, &main);
    });
}
