//! kzalloc, kcalloc, krealloc and their like: kmalloc with something more.
//!
//! Linux 6.12: include/linux/slab.h (`kzalloc`, `kmalloc_array`, `kcalloc`), mm/slab_common.c (`krealloc`, `kfree_sensitive`).

use core::ptr::NonNull;

use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;
use units::{Gfp, NodeId};

use crate::ObjectAllocator;
use crate::error::ObjectError;

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Allocates `size` zeroed bytes.
    ///
    /// # Errors
    /// As [`ObjectAllocator::kmalloc`]; so for all functions here.
    #[inline]
    #[track_caller]
    pub fn kzalloc(&self, cpu: &Cpu, size: usize, gfp: Gfp) -> Result<NonNull<u8>, ObjectError> {
        self.kmalloc(cpu, size, gfp | Gfp::ZERO)
    }

    /// Allocates an array of `count` elements of `size` bytes (Linux: kmalloc_array).
    ///
    /// # Errors
    /// [`ObjectError::Impossible`] if the product overflows.
    #[inline]
    #[track_caller]
    pub fn kmalloc_array(&self, cpu: &Cpu, count: usize, size: usize, gfp: Gfp) -> Result<NonNull<u8>, ObjectError> {
        self.kmalloc(cpu, count.checked_mul(size).ok_or(ObjectError::Impossible)?, gfp)
    }

    /// Allocates a zeroed array of `count` elements of `size` bytes.
    ///
    /// # Errors
    /// As [`ObjectAllocator::kmalloc_array`].
    #[inline]
    #[track_caller]
    pub fn kcalloc(&self, cpu: &Cpu, count: usize, size: usize, gfp: Gfp) -> Result<NonNull<u8>, ObjectError> {
        self.kmalloc_array(cpu, count, size, gfp | Gfp::ZERO)
    }

    /// Allocates `size` bytes on `node`; elsewhere, unless `Gfp::THISNODE` is set, if the node has no memory.
    ///
    /// # Errors
    /// As [`ObjectAllocator::kmalloc`].
    #[track_caller]
    pub fn kmalloc_node(&self, cpu: &Cpu, size: usize, gfp: Gfp, node: NodeId) -> Result<NonNull<u8>, ObjectError> {
        if size > self.kmalloc_max_cached() {
            return self.kmalloc_large(cpu, size, gfp, Some(node));
        }
        let cache = self.kmalloc_cache(size.max(1), gfp).ok_or(ObjectError::NotStarted)?;
        self.alloc_object_on(cpu, cache, gfp, node)
    }

    /// Makes an object at least `new_size` bytes large, moving it if it must; the bytes that both sizes have are kept.
    ///
    /// With `Gfp::ZERO`, here and at every earlier call, bytes beyond what was kept are zero.
    ///
    /// # Errors
    /// As [`ObjectAllocator::kmalloc`]; then the object is as it was. [`ObjectError::Impossible`] also if no object lies there.
    ///
    /// # Safety
    /// `object` came from the kmalloc family, and nobody uses its old address any more if another one is returned.
    #[track_caller]
    pub unsafe fn krealloc(
        &self,
        cpu: &Cpu,
        object: NonNull<u8>,
        new_size: usize,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, ObjectError> {
        let room = self.ksize(object).ok_or(ObjectError::Impossible)?;
        if new_size <= room {
            if gfp.contains(Gfp::ZERO) {
                // SAFETY: `new_size <= room`, so the rest is inside the object.
                let rest = unsafe { object.add(new_size) };
                // SAFETY: the object has `room` bytes, and the caller owns it.
                unsafe { rest.write_bytes(0, room - new_size) };
            }
            return Ok(object);
        }
        let moved = self.kmalloc(cpu, new_size, gfp)?;
        // SAFETY: both objects have `room` bytes, and the caller owns both.
        unsafe { moved.copy_from_nonoverlapping(object, room) };
        // SAFETY: nobody uses the old address from here on.
        unsafe { self.kfree(cpu, object) };
        Ok(moved)
    }

    /// Zeroes an object and frees it, for keys and the like.
    ///
    /// # Safety
    /// As [`ObjectAllocator::kfree`].
    #[track_caller]
    pub unsafe fn kfree_sensitive(&self, cpu: &Cpu, object: NonNull<u8>) {
        for offset in 0..self.ksize(object).unwrap_or(0) {
            // SAFETY: the offset is inside the object.
            let byte = unsafe { object.add(offset) };
            // Volatile: nobody reads the zeros, and they must be written all the same.
            // SAFETY: the caller owns the object.
            unsafe { byte.write_volatile(0) };
        }
        // SAFETY: the caller's contract.
        unsafe { self.kfree(cpu, object) };
    }
}
