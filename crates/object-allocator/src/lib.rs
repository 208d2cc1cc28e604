//! Memory smaller or larger than a block of pages: slab caches, kmalloc, vmalloc, mempools, per-CPU memory.
//!
//! [`ObjectAllocator`] owns the page allocator that feeds it. Everything it keeps lies in descriptors, slab pages and objects of its
//! own, never on a heap. `kernel-mm` puts it together at boot.
//! Linux 6.12: mm/slub.c, mm/slab_common.c, mm/vmalloc.c, mm/mempool.c, mm/percpu.c, mm/shrinker.c.
#![no_std]

mod atomic;
mod cache_figures;
mod direct_map;
mod error;
mod global_heap;
mod kmalloc;
pub mod mempool;
pub mod mmu;
mod node_stats;
mod object_allocator;
pub mod percpu;
mod remote_list;
mod report;
pub mod shrinker;
mod slab;
#[cfg(all(test, not(loom)))]
mod tests;
mod typed;
mod vmalloc;
pub mod vmstat;

pub use cache_figures::CacheFigures;
pub use error::ObjectError;
pub use global_heap::GlobalHeap;
pub use kmalloc::KmallocKind;
pub use node_stats::NodeStats;
pub use object_allocator::ObjectAllocator;
pub use report::{BadByte, ReportSink, SlabFault, SlabReport, Track};
pub use slab::{
    BrokenSlab, CacheFlags, CacheName, CacheParams, CacheUsage, CachedNodes, Constructor, Merging, RawCache,
    RcuSnapshot, SlabOptions, Stable, StableCache, StillInUse, TypeStable,
};
pub use typed::{KmemCache, Shared, SlabArc, SlabBox, TypedInUse};
pub use vmalloc::{
    AreaInfo, AreaKind, BadVfree, HugeMappings, KvMemory, Mapped, OutOfReach, RamMapping, VmallocArea, VmallocError,
    VmallocFigures, VmallocRequest, VmapArea,
};
