//! The per-CPU allocator on small machines: against a model, under failing allocations, on several CPUs, and its first chunk.
#![cfg(not(loom))]

mod machine;
mod recorded;

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use collections::{BootSlice, PerCpuSlice};
use mmkit_object_allocator::percpu::{AreaLayout, ChunkLabel, MAX_AREA, PercpuAllocator, PercpuArea, PercpuError};
use proptest::prelude::*;
use sync::Cpu;
use units::{CpuId, Gfp};

use machine::Machine;

const ATOMIC: Gfp = Gfp::NOWAIT;

fn layout(size: usize, align: usize) -> AreaLayout {
    AreaLayout { size, align }
}

/// An area with the byte that its holder filled it with, different for each CPU.
struct Held {
    area: PercpuArea,
    stamp: u8,
}

impl Held {
    fn new(area: PercpuArea, stamp: u8) -> Self {
        let held = Self { area, stamp };
        for cpu in held.area.cpus() {
            let bytes = held.bytes(cpu);
            assert!(bytes.iter().all(|&byte| byte == 0), "an area comes zeroed");
            bytes.fill(held.stamp_of(cpu));
        }
        held
    }

    fn stamp_of(&self, cpu: CpuId) -> u8 {
        self.stamp.wrapping_mul(7).wrapping_add(cpu.raw() as u8) | 1
    }

    fn place(&self, cpu: CpuId) -> NonNull<u8> {
        // SAFETY: the tests free their areas before the machine goes.
        unsafe { self.area.ptr(cpu) }.unwrap()
    }

    #[expect(clippy::mut_from_ref, reason = "a test has one thread at a time on an area")]
    fn bytes(&self, cpu: CpuId) -> &mut [u8] {
        // SAFETY: the area is this many bytes of its holder.
        unsafe { std::slice::from_raw_parts_mut(self.place(cpu).as_ptr(), self.area.size()) }
    }

    fn check(&self) {
        for cpu in self.area.cpus() {
            assert!(self.bytes(cpu).iter().all(|&byte| byte == self.stamp_of(cpu)), "nobody else wrote the area");
        }
    }
}

fn free(percpu: &PercpuAllocator, cpu: &Cpu, held: Held) {
    held.check();
    // SAFETY: the areas of a test come from its one allocator.
    unsafe { percpu.free(cpu, held.area) }.unwrap();
}

#[test]
fn every_cpu_has_its_own_copy_on_its_own_node() {
    let machine = Machine::new(4, 2, 512);
    let (percpu, cpu) = (PercpuAllocator::new(), machine.cpu(0));
    let values = percpu.alloc_values(machine.pages(), &cpu, Gfp::KERNEL, |id| AtomicU64::new(id.raw().into())).unwrap();
    values.this(&cpu).unwrap().fetch_add(100, Ordering::Relaxed);
    let seen: Vec<u64> = values.iter().map(|value| value.load(Ordering::Relaxed)).collect();
    assert_eq!(seen, [100, 1, 2, 3]);
    assert!(values.get(CpuId::try_new(4).unwrap()).is_none());
    for id in (0..4).filter_map(CpuId::try_new) {
        let place = NonNull::from(values.get(id).unwrap()).cast();
        assert_eq!(machine.node_of(place), machine.pages().node_of_cpu(id), "{id}");
    }
    assert_eq!(percpu.free_values(&cpu, values), Ok(()));
    machine.all_back(&percpu, &cpu);
}

#[test]
fn values_are_dropped_and_go_back_to_their_own_allocator_only() {
    let machine = Machine::new(2, 1, 256);
    let (percpu, other, cpu) = (PercpuAllocator::new(), PercpuAllocator::new(), machine.cpu(0));
    let count = std::sync::Arc::new(());
    let values = percpu.alloc_values(machine.pages(), &cpu, Gfp::KERNEL, |_| count.clone()).unwrap();
    assert_eq!(std::sync::Arc::strong_count(&count), 3);
    assert_eq!(percpu.free_values(&cpu, values), Ok(()));
    assert_eq!(std::sync::Arc::strong_count(&count), 1);
    let values = percpu.alloc_values(machine.pages(), &cpu, Gfp::KERNEL, |_| 7).unwrap();
    assert_eq!(other.free_values(&cpu, values), Err(PercpuError::Foreign));
    assert_eq!(percpu.figures(&cpu).nr_alloc - percpu.figures(&cpu).nr_dealloc, 1);
}

#[test]
fn impossible_layouts_are_refused() {
    let machine = Machine::new(1, 1, 256);
    let (percpu, cpu) = (PercpuAllocator::new(), machine.cpu(0));
    for bad in [layout(0, 4), layout(MAX_AREA + 1, 4), layout(8, 3), layout(8, 8192), layout(8, 0)] {
        let refused = percpu.alloc(machine.pages(), &cpu, bad, Gfp::KERNEL).unwrap_err();
        assert_eq!(refused, PercpuError::BadLayout(bad));
    }
    assert_eq!(percpu.alloc_early(&cpu, layout(8, 8)).unwrap_err(), PercpuError::OutOfMemory);
    machine.all_back(&percpu, &cpu);
}

#[test]
fn an_atomic_request_gets_populated_memory_or_none() {
    let machine = Machine::new(2, 1, 512);
    let (percpu, cpu) = (PercpuAllocator::new(), machine.cpu(0));
    let atomic = |size| percpu.alloc(machine.pages(), &cpu, layout(size, 8), ATOMIC);
    assert_eq!(atomic(64).unwrap_err(), PercpuError::OutOfMemory);
    assert!(percpu.wants_balance());
    let done = percpu.balance(machine.pages(), &cpu);
    assert_eq!((done.populated, percpu.wants_balance()), (4, false));
    let held = Held::new(atomic(64).unwrap(), 1);
    assert_eq!(
        atomic(8192).unwrap_err(),
        PercpuError::OutOfMemory,
        "pages that were populated one by one do not follow each other"
    );
    free(&percpu, &cpu, held);
    machine.all_back(&percpu, &cpu);
}

#[test]
fn large_areas_are_contiguous_on_every_cpu() {
    let machine = Machine::new(3, 1, 1024);
    let (percpu, cpu) = (PercpuAllocator::new(), machine.cpu(0));
    let held: Vec<Held> = [MAX_AREA, 5000, 12288, 40, 9000]
        .iter()
        .zip(1..)
        .map(|(&size, stamp)| {
            Held::new(percpu.alloc(machine.pages(), &cpu, layout(size, 4096), Gfp::KERNEL).unwrap(), stamp)
        })
        .collect();
    percpu.check_invariants(&cpu).unwrap();
    held.into_iter().for_each(|held| free(&percpu, &cpu, held));
    machine.all_back(&percpu, &cpu);
}

#[test]
fn empty_pages_of_a_chunk_in_use_are_given_back() {
    let machine = Machine::new(2, 1, 1024);
    let (percpu, cpu) = (PercpuAllocator::new(), machine.cpu(0));
    let page = |stamp| Held::new(percpu.alloc(machine.pages(), &cpu, layout(4096, 8), Gfp::KERNEL).unwrap(), stamp);
    let (kept, freed): (Vec<_>, Vec<_>) =
        (0..16).map(|stamp| (stamp, page(stamp))).partition(|(stamp, _)| stamp % 8 == 0);
    assert_eq!((percpu.figures(&cpu).populated, percpu.figures(&cpu).nr_chunks), (16, 2));
    freed.into_iter().for_each(|(_, held)| free(&percpu, &cpu, held));
    assert!(percpu.wants_balance());
    let done = percpu.balance(machine.pages(), &cpu);
    assert_eq!(done.depopulated, 7, "the second chunk's, since the first one has enough to spare");
    assert_eq!(percpu.figures(&cpu).populated, 9);
    percpu.check_invariants(&cpu).unwrap();
    let again = page(200);
    kept.into_iter().map(|(_, held)| held).chain([again]).for_each(|held| free(&percpu, &cpu, held));
    machine.all_back(&percpu, &cpu);
}

#[test]
fn a_chunk_that_is_not_needed_is_destroyed() {
    let machine = Machine::new(1, 1, 2048);
    let (percpu, cpu) = (PercpuAllocator::new(), machine.cpu(0));
    let held: Vec<Held> = (0..40)
        .map(|stamp| Held::new(percpu.alloc(machine.pages(), &cpu, layout(MAX_AREA, 8), Gfp::KERNEL).unwrap(), stamp))
        .collect();
    let chunks = percpu.figures(&cpu).nr_chunks;
    assert!(chunks >= 3, "{chunks} chunks");
    held.into_iter().for_each(|held| free(&percpu, &cpu, held));
    assert!(percpu.wants_balance());
    percpu.balance(machine.pages(), &cpu);
    assert_eq!((percpu.figures(&cpu).nr_chunks, percpu.figures(&cpu).nr_max_chunks), (1, chunks));
    machine.all_back(&percpu, &cpu);
}

/// Runs a fixed sequence with at most one failing page allocation. Returns the requests that failed.
fn sequence(machine: &Machine, cpu: &Cpu) -> usize {
    let percpu = PercpuAllocator::new();
    let (mut held, mut failures) = (Vec::new(), 0);
    for (stamp, size) in [64, 5000, 4096, 100, 20000, 4, 3000].into_iter().enumerate() {
        match percpu.alloc(machine.pages(), cpu, layout(size, 4), Gfp::KERNEL) {
            Ok(area) => held.push(Held::new(area, stamp as u8)),
            Err(error) => {
                assert_eq!(error, PercpuError::OutOfMemory);
                failures += 1;
            }
        }
        percpu.check_invariants(cpu).unwrap();
    }
    percpu.balance(machine.pages(), cpu);
    percpu.check_invariants(cpu).unwrap();
    held.into_iter().for_each(|held| free(&percpu, cpu, held));
    machine.all_back(&percpu, cpu);
    failures
}

#[test]
fn a_failure_at_any_allocation_leaves_everything_in_order() {
    let machine = Machine::new(3, 1, 1024);
    let cpu = machine.cpu(0);
    let before = machine.allocated(&cpu);
    assert_eq!(sequence(&machine, &cpu), 0);
    let most_requests = machine.allocated(&cpu) - before;
    let mut failures = 0;
    for skip in 0..most_requests {
        machine.fail_once_after(skip);
        failures += sequence(&machine, &cpu);
        machine.disarm();
    }
    // One for each of two chunks, and a page or more for each CPU of the five areas that touch new pages.
    assert_eq!(failures, 2 + 5 * 3);
}

#[derive(Clone, Debug)]
enum Op {
    Alloc { size: usize, align: u32, gfp: Gfp },
    Free(usize),
    Balance,
    Starve(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let size = prop_oneof![6 => 1..200_usize, 2 => 1..5000_usize, 1 => 1..=MAX_AREA];
    let gfp = prop_oneof![3 => Just(Gfp::KERNEL), 1 => Just(ATOMIC)];
    prop_oneof![
        6 => (size, 0..=12_u32, gfp).prop_map(|(size, align, gfp)| Op::Alloc { size, align, gfp }),
        4 => (0..1000_usize).prop_map(Op::Free),
        1 => Just(Op::Balance),
        1 => (0..20_u64).prop_map(Op::Starve),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn areas_are_distinct_zeroed_aligned_and_all_memory_comes_back(ops in proptest::collection::vec(op(), 1..150), first in any::<bool>()) {
        let machine = Machine::new(2, 2, 1024);
        let cpu = machine.cpu(1);
        let percpu = if first { machine.with_first_chunk(300) } else { PercpuAllocator::new() };
        let before = percpu.figures(&cpu);
        let mut held: Vec<Held> = Vec::new();
        for (number, op) in ops.into_iter().enumerate() {
            match op {
                Op::Alloc { size, align, gfp } => {
                    let asked = layout(size, 1 << align);
                    if let Ok(area) = percpu.alloc(machine.pages(), &cpu, asked, gfp) {
                        let new = Held::new(area, number as u8);
                        for id in new.area.cpus() {
                            prop_assert!(new.place(id).addr().get().is_multiple_of(asked.align));
                        }
                        held.push(new);
                    }
                }
                Op::Free(_) if held.is_empty() => {}
                Op::Free(which) => free(&percpu, &cpu, held.swap_remove(which % held.len())),
                Op::Balance => assert!(percpu.balance(machine.pages(), &cpu).populated < 100),
                Op::Starve(skip) => machine.fail_once_after(skip),
            }
            percpu.check_invariants(&cpu).unwrap();
        }
        machine.disarm();
        // Filled after it was handed out and intact until freed: no area shared a byte with another.
        held.into_iter().for_each(|held| free(&percpu, &cpu, held));
        machine.all_back(&percpu, &cpu);
        let after = percpu.figures(&cpu);
        prop_assert_eq!(after.nr_alloc, after.nr_dealloc);
        prop_assert_eq!(after.populated.saturating_sub(before.populated), 0);
    }
}

#[test]
fn cpus_allocate_free_and_balance_at_once() {
    let machine = Machine::new(4, 2, 4096);
    let percpu = PercpuAllocator::new();
    std::thread::scope(|scope| {
        for id in 0..3 {
            let (machine, percpu) = (&machine, &percpu);
            scope.spawn(move || {
                let cpu = machine.cpu(id);
                let mut held = Vec::new();
                for round in 0..600_usize {
                    let size = [8, 24, 300, 2000, 4096, 6000][(round + id as usize) % 6];
                    if let Ok(area) = percpu.alloc(machine.pages(), &cpu, layout(size, 8), Gfp::KERNEL) {
                        held.push(Held::new(area, round as u8));
                    }
                    if held.len() > 12 {
                        free(percpu, &cpu, held.swap_remove(round % 12));
                    }
                }
                held.into_iter().for_each(|held| free(percpu, &cpu, held));
            });
        }
        let (machine, percpu) = (&machine, &percpu);
        scope.spawn(move || {
            let cpu = machine.cpu(3);
            for _ in 0..100 {
                percpu.balance(machine.pages(), &cpu);
            }
        });
    });
    let cpu = machine.cpu(0);
    percpu.check_invariants(&cpu).unwrap();
    machine.all_back(&percpu, &cpu);
}

#[test]
fn the_first_chunk_has_a_static_a_reserved_and_a_dynamic_part() {
    let machine = Machine::new(3, 1, 256);
    let (percpu, cpu) = (machine.with_first_chunk(1000), machine.cpu(2));
    let area = percpu.static_area().unwrap();
    for id in area.cpus() {
        // SAFETY: the first chunk stays until the process ends, and the image has five bytes.
        let place = unsafe { area.ptr(id) }.unwrap();
        // SAFETY: as above.
        let image = unsafe { std::slice::from_raw_parts(place.as_ptr(), 6) };
        assert_eq!(image, b"image\0", "every CPU starts with the image");
    }
    assert_eq!(area.size(), 1000);
    // SAFETY: of this allocator.
    assert_eq!(unsafe { percpu.free(&cpu, area) }, Err(PercpuError::Foreign));
    let fills = |take: &dyn Fn() -> Result<PercpuArea, PercpuError>| {
        let held: Vec<Held> = std::iter::from_fn(|| take().ok()).map(|area| Held::new(area, 9)).collect();
        let bytes: usize = held.iter().map(|held| held.area.size()).sum();
        (held, bytes)
    };
    let (reserved, bytes) = fills(&|| percpu.alloc_reserved(&cpu, layout(8, 8)));
    assert_eq!(bytes, 8192);
    let (dynamic, bytes) = fills(&|| percpu.alloc_early(&cpu, layout(4, 4)));
    let used = percpu.figures(&cpu).sizes.unwrap();
    assert_eq!(bytes, used.dyn_size);
    percpu.check_invariants(&cpu).unwrap();
    let later = Held::new(percpu.alloc(machine.pages(), &cpu, layout(64, 64), Gfp::KERNEL).unwrap(), 3);
    assert_eq!(percpu.figures(&cpu).populated, (used.used() >> 12) + 1);
    reserved.into_iter().chain(dynamic).chain([later]).for_each(|held| free(&percpu, &cpu, held));
    machine.all_back(&percpu, &cpu);
}

#[test]
fn the_static_part_has_one_owner_who_finds_the_values_of_every_cpu() {
    let machine = Machine::new(3, 1, 256);
    let room = |nr_cpus| BootSlice::from_static(vec![NonNull::dangling(); nr_cpus].leak());
    let mut first = machine.first_chunk(800);
    let refused = |outcome: Result<PerCpuSlice<u64>, PercpuError>| matches!(outcome, Err(PercpuError::BadLayout(_)));
    assert!(refused(first.take_static(room(3), 101, |_, _| 0)), "there is room for 100");
    assert!(refused(first.take_static(room(2), 100, |_, _| 0)));
    let values = first.take_static(room(3), 100, |cpu, at| u64::from(cpu.raw()) * 1000 + at as u64).unwrap();
    assert!(refused(first.take_static(room(3), 1, |_, _| 0)));
    let percpu = PercpuAllocator::with_first_chunk(first);
    assert!(percpu.static_area().is_none());
    let held: Vec<Held> = (0..200)
        .map_while(|_| percpu.alloc_early(&machine.cpu(0), layout(64, 64)).ok())
        .map(|area| Held::new(area, 5))
        .collect();
    assert_eq!((values.get(2, 99), values.get(0, 100), values.get(3, 0)), (Some(&2099), None, None));
    assert!(values.iter().zip((0..3).flat_map(|cpu| (0..100).map(move |at| cpu * 1000 + at))).all(|(a, b)| *a == b));
    held.into_iter().for_each(|held| free(&percpu, &machine.cpu(0), held));
}

#[test]
fn figures_describe_the_areas_of_each_chunk() {
    let machine = Machine::new(2, 1, 256);
    let (percpu, cpu) = (machine.with_first_chunk(0), machine.cpu(0));
    let mut held: Vec<Held> = [16, 400, 48, 8]
        .into_iter()
        .map(|size| Held::new(percpu.alloc_early(&cpu, layout(size, 4)).unwrap(), 1))
        .collect();
    free(&percpu, &cpu, held.remove(1));
    let mut chunks = Vec::new();
    percpu.for_each_chunk(&cpu, |chunk| chunks.push(chunk));
    let labels: Vec<ChunkLabel> = chunks.iter().map(|chunk| chunk.label).collect();
    assert_eq!(labels, [ChunkLabel::Reserved, ChunkLabel::First]);
    let first = chunks[1];
    assert_eq!((first.nr_alloc, first.max_alloc_size, first.cur_alloc), (3, 400, [8, 16, 48]));
    assert_eq!((first.first_bit * 4, first.sum_frag, first.max_frag), (16, 400, 400));
    let figures = percpu.figures(&cpu);
    assert_eq!((figures.nr_alloc, figures.nr_dealloc, figures.nr_max_alloc), (4, 1, 4));
    assert_eq!((figures.min_alloc_size, figures.max_alloc_size, figures.nr_chunks), (8, 400, 2));
    held.into_iter().for_each(|held| free(&percpu, &cpu, held));
}
