//! Slab caches: objects of one size, cut out of blocks of pages.
//!
//! `front` is a CPU's own stack of objects, `cache` has the slabs of each node behind it, `free_bits` says which objects of a slab are free. An
//! object's cache is found from its address alone, through the frame's descriptor. `alloc` and `free` are the ways of an object,
//! `create` and `shrink` those of a cache.
//! Lock order: a CPU's front, then one node's slabs of one cache. Linux 6.12: mm/slub.c, mm/slab_common.c.

mod alloc;
mod cache;
mod checked;
mod create;
mod free;
mod free_bits;
mod front;
mod invariants;
mod layout;
mod object_shape;
mod options;
mod params;
mod raw_cache;
mod rcu;
mod shrink;
mod slab_pages;
mod stable_cache;
mod table;

pub(crate) use cache::CachePtr;
pub(crate) use layout::MachineSizes;
pub(crate) use options::OptionCell;
pub(crate) use table::{CacheSlot, CacheTable};

pub use invariants::BrokenSlab;
pub use options::{Merging, SlabOptions};
pub use params::{CacheFlags, CacheName, CacheParams, Constructor};
pub use raw_cache::{RawCache, StillInUse};
pub(crate) use rcu::RcuQueue;
pub use rcu::RcuSnapshot;
pub use shrink::CacheUsage;
pub use stable_cache::{CachedNodes, Stable, StableCache, TypeStable};
