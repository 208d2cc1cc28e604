//! Small machines on the host's heap, and tests of everything on them.

mod caches;
mod family;
mod misuse;
mod stable;
mod typed;

extern crate std;
use std::sync::atomic::{AtomicU32, Ordering};

use core::ptr::NonNull;

use fixture::{Built, Fixture, Shape, ZoneShape};
use frame_table::HeapMemory;
use page_allocator::{DebugOptions, Geometry, PcpLimits};
use sync::{Cpu, IrqControl};
use units::{CpuId, NodeId, Pfn, PfnRange, ZoneType};

use crate::ObjectAllocator;

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

pub(crate) fn fill(object: NonNull<u8>, size: usize, value: u8) {
    // SAFETY: the test owns the object.
    unsafe { object.write_bytes(value, size) };
}

pub(crate) fn holds(object: NonNull<u8>, size: usize, value: u8) -> bool {
    // SAFETY: the test owns the object and has filled it.
    unsafe { core::slice::from_raw_parts(object.as_ptr(), size) }.iter().all(|&byte| byte == value)
}
