//! A value in a typed cache, with several owners.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::Deref;

use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;
use units::Gfp;

use super::{KmemCache, SlabBox};
use crate::atomic::{AtomicUsize, Ordering, fence};
use crate::error::ObjectError;

/// What a cache of counted values holds: the value with its count.
#[derive(Debug)]
pub struct Shared<T> {
    count: AtomicUsize,
    value: T,
}

/// One of the owners of a value in a [`KmemCache`] of [`Shared`] values: one pointer, as `Arc` is, without weak references.
///
/// # Invariants
/// The count is the number of these handles; the last one owns the box.
pub struct SlabArc<'k, T>(ManuallyDrop<SlabBox<'k, Shared<T>>>);

// SAFETY: any of the handles may drop the value, and all of them share it.
unsafe impl<T: Send + Sync> Send for SlabArc<'_, T> {}

// SAFETY: as for `Send`; `&SlabArc` can be cloned.
unsafe impl<T: Send + Sync> Sync for SlabArc<'_, T> {}

/// Count above which something leaks handles in a loop (as std's `Arc`).
const MOST: usize = isize::MAX as usize;

impl<'k, T, P: Platform, H: Hooks + Sync> KmemCache<'k, Shared<T>, P, H> {
    /// Allocates a counted value with one owner. On failure the value is dropped.
    ///
    /// # Errors
    /// As [`KmemCache::alloc`].
    #[inline]
    #[track_caller]
    pub fn alloc_shared(&self, cpu: &Cpu, gfp: Gfp, value: T) -> Result<SlabArc<'k, T>, ObjectError> {
        // INVARIANT: one handle, count 1.
        let shared = self.alloc(cpu, gfp, Shared { count: AtomicUsize::new(1), value })?;
        Ok(SlabArc(ManuallyDrop::new(shared)))
    }

    /// Gives a handle back; the last one's value is dropped and its room freed on this CPU.
    #[inline]
    pub fn put(&self, cpu: &Cpu, handle: SlabArc<'k, T>) {
        if let Some(last) = handle.into_last() {
            self.free(cpu, last);
        }
    }
}

impl<'k, T> SlabArc<'k, T> {
    /// Returns the number of handles.
    pub fn count(&self) -> usize {
        // Relaxed: others may change it at once.
        self.0.count.load(Ordering::Relaxed)
    }

    /// Gives the handle up; returns the box if it was the last.
    #[inline]
    pub(super) fn into_last(self) -> Option<SlabBox<'k, Shared<T>>> {
        let mut handle = ManuallyDrop::new(self);
        if handle.release() {
            // SAFETY: the handle is not dropped, so the box is taken once.
            return Some(unsafe { ManuallyDrop::take(&mut handle.0) });
        }
        None
    }

    /// Counts one handle less; true if it was the last.
    #[inline]
    fn release(&self) -> bool {
        // Release: what this owner did comes before whatever the last one does.
        if self.0.count.fetch_sub(1, Ordering::Release) != 1 {
            return false;
        }
        // Acquire: pairs with the Release of all other owners.
        fence(Ordering::Acquire);
        true
    }
}

impl<T> Deref for SlabArc<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Clone for SlabArc<'_, T> {
    #[inline]
    fn clone(&self) -> Self {
        // Relaxed: the new handle comes from one that exists, and whoever hands it on orders that.
        let before = self.0.count.fetch_add(1, Ordering::Relaxed);
        // A count that wrapped would free the value under its owners.
        assert!(before <= MOST, "more handles than memory holds");
        // SAFETY: the slot holds a value as long as there is a handle, and the count has this one.
        Self(ManuallyDrop::new(unsafe { core::ptr::read(&raw const *self.0) }))
    }
}

impl<T> Drop for SlabArc<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.release() {
            // SAFETY: this was the last handle, and it is not used after this.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for SlabArc<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
