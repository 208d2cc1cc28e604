//! The hosted machine that candidates run on, and mmkit booted on it: zone accounting, migratetypes, watermarks and vmstat counters on.
//!
//! Peers that want a region get the same machine's memory, so that all stand on pages of the same size.

use std::ptr::NonNull;

use boot_memory::memblock::{BootContext, Memblock, MemblockConfig, SilentLog};
use frame_table::{BootArena, MemoryModel};
use kernel_mm::{BootConfig, Deferral, HandOver, Kernel};
use page_allocator::layout::{ArchRules, MovableRule, Release, ZoneLimits};
use page_allocator::{Checks, Geometry, Tunables, Untraced};
use platform::PhysMemory;
use sim::{HostPages, MemoryLayout, SimPlatform};
use sync::Cpu;
use units::{CpuId, NodeId, Pfn, PfnRange, PhysAddr, PhysRange};

/// mmkit on the hosted machine.
pub(crate) type SimKernel = Kernel<SimPlatform>;

fn platform(bytes: u64, nr_cpus: usize) -> SimPlatform {
    // A kernel maps its own memory with huge pages; so does the host here.
    let layout = MemoryLayout {
        ram: vec![PhysRange::with_len(PhysAddr::ZERO, bytes)],
        ram_pages: HostPages::Huge,
        memmap_pages: HostPages::Huge,
        ..MemoryLayout::default()
    };
    SimPlatform::new(&layout, nr_cpus, None).unwrap_or_else(|error| fail(&error))
}

/// Memory for a peer: zeroed, aligned to 2 MiB, alive as long as the value.
pub(crate) struct Region {
    _machine: SimPlatform,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory belongs to whoever has the value; the pointer is an address to start from.
unsafe impl Send for Region {}

impl Region {
    /// Takes `len` bytes from the host.
    pub(crate) fn new(len: usize) -> Self {
        let machine = platform(len as u64, 1);
        let all = PhysRange::with_len(PhysAddr::ZERO, len as u64);
        let Some(start) = machine.direct_map(all) else { fail(&std::io::Error::other("memory is not mapped")) };
        Self { _machine: machine, start, len }
    }

    pub(crate) const fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }
}

/// Boots a machine of one node with `bytes` of memory.
pub(crate) fn boot(bytes: u64, nr_cpus: usize) -> SimKernel {
    let ram = PhysRange::with_len(PhysAddr::ZERO, bytes);
    let platform = platform(bytes, nr_cpus);
    let mut memblock = Memblock::new(MemblockConfig::new());
    let mut log = SilentLog;
    let context = &mut BootContext::new(&(), &mut log, "bench");
    memblock
        .add_node(ram.start, ram.len(), NodeId::ZERO, Default::default(), context)
        .unwrap_or_else(|error| fail(&error));
    let span = PfnRange::new(Pfn::ZERO, ram.end.pfn_down(12));
    let config = BootConfig {
        geometry: Geometry::FOUR_KIB,
        memory_model: MemoryModel::SPARSE_4K,
        arch: ArchRules::X86_64,
        limits: ZoneLimits::x86_64(span),
        movable: MovableRule::NONE,
        cpu_nodes: &vec![NodeId::ZERO; nr_cpus],
        distance: &|_, _| 10,
        tunables: Tunables::default(),
        release: Release::V6_12,
        checks: Checks::empty(),
        page_owner: false,
        deferral: Deferral::None,
        hand_over: HandOver::Release,
        slab: Default::default(),
        described: None,
    };
    let number = platform.number();
    // SAFETY: the only token of CPU 0 while the machine boots; the machine hands out its own only afterwards.
    let cpu = unsafe { Cpu::new(number, CpuId::ZERO, sync::IrqControl::NONE) };
    // SAFETY: the memory is the machine's own and nobody else uses it.
    let arena = unsafe { BootArena::new(&mut memblock, &(), &mut log) };
    Kernel::boot(platform, Untraced, arena, &config, &cpu).unwrap_or_else(|error| fail(&error))
}

/// Ends the program: without its machine a benchmark has nothing to measure.
pub(crate) fn fail(error: &dyn std::error::Error) -> ! {
    eprintln!("error: the benchmark's machine does not work: {error}");
    std::process::exit(1)
}
