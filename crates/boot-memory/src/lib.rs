//! Memory before the page allocator exists: what the firmware reports, and the boot-time allocators.
//!
//! Data flows from the firmware's map into memblock (or the historical bootmem), out of which the tables of the frame table
//! and the page allocator are carved; what is left is handed over to the page allocator.
#![no_std]
#![forbid(unsafe_code)]

pub mod bootmem;
pub mod firmware;
pub mod memblock;
pub mod page_tables;
mod set_up;

pub use set_up::{LowMemory, Nodes};
