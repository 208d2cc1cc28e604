//! One region of memblock: a byte range with a node and flags.
//!
//! Linux 6.12: include/linux/memblock.h (`struct memblock_region`, `enum memblock_flags`).

use units::{NodeId, PhysAddr, PhysRange};

bitflags::bitflags! {
    /// What is special about a region (Linux: enum memblock_flags, same bits).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct RegionFlags: u32 {
        /// The firmware says that this memory may be unplugged.
        const HOTPLUG = 0x1;
        /// The memory is mirrored by the hardware.
        const MIRROR = 0x2;
        /// Not in the kernel's direct map; never allocated.
        const NOMAP = 0x4;
        /// A driver added and manages the memory; never allocated.
        const DRIVER_MANAGED = 0x8;
        /// Descriptors of this reserved range are not initialised.
        const RSRV_NOINIT = 0x10;
    }
}

/// Byte range with one node and one set of flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Region {
    /// First byte.
    pub base: PhysAddr,
    /// Number of bytes; `base + size` does not wrap.
    pub size: u64,
    /// What is special about it.
    pub flags: RegionFlags,
    /// The node it belongs to; `None` while that is unknown (Linux: MAX_NUMNODES).
    pub node: Option<NodeId>,
}

impl Region {
    /// Returns the byte after the last one.
    #[inline]
    pub const fn end(&self) -> PhysAddr {
        self.base.saturating_add(self.size)
    }

    /// Returns the bytes it covers.
    #[inline]
    pub const fn range(&self) -> PhysRange {
        PhysRange::new(self.base, self.end())
    }

    /// Makes a region of `range` that has this one's node and flags.
    #[inline]
    pub(super) const fn with_range(self, range: PhysRange) -> Self {
        Self { base: range.start, size: range.len(), ..self }
    }

    /// Returns true if node and flags are the same, so that the two may merge where they touch.
    #[inline]
    pub(super) fn merges_with(&self, other: &Self) -> bool {
        self.node == other.node && self.flags == other.flags
    }
}
