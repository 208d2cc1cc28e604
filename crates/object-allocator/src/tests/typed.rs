//! Typed caches and their handles.

extern crate std;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::vec::Vec;

use units::Gfp;

use super::Machine;
use crate::{CacheFlags, KmemCache, Shared, SlabArc, SlabBox};

/// Counts its drops.
struct Counted<'a>(&'a AtomicUsize, u64);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn handles_are_one_pointer_even_in_an_option() {
    assert_eq!(size_of::<Option<SlabBox<'_, u64>>>(), size_of::<usize>());
    assert_eq!(size_of::<Option<SlabArc<'_, [u8; 100]>>>(), size_of::<usize>());
}

#[test]
fn a_value_is_dropped_once_however_its_handle_ends() {
    let (machine, cpu) = Machine::new(1, 1, 1024);
    let drops = AtomicUsize::new(0);
    let cache = KmemCache::create(&*machine, &cpu, "counted", CacheFlags::empty()).unwrap();
    let mut first = cache.alloc(&cpu, Gfp::KERNEL, Counted(&drops, 1)).unwrap();
    let second = cache.alloc(&cpu, Gfp::KERNEL, Counted(&drops, 2)).unwrap();
    first.1 += 10;
    assert_eq!((first.1, second.1, drops.load(Ordering::Relaxed)), (11, 2, 0));
    cache.free(&cpu, first);
    assert_eq!(drops.load(Ordering::Relaxed), 1);
    drop(second);
    assert_eq!(drops.load(Ordering::Relaxed), 2);
    cache.destroy(&cpu).unwrap();
    machine.check(&cpu);
}

#[test]
fn dropped_handles_without_a_cpu_are_reused_by_the_next_refill() {
    let (machine, cpu) = Machine::new(1, 1, 1024);
    let cache = KmemCache::create(&*machine, &cpu, "remote", CacheFlags::empty()).unwrap();
    for _ in 0..20 {
        let values: Vec<_> = (0..500u64).map(|n| cache.alloc(&cpu, Gfp::KERNEL, [n; 5]).unwrap()).collect();
        assert!(values.iter().zip(0..).all(|(value, n)| **value == [n; 5]));
    }
    assert!(cache.usage(&cpu).objects < 700, "{:?}", cache.usage(&cpu));
    cache.destroy(&cpu).unwrap();
    machine.check(&cpu);
}

#[test]
fn a_handle_freed_to_another_cache_of_the_type_goes_home() {
    let (machine, cpu) = Machine::new(1, 1, 1024);
    let [one, two] =
        ["one", "two"].map(|name| KmemCache::<u64, _>::create(&*machine, &cpu, name, CacheFlags::empty()).unwrap());
    let value = one.alloc(&cpu, Gfp::KERNEL, 5).unwrap();
    two.free(&cpu, value);
    two.destroy(&cpu).unwrap();
    one.destroy(&cpu).unwrap();
    assert_eq!(machine.slab_faults(&cpu), 0);
}

#[test]
fn a_cache_with_living_values_is_not_destroyed() {
    let (machine, cpu) = Machine::new(1, 1, 1024);
    let cache = KmemCache::create(&*machine, &cpu, "alive", CacheFlags::empty()).unwrap();
    let value = cache.alloc(&cpu, Gfp::KERNEL, 1u8).unwrap();
    let refused = cache.destroy(&cpu).unwrap_err();
    assert_eq!((refused.alive, *value), (1, 1));
    drop(value);
    refused.cache.destroy(&cpu).unwrap();
}

#[test]
fn the_last_of_several_owners_drops_the_value() {
    let (machine, cpu) = Machine::new(1, 1, 1024);
    let drops = AtomicUsize::new(0);
    let cache = KmemCache::<Shared<Counted<'_>>, _>::create(&*machine, &cpu, "shared", CacheFlags::empty()).unwrap();
    let first = cache.alloc_shared(&cpu, Gfp::KERNEL, Counted(&drops, 7)).unwrap();
    let second = first.clone();
    assert_eq!((first.1, second.count()), (7, 2));
    drop(first);
    assert_eq!((second.1, drops.load(Ordering::Relaxed)), (7, 0));
    let third = second.clone();
    cache.put(&cpu, second);
    cache.put(&cpu, third);
    assert_eq!(drops.load(Ordering::Relaxed), 1);
    cache.destroy(&cpu).unwrap();
    machine.check(&cpu);
}

#[test]
fn values_of_every_alignment_lie_aligned() {
    #[repr(align(256))]
    struct Wide(u8);
    let (machine, cpu) = Machine::new(1, 1, 1024);
    let cache = KmemCache::create(&*machine, &cpu, "wide", CacheFlags::DEBUG).unwrap();
    let values: Vec<_> = (0..50).map(|n| cache.alloc(&cpu, Gfp::KERNEL, Wide(n)).unwrap()).collect();
    assert!(values.iter().zip(0..).all(|(value, n)| value.as_ptr().addr().is_multiple_of(256) && value.0 == n));
    drop(values);
    let empty = KmemCache::create(&*machine, &cpu, "empty", CacheFlags::empty()).unwrap();
    drop([(); 3].map(|unit| empty.alloc(&cpu, Gfp::KERNEL, unit).unwrap()));
    cache.destroy(&cpu).unwrap();
    empty.destroy(&cpu).unwrap();
    assert_eq!(machine.slab_faults(&cpu), 0);
    machine.check(&cpu);
}

#[test]
fn a_failed_page_allocation_drops_the_value_and_loses_nothing() {
    let (machine, cpu) = Machine::new(1, 1, 1024);
    machine.shrink_caches(&cpu);
    let (before, drops) = (machine.check(&cpu), AtomicUsize::new(0));
    for skip in 0..20 {
        machine.pages().arm_faults(skip, u64::MAX / 2);
        let mut made = 0;
        if let Ok(cache) = KmemCache::create(&*machine, &cpu, "fails", CacheFlags::empty()) {
            let alloc = || cache.alloc(&cpu, Gfp::KERNEL, Counted(&drops, 0));
            let values: Vec<_> = core::iter::from_fn(|| alloc().ok()).collect();
            made = values.len() + 1;
            drop(values);
            cache.destroy(&cpu).unwrap();
        }
        assert_eq!(drops.swap(0, Ordering::Relaxed), made, "failure {skip}");
        machine.pages().arm_faults(u64::MAX, 0);
        machine.shrink_caches(&cpu);
        assert_eq!(machine.check(&cpu), before, "failure {skip}");
    }
}
