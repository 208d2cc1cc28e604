//! Addresses of the kernel's permanent mapping and the frames behind them.
//!
//! Used by slab caches and kmalloc, whose objects are addresses and whose bookkeeping is in frame descriptors.
//! Linux 6.12: `virt_to_page`, `page_address`.

use platform::PhysMemory;
use units::{Pfn, PhysAddr};

/// The direct map of one machine.
///
/// # Invariants
/// `base` is what [`PhysMemory::direct_map_base`] returned, so memory at physical address `a` is at `base + a`; `first` is where the first
/// frame of the frame table would be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DirectMap {
    base: *mut u8,
    first: usize,
    page_shift: u32,
}

// SAFETY: the pointer is an address to compute with; whoever dereferences a result owns the memory there.
unsafe impl Send for DirectMap {}

// SAFETY: as for `Send`; the value never changes.
unsafe impl Sync for DirectMap {}

impl DirectMap {
    pub(crate) fn new(memory: &impl PhysMemory, first: Pfn, page_shift: u32) -> Self {
        let base = memory.direct_map_base();
        // INVARIANT: taken from the machine.
        Self { base, first: base.addr().wrapping_add(first.phys(page_shift).raw() as usize), page_shift }
    }

    /// Returns how many frames after the table's first one an address lies; any number for addresses outside the map.
    #[inline(always)]
    pub(crate) fn frame_index(&self, address: *const u8) -> usize {
        address.addr().wrapping_sub(self.first) >> self.page_shift
    }

    pub(crate) const fn page_size(&self) -> usize {
        1 << self.page_shift
    }

    /// Returns where the kernel sees physical address `at`. May be dereferenced only if memory is mapped there.
    #[inline(always)]
    pub(crate) fn at(&self, at: PhysAddr) -> *mut u8 {
        self.base.wrapping_add(at.raw() as usize)
    }

    /// Returns where the kernel sees the first byte of a frame.
    #[inline(always)]
    pub(crate) fn page(&self, pfn: Pfn) -> *mut u8 {
        self.at(pfn.phys(self.page_shift))
    }

    /// Returns the physical address of what the kernel sees at `address`; any number for addresses outside the map.
    #[inline(always)]
    pub(crate) fn phys(&self, address: *const u8) -> PhysAddr {
        PhysAddr::new(address.addr().wrapping_sub(self.base.addr()) as u64)
    }

    /// Returns the frame behind an address.
    #[inline(always)]
    pub(crate) fn pfn(&self, address: *const u8) -> Pfn {
        Pfn::new(self.phys(address).raw() >> self.page_shift)
    }
}
