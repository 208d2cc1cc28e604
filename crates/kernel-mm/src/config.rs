//! What a machine is like, as far as memory management asks.

use boot_memory::memblock::Memblock;
use frame_table::MemoryModel;
use object_allocator::SlabOptions;
use page_allocator::layout::{ArchRules, MovableRule, Release, ZoneLimits};
use page_allocator::{Checks, Geometry, Tunables};
use units::NodeId;

/// When descriptors are initialised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deferral {
    /// All at boot.
    None,
    /// The first section of each node at boot, the others when allocations need them.
    UntilNeeded,
}

/// What happens to free memory at the end of boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandOver {
    /// The page allocator gets it.
    Release,
    /// Every frame stays in the boot state, for a caller that loads a recorded state.
    Keep,
}

/// A machine to boot.
#[derive(Clone, Copy)]
pub struct BootConfig<'a> {
    /// Sizes.
    pub geometry: Geometry,
    /// Layout of the descriptors.
    pub memory_model: MemoryModel,
    /// What boot does differently on the described architecture.
    pub arch: ArchRules,
    /// Limits of the zones.
    pub limits: ZoneLimits,
    /// kernelcore=, movablecore=, movable_node.
    pub movable: MovableRule,
    /// Node of each CPU; its length is the number of CPUs.
    pub cpu_nodes: &'a [NodeId],
    /// Distance from one node to another, 10 to itself.
    pub distance: &'a dyn Fn(NodeId, NodeId) -> u8,
    /// vm.* settings.
    pub tunables: Tunables,
    /// Kernel whose rules apply where they changed.
    pub release: Release,
    /// Checks that run.
    pub checks: Checks,
    /// Record who owns each block.
    pub page_owner: bool,
    /// Options of all slab caches.
    pub slab: SlabOptions,
    /// When descriptors are initialised.
    pub deferral: Deferral,
    /// What happens to free memory.
    pub hand_over: HandOver,
    /// Memory to lay zones over, if it is not the arena's own: a recorded machine, whose frames must not hold our tables.
    pub described: Option<&'a Memblock>,
}

impl core::fmt::Debug for BootConfig<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("BootConfig")
            .field("geometry", &self.geometry)
            .field("memory_model", &self.memory_model)
            .field("cpu_nodes", &self.cpu_nodes)
            .field("tunables", &self.tunables)
            .finish_non_exhaustive()
    }
}
