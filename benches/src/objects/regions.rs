//! Allocators from crates.io that manage a region which they are given, each without a lock on one thread and behind one on two.

use std::alloc::Layout;
use std::ptr::{self, NonNull};

use buddy_system_allocator::Heap as BuddyHeap;
use parking_lot::Mutex;
use slab_allocator_rs::Heap as SlabHeap;
use slabmalloc::{AllocationError, Allocator as _, ZoneAllocator};
use talc::base::Talc as TalcHeap;
use talc::base::binning::DefaultBinning;
use talc::source::Manual;

use super::workloads::{self, MILLION, SIZE};
use super::{Candidate, Objects, REGION_BYTES, two_threads};
use crate::machine::Region;

/// Makes the allocator of a region.
trait OfRegion: Objects + Send + Sized {
    fn new(region: Region) -> Self;
}

/// Describes the candidate that `A` is.
const fn candidate<A: OfRegion>(name: &'static str) -> Candidate {
    Candidate {
        name,
        run: |column, quick| {
            let mut allocator = A::new(Region::new(REGION_BYTES));
            if !column.is_of_two() {
                return workloads::on(&mut allocator, column, quick);
            }
            let shared = Mutex::new(allocator);
            two_threads::on(column, quick, |_| Locked(&shared))
        },
        overhead: || span_overhead(&mut A::new(Region::new(REGION_BYTES))),
    }
}

/// The candidates of this file.
pub(crate) const CANDIDATES: [Candidate; 4] = [
    candidate::<Talc>("talc"),
    candidate::<Slabs>("slab_allocator_rs"),
    candidate::<Zones>("slabmalloc"),
    candidate::<Buddy>("buddy_system_allocator"),
];

/// Bytes that an object takes beside its own, from how far apart the first and the last of a million lie.
fn span_overhead<O: Objects>(objects: &mut O) -> Option<f64> {
    let (_, live) = workloads::alloc_many(objects, MILLION)?;
    let (low, high) = (live.iter().min()?.addr(), live.iter().max()?.addr());
    Some((high + SIZE - low) as f64 / live.len() as f64 - SIZE as f64)
}

/// An allocator that two threads use.
struct Locked<'a, A>(&'a Mutex<A>);

impl<A: Objects> Objects for Locked<'_, A> {
    const OUTLIVES_RUN: bool = A::OUTLIVES_RUN;

    #[inline]
    fn alloc(&mut self, size: usize) -> *mut u8 {
        self.0.lock().alloc(size)
    }

    #[inline]
    unsafe fn free(&mut self, object: *mut u8, size: usize) {
        // SAFETY: the caller's contract.
        unsafe { self.0.lock().free(object, size) };
    }
}

/// Alignment to 8 bytes, as kmalloc gives at least.
fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).unwrap_or(Layout::new::<u64>())
}

/// talc: free chunks in bins, with boundary tags.
struct Talc {
    heap: TalcHeap<Manual, DefaultBinning>,
    _region: Region,
}

impl OfRegion for Talc {
    fn new(region: Region) -> Self {
        let mut heap = TalcHeap::new(Manual);
        // SAFETY: the region is the heap's alone and lives as long.
        let _end = unsafe { heap.claim(region.start(), region.len()) };
        Self { heap, _region: region }
    }
}

impl Objects for Talc {
    const OUTLIVES_RUN: bool = false;

    #[inline]
    fn alloc(&mut self, size: usize) -> *mut u8 {
        // SAFETY: the size is not 0.
        unsafe { self.heap.allocate(layout(size)) }.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline]
    unsafe fn free(&mut self, object: *mut u8, size: usize) {
        // SAFETY: the caller's contract; the layout is that of the allocation.
        unsafe { self.heap.deallocate(object, layout(size)) };
    }
}

/// slab_allocator_rs: a list of free blocks for each power of two from 64 bytes to a page, each in an eighth of the region.
struct Slabs {
    heap: SlabHeap,
    _region: Region,
}

impl OfRegion for Slabs {
    fn new(region: Region) -> Self {
        // SAFETY: the region is the heap's alone and lives as long; it is aligned to more than a page.
        let heap = unsafe { SlabHeap::new(region.start().expose_provenance(), region.len()) };
        Self { heap, _region: region }
    }
}

impl Objects for Slabs {
    const OUTLIVES_RUN: bool = false;

    #[inline]
    fn alloc(&mut self, size: usize) -> *mut u8 {
        self.heap.allocate(layout(size)).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline]
    unsafe fn free(&mut self, object: *mut u8, size: usize) {
        let Some(object) = NonNull::new(object) else { return };
        // SAFETY: the caller's contract; the layout is that of the allocation.
        unsafe { self.heap.deallocate(object, layout(size)) };
    }
}

/// slabmalloc: pages of 4 KiB or 2 MiB with a bitmap each, out of the region one after the other.
struct Zones {
    zones: ZoneAllocator<'static>,
    used: usize,
    region: Region,
}

impl Zones {
    /// Takes the next `len` bytes of the region, aligned to their number.
    fn page(&mut self, len: usize) -> Option<NonNull<u8>> {
        let start = self.used.next_multiple_of(len);
        self.used = start.checked_add(len).filter(|&end| end <= self.region.len())?;
        NonNull::new(self.region.start().wrapping_add(start))
    }

    /// Gives the size class of a layout another page.
    #[cold]
    fn refill(&mut self, layout: Layout) -> Option<()> {
        if layout.size() <= ZoneAllocator::MAX_BASE_ALLOC_SIZE {
            let page = self.page(4096)?;
            // SAFETY: zeroed memory of the region that is used for nothing else; it lives as long as the zones.
            let page = unsafe { &mut *page.cast().as_ptr() };
            // SAFETY: the page is fresh.
            unsafe { self.zones.refill(layout, page) }.ok()
        } else {
            let page = self.page(2 << 20)?;
            // SAFETY: as above.
            let page = unsafe { &mut *page.cast().as_ptr() };
            // SAFETY: the page is fresh.
            unsafe { self.zones.refill_large(layout, page) }.ok()
        }
    }
}

impl OfRegion for Zones {
    fn new(region: Region) -> Self {
        Self { zones: ZoneAllocator::new(), used: 0, region }
    }
}

impl Objects for Zones {
    const OUTLIVES_RUN: bool = false;

    #[inline]
    fn alloc(&mut self, size: usize) -> *mut u8 {
        let layout = layout(size);
        let object = match self.zones.allocate(layout) {
            Err(AllocationError::OutOfMemory) => self.refill(layout).and_then(|()| self.zones.allocate(layout).ok()),
            object => object.ok(),
        };
        object.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline]
    unsafe fn free(&mut self, object: *mut u8, size: usize) {
        let Some(object) = NonNull::new(object) else { return };
        let freed = self.zones.deallocate(object, layout(size));
        debug_assert!(freed.is_ok(), "the size is one that was allocated");
    }
}

/// buddy_system_allocator's heap: a list of free blocks for each power of two.
struct Buddy {
    heap: BuddyHeap<33>,
    _region: Region,
}

impl OfRegion for Buddy {
    fn new(region: Region) -> Self {
        let mut heap = BuddyHeap::new();
        // SAFETY: the region is the heap's alone and lives as long.
        unsafe { heap.init(region.start().expose_provenance(), region.len()) };
        Self { heap, _region: region }
    }
}

impl Objects for Buddy {
    const OUTLIVES_RUN: bool = false;
    /// A free searches the list of its size for the buddy: a million in random order take minutes.
    const FREES_AT_RANDOM: bool = false;

    #[inline]
    fn alloc(&mut self, size: usize) -> *mut u8 {
        self.heap.alloc(layout(size)).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline]
    unsafe fn free(&mut self, object: *mut u8, size: usize) {
        let Some(object) = NonNull::new(object) else { return };
        // SAFETY: the caller's contract; the layout is that of the allocation.
        unsafe { self.heap.dealloc(object, layout(size)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects_of_all_sizes_are_distinct<A: OfRegion>() {
        let mut allocator = A::new(Region::new(REGION_BYTES));
        let mut live: Vec<(usize, usize)> = Vec::new();
        for size in super::super::SIZES {
            for _ in 0..50 {
                let object = allocator.alloc(size);
                assert!(!object.is_null(), "{size}");
                live.push((object.addr(), object.addr() + size));
            }
        }
        live.sort_unstable();
        assert!(live.is_sorted_by(|low, high| low.1 <= high.0));
    }

    #[test]
    fn peers_are_called_as_they_want_to_be() {
        objects_of_all_sizes_are_distinct::<Talc>();
        objects_of_all_sizes_are_distinct::<Slabs>();
        objects_of_all_sizes_are_distinct::<Zones>();
        objects_of_all_sizes_are_distinct::<Buddy>();
    }
}
