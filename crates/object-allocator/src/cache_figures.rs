//! Figures of all caches, as /proc/slabinfo and the OOM report show them.
//!
//! Linux 6.12: `get_slabinfo`, `slab_show`.

use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;
use units::Order;

use crate::slab::CacheSlot;
use crate::{CacheFlags, CacheName, CacheUsage, ObjectAllocator};

/// Figures of a cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheFigures {
    /// Its name.
    pub name: CacheName,
    /// What it holds.
    pub usage: CacheUsage,
    /// Bytes from one object to the next.
    pub stride: usize,
    /// Objects of a slab.
    pub objects: u32,
    /// Order of a slab.
    pub order: Order,
    /// Properties.
    pub flags: CacheFlags,
}

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Calls `visit` with the figures of each cache, the newest first. Takes the lock of the table of caches meanwhile.
    pub fn for_each_cache(&self, cpu: &Cpu, mut visit: impl FnMut(&CacheFigures)) {
        let _table = self.caches.lock(cpu);
        for cache in self.caches.all().iter().rev().filter_map(CacheSlot::get) {
            let cache = cache.get();
            visit(&CacheFigures {
                name: cache.name,
                usage: self.cache_usage(cpu, cache),
                stride: cache.layout.stride as usize,
                objects: cache.layout.objects,
                order: cache.layout.order,
                flags: cache.flags,
            });
        }
    }
}
