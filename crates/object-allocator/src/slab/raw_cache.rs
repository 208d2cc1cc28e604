//! The handle of a cache of untyped objects.
//!
//! Used by kernels that want Linux's interface, and under the typed one. Linux 6.12: kmem_cache_create, kmem_cache_alloc,
//! kmem_cache_free and their bulk and node variants.

use core::fmt;
use core::ptr::NonNull;

use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;
use units::{Gfp, NodeId, Order};

use super::cache::CachePtr;
use super::params::{CacheName, CacheParams};
use super::shrink::CacheUsage;
use crate::ObjectAllocator;
use crate::error::ObjectError;

/// A cache of objects of one size. Dropping the handle leaves the cache; [`RawCache::destroy`] ends it.
pub struct RawCache<'k, P: Platform, H: Hooks> {
    objects: &'k ObjectAllocator<P, H>,
    cache: CachePtr,
}

/// A cache that cannot be destroyed yet, with its handle.
pub struct StillInUse<'k, P: Platform, H: Hooks> {
    /// The cache, unchanged but for its empty slabs.
    pub cache: RawCache<'k, P, H>,
    /// Objects that are still allocated; 0 if all that is left waits for a grace period.
    pub alive: u64,
}

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Makes a cache, or a handle of an equal one (Linux: kmem_cache_create).
    ///
    /// # Errors
    /// [`ObjectError`]; nothing remains of the attempt.
    pub fn create_cache<'k>(&'k self, cpu: &Cpu, params: &CacheParams<'_>) -> Result<RawCache<'k, P, H>, ObjectError> {
        Ok(RawCache { objects: self, cache: self.make_or_merge(cpu, params)? })
    }
}

impl<'k, P: Platform, H: Hooks> RawCache<'k, P, H> {
    /// Allocates an object: zeroed with `Gfp::ZERO`, as the constructor left it if there is one, else with any contents.
    ///
    /// # Errors
    /// [`ObjectError::OutOfMemory`] or [`ObjectError::Impossible`].
    #[inline]
    #[track_caller]
    pub fn alloc(&self, cpu: &Cpu, gfp: Gfp) -> Result<NonNull<u8>, ObjectError> {
        self.objects.alloc_object(cpu, self.cache, gfp)
    }

    /// Allocates an object on `node`; elsewhere, unless `Gfp::THISNODE` is set, if the node has no memory.
    ///
    /// # Errors
    /// As [`RawCache::alloc`].
    #[track_caller]
    pub fn alloc_on_node(&self, cpu: &Cpu, gfp: Gfp, node: NodeId) -> Result<NonNull<u8>, ObjectError> {
        self.objects.alloc_object_on(cpu, self.cache, gfp, node)
    }

    /// Frees an object.
    ///
    /// # Safety
    /// This cache allocated `object`, and nobody uses it any more.
    #[inline]
    #[track_caller]
    pub unsafe fn free(&self, cpu: &Cpu, object: NonNull<u8>) {
        self.objects.free_object(cpu, self.cache, object);
    }

    /// Fills `objects` with objects.
    ///
    /// # Errors
    /// As [`RawCache::alloc`]; then none is allocated, and the slots hold addresses that mean nothing.
    #[inline]
    #[track_caller]
    pub fn alloc_bulk(&self, cpu: &Cpu, gfp: Gfp, objects: &mut [*mut u8]) -> Result<(), ObjectError> {
        self.objects.alloc_bulk_objects(cpu, self.cache, gfp, objects)
    }

    /// Frees objects.
    ///
    /// # Safety
    /// As [`RawCache::free`], for each; no address occurs twice.
    #[inline]
    #[track_caller]
    pub unsafe fn free_bulk(&self, cpu: &Cpu, objects: &[*mut u8]) {
        self.objects.free_bulk_objects(cpu, self.cache, objects);
    }

    /// Gives pages without objects back, those of all CPUs' fronts included. Not for interrupt handlers.
    pub fn shrink(&self, cpu: &Cpu) {
        self.objects.shrink_cache(cpu, self.cache.get());
    }

    /// Ends the cache if this is its last handle. Not for interrupt handlers.
    ///
    /// # Errors
    /// [`StillInUse`] if objects are allocated.
    #[track_caller]
    pub fn destroy(self, cpu: &Cpu) -> Result<(), StillInUse<'k, P, H>> {
        self.objects.release_cache(cpu, self.cache).map_err(|alive| StillInUse { cache: self, alive })
    }

    /// Returns true if `object` lies in a slab of this cache.
    pub(crate) fn holds(&self, object: NonNull<u8>) -> bool {
        self.objects.cache_of(object).is_some_and(|cache| cache.as_ptr() == self.cache.as_ptr())
    }

    /// Returns what the cache holds.
    pub fn usage(&self, cpu: &Cpu) -> CacheUsage {
        self.objects.cache_usage(cpu, self.cache.get())
    }

    /// Returns the cache's name: the first handle's, if several share it.
    pub fn name(&self) -> CacheName {
        self.cache.get().name
    }

    /// Returns how many handles share the cache.
    pub fn handles(&self) -> u32 {
        self.cache.get().handles()
    }

    /// Returns the bytes of an object that may be used (Linux: s->object_size).
    pub fn usable(&self) -> usize {
        self.cache.get().layout.object_size as usize
    }

    /// Returns the bytes from one object to the next (Linux: s->size).
    pub fn stride(&self) -> usize {
        self.cache.get().layout.stride as usize
    }

    /// Returns the objects of a slab and its order.
    pub fn slab_shape(&self) -> (u32, Order) {
        (self.cache.get().layout.objects, self.cache.get().layout.order)
    }
}

impl<P: Platform, H: Hooks> fmt::Debug for RawCache<'_, P, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RawCache").field(&self.cache.get().name).finish()
    }
}

impl<P: Platform, H: Hooks> fmt::Debug for StillInUse<'_, P, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StillInUse").field("cache", &self.cache).field("alive", &self.alive).finish()
    }
}
