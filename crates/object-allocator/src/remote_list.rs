//! Objects that were freed where no CPU's token was at hand.
//!
//! Anyone may add one; whoever allocates next takes all and frees them properly. Used by typed caches and the global heap.
//! Locking: none. A stack with a link in the first word of each object; since everything is taken at once, nothing that is
//! taken can come back under a slow reader (no ABA). Linux: llist (include/linux/llist.h).

use core::ptr::{self, NonNull};

use crate::atomic::{AtomicPtr, Ordering};

/// A stack of freed objects.
///
/// # Invariants
/// Each object in the chain is owned by the list, and its first word is the address of the next one or null.
#[derive(Debug)]
pub(crate) struct RemoteList(AtomicPtr<u8>);

impl RemoteList {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Adds an object.
    ///
    /// # Safety
    /// The caller gives the object up; it has room for an aligned word at its start.
    pub(crate) unsafe fn push(&self, object: NonNull<u8>) {
        // Relaxed: only compared; the exchange below orders.
        let mut head = self.0.load(Ordering::Relaxed);
        loop {
            // SAFETY: the object is the caller's until the exchange succeeds.
            unsafe { object.cast::<*mut u8>().write(head) };
            // Release: pairs with the Acquire in `take`, so the link and what the object's user did are seen. A failed try uses nothing.
            match self.0.compare_exchange_weak(head, object.as_ptr(), Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(found) => head = found,
            }
        }
    }

    /// Returns true if there is no object, maybe only for a moment.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        // Relaxed: a hint.
        self.0.load(Ordering::Relaxed).is_null()
    }

    /// Takes all objects.
    pub(crate) fn take(&self) -> impl Iterator<Item = NonNull<u8>> {
        // Acquire: pairs with the Release in `push`.
        let mut next = self.0.swap(ptr::null_mut(), Ordering::Acquire);
        core::iter::from_fn(move || {
            let object = NonNull::new(next)?;
            // SAFETY: by the type invariant a link is there, and the chain is this iterator's alone.
            next = unsafe { object.cast::<*mut u8>().read() };
            Some(object)
        })
    }
}
