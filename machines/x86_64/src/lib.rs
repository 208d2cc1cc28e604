//! The bare-metal x86-64 machine: everything between the PVH entry and the memory manager.
//!
//! Boots in QEMU on microvm, pc and q35 with 1 to 8 CPUs. The only crate with assembly. A library, so
//! that the host checks and tests it; the image in `main.rs` adds the entry code and what a freestanding link needs.
//!
//! Programs run in ring 3. `user_entry` enters them and comes back as a function call does, so that the rest is a loop in `programs` around the crate
//! `userland`; the kernel's code on behalf of a program runs with interrupts off.
//!
//! Interrupts: every vector runs on an interrupt stack of its own kind with interrupts off, because the precompiled `core` may
//! use the red zone below the stack pointer; handlers save the SSE registers. Barriers on other CPUs are NMIs, which arrive
//! even at a CPU that spins with interrupts off.
#![no_std]

extern crate alloc;

mod apic;
mod bench;
mod boot_memblock;
mod console;
mod cpu_area;
mod deaths;
mod error;
mod exit;
mod fence;
mod firmware;
mod gdt;
mod heap;
mod idt;
mod instructions;
mod kernel;
mod machine;
mod memory_map;
mod options;
mod paging;
mod pit;
mod programs;
mod ram;
mod reports;
mod ring3_test;
mod self_test;
mod serial;
mod smp;
mod start;
mod stress;
pub mod strings;
mod timer;
mod tlb;
mod trampoline;
mod traps;
mod user_entry;

pub use exit::die;
pub use heap::Heap;
pub use start::{BootArguments, Image, start};
