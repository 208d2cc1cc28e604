//! What a machine supplies to the memory manager: physical memory, page tables, and what CPUs do to each other.
//!
//! Traits, which `machines/*` implement, and the formats of page tables, which are the same on every machine of an
//! architecture. Everything above is generic over [`Platform`], so one implementation runs on every machine.
#![no_std]
#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "declares an unsafe trait; no unsafe block")]
mod memory;
mod table_format;

pub use memory::{CurrentCpu, KernelTables, PhysMemory, Platform};
pub use table_format::{
    AnyFormat, Arm64, Attributes, Entry, Level, MemoryType, PageTableFormat, Prot, TableFormat, X86_64, X86Pae,
};
