//! What boot computes about memory before the first page is handed out: pure functions over plain data.
//!
//! In the order of boot: [`ZoneLimits`] of the architecture, [`MovableStarts`] of the command line, one [`NodeLayout`] a
//! node, [`for_each_unavailable`] and [`first_deferred`] frames, fallback orders ([`NodeOrders`]) and zonelists, and, once
//! the managed pages are known, [`WatermarkRule`], [`lowmem_reserve()`], [`pcp_size()`] and the thresholds of the counters.
//! Locking: none; nothing here is shared, and the caller gives all storage.

mod arch_rules;
pub mod boot_log;
mod deferred;
mod lowmem_reserve;
mod memmap;
mod memory_range;
mod movable;
mod node_order;
mod pcp_size;
mod release;
mod stat_threshold;
mod unavailable;
mod watermark;
mod zone_limits;
mod zone_spans;
mod zonelist;

pub use arch_rules::{ArchRules, DmaReserve, PercpuUnits};
pub use deferred::first_deferred;
pub use lowmem_reserve::{ByZone, DEFAULT_RATIOS, lowmem_reserve, unusable_pages};
pub use memmap::MemmapCost;
pub use memory_range::{
    MemoryKind, MemoryRange, MemoryRanges, memblock_ranges, node_span, nodes_with_memory, present_pages, total_pages,
};
pub use movable::{MovableRule, MovableStarts};
pub use node_order::{NodeOrder, NodeOrders, Topology};
pub use pcp_size::{PcpSize, PcpZone, pcp_size};
pub use release::Release;
pub use stat_threshold::{drift_mark, normal_threshold, pressure_threshold};
pub use unavailable::{UnavailableRange, for_each_unavailable};
pub use watermark::{
    DEFAULT_BOOST_FACTOR, DEFAULT_SCALE_FACTOR, HUGE_PAGE_MIN_BYTES, WatermarkRule, Watermarks, boosted,
    free_buffer_pages, huge_page_min_free_kbytes, min_free_kbytes,
};
pub use zone_limits::{ZoneLimits, ZoneSet};
pub use zone_spans::{NodeLayout, ZoneLayout};
pub use zonelist::{
    MobilityGrouping, NodeZonelists, ZoneRef, Zonelist, ZonelistWalk, ZonelistWriter, policy_zone, write_zonelist,
};

#[cfg(test)]
mod tests;
