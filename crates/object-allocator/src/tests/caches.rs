//! Behaviour of caches and kmalloc on small machines.

extern crate std;
use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use core::ptr::NonNull;

use units::{Gfp, NodeId};

use super::{Machine, fill, holds};
use crate::{CacheFlags, CacheParams, ObjectError};

#[test]
fn objects_do_not_overlap_and_all_pages_come_back() {
    for size in [8, 24, 64, 100, 192, 700, 2048, 4096, 9000] {
        let (machine, cpu) = Machine::new(2, 1, 4096);
        let before = machine.check(&cpu);
        let cache = machine.create_cache(&cpu, &CacheParams::new("test", size).flags(CacheFlags::NO_MERGE)).unwrap();
        let objects: Vec<_> = (0..700).map(|_| cache.alloc(&cpu, Gfp::KERNEL).unwrap()).collect();
        let starts: BTreeSet<usize> = objects.iter().map(|object| object.as_ptr().addr()).collect();
        assert_eq!(starts.len(), objects.len());
        assert!(starts.iter().zip(starts.iter().skip(1)).all(|(low, high)| high - low >= size));
        for (index, &object) in objects.iter().enumerate() {
            fill(object, size, index as u8);
        }
        machine.check(&cpu);
        for (index, &object) in objects.iter().enumerate() {
            assert!(holds(object, size, index as u8));
            // SAFETY: allocated above, freed once.
            unsafe { cache.free(&cpu, object) };
        }
        machine.check(&cpu);
        cache.destroy(&cpu).unwrap();
        machine.shrink_caches(&cpu);
        assert_eq!(machine.check(&cpu), before);
    }
}

#[test]
fn kmalloc_serves_every_size_aligned_and_writable_and_kfree_needs_the_address_only() {
    let (machine, cpu) = Machine::new(1, 1, 8192);
    machine.shrink_caches(&cpu);
    let before = machine.check(&cpu);
    let sizes = (0..=520).chain([1000, 1024, 1025, 2049, 4096, 5000, 8192, 8193, 20_000, 1 << 20, 4 << 20]);
    let objects: Vec<_> = sizes
        .map(|size| {
            let object = machine.kmalloc(&cpu, size, Gfp::KERNEL).unwrap();
            assert!(machine.ksize(object).unwrap() >= size);
            let align = if size.is_power_of_two() { size.clamp(8, 4096) } else { 8 };
            assert!(object.as_ptr().addr().is_multiple_of(align), "{size} at {object:?}");
            fill(object, size, size as u8);
            (size, object)
        })
        .collect();
    for (size, object) in objects {
        assert!(holds(object, size, size as u8));
        // SAFETY: allocated above, freed once.
        unsafe { machine.kfree(&cpu, object) };
    }
    machine.shrink_caches(&cpu);
    assert_eq!(machine.check(&cpu), before);
}

#[test]
fn sizes_that_no_block_holds_and_machines_without_start_are_refused() {
    let (machine, cpu) = Machine::stopped(1, 1, 2048);
    assert_eq!(machine.kmalloc(&cpu, 8, Gfp::KERNEL), Err(ObjectError::NotStarted));
    assert_eq!(machine.create_cache(&cpu, &CacheParams::new("a", 8)).unwrap_err(), ObjectError::NotStarted);
    machine.start(&cpu).unwrap();
    assert_eq!(machine.kmalloc(&cpu, (4 << 20) + 1, Gfp::KERNEL), Err(ObjectError::Impossible));
    assert_eq!(machine.kmalloc(&cpu, usize::MAX, Gfp::KERNEL), Err(ObjectError::Impossible));
    let bad = CacheParams::new("a", 8).align(24);
    assert_eq!(machine.create_cache(&cpu, &bad).unwrap_err(), ObjectError::BadAlign(24));
}

#[test]
fn zeroed_objects_are_zero_whatever_was_there() {
    let (machine, cpu) = Machine::new(1, 1, 2048);
    for size in [8, 96, 8192, 40_000] {
        let object = machine.kmalloc(&cpu, size, Gfp::KERNEL).unwrap();
        fill(object, size, 0x5a);
        // SAFETY: allocated above, freed once.
        unsafe { machine.kfree(&cpu, object) };
        let object = machine.kmalloc(&cpu, size, Gfp::KERNEL | Gfp::ZERO).unwrap();
        assert!(holds(object, size, 0));
    }
}

#[test]
fn bulk_allocation_gives_all_or_nothing() {
    let (machine, cpu) = Machine::new(1, 1, 512);
    let cache = machine.create_cache(&cpu, &CacheParams::new("bulk", 1000)).unwrap();
    let mut objects = vec![core::ptr::null_mut(); 333];
    cache.alloc_bulk(&cpu, Gfp::KERNEL, &mut objects).unwrap();
    assert_eq!(objects.iter().collect::<BTreeSet<_>>().len(), 333);
    // SAFETY: allocated above, freed once.
    unsafe { cache.free_bulk(&cpu, &objects) };
    cache.shrink(&cpu);
    let before = machine.check(&cpu);
    let mut many = vec![core::ptr::null_mut(); 3000];
    assert_eq!(cache.alloc_bulk(&cpu, Gfp::KERNEL, &mut many), Err(ObjectError::OutOfMemory));
    cache.shrink(&cpu);
    assert_eq!(machine.check(&cpu), before);
    cache.destroy(&cpu).unwrap();
}

#[test]
fn a_cache_with_objects_in_use_is_not_destroyed() {
    let (machine, cpu) = Machine::new(1, 1, 1024);
    let cache = machine.create_cache(&cpu, &CacheParams::new("used", 40)).unwrap();
    let object = cache.alloc(&cpu, Gfp::KERNEL).unwrap();
    let refused = cache.destroy(&cpu).unwrap_err();
    assert_eq!(refused.alive, 1);
    // SAFETY: allocated above, freed once.
    unsafe { refused.cache.free(&cpu, object) };
    refused.cache.destroy(&cpu).unwrap();
}

#[test]
fn like_caches_share_slabs_and_unlike_ones_do_not() {
    let (machine, cpu) = Machine::new(1, 1, 1024);
    let first = machine.create_cache(&cpu, &CacheParams::new("first", 200)).unwrap();
    let second = machine.create_cache(&cpu, &CacheParams::new("second", 196)).unwrap();
    assert_eq!((first.handles(), second.name().as_str()), (2, "first"));
    let reclaimable = CacheParams::new("third", 200).flags(CacheFlags::RECLAIM_ACCOUNT);
    let third = machine.create_cache(&cpu, &reclaimable).unwrap();
    assert_eq!((third.handles(), third.name().as_str()), (1, "third"));
    let object = second.alloc(&cpu, Gfp::KERNEL).unwrap();
    first.destroy(&cpu).unwrap();
    assert_eq!(second.handles(), 1);
    // SAFETY: allocated above, freed once.
    unsafe { second.free(&cpu, object) };
    second.destroy(&cpu).unwrap();
}

#[test]
fn objects_freed_on_another_cpu_come_back_to_their_slabs() {
    let (machine, cpu) = Machine::new(2, 1, 1024);
    let other = machine.cpu(1);
    let cache = machine.create_cache(&cpu, &CacheParams::new("remote", 64).flags(CacheFlags::NO_MERGE)).unwrap();
    let objects: Vec<_> = (0..1000).map(|_| cache.alloc(&cpu, Gfp::KERNEL).unwrap()).collect();
    for object in objects {
        // SAFETY: allocated above, freed once.
        unsafe { cache.free(&other, object) };
    }
    machine.check(&cpu);
    cache.destroy(&cpu).unwrap();
}

#[test]
fn memory_of_a_node_stays_with_the_node() {
    let (machine, cpu) = Machine::new(2, 2, 1024);
    let one = NodeId::try_new(1).unwrap();
    let cache = machine.create_cache(&cpu, &CacheParams::new("numa", 512).flags(CacheFlags::NO_MERGE)).unwrap();
    let node_of = |object: NonNull<u8>| {
        let frame = machine.frames().get(machine.map().pfn(object.as_ptr())).unwrap();
        frame.place().node()
    };
    for _ in 0..100 {
        let remote = cache.alloc_on_node(&cpu, Gfp::KERNEL, one).unwrap();
        assert_eq!(node_of(remote), one);
        let local = cache.alloc(&cpu, Gfp::KERNEL).unwrap();
        assert_eq!(node_of(local), NodeId::ZERO);
        // SAFETY: allocated above, freed once.
        unsafe { cache.free(&cpu, remote) };
        assert_eq!(node_of(cache.alloc(&cpu, Gfp::KERNEL).unwrap()), NodeId::ZERO);
    }
    machine.check(&cpu);
}

#[test]
fn a_full_node_is_helped_out_by_the_others_to_the_last_page() {
    let (machine, cpu) = Machine::new(2, 2, 512);
    let cache = machine.create_cache(&cpu, &CacheParams::new("big", 2048).flags(CacheFlags::NO_MERGE)).unwrap();
    let mut objects = Vec::new();
    while let Ok(object) = cache.alloc(&cpu, Gfp::KERNEL) {
        objects.push(object.as_ptr());
    }
    assert!(objects.len() > 2 * 900, "{} objects", objects.len());
    machine.check(&cpu);
    // SAFETY: allocated above, freed once.
    unsafe { cache.free_bulk(&cpu, &objects) };
    cache.destroy(&cpu).unwrap();
    machine.check(&cpu);
}

#[test]
fn a_failed_page_allocation_at_any_point_loses_nothing() {
    let (machine, cpu) = Machine::new(1, 1, 2048);
    machine.shrink_caches(&cpu);
    let before = machine.check(&cpu);
    let mut failures = 0;
    for skip in 0..60 {
        machine.pages().arm_faults(skip, u64::MAX / 2);
        let made = machine.create_cache(&cpu, &CacheParams::new("fails", 24).flags(CacheFlags::NO_MERGE));
        if let Ok(cache) = made {
            let mut objects = Vec::new();
            while let Ok(object) = cache.alloc(&cpu, Gfp::KERNEL) {
                objects.push(object);
            }
            failures += 1;
            for object in objects {
                // SAFETY: allocated above, freed once.
                unsafe { cache.free(&cpu, object) };
            }
            cache.destroy(&cpu).unwrap();
        }
        machine.pages().arm_faults(u64::MAX, 0);
        machine.shrink_caches(&cpu);
        assert_eq!(machine.check(&cpu), before, "failure {skip}");
    }
    assert!(failures > 50);
}

#[test]
fn a_start_that_fails_anywhere_can_be_repeated() {
    for skip in 0.. {
        let (machine, cpu) = Machine::stopped(2, 1, 2048);
        machine.pages().arm_faults(skip, u64::MAX / 2);
        let failed = machine.start(&cpu).is_err();
        machine.pages().arm_faults(u64::MAX, 0);
        machine.start(&cpu).unwrap();
        let object = machine.kmalloc(&cpu, 100, Gfp::KERNEL).unwrap();
        // SAFETY: allocated above, freed once.
        unsafe { machine.kfree(&cpu, object) };
        machine.check(&cpu);
        if !failed {
            assert!(skip > 5, "start asks for pages several times");
            break;
        }
    }
}

#[test]
fn empty_slabs_of_a_typesafe_cache_stay_until_a_grace_period_has_passed() {
    let (machine, cpu) = Machine::new(1, 1, 1024);
    machine.shrink_caches(&cpu);
    let before = machine.check(&cpu);
    let params = CacheParams::new("typesafe", 24).flags(CacheFlags::TYPESAFE_BY_RCU);
    let cache = machine.create_cache(&cpu, &params).unwrap();
    let mut objects = vec![core::ptr::null_mut(); 500];
    cache.alloc_bulk(&cpu, Gfp::KERNEL, &mut objects).unwrap();
    fill(NonNull::new(objects[0]).unwrap(), 24, 0x33);
    let early = machine.rcu_snapshot(&cpu);
    // SAFETY: allocated above, freed once.
    unsafe { cache.free_bulk(&cpu, &objects) };
    cache.shrink(&cpu);
    machine.check(&cpu);
    assert!(holds(NonNull::new(objects[0]).unwrap(), 24, 0x33), "a reader still sees the object");
    assert_eq!((cache.usage(&cpu).active(), cache.usage(&cpu).slabs > 0), (0, true));
    // SAFETY: the test is the only reader.
    assert_eq!(unsafe { machine.rcu_complete(&cpu, early) }, 0);
    let refused = cache.destroy(&cpu).unwrap_err();
    assert_eq!(refused.alive, 0);
    let late = machine.rcu_snapshot(&cpu);
    // SAFETY: as above.
    assert!(unsafe { machine.rcu_complete(&cpu, late) } > 0);
    refused.cache.destroy(&cpu).unwrap();
    machine.shrink_caches(&cpu);
    assert_eq!(machine.check(&cpu), before);
}
