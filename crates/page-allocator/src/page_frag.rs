//! Small pieces cut from a larger block, freed with the last of them.
//!
//! For network buffers: a piece costs a subtraction, and the block goes back when all of its pieces have. Pieces are cut from the
//! end down, so the offset reaches 0 when the block is used up. Linux 6.12: `page_frag_alloc_align`, `struct page_frag_cache`.

use frame_table::{CountedBlock, PageRef};
use platform::Platform;
use sync::Cpu;
use units::{Gfp, Order, PhysAddr};

use crate::alloc_context::AllocError;
use crate::allocator::PageAllocator;
use crate::pressure::Hooks;

/// Largest block that a cache cuts up: 32 KiB (Linux: PAGE_FRAG_CACHE_MAX_SIZE).
const CACHE_BYTES: u64 = 32 << 10;

/// The block that pieces are cut from. One user at a time.
#[derive(Debug, Default)]
pub struct PageFragCache {
    block: Option<CountedBlock>,
    /// Bytes of the block that are not cut off yet.
    left: u64,
}

/// A piece of a block.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "dropping a piece leaks its block"]
pub struct PageFrag {
    start: PhysAddr,
    bytes: u64,
    holds: PageRef,
}

impl PageFrag {
    /// Returns the first byte.
    pub const fn start(&self) -> PhysAddr {
        self.start
    }

    /// Returns the size in bytes.
    pub const fn len(&self) -> u64 {
        self.bytes
    }

    /// Returns true for a piece of no bytes.
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

impl PageFragCache {
    /// Makes a cache without a block.
    pub const fn new() -> Self {
        Self { block: None, left: 0 }
    }
}

impl<P: Platform, H: Hooks> PageAllocator<P, H> {
    /// Cuts a piece of `bytes`, aligned to `align` (a power of two), off the cache's block; takes another block when that is
    /// used up.
    ///
    /// # Errors
    /// [`AllocError::TooLarge`] for more than a page, the size of block that is always to be had; else as
    /// [`PageAllocator::alloc`].
    pub fn alloc_frag(
        &self,
        cpu: &Cpu,
        cache: &mut PageFragCache,
        gfp: Gfp,
        bytes: u64,
        align: u64,
    ) -> Result<PageFrag, AllocError> {
        let page = 1u64 << self.map.geometry.page_shift;
        if bytes > page || align > page || !align.is_power_of_two() {
            return Err(AllocError::TooLarge(Order::ZERO));
        }
        let fits = |left: u64| left.checked_sub(bytes).map(|end| end & !(align - 1));
        let offset = match fits(cache.left).filter(|_| cache.block.is_some()) {
            Some(offset) => offset,
            None => {
                self.refill_frag(cpu, cache, gfp)?;
                fits(cache.left).ok_or(AllocError::TooLarge(Order::ZERO))?
            }
        };
        let Some(block) = &cache.block else { return Err(AllocError::OutOfMemory) };
        cache.left = offset;
        let start = block.pfn().phys(self.map.geometry.page_shift).saturating_add(offset);
        Ok(PageFrag { start, bytes, holds: block.get(&self.map.frames) })
    }

    /// Replaces the cache's block: as large as it gets without effort, one page at least.
    fn refill_frag(&self, cpu: &Cpu, cache: &mut PageFragCache, gfp: Gfp) -> Result<(), AllocError> {
        self.drain_frag(cpu, cache);
        let shift = self.map.geometry.page_shift;
        let order = Order::covering(CACHE_BYTES >> shift).unwrap_or(Order::ZERO);
        let modest = (gfp - Gfp::DIRECT_RECLAIM) | Gfp::COMP | Gfp::NOWARN | Gfp::NORETRY | Gfp::NOMEMALLOC;
        let block = if order > Order::ZERO {
            self.alloc(cpu, modest - Gfp::NOFAIL, order)
        } else {
            Err(AllocError::OutOfMemory)
        };
        let block = block.or_else(|_| self.alloc(cpu, gfp, Order::ZERO))?;
        cache.left = block.order().nr_pages() << shift;
        cache.block = Some(block.into_counted(&self.map.frames));
        Ok(())
    }

    /// Lets go of the cache's block; it is freed when its last piece is (Linux: page_frag_cache_drain).
    pub fn drain_frag(&self, cpu: &Cpu, cache: &mut PageFragCache) {
        cache.left = 0;
        if let Some(block) = cache.block.take() {
            self.free_counted(cpu, block);
        }
    }

    /// Frees a piece (Linux: page_frag_free).
    pub fn free_frag(&self, cpu: &Cpu, frag: PageFrag) {
        self.put(cpu, frag.holds);
    }
}
