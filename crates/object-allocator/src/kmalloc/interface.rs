//! The calls: kmalloc, kfree and their relatives.

use core::panic::Location;
use core::ptr::NonNull;

use page_allocator::{AllocRequest, Hooks};
use platform::Platform;
use sync::Cpu;
use units::{Gfp, NodeId, Order};

use super::size_class::{KmallocKind, class_of};
use crate::ObjectAllocator;
use crate::error::ObjectError;
use crate::report::SlabFault;
use crate::slab::{CacheFlags, CachePtr};

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Allocates `size` bytes, aligned to 8, and to the size if that is a power of two up to a page.
    ///
    /// Up to two pages come from a cache of the next size class, more from a block of pages. `Gfp::RECLAIMABLE` and `Gfp::DMA`
    /// choose the kind of memory, `Gfp::ZERO` zeroes it. A size of 0 is served as 1.
    ///
    /// # Errors
    /// [`ObjectError::OutOfMemory`], [`ObjectError::NotStarted`], or [`ObjectError::Impossible`] above the largest block.
    #[inline(always)]
    #[track_caller]
    pub fn kmalloc(&self, cpu: &Cpu, size: usize, gfp: Gfp) -> Result<NonNull<u8>, ObjectError> {
        match self.kmalloc_cache(size, gfp) {
            Some(cache) => self.alloc_object(cpu, cache, gfp),
            None => self.kmalloc_without_class(cpu, size, gfp),
        }
    }

    /// Serves sizes that no class is for.
    #[cold]
    #[inline(never)]
    #[track_caller]
    fn kmalloc_without_class(&self, cpu: &Cpu, size: usize, gfp: Gfp) -> Result<NonNull<u8>, ObjectError> {
        if size > self.kmalloc_max_cached() {
            return self.kmalloc_large(cpu, size, gfp, None);
        }
        let cache = self.kmalloc_cache(size.max(1), gfp).ok_or(ObjectError::NotStarted)?;
        self.alloc_object(cpu, cache, gfp)
    }

    #[inline(always)]
    pub(super) fn kmalloc_cache(&self, size: usize, gfp: Gfp) -> Option<CachePtr> {
        self.kmalloc.0[KmallocKind::of(gfp) as usize].get(class_of(size))?.get()
    }

    /// Allocates a block of pages as one object (Linux: ___kmalloc_large_node).
    pub(super) fn kmalloc_large(
        &self,
        cpu: &Cpu,
        size: usize,
        gfp: Gfp,
        node: Option<NodeId>,
    ) -> Result<NonNull<u8>, ObjectError> {
        let nr_pages = size.div_ceil(self.map().page_size()) as u64;
        let order = Order::covering(nr_pages).ok_or(ObjectError::Impossible)?;
        let request = AllocRequest::new(gfp - Gfp::HIGHMEM - Gfp::COMP, order);
        let block = self.pages().alloc_request(cpu, &node.map_or(request, |node| request.on_node(node)))?;
        let Some(address) = self.pages().address(&block) else {
            self.pages().free(cpu, block);
            return Err(ObjectError::Impossible);
        };
        let head = block.into_large_object(self.frames());
        self.count_slab(cpu, head, CacheFlags::empty(), order.nr_pages() as i64);
        Ok(address)
    }

    /// Frees what any function of the kmalloc family, or any cache, allocated.
    ///
    /// # Safety
    /// `object` came from this allocator and nobody uses it any more.
    #[inline(always)]
    #[track_caller]
    pub unsafe fn kfree(&self, cpu: &Cpu, object: NonNull<u8>) {
        match self.cache_of(object) {
            Some(cache) => self.free_object(cpu, cache, object),
            None => self.kfree_large(cpu, object),
        }
    }

    /// Returns the cache whose slab the address lies in (Linux: virt_to_cache).
    #[inline(always)]
    pub(crate) fn cache_of(&self, object: NonNull<u8>) -> Option<CachePtr> {
        let frame = self.frames().get_index(self.map().frame_index(object.as_ptr()))?;
        let (number, _) = frame.slab()?;
        self.caches.get(number)
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn kfree_large(&self, cpu: &Cpu, object: NonNull<u8>) {
        let head = self.map().pfn(object.as_ptr());
        match self.frames().take_large_object(head) {
            Ok(block) => {
                self.count_slab(cpu, head, CacheFlags::empty(), -(block.order().nr_pages() as i64));
                self.pages().free(cpu, block);
            }
            Err(_) => self.report(cpu, None, object.as_ptr(), SlabFault::NotSlab, Location::caller()),
        }
    }

    /// Returns the bytes that may be used at `object` (Linux: ksize); `None` if no object lies there.
    pub fn ksize(&self, object: NonNull<u8>) -> Option<usize> {
        if let Some(cache) = self.cache_of(object) {
            return Some(cache.get().layout.object_size as usize);
        }
        let frame = self.frames().get(self.map().pfn(object.as_ptr()))?;
        match frame.page_type()? {
            (frame_table::PageType::LargeObject, order) => Some(self.map().page_size() << order.raw()),
            _ => None,
        }
    }
}
