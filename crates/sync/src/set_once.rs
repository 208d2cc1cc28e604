//! A value that is put in once, at any time, and only read from then on.
//!
//! For tables that grow while others read them. Linux: a pointer published by `smp_store_release` and never changed.

use crate::atomic::{AtomicU64, Ordering, RawCell};

const EMPTY: u64 = 0;
const BUSY: u64 = 1;
const SET: u64 = 2;

/// Room for a value.
///
/// # Invariants
/// The value is written by whoever turned `state` from `EMPTY` to `BUSY`, before `state` is `SET`; from then on it is only read.
#[derive(Debug)]
pub struct SetOnce<T> {
    state: AtomicU64,
    value: RawCell<Option<T>>,
}

// SAFETY: the value may be dropped on another thread than it was set on, and is read on several.
unsafe impl<T: Send + Sync> Sync for SetOnce<T> {}

impl<T> SetOnce<T> {
    /// Makes empty room.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { state: AtomicU64::new(EMPTY), value: RawCell::new(None) }
    }

    /// Makes empty room.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { state: AtomicU64::new(EMPTY), value: RawCell::new(None) }
    }

    /// Returns the value once it is set.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // Acquire: pairs with the Release store in `set`.
        if self.state.load(Ordering::Acquire) != SET {
            return None;
        }
        // SAFETY: by the type invariant nobody writes the value any more.
        self.value.with(|value| unsafe { (*value).as_ref() })
    }

    /// Sets the value.
    ///
    /// # Errors
    /// Gives it back if there is one, or another CPU is about to set one.
    pub fn set(&self, value: T) -> Result<(), T> {
        // Relaxed: claims the room; nothing of it is read before it is set.
        if self.state.compare_exchange(EMPTY, BUSY, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return Err(value);
        }
        // SAFETY: this call turned the state from empty to busy, so by the type invariant nobody else reaches the value.
        self.value.with_mut(|room| unsafe { *room = Some(value) });
        // Release: pairs with the Acquire load in `get`.
        self.state.store(SET, Ordering::Release);
        Ok(())
    }
}

impl<T> Default for SetOnce<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn the_first_value_stays() {
        let room = SetOnce::new();
        assert_eq!(room.get(), None);
        assert_eq!(room.set(1), Ok(()));
        assert_eq!(room.set(2), Err(2));
        assert_eq!(room.get(), Some(&1));
    }

    #[test]
    fn of_several_threads_one_sets_the_value_that_all_see() {
        for _ in 0..200 {
            let room = SetOnce::new();
            let set = std::thread::scope(|scope| {
                let threads = [1, 2].map(|value| {
                    scope.spawn({
                        let room = &room;
                        move || (room.set([value; 8]).is_ok(), room.get().copied())
                    })
                });
                threads.map(|thread| thread.join().unwrap())
            });
            let winner = *room.get().unwrap();
            assert_eq!(set.iter().filter(|(won, _)| *won).count(), 1);
            assert!(set.iter().all(|(_, seen)| seen.is_none_or(|seen| seen == winner)));
        }
    }
}
