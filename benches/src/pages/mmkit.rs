//! mmkit on the hosted machine: a booted kernel with zone accounting, migratetypes, watermarks and vmstat counters on.

use boot_memory::memblock::{BootContext, Memblock, MemblockConfig, SilentLog};
use frame_table::{BootArena, FrameTable, MemoryModel, OwnedBlock};
use kernel_mm::{BootConfig, Deferral, HandOver, Kernel};
use page_allocator::layout::{ArchRules, MovableRule, Release, ZoneLimits};
use page_allocator::{Checks, Geometry, Tunables, Untraced};
use sim::{HostPages, MemoryLayout, SimPlatform};
use sync::Cpu;
use units::{CpuId, Gfp, NodeId, Order, Pfn, PfnRange, PhysAddr, PhysRange};

use super::workloads::{self, Workload};
use super::{FRAMES, FrameAllocator, two_threads};

/// Memory of the machine: the region that peers get, and room for the tables, which mmkit keeps in the machine itself.
const MEMORY_BYTES: u64 = (FRAMES << 12) + (512 << 20);

type SimKernel = Kernel<SimPlatform>;

fn boot(nr_cpus: usize) -> SimKernel {
    let ram = PhysRange::with_len(PhysAddr::ZERO, MEMORY_BYTES);
    // A kernel maps its own memory with huge pages; so does the host here.
    let layout = MemoryLayout {
        ram: vec![ram],
        ram_pages: HostPages::Huge,
        memmap_pages: HostPages::Huge,
        ..MemoryLayout::default()
    };
    let platform = SimPlatform::new(&layout, nr_cpus, None).unwrap_or_else(|error| fail(&error));
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
        described: None,
    };
    let number = platform.number();
    // SAFETY: the only token of CPU 0 while the machine boots; the machine hands out its own only afterwards.
    let cpu = unsafe { Cpu::new(number, CpuId::ZERO, sync::IrqControl::NONE) };
    // SAFETY: the memory is the machine's own and nobody else uses it.
    let arena = unsafe { BootArena::new(&mut memblock, &(), &mut log) };
    Kernel::boot(platform, Untraced, arena, &config, &cpu).unwrap_or_else(|error| fail(&error))
}

fn fail(error: &dyn std::error::Error) -> ! {
    eprintln!("error: the benchmark's machine did not boot: {error}");
    std::process::exit(1)
}

struct OnCpu<'a> {
    kernel: &'a SimKernel,
    cpu: &'a Cpu,
}

impl FrameAllocator for OnCpu<'_> {
    type Block = OwnedBlock;

    #[inline]
    fn alloc(&mut self, order: u8) -> Option<OwnedBlock> {
        self.kernel.pages().alloc(self.cpu, Gfp::HIGHUSER_MOVABLE, Order::new_truncate(order)).ok()
    }

    #[inline]
    fn free(&mut self, block: OwnedBlock, _order: u8) {
        self.kernel.pages().free(self.cpu, block);
    }
}

/// Runs a workload on CPU 0.
pub(crate) fn run(workload: Workload, quick: u64) -> Option<f64> {
    let kernel = boot(1);
    let cpu = kernel.pages().platform().cpu(CpuId::ZERO)?;
    workloads::on(&mut OnCpu { kernel: &kernel, cpu: &cpu }, workload, quick)
}

/// Runs hot pairs on two CPUs at once.
pub(crate) fn pair_of_two(order: u8, quick: u64) -> f64 {
    let kernel = boot(2);
    let pairs = 1_000_000 / quick.max(1);
    two_threads::run(pairs, |thread| {
        let cpu = CpuId::try_new(thread as u64).and_then(|id| kernel.pages().platform().cpu(id));
        if let Some(cpu) = cpu {
            workloads::hot(&mut OnCpu { kernel: &kernel, cpu: &cpu }, order, pairs);
        }
    })
}

/// Descriptor, and an entry of four bytes per pageblock.
pub(crate) fn metadata_bytes_per_frame() -> f64 {
    FrameTable::FRAME_BYTES as f64 + 4.0 / Geometry::FOUR_KIB.pageblock_pages() as f64
}
