//! Frame descriptors (mem_map), lists threaded through them, and the types that say who owns a frame.
//!
//! Guarantee first: a frame is in one state at a time ([`PageType`]), and the values that stand for ownership, [`FreeBlock`]
//! and [`OwnedBlock`], come into being only by a checked change of that state. So no safe code can own a frame twice.
//! Locking: descriptors are atomics and may be read at any time; links and states of free blocks change only under the lock of
//! the list's owner (zone lock or per-CPU section). Linux 6.12: include/linux/mm_types.h, page-flags.h, mmzone.h (sections).
#![no_std]

mod atomic;
mod block;
mod boot_arena;
mod contents;
mod counted;
mod frame;
#[cfg(any(test, feature = "heap-memory"))]
mod heap_memory;
mod list;
#[cfg(all(test, not(loom)))]
mod list_tests;
mod page_bytes;
mod page_flags;
mod page_type;
mod pin;
mod sections;
mod slab;
mod table;
mod table_page;
#[cfg(all(test, not(loom)))]
mod tests;
mod word_moves;

pub use block::{BadFree, FreeBlock, OwnedBlock};
pub use boot_arena::{ArenaError, BootArena};
pub use contents::{NotMapped, fill, first_difference};
pub use counted::{CountedBlock, PageRef, Put};
pub use frame::{Frame, FramePlace};
#[cfg(any(test, feature = "heap-memory"))]
pub use heap_memory::HeapMemory;
pub use list::FrameList;
pub use page_bytes::{HeldBlock, PageBytes};
pub use page_flags::PageFlags;
pub use page_type::PageType;
pub use pin::Pin;
pub use sections::{MemoryModel, SectionMap};
pub use slab::SlabList;
pub use table::{FrameTable, TableError};
