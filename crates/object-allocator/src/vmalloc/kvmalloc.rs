//! Memory that need not be physically contiguous, but is where that is cheap.
//!
//! Linux 6.12: mm/util.c (`__kvmalloc_node`, `kvfree`).

use core::ptr::NonNull;

use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;
use units::Gfp;

use super::area::VmallocArea;
use super::{VmallocError, VmallocRequest};
use crate::ObjectAllocator;

/// Memory of `kvmalloc`.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "dropping it leaks the memory"]
pub enum KvMemory {
    /// An object of the slab, or a block of pages, in the direct map.
    Kmalloc(NonNull<u8>),
    /// An area.
    Vmalloc(VmallocArea),
}

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Allocates `size` bytes from kmalloc, or, if that has no block and the size is above a page, an area (Linux: kvmalloc).
    ///
    /// # Errors
    /// [`VmallocError`]; [`VmallocError::Memory`] where no area was tried.
    pub fn kvmalloc(&self, cpu: &Cpu, size: usize, gfp: Gfp, caller: &'static str) -> Result<KvMemory, VmallocError> {
        let is_small = size <= self.map().page_size();
        // A block is not worth reclaim or a report while an area can serve.
        let modest = if is_small { gfp } else { (gfp | Gfp::NOWARN | Gfp::NORETRY) - Gfp::NOFAIL };
        match self.kmalloc(cpu, size, modest) {
            Ok(object) => Ok(KvMemory::Kmalloc(object)),
            // Only who may wait for memory may have an area.
            Err(error) if is_small || !gfp.may_block() => Err(error.into()),
            Err(_) => {
                let request = VmallocRequest::new(size as u64, caller).with(gfp).huge();
                self.vmalloc_request(cpu, &request).map(KvMemory::Vmalloc)
            }
        }
    }

    /// Allocates zeroed bytes (Linux: kvzalloc).
    ///
    /// # Errors
    /// As [`ObjectAllocator::kvmalloc`].
    pub fn kvzalloc(&self, cpu: &Cpu, size: usize, gfp: Gfp, caller: &'static str) -> Result<KvMemory, VmallocError> {
        self.kvmalloc(cpu, size, gfp | Gfp::ZERO, caller)
    }

    /// Frees what [`ObjectAllocator::kvmalloc`] returned (Linux: kvfree).
    ///
    /// # Safety
    /// Nobody uses the memory any more.
    pub unsafe fn kvfree(&self, cpu: &Cpu, memory: KvMemory) {
        match memory {
            // SAFETY: kmalloc of this allocator returned it; the rest is the caller's contract.
            KvMemory::Kmalloc(object) => unsafe { self.kfree(cpu, object) },
            KvMemory::Vmalloc(area) => self.vfree(cpu, area),
        }
    }
}
