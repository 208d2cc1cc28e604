//! Behaviour of caches and kmalloc on small machines.

extern crate std;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::vec;
use std::vec::Vec;

use core::ptr::NonNull;

use fixture::{Built, Fixture, Shape, ZoneShape};
use frame_table::HeapMemory;
use page_allocator::{DebugOptions, Geometry, PcpLimits};
use sync::{Cpu, IrqControl};
use units::{CpuId, Gfp, NodeId, Pfn, PfnRange, ZoneType};

use crate::{CacheFlags, CacheParams, ObjectAllocator, ObjectError};

pub(crate) type Objects = ObjectAllocator<HeapMemory>;

/// A machine with an object allocator that has not been started.
pub(crate) struct Machine {
    built: Built<Objects>,
    number: u32,
}

impl core::ops::Deref for Machine {
    type Target = Objects;

    fn deref(&self) -> &Objects {
        &self.built
    }
}

impl Machine {
    /// Makes a machine with `nr_pages` pages on each of `nr_nodes` nodes.
    pub(crate) fn stopped(nr_cpus: usize, nr_nodes: u64, nr_pages: u64) -> (Self, Cpu) {
        static NEXT: AtomicU32 = AtomicU32::new(10_000);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let zone = |node: u64| ZoneShape {
            node: NodeId::try_new(node).unwrap(),
            kind: ZoneType::Normal,
            span: PfnRange::with_len(Pfn::new(1024 + node * nr_pages), nr_pages),
        };
        let pcp = PcpLimits { high_min: 64, high_max: 64, batch: 16 };
        let shape = Shape {
            geometry: Geometry::FOUR_KIB,
            zones: (0..nr_nodes).map(zone).collect(),
            nr_cpus,
            settings: Shape::keeping(pcp),
        };
        let memory = HeapMemory::new(shape.span().phys(12)).unwrap();
        let fixture = Fixture::new(memory, number, shape, DebugOptions::default());
        let cpu = cpu(number, 0);
        fixture.start(&cpu);
        (Self { number, built: fixture.build(ObjectAllocator::new) }, cpu)
    }

    pub(crate) fn new(nr_cpus: usize, nr_nodes: u64, nr_pages: u64) -> (Self, Cpu) {
        let (machine, cpu) = Self::stopped(nr_cpus, nr_nodes, nr_pages);
        machine.start(&cpu).unwrap();
        (machine, cpu)
    }

    pub(crate) fn cpu(&self, id: u64) -> Cpu {
        assert_ne!(id, 0, "the test has the token of CPU 0");
        cpu(self.number, id)
    }

    /// Checks all laws; returns the free pages.
    #[track_caller]
    pub(crate) fn check(&self, cpu: &Cpu) -> u64 {
        let slab_pages = self.check_slab_invariants(cpu).unwrap();
        let free = self.pages().check_invariants(cpu).unwrap();
        let counted: u64 = self
            .pages()
            .nodes()
            .iter()
            .map(|node| self.node_stats(node))
            .map(|stats| stats.slab_reclaimable() + stats.slab_unreclaimable())
            .sum();
        assert!(counted >= slab_pages);
        free
    }
}

fn cpu(machine: u32, id: u64) -> Cpu {
    // SAFETY: machine numbers are used once, and each test makes one token a CPU.
    unsafe { Cpu::new(machine, CpuId::try_new(id).unwrap(), IrqControl::NONE) }
}

fn fill(object: NonNull<u8>, size: usize, value: u8) {
    // SAFETY: the test owns the object.
    unsafe { object.write_bytes(value, size) };
}

fn holds(object: NonNull<u8>, size: usize, value: u8) -> bool {
    // SAFETY: the test owns the object and has filled it.
    unsafe { core::slice::from_raw_parts(object.as_ptr(), size) }.iter().all(|&byte| byte == value)
}

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
        machine.pages().debug().faults.arm(skip, u64::MAX / 2);
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
        machine.pages().debug().faults.arm(u64::MAX, 0);
        machine.shrink_caches(&cpu);
        assert_eq!(machine.check(&cpu), before, "failure {skip}");
    }
    assert!(failures > 50);
}

#[test]
fn a_start_that_fails_anywhere_can_be_repeated() {
    for skip in 0.. {
        let (machine, cpu) = Machine::stopped(2, 1, 2048);
        machine.pages().debug().faults.arm(skip, u64::MAX / 2);
        let failed = machine.start(&cpu).is_err();
        machine.pages().debug().faults.arm(u64::MAX, 0);
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
