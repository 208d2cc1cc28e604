//! Pages that kernel objects hold, by node.
//!
//! Read by /proc/meminfo and the Mem-Info report. Linux 6.12: NR_SLAB_RECLAIMABLE_B, NR_SLAB_UNRECLAIMABLE_B.

use core::sync::atomic::{AtomicI64, Ordering};

use crate::slab::CacheFlags;

/// Counters of one node, in pages.
#[derive(Debug)]
pub struct NodeStats {
    reclaimable: AtomicI64,
    unreclaimable: AtomicI64,
}

impl NodeStats {
    pub(crate) const fn new() -> Self {
        Self { reclaimable: AtomicI64::new(0), unreclaimable: AtomicI64::new(0) }
    }

    pub(crate) fn add(&self, flags: CacheFlags, nr_pages: i64) {
        let is_reclaimable = flags.contains(CacheFlags::RECLAIM_ACCOUNT);
        let counter = if is_reclaimable { &self.reclaimable } else { &self.unreclaimable };
        // Relaxed: a statistic.
        counter.fetch_add(nr_pages, Ordering::Relaxed);
    }

    /// Returns the pages of caches with a shrinker (nr_slab_reclaimable).
    pub fn slab_reclaimable(&self) -> u64 {
        // Relaxed: a statistic.
        u64::try_from(self.reclaimable.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Returns the pages of all other caches and of large objects (nr_slab_unreclaimable).
    pub fn slab_unreclaimable(&self) -> u64 {
        // Relaxed: a statistic.
        u64::try_from(self.unreclaimable.load(Ordering::Relaxed)).unwrap_or(0)
    }
}
