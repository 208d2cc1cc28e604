//! Boots on a machine that refuses one request: whichever it is, boot says so or does without, and never panics.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use boot_memory::memblock::{BootContext, Memblock, MemblockConfig, Region, RegionMemory, SilentLog};
use collections::BootSlice;
use frame_table::{BootArena, MemoryModel};
use kernel_mm::{BootConfig, BootError, Deferral, HandOver, Kernel};
use page_allocator::layout::{ArchRules, MovableRule, Release, ZoneLimits};
use page_allocator::{Checks, Geometry, Tunables, Untraced};
use platform::{CurrentCpu, KernelTables, PhysMemory, Platform, X86_64};
use sim::{MemoryLayout, SimPlatform};
use units::{CpuId, Gfp, NodeId, Order, Pfn, PfnRange, PhysAddr, PhysRange, VirtRange};

const MIB: u64 = 1 << 20;

/// A machine that answers one request with "no".
#[derive(Clone, Debug)]
struct Refusing {
    machine: SimPlatform,
    /// Requests until the one that is refused.
    left: Arc<AtomicU64>,
}

impl Refusing {
    fn refuses(&self) -> bool {
        self.left.fetch_sub(1, Ordering::Relaxed) == 0
    }

    /// Tells whether the refused request came.
    fn has_refused(&self) -> bool {
        self.left.load(Ordering::Relaxed) > u64::MAX / 2
    }
}

// SAFETY: every pointer comes from the machine inside, which lives as long as the value.
unsafe impl PhysMemory for Refusing {
    fn direct_map(&self, range: PhysRange) -> Option<NonNull<u8>> {
        if self.refuses() { None } else { self.machine.direct_map(range) }
    }

    fn direct_map_base(&self) -> *mut u8 {
        self.machine.direct_map_base()
    }

    fn memmap(&self, start: Pfn, bytes: u64) -> Option<NonNull<u8>> {
        if self.refuses() { None } else { self.machine.memmap(start, bytes) }
    }

    fn populate_memmap(&self, offset: u64, backing: PhysRange) -> bool {
        !self.refuses() && self.machine.populate_memmap(offset, backing)
    }
}

impl RegionMemory for Refusing {
    fn region_slice(&self, at: PhysRange) -> Option<BootSlice<Region>> {
        if self.refuses() { None } else { self.machine.region_slice(at) }
    }
}

impl CurrentCpu for Refusing {}

impl Platform for Refusing {
    type Format = X86_64<4>;

    fn fence_other_cpus(&self) {
        self.machine.fence_other_cpus();
    }

    fn kernel_tables(&self) -> Option<KernelTables<X86_64<4>>> {
        None
    }

    fn flush_kernel_range(&self, _range: VirtRange) {}
}

/// Two nodes, with so many holes that the arrays of memblock grow, and room for tables behind them.
fn ram() -> Vec<(PhysRange, NodeId)> {
    let range = |at: u64, node| (PhysRange::with_len(PhysAddr::new(at * MIB), MIB / 2), NodeId::try_new(node).unwrap());
    let large = (PhysRange::with_len(PhysAddr::new(256 * MIB), 16 * MIB), NodeId::try_new(1).unwrap());
    (1..180).map(|at| range(at, u64::from(at >= 90))).chain([large]).collect()
}

fn memblock(machine: &Refusing) -> Option<Memblock> {
    let mut memblock = Memblock::new(MemblockConfig::new());
    memblock.allow_resize();
    let mut log = SilentLog;
    let mut context = BootContext::new(machine, &mut log, "test");
    for (range, node) in ram() {
        memblock.add_node(range.start, range.len(), node, Default::default(), &mut context).ok()?;
    }
    Some(memblock)
}

fn boot(machine: &Refusing, deferral: Deferral) -> Option<Result<Kernel<Refusing>, BootError>> {
    let mut memblock = memblock(machine)?;
    let mut log = SilentLog;
    let handle = machine.machine.clone();
    let cpu = handle.cpu(CpuId::ZERO).unwrap();
    let config = BootConfig {
        geometry: Geometry::FOUR_KIB,
        memory_model: MemoryModel::SPARSE_4K,
        arch: ArchRules::X86_64,
        limits: ZoneLimits::x86_64(PfnRange::new(Pfn::ZERO, PhysAddr::new(272 * MIB).pfn_up(12))),
        movable: MovableRule::NONE,
        cpu_nodes: &[NodeId::ZERO],
        distance: &|from, to| if from == to { 10 } else { 20 },
        tunables: Tunables::default(),
        release: Release::V6_12,
        checks: Checks::BAD_PAGE,
        page_owner: true,
        deferral,
        hand_over: HandOver::Release,
        slab: Default::default(),
        described: None,
    };
    // SAFETY: the memory is the machine's own, used by nobody else, and the kernel holds the machine.
    let arena = unsafe { BootArena::new(&mut memblock, machine, &mut log) };
    Some(Kernel::boot(machine.clone(), Untraced, arena, &config, &cpu))
}

/// Boots with request number `refused` refused; returns whether it came at all.
fn boot_refusing(refused: u64, deferral: Deferral) -> bool {
    let ram = ram().into_iter().map(|(range, _)| range).collect();
    let machine = SimPlatform::new(&MemoryLayout { ram, ..MemoryLayout::default() }, 1, None).unwrap();
    let machine = Refusing { machine, left: Arc::new(AtomicU64::new(refused)) };
    let booted = boot(&machine, deferral);
    let refused = machine.has_refused();
    // From here on the machine keeps its word.
    machine.left.store(u64::MAX / 2, Ordering::Relaxed);
    match booted {
        Some(Ok(kernel)) => {
            let cpu = machine.machine.cpu(CpuId::ZERO).unwrap();
            let managed = || kernel.pages().zones().iter().map(|zone| zone.managed()).sum();
            assert_eq!(kernel.pages().check_invariants(&cpu), Ok(managed()));
            let block = kernel.pages().alloc(&cpu, Gfp::KERNEL, Order::ZERO).unwrap();
            kernel.pages().free(&cpu, block);
            assert_eq!(kernel.pages().check_invariants(&cpu), Ok(managed()));
        }
        other => assert!(refused, "boot failed although nothing was refused: {:?}", other.map(Result::err)),
    }
    refused
}

#[test]
fn boot_survives_the_refusal_of_any_one_request() {
    for deferral in [Deferral::None, Deferral::UntilNeeded] {
        let requests = (0..).find(|&refused| !boot_refusing(refused, deferral)).unwrap();
        assert!(requests > 10, "{requests} requests");
    }
}
