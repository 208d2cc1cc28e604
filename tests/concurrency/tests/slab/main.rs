//! Models of slab caches: no object has two owners and none is lost, whatever two CPUs do at once.
//!
//! Fronts against remote emptying, refills from the same slabs, frees of another CPU's objects, and handles that are dropped where
//! the CPU is not known. Preemptions are bounded at [`PREEMPTIONS`] a run, or at LOOM_MAX_PREEMPTIONS.
#![cfg(loom)]

#[path = "../machine/format.rs"]
mod format;
#[path = "../machine/objects.rs"]
mod machine;

use std::ptr::NonNull;
use std::sync::Arc;

use loom::thread;
use object_allocator::{CacheFlags, CacheParams, KmemCache, RawCache};
use page_allocator::NoPressure;
use sync::Cpu;
use units::Gfp;

use machine::{Machine, Memory};

/// Most preemptions of one run.
const PREEMPTIONS: usize = 2;

type Cache<'k> = RawCache<'k, Memory, NoPressure>;

/// An object on its way between threads.
struct Object(NonNull<u8>);

// SAFETY: models hand objects over and do not touch their bytes.
unsafe impl Send for Object {}

fn alloc(cache: &Cache<'_>, cpu: &Cpu) -> Object {
    Object(cache.alloc(cpu, Gfp::KERNEL).unwrap())
}

fn free(cache: &Cache<'_>, cpu: &Cpu, object: Object) {
    // SAFETY: models free what they allocated, once.
    unsafe { cache.free(cpu, object.0) };
}

/// Runs `model` on a machine, in every interleaving; nothing is lost in the end.
fn on_machine(model: impl Fn(&'static Machine) + Sync + Send + 'static) {
    machine::on_machine(PREEMPTIONS, move |machine| {
        let free_pages = machine.pages().check_invariants(&machine.cpu(0)).unwrap();
        model(machine);
        let cpu = machine.cpu(0);
        machine.shrink_caches(&cpu);
        machine.check_slab_invariants(&cpu).unwrap();
        assert_eq!(machine.slab_faults(&cpu), 0);
        assert_eq!(machine.pages().check_invariants(&cpu), Ok(free_pages));
    });
}

/// Prepares with `setup` as CPU 0, then runs `main` as CPU 0 and `other` as CPU 1 at once, and checks that the objects in the results are
/// distinct and that the cache can be destroyed when they are freed.
fn two_cpus<S, A, B>(
    setup: impl Fn(&Cache<'_>, &Cpu) -> S + Sync + Send + 'static,
    main: impl Fn(&Cache<'_>, &Cpu) -> A + Sync + Send + 'static,
    other: impl Fn(&Cache<'_>, &Cpu, S) -> B + Sync + Send + Copy + 'static,
) where
    S: Send + 'static,
    A: IntoIterator<Item = Object>,
    B: IntoIterator<Item = Object>,
{
    on_machine(move |machine| {
        let cpu = machine.cpu(0);
        let params = CacheParams::new("model", 2048).flags(CacheFlags::NO_MERGE);
        let cache = Arc::new(machine.create_cache(&cpu, &params).unwrap());
        let ready = setup(&cache, &cpu);
        let second = Arc::clone(&cache);
        let thread = thread::spawn(move || {
            let cpu = machine.cpu(1);
            other(&second, &cpu, ready).into_iter().collect::<Vec<_>>()
        });
        let mut held: Vec<Object> = main(&cache, &cpu).into_iter().collect();
        held.extend(thread.join().unwrap());
        machine.check_slab_invariants(&cpu).unwrap();
        let mut addresses: Vec<_> = held.iter().map(|object| object.0).collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), held.len(), "an object has two owners");
        held.into_iter().for_each(|object| free(&cache, &cpu, object));
        let cache = Arc::into_inner(cache).unwrap();
        assert!(cache.destroy(&cpu).is_ok(), "an object is lost");
    });
}

const NOTHING: Option<Object> = None;

#[test]
fn two_cpus_refill_from_the_same_slab() {
    let warm = |cache: &Cache<'_>, cpu: &Cpu| {
        let object = alloc(cache, cpu);
        free(cache, cpu, object);
        cache.shrink(cpu);
    };
    two_cpus(warm, |cache, cpu| [alloc(cache, cpu)], |cache, cpu, ()| [alloc(cache, cpu)]);
}

#[test]
fn a_front_is_emptied_while_its_cpu_frees_to_it() {
    let shrink = |cache: &Cache<'_>, cpu: &Cpu, ()| {
        cache.shrink(cpu);
        NOTHING
    };
    let pair = |cache: &Cache<'_>, cpu: &Cpu| {
        let object = alloc(cache, cpu);
        free(cache, cpu, object);
        NOTHING
    };
    two_cpus(|_, _| (), pair, shrink);
}

#[test]
fn a_front_is_emptied_while_its_cpu_allocates_from_it() {
    let fill = |cache: &Cache<'_>, cpu: &Cpu| {
        let object = alloc(cache, cpu);
        free(cache, cpu, object);
    };
    let shrink = |cache: &Cache<'_>, cpu: &Cpu, ()| {
        cache.shrink(cpu);
        NOTHING
    };
    two_cpus(fill, |cache, cpu| [alloc(cache, cpu)], shrink);
}

#[test]
fn two_cpus_empty_all_fronts_at_once() {
    let fill = |cache: &Cache<'_>, cpu: &Cpu| {
        let object = alloc(cache, cpu);
        free(cache, cpu, object);
    };
    let shrink = |cache: &Cache<'_>, cpu: &Cpu| {
        cache.shrink(cpu);
        NOTHING
    };
    two_cpus(fill, shrink, move |cache, cpu, ()| shrink(cache, cpu));
}

#[test]
fn objects_of_one_slab_are_freed_on_both_cpus() {
    let take_two = |cache: &Cache<'_>, cpu: &Cpu| {
        let (first, second) = (alloc(cache, cpu), alloc(cache, cpu));
        free(cache, cpu, first);
        second
    };
    let free_and_flush = |cache: &Cache<'_>, cpu: &Cpu, object: Object| {
        free(cache, cpu, object);
        NOTHING
    };
    two_cpus(take_two, |cache, cpu| [alloc(cache, cpu)], free_and_flush);
}

#[test]
fn a_handle_is_dropped_elsewhere_while_the_cache_refills() {
    on_machine(|machine| {
        let cpu = machine.cpu(0);
        let cache = KmemCache::create(&**machine, &cpu, "typed", CacheFlags::empty()).unwrap();
        let handle = cache.alloc(&cpu, Gfp::KERNEL, 1u64).unwrap();
        let thread = thread::spawn(move || drop(handle));
        let other = cache.alloc(&cpu, Gfp::KERNEL, 2u64).unwrap();
        assert_eq!(*other, 2);
        cache.shrink(&cpu);
        thread.join().unwrap();
        cache.free(&cpu, other);
        assert!(cache.destroy(&cpu).is_ok(), "an object is lost");
    });
}
