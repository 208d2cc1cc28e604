//! Moving runs of words that others may read and write at the same time.
//!
//! Loops of relaxed atomic accesses, or on x86-64 `rep movsq` and `rep stosq`, which access word by word as well: compilers do not join
//! atomic accesses into wider ones, and an emulator pays for each instruction. Called by `page_bytes`.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

/// Bytes of a word.
const WORD: usize = size_of::<u64>();

/// Runs shorter than this are moved by a loop: starting a string instruction costs a processor some tens of cycles.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const LONG: usize = 8;

/// Sets words to zero.
#[inline]
pub(crate) fn zero_words(to: &[AtomicU64]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if to.len() >= LONG {
        // SAFETY: writes the words of `to`, whose cells may be written through a shared reference.
        return unsafe { x86_64::store(to.as_ptr(), to.len()) };
    }
    to.iter().for_each(|word| word.store(0, Relaxed));
}

/// Copies words as far as both slices go.
#[inline]
pub(crate) fn copy_words(to: &[AtomicU64], from: &[AtomicU64]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if to.len().min(from.len()) >= LONG {
        // SAFETY: reads words of `from` and writes as many of `to`, whose cells may be written through a shared reference.
        return unsafe { x86_64::copy(to.as_ptr().cast_mut().cast(), from.as_ptr().cast(), to.len().min(from.len())) };
    }
    to.iter().zip(from).for_each(|(to, from)| to.store(from.load(Relaxed), Relaxed));
}

/// Copies bytes into words, as far as both go.
#[inline]
pub(crate) fn copy_in(to: &[AtomicU64], from: &[u8]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if to.len().min(from.len() / WORD) >= LONG {
        // SAFETY: reads whole words of `from` and writes as many of `to`, whose cells may be written through a shared reference.
        return unsafe { x86_64::copy(to.as_ptr().cast_mut().cast(), from.as_ptr(), to.len().min(from.len() / WORD)) };
    }
    for (to, from) in to.iter().zip(from.as_chunks::<WORD>().0) {
        to.store(u64::from_ne_bytes(*from), Relaxed);
    }
}

/// Copies words into bytes, as far as both go.
#[inline]
pub(crate) fn copy_out(to: &mut [u8], from: &[AtomicU64]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if from.len().min(to.len() / WORD) >= LONG {
        let words = from.len().min(to.len() / WORD);
        // SAFETY: reads words of `from` and writes as many to `to`, which is borrowed for writing.
        return unsafe { x86_64::copy(to.as_mut_ptr(), from.as_ptr().cast(), words) };
    }
    for (to, from) in to.as_chunks_mut::<WORD>().0.iter_mut().zip(from) {
        *to = from.load(Relaxed).to_ne_bytes();
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86_64 {
    use core::arch::asm;
    use core::sync::atomic::AtomicU64;

    /// Stores zero to `words` words.
    ///
    /// # Safety
    /// `to` is valid for atomic writes of `words` words.
    #[inline]
    pub(super) unsafe fn store(to: *const AtomicU64, words: usize) {
        // SAFETY: the caller's contract; the direction flag is clear by the ABI.
        unsafe {
            asm!("rep stosq", inout("rcx") words => _, inout("rdi") to => _, in("rax") 0, options(nostack, preserves_flags));
        }
    }

    /// Copies `words` words in ascending order.
    ///
    /// # Safety
    /// `from` is valid for reads and `to` for writes of `words` words, by atomic accesses where others access them too.
    #[inline]
    pub(super) unsafe fn copy(to: *mut u8, from: *const u8, words: usize) {
        // SAFETY: the caller's contract; the direction flag is clear by the ABI.
        unsafe {
            asm!("rep movsq", inout("rcx") words => _, inout("rdi") to => _, inout("rsi") from => _,
                options(nostack, preserves_flags));
        }
    }
}
