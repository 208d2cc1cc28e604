//! Caches of values of one type, whose handles free what they own when they are dropped.
//!
//! A handle is one pointer. It reaches its cache through a word behind the value: a word an object costs less than the alternatives
//! (slabs aligned to their size, with a header), leaves the shape of slabs alone and works with every page size.
//! `cache.free(&cpu, handle)` is the fast way back. A handle that is merely dropped has no CPU's token: it asks the machine which CPU
//! this is (`CurrentCpu`), and where the machine cannot tell, leaves the object on a list that the cache's next refill takes over.
//! Locking: none of its own.

mod kmem_cache;
mod slab_arc;
mod slab_box;

pub(crate) use kmem_cache::CORE_BYTES;
pub use kmem_cache::{KmemCache, TypedInUse};
pub use slab_arc::{Shared, SlabArc};
pub use slab_box::SlabBox;
