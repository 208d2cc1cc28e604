//! Containers for memory that the machine itself supplies: fixed slices that live as long as the machine.
//!
//! The memory manager has no heap, so tables whose size is known at boot are carved out of boot memory and held as
//! [`BootSlice`]. Links between frames are numbers, not pointers, and belong to `frame-table`.
#![no_std]

mod boot_slice;

pub use boot_slice::BootSlice;
