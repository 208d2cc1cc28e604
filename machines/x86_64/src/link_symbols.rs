//! Symbols that cross the link: where the linker script put the image, and what compiled code and `core` expect to find.
//!
//! The string functions use `rep movs` and `rep stos` on quadwords: an emulator pays for each iteration, and so does `-icount`.

use core::arch::asm;

use units::{PhysAddr, VirtAddr};
use x86_64_machine::Image;

unsafe extern "C" {
    // Absolute symbols of linker.ld whose addresses are physical addresses.
    static image_start: u8;
    static text_end: u8;
    static rodata_end: u8;
    static image_end: u8;
    static boot_pml4: u8;
    // At its virtual address.
    static boot_stack: u8;
}

/// Returns the physical layout of the image.
pub(crate) fn image() -> Image {
    let phys = |symbol: *const u8| PhysAddr::new(symbol.addr() as u64);
    Image {
        start: phys(&raw const image_start),
        text_end: phys(&raw const text_end),
        rodata_end: phys(&raw const rodata_end),
        end: phys(&raw const image_end),
        boot_page_table: phys(&raw const boot_pml4),
        boot_stack: VirtAddr::new((&raw const boot_stack).addr() as u64),
    }
}

/// Copies `len` bytes between ranges that do not overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the C contract: both ranges of `len` bytes are valid; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep movsq", "mov ecx, {tail:e}", "rep movsb", tail = in(reg) len & 7,
            inout("rcx") len >> 3 => _, inout("rdi") to => _, inout("rsi") from => _, options(nostack, preserves_flags));
    }
    to
}

/// Copies `len` bytes between ranges that may overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= len {
        // SAFETY: `to` is below `from` or beyond its end, so an ascending copy reads each byte before it is overwritten.
        return unsafe { memcpy(to, from, len) };
    }
    // SAFETY: the C contract gives valid ranges; descending, since `to` lies inside [from, from + len); len is not 0 here.
    unsafe {
        asm!("std", "rep movsb", "cld",
            inout("rcx") len => _,
            inout("rdi") to.wrapping_add(len).wrapping_sub(1) => _,
            inout("rsi") from.wrapping_add(len).wrapping_sub(1) => _,
            options(nostack));
    }
    to
}

/// Sets `len` bytes to the low byte of `value`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, len: usize) -> *mut u8 {
    let pattern = u64::from(value as u8) * 0x0101_0101_0101_0101;
    // SAFETY: the C contract: `len` bytes are valid; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep stosq", "mov ecx, {tail:e}", "rep stosb", tail = in(reg) len & 7,
            inout("rcx") len >> 3 => _, inout("rdi") to => _, in("rax") pattern, options(nostack, preserves_flags));
    }
    to
}

/// Compares two ranges as unsigned bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    let mut index = 0;
    while index < len {
        // SAFETY: `index < len`, and the C contract makes `len` bytes of both ranges valid.
        let (a, b) = unsafe { (left.add(index).read(), right.add(index).read()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
        index += 1;
    }
    0
}

/// Compares two ranges for equality.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    // SAFETY: same contract as this function's.
    unsafe { memcmp(left, right, len) }
}

/// Named by the unwind tables of the precompiled `core`; never called, since the image is built with panic = "abort".
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() -> ! {
    x86_64_machine::die(format_args!("unwinding in a kernel that aborts on panic"))
}

/// Named by landing pads of the precompiled `core`; never called, for the same reason.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    rust_eh_personality()
}
