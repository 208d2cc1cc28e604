//! Counts what the allocator reports through its tracepoints, in the units that the recording is counted in.

use std::sync::atomic::{AtomicU64, Ordering};

use page_allocator::{AllocRequest, ExtFrag, Pressure, Tracepoints};
use units::{MigrateType, Order, Pfn};

/// Counters behind the tracepoints. Relaxed throughout: one thread replays, and the counts order nothing.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    refilled: AtomicU64,
    drained: AtomicU64,
    fallbacks: AtomicU64,
    warnings: AtomicU64,
}

/// What list operations moved, on either side.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct ListTraffic {
    /// Pages taken off buddy lists in blocks of orders that per-CPU lists hold.
    pub(super) refilled: u64,
    /// Pages that went from per-CPU lists back to buddy lists.
    pub(super) drained: u64,
    /// Fallbacks to another migratetype.
    pub(super) fallbacks: u64,
}

impl Recorder {
    /// Returns the traffic so far.
    pub(super) fn traffic(&self) -> ListTraffic {
        ListTraffic {
            refilled: self.refilled.load(Ordering::Relaxed),
            drained: self.drained.load(Ordering::Relaxed),
            fallbacks: self.fallbacks.load(Ordering::Relaxed),
        }
    }

    /// Returns the allocations that failed with a report.
    pub(super) fn warnings(&self) -> u64 {
        self.warnings.load(Ordering::Relaxed)
    }
}

/// Adds without a read-modify-write: one thread replays.
#[inline]
fn add(counter: &AtomicU64, value: u64) {
    counter.store(counter.load(Ordering::Relaxed) + value, Ordering::Relaxed);
}

impl Tracepoints for Recorder {
    #[inline]
    fn mm_page_alloc_zone_locked(&self, _: Pfn, order: Order, _: MigrateType, percpu_refill: bool) {
        if percpu_refill {
            add(&self.refilled, order.nr_pages());
        }
    }

    #[inline]
    fn mm_page_pcpu_drain(&self, _: Pfn, order: Order, _: MigrateType) {
        add(&self.drained, order.nr_pages());
    }

    fn mm_page_alloc_extfrag(&self, _: ExtFrag) {
        add(&self.fallbacks, 1);
    }

    fn warn_alloc(&self, _: &AllocRequest) {
        add(&self.warnings, 1);
    }
}

/// Nothing frees memory: reclaim and compaction are not part of the replay.
impl Pressure for Recorder {}
