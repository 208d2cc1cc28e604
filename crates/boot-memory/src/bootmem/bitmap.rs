//! One bit a page: set means reserved.
//!
//! Works on whole words where it can. Linux 2.6 to 4.19: the bit operations of mm/bootmem.c.

use core::ops::Range;

use collections::BootSlice;

const WORD_BITS: u64 = u64::BITS as u64;

/// Bits of the pages of one node.
///
/// # Invariants
/// `words` has a word for every bit below `len`; bits from `len` up stay set.
#[derive(Debug)]
pub(super) struct Bitmap {
    words: BootSlice<u64>,
    len: u64,
}

impl Bitmap {
    /// Takes over `words` as `len` set bits; `None` if they are too few.
    pub(super) fn new(mut words: BootSlice<u64>, len: u64) -> Option<Self> {
        if (words.len() as u64) < len.div_ceil(WORD_BITS) {
            return None;
        }
        words.fill(u64::MAX);
        Some(Self { words, len })
    }

    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Returns the word that holds bit `index`; all set above the end.
    fn word(&self, index: u64) -> u64 {
        self.words.get((index / WORD_BITS) as usize).copied().unwrap_or(u64::MAX)
    }

    pub(super) fn is_set(&self, index: u64) -> bool {
        self.word(index) >> (index % WORD_BITS) & 1 == 1
    }

    /// Returns the clear bits among the 64 from `index` on, bit 0 for `index` itself.
    pub(super) fn clear_bits_from(&self, index: u64) -> u64 {
        let shift = index % WORD_BITS;
        let low = !self.word(index) >> shift;
        if shift == 0 { low } else { low | !self.word(index + WORD_BITS) << (WORD_BITS - shift) }
    }

    /// Returns the first clear bit of `range`.
    pub(super) fn first_clear(&self, range: Range<u64>) -> Option<u64> {
        self.first(range, |word| !word)
    }

    /// Returns the first set bit of `range`.
    pub(super) fn first_set(&self, range: Range<u64>) -> Option<u64> {
        self.first(range, |word| word)
    }

    fn first(&self, range: Range<u64>, wanted: impl Fn(u64) -> u64) -> Option<u64> {
        let mut index = range.start;
        while index < range.end {
            let bits = wanted(self.word(index)) >> (index % WORD_BITS);
            if bits != 0 {
                let found = index + u64::from(bits.trailing_zeros());
                return (found < range.end).then_some(found);
            }
            index = (index / WORD_BITS + 1) * WORD_BITS;
        }
        None
    }

    /// Sets the bits of `range`, which ends at or below the length.
    pub(super) fn set(&mut self, range: Range<u64>) {
        self.change(range, |word, mask| *word |= mask);
    }

    /// Clears the bits of `range`, which ends at or below the length.
    pub(super) fn clear(&mut self, range: Range<u64>) {
        self.change(range, |word, mask| *word &= !mask);
    }

    fn change(&mut self, range: Range<u64>, change: impl Fn(&mut u64, u64)) {
        debug_assert!(range.end <= self.len, "bits above the length stay set");
        let mut index = range.start;
        while index < range.end {
            let next = ((index / WORD_BITS + 1) * WORD_BITS).min(range.end);
            let mask = (u64::MAX >> (WORD_BITS - (next - index))) << (index % WORD_BITS);
            if let Some(word) = self.words.get_mut((index / WORD_BITS) as usize) {
                change(word, mask);
            }
            index = next;
        }
    }

    /// Panics if a bit above the length is clear.
    pub(super) fn check_invariants(&self) {
        let end = self.words.len() as u64 * WORD_BITS;
        assert_eq!(self.first_clear(self.len..end), None, "bits above the length stay set");
    }
}
