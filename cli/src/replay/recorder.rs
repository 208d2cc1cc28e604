//! Counts what the allocator reports through its tracepoints, in the units that the recording is counted in.

use std::iter::Sum;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

use page_allocator::{AllocRequest, ExtFrag, Pressure, Tracepoints};
use units::{MigrateType, Order, Pfn, PfnRange};

/// Counters behind the tracepoints. Relaxed throughout: one thread replays, and the counts order nothing.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    zones: Vec<ZoneCounters>,
    warnings: AtomicU64,
}

/// Counters of one zone.
#[derive(Debug)]
struct ZoneCounters {
    span: PfnRange,
    refilled: AtomicU64,
    drained: AtomicU64,
    fallbacks: AtomicU64,
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

impl AddAssign for ListTraffic {
    fn add_assign(&mut self, other: Self) {
        self.refilled += other.refilled;
        self.drained += other.drained;
        self.fallbacks += other.fallbacks;
    }
}

impl Sum for ListTraffic {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |mut sum, part| {
            sum += part;
            sum
        })
    }
}

impl Recorder {
    /// Counts for zones that span these frames.
    pub(super) fn of(zones: impl Iterator<Item = PfnRange>) -> Self {
        let counters = |span| ZoneCounters {
            span,
            refilled: AtomicU64::new(0),
            drained: AtomicU64::new(0),
            fallbacks: AtomicU64::new(0),
        };
        Self { zones: zones.map(counters).collect(), warnings: AtomicU64::new(0) }
    }

    /// Returns the traffic of each zone so far.
    pub(super) fn traffic(&self) -> Vec<ListTraffic> {
        let traffic = |zone: &ZoneCounters| ListTraffic {
            refilled: zone.refilled.load(Ordering::Relaxed),
            drained: zone.drained.load(Ordering::Relaxed),
            fallbacks: zone.fallbacks.load(Ordering::Relaxed),
        };
        self.zones.iter().map(traffic).collect()
    }

    /// Returns the allocations that failed with a report.
    pub(super) fn warnings(&self) -> u64 {
        self.warnings.load(Ordering::Relaxed)
    }

    #[inline]
    fn count(&self, pfn: Pfn, counter: impl Fn(&ZoneCounters) -> &AtomicU64, value: u64) {
        if let Some(zone) = self.zones.iter().rfind(|zone| zone.span.contains(pfn)) {
            add(counter(zone), value);
        }
    }
}

/// Adds without a read-modify-write: one thread replays.
#[inline]
fn add(counter: &AtomicU64, value: u64) {
    counter.store(counter.load(Ordering::Relaxed) + value, Ordering::Relaxed);
}

impl Tracepoints for Recorder {
    #[inline]
    fn mm_page_alloc_zone_locked(&self, pfn: Pfn, order: Order, _: MigrateType, percpu_refill: bool) {
        if percpu_refill {
            self.count(pfn, |zone| &zone.refilled, order.nr_pages());
        }
    }

    #[inline]
    fn mm_page_pcpu_drain(&self, pfn: Pfn, order: Order, _: MigrateType) {
        self.count(pfn, |zone| &zone.drained, order.nr_pages());
    }

    fn mm_page_alloc_extfrag(&self, fallback: ExtFrag) {
        self.count(fallback.pfn, |zone| &zone.fallbacks, 1);
    }

    fn warn_alloc(&self, _: &AllocRequest) {
        add(&self.warnings, 1);
    }
}

/// Nothing frees memory: reclaim and compaction are not part of the replay.
impl Pressure for Recorder {}
