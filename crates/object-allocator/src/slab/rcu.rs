//! Slabs whose memory must stay what it is until a grace period has passed.
//!
//! Readers of a cache with `TYPESAFE_BY_RCU` may look at an object after it was freed, and will then find an object of the same type.
//! So an empty slab of such a cache waits here. The kernel, which knows its readers, takes a snapshot, waits until every reader that
//! may have begun before has ended, and tells so.
//! Locking: `rank::SLAB_RCU`. Linux 6.12: mm/slub.c (`free_slab`, `rcu_free_slab`).

use frame_table::SlabList;
use page_allocator::Hooks;
use platform::Platform;
use sync::{Cpu, SpinLock, rank};
use units::Pfn;

use super::cache::Cache;
use crate::ObjectAllocator;

/// Slabs that wait, oldest first.
#[derive(Debug)]
pub(crate) struct RcuQueue(SpinLock<{ rank::SLAB_RCU }, Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    slabs: SlabList,
    /// Slabs that ever waited.
    queued: u64,
}

/// A moment: a grace period that begins after it frees what waited then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "nothing is freed until the grace period's end is told"]
pub struct RcuSnapshot(u64);

impl RcuQueue {
    pub(crate) fn new() -> Self {
        Self(SpinLock::new(Waiting::default()))
    }
}

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Lets an empty slab, which is on no list, wait for a grace period.
    pub(crate) fn wait_for_readers(&self, cpu: &Cpu, cache: &Cache, head: Pfn, objects: u32) {
        let mut slabs = cache.node(self.frame(head).place().node()).0.lock(cpu);
        slabs.waiting_slabs += 1;
        slabs.waiting_objects += u64::from(objects);
        drop(slabs);
        let mut waiting = self.rcu.0.lock(cpu);
        waiting.slabs.push_back(self.frames(), head);
        waiting.queued += 1;
    }

    /// Begins a grace period (Linux: get_state_synchronize_rcu).
    pub fn rcu_snapshot(&self, cpu: &Cpu) -> RcuSnapshot {
        RcuSnapshot(self.rcu.0.lock(cpu).queued)
    }

    /// Ends a grace period: frees the slabs that waited at the snapshot. Returns how many there were.
    ///
    /// # Safety
    /// Every reader that held or could find an object of a `TYPESAFE_BY_RCU` cache at the snapshot has let go of it.
    pub unsafe fn rcu_complete(&self, cpu: &Cpu, snapshot: RcuSnapshot) -> u64 {
        let mut freed = 0;
        while let Some(head) = self.next_waiting(cpu, snapshot) {
            let Some((number, order)) = self.frame(head).slab() else { continue };
            let Some(cache) = self.caches.get(number) else { continue };
            let (cache, node) = (cache.get(), self.frame(head).place().node());
            let objects = cache.layout.objects_in(order);
            let mut slabs = cache.node(node).0.lock(cpu);
            slabs.waiting_slabs -= 1;
            slabs.waiting_objects -= u64::from(objects);
            drop(slabs);
            self.release_slab(cpu, cache, head, order);
            freed += 1;
        }
        freed
    }

    /// Takes the oldest slab if it waited at the snapshot.
    fn next_waiting(&self, cpu: &Cpu, snapshot: RcuSnapshot) -> Option<Pfn> {
        let mut waiting = self.rcu.0.lock(cpu);
        let oldest = waiting.queued - u64::from(waiting.slabs.len());
        if oldest < snapshot.0 { waiting.slabs.pop_front(self.frames()) } else { None }
    }
}
