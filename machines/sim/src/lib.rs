//! The hosted machine: a computer's physical memory, CPUs and interrupts inside one process.
//!
//! Used by the `mmkit` command, the tests and programs that embed the memory manager. Several machines live in one process
//! and share nothing.

mod boot_memblock;
mod cpus;
mod current;
mod error;
mod interrupts;
mod machine;
mod memory;
mod platform;
mod recorded;
mod reservation;
mod rng;
mod scheduler;
mod tlb;
mod user_access;

pub use crate::cpus::CpuGuard;
pub use crate::error::{CpuUnavailable, MachineError};
pub use crate::interrupts::{Handler, InterruptRate};
pub use crate::machine::{SimMachine, SimOptions};
pub use crate::memory::{HostUse, MemoryLayout, SimMemory};
pub use crate::platform::SimPlatform;
pub use crate::recorded::RecordedMachine;
pub use crate::reservation::HostPages;
pub use crate::rng::Rng;
pub use crate::scheduler::{RunEnd, Scheduler, Step};
pub use crate::tlb::{Access, Space, Stale, VirtFault};
pub use crate::user_access::UserFault;

pub mod description;

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct ReadmeExamples;
