//! The boot allocator: what memory exists, what of it is taken, and allocation before the page allocator exists.
//!
//! Two sorted lists of regions: `memory`, filled from the firmware's map, and `reserved`. What is in the first and not in the
//! second is free. Each call gets a [`BootContext`]: where the region arrays may grow, where log lines go, and who calls.
//! Used by the machines' boot code, by the frame table and the page allocator for their tables, and by log replay.
//! Locking: none; one CPU runs until the hand-over ([`Memblock::free_ranges`]).
//! Linux 6.12: mm/memblock.c.

mod alloc;
mod context;
mod find;
mod hand_over;
mod iter;
mod limit;
mod log;
mod query;
mod region;
mod region_list;
#[cfg(test)]
mod tests;
mod update;

use units::{NodeId, PhysAddr};

pub use alloc::{AllocRequest, NodePolicy};
pub use context::{BootContext, BootLog, RegionMemory, SilentLog};
use find::Exhausted;
pub use find::{FindRequest, MAX_ADDR_ACCESSIBLE, MAX_ADDR_ANYWHERE, MAX_ADDR_NOLEAKTRACE};
pub use hand_over::{FreeBlocks, ReservedFrames};
pub use iter::{FreeRange, FreeRanges, FreeRangesReverse, MemPfnRanges};
pub use region::{Region, RegionFlags};
use region_list::RegionList;

/// Regions that a list holds before it first grows (Linux: INIT_MEMBLOCK_REGIONS).
pub const INIT_REGIONS: usize = 128;

/// Most regions that the inline array of a list can be configured for.
pub const MAX_INLINE_REGIONS: usize = region_list::INLINE_REGIONS;

/// Bytes that one region takes in a grown array, as on 64-bit Linux with NUMA.
pub const REGION_BYTES: u64 = size_of::<Region>() as u64;

/// Alignment that an allocation without one gets, and the least of node structures (Linux: SMP_CACHE_BYTES).
pub const SMP_CACHE_BYTES: u64 = 64;

/// Highest address that 32-bit devices reach (Linux: ARCH_LOW_ADDRESS_LIMIT).
pub const LOW_ADDRESS_LIMIT: PhysAddr = PhysAddr::new(0xffff_ffff);

/// Why a call failed. The lists are as they were before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemblockError {
    /// No free range fits the request, even after every fallback.
    NoMemory {
        /// Bytes that were asked for.
        size: u64,
    },
    /// A region array is full and could not be doubled.
    CannotGrow {
        /// The list that is full.
        list: ListKind,
        /// Regions that it holds.
        capacity: usize,
    },
    /// The alignment is not a power of two.
    BadAlignment {
        /// The alignment that was asked for.
        align: u64,
    },
}

impl core::fmt::Display for MemblockError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoMemory { size } => write!(f, "no free range of {size} bytes"),
            Self::CannotGrow { list, capacity } => {
                write!(f, "the array of {capacity} {} regions is full and cannot be doubled", list.name())
            }
            Self::BadAlignment { align } => write!(f, "alignment {align:#x} is not a power of two"),
        }
    }
}

impl core::error::Error for MemblockError {}

/// Which of the two lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListKind {
    /// Memory that exists.
    Memory,
    /// Ranges that are taken, whether or not there is memory.
    Reserved,
}

impl ListKind {
    /// Returns the name that log lines use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Reserved => "reserved",
        }
    }
}

/// From which end free ranges are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Highest address first; what every machine does by default.
    TopDown,
    /// Lowest address first, so that allocations stay near the kernel and hot-pluggable nodes stay empty.
    BottomUp {
        /// Searches above this address first and falls back to top-down (Linux 3.13 to 5.10: the end of the kernel image);
        /// `None` searches everywhere, as later kernels do.
        above: Option<PhysAddr>,
    },
}

/// Whether regions carry node numbers (Linux: CONFIG_NUMA).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeTracking {
    /// They do.
    Numa,
    /// Everything is on node 0 and log lines name no node.
    Flat,
}

/// Whether hot-pluggable memory is kept free of boot allocations (Linux: movable_node).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HotplugPolicy {
    /// It is memory like any other.
    Use,
    /// Allocations avoid it.
    Avoid,
}

/// Whether mirrored memory is preferred (Linux: kernelcore=mirror).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MirrorPolicy {
    /// Marks are ignored.
    Ignore,
    /// Allocations take mirrored memory first.
    Prefer,
}

/// Whether `memblock=debug` lines are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DebugLines {
    /// Only warnings.
    Off,
    /// Every change is logged.
    On,
}

/// Whether region arrays may be doubled (Linux: memblock_can_resize).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resizing {
    /// Not yet: memory is not mapped.
    Forbidden,
    /// From now on.
    Allowed,
}

/// Release whose log wording and details are followed where they differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Wording {
    /// Linux 6.1.
    Linux6_1,
    /// Linux 6.12.
    Linux6_12,
}

/// What is fixed for a machine and kernel build.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemblockConfig {
    /// log2 of the page size.
    pub page_shift: u32,
    /// Hexadecimal digits of a physical address in log lines: 16, or 8 for a 32-bit kernel without PAE.
    pub address_digits: usize,
    /// Memory regions before the array grows; at most [`MAX_INLINE_REGIONS`].
    pub memory_regions: usize,
    /// Reserved regions before the array grows; at most [`MAX_INLINE_REGIONS`].
    pub reserved_regions: usize,
    /// Whether regions carry node numbers.
    pub nodes: NodeTracking,
    /// Whether hot-pluggable memory is avoided.
    pub hotplug: HotplugPolicy,
    /// Whether mirrored memory is preferred.
    pub mirror: MirrorPolicy,
    /// Release whose wording is followed.
    pub wording: Wording,
}

impl MemblockConfig {
    /// Returns the configuration of a 64-bit NUMA kernel with 4 KiB pages.
    pub const fn new() -> Self {
        Self {
            page_shift: 12,
            address_digits: 16,
            memory_regions: INIT_REGIONS,
            reserved_regions: INIT_REGIONS,
            nodes: NodeTracking::Numa,
            hotplug: HotplugPolicy::Use,
            mirror: MirrorPolicy::Ignore,
            wording: Wording::Linux6_12,
        }
    }
}

impl Default for MemblockConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// The boot allocator of one machine.
#[derive(Debug)]
pub struct Memblock {
    memory: RegionList,
    reserved: RegionList,
    config: MemblockConfig,
    current_limit: PhysAddr,
    direction: Direction,
    resizing: Resizing,
    debug: DebugLines,
    has_mirror: bool,
    exhausted: Exhausted,
}

impl Memblock {
    /// Makes a boot allocator that knows of no memory; arrays may not grow until [`Memblock::allow_resize`].
    pub const fn new(config: MemblockConfig) -> Self {
        Self {
            memory: RegionList::new(config.memory_regions),
            reserved: RegionList::new(config.reserved_regions),
            config,
            current_limit: PhysAddr::new(u64::MAX),
            direction: Direction::TopDown,
            resizing: Resizing::Forbidden,
            debug: DebugLines::Off,
            has_mirror: false,
            exhausted: Exhausted::NOTHING,
        }
    }

    /// Returns what was fixed at construction.
    pub const fn config(&self) -> &MemblockConfig {
        &self.config
    }

    /// Lets region arrays double out of free memory (Linux: memblock_allow_resize).
    pub const fn allow_resize(&mut self) {
        self.resizing = Resizing::Allowed;
    }

    /// Switches `memblock=debug` lines.
    pub const fn set_debug(&mut self, debug: DebugLines) {
        self.debug = debug;
    }

    /// Sets the address that allocations without a limit of their own stay below (Linux: memblock_set_current_limit).
    pub const fn set_current_limit(&mut self, limit: PhysAddr) {
        self.current_limit = limit;
    }

    /// Returns the address that allocations without a limit of their own stay below.
    pub const fn current_limit(&self) -> PhysAddr {
        self.current_limit
    }

    /// Sets from which end free ranges are taken (Linux: memblock_set_bottom_up).
    pub const fn set_direction(&mut self, direction: Direction) {
        self.direction = direction;
    }

    /// Returns from which end free ranges are taken (Linux: memblock_bottom_up).
    pub const fn direction(&self) -> Direction {
        self.direction
    }

    const fn list(&self, kind: ListKind) -> &RegionList {
        match kind {
            ListKind::Memory => &self.memory,
            ListKind::Reserved => &self.reserved,
        }
    }

    const fn list_mut(&mut self, kind: ListKind) -> &mut RegionList {
        match kind {
            ListKind::Memory => &mut self.memory,
            ListKind::Reserved => &mut self.reserved,
        }
    }

    const fn page_size(&self) -> u64 {
        1 << self.config.page_shift
    }

    /// Returns the node of `region` as searches see it.
    const fn node_of(&self, region: &Region) -> Option<NodeId> {
        match self.config.nodes {
            NodeTracking::Numa => region.node,
            NodeTracking::Flat => Some(NodeId::ZERO),
        }
    }

    /// Panics if the lists are not sorted, disjoint, merged and within their arrays.
    pub fn check_invariants(&self) {
        self.memory.check_invariants();
        self.reserved.check_invariants();
        for array in [self.memory.array_range(), self.reserved.array_range()].into_iter().flatten() {
            assert!(self.is_region_reserved_whole(array), "a grown array stays reserved");
        }
    }
}
