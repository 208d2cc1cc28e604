//! The machine's memory manager: how it is booted, and where it is found afterwards.

use boot_memory::firmware::{BootOptions, NumaMap};
use boot_memory::memblock::{Memblock, Region, RegionMemory};
use collections::BootSlice;
use frame_table::{BootArena, MemoryModel};
use kernel_mm::{BootConfig, Deferral, HandOver, Kernel};
use page_allocator::layout::{ArchRules, Release, ZoneLimits};
use page_allocator::{Checks, Geometry, Tunables, Untraced};
use sync::SetOnce;
use units::{NodeId, PfnRange, PhysRange};

use crate::console::ConsoleLog;
use crate::cpu_area::{MAX_CPUS, this_cpu};
use crate::firmware::ApicIds;
use crate::machine::Machine;
use crate::paging;
use crate::ram::RamRanges;

/// The memory manager of this machine.
pub(crate) type BareKernel = Kernel<Machine>;

static KERNEL: SetOnce<BareKernel> = SetOnce::new();

/// Returns the kernel once it has booted.
pub(crate) fn booted() -> Option<&'static BareKernel> {
    KERNEL.get()
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
    Kernel::boot(machine, Untraced, arena, &config, this_cpu())
        .map(|kernel| KERNEL.set(kernel).ok().and_then(|()| KERNEL.get()))
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
