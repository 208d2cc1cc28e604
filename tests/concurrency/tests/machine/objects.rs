//! The smallest machine with slab caches and page tables: one zone of 32 frames with bytes behind them, two CPUs.
//!
//! Every run of a model makes one, so kmalloc is left out, and the memory goes when the machine is dropped.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use fixture::{Built, Fixture, Shape, ZoneShape};
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::Relaxed;
use object_allocator::{ObjectAllocator, SlabOptions};
use page_allocator::{DebugOptions, Geometry, PcpLimits};
use platform::{CurrentCpu, KernelTables, PhysMemory, Platform};
use sync::{Cpu, IrqControl};
use units::{CpuId, NodeId, Order, Pfn, PfnRange, PhysAddr, PhysRange, VirtRange, ZoneType};

use crate::format::Tiny;

const SPAN: PfnRange = PfnRange::new(Pfn::new(32), Pfn::new(64));
const GEOMETRY: Geometry =
    Geometry { page_shift: 12, max_order: Order::new_truncate(2), pageblock_order: Order::new_truncate(2) };
const DESCRIPTORS: usize = 1 << 14;
const PAGES: usize = 32 << 12;

/// The bytes of all pages, room for the descriptors, and which pages of addresses were ever flushed, a bit each.
#[derive(Debug)]
pub(crate) struct Memory {
    pages: NonNull<u8>,
    descriptors: NonNull<u8>,
    pub(crate) flushed: AtomicU64,
}

// SAFETY: the pointers name allocations that are used as the memory of one machine.
unsafe impl Send for Memory {}

// SAFETY: as for `Send`; the value itself never changes.
unsafe impl Sync for Memory {}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 4096).unwrap()
}

fn zeroed(bytes: usize) -> NonNull<u8> {
    // SAFETY: the layout is not empty.
    NonNull::new(unsafe { alloc_zeroed(layout(bytes)) }).unwrap()
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated by `zeroed` with this layout; the allocators that used it are dropped with it.
        unsafe { dealloc(self.pages.as_ptr(), layout(PAGES)) };
        // SAFETY: as above.
        unsafe { dealloc(self.descriptors.as_ptr(), layout(DESCRIPTORS)) };
    }
}

// SAFETY: both allocations live as long as the value; `memmap` is called once, by the fixture.
unsafe impl PhysMemory for Memory {
    fn direct_map(&self, range: PhysRange) -> Option<NonNull<u8>> {
        let all = SPAN.phys(12);
        NonNull::new(self.direct_map_base().wrapping_add(range.start.raw() as usize))
            .filter(|_| range.intersection(all) == range)
    }

    fn direct_map_base(&self) -> *mut u8 {
        self.pages.as_ptr().wrapping_sub(SPAN.start.phys(12).raw() as usize)
    }

    fn memmap(&self, _start: Pfn, bytes: u64) -> Option<NonNull<u8>> {
        (bytes <= DESCRIPTORS as u64).then_some(self.descriptors)
    }

    fn populate_memmap(&self, _offset: u64, _backing: PhysRange) -> bool {
        true
    }
}

impl CurrentCpu for Memory {}

impl Platform for Memory {
    type Format = Tiny;

    fn fence_other_cpus(&self) {
        // The cells of readers and owners pay for the other side's half themselves when loom models them.
        loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
    }

    fn kernel_tables(&self) -> Option<KernelTables<Tiny>> {
        // Never read: no entry of a root is the kernel's.
        Some(KernelTables { root: SPAN.start.phys(12), format: Tiny })
    }

    fn flush_kernel_range(&self, _range: VirtRange) {}

    fn flush_user_range(&self, _root: PhysAddr, range: VirtRange) {
        let pages =
            (range.start.raw() >> 12..range.end.raw().min(1 << 15) >> 12).fold(0, |pages, page| pages | 1 << page);
        // Relaxed: whoever asks found something that was done after the flush.
        self.flushed.fetch_or(pages, Relaxed);
    }
}

/// An object allocator with its internal caches, and the number of its machine.
pub(crate) struct Machine {
    built: Built<ObjectAllocator<Memory>>,
    number: u32,
}

impl std::ops::Deref for Machine {
    type Target = ObjectAllocator<Memory>;

    fn deref(&self) -> &ObjectAllocator<Memory> {
        &self.built
    }
}

impl Machine {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::build(Self::parts(number), number)
    }

    /// Apart from what is built of it: models run on small stacks, and the sets of the CPUs and an object allocator are large.
    #[inline(never)]
    fn parts(number: u32) -> Box<Fixture<Memory>> {
        let shape = Shape {
            geometry: GEOMETRY,
            zones: vec![ZoneShape { node: NodeId::ZERO, kind: ZoneType::Normal, span: SPAN }],
            nr_cpus: 2,
            settings: Shape::keeping(PcpLimits::BOOT),
        };
        let memory = Memory { pages: zeroed(PAGES), descriptors: zeroed(DESCRIPTORS), flushed: AtomicU64::new(0) };
        Box::new(Fixture::new(memory, number, shape, DebugOptions::default()))
    }

    #[inline(never)]
    fn build(fixture: Box<Fixture<Memory>>, number: u32) -> Self {
        let cpu = token(number, 0);
        fixture.start(&cpu);
        let built = fixture.build(ObjectAllocator::new);
        built.start_caches(&cpu, SlabOptions::default()).unwrap();
        Self { built, number }
    }

    /// Makes the token of a CPU.
    pub(crate) fn cpu(&self, id: u64) -> Cpu {
        token(self.number, id)
    }
}

fn token(machine: u32, id: u64) -> Cpu {
    // SAFETY: the machine's number is its own, and each thread of a model makes the token of another CPU; the main thread makes
    // its own again only after the one of the set-up was dropped.
    unsafe { Cpu::new(machine, CpuId::try_new(id).unwrap(), IrqControl::NONE) }
}

/// Runs `model` on a machine that lives until it returns, in every interleaving with up to `preemptions` preemptions, or LOOM_MAX_PREEMPTIONS.
pub(crate) fn on_machine(preemptions: usize, model: impl Fn(&'static Machine) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 50_000;
    builder.preemption_bound.get_or_insert(preemptions);
    builder.check(move || {
        let machine = Box::into_raw(Box::new(Machine::new()));
        // SAFETY: just allocated, and freed below when nothing refers to it any more.
        model(unsafe { &*machine });
        // SAFETY: the model's threads have ended, and so has all that it made on the machine.
        drop(unsafe { Box::from_raw(machine) });
    });
}
