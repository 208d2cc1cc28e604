//! What a machine supplies to the memory manager: physical memory and a barrier on the other CPUs.
//!
//! Traits only; `machines/*` implement them. Everything above is generic over [`Platform`], so one implementation runs on
//! every machine.
#![no_std]
#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "declares an unsafe trait; no unsafe block")]
mod memory;

pub use memory::{PhysMemory, Platform};
