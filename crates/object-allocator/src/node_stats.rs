//! Pages that kernel objects hold, by node.
//!
//! Read by /proc/meminfo and the Mem-Info report. Linux 6.12: NR_SLAB_RECLAIMABLE_B, NR_SLAB_UNRECLAIMABLE_B.

use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;
use units::{NodeId, Pfn};

use crate::ObjectAllocator;
use crate::slab::CacheFlags;
use crate::vmstat::{NodeItem, VmStat};

/// Counters of one node, in pages.
#[derive(Clone, Copy, Debug)]
pub struct NodeStats<'a> {
    vmstat: &'a VmStat,
    node: NodeId,
}

impl NodeStats<'_> {
    /// Returns the pages of caches with a shrinker (nr_slab_reclaimable).
    pub fn slab_reclaimable(&self) -> u64 {
        self.vmstat.node(self.node, NodeItem::NrSlabReclaimable)
    }

    /// Returns the pages of all other caches and of large objects (nr_slab_unreclaimable).
    pub fn slab_unreclaimable(&self) -> u64 {
        self.vmstat.node(self.node, NodeItem::NrSlabUnreclaimable)
    }
}

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Returns the counters of a node.
    pub fn node_stats(&self, node: NodeId) -> NodeStats<'_> {
        NodeStats { vmstat: self.vmstat(), node }
    }

    /// Counts pages that a cache with `flags` takes, or gives back if `nr_pages` is negative.
    pub(crate) fn count_slab(&self, cpu: &Cpu, head: Pfn, flags: CacheFlags, nr_pages: i64) {
        let is_reclaimable = flags.contains(CacheFlags::RECLAIM_ACCOUNT);
        let item = if is_reclaimable { NodeItem::NrSlabReclaimable } else { NodeItem::NrSlabUnreclaimable };
        self.vmstat().mod_node(cpu, self.frame(head).place().node(), item, nr_pages);
    }
}
