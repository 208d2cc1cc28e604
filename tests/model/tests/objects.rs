//! Random requests to slab caches and kmalloc against a model that knows one thing: who owns which bytes, and what they hold.
//!
//! Objects never overlap, are aligned, and keep what was written until they are freed; at the end every page comes back. The same on
//! two CPUs at once, with interrupts that allocate inside every section.

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fixture::Built;
use model_tests::{machine, shape, stress_time};
use object_allocator::{CacheFlags, CacheParams, ObjectAllocator, RawCache};
use page_allocator::{DebugOptions, NoPressure};
use proptest::prelude::*;
use sim::{CpuGuard, InterruptRate, Rng, SimPlatform};
use sync::Cpu;
use units::{CpuId, Gfp, NodeId};

type Objects = ObjectAllocator<SimPlatform>;
type Cache<'m> = RawCache<'m, SimPlatform, NoPressure>;

/// Sizes and flags of the caches besides kmalloc's.
const CACHES: [(usize, usize, CacheFlags); 5] = [
    (24, 8, CacheFlags::NO_MERGE),
    (64, 64, CacheFlags::HWCACHE_ALIGN),
    (700, 8, CacheFlags::RECLAIM_ACCOUNT),
    (5000, 128, CacheFlags::NO_MERGE),
    (200, 32, CacheFlags::DEBUG),
];

#[derive(Clone, Debug)]
enum Op {
    Kmalloc { cpu: usize, size: usize, gfp: usize },
    KmallocNode { cpu: usize, size: usize, node: u64 },
    Alloc { cpu: usize, cache: usize },
    Bulk { cpu: usize, cache: usize, count: usize },
    Free { cpu: usize, which: usize },
    FreeMany { cpu: usize, count: usize },
    Krealloc { cpu: usize, which: usize, size: usize },
    Shrink { cpu: usize, cache: usize },
    ShrinkAll { cpu: usize },
    FailNext { skip: u64 },
}

const GFPS: [Gfp; 4] =
    [Gfp::KERNEL, Gfp::ATOMIC, Gfp::KERNEL.union(Gfp::RECLAIMABLE), Gfp::KERNEL.union(Gfp::DMA32).union(Gfp::ZERO)];

fn ops() -> impl Strategy<Value = Op> {
    let cpu = || 0..2usize;
    let size = || prop_oneof![6 => 0..300usize, 2 => 0..9000usize, 1 => 0..100_000usize];
    let cache = || 0..CACHES.len();
    let which = || any::<usize>();
    prop_oneof![
        10 => (cpu(), size(), 0..GFPS.len()).prop_map(|(cpu, size, gfp)| Op::Kmalloc { cpu, size, gfp }),
        2 => (cpu(), size(), 0..2u64).prop_map(|(cpu, size, node)| Op::KmallocNode { cpu, size, node }),
        10 => (cpu(), cache()).prop_map(|(cpu, cache)| Op::Alloc { cpu, cache }),
        3 => (cpu(), cache(), 1..200usize).prop_map(|(cpu, cache, count)| Op::Bulk { cpu, cache, count }),
        12 => (cpu(), which()).prop_map(|(cpu, which)| Op::Free { cpu, which }),
        3 => (cpu(), 1..300usize).prop_map(|(cpu, count)| Op::FreeMany { cpu, count }),
        3 => (cpu(), which(), size()).prop_map(|(cpu, which, size)| Op::Krealloc { cpu, which, size }),
        1 => (cpu(), cache()).prop_map(|(cpu, cache)| Op::Shrink { cpu, cache }),
        1 => cpu().prop_map(|cpu| Op::ShrinkAll { cpu }),
        1 => (0..3u64).prop_map(|skip| Op::FailNext { skip }),
    ]
}

/// An object that the model owns.
#[derive(Clone, Copy, Debug)]
struct Owned {
    object: NonNull<u8>,
    size: usize,
    fill: u8,
    /// Its cache; `None` for kmalloc's.
    cache: Option<usize>,
}

// SAFETY: the model alone touches its objects.
unsafe impl Send for Owned {}

impl Owned {
    fn write(self) {
        // SAFETY: the model owns the object, which has `size` bytes.
        unsafe { self.object.write_bytes(self.fill, self.size) };
    }

    #[track_caller]
    fn check(self) {
        // SAFETY: the model owns the object and wrote all of it.
        let bytes = unsafe { std::slice::from_raw_parts(self.object.as_ptr(), self.size) };
        assert!(bytes.iter().all(|&byte| byte == self.fill), "{self:?} was changed by someone else");
    }
}

fn start(shape: fixture::Shape, rate: Option<InterruptRate>) -> Built<Objects> {
    let built = machine(shape, rate, DebugOptions::default()).unwrap().build(ObjectAllocator::new);
    built.start(&cpu(&built, 0)).unwrap();
    built
}

fn cpu(objects: &Objects, id: u64) -> CpuGuard<'_> {
    objects.pages().platform().cpu(CpuId::try_new(id).unwrap()).unwrap()
}

fn caches<'m>(objects: &'m Objects, cpu: &Cpu) -> Vec<Cache<'m>> {
    let create = |&(size, align, flags): &(usize, usize, CacheFlags)| {
        let params = CacheParams::new("model", size).align(align).flags(flags);
        objects.create_cache(cpu, &params).unwrap()
    };
    CACHES.iter().map(create).collect()
}

fn free(objects: &Objects, caches: &[Cache<'_>], cpu: &Cpu, owned: Owned) {
    owned.check();
    match owned.cache {
        // SAFETY: the model owns the object, which came from this cache.
        Some(cache) => unsafe { caches[cache].free(cpu, owned.object) },
        // SAFETY: the model owns the object.
        None => unsafe { objects.kfree(cpu, owned.object) },
    }
}

struct Model<'m> {
    objects: &'m Objects,
    caches: Vec<Cache<'m>>,
    cpus: [CpuGuard<'m>; 2],
    /// Objects by address.
    owned: BTreeMap<usize, Owned>,
    fill: u8,
}

impl Model<'_> {
    fn own(&mut self, object: NonNull<u8>, size: usize, align: usize, cache: Option<usize>) {
        let start = object.as_ptr().addr();
        assert!(start.is_multiple_of(align), "{object:?} is not aligned to {align}");
        let below = self.owned.range(..=start).next_back();
        assert!(below.is_none_or(|(&at, owned)| at + owned.size.max(1) <= start), "{object:?} overlaps {below:?}");
        let above = self.owned.range(start..).next();
        assert!(above.is_none_or(|(&at, _)| start + size <= at), "{object:?} overlaps {above:?}");
        self.fill = self.fill.wrapping_add(1);
        let owned = Owned { object, size, fill: self.fill, cache };
        owned.write();
        self.owned.insert(start, owned);
    }

    fn pick(&mut self, which: usize) -> Option<Owned> {
        let at = which.checked_rem(self.owned.len())?;
        let key = *self.owned.keys().nth(at)?;
        self.owned.remove(&key)
    }

    fn kmalloc_align(size: usize) -> usize {
        if size.is_power_of_two() { size.clamp(8, 4096) } else { 8 }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Kmalloc { cpu, size, gfp } => {
                if let Ok(object) = self.objects.kmalloc(&self.cpus[cpu], size, GFPS[gfp]) {
                    self.own(object, size, Self::kmalloc_align(size), None);
                }
            }
            Op::KmallocNode { cpu, size, node } => {
                let node = NodeId::try_new(node).unwrap();
                if let Ok(object) = self.objects.kmalloc_node(&self.cpus[cpu], size, Gfp::KERNEL, node) {
                    self.own(object, size, Self::kmalloc_align(size), None);
                }
            }
            Op::Alloc { cpu, cache } => {
                if let Ok(object) = self.caches[cache].alloc(&self.cpus[cpu], Gfp::KERNEL) {
                    self.own(object, CACHES[cache].0, CACHES[cache].1, Some(cache));
                }
            }
            Op::Bulk { cpu, cache, count } => {
                let mut objects = vec![std::ptr::null_mut(); count];
                if self.caches[cache].alloc_bulk(&self.cpus[cpu], Gfp::KERNEL, &mut objects).is_ok() {
                    for object in objects {
                        self.own(NonNull::new(object).unwrap(), CACHES[cache].0, CACHES[cache].1, Some(cache));
                    }
                }
            }
            Op::Free { cpu, which } => self.free(cpu, which),
            Op::FreeMany { cpu, count } => (0..count).for_each(|which| self.free(cpu, which * 7)),
            Op::Krealloc { cpu, which, size } => self.krealloc(cpu, which, size),
            Op::Shrink { cpu, cache } => self.caches[cache].shrink(&self.cpus[cpu]),
            Op::ShrinkAll { cpu } => self.objects.shrink_caches(&self.cpus[cpu]),
            Op::FailNext { skip } => self.objects.pages().arm_faults(skip, 2),
        }
    }

    fn free(&mut self, cpu: usize, which: usize) {
        if let Some(owned) = self.pick(which) {
            free(self.objects, &self.caches, &self.cpus[cpu], owned);
        }
    }

    fn krealloc(&mut self, cpu: usize, which: usize, size: usize) {
        let Some(owned) = self.pick(which) else { return };
        if owned.cache.is_some() {
            self.owned.insert(owned.object.as_ptr().addr(), owned);
            return;
        }
        // SAFETY: the model owns the object and forgets the old address if another is returned.
        match unsafe { self.objects.krealloc(&self.cpus[cpu], owned.object, size, Gfp::KERNEL) } {
            Ok(object) => {
                Owned { object, size: owned.size.min(size), ..owned }.check();
                self.own(object, size, 8, None);
            }
            Err(_) => {
                self.owned.insert(owned.object.as_ptr().addr(), owned);
            }
        }
    }

    fn check_laws(&self) {
        self.objects.check_slab_invariants(&self.cpus[0]).unwrap();
        self.objects.pages().check_invariants(&self.cpus[0]).unwrap();
        assert_eq!(self.objects.slab_faults(&self.cpus[0]), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn objects_never_overlap_and_every_page_comes_back(ops in proptest::collection::vec(ops(), 1..400)) {
        let built = start(shape(1, 2), None);
        let cpus = [cpu(&built, 0), cpu(&built, 1)];
        built.shrink_caches(&cpus[0]);
        let before = built.pages().check_invariants(&cpus[0]).unwrap();
        let mut model = Model { objects: &built, caches: caches(&built, &cpus[0]), cpus, owned: BTreeMap::new(), fill: 0 };
        for (step, op) in ops.iter().enumerate() {
            model.apply(op);
            if step % 32 == 0 {
                model.check_laws();
            }
        }
        model.check_laws();
        built.pages().arm_faults(u64::MAX, 0);
        while !model.owned.is_empty() {
            model.free(0, 0);
        }
        for cache in model.caches.drain(..) {
            cache.destroy(&model.cpus[1]).unwrap();
        }
        built.shrink_caches(&model.cpus[0]);
        built.check_slab_invariants(&model.cpus[0]).unwrap();
        prop_assert_eq!(built.pages().check_invariants(&model.cpus[0]).unwrap(), before);
    }
}

/// What each CPU does under stress: keeps up to a few hundred objects, checks each when it goes, and now and then shrinks.
fn churn(objects: &Objects, caches: &[Cache<'_>], cpu: &Cpu, until: Instant) -> u64 {
    let mut rng = Rng::for_part(11, u64::from(cpu.id().raw()));
    let (mut owned, mut done) = (Vec::<Owned>::new(), 0);
    while Instant::now() < until {
        for _ in 0..200 {
            let which = rng.next_u64() as usize;
            if owned.len() < 300 && !which.is_multiple_of(3) {
                let (cache, size) = match which % 7 {
                    cache if cache < CACHES.len() => (Some(cache), CACHES[cache].0),
                    _ => (None, which / 7 % 3000),
                };
                let object = match cache {
                    Some(cache) => caches[cache].alloc(cpu, Gfp::ATOMIC),
                    None => objects.kmalloc(cpu, size, Gfp::ATOMIC),
                };
                if let Ok(object) = object {
                    let new = Owned { object, size, fill: which as u8, cache };
                    new.write();
                    owned.push(new);
                }
            } else if !owned.is_empty() {
                free(objects, caches, cpu, owned.swap_remove(which % owned.len()));
            }
            done += 1;
        }
        if rng.one_in(20) {
            caches[rng.next_u64() as usize % caches.len()].shrink(cpu);
        }
    }
    owned.into_iter().for_each(|owned| free(objects, caches, cpu, owned));
    done
}

#[test]
fn two_cpus_with_interrupts_in_every_section_keep_their_objects() {
    let built = Arc::new(start(shape(2, 2), Some(InterruptRate { one_in: 50, seed: 3 })));
    let before = {
        let cpu = cpu(&built, 0);
        built.shrink_caches(&cpu);
        built.pages().check_invariants(&cpu).unwrap()
    };
    let in_handlers = Arc::new(AtomicU64::new(0));
    let (machine, counter) = (Arc::downgrade(&built), Arc::clone(&in_handlers));
    built.pages().platform().on_interrupt(Arc::new(move |cpu, rng| {
        let Some(machine) = machine.upgrade() else { return };
        let size = rng.next_u64() as usize % 500;
        if let Ok(object) = machine.kmalloc(cpu, size, Gfp::ATOMIC) {
            let owned = Owned { object, size, fill: size as u8, cache: None };
            owned.write();
            free(&machine, &[], cpu, owned);
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let caches = caches(&built, &cpu(&built, 0));
    let until = Instant::now() + stress_time();
    let done = built.pages().platform().run_on_cpus(2, |cpu| churn(&built, &caches, cpu, until)).unwrap();
    let cpu = cpu(&built, 0);
    assert!(done.iter().all(|&done| done > 1000), "{done:?}");
    assert!(in_handlers.load(Ordering::Relaxed) > 100, "interrupts came");
    assert_eq!(built.slab_faults(&cpu), 0);
    built.check_slab_invariants(&cpu).unwrap();
    // A handler that allocates would fill fronts again while they are emptied.
    built.pages().platform().on_interrupt(Arc::new(|_, _| ()));
    caches.into_iter().for_each(|cache| cache.destroy(&cpu).unwrap());
    built.shrink_caches(&cpu);
    assert_eq!(built.pages().check_invariants(&cpu).unwrap(), before);
}
