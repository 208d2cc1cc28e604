//! Where a pool's elements come from: kmalloc, a slab cache, pages, or the caller's own source.
//!
//! Linux 6.12: `mempool_alloc_t`, `mempool_create_kmalloc_pool`, `mempool_create_slab_pool`, `mempool_create_page_pool`.

use core::ptr::NonNull;

use frame_table::OwnedBlock;
use page_allocator::{AllocRequest, Hooks};
use platform::Platform;
use sync::Cpu;
use units::{Gfp, Order};

use crate::error::ObjectError;
use crate::{ObjectAllocator, RawCache};

/// Where a pool's elements come from.
pub trait ElementSource {
    /// What the pool hands out.
    type Element: Send;

    /// Allocates an element.
    ///
    /// # Errors
    /// [`ObjectError`].
    fn alloc(&self, cpu: &Cpu, gfp: Gfp) -> Result<Self::Element, ObjectError>;

    /// Takes an element back.
    fn free(&self, cpu: &Cpu, element: Self::Element);
}

/// Memory of a pool's element, owned by its holder.
#[derive(Debug)]
#[must_use = "dropping the memory leaks it"]
pub struct PoolMemory(NonNull<u8>);

// SAFETY: the holder alone uses the memory, wherever it is.
unsafe impl Send for PoolMemory {}

impl PoolMemory {
    /// Returns where the memory is.
    pub const fn as_ptr(&self) -> NonNull<u8> {
        self.0
    }
}

/// Elements of kmalloc (Linux: mempool_create_kmalloc_pool).
#[derive(Debug)]
pub struct KmallocElements<'k, P: Platform, H: Hooks> {
    /// Allocator of the elements.
    pub objects: &'k ObjectAllocator<P, H>,
    /// Bytes of an element.
    pub size: usize,
}

impl<P: Platform, H: Hooks> ElementSource for KmallocElements<'_, P, H> {
    type Element = PoolMemory;

    fn alloc(&self, cpu: &Cpu, gfp: Gfp) -> Result<PoolMemory, ObjectError> {
        self.objects.kmalloc(cpu, self.size, gfp).map(PoolMemory)
    }

    fn free(&self, cpu: &Cpu, element: PoolMemory) {
        // SAFETY: an element is the only handle of an object that kmalloc returned.
        unsafe { self.objects.kfree(cpu, element.0) };
    }
}

/// Objects of a slab cache (Linux: mempool_create_slab_pool).
#[derive(Debug)]
pub struct SlabElements<'k, P: Platform, H: Hooks> {
    /// Cache of the elements.
    pub cache: RawCache<'k, P, H>,
}

impl<P: Platform, H: Hooks> ElementSource for SlabElements<'_, P, H> {
    type Element = PoolMemory;

    fn alloc(&self, cpu: &Cpu, gfp: Gfp) -> Result<PoolMemory, ObjectError> {
        self.cache.alloc(cpu, gfp).map(PoolMemory)
    }

    fn free(&self, cpu: &Cpu, element: PoolMemory) {
        // SAFETY: an element is the only handle of an object that the cache returned.
        unsafe { self.cache.free(cpu, element.0) };
    }
}

/// Blocks of pages (Linux: mempool_create_page_pool).
#[derive(Debug)]
pub struct PageElements<'k, P: Platform, H: Hooks> {
    /// Allocator of the pages.
    pub objects: &'k ObjectAllocator<P, H>,
    /// Order of a block.
    pub order: Order,
}

impl<P: Platform, H: Hooks> ElementSource for PageElements<'_, P, H> {
    type Element = OwnedBlock;

    fn alloc(&self, cpu: &Cpu, gfp: Gfp) -> Result<OwnedBlock, ObjectError> {
        Ok(self.objects.pages().alloc_request(cpu, &AllocRequest::new(gfp, self.order))?)
    }

    fn free(&self, cpu: &Cpu, element: OwnedBlock) {
        self.objects.pages().free(cpu, element);
    }
}
