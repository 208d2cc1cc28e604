//! The stress on a small machine on the host's heap: it passes where it should and finds what it looks for.

extern crate std;

use std::sync::atomic::{AtomicU32, Ordering};

use boot_memory::memblock::{BootContext, Memblock, MemblockConfig, SilentLog};
use frame_table::{BootArena, HeapMemory, MemoryModel};
use kernel_mm::{BootConfig, Deferral, HandOver, Kernel};
use page_allocator::layout::{ArchRules, MovableRule, Release, ZoneLimits};
use page_allocator::{Checks, Geometry, Tunables, Untraced};
use platform::PhysMemory;
use sync::{Cpu, IrqControl};
use units::{CpuId, Gfp, NodeId, Order, Pfn, PfnRange, PhysAddr, PhysRange};

use super::exhaustion;
use super::objects::{HeldObject, ObjectWorker, new_object_exchange};
use super::worker::{Fault, Held, Worker, new_exchange};

const BYTES: u64 = 64 << 20;

/// Boots a machine with two CPUs.
fn machine() -> (Kernel<HeapMemory>, [Cpu; 2]) {
    static MACHINES: AtomicU32 = AtomicU32::new(5000);
    let number = MACHINES.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the machine number is used once, and each CPU of it once.
    let cpus = [0, 1].map(|id| unsafe { Cpu::new(number, CpuId::try_new(id).unwrap(), IrqControl::NONE) });
    let mut memblock = Memblock::new(MemblockConfig::new());
    let mut silent = SilentLog;
    let context = &mut BootContext::new(&(), &mut silent, "test");
    memblock.add_node(PhysAddr::ZERO, BYTES, NodeId::ZERO, Default::default(), context).unwrap();
    let memory = HeapMemory::new(PhysRange::with_len(PhysAddr::ZERO, BYTES)).unwrap();
    let config = BootConfig {
        geometry: Geometry::FOUR_KIB,
        memory_model: MemoryModel::SPARSE_4K,
        arch: ArchRules::X86_64,
        limits: ZoneLimits::x86_64(PfnRange::with_len(Pfn::ZERO, BYTES >> 12)),
        movable: MovableRule::NONE,
        cpu_nodes: &[NodeId::ZERO; 2],
        distance: &|_, _| 10,
        tunables: Tunables::default(),
        release: Release::V6_12,
        checks: Checks::BAD_PAGE,
        page_owner: false,
        deferral: Deferral::None,
        hand_over: HandOver::Release,
        slab: Default::default(),
        described: None,
    };
    let mut silent = SilentLog;
    // SAFETY: the memory was just made for this memblock and lives until the process ends.
    let arena = unsafe { BootArena::new(&mut memblock, &(), &mut silent) };
    let kernel = Kernel::boot(memory, Untraced, arena, &config, &cpus[0]).unwrap();
    kernel.start_objects(&cpus[0]).unwrap();
    (kernel, cpus)
}

fn allocate<'a>(worker: &mut Worker<'a, HeapMemory, Untraced>, cpu: &Cpu, order: u8) -> Held {
    worker.allocate_as(cpu, Gfp::KERNEL, Order::new_truncate(order)).unwrap().unwrap()
}

#[test]
fn two_workers_leave_all_memory_free() {
    let (kernel, cpus) = machine();
    let exchange = new_exchange();
    let before = kernel.pages().check_invariants(&cpus[0]).unwrap();
    let mut workers = [0, 1].map(|number| Worker::new(kernel.pages(), &exchange, number));
    for _ in 0..5000 {
        for (worker, cpu) in workers.iter_mut().zip(&cpus) {
            worker.step(cpu).unwrap();
        }
    }
    for (worker, cpu) in workers.iter_mut().zip(&cpus) {
        worker.finish(cpu).unwrap();
    }
    let [first, second] = workers.map(|worker| worker.counts);
    assert_eq!(first.allocated + second.allocated, first.freed + second.freed);
    assert!(first.allocated > 1000 && second.allocated > 1000);
    assert_eq!(kernel.pages().check_invariants(&cpus[0]).unwrap(), before);
}

#[test]
fn a_write_by_another_owner_is_found_at_the_free() {
    let (kernel, cpus) = machine();
    let exchange = new_exchange();
    let mut worker = Worker::new(kernel.pages(), &exchange, 0);
    let held = allocate(&mut worker, &cpus[0], 2);
    let last = held.pfn().add(3);
    let page = kernel.pages().platform().direct_map(PfnRange::with_len(last, 1).phys(12)).unwrap();
    // SAFETY: memory of this test's machine.
    unsafe { page.cast::<u64>().write(1) };
    assert!(matches!(worker.free(&cpus[0], held), Err(Fault::TwoOwners { pfn, .. }) if pfn == last));
}

#[test]
fn exhaustion_takes_every_page_above_the_reserves_and_gives_all_back() {
    let (kernel, cpus) = machine();
    let before = kernel.pages().check_invariants(&cpus[0]).unwrap();
    let taken = exhaustion::run(kernel.pages(), &cpus[0]).unwrap();
    assert!(taken > before / 2 && taken < before, "{taken} of {before}");
    assert_eq!(kernel.pages().check_invariants(&cpus[0]).unwrap(), before);
}

#[test]
fn two_workers_with_objects_of_all_sizes_leave_all_memory_free() {
    let (kernel, cpus) = machine();
    let exchange = new_object_exchange();
    kernel.objects().shrink_caches(&cpus[0]);
    let before = kernel.pages().check_invariants(&cpus[0]).unwrap();
    let mut workers = [0, 1].map(|number| ObjectWorker::new(kernel.objects(), &exchange, number));
    for _ in 0..5000 {
        for (worker, cpu) in workers.iter_mut().zip(&cpus) {
            worker.step(cpu).unwrap();
        }
    }
    for (worker, cpu) in workers.iter_mut().zip(&cpus) {
        worker.finish(cpu).unwrap();
    }
    let [first, second] = workers.map(|worker| worker.counts);
    assert_eq!(first.allocated + second.allocated, first.freed + second.freed);
    assert!(first.allocated > 4000 && second.allocated > 4000, "{first:?} {second:?}");
    kernel.objects().shrink_caches(&cpus[0]);
    assert_eq!(kernel.pages().check_invariants(&cpus[0]).unwrap(), before);
}

#[test]
fn a_write_to_a_held_object_is_found_at_the_free() {
    let (kernel, cpus) = machine();
    for size in [1, 8, 13, 700] {
        let object = kernel.objects().kmalloc(&cpus[0], size, Gfp::KERNEL).unwrap();
        // SAFETY: allocated above, freed once.
        unsafe { kernel.objects().kfree(&cpus[0], object) };
        // The front hands the object out again.
        let held = HeldObject::allocate(kernel.objects(), &cpus[0], Gfp::KERNEL, size, 7).unwrap().unwrap();
        // SAFETY: the last byte of an object of this test's machine.
        let last = unsafe { object.add(size - 1) };
        // SAFETY: as above.
        unsafe { last.write(99) };
        assert!(matches!(held.free(kernel.objects(), &cpus[0]), Err(Fault::SharedObject { stamp: 7, .. })), "{size}");
    }
}
