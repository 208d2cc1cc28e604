//! A slab cache: its layout, the fronts of the CPUs, and the slabs of each node.
//!
//! Caches are objects of the machine's first cache; the table of caches names them by number, as frame descriptors do.
//! Locking: fronts by their cells, slabs by their node's lock (`rank::SLAB_NODE`), a front's cell before it. All else is fixed when the
//! cache enters the table. Linux 6.12: struct kmem_cache, struct kmem_cache_node.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use collections::BootSlice;
use frame_table::SlabList;
use sync::{SpinLock, rank};
use units::{CpuId, Gfp, NodeId};

use super::front::{CpuFront, SLOTS};
use super::layout::SlabLayout;
use super::object_shape::ObjectShape;
use super::params::{CacheFlags, CacheName, Constructor};

/// A cache.
#[derive(Debug)]
pub(crate) struct Cache {
    /// One front a CPU; empty for caches that have none.
    pub(crate) fronts: BootSlice<CpuFront>,
    /// Slabs by node number.
    pub(crate) nodes: BootSlice<CacheNode>,
    pub(crate) layout: SlabLayout,
    pub(crate) shape: ObjectShape,
    pub(crate) number: u16,
    pub(crate) flags: CacheFlags,
    /// What every page of the cache is asked for with.
    pub(crate) gfp: Gfp,
    /// Empty slabs that a node keeps.
    pub(crate) min_partial: u32,
    pub(crate) ctor: Option<Constructor>,
    pub(crate) name: CacheName,
    /// Handles that share the cache; changed under the table's lock.
    pub(crate) handles: AtomicU32,
}

/// Slabs of one node.
#[derive(Debug)]
pub(crate) struct CacheNode(pub(crate) SpinLock<{ rank::SLAB_NODE }, NodeSlabs>);

/// Slabs of one node. Slabs without a free object are on no list.
///
/// # Invariants
/// A slab of the cache on this node is on `partial` if and only if it has free objects and does not wait for a grace period.
#[derive(Debug, Default)]
pub(crate) struct NodeSlabs {
    pub(crate) partial: SlabList,
    pub(crate) nr_slabs: u64,
    /// Objects of all slabs, free ones included.
    pub(crate) total_objects: u64,
    /// Empty slabs that wait for a grace period, and their objects.
    pub(crate) waiting_slabs: u32,
    pub(crate) waiting_objects: u64,
    /// Where in a slab the next objects are taken from; 0 for always the same end.
    pub(crate) random: u64,
}

impl NodeSlabs {
    /// Returns by how many places a slab's free bits are turned before some are taken.
    pub(crate) fn next_rotation(&mut self) -> u32 {
        // xorshift; 0 stays 0.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random as u32 % u64::BITS
    }
}

impl CacheNode {
    pub(crate) fn new(random: u64) -> Self {
        // INVARIANT: no slab, no list.
        Self(SpinLock::new(NodeSlabs { random, ..NodeSlabs::default() }))
    }
}

/// Address of a cache of the allocator that hands the value out, and of its fronts, to save the common paths a load.
///
/// # Invariants
/// The cache is in the allocator's table, or is about to be, and stays there while anything uses the value. `fronts` is null or the
/// first of the cache's fronts, one for each CPU of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CachePtr {
    cache: NonNull<Cache>,
    fronts: *const CpuFront,
}

// SAFETY: a `Cache` and its fronts are reached through `&` only, and are `Sync`.
unsafe impl Send for CachePtr {}

// SAFETY: as for `Send`.
unsafe impl Sync for CachePtr {}

impl CachePtr {
    /// # Safety
    /// `cache` points to an initialised cache that is destroyed only when nothing uses the result; `fronts` is null or its fronts.
    #[inline(always)]
    pub(crate) const unsafe fn new(cache: NonNull<Cache>, fronts: *const CpuFront) -> Self {
        // INVARIANT: the caller's contract.
        Self { cache, fronts }
    }

    pub(crate) const fn as_ptr(self) -> *mut Cache {
        self.cache.as_ptr()
    }

    pub(crate) const fn fronts(self) -> *const CpuFront {
        self.fronts
    }

    /// Returns the cache.
    #[inline(always)]
    pub(crate) fn get<'a>(self) -> &'a Cache {
        // SAFETY: by the type invariant the cache lives as long as anything uses this value.
        unsafe { self.cache.as_ref() }
    }

    /// Returns the front of a CPU of a machine with `nr_cpus` CPUs.
    #[inline(always)]
    pub(crate) fn front<'a>(self, cpu: CpuId, nr_cpus: usize) -> Option<&'a CpuFront> {
        if self.fronts.is_null() || cpu.index() >= nr_cpus {
            return None;
        }
        // SAFETY: by the type invariant there is a front for each CPU.
        let front = unsafe { self.fronts.add(cpu.index()) };
        // SAFETY: the fronts live as long as the cache.
        Some(unsafe { &*front })
    }
}

impl Cache {
    /// Returns true if each object is looked at when it is allocated and freed.
    #[inline]
    pub(crate) const fn is_checked(&self) -> bool {
        self.flags.intersects(CacheFlags::DEBUG)
    }

    /// Returns true if slabs without objects stay with the cache, since someone may still look at what was in them.
    #[inline]
    pub(crate) const fn keeps_slabs(&self) -> bool {
        self.flags.contains(CacheFlags::KEEP_SLABS)
    }

    /// Returns the slabs of a node, or of node 0 for nodes that the machine does not have.
    #[inline]
    pub(crate) fn node(&self, node: NodeId) -> &CacheNode {
        self.nodes.get(node.index()).unwrap_or(&self.nodes[0])
    }

    /// Returns the number of handles that share the cache (Linux: aliases plus one).
    pub(crate) fn handles(&self) -> u32 {
        // Relaxed: changed under the table's lock; elsewhere a figure to show.
        self.handles.load(Ordering::Relaxed)
    }
}

/// Returns how many objects a front of a cache with such objects may hold (Linux: slub_set_cpu_partial).
pub(crate) const fn front_capacity(object_size: usize, page_size: usize) -> u32 {
    let capacity = if object_size >= page_size {
        6
    } else if object_size >= 1024 {
        24
    } else if object_size >= 256 {
        52
    } else {
        SLOTS
    };
    capacity as u32
}

/// Returns how many empty slabs a node keeps of a cache with such objects (Linux: set_min_partial).
pub(crate) fn min_partial(stride: usize) -> u32 {
    (stride.max(1).ilog2() / 2).clamp(5, 10)
}
