//! A place for the only value of its kind: written once at boot, then shared by all CPUs.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};

/// The place.
///
/// # Invariants
/// `ready` is set after `value` was written, which happens once; from then on it is only read.
pub(crate) struct Once<T> {
    taken: AtomicBool,
    ready: AtomicBool,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: by the type invariant the value is shared only after it was written; whichever CPU wrote it, `T: Send` let it.
unsafe impl<T: Send + Sync> Sync for Once<T> {}

impl<T> Once<T> {
    /// Makes an empty place.
    pub(crate) const fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Returns the value once there is one.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        // Acquire: pairs with the Release store in `publish`.
        if !self.ready.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: by the type invariant the value was written and is only read.
        let value = unsafe { &*self.value.get() };
        // SAFETY: as above.
        Some(unsafe { value.assume_init_ref() })
    }

    /// Puts the value there; `None` if there is one already.
    pub(crate) fn publish(&self, value: T) -> Option<&T> {
        // Relaxed: decides who writes; the write is published below.
        if self.taken.swap(true, Ordering::Relaxed) {
            return None;
        }
        // SAFETY: the first caller alone comes here, and nobody reads before `ready` is set.
        unsafe { self.value.get().write(MaybeUninit::new(value)) };
        // Release: pairs with the Acquire load in `get`.
        self.ready.store(true, Ordering::Release);
        self.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_stays() {
        let once = Once::new();
        assert_eq!(once.get(), None);
        assert_eq!((once.publish(1), once.publish(2)), (Some(&1), None));
        assert_eq!(once.get(), Some(&1));
    }
}
