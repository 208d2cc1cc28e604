//! What holds for all caches of a machine.
//!
//! Given to `ObjectAllocator::start_with`, before there are caches. Linux 6.12: slab_debug=, slab_nomerge, CONFIG_SLAB_FREELIST_RANDOM.

use core::num::NonZeroU64;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::params::CacheFlags;

/// Whether like caches share slabs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Merging {
    /// They do.
    #[default]
    Allowed,
    /// Every cache has slabs of its own (Linux: slab_nomerge).
    Never,
}

/// Options of a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SlabOptions {
    /// Checks that every cache runs, of [`CacheFlags::DEBUG`] (Linux: slab_debug=FZPU).
    pub debug: CacheFlags,
    /// Whether like caches share slabs.
    pub merging: Merging,
    /// Seed of the order in which a slab's objects are handed out; without one it is by address.
    pub freelist_seed: Option<NonZeroU64>,
}

/// Options as the allocator keeps them.
///
/// Relaxed throughout: set before there are caches, by whoever makes them.
#[derive(Debug, Default)]
pub(crate) struct OptionCell {
    debug: AtomicU32,
    never_merge: AtomicBool,
    seed: AtomicU64,
}

impl OptionCell {
    pub(crate) fn set(&self, options: SlabOptions) {
        self.debug.store((options.debug & CacheFlags::DEBUG).bits(), Ordering::Relaxed);
        self.never_merge.store(options.merging == Merging::Never, Ordering::Relaxed);
        self.seed.store(options.freelist_seed.map_or(0, NonZeroU64::get), Ordering::Relaxed);
    }

    /// Returns the checks that every cache runs.
    pub(crate) fn debug(&self) -> CacheFlags {
        CacheFlags::from_bits_truncate(self.debug.load(Ordering::Relaxed))
    }

    pub(crate) fn merging(&self) -> Merging {
        if self.never_merge.load(Ordering::Relaxed) { Merging::Never } else { Merging::Allowed }
    }

    /// Returns true if slabs hand their objects out in random order.
    pub(crate) fn is_random(&self) -> bool {
        self.seed.load(Ordering::Relaxed) != 0
    }

    /// Returns the seed of a cache, 0 for order by address.
    pub(crate) fn seed_of(&self, cache: u16) -> u64 {
        match self.seed.load(Ordering::Relaxed) {
            0 => 0,
            seed => (seed ^ u64::from(cache) << 48 | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }
}
