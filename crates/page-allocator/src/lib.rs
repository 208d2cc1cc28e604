//! The page allocator: nodes, zones, zonelists, watermarks, and what hands frames out and takes them back.
//!
//! [`layout`] computes at boot how memory divides into zones; it touches no frame. [`PageAllocator`] is the allocator:
//! `fast_path` and `free_path` are where requests come in, `pcp` the per-CPU lists in front of the zones, `buddy` the free lists of
//! a zone with `fallback` and `highatomic` beside it, `slow_path` what happens when memory is short.
//! Lock order: a CPU's set, then one zone's lock. Linux 6.12: mm/page_alloc.c, mm/mm_init.c.
#![no_std]
#![forbid(unsafe_code)]

mod alloc_context;
mod alloc_flags;
mod allocator;
mod buddy;
mod bulk;
mod checked;
mod compact_retry;
mod debug;
mod deferred;
mod drain;
mod fallback;
mod fast_path;
mod frame_map;
mod free_path;
mod gates;
mod geometry;
mod hand_over;
mod highatomic;
mod hot_path;
mod interface;
mod invariants;
mod isolation;
pub mod layout;
mod magazine;
mod page_frag;
mod pageblock;
mod pcp;
mod pcp_index;
mod pcp_list;
mod pcp_rules;
mod pressure;
mod slow_path;
mod slow_step;
mod trace;
mod tunables;
mod watermark_check;
mod zone;
mod zone_table;

pub use alloc_context::{AllocError, AllocRequest, TaskFlags};
pub use alloc_flags::AllocFlags;
pub use allocator::{CpuPlace, PageAllocator, Parts, PcpSet};
pub use compact_retry::{CompactRound, CompactVerdict, Room};
pub use debug::{BadPage, Checks, DebugOptions, OwnerTable, PAGE_POISON, PageOwner};
pub use deferred::Deferred;
pub use frame_map::FrameMap;
pub use geometry::Geometry;
pub use interface::ExactPages;
pub use invariants::Broken;
pub use isolation::IsolateError;
pub use page_frag::{PageFrag, PageFragCache};
pub use pageblock::PageblockTypes;
pub use pcp_rules::{FreeHigh, FreeHighRule, PcpCounters, ZonePressure};
pub use pressure::{CompactPriority, Compaction, Hooks, NoPressure, NodeReclaim, Pressure, Progress};
pub use slow_step::{Outcome, SlowRequest, SlowState, SlowStep};
pub use trace::{ExtFrag, Tracepoints, Untraced};
pub use tunables::Tunables;
pub use zone::{PcpLimits, Watermark, Zone, ZoneEvents, ZoneSettings};
pub use zone_table::ZoneTable;
