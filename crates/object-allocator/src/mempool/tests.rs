//! What a pool promises, whatever its source does.

extern crate std;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::vec::Vec;

use units::Order;

use super::*;
use crate::CacheParams;
use crate::tests::{Machine, Objects};

/// Source of numbers that counts what is out and fails when it is told to.
#[derive(Debug, Default)]
struct Numbers {
    alive: AtomicU64,
    asked: AtomicU64,
    /// Requests that succeed before all fail.
    good: AtomicU64,
}

impl Numbers {
    fn with_good(good: u64) -> Self {
        Self { good: AtomicU64::new(good), ..Self::default() }
    }

    fn dry_up(&self) {
        self.good.store(0, Ordering::Relaxed);
    }

    fn flow(&self) {
        self.good.store(u64::MAX, Ordering::Relaxed);
    }

    fn alive(&self) -> u64 {
        self.alive.load(Ordering::Relaxed)
    }
}

impl ElementSource for &Numbers {
    type Element = u64;

    fn alloc(&self, _cpu: &Cpu, _gfp: Gfp) -> Result<u64, ObjectError> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        if self.good.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |good| good.checked_sub(1)).is_err() {
            return Err(ObjectError::OutOfMemory);
        }
        self.alive.fetch_add(1, Ordering::Relaxed);
        Ok(asked)
    }

    fn free(&self, _cpu: &Cpu, _element: u64) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn a_dry_source_leaves_exactly_the_reserve() {
    let (machine, cpu) = Machine::new(1, 1, 1024);
    for min_nr in 0..6 {
        let numbers = Numbers::with_good(u64::MAX);
        let pool = machine.create_mempool(&cpu, min_nr, &numbers).unwrap();
        let promised = min_nr.max(1);
        assert_eq!(pool.reserve(&cpu), (promised, promised));
        numbers.dry_up();
        let mut held: Vec<u64> = (0..promised).map(|_| pool.alloc(&cpu, Gfp::NOWAIT).unwrap()).collect();
        assert_eq!(pool.alloc(&cpu, Gfp::NOWAIT), Err(PoolError::OutOfMemory));
        assert_eq!(pool.alloc(&cpu, Gfp::KERNEL), Err(PoolError::WouldBlock));
        assert_eq!(pool.free(&cpu, held.pop().unwrap()), Refill::Reserved);
        held.push(pool.alloc(&cpu, Gfp::KERNEL).unwrap());
        for element in held {
            assert_eq!(pool.free(&cpu, element), Refill::Reserved);
        }
        numbers.flow();
        let extra = pool.alloc(&cpu, Gfp::KERNEL).unwrap();
        assert_eq!(pool.reserve(&cpu).0, promised, "a source that gives is asked first");
        assert_eq!(pool.free(&cpu, extra), Refill::Released);
        pool.destroy(&cpu);
        assert_eq!(numbers.alive(), 0);
    }
}

#[test]
fn a_failure_at_any_request_breaks_no_promise() {
    let (machine, cpu) = Machine::new(1, 1, 1024);
    for (min_nr, resized, good) in (1..5).flat_map(|a| (1..7).flat_map(move |b| (0..14).map(move |good| (a, b, good))))
    {
        let numbers = Numbers::with_good(good);
        let Ok(pool) = machine.create_mempool(&cpu, min_nr, &numbers) else {
            assert!(good < min_nr as u64);
            assert_eq!(numbers.alive(), 0, "a pool that was not made keeps nothing");
            continue;
        };
        let mut held: Vec<u64> = (0..2).filter_map(|_| pool.alloc(&cpu, Gfp::KERNEL).ok()).collect();
        let outcome = pool.resize(&cpu, resized);
        let (reserved, capacity) = pool.reserve(&cpu);
        assert_eq!(capacity, resized);
        assert_eq!(outcome.is_ok(), reserved == resized);
        assert_eq!(numbers.alive(), (reserved + held.len()) as u64);
        numbers.dry_up();
        let more = (0..reserved).map(|_| pool.alloc(&cpu, Gfp::NOWAIT).unwrap());
        held.extend(more);
        assert_eq!(pool.alloc(&cpu, Gfp::KERNEL), Err(PoolError::WouldBlock));
        let total = held.len();
        let kept = held.drain(..).filter(|&element| pool.free(&cpu, element) == Refill::Reserved).count();
        assert_eq!(kept, total.min(resized), "frees fill a reserve that is not full");
        pool.destroy(&cpu);
        assert_eq!(numbers.alive(), 0);
    }
}

#[test]
fn waiting_ends_when_an_element_is_freed() {
    let (machine, cpu) = Machine::new(1, 1, 1024);
    let numbers = Numbers::with_good(1);
    let pool = machine.create_mempool(&cpu, 1, &numbers).unwrap();
    let held = Cell::new(Some(pool.alloc(&cpu, Gfp::KERNEL).unwrap()));
    let waits = Cell::new(0);
    let waited = pool.alloc_waiting(&cpu, Gfp::KERNEL, || {
        waits.set(waits.get() + 1);
        if waits.get() == 3 {
            pool.free(&cpu, held.take().unwrap());
        }
    });
    assert_eq!((waited, waits.get()), (Ok(0), 3));
    assert_eq!(pool.alloc_waiting(&cpu, Gfp::NOWAIT, || ()), Err(PoolError::OutOfMemory));
    pool.free(&cpu, 0);
    pool.destroy(&cpu);
}

/// Takes every page of the machine while a pool exists, and checks that the pool still gives what it promised.
fn survives_exhaustion<S: ElementSource>(machine: &Machine, cpu: &Cpu, source: S) -> S {
    let pool = machine.create_mempool(cpu, 3, source).unwrap();
    let pages = machine.pages();
    let taken: Vec<_> = core::iter::from_fn(|| pages.alloc(cpu, Gfp::ATOMIC | Gfp::NOWARN, Order::ZERO).ok()).collect();
    let held: Vec<_> = core::iter::from_fn(|| pool.alloc(cpu, Gfp::NOWAIT).ok()).collect();
    assert!(held.len() >= 3, "{} elements", held.len());
    assert_eq!(pool.alloc(cpu, Gfp::KERNEL).err(), Some(PoolError::WouldBlock));
    let kept = held.into_iter().filter_map(|element| (pool.free(cpu, element) == Refill::Reserved).then_some(()));
    assert_eq!(kept.count(), 3);
    taken.into_iter().for_each(|block| pages.free(cpu, block));
    pool.destroy(cpu)
}

#[test]
fn pools_of_pages_objects_and_kmalloc_survive_an_exhausted_machine() {
    let (machine, cpu) = Machine::new(1, 1, 512);
    let objects: &Objects = &machine;
    let cache = objects.create_cache(&cpu, &CacheParams::new("pooled", 200)).unwrap();
    machine.shrink_caches(&cpu);
    let free = machine.check(&cpu);
    survives_exhaustion(&machine, &cpu, PageElements { objects, order: Order::new_truncate(1) });
    survives_exhaustion(&machine, &cpu, KmallocElements { objects, size: 3000 });
    survives_exhaustion(&machine, &cpu, KmallocElements { objects, size: 20_000 });
    let source = survives_exhaustion(&machine, &cpu, SlabElements { cache });
    source.cache.shrink(&cpu);
    machine.shrink_caches(&cpu);
    assert_eq!(machine.check(&cpu), free);
    source.cache.destroy(&cpu).unwrap();
}

#[test]
fn cpus_share_a_pool() {
    let (machine, cpu) = Machine::new(3, 1, 1024);
    let numbers = Numbers::with_good(4);
    let pool = machine.create_mempool(&cpu, 4, &numbers).unwrap();
    std::thread::scope(|scope| {
        for id in 1..3 {
            let (pool, machine) = (&pool, &machine);
            scope.spawn(move || {
                let cpu = machine.cpu(id);
                for _ in 0..2000 {
                    // Each holds at most two of four, so neither ever waits.
                    let (one, two) = (pool.alloc(&cpu, Gfp::KERNEL).unwrap(), pool.alloc(&cpu, Gfp::KERNEL).unwrap());
                    assert_ne!(one, two);
                    pool.free(&cpu, two);
                    pool.free(&cpu, one);
                }
            });
        }
    });
    assert_eq!(pool.reserve(&cpu), (4, 4));
    pool.destroy(&cpu);
    assert_eq!(numbers.alive(), 0);
}
