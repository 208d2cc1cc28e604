//! Symbols that cross the link: where the linker script put the image, and what compiled code and `core` expect to find.
//!
//! The functions on bytes are `x86_64_machine::strings`, here under the names and with the contracts of C.

use units::{PhysAddr, VirtAddr};
use x86_64_machine::{Image, strings};

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
    // SAFETY: the same contract.
    unsafe { strings::copy(to, from, len) };
    to
}

/// Copies `len` bytes between ranges that may overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the same contract.
    unsafe { strings::copy_overlapping(to, from, len) };
    to
}

/// Sets `len` bytes to the low byte of `value`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, len: usize) -> *mut u8 {
    // SAFETY: the same contract.
    unsafe { strings::fill(to, value as u8, len) };
    to
}

/// Compares two ranges as unsigned bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { strings::compare(left, right, len) }
}

/// Compares two ranges for equality.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { strings::compare(left, right, len) }
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
