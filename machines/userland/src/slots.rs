//! Tables whose entries are found by a key, and boxes: memory that may run out without ending the machine.
//!
//! `alloc`'s own boxes, maps and reference counts abort when memory is short. Here every growth is a `try_reserve`, whose failure is ENOMEM for
//! the program that asked.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use crate::errno::Errno;

/// Where an entry of a [`Slots`] is. The table hands it out; it means nothing in another table or once its entry is gone.
#[derive(Debug)]
pub(crate) struct Key<T> {
    index: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index
    }
}

impl<T> Eq for Key<T> {}

impl<T> Key<T> {
    /// Returns the key of a place by its number, as [`Key::raw`] tells it.
    pub(crate) const fn new(index: u32) -> Self {
        Self { index, of: PhantomData }
    }

    /// Returns the number of the place, for what programs see as a number, or is kept where no type says of what it is.
    pub(crate) const fn raw(self) -> u32 {
        self.index
    }
}

/// Entries in places that stay the same.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    entries: Vec<Option<T>>,
    free: Vec<u32>,
    used: usize,
}

impl<T> Slots<T> {
    pub(crate) const fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), used: 0 }
    }

    /// Puts an entry into a free place.
    ///
    /// # Errors
    /// ENOMEM; the value is dropped.
    pub(crate) fn insert(&mut self, value: T) -> Result<Key<T>, Errno> {
        self.insert_or_return(value).map_err(|_| Errno::ENOMEM)
    }

    /// Puts an entry into a free place.
    ///
    /// # Errors
    /// Gives the value back if there is no memory.
    pub(crate) fn insert_or_return(&mut self, value: T) -> Result<Key<T>, T> {
        if let Some(index) = self.free.pop() {
            if let Some(place) = self.entries.get_mut(index as usize) {
                *place = Some(value);
                self.used += 1;
            }
            return Ok(Key::new(index));
        }
        let Ok(index) = u32::try_from(self.entries.len()) else { return Err(value) };
        // Room for every place at once, so that a removal never allocates.
        let missing = self.entries.len() + 1 - self.free.len();
        if self.entries.try_reserve(1).is_err() || self.free.try_reserve(missing).is_err() {
            return Err(value);
        }
        self.entries.push(Some(value));
        self.used += 1;
        Ok(Key::new(index))
    }

    /// Returns the key that the next entry will have.
    pub(crate) fn next_key(&self) -> Key<T> {
        Key::new(self.free.last().copied().unwrap_or(self.entries.len() as u32))
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, key: Key<T>) -> Option<T> {
        let value = self.entries.get_mut(key.index as usize)?.take()?;
        self.free.push(key.index);
        self.used -= 1;
        Some(value)
    }

    pub(crate) fn get(&self, key: Key<T>) -> Option<&T> {
        self.entries.get(key.index as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        self.entries.get_mut(key.index as usize)?.as_mut()
    }

    /// Iterates over the entries in the order of their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        (0..).zip(&self.entries).filter_map(|(index, entry)| Some((Key::new(index), entry.as_ref()?)))
    }

    /// Iterates over the entries in the order of their places.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Key<T>, &mut T)> {
        (0..).zip(&mut self.entries).filter_map(|(index, entry)| Some((Key::new(index), entry.as_mut()?)))
    }

    pub(crate) fn len(&self) -> usize {
        self.used
    }
}

/// Appends to a vector.
///
/// # Errors
/// ENOMEM.
pub(crate) fn push<T>(to: &mut Vec<T>, value: T) -> Result<(), Errno> {
    to.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    to.push(value);
    Ok(())
}

/// Appends bytes to a vector.
///
/// # Errors
/// ENOMEM.
pub(crate) fn extend(to: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Errno> {
    to.try_reserve(bytes.len()).map_err(|_| Errno::ENOMEM)?;
    to.extend_from_slice(bytes);
    Ok(())
}

/// Copies bytes into a vector of their own.
///
/// # Errors
/// ENOMEM.
pub(crate) fn copy_of(bytes: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut copy = Vec::new();
    extend(&mut copy, bytes)?;
    Ok(copy)
}

/// Makes a vector of `len` zeros.
///
/// # Errors
/// ENOMEM.
pub(crate) fn zeros(len: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(len, 0);
    Ok(bytes)
}

/// There is no memory for a value, which comes back.
#[derive(Debug)]
pub(crate) struct NoRoom<T>(pub(crate) Option<T>);

/// A value in memory of its own.
#[derive(Debug)]
pub struct Owned<T>(Box<[T; 1]>);

impl<T> Owned<T> {
    /// Moves a value into memory of its own.
    ///
    /// # Errors
    /// [`NoRoom`], with the value.
    pub(crate) fn try_new(value: T) -> Result<Self, NoRoom<T>> {
        let mut one = Vec::new();
        if one.try_reserve_exact(1).is_err() {
            return Err(NoRoom(Some(value)));
        }
        one.push(value);
        one.try_into().map(Self).map_err(|mut one: Vec<T>| NoRoom(one.pop()))
    }

    /// Moves the value out and frees its memory.
    pub(crate) fn into_inner(self) -> T {
        let [value] = *self.0;
        value
    }
}

impl<T> Deref for Owned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        let [value] = &*self.0;
        value
    }
}

impl<T> DerefMut for Owned<T> {
    fn deref_mut(&mut self) -> &mut T {
        let [value] = &mut *self.0;
        value
    }
}

/// Text that grows in memory that may run out; then writing fails.
#[derive(Debug, Default)]
pub(crate) struct Text(pub(crate) Vec<u8>);

impl core::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        extend(&mut self.0, text.as_bytes()).map_err(|_| core::fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_once_its_entry_is_gone() {
        let mut slots = Slots::new();
        let first = slots.insert('a').unwrap();
        let second = slots.insert('b').unwrap();
        assert_eq!(slots.remove(first), Some('a'));
        assert_eq!((slots.get(first), slots.get(second)), (None, Some(&'b')));
        assert_eq!(slots.insert('c').unwrap(), first);
        assert_eq!(slots.iter().map(|(_, value)| *value).collect::<alloc::string::String>(), "cb");
        assert_eq!(slots.len(), 2);
    }

    #[test]
    fn an_owned_value_is_reached_through_its_box() {
        let mut owned = Owned::try_new(7).unwrap();
        *owned += 1;
        assert_eq!(*owned, 8);
    }
}
