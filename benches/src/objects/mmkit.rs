//! mmkit on the hosted machine: kmalloc and kfree, and a slab cache.

use std::ptr::{self, NonNull};

use frame_table::FrameTable;
use object_allocator::{CacheFlags, CacheParams, RawCache};
use page_allocator::{Geometry, Untraced};
use sim::{CpuGuard, SimPlatform};
use units::{CpuId, Gfp};

use super::workloads::{self, MILLION, SIZE};
use super::{Column, Objects, REGION_BYTES, two_threads};
use crate::machine::{self, SimKernel};

type Cache<'k> = RawCache<'k, SimPlatform, Untraced>;

/// kmalloc and kfree on one CPU.
struct Kmalloc<'k> {
    kernel: &'k SimKernel,
    cpu: CpuGuard<'k>,
}

impl Objects for Kmalloc<'_> {
    #[inline]
    fn alloc(&mut self, size: usize) -> *mut u8 {
        self.kernel.objects().kmalloc(&self.cpu, size, Gfp::KERNEL).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline]
    unsafe fn free(&mut self, object: *mut u8, _size: usize) {
        if let Some(object) = NonNull::new(object) {
            // SAFETY: the caller's contract.
            unsafe { self.kernel.objects().kfree(&self.cpu, object) };
        }
    }
}

/// A slab cache on one CPU.
struct OfCache<'k> {
    cache: &'k Cache<'k>,
    cpu: CpuGuard<'k>,
}

impl Objects for OfCache<'_> {
    #[inline]
    fn alloc(&mut self, _size: usize) -> *mut u8 {
        self.cache.alloc(&self.cpu, Gfp::KERNEL).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline]
    unsafe fn free(&mut self, object: *mut u8, _size: usize) {
        if let Some(object) = NonNull::new(object) {
            // SAFETY: the caller's contract.
            unsafe { self.cache.free(&self.cpu, object) };
        }
    }

    #[inline]
    fn alloc_bulk(&mut self, _size: usize, objects: &mut [*mut u8]) {
        if self.cache.alloc_bulk(&self.cpu, Gfp::KERNEL, objects).is_err() {
            objects.fill(ptr::null_mut());
        }
    }

    #[inline]
    unsafe fn free_bulk(&mut self, _size: usize, objects: &[*mut u8]) {
        // SAFETY: the caller's contract.
        unsafe { self.cache.free_bulk(&self.cpu, objects) };
    }
}

fn boot() -> SimKernel {
    let kernel = machine::boot(REGION_BYTES as u64, 2);
    let started = kernel.objects().start(&take_cpu(&kernel, 0));
    started.unwrap_or_else(|error| machine::fail(&error));
    kernel
}

fn take_cpu(kernel: &SimKernel, number: usize) -> CpuGuard<'_> {
    let cpu = CpuId::try_new(number as u64).and_then(|id| kernel.pages().platform().cpu(id));
    cpu.unwrap_or_else(|| machine::fail(&std::io::Error::other("the CPU is taken")))
}

fn cache_of(kernel: &SimKernel, size: usize) -> Cache<'_> {
    let params = CacheParams::new("bench", size).flags(CacheFlags::NO_MERGE);
    let cache = kernel.objects().create_cache(&take_cpu(kernel, 0), &params);
    cache.unwrap_or_else(|error| machine::fail(&error))
}

fn run<O: Objects>(column: Column, quick: u64, front: impl Fn(usize) -> O + Sync) -> Option<f64> {
    if column.is_of_two() { two_threads::on(column, quick, front) } else { workloads::on(&mut front(0), column, quick) }
}

/// Runs a column with kmalloc and kfree.
pub(crate) fn kmalloc(column: Column, quick: u64) -> Option<f64> {
    let kernel = boot();
    run(column, quick, |number| Kmalloc { kernel: &kernel, cpu: take_cpu(&kernel, number) })
}

/// Runs a column with a cache of objects of the column's size.
pub(crate) fn cache(column: Column, quick: u64) -> Option<f64> {
    let kernel = boot();
    let cache = cache_of(&kernel, column.size());
    run(column, quick, |number| OfCache { cache: &cache, cpu: take_cpu(&kernel, number) })
}

/// Bytes that an object takes beside its own: the rest of the pages that a million of them took, and what the pages' descriptors and pageblock
/// entries take.
pub(crate) fn overhead() -> Option<f64> {
    let kernel = boot();
    let free = |kernel: &SimKernel| kernel.pages().check_invariants(&take_cpu(kernel, 0)).ok();
    let before = free(&kernel)?;
    let (_, objects) = workloads::alloc_many(&mut Kmalloc { kernel: &kernel, cpu: take_cpu(&kernel, 0) }, MILLION)?;
    let pages = before - free(&kernel)?;
    let per_page = 4096.0 + FrameTable::FRAME_BYTES as f64 + 4.0 / Geometry::FOUR_KIB.pageblock_pages() as f64;
    Some(pages as f64 * per_page / objects.len() as f64 - SIZE as f64)
}
