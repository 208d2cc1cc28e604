//! Text formats of the Linux memory manager: /proc files and kernel log reports, written and read.
//!
//! Used by `kernel-mm` and the machines (writers) and by the hosted tools (parsers). Depends on `units` only: writers
//! take plain values, never the allocator's own types.
//!
//! * Writers are [`Display`](core::fmt::Display) values without a heap. Which fields appear, and in what words, is the
//!   choice of a [`Profile`]: Linux 6.1, 6.12 or 6.18 and the configuration it was built with.
//! * Parsers (`parse`, feature `parse`) accept the same files from other releases too: a field that they do not know
//!   stays in place, and what was read prints back unchanged. They never panic; an error names line and column.
//!
//! ```
//! use mmkit_proc_files::{Config, Profile, Release, buddyinfo, parse, vmstat};
//! use units::{NodeId, ZoneType};
//!
//! let row = buddyinfo::FreeBlocks { node: NodeId::ZERO, zone: ZoneType::Dma32, nr_free: [4, 3, 2] };
//! let text = format!("{row}\n");
//! assert_eq!(text, "Node 0, zone    DMA32      4      3      2 \n");
//! let parsed = parse::BuddyInfo::parse(&text)?;
//! assert_eq!(parsed.nr_free(NodeId::ZERO, ZoneType::Dma32), Some([4, 3, 2].as_slice()));
//!
//! let profile = Profile::new(Release::V6_12, Config::X86_64);
//! let counters = |name: &str| if name == "nr_free_pages" { 24 } else { 0 };
//! assert!(vmstat::VmStat { profile, counters: &counters }.to_string().starts_with("nr_free_pages 24\n"));
//! # Ok::<(), parse::ParseError>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "parse")]
extern crate std;

mod alloc_failure;
pub mod buddyinfo;
mod gfp_names;
pub mod iomem;
pub mod kpageflags;
pub mod maps;
pub mod meminfo;
pub mod numa_maps;
pub mod page_scan;
pub mod pagemap;
pub mod pagetypeinfo;
#[cfg(feature = "parse")]
pub mod parse;
pub mod percpu_stats;
mod profile;
pub mod show_mem;
pub mod slabinfo;
pub mod smaps;
pub mod statm;
pub mod status;
pub mod vmallocinfo;
pub mod vmstat;
pub mod zoneinfo;

pub use alloc_failure::{AllocationFailure, OomInvocation};
pub use gfp_names::{GfpText, gfp_from_name};
pub use profile::{Config, Profile, Release};
pub use show_mem::{MemorySource, ShowMem};

/// Values of counters by Linux's name. A counter that the machine does not keep reads 0.
pub type Counters<'a> = &'a dyn Fn(&str) -> u64;
