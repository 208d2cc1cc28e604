//! Text formats of the Linux memory manager: /proc files and kernel log reports, written and read.
//!
//! Used by `kernel-mm` and the machines (writers) and by the hosted tools (parsers). Depends on `units` only: writers
//! take plain values, never the allocator's own types.
//!
//! * Writers are [`Display`](core::fmt::Display) values without a heap. Which fields appear, and in what words, is the
//!   choice of a [`Profile`]: Linux 6.1, 6.12 or 6.18 and the configuration it was built with.
//! * Parsers (`parse`, feature `parse`) accept the same files from other releases too: a field that they do not know
//!   stays in place, and what was read prints back unchanged. They never panic; an error names line and column.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "parse")]
extern crate std;

mod alloc_failure;
pub mod buddyinfo;
mod gfp_names;
pub mod iomem;
pub mod kpageflags;
pub mod meminfo;
pub mod pagetypeinfo;
#[cfg(feature = "parse")]
pub mod parse;
mod profile;
pub mod show_mem;
pub mod vmstat;
pub mod zoneinfo;

pub use alloc_failure::{AllocationFailure, OomInvocation};
pub use gfp_names::{GfpText, gfp_from_name};
pub use profile::{Config, Profile, Release};
pub use show_mem::{MemorySource, ShowMem};

/// Values of counters by Linux's name. A counter that the machine does not keep reads 0.
pub type Counters<'a> = &'a dyn Fn(&str) -> u64;
