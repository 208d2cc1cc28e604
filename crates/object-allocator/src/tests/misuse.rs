//! What the allocator says of misuse, and that it goes on.

extern crate std;
use std::format;
use std::string::ToString;

use core::num::NonZeroU64;
use core::ptr::NonNull;

use units::{CpuId, Gfp};

use super::{Machine, fill, holds};
use crate::{CacheFlags, CacheParams, Merging, RawCache, SlabFault, SlabOptions, SlabReport};

type Cache<'k> = RawCache<'k, frame_table::HeapMemory, page_allocator::NoPressure>;

const ALL_CHECKS: CacheFlags = CacheFlags::DEBUG;

fn cache<'m>(machine: &'m Machine, cpu: &sync::Cpu, size: usize) -> Cache<'m> {
    machine.create_cache(cpu, &CacheParams::new("victim", size).flags(ALL_CHECKS)).unwrap()
}

fn only_report(machine: &Machine, cpu: &sync::Cpu) -> SlabReport {
    assert_eq!(machine.slab_faults(cpu), 1, "{:?}", machine.slab_report(cpu, 1));
    machine.slab_report(cpu, 0).unwrap()
}

/// Allocates and frees, which must work after every fault, and checks all laws.
fn goes_on(machine: &Machine, cpu: &sync::Cpu, cache: Cache<'_>) {
    let before = machine.slab_faults(cpu);
    for _ in 0..100 {
        let object = cache.alloc(cpu, Gfp::KERNEL).unwrap();
        fill(object, cache.usable(), 0x11);
        // SAFETY: allocated above, freed once.
        unsafe { cache.free(cpu, object) };
    }
    machine.check(cpu);
    assert_eq!(machine.slab_faults(cpu), before);
    cache.destroy(cpu).unwrap();
}

#[test]
fn a_double_free_is_told_with_both_owners_and_changes_nothing() {
    let (machine, cpu) = Machine::new(1, 1, 1024);
    let cache = cache(&machine, &cpu, 100);
    let object = cache.alloc(&cpu, Gfp::KERNEL).unwrap();
    for _ in 0..2 {
        // SAFETY: the second free is the misuse under test, which the cache checks for.
        unsafe { cache.free(&cpu, object) };
    }
    let report = only_report(&machine, &cpu);
    assert_eq!((report.fault, report.cache.as_str()), (SlabFault::DoubleFree, "victim"));
    assert_eq!(report.object.raw() as usize, object.as_ptr().addr());
    let (allocated, freed) = (report.allocated.unwrap(), report.freed.unwrap());
    assert!(allocated.caller.file().ends_with("misuse.rs") && freed.caller.file().ends_with("misuse.rs"));
    assert!(freed.caller.line() > allocated.caller.line());
    assert_eq!(allocated.cpu, CpuId::ZERO);
    goes_on(&machine, &cpu, cache);
}

#[test]
fn writes_beyond_either_end_are_told_with_the_byte() {
    for (offset, is_left) in [(-1, true), (100, false), (103, false)] {
        let (machine, cpu) = Machine::new(1, 1, 1024);
        let cache = cache(&machine, &cpu, 100);
        let object = cache.alloc(&cpu, Gfp::KERNEL).unwrap();
        // SAFETY: the misuse under test; the byte is in a red zone, which is part of the object's stride.
        unsafe { object.as_ptr().wrapping_offset(offset).write(0x42) };
        // SAFETY: allocated above, freed once.
        unsafe { cache.free(&cpu, object) };
        let report = only_report(&machine, &cpu);
        assert_eq!(matches!(report.fault, SlabFault::LeftRedZone(_)), is_left);
        let byte = report.fault.bad_byte().unwrap();
        assert_eq!((byte.found, byte.expected), (0x42, 0xcc));
        assert_eq!(byte.at.raw() as usize, object.as_ptr().addr().wrapping_add_signed(offset));
        goes_on(&machine, &cpu, cache);
    }
}

#[test]
fn a_write_after_free_is_told_when_the_object_is_handed_out_again() {
    let (machine, cpu) = Machine::new(1, 1, 1024);
    let cache = cache(&machine, &cpu, 100);
    let object = cache.alloc(&cpu, Gfp::KERNEL).unwrap();
    // SAFETY: allocated above, freed once.
    unsafe { cache.free(&cpu, object) };
    // SAFETY: the misuse under test; the memory is still the cache's.
    unsafe { object.as_ptr().wrapping_add(17).write(0) };
    let taken: std::vec::Vec<_> = (0..200).map(|_| cache.alloc(&cpu, Gfp::KERNEL).unwrap()).collect();
    let report = only_report(&machine, &cpu);
    let byte = report.fault.bad_byte().unwrap();
    assert!(matches!(report.fault, SlabFault::Poison(_)) && (byte.found, byte.expected) == (0, 0x6b));
    assert_eq!(report.object.raw() as usize, object.as_ptr().addr());
    for object in taken {
        // SAFETY: allocated above, freed once.
        unsafe { cache.free(&cpu, object) };
    }
    goes_on(&machine, &cpu, cache);
}

#[test]
fn an_object_freed_to_the_wrong_cache_is_told_and_goes_home() {
    for flags in [ALL_CHECKS, CacheFlags::NO_MERGE] {
        let (machine, cpu) = Machine::new(1, 1, 1024);
        let owner = machine.create_cache(&cpu, &CacheParams::new("owner", 64).flags(flags)).unwrap();
        let wrong = machine.create_cache(&cpu, &CacheParams::new("wrong", 64).flags(flags)).unwrap();
        let object = owner.alloc(&cpu, Gfp::KERNEL).unwrap();
        // SAFETY: the misuse under test.
        unsafe { wrong.free(&cpu, object) };
        wrong.shrink(&cpu);
        let report = only_report(&machine, &cpu);
        assert_eq!(report.cache.as_str(), "wrong");
        let SlabFault::WrongCache(name) = report.fault else { panic!("{report}") };
        assert_eq!(name.as_str(), "owner");
        wrong.destroy(&cpu).unwrap();
        owner.destroy(&cpu).unwrap();
    }
}

#[test]
fn frees_of_what_is_no_object_are_told() {
    let (machine, cpu) = Machine::new(1, 1, 1024);
    let cache = cache(&machine, &cpu, 100);
    let object = cache.alloc(&cpu, Gfp::KERNEL).unwrap();
    let inner = NonNull::new(object.as_ptr().wrapping_add(8)).unwrap();
    let outside = NonNull::new(machine.map().page(machine.frames().span().start).wrapping_sub(64)).unwrap();
    // SAFETY: the misuse under test: an address inside an object.
    unsafe { cache.free(&cpu, inner) };
    // SAFETY: the misuse under test: an address without a frame.
    unsafe { machine.kfree(&cpu, outside) };
    // SAFETY: the misuse under test: a page that was never allocated.
    unsafe { cache.free(&cpu, NonNull::new(machine.map().page(units::Pfn::new(1900))).unwrap()) };
    let fault = |number| machine.slab_report(&cpu, number).unwrap().fault;
    assert_eq!([fault(0), fault(1), fault(2)], [SlabFault::InvalidPointer, SlabFault::NotSlab, SlabFault::NotSlab]);
    // SAFETY: allocated above, freed once.
    unsafe { cache.free(&cpu, object) };
    goes_on(&machine, &cpu, cache);
}

#[test]
fn without_checks_a_double_free_is_told_when_the_front_is_emptied() {
    let (machine, cpu) = Machine::new(1, 1, 1024);
    let params = CacheParams::new("unchecked", 64).flags(CacheFlags::NO_MERGE);
    let cache = machine.create_cache(&cpu, &params).unwrap();
    let object = cache.alloc(&cpu, Gfp::KERNEL).unwrap();
    for _ in 0..2 {
        // SAFETY: the second free is the misuse under test.
        unsafe { cache.free(&cpu, object) };
    }
    cache.shrink(&cpu);
    assert_eq!(only_report(&machine, &cpu).fault, SlabFault::DoubleFree);
    cache.destroy(&cpu).unwrap();
    machine.check(&cpu);
}

#[test]
fn destruction_names_the_objects_that_stand_against_it() {
    let (machine, cpu) = Machine::new(1, 1, 1024);
    let cache = cache(&machine, &cpu, 100);
    let object = cache.alloc(&cpu, Gfp::KERNEL).unwrap();
    let refused = cache.destroy(&cpu).unwrap_err();
    let report = only_report(&machine, &cpu);
    assert_eq!((report.fault, report.object.raw() as usize), (SlabFault::Remaining, object.as_ptr().addr()));
    assert!(report.allocated.unwrap().caller.file().ends_with("misuse.rs"));
    // SAFETY: allocated above, freed once.
    unsafe { refused.cache.free(&cpu, object) };
    refused.cache.destroy(&cpu).unwrap();
}

#[test]
fn a_report_reads_as_the_kernel_log_does_and_reaches_the_sink() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let (machine, cpu) = Machine::new(1, 1, 1024);
    machine.set_report_sink(&cpu, |report| {
        SEEN.fetch_add(report.to_string().len(), Ordering::Relaxed);
    });
    let cache = cache(&machine, &cpu, 40);
    let object = cache.alloc(&cpu, Gfp::KERNEL).unwrap();
    for _ in 0..2 {
        // SAFETY: the second free is the misuse under test.
        unsafe { cache.free(&cpu, object) };
    }
    let text = only_report(&machine, &cpu).to_string();
    assert!(text.contains("BUG victim (Not tainted): Object already free\n"), "{text}");
    assert!(text.contains("\nAllocated in ") && text.contains("\nFreed in "), "{text}");
    assert!(text.contains(&format!("\nObject 0x{:016x} @offset=", object.as_ptr().addr())), "{text}");
    assert_eq!(SEEN.load(Ordering::Relaxed), text.len());
}

#[test]
fn options_of_the_machine_reach_every_cache() {
    let (machine, cpu) = Machine::stopped(1, 1, 2048);
    let options = SlabOptions { debug: ALL_CHECKS, merging: Merging::Never, freelist_seed: NonZeroU64::new(7) };
    machine.start_with(&cpu, options).unwrap();
    let first = machine.create_cache(&cpu, &CacheParams::new("a", 64)).unwrap();
    let second = machine.create_cache(&cpu, &CacheParams::new("b", 64)).unwrap();
    assert_eq!((first.handles(), second.handles()), (1, 1));
    let object = machine.kmalloc(&cpu, 60, Gfp::KERNEL).unwrap();
    for _ in 0..2 {
        // SAFETY: the second free is the misuse under test, which all caches check for.
        unsafe { machine.kfree(&cpu, object) };
    }
    assert_eq!(only_report(&machine, &cpu).fault, SlabFault::DoubleFree);
    machine.check(&cpu);
}

#[test]
fn a_seed_changes_the_order_of_objects_and_nothing_else() {
    let orders = [None, NonZeroU64::new(1), NonZeroU64::new(2)].map(|freelist_seed| {
        let (machine, cpu) = Machine::stopped(1, 1, 1024);
        machine.start_with(&cpu, SlabOptions { freelist_seed, ..SlabOptions::default() }).unwrap();
        let params = CacheParams::new("order", 64).flags(CacheFlags::NO_MERGE);
        let cache = machine.create_cache(&cpu, &params).unwrap();
        let objects: std::vec::Vec<_> = (0..64).map(|_| cache.alloc(&cpu, Gfp::KERNEL).unwrap()).collect();
        let order: std::vec::Vec<_> = objects.iter().map(|object| object.as_ptr().addr() % 4096 / 64).collect();
        for object in objects {
            // SAFETY: allocated above, freed once.
            unsafe { cache.free(&cpu, object) };
        }
        machine.check(&cpu);
        order
    });
    assert!(orders[0] != orders[1] && orders[1] != orders[2] && orders[0] != orders[2]);
    for mut order in orders {
        order.sort_unstable();
        assert!(order.into_iter().eq(0..64));
    }
}

#[test]
fn a_constructed_object_keeps_what_its_last_user_left() {
    let (machine, cpu) = Machine::new(1, 1, 1024);
    let params = CacheParams::new("constructed", 48).flags(ALL_CHECKS);
    // SAFETY: the constructor writes the object's 48 bytes.
    let params = unsafe { params.ctor(|object| fill(object, 48, 0x77)) };
    let cache = machine.create_cache(&cpu, &params).unwrap();
    let object = cache.alloc(&cpu, Gfp::KERNEL).unwrap();
    assert!(holds(object, 48, 0x77));
    // SAFETY: allocated above, freed once.
    unsafe { cache.free(&cpu, object) };
    assert!(holds(object, 48, 0x77));
    assert_eq!(machine.slab_faults(&cpu), 0);
    cache.destroy(&cpu).unwrap();
}
