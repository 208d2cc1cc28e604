//! A fixed slice in memory that outlives its user, such as a table carved out of boot memory.

use core::fmt;
use core::marker::PhantomData;
use core::mem;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::slice;

/// Owner of `len` initialised values in the machine's memory.
///
/// Does not free anything when dropped and does not drop the values: boot memory is given back through memblock, if at all.
///
/// # Invariants
/// `start` points to `len` initialised values of `T`, aligned, that no one else reads or writes while this value exists.
pub struct BootSlice<T> {
    start: NonNull<T>,
    len: usize,
    owns: PhantomData<T>,
}

impl<T> BootSlice<T> {
    /// Makes an empty slice.
    pub const fn empty() -> Self {
        Self { start: NonNull::dangling(), len: 0, owns: PhantomData }
    }

    /// Takes over memory that lives until the program ends.
    pub const fn from_static(values: &'static mut [T]) -> Self {
        let len = values.len();
        // INVARIANT: a `&'static mut` is initialised, aligned and unaliased for ever.
        Self { start: NonNull::from_mut(values).cast(), len, owns: PhantomData }
    }

    /// Takes over `len` values at `start`.
    ///
    /// # Safety
    /// `start` is aligned and points to `len` initialised values that stay valid, and are reached through no other
    /// path, until the returned slice is dropped.
    pub const unsafe fn from_raw(start: NonNull<T>, len: usize) -> Self {
        // INVARIANT: handed to the caller as the safety contract.
        Self { start, len, owns: PhantomData }
    }

    /// Initialises `len` values at `start` with `init(index)` and takes them over.
    ///
    /// # Safety
    /// `start` is aligned and points to room for `len` values that stays valid, and is reached through no other path,
    /// until the returned slice is dropped.
    pub unsafe fn init_raw(start: NonNull<T>, len: usize, mut init: impl FnMut(usize) -> T) -> Self {
        for index in 0..len {
            // SAFETY: `index < len`, so by the caller's contract this slot is inside the room.
            let slot = unsafe { start.add(index) };
            // SAFETY: the slot is aligned, writable and unaliased by the caller's contract.
            unsafe { slot.write(init(index)) };
        }
        // INVARIANT: every slot was just initialised; the rest is the caller's contract.
        Self { start, len, owns: PhantomData }
    }

    /// Returns the bytes that `len` values take.
    pub const fn bytes(len: usize) -> u64 {
        (len as u64).saturating_mul(mem::size_of::<T>() as u64)
    }
}

impl<T> Deref for BootSlice<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the type invariant gives `len` initialised, unaliased values; `&self` makes them shared.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for BootSlice<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: the type invariant gives `len` initialised, unaliased values; `&mut self` makes them exclusive.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T> Default for BootSlice<T> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<T: fmt::Debug> fmt::Debug for BootSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

// SAFETY: by the type invariant the slice is the only path to its values, so it moves between threads as a `Box<[T]>` does.
unsafe impl<T: Send> Send for BootSlice<T> {}

// SAFETY: `&BootSlice<T>` gives `&[T]` and nothing else, which is shareable if `T: Sync`.
unsafe impl<T: Sync> Sync for BootSlice<T> {}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::boxed::Box;
    use std::vec;

    use super::*;

    #[test]
    fn a_raw_slice_is_initialised_in_index_order() {
        let room = Box::leak(vec![0u32; 4].into_boxed_slice());
        // SAFETY: the leaked box is aligned, lives for ever and has no other user.
        let squares = unsafe { BootSlice::init_raw(NonNull::from(room).cast::<u32>(), 4, |i| (i * i) as u32) };
        assert_eq!(&*squares, [0, 1, 4, 9]);
    }

    #[test]
    fn an_empty_slice_holds_nothing() {
        assert!(BootSlice::<u64>::empty().is_empty());
    }
}
