//! Runs of bits in slices of words. Used by `area_map` and `chunk`.
//!
//! Ranges are half open and given in bits; bits behind the last word read as zeros. Linux: lib/find_bit.c, `bitmap_set`.

use core::ops::Range;

const WORD: usize = u64::BITS as usize;

/// Returns the words that hold `bits` bits.
pub(super) const fn words(bits: usize) -> usize {
    bits.div_ceil(WORD)
}

/// Returns a word with the bits below `bit` set.
const fn below(bit: usize) -> u64 {
    if bit >= WORD { u64::MAX } else { (1 << bit) - 1 }
}

/// Returns the first bit of `range` for which `pick` of its word has a bit set; the range's end if there is none.
fn first(words: &[u64], range: Range<usize>, pick: impl Fn(u64) -> u64) -> usize {
    let mut at = range.start;
    while at < range.end {
        let word = pick(words.get(at / WORD).copied().unwrap_or(0)) & !below(at % WORD);
        let base = at - at % WORD;
        if word != 0 {
            return range.end.min(base + word.trailing_zeros() as usize);
        }
        at = base + WORD;
    }
    range.end
}

/// Returns the first set bit of `range`, or the range's end.
pub(super) fn next_set(words: &[u64], range: Range<usize>) -> usize {
    first(words, range, |word| word)
}

/// Returns the first clear bit of `range`, or the range's end.
pub(super) fn next_clear(words: &[u64], range: Range<usize>) -> usize {
    first(words, range, |word| !word)
}

/// Returns the start of the run of clear bits that ends at `end`, not below `floor`.
pub(super) fn clear_run_start(words: &[u64], floor: usize, end: usize) -> usize {
    let mut at = end;
    while at > floor {
        let base = (at - 1) - (at - 1) % WORD;
        let word = words.get(base / WORD).copied().unwrap_or(0) & below(at - base);
        if word != 0 {
            return floor.max(base + WORD - word.leading_zeros() as usize);
        }
        at = base;
    }
    floor
}

/// Returns the length of the run of clear bits at the end of `range`.
pub(super) fn trailing_clear(words: &[u64], range: Range<usize>) -> usize {
    range.end - clear_run_start(words, range.start, range.end)
}

/// Returns true if the bit is set.
pub(super) fn is_set(words: &[u64], bit: usize) -> bool {
    words.get(bit / WORD).is_some_and(|word| word >> (bit % WORD) & 1 == 1)
}

/// Changes the words of `range`, each by its mask.
fn change(words: &mut [u64], range: Range<usize>, apply: impl Fn(&mut u64, u64)) {
    let mut at = range.start;
    while at < range.end {
        let base = at - at % WORD;
        let mask = below(range.end - base) & !below(at % WORD);
        if let Some(word) = words.get_mut(base / WORD) {
            apply(word, mask);
        }
        at = base + WORD;
    }
}

/// Sets the bits of `range`.
pub(super) fn set(words: &mut [u64], range: Range<usize>) {
    change(words, range, |word, mask| *word |= mask);
}

/// Clears the bits of `range`.
pub(super) fn clear(words: &mut [u64], range: Range<usize>) {
    change(words, range, |word, mask| *word &= !mask);
}

/// Iterates over the runs of clear bits of `range`.
pub(super) fn clear_runs(words: &[u64], range: Range<usize>) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = range.start;
    core::iter::from_fn(move || {
        let start = next_clear(words, at..range.end);
        at = next_set(words, start..range.end);
        (start < at).then_some(start..at)
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn runs_cross_words() {
        let mut words = [u64::MAX; 3];
        clear(&mut words, 60..130);
        clear(&mut words, 190..192);
        assert_eq!(clear_runs(&words, 0..192).collect::<Vec<_>>(), [60..130, 190..192]);
        assert!(clear_runs(&words, 64..100).eq([64..100, 100..100].into_iter().take(1)));
        assert_eq!((next_set(&words, 61..192), next_clear(&words, 0..50)), (130, 50));
        set(&mut words, 64..128);
        assert_eq!(clear_runs(&words, 0..192).collect::<Vec<_>>(), [60..64, 128..130, 190..192]);
    }

    #[test]
    fn a_run_is_found_from_its_end() {
        let mut words = [0; 3];
        set(&mut words, 10..11);
        assert_eq!(clear_run_start(&words, 0, 150), 11);
        assert_eq!(clear_run_start(&words, 100, 150), 100);
        assert_eq!(clear_run_start(&words, 0, 11), 11);
        assert_eq!(clear_run_start(&words, 0, 10), 0);
        assert!(is_set(&words, 10) && !is_set(&words, 11) && !is_set(&words, 1000));
    }
}
