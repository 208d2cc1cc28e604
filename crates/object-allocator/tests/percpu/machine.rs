//! A small machine with every page accounted for.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use boot_memory::memblock::{BootContext, Memblock, MemblockConfig, SilentLog};
use fixture::{Fixture, Shape, ZoneShape};
use frame_table::{BootArena, HeapMemory};
use mmkit_object_allocator::percpu::{EmbedRule, FirstChunk, FirstChunkPlan, PercpuAllocator, UnitSizes};
use page_allocator::{DebugOptions, Geometry, PageAllocator, PcpLimits};
use platform::PhysMemory;
use sync::{Cpu, IrqControl};
use units::{CpuId, NodeId, Order, Pfn, PfnRange, PhysAddr, PhysRange, ZoneType};

pub(crate) struct Machine {
    fixture: Fixture<HeapMemory>,
    number: u32,
    nr_pages: u64,
}

const SHIFT: u32 = 12;

/// Bytes of the boot memory behind a first chunk, apart from the machine's pages.
const BOOT_BYTES: u64 = 4 << 20;

fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(7000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Machine {
    /// Makes a machine whose nodes have equal shares of `nr_pages` and whose CPUs are spread over them.
    pub(crate) fn new(nr_cpus: usize, nr_nodes: u64, nr_pages: u64) -> Self {
        let share = nr_pages / nr_nodes;
        let zones = (0..nr_nodes).map(|node| ZoneShape {
            node: NodeId::try_new(node).unwrap(),
            kind: ZoneType::Normal,
            span: PfnRange::with_len(Pfn::new(node * share), share),
        });
        let shape = Shape {
            geometry: Geometry {
                page_shift: SHIFT,
                max_order: Order::new_truncate(6),
                pageblock_order: Order::new_truncate(5),
            },
            zones: zones.collect(),
            nr_cpus,
            settings: Shape::keeping(PcpLimits::BOOT),
        };
        let memory = HeapMemory::new(shape.span().phys(SHIFT)).unwrap();
        let number = number();
        let machine = Self { fixture: Fixture::new(memory, number, shape, DebugOptions::default()), number, nr_pages };
        machine.fixture.start(&machine.cpu(0));
        machine
    }

    pub(crate) fn pages(&self) -> &PageAllocator<HeapMemory> {
        self.fixture.pages()
    }

    /// Makes the token of a CPU.
    pub(crate) fn cpu(&self, id: u64) -> Cpu {
        // SAFETY: the machine's number is its own, and a test's threads name distinct CPUs.
        unsafe { Cpu::new(self.number, CpuId::try_new(id).unwrap(), IrqControl::NONE) }
    }

    /// Makes an allocator with a first chunk in memory of its own, with `static_size` static bytes.
    pub(crate) fn with_first_chunk(&self, static_size: usize) -> PercpuAllocator {
        PercpuAllocator::with_first_chunk(self.first_chunk(static_size))
    }

    /// Makes a first chunk in memory of its own, with `static_size` static bytes.
    pub(crate) fn first_chunk(&self, static_size: usize) -> FirstChunk {
        let cpu_nodes: Vec<NodeId> = (0..self.pages().nr_cpus() as u64)
            .map(|id| self.pages().node_of_cpu(CpuId::try_new(id).unwrap()))
            .collect();
        let memory = HeapMemory::new(PhysRange::with_len(PhysAddr::ZERO, BOOT_BYTES)).unwrap();
        let mut memblock = Memblock::new(MemblockConfig::new());
        let mut silent = SilentLog;
        memblock.add(PhysAddr::ZERO, BOOT_BYTES, &mut BootContext::new(&(), &mut silent, "test")).unwrap();
        let mut log = SilentLog;
        // SAFETY: the memory was just made for this memblock, and lives until the process ends.
        let mut arena = unsafe { BootArena::new(&mut memblock, &(), &mut log) };
        let sizes = UnitSizes::compute(EmbedRule::generic(SHIFT), static_size, SHIFT, &cpu_nodes);
        let plan = FirstChunkPlan {
            sizes,
            page_shift: SHIFT,
            cpu_nodes: &cpu_nodes,
            min_addr: PhysAddr::ZERO,
            image: b"image",
        };
        plan.embed(&mut arena, &memory).unwrap()
    }

    /// Returns the node of the frame that the kernel sees at `place`.
    pub(crate) fn node_of(&self, place: NonNull<u8>) -> NodeId {
        let start = self.pages().platform().direct_map(PfnRange::with_len(Pfn::ZERO, 1).phys(SHIFT)).unwrap();
        let pfn = Pfn::new((place.addr().get() - start.addr().get()) as u64 >> SHIFT);
        self.pages().zone_of(pfn).unwrap().node()
    }

    /// Lets the page allocation after `skip` others fail, once.
    pub(crate) fn fail_once_after(&self, skip: u64) {
        self.pages().arm_faults(skip, 1);
    }

    /// Lets no allocation fail from here on.
    pub(crate) fn disarm(&self) {
        self.pages().arm_faults(u64::MAX, 0);
    }

    /// Returns the pages that were allocated so far, which is at least the number of requests.
    pub(crate) fn allocated(&self, cpu: &Cpu) -> u64 {
        self.pages().zones().iter().map(|zone| self.pages().zone_events(cpu, zone).allocated).sum()
    }

    /// Gives back what the allocator, which has no area left, keeps ready, and checks that all pages are free.
    pub(crate) fn all_back(&self, percpu: &PercpuAllocator, cpu: &Cpu) {
        percpu.check_invariants(cpu).unwrap();
        percpu.give_all_back(self.pages(), cpu);
        percpu.check_invariants(cpu).unwrap();
        assert_eq!(self.pages().check_invariants(cpu), Ok(self.nr_pages));
    }
}
