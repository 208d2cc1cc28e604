//! Containers for memory that the machine itself supplies: fixed slices that live as long as the machine, trees of ranges, sparse arrays.
//!
//! The memory manager has no heap, so tables whose size is known at boot are carved out of boot memory and held as
//! [`BootSlice`]. Ranges of addresses, which come and go, are kept in a [`RangeTree`], whose nodes its caller allocates, values by number in an [`XArray`]. Links between frames are numbers, not pointers, and belong to `frame-table`.
#![no_std]

mod atomic;
mod boot_slice;
pub mod interval_tree;
mod per_cpu_slice;
pub mod range_tree;
mod word_cell;
pub mod xarray;

pub use boot_slice::BootSlice;
pub use interval_tree::IntervalTree;
pub use per_cpu_slice::PerCpuSlice;
pub use range_tree::RangeTree;
pub use word_cell::WordCell;
pub use xarray::XArray;
