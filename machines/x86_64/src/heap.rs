//! kmalloc as the allocator behind `alloc`, for the image. Hosted tests of the library keep their own.

use core::alloc::{GlobalAlloc, Layout};

use object_allocator::{GlobalHeap, ObjectAllocator};
use page_allocator::Untraced;
use units::Gfp;

use crate::machine::Machine;

static HEAP: GlobalHeap<Machine, Untraced> = GlobalHeap::new(Gfp::KERNEL);

/// The machine's heap, to be named as the global allocator; allocations fail until the memory manager has booted.
#[derive(Clone, Copy, Debug)]
pub struct Heap;

/// Starts serving allocations from `objects`.
pub(crate) fn set(objects: &'static ObjectAllocator<Machine, Untraced>) {
    HEAP.set(objects);
}

// SAFETY: `GlobalHeap` keeps the trait's promises; all of its objects come from one static value.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { HEAP.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { HEAP.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, object: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { HEAP.dealloc(object, layout) }
    }

    unsafe fn realloc(&self, object: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { HEAP.realloc(object, layout, new_size) }
    }
}
