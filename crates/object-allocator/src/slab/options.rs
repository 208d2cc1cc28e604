//! What holds for all caches of a machine.
//!
//! Given to `ObjectAllocator::start_with`, before there are caches. Linux 6.12: slab_debug=, slab_nomerge, CONFIG_SLAB_FREELIST_RANDOM.

use core::num::NonZeroU64;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use boot_memory::firmware::{BootOptions, SlabDebug};

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

impl From<&BootOptions<'_>> for SlabOptions {
    /// Takes over `slab_debug=` and `slab_nomerge`.
    fn from(options: &BootOptions<'_>) -> Self {
        let SlabDebug { consistency, red_zone, poison, store_user } = options.slab_debug;
        let asked = [
            (consistency, CacheFlags::CONSISTENCY_CHECKS),
            (red_zone, CacheFlags::RED_ZONE),
            (poison, CacheFlags::POISON),
            (store_user, CacheFlags::STORE_USER),
        ];
        let on = asked.into_iter().filter(|(on, _)| *on);
        Self {
            debug: on.fold(CacheFlags::empty(), |flags, (_, flag)| flags | flag),
            merging: if options.slab_nomerge { Merging::Never } else { Merging::Allowed },
            freelist_seed: None,
        }
    }
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

    pub(crate) fn get(&self) -> SlabOptions {
        let freelist_seed = NonZeroU64::new(self.seed.load(Ordering::Relaxed));
        SlabOptions { debug: self.debug(), merging: self.merging(), freelist_seed }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_options_choose_checks_and_merging() {
        let read = |text| SlabOptions::from(&BootOptions::parse(text).unwrap());
        assert_eq!(read("quiet"), SlabOptions::default());
        assert_eq!(read("slab_debug").debug, CacheFlags::DEBUG);
        let chosen = read("slub_debug=PU slab_nomerge");
        assert_eq!(chosen.debug, CacheFlags::POISON | CacheFlags::STORE_USER);
        assert_eq!(chosen.merging, Merging::Never);
    }

    #[test]
    fn kept_options_read_back() {
        let options =
            SlabOptions { debug: CacheFlags::RED_ZONE, merging: Merging::Never, freelist_seed: NonZeroU64::new(7) };
        let cell = OptionCell::default();
        cell.set(options);
        assert_eq!(cell.get(), options);
    }
}
