//! Ways to ask for memory besides one block of a size: zeroed, counted, exact.
//!
//! Linux 6.12: `get_zeroed_page`, `alloc_pages_exact`, `free_pages_exact`, `split_page`, `folio_alloc`.

use frame_table::{CountedBlock, OwnedBlock};
use platform::Platform;
use sync::Cpu;
use units::{Gfp, Order, Pfn, PfnRange, PhysRange};

use crate::alloc_context::AllocError;
use crate::allocator::PageAllocator;
use crate::pressure::Hooks;

/// Whole pages that are not a power of two in number (Linux: what alloc_pages_exact returns).
#[derive(PartialEq, Eq, Debug)]
#[must_use = "dropping the pages leaks them"]
pub struct ExactPages {
    first: Pfn,
    nr_pages: u64,
}

impl ExactPages {
    /// Returns the frames.
    pub const fn frames(&self) -> PfnRange {
        PfnRange::with_len(self.first, self.nr_pages)
    }
}

impl<P: Platform, H: Hooks> PageAllocator<P, H> {
    /// Allocates one zeroed page (Linux: get_zeroed_page).
    ///
    /// # Errors
    /// As [`PageAllocator::alloc`].
    pub fn alloc_zeroed(&self, cpu: &Cpu, gfp: Gfp) -> Result<OwnedBlock, AllocError> {
        self.alloc(cpu, (gfp | Gfp::ZERO) - Gfp::HIGHMEM, Order::ZERO)
    }

    /// Allocates a compound block with one reference (Linux: folio_alloc).
    ///
    /// # Errors
    /// As [`PageAllocator::alloc`].
    pub fn alloc_folio(&self, cpu: &Cpu, gfp: Gfp, order: Order) -> Result<CountedBlock, AllocError> {
        Ok(self.alloc(cpu, gfp | Gfp::COMP, order)?.into_counted(&self.map.frames))
    }

    /// Returns where the kernel sees a block, or `None` for HighMem (Linux: page_address).
    pub fn address(&self, block: &OwnedBlock) -> Option<core::ptr::NonNull<u8>> {
        self.platform.direct_map(self.bytes(block))
    }

    /// Returns the physical bytes of a block (Linux: page_to_phys).
    pub const fn bytes(&self, block: &OwnedBlock) -> PhysRange {
        block.frames().phys(self.map.geometry.page_shift)
    }

    /// Allocates `nr_pages` contiguous pages: a block that covers them, with the pages behind them given back at once.
    ///
    /// # Errors
    /// [`AllocError::TooLarge`] above the largest block; else as [`PageAllocator::alloc`]. `Gfp::COMP` is ignored.
    pub fn alloc_exact(&self, cpu: &Cpu, gfp: Gfp, nr_pages: u64) -> Result<ExactPages, AllocError> {
        let order = Order::covering(nr_pages).ok_or(AllocError::TooLarge(self.map.geometry.max_order))?;
        let nr_pages = nr_pages.max(1);
        let block = self.alloc(cpu, gfp - Gfp::COMP, order)?;
        let first = block.pfn();
        for page in block.split_pages(&self.map.frames) {
            if page.pfn() < first.add(nr_pages) {
                page.into_raw(&self.map.frames);
            } else {
                self.free(cpu, page);
            }
        }
        Ok(ExactPages { first, nr_pages })
    }

    /// Frees what [`PageAllocator::alloc_exact`] returned.
    pub fn free_exact(&self, cpu: &Cpu, pages: ExactPages) {
        for pfn in pages.frames().iter() {
            let freed = self.free_raw(cpu, pfn, Order::ZERO);
            debug_assert!(freed.is_ok(), "exact pages are raw pages until they are freed");
        }
    }
}
