//! The machine's memory manager: how it is booted, and where it is found afterwards.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};

use boot_memory::firmware::{BootOptions, NumaMap};
use boot_memory::memblock::{Memblock, Region, RegionMemory};
use collections::BootSlice;
use frame_table::{BootArena, MemoryModel};
use kernel_mm::{BootConfig, Deferral, HandOver, Kernel};
use page_allocator::layout::{ArchRules, Release, ZoneLimits};
use page_allocator::{Checks, Geometry, Tunables, Untraced};
use units::{NodeId, PfnRange, PhysRange};

use crate::console::ConsoleLog;
use crate::cpu_area::{MAX_CPUS, this_cpu};
use crate::firmware::ApicIds;
use crate::machine::Machine;
use crate::paging;
use crate::ram::RamRanges;

/// The memory manager of this machine.
pub(crate) type BareKernel = Kernel<Machine>;

/// Place of the only kernel.
///
/// # Invariants
/// `ready` is set after `kernel` was written, which happens once; from then on it is only read.
struct Slot {
    taken: AtomicBool,
    ready: AtomicBool,
    kernel: UnsafeCell<MaybeUninit<BareKernel>>,
}

// SAFETY: by the type invariant the kernel is shared only after it was written, and the kernel is `Sync`.
unsafe impl Sync for Slot where BareKernel: Sync {}

static SLOT: Slot = Slot {
    taken: AtomicBool::new(false),
    ready: AtomicBool::new(false),
    kernel: UnsafeCell::new(MaybeUninit::uninit()),
};

/// Returns the kernel once it has booted.
pub(crate) fn booted() -> Option<&'static BareKernel> {
    // Acquire: pairs with the Release store in `publish`.
    if !SLOT.ready.load(Ordering::Acquire) {
        return None;
    }
    // SAFETY: by the type invariant the kernel was written and is only read.
    let kernel = unsafe { &*SLOT.kernel.get() };
    // SAFETY: as above.
    Some(unsafe { kernel.assume_init_ref() })
}

/// Makes `kernel` the one that [`booted`] returns; `None` if there is one already.
fn publish(kernel: BareKernel) -> Option<&'static BareKernel> {
    // Relaxed: decides who writes; the write is published below.
    if SLOT.taken.swap(true, Ordering::Relaxed) {
        return None;
    }
    // SAFETY: the first caller alone comes here, and nobody reads before `ready` is set.
    unsafe { SLOT.kernel.get().write(MaybeUninit::new(kernel)) };
    // Release: pairs with the Acquire load in `booted`.
    SLOT.ready.store(true, Ordering::Release);
    booted()
}

/// Region arrays in the direct map.
struct DirectRegions<'a>(&'a RamRanges);

impl RegionMemory for DirectRegions<'_> {
    fn region_slice(&self, at: PhysRange) -> Option<BootSlice<Region>> {
        if !self.0.contains(at) {
            return None;
        }
        let len = usize::try_from(at.len()).ok()? / size_of::<Region>();
        let start = paging::direct_pointer(at.start).cast();
        // SAFETY: the direct map shows the range; memblock set it aside for this array, and its start is on a page boundary.
        Some(unsafe { BootSlice::init_raw(start, len, |_| Region::default()) })
    }
}

/// What the kernel is booted with.
pub(crate) struct BootInput<'a> {
    pub(crate) options: &'a BootOptions<'a>,
    pub(crate) numa: &'a NumaMap,
    pub(crate) cpus: &'a ApicIds,
    pub(crate) ram: &'a RamRanges,
    pub(crate) checks: Checks,
}

/// Boots the memory manager out of `memblock`.
///
/// # Errors
/// [`kernel_mm::BootError`].
///
/// # Safety
/// What `memblock` holds as free is memory that the direct map shows and nobody uses.
pub(crate) unsafe fn boot(
    machine: Machine,
    memblock: &mut Memblock,
    input: &BootInput<'_>,
) -> Result<Option<&'static BareKernel>, kernel_mm::BootError> {
    memblock.set_current_limit(memblock.end_of_dram());
    memblock.allow_resize();
    let geometry = Geometry::FOUR_KIB;
    let memory = PfnRange::new(
        memblock.start_of_dram().pfn_down(geometry.page_shift),
        memblock.end_of_dram().pfn_up(geometry.page_shift),
    );
    let mut cpu_nodes = [NodeId::ZERO; MAX_CPUS];
    let nr_cpus =
        cpu_nodes.iter_mut().zip(input.cpus.iter()).map(|(node, apic)| *node = node_of(input.numa, apic)).count();
    let config = BootConfig {
        geometry,
        memory_model: MemoryModel::SPARSE_4K,
        arch: ArchRules::X86_64,
        limits: ZoneLimits::x86_64(memory),
        movable: input.options.into(),
        cpu_nodes: cpu_nodes.get(..nr_cpus).unwrap_or_default(),
        distance: &|from, to| input.numa.distance(from, to),
        tunables: Tunables { transparent_hugepage: input.options.transparent_hugepage, ..Tunables::default() },
        release: Release::V6_12,
        checks: input.checks,
        page_owner: input.options.debug.page_owner == Some(true),
        deferral: Deferral::None,
        hand_over: HandOver::Release,
        slab: object_allocator::SlabOptions::from(input.options),
        described: None,
    };
    let regions = DirectRegions(input.ram);
    let mut log = ConsoleLog;
    // SAFETY: the caller's contract; the machine lives until the end.
    let arena = unsafe { BootArena::new(memblock, &regions, &mut log) };
    Kernel::boot(machine, Untraced, arena, &config, this_cpu()).map(publish)
}

/// Returns the node of the CPU with interrupt controller `apic_id`; the first node if the firmware does not say.
fn node_of(numa: &NumaMap, apic_id: u32) -> NodeId {
    let affinity = numa.cpus().iter().find(|cpu| cpu.hardware_id == u64::from(apic_id));
    affinity.map_or(NodeId::ZERO, |cpu| cpu.node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_that_the_firmware_does_not_place_is_on_the_first_node() {
        let mut numa = NumaMap::new();
        let one = NodeId::try_new(1).unwrap();
        numa.add_cpu(4, one).unwrap();
        assert_eq!(node_of(&numa, 4), one);
        assert_eq!(node_of(&numa, 5), NodeId::ZERO);
    }
}
