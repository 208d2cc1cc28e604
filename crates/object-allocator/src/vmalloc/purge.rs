//! One flush for many areas: after it their tables and addresses can be used again.
//!
//! Order: tables without entries leave the tree of tables, every CPU forgets the range around all areas, tables are freed, areas leave
//! the tree of areas. Linux 6.12: `__purge_vmap_area_lazy`, `purge_vmap_area_lazy`, `drain_vmap_area_work`.

use core::sync::atomic::Ordering;

use frame_table::FrameList;
use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;
use units::VirtRange;

use super::add;
use super::area::AreaPtr;
use super::areas::{LazyAreas, SlabNodes};
use crate::ObjectAllocator;

/// Areas that are looked at in one hold of a lock.
const BATCH: usize = 32;

type Batch = [(Option<AreaPtr>, VirtRange); BATCH];

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Makes the addresses of all areas that were given back free again; returns the areas. Not for interrupt handlers.
    ///
    /// Blocks of short mappings in which nothing is mapped are given up as well (Linux: purge_fragmented_blocks).
    pub fn purge_vmap_areas(&self, cpu: &Cpu) -> u64 {
        self.retire_idle_blocks(cpu);
        self.with_purge_turn(|| self.purge(cpu)).unwrap_or(0)
    }

    /// Purges if more addresses wait than may; leaves it to whoever purges already.
    pub(super) fn purge_if_due(&self, cpu: &Cpu, waiting_bytes: u64) {
        if waiting_bytes / self.map().page_size() as u64 > self.vmalloc.lazy_max_pages {
            self.with_purge_turn(|| self.purge(cpu));
        }
    }

    /// Purges everything because no gap is left, or waits until another CPU has.
    pub(super) fn purge_for_space(&self, cpu: &Cpu) {
        self.retire_idle_blocks(cpu);
        while self.with_purge_turn(|| self.purge(cpu)).is_none() {
            // Relaxed: only a hint for when to try again.
            while self.vmalloc.purging.load(Ordering::Relaxed) {
                core::hint::spin_loop();
            }
        }
    }

    /// Runs `work` unless someone purges.
    fn with_purge_turn<R>(&self, work: impl FnOnce() -> R) -> Option<R> {
        // Acquire: pairs with the Release store below, so that the turns come one after the other.
        if self.vmalloc.purging.swap(true, Ordering::Acquire) {
            return None;
        }
        let result = work();
        // Release: pairs with the Acquire swap above.
        self.vmalloc.purging.store(false, Ordering::Release);
        Some(result)
    }

    fn purge(&self, cpu: &Cpu) -> u64 {
        let lazy = self.vmalloc.areas.lock(cpu).take_lazy();
        if lazy.first.is_none() {
            return 0;
        }
        add(&self.vmalloc.counts.purges, 1);
        let mut detached = FrameList::new();
        self.for_each_batch(cpu, &lazy, |batch| {
            self.detach_tables(cpu, batch.iter().map(|&(_, range)| range), &mut detached);
        });
        self.pages().platform().flush_kernel_range(lazy.span);
        self.free_tables(cpu, detached);
        self.forget_areas(cpu, &lazy)
    }

    /// Calls `visit` with the areas of a taken list, some at a time. No lock is held meanwhile.
    fn for_each_batch(&self, cpu: &Cpu, lazy: &LazyAreas, mut visit: impl FnMut(&[(Option<AreaPtr>, VirtRange)])) {
        let mut batch: Batch = [(None, VirtRange::default()); BATCH];
        let mut at = lazy.first;
        while at.is_some() {
            let (count, next) = self.vmalloc.areas.lock(cpu).lazy_batch(at, &mut batch);
            visit(batch.get(..count).unwrap_or_default());
            at = next;
        }
    }

    /// Takes the areas of a list out of the tree and frees their descriptors; returns how many.
    fn forget_areas(&self, cpu: &Cpu, lazy: &LazyAreas) -> u64 {
        let mut forgotten = 0;
        self.for_each_batch(cpu, lazy, |batch| {
            let mut areas = self.vmalloc.areas.lock(cpu);
            for &(pointer, range) in batch {
                let removed = areas.remove(range.start, &mut SlabNodes { objects: self, cpu });
                debug_assert!(removed == pointer, "an area that waits is in the tree under its first address");
            }
            drop(areas);
            if let Some(cache) = self.vmalloc.area_cache.get() {
                for object in batch.iter().filter_map(|&(pointer, _)| pointer).map(AreaPtr::object) {
                    self.free_object(cpu, cache, object);
                }
            }
            forgotten += batch.len() as u64;
        });
        forgotten
    }
}
