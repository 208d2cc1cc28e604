//! A place for a value of one machine word that others may read and write at the same time.

use core::fmt;
use core::marker::PhantomData;
use core::ptr;

use crate::atomic::AtomicPtr;
use crate::atomic::Ordering::{Acquire, Release};
use crate::range_tree::Word;

/// A value or none, read and written as a whole.
///
/// # Invariants
/// `word` is null, or came from [`Word::to_word`] of a `V`. Words of values are not null.
pub struct WordCell<V> {
    word: AtomicPtr<()>,
    /// Values go in and come out, so `V` may be neither a longer- nor a shorter-lived type.
    value: PhantomData<fn(V) -> V>,
}

impl<V: Word> WordCell<V> {
    /// Makes a place that holds nothing.
    pub fn new() -> Self {
        Self { word: AtomicPtr::new(ptr::null_mut()), value: PhantomData }
    }

    /// Returns the value.
    #[inline]
    pub fn load(&self) -> Option<V> {
        // Acquire: pairs with `store`, so that what the value leads to is seen.
        let word = self.word.load(Acquire);
        if word.is_null() {
            return None;
        }
        // SAFETY: by the type invariant the word came from `to_word`.
        Some(unsafe { V::from_word(word) })
    }

    /// Puts a value in place of what is there. A value whose word is null counts as none.
    #[inline]
    pub fn store(&self, value: Option<V>) {
        // Release: pairs with `load`.
        self.word.store(value.map_or(ptr::null_mut(), Word::to_word), Release);
    }
}

impl<V: Word> Default for WordCell<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> fmt::Debug for WordCell<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WordCell(..)")
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_last_is_loaded() {
        let cell = WordCell::<usize>::new();
        assert_eq!(cell.load(), None);
        cell.store(Some(7));
        assert_eq!(cell.load(), Some(7));
        cell.store(None);
        assert_eq!(cell.load(), None);
    }
}
