//! Tracepoints of the kmem group that the free lists emit, with Linux's names.

use units::{MigrateType, Order, Pfn};

use crate::alloc_context::AllocRequest;
use crate::debug::BadPage;

/// One step back to another migratetype's memory (Linux: kmem:mm_page_alloc_extfrag).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExtFrag {
    /// First frame of the block that was taken.
    pub pfn: Pfn,
    /// Order that was asked for.
    pub alloc_order: Order,
    /// Order of the block that was found.
    pub fallback_order: Order,
    /// Type that was asked for.
    pub alloc_migratetype: MigrateType,
    /// Type of the list that it came from.
    pub fallback_migratetype: MigrateType,
    /// True if the pageblock changed its type.
    pub change_ownership: bool,
}

/// Listener to the page allocator. Unless stated otherwise called under the zone lock with interrupts off: it must be short and
/// must not allocate.
pub trait Tracepoints: Sync {
    /// Returns false if nothing listens to what happens under the zone lock; those methods are then not called.
    fn is_listening(&self) -> bool {
        true
    }

    /// A block was taken from a free list (kmem:mm_page_alloc_zone_locked); `percpu_refill` as Linux prints it.
    fn mm_page_alloc_zone_locked(&self, pfn: Pfn, order: Order, migratetype: MigrateType, percpu_refill: bool) {
        let _ = (pfn, order, migratetype, percpu_refill);
    }

    /// A block went from a per-CPU list back to the free lists (kmem:mm_page_pcpu_drain).
    fn mm_page_pcpu_drain(&self, pfn: Pfn, order: Order, migratetype: MigrateType) {
        let _ = (pfn, order, migratetype);
    }

    /// Memory of another migratetype was used (kmem:mm_page_alloc_extfrag).
    fn mm_page_alloc_extfrag(&self, event: ExtFrag) {
        let _ = event;
    }

    /// An allocation failed that did not forbid a report (Linux: warn_alloc). Called without locks.
    fn warn_alloc(&self, request: &AllocRequest) {
        let _ = request;
    }

    /// A check failed; the block stays out of use (Linux: bad_page). Called without locks.
    fn bad_page(&self, bad: BadPage) {
        let _ = bad;
    }
}

/// Listens to nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Untraced;

impl Tracepoints for Untraced {
    fn is_listening(&self) -> bool {
        false
    }
}
