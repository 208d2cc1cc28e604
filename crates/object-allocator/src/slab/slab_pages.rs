//! Blocks of pages on their way into a cache and out of it, and the slab that an object lies in.
//!
//! Called by `alloc`, `free` and `shrink` with no slab lock held: the page allocator may reclaim.
//! Linux 6.12: mm/slub.c (`allocate_slab`, `discard_slab`, `virt_to_slab`).

use core::ptr::NonNull;

use frame_table::{Frame, OwnedBlock, SlabList};
use page_allocator::{AllocRequest, Hooks};
use platform::Platform;
use sync::Cpu;
use units::{Gfp, NodeId, Order, Pfn};

use super::cache::Cache;
use super::free_bits::FreeBits;
use super::layout::SlabLayout;
use super::params::CacheFlags;
use crate::ObjectAllocator;
use crate::error::ObjectError;

/// What callers of a cache may ask of the page allocator (Linux: GFP_RECLAIM_MASK, GFP_CONSTRAINT_MASK).
const PASSED_ON: Gfp = Gfp::RECLAIM
    .union(Gfp::HIGH)
    .union(Gfp::IO)
    .union(Gfp::FS)
    .union(Gfp::NOWARN)
    .union(Gfp::RETRY_MAYFAIL)
    .union(Gfp::NOFAIL)
    .union(Gfp::NORETRY)
    .union(Gfp::MEMALLOC)
    .union(Gfp::NOMEMALLOC)
    .union(Gfp::HARDWALL)
    .union(Gfp::THISNODE);

/// A slab that is on no list: nobody else takes objects from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FreshSlab {
    pub(crate) head: Pfn,
    pub(crate) order: Order,
}

/// Where an address lies in its cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) head: Pfn,
    pub(crate) order: Order,
    pub(crate) index: u32,
}

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Makes a slab of `cache` with all objects free.
    pub(crate) fn new_slab(
        &self,
        cpu: &Cpu,
        cache: &Cache,
        gfp: Gfp,
        node: Option<NodeId>,
    ) -> Result<FreshSlab, ObjectError> {
        let outside = if cache.layout.has_outside_bits() {
            let bits = self.bits_cache().ok_or(ObjectError::NotStarted)?;
            Some(self.alloc_object(cpu, bits, gfp & PASSED_ON)?)
        } else {
            None
        };
        let block = self.slab_block(cpu, cache, gfp, node).inspect_err(|_| {
            if let (Some(bits), Some(object)) = (self.bits_cache(), outside) {
                self.free_object(cpu, bits, object);
            }
        })?;
        let order = block.order();
        let head = block.into_slab(self.frames(), cache.number);
        let objects = cache.layout.objects_in(order);
        // SAFETY: the object is of the cache of bitmaps and was allocated for this slab.
        unsafe { FreeBits::set_up(self.frame(head), objects, outside, self.map()) };
        self.count_slab(cpu, head, cache.flags, order.nr_pages() as i64);
        if cache.ctor.is_some() || cache.is_checked() {
            self.set_up_objects(cache, head, objects);
        }
        Ok(FreshSlab { head, order })
    }

    fn set_up_objects(&self, cache: &Cache, head: Pfn, objects: u32) {
        for index in 0..objects {
            let object = self.object_at(&cache.layout, head, index);
            if cache.is_checked() {
                // SAFETY: the slab is the caller's alone and laid out by the cache's shape.
                unsafe { cache.shape.init(object) };
            }
            if let Some(ctor) = cache.ctor {
                // SAFETY: the slab is the caller's alone; the object is inside and aligned by the layout.
                unsafe { ctor(object) };
            }
        }
    }

    /// Gets the pages: of the order that wastes least if they come easily, else of the smallest that holds an object.
    fn slab_block(&self, cpu: &Cpu, cache: &Cache, gfp: Gfp, node: Option<NodeId>) -> Result<OwnedBlock, ObjectError> {
        let gfp = gfp & PASSED_ON | cache.gfp;
        let layout = &cache.layout;
        let request = |gfp, order| {
            let request = AllocRequest::new(gfp, order);
            self.pages().alloc_request(cpu, &node.map_or(request, |node| request.on_node(node)))
        };
        if layout.order == layout.min_order {
            return Ok(request(gfp, layout.order)?);
        }
        let mut eager = (gfp | Gfp::NOWARN | Gfp::NORETRY) - Gfp::NOFAIL;
        if gfp.may_block() {
            eager = (eager | Gfp::NOMEMALLOC) - Gfp::RECLAIM;
        }
        Ok(request(eager, layout.order).or_else(|_| request(gfp, layout.min_order))?)
    }

    /// Gives the pages of empty slabs back, at once or when no reader can look at them. The slabs are on no list of their cache any more.
    pub(crate) fn discard_slabs(&self, cpu: &Cpu, cache: &Cache, mut slabs: SlabList) {
        while let Some(head) = slabs.pop_front(self.frames()) {
            let Some((_, order)) = self.frame(head).slab() else { continue };
            if cache.flags.contains(CacheFlags::TYPESAFE_BY_RCU) {
                self.wait_for_readers(cpu, cache, head, cache.layout.objects_in(order));
            } else {
                self.release_slab(cpu, cache, head, order);
            }
        }
    }

    /// Frees a slab and counts it out of its cache, as the last thing: whoever then finds the cache empty may destroy it.
    pub(crate) fn release_slab(&self, cpu: &Cpu, cache: &Cache, head: Pfn, order: Order) {
        let node = self.frame(head).place().node();
        self.free_slab(cpu, cache, head, order);
        let mut slabs = cache.node(node).0.lock(cpu);
        slabs.nr_slabs -= 1;
        slabs.total_objects -= u64::from(cache.layout.objects_in(order));
    }

    fn free_slab(&self, cpu: &Cpu, cache: &Cache, head: Pfn, order: Order) {
        if let FreeBits::Outside { bits, .. } = self.free_bits(cache, head, order)
            && let Some(bits_cache) = self.bits_cache()
        {
            self.free_object(cpu, bits_cache, bits.cast());
        }
        self.count_slab(cpu, head, cache.flags, -(order.nr_pages() as i64));
        match self.frames().take_slab(head, cache.number, order) {
            Ok(block) => self.pages().free(cpu, block),
            Err(error) => debug_assert!(false, "an unlisted slab is its cache's until it is discarded: {error}"),
        }
    }

    /// Returns the descriptor of a slab's frame.
    #[inline(always)]
    pub(crate) fn frame(&self, pfn: Pfn) -> &Frame {
        self.frames().at(pfn)
    }

    /// Returns the free bits of a slab of `cache`, whose node's lock is held or which nobody else knows.
    #[inline]
    pub(crate) fn free_bits(&self, cache: &Cache, head: Pfn, order: Order) -> FreeBits<'_> {
        let objects = cache.layout.objects_in(order);
        // SAFETY: slabs are set up by `new_slab` with the same layout; the lock is the caller's, as documented.
        unsafe { FreeBits::of(self.frame(head), objects, cache.layout.has_outside_bits(), self.map()) }
    }

    /// Returns the address of an object.
    #[inline(always)]
    pub(crate) fn object_at(&self, layout: &SlabLayout, head: Pfn, index: u32) -> NonNull<u8> {
        let address = self.map().page(head).wrapping_add(layout.offset_of(index));
        // SAFETY: the slab is in the direct map, which does not cover address 0.
        unsafe { NonNull::new_unchecked(address) }
    }

    /// Finds the object of `cache` that starts at `address`, if one does.
    #[inline(always)]
    pub(crate) fn locate(&self, cache: &Cache, address: *const u8) -> Option<Place> {
        let pfn = self.map().pfn(address);
        let (number, order) = self.frames().get(pfn)?.slab()?;
        if number != cache.number {
            return None;
        }
        let head = pfn.align_down(order.nr_pages());
        let offset = address.addr().wrapping_sub(self.map().page(head).addr()) as u64;
        let index = cache.layout.index_at(offset, cache.layout.objects_in(order))?;
        Some(Place { head, order, index })
    }
}
