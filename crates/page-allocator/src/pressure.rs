//! What the allocator calls upward when memory is short: reclaim, compaction, the OOM killer, and whoever reports a failure.
//!
//! Declared here, implemented above, injected at construction. Without an implementation ([`NoPressure`]) the slow path behaves as
//! Linux does when neither reclaim nor compaction makes progress. Called without locks held.

use units::{NodeId, Order, ZoneType};

use crate::alloc_context::AllocRequest;
use crate::trace::{Tracepoints, Untraced};
use crate::zone::Zone;

/// What an attempt to free memory brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// This many pages came free.
    Made(u64),
    /// None, but another attempt may.
    None,
    /// None, and no attempt ever will: there is no such mechanism on this machine.
    Never,
}

impl Progress {
    /// Returns true if pages came free.
    pub const fn is_made(self) -> bool {
        matches!(self, Self::Made(1..))
    }
}

/// What compaction brought (Linux: enum compact_result, as far as the allocator tells the cases apart).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compaction {
    /// Not tried: there is too little free memory, or no compaction.
    Skipped,
    /// Not tried: it failed recently.
    Deferred,
    /// Tried everywhere and failed.
    Complete,
    /// Stopped early; another attempt may succeed.
    Incomplete,
    /// A block of the order should be free.
    Success,
}

/// How hard compaction tries (Linux: enum compact_priority).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CompactPriority {
    /// Waits for everything.
    SyncFull,
    /// Waits for pages, but not for all.
    SyncLight,
    /// Waits for nothing.
    Async,
}

/// What the node-local reclaim before leaving a node brought (Linux: node_reclaim).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeReclaim {
    /// Switched off (vm.zone_reclaim_mode = 0).
    Off,
    /// Nothing worth scanning, or everything scanned.
    Failed,
    /// Some pages came free: check the watermark again.
    Some,
}

/// Mechanisms that free memory.
pub trait Pressure: Sync {
    /// Wakes kswapd of a zone's node (Linux: wakeup_kswapd).
    fn wake_kswapd(&self, zone: &Zone, order: Order, highest: ZoneType) {
        let _ = (zone, order, highest);
    }

    /// Reclaims for a request (Linux: __perform_reclaim).
    fn direct_reclaim(&self, request: &AllocRequest) -> Progress {
        let _ = request;
        Progress::Never
    }

    /// Compacts for a request (Linux: try_to_compact_pages).
    fn direct_compact(&self, request: &AllocRequest, priority: CompactPriority) -> Compaction {
        let _ = (request, priority);
        Compaction::Skipped
    }

    /// Kills a task to get its memory (Linux: out_of_memory).
    fn out_of_memory(&self, request: &AllocRequest) -> Progress {
        let _ = request;
        Progress::Never
    }

    /// Returns the pages of a zone that reclaim could free (Linux: zone_reclaimable_pages).
    fn reclaimable_pages(&self, zone: &Zone) -> u64 {
        let _ = zone;
        0
    }

    /// Reclaims on one node before an allocation leaves it (Linux: node_reclaim).
    fn node_reclaim(&self, zone: &Zone, order: Order) -> NodeReclaim {
        let _ = (zone, order);
        NodeReclaim::Off
    }

    /// Returns false if the node holds its share of dirty pages already (Linux: node_dirty_ok).
    fn node_dirty_ok(&self, node: NodeId) -> bool {
        let _ = node;
        true
    }
}

/// Everything that is injected into the allocator.
pub trait Hooks: Pressure + Tracepoints {}

impl<T: Pressure + Tracepoints> Hooks for T {}

/// No reclaim, no compaction, no OOM killer, no listener.
pub type NoPressure = Untraced;

impl Pressure for Untraced {}
