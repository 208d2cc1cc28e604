//! Shrinkers: caches of other parts that give memory back when reclaim asks.
//!
//! A part implements [`Shrinker`] and registers it ([`ObjectAllocator::register_shrinker`](crate::ObjectAllocator)); reclaim calls
//! `shrink_slab` for a node. How many objects a call scans is computed in `pressure`; `list` keeps the registered ones.
//! Locking: `rank::SHRINKERS` guards the list and is not held while a shrinker runs. Linux 6.12: mm/shrinker.c.

mod interface;
mod list;
mod pressure;
#[cfg(all(test, not(loom)))]
mod tests;

pub use interface::{RegisteredShrinker, ShrinkSlab, StillRunning};
pub(crate) use list::ShrinkerList;
pub use pressure::{DEFAULT_SEEKS, SHRINK_BATCH, Scan, Shrunk, shrink_one};

use sync::Cpu;
use units::{Gfp, NodeId};

/// What reclaim asks of a shrinker (Linux: struct shrink_control).
#[derive(Clone, Copy, Debug)]
pub struct ShrinkControl<'a> {
    /// CPU that reclaim runs on.
    pub cpu: &'a Cpu,
    /// Flags of the allocation that reclaim is for: they say whether a file system or a device may be entered.
    pub gfp: Gfp,
    /// Node to give memory back on; for shrinkers that do not look at nodes it is the first one.
    pub node: NodeId,
}

/// Result of a scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scanned {
    /// Of `scanned` objects `freed` were given up. A shrinker that looked at more or fewer than asked says so.
    Objects {
        /// Objects looked at.
        scanned: u64,
        /// Objects given up.
        freed: u64,
    },
    /// Nothing can be done now, for instance because a lock is held (Linux: SHRINK_STOP).
    Stop,
}

/// A cache that can give objects up.
///
/// Called without locks of this crate; may allocate only with flags that do not reclaim.
pub trait Shrinker: Sync {
    /// Returns the objects that could be given up; an estimate (Linux: count_objects).
    fn count_objects(&self, control: &ShrinkControl<'_>) -> u64;

    /// Looks at up to `nr_to_scan` objects and gives up those that nobody uses (Linux: scan_objects).
    fn scan_objects(&self, control: &ShrinkControl<'_>, nr_to_scan: u64) -> Scanned;
}

bitflags::bitflags! {
    /// Properties of a shrinker (Linux: SHRINKER_ flags).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct ShrinkerFlags: u8 {
        /// Counts and scans by node (Linux: SHRINKER_NUMA_AWARE).
        const NUMA_AWARE = 1 << 0;
    }
}

/// What a shrinker is registered with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShrinkerParams {
    /// Cost of making an object again, in disk seeks; 0 for objects that cost nothing. The higher, the fewer are scanned.
    pub seeks: u32,
    /// Objects to scan at a time; 0 for [`SHRINK_BATCH`].
    pub batch: u64,
    /// Properties.
    pub flags: ShrinkerFlags,
}

impl Default for ShrinkerParams {
    fn default() -> Self {
        Self { seeks: DEFAULT_SEEKS, batch: 0, flags: ShrinkerFlags::empty() }
    }
}
