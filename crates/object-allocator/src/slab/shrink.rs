//! Giving memory back: fronts are emptied, empty slabs freed, caches destroyed.
//!
//! The rare side of the fronts' protocol: other CPUs' fronts are claimed with a barrier on all CPUs. Not to be called from an interrupt
//! handler. Linux 6.12: mm/slub.c (`flush_all`, `__kmem_cache_shrink`), mm/slab_common.c (`kmem_cache_destroy`).

use core::panic::Location;
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering;

use frame_table::SlabList;
use page_allocator::Hooks;
use platform::Platform;
use sync::{Cpu, OwnerCell};

use super::cache::{Cache, CachePtr};
use super::table::CacheSlot;
use crate::ObjectAllocator;
use crate::report::SlabFault;

/// Objects that the destruction of a cache names, of those that stand against it.
const MOST_REMAINING_REPORTS: usize = 10;

/// What a cache holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheUsage {
    /// Slabs of all nodes.
    pub slabs: u64,
    /// Objects of all slabs.
    pub objects: u64,
    /// Objects that are free in their slabs. Those in the CPUs' fronts are not among them.
    pub free: u64,
    /// Objects of empty slabs that wait for a grace period.
    pub awaiting_rcu: u64,
}

impl CacheUsage {
    /// Returns the objects that are allocated or in a front.
    pub const fn active(&self) -> u64 {
        self.objects - self.free - self.awaiting_rcu
    }
}

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Empties the fronts of all CPUs into the slabs.
    pub(crate) fn flush_fronts(&self, cpu: &Cpu, cache: &Cache) {
        OwnerCell::with_each(
            cache.fronts.iter().map(|front| &front.0),
            cpu,
            || self.pages().platform().fence_other_cpus(),
            |front| front.flush(front.len(), |objects| self.put_back(cpu, cache, objects)),
        );
    }

    /// Frees every page of the cache that holds no object (Linux: kmem_cache_shrink).
    pub(crate) fn shrink_cache(&self, cpu: &Cpu, cache: &Cache) {
        self.flush_fronts(cpu, cache);
        if cache.keeps_slabs() {
            return;
        }
        for node in cache.nodes.iter() {
            let mut doomed = SlabList::new();
            let mut slabs = node.0.lock(cpu);
            for head in slabs.partial.iter(self.frames()) {
                let Some((_, order)) = self.frame(head).slab() else { continue };
                let bits = self.free_bits(cache, head, order);
                if bits.count() == bits.objects() {
                    // The iterator has read this slab's link already.
                    slabs.partial.remove(self.frames(), head);
                    doomed.push_front(self.frames(), head);
                }
            }
            drop(slabs);
            self.discard_slabs(cpu, cache, doomed);
        }
    }

    /// Frees the pages without objects of all caches, those of the caches' own bookkeeping last. Not for interrupt handlers.
    pub fn shrink_caches(&self, cpu: &Cpu) {
        for cache in self.caches.all().iter().rev().filter_map(CacheSlot::get) {
            self.shrink_cache(cpu, cache.get());
        }
    }

    /// Counts what the cache holds.
    pub(crate) fn cache_usage(&self, cpu: &Cpu, cache: &Cache) -> CacheUsage {
        let mut usage = CacheUsage::default();
        for node in cache.nodes.iter() {
            let slabs = node.0.lock(cpu);
            usage.slabs += slabs.nr_slabs;
            usage.objects += slabs.total_objects;
            usage.awaiting_rcu += slabs.waiting_objects;
            for head in slabs.partial.iter(self.frames()) {
                let Some((_, order)) = self.frame(head).slab() else { continue };
                usage.free += u64::from(self.free_bits(cache, head, order).count());
            }
        }
        usage
    }

    /// Reports the first objects that are still allocated.
    fn report_remaining(&self, cpu: &Cpu, cache: &Cache, caller: &'static Location<'static>) {
        let mut remaining = [ptr::null_mut(); MOST_REMAINING_REPORTS];
        let mut slots = remaining.iter_mut();
        for node in self.pages().nodes().iter() {
            let _locked = cache.node(node).0.lock(cpu);
            let used = self.slabs_on(cache, node).flat_map(|(head, order)| {
                let bits = self.free_bits(cache, head, order);
                (0..bits.objects()).filter(move |&index| !bits.is_free(index)).map(move |index| (head, index))
            });
            for ((head, index), slot) in used.zip(&mut slots) {
                *slot = self.object_at(&cache.layout, head, index).as_ptr();
            }
        }
        for object in remaining.into_iter().take_while(|object| !object.is_null()) {
            self.report(cpu, Some(cache), object, SlabFault::Remaining, caller);
        }
    }

    /// Gives a handle back; the last one destroys the cache.
    ///
    /// # Errors
    /// The number of objects that are still allocated, 0 if slabs wait for a grace period; then the handle and the cache stay.
    #[track_caller]
    pub(crate) fn release_cache(&self, cpu: &Cpu, cache: CachePtr) -> Result<(), u64> {
        let shared = {
            let _table = self.caches.lock(cpu);
            // Relaxed: under the table's lock.
            let handles = cache.get().handles.load(Ordering::Relaxed);
            if handles > 1 {
                cache.get().handles.store(handles - 1, Ordering::Relaxed);
            }
            handles > 1
        };
        if shared {
            return Ok(());
        }
        self.shrink_cache(cpu, cache.get());
        let usage = self.cache_usage(cpu, cache.get());
        if usage.slabs > 0 {
            self.report_remaining(cpu, cache.get(), Location::caller());
            return Err(usage.active());
        }
        self.caches.lock(cpu).remove(cache.get().number);
        if let (Some(room), Some(fronts)) = (cache.get().fronts.first(), self.internal.fronts.get()) {
            self.free_object(cpu, fronts, NonNull::from(room).cast());
        }
        if let (Some(room), Some(root)) = (NonNull::new(cache.as_ptr()), self.internal.root.get()) {
            self.free_object(cpu, root, room.cast());
        }
        Ok(())
    }
}
