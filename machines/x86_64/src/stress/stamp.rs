//! Marks in the pages of a block that tell whose block it is.
//!
//! A frame that is handed out twice gets the stamp of its second owner, which the first one finds when it frees.

use core::ptr::NonNull;

/// Bytes of a page.
const PAGE_SIZE: usize = 4096;
/// Where in a page the stamp is: both ends and the middle.
const WORDS: [usize; 3] = [0, PAGE_SIZE / 2, PAGE_SIZE - 8];

/// A block's bytes in the direct map.
///
/// # Invariants
/// `start` is valid for reads and writes of `pages` pages, aligned to 8, and whoever holds the value is their only user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes {
    start: NonNull<u8>,
    pages: usize,
}

impl Bytes {
    /// Names the bytes of a block.
    ///
    /// # Safety
    /// `start` is valid for reads and writes of `pages` pages, aligned to 8, and no one else uses them while the value exists.
    pub(crate) unsafe fn new(start: NonNull<u8>, pages: usize) -> Self {
        // INVARIANT: the caller's contract.
        Self { start, pages }
    }

    /// Stamps every page.
    pub(crate) fn stamp(self, stamp: u64) {
        for page in 0..self.pages {
            for word in WORDS {
                self.write(page * PAGE_SIZE + word, stamp_of(stamp, page));
            }
        }
    }

    /// Returns the first page that does not bear the stamp.
    pub(crate) fn first_unstamped(self, stamp: u64) -> Option<usize> {
        let is_stamped =
            |page: usize| WORDS.iter().all(|word| self.read(page * PAGE_SIZE + word) == stamp_of(stamp, page));
        (0..self.pages).find(|&page| !is_stamped(page))
    }

    /// Returns true if every byte is zero.
    pub(crate) fn is_zero(self) -> bool {
        (0..self.pages * PAGE_SIZE).step_by(8).all(|offset| self.read(offset) == 0)
    }

    /// Reads the first word of the block.
    pub(crate) fn read_first(self) -> u64 {
        self.read(0)
    }

    /// Writes the first word of the block.
    pub(crate) fn write_first(self, value: u64) {
        self.write(0, value);
    }

    fn word(self, offset: usize) -> NonNull<u64> {
        debug_assert!(offset + 8 <= self.pages * PAGE_SIZE, "the word is inside the block");
        // SAFETY: every caller's offset is inside the block, which by the type invariant is one range of memory.
        unsafe { self.start.add(offset) }.cast()
    }

    fn read(self, offset: usize) -> u64 {
        // SAFETY: by the type invariant the word is valid for reads; volatile, since another owner's write is what is looked for.
        unsafe { self.word(offset).read_volatile() }
    }

    fn write(self, offset: usize, value: u64) {
        // SAFETY: by the type invariant the word is valid for writes.
        unsafe { self.word(offset).write_volatile(value) };
    }
}

/// Returns the stamp of one page of a block, so that pages cannot be mistaken for each other either.
fn stamp_of(stamp: u64, page: usize) -> u64 {
    stamp ^ (page as u64) << 40
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    fn block(memory: &mut [u64]) -> Bytes {
        // SAFETY: the vector has 8-byte words of this many pages and outlives the test's use.
        unsafe { Bytes::new(NonNull::from(&mut *memory).cast(), memory.len() * 8 / PAGE_SIZE) }
    }

    #[test]
    fn a_foreign_write_to_any_page_is_found() {
        let mut memory = std::vec![0; 4 * 512];
        block(&mut memory).stamp(7);
        assert_eq!(block(&mut memory).first_unstamped(7), None);
        memory[2 * 512 + 511] = 7;
        assert_eq!(block(&mut memory).first_unstamped(7), Some(2));
        assert_eq!(block(&mut memory).first_unstamped(8), Some(0));
    }

    #[test]
    fn one_byte_that_is_not_zero_is_found() {
        let mut memory = std::vec![0; 512];
        assert!(block(&mut memory).is_zero());
        memory[300] = 1 << 63;
        assert!(!block(&mut memory).is_zero());
    }
}
