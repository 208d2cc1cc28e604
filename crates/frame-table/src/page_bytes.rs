//! The bytes of blocks that others may read and write at the same time: pages that processes map, pages of files.
//!
//! Whoever holds a block or a reference may make a [`PageBytes`] of it; [`fill`](crate::fill) and
//! [`first_difference`](crate::first_difference) are for bytes that nobody else sees.
//! Every access is a relaxed atomic one of an aligned word, so that two CPUs that write one page at once get some mix of their words and nothing
//! worse. Linux 6.12: `copy_page`, `clear_page`, `memcpy_from_page`, `memcpy_to_page`, `zero_user`, `memcmp_pages`.

use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use platform::PhysMemory;
use units::{Pfn, PfnRange};

use crate::word_moves::{copy_in, copy_out, copy_words, zero_words};
use crate::{CountedBlock, NotMapped, OwnedBlock, PageRef};

/// Bytes of a word.
const WORD: usize = size_of::<u64>();

/// Values that keep a block from being freed while they are borrowed.
pub trait HeldBlock: sealed::Sealed {
    /// Returns the frames that are held.
    fn held_frames(&self) -> PfnRange;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for crate::OwnedBlock {}
    impl Sealed for crate::CountedBlock {}
    impl Sealed for crate::PageRef {}
}

impl HeldBlock for OwnedBlock {
    fn held_frames(&self) -> PfnRange {
        self.frames()
    }
}

impl HeldBlock for CountedBlock {
    fn held_frames(&self) -> PfnRange {
        PfnRange::with_len(self.pfn(), self.order().nr_pages())
    }
}

impl HeldBlock for PageRef {
    fn held_frames(&self) -> PfnRange {
        PfnRange::with_len(self.pfn(), self.order().nr_pages())
    }
}

/// The bytes of a block, as long as it is held.
#[derive(Clone, Copy, Debug)]
pub struct PageBytes<'a>(&'a [AtomicU64]);

impl<'a> PageBytes<'a> {
    /// Shows the bytes of a block.
    ///
    /// # Errors
    /// [`NotMapped`] if the machine does not map the block permanently.
    pub fn new(memory: &'a impl PhysMemory, block: &'a impl HeldBlock, page_shift: u32) -> Result<Self, NotMapped> {
        let range = block.held_frames().phys(page_shift);
        let start = memory.direct_map(range).ok_or(NotMapped)?;
        // SAFETY: `direct_map` gives a pointer valid for reads and writes of the range, which begins and ends at a page, so it is aligned for words.
        // The block stays as it is while it is borrowed: its bytes are reached as atomics, or by its owner's `&mut`.
        Ok(Self(unsafe { core::slice::from_raw_parts(start.as_ptr().cast(), range.len() as usize / WORD) }))
    }

    /// Copies to all of `to` the bytes of `from` from its frame `at` on.
    ///
    /// # Errors
    /// [`NotMapped`] if the machine does not map one of the blocks permanently; nothing is copied.
    pub fn copy_page(
        memory: &impl PhysMemory,
        to: &impl HeldBlock,
        (from, at): (&impl HeldBlock, Pfn),
        page_shift: u32,
    ) -> Result<(), NotMapped> {
        let target = PageBytes::new(memory, to, page_shift)?;
        let source = PageBytes::new(memory, from, page_shift)?;
        let offset = at.since(from.held_frames().start) << page_shift;
        target.copy_from(&source.part(offset as usize, target.len()));
        Ok(())
    }

    /// Shows memory that no borrowed block stands for: what a machine's processor reaches through a mapping.
    ///
    /// # Safety
    /// `start` is valid for reads and writes of `words` words and aligned to them for `'a`, and everybody else reaches them as relaxed atomics meanwhile.
    pub const unsafe fn of_words(start: NonNull<u64>, words: usize) -> Self {
        // SAFETY: the caller's contract; an atomic word is laid out as a plain one.
        Self(unsafe { core::slice::from_raw_parts(start.as_ptr().cast_const().cast(), words) })
    }

    /// Returns the number of bytes.
    #[expect(clippy::len_without_is_empty, reason = "a block has at least one page")]
    pub const fn len(&self) -> usize {
        self.0.len() * WORD
    }

    /// Returns the bytes from `offset` on, `len` of them or up to the block's end; both are cut down to whole words.
    pub fn part(&self, offset: usize, len: usize) -> Self {
        let start = (offset / WORD).min(self.0.len());
        let end = start.saturating_add(len / WORD).min(self.0.len());
        Self(self.0.get(start..end).unwrap_or_default())
    }

    /// Copies bytes from `offset` on into `to`; returns how many, which is less than asked at the block's end.
    pub fn read(&self, offset: usize, to: &mut [u8]) -> usize {
        let span = Span::cut(offset, to.len(), self.len());
        let (head, rest) = to.split_at_mut(span.head.len);
        let (middle, rest) = rest.split_at_mut(span.words.len() * WORD);
        self.read_part(span.head, head);
        copy_out(middle, self.words(&span));
        let (tail, _) = rest.split_at_mut(span.tail.len);
        self.read_part(span.tail, tail);
        span.len()
    }

    /// Copies bytes of `from` to `offset` on; returns how many, which is less than given at the block's end.
    pub fn write(&self, offset: usize, from: &[u8]) -> usize {
        let span = Span::cut(offset, from.len(), self.len());
        let (head, rest) = from.split_at(span.head.len);
        let (middle, rest) = rest.split_at(span.words.len() * WORD);
        self.write_part(span.head, head);
        copy_in(self.words(&span), middle);
        let (tail, _) = rest.split_at(span.tail.len);
        self.write_part(span.tail, tail);
        span.len()
    }

    /// Zeros `len` bytes from `offset` on, or to the block's end; returns how many.
    pub fn zero(&self, offset: usize, len: usize) -> usize {
        let span = Span::cut(offset, len, self.len());
        self.write_part(span.head, &[0; WORD]);
        zero_words(self.words(&span));
        self.write_part(span.tail, &[0; WORD]);
        span.len()
    }

    /// Zeros all bytes.
    pub fn clear(&self) {
        zero_words(self.0);
    }

    /// Copies the bytes of `other`, as far as both go.
    pub fn copy_from(&self, other: &PageBytes<'_>) {
        let len = self.0.len().min(other.0.len());
        copy_words(self.0.get(..len).unwrap_or_default(), other.0.get(..len).unwrap_or_default());
    }

    /// Returns true if both have the same bytes. What others write meanwhile may be seen or not.
    pub fn equals(&self, other: &PageBytes<'_>) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(other.0).all(|(left, right)| left.load(Relaxed) == right.load(Relaxed))
    }

    /// Returns true if all bytes are zero. What others write meanwhile may be seen or not.
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|word| word.load(Relaxed) == 0)
    }

    fn words(&self, span: &Span) -> &[AtomicU64] {
        self.0.get(span.words.clone()).unwrap_or_default()
    }

    fn read_part(&self, part: Part, to: &mut [u8]) {
        let Some(word) = self.0.get(part.word).filter(|_| part.len != 0) else { return };
        let bytes = word.load(Relaxed).to_ne_bytes();
        for (to, from) in to.iter_mut().zip(bytes.iter().skip(part.first)) {
            *to = *from;
        }
    }

    /// Replaces some bytes of a word. Exchanging the whole keeps what another CPU writes to the word's other bytes.
    fn write_part(&self, part: Part, from: &[u8]) {
        let Some(word) = self.0.get(part.word).filter(|_| part.len != 0) else { return };
        let _ = word.fetch_update(Relaxed, Relaxed, |old| {
            let mut bytes = old.to_ne_bytes();
            for (to, from) in bytes.iter_mut().skip(part.first).take(part.len).zip(from) {
                *to = *from;
            }
            Some(u64::from_ne_bytes(bytes))
        });
    }
}

/// Some bytes of one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Part {
    word: usize,
    first: usize,
    len: usize,
}

/// A range of bytes cut into the end of a word, whole words, and the beginning of one.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Span {
    head: Part,
    words: core::ops::Range<usize>,
    tail: Part,
}

impl Span {
    /// Cuts `len` bytes from `offset` on, of a block of `bytes`.
    fn cut(offset: usize, len: usize, bytes: usize) -> Self {
        let offset = offset.min(bytes);
        let len = len.min(bytes - offset);
        let first = offset % WORD;
        let head_len = if first == 0 { 0 } else { len.min(WORD - first) };
        let start = offset.div_ceil(WORD);
        let end = start + (len - head_len) / WORD;
        Self {
            head: Part { word: offset / WORD, first, len: head_len },
            words: start..end,
            tail: Part { word: end, first: 0, len: (len - head_len) % WORD },
        }
    }

    fn len(&self) -> usize {
        self.head.len + self.words.len() * WORD + self.tail.len
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use proptest::prelude::*;
    use units::{Order, Pfn};

    use super::*;
    use crate::tests::table;

    /// One step on a page and on its copy in a vector.
    #[derive(Clone, Debug)]
    enum Step {
        Write(usize, Vec<u8>),
        Zero(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let bytes =
            prop_oneof![proptest::collection::vec(1..=255u8, 0..40), proptest::collection::vec(1..=255u8, 3000..5000)];
        prop_oneof![
            (0..4100usize, bytes).prop_map(|(offset, bytes)| Step::Write(offset, bytes)),
            (0..4100usize, 0..5000usize).prop_map(|(offset, len)| Step::Zero(offset, len)),
        ]
    }

    proptest! {
        #[test]
        fn a_page_holds_what_a_vector_would(steps in proptest::collection::vec(step(), 1..20), offset in 0..4100usize, len in 0..5000usize) {
            let (memory, frames) = table(16);
            let block = frames.release_boot_block(Pfn::new(3), Order::ZERO).unwrap().into_owned(&frames);
            let page = PageBytes::new(&memory, &block, 12).unwrap();
            let mut model = std::vec![0; 4096];
            for step in steps {
                match step {
                    Step::Write(offset, bytes) => {
                        let room = 4096 - offset.min(4096);
                        prop_assert_eq!(page.write(offset, &bytes), bytes.len().min(room));
                        model.iter_mut().skip(offset).zip(bytes).for_each(|(to, from)| *to = from);
                    }
                    Step::Zero(offset, len) => {
                        prop_assert_eq!(page.zero(offset, len), len.min(4096 - offset.min(4096)));
                        model.iter_mut().skip(offset).take(len).for_each(|byte| *byte = 0);
                    }
                }
            }
            let mut seen = std::vec![0xee; len];
            let expected: Vec<u8> = model.iter().copied().skip(offset).take(len).collect();
            prop_assert_eq!(page.read(offset, &mut seen), expected.len());
            prop_assert_eq!(&seen[..expected.len()], &expected[..]);
            prop_assert!(seen[expected.len()..].iter().all(|&byte| byte == 0xee));
            prop_assert_eq!(page.is_zero(), model.iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn a_copied_page_equals_its_source_until_one_changes() {
        let (memory, frames) = table(16);
        let take = |pfn| frames.release_boot_block(Pfn::new(pfn), Order::ZERO).unwrap().into_owned(&frames);
        let (source, target) = (take(1), take(2).into_counted(&frames));
        let reference = target.get(&frames);
        let from = PageBytes::new(&memory, &source, 12).unwrap();
        let to = PageBytes::new(&memory, &reference, 12).unwrap();
        from.write(4000, b"text");
        assert!(!to.equals(&from));
        to.copy_from(&from);
        assert!(to.equals(&from));
        to.write(4095, b"xyz");
        assert!(!to.equals(&from));
        to.clear();
        assert!(to.is_zero() && !from.is_zero());
    }

    #[test]
    fn a_page_that_the_machine_does_not_map_has_no_bytes() {
        let (_, frames) = table(16);
        let elsewhere =
            crate::HeapMemory::new(units::PhysRange::with_len(units::PhysAddr::new(1 << 30), 4096)).unwrap();
        let block = frames.release_boot_block(Pfn::new(1), Order::ZERO).unwrap().into_owned(&frames);
        assert!(PageBytes::new(&elsewhere, &block, 12).is_err());
    }

    #[test]
    fn bytes_of_one_word_written_by_two_threads_are_all_kept() {
        let (memory, frames) = table(16);
        let block =
            frames.release_boot_block(Pfn::new(1), Order::ZERO).unwrap().into_owned(&frames).into_counted(&frames);
        let page = PageBytes::new(&memory, &block, 12).unwrap();
        std::thread::scope(|scope| {
            for side in 0..2usize {
                scope.spawn(move || {
                    for round in 0..2000 {
                        page.write(3 * side, &[round as u8 | 1; 3]);
                    }
                });
            }
        });
        let mut bytes = [0; 8];
        page.read(0, &mut bytes);
        let last = 1999u32 as u8 | 1;
        assert_eq!(bytes, [last, last, last, last, last, last, 0, 0]);
    }
}
