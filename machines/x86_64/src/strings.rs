//! Copying, filling and comparing bytes: what compiled code expects under C's names in a freestanding image.
//!
//! `rep movs` and `rep stos` on quadwords, since an emulator pays for each iteration, and so does `-icount`. Assembly also
//! keeps the compiler from turning these functions into calls of themselves.

use core::arch::asm;

/// Copies `len` bytes between ranges that do not overlap.
///
/// # Safety
/// `from` is valid for reads and `to` for writes of `len` bytes.
#[inline]
pub unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller's contract; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep movsq", "mov ecx, {tail:e}", "rep movsb", tail = in(reg) len & 7,
            inout("rcx") len >> 3 => _, inout("rdi") to => _, inout("rsi") from => _, options(nostack, preserves_flags));
    }
}

/// Copies `len` bytes between ranges that may overlap.
///
/// # Safety
/// `from` is valid for reads and `to` for writes of `len` bytes.
#[inline]
pub unsafe fn copy_overlapping(to: *mut u8, from: *const u8, len: usize) {
    // Below `from` or beyond its end an ascending copy reads each byte before it is overwritten.
    if to.addr().wrapping_sub(from.addr()) >= len {
        // SAFETY: the caller's contract.
        return unsafe { copy(to, from, len) };
    }
    let (last_to, last_from) = (to.wrapping_add(len).wrapping_sub(1), from.wrapping_add(len).wrapping_sub(1));
    // SAFETY: the caller's contract; descending, since `to` lies inside [from, from + len), so `len` is not 0.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") len => _, inout("rdi") last_to => _, inout("rsi") last_from => _,
            options(nostack));
    }
}

/// Sets `len` bytes to `value`.
///
/// # Safety
/// `to` is valid for writes of `len` bytes.
#[inline]
pub unsafe fn fill(to: *mut u8, value: u8, len: usize) {
    let pattern = u64::from(value) * 0x0101_0101_0101_0101;
    // SAFETY: the caller's contract; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep stosq", "mov ecx, {tail:e}", "rep stosb", tail = in(reg) len & 7,
            inout("rcx") len >> 3 => _, inout("rdi") to => _, in("rax") pattern, options(nostack, preserves_flags));
    }
}

/// Compares as unsigned bytes: below, equal to or above 0 as the left range is below, equal to or above the right one.
///
/// # Safety
/// Both pointers are valid for reads of `len` bytes.
#[inline]
pub unsafe fn compare(left: *const u8, right: *const u8, len: usize) -> i32 {
    for index in 0..len {
        // SAFETY: `index < len`, so this is inside the range.
        let a = unsafe { left.wrapping_add(index).read() };
        // SAFETY: as above.
        let b = unsafe { right.wrapping_add(index).read() };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn copies_agree_with_the_standard_library(
            bytes in proptest::collection::vec(any::<u8>(), 1..200), from in 0..200usize, to in 0..200usize, len in 0..200usize,
        ) {
            let (from, to) = (from % bytes.len(), to % bytes.len());
            let len = len.min(bytes.len() - from.max(to));
            let (mut ours, mut theirs): (Vec<u8>, Vec<u8>) = (bytes.clone(), bytes);
            let start = ours.as_mut_ptr();
            // SAFETY: both ranges are inside the vector.
            unsafe { copy_overlapping(start.wrapping_add(to), start.wrapping_add(from), len) };
            theirs.copy_within(from..from + len, to);
            prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn a_disjoint_copy_leaves_its_surroundings_alone(source in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut target = std::vec![0xee; source.len() + 2];
            // SAFETY: the target has room for the source behind its first byte.
            unsafe { copy(target.as_mut_ptr().wrapping_add(1), source.as_ptr(), source.len()) };
            prop_assert_eq!(&target[1..=source.len()], &source[..]);
            prop_assert_eq!((target[0], target[source.len() + 1]), (0xee, 0xee));
        }

        #[test]
        fn a_fill_stops_at_its_ends(value: u8, len in 0..100usize) {
            let mut target = std::vec![value.wrapping_add(1); len + 2];
            // SAFETY: inside the vector.
            unsafe { fill(target.as_mut_ptr().wrapping_add(1), value, len) };
            prop_assert!(target[1..=len].iter().all(|&byte| byte == value));
            prop_assert_eq!((target[0], target[len + 1]), (value.wrapping_add(1), value.wrapping_add(1)));
        }

        #[test]
        fn comparison_orders_like_slices(left in proptest::collection::vec(0..4u8, 8), right in proptest::collection::vec(0..4u8, 8)) {
            // SAFETY: both have eight bytes.
            let ours = unsafe { compare(left.as_ptr(), right.as_ptr(), 8) };
            prop_assert_eq!(ours.cmp(&0), left.cmp(&right));
        }
    }
}
