//! A value in a typed cache, with one owner.

use core::fmt;
use core::marker::PhantomData;
use core::mem;
use core::ops::{Deref, DerefMut};
use core::ptr::{self, NonNull};

use super::kmem_cache::{Core, Slot};

/// Owner of a value in a [`super::KmemCache`]: one pointer, as `Box` is.
///
/// # Invariants
/// `slot` holds a value and the core of its cache, and belongs to this handle alone. Its allocator lives for `'k`.
#[repr(transparent)]
pub struct SlabBox<'k, T> {
    slot: NonNull<Slot<T>>,
    owns: PhantomData<(&'k (), T)>,
}

// SAFETY: the handle owns the value, and freeing may happen on any CPU; `KmemCache::create` asks for an allocator that is `Sync`.
unsafe impl<T: Send> Send for SlabBox<'_, T> {}

// SAFETY: `&SlabBox` gives `&T` and nothing else.
unsafe impl<T: Sync> Sync for SlabBox<'_, T> {}

impl<T> SlabBox<'_, T> {
    /// Takes a slot over.
    ///
    /// # Safety
    /// The slot is as the type invariant says.
    #[inline]
    pub(super) const unsafe fn from_slot(slot: NonNull<Slot<T>>) -> Self {
        // INVARIANT: the caller's contract.
        Self { slot, owns: PhantomData }
    }

    /// Gives up the handle but not the slot.
    #[inline]
    pub(super) const fn into_slot(self) -> NonNull<Slot<T>> {
        let slot = self.slot;
        mem::forget(self);
        slot
    }

    #[inline]
    pub(super) const fn core(&self) -> NonNull<Core> {
        // SAFETY: by the type invariant the slot is initialised.
        unsafe { (*self.slot.as_ptr()).core }
    }

    /// Returns the address of the value.
    #[inline]
    pub const fn as_ptr(&self) -> *mut T {
        self.slot.as_ptr().cast()
    }
}

impl<T> Deref for SlabBox<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: by the type invariant the value is there, at the start of the slot.
        unsafe { &*self.as_ptr() }
    }
}

impl<T> DerefMut for SlabBox<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `deref`, and `&mut self` makes this the only reference.
        unsafe { &mut *self.as_ptr() }
    }
}

impl<T> Drop for SlabBox<'_, T> {
    fn drop(&mut self) {
        let core = self.core();
        // SAFETY: the handle owns the value, which is not used after this.
        unsafe { ptr::drop_in_place(self.as_ptr()) };
        // SAFETY: the core outlives the objects of its cache.
        let core = unsafe { core.as_ref() };
        // SAFETY: the object is of that cache, its value is gone, and the handle ends here.
        unsafe { core.free_dropped(self.slot.cast()) };
    }
}

impl<T: fmt::Debug> fmt::Debug for SlabBox<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
