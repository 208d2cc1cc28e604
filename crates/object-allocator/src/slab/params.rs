//! What a cache is asked to be.
//!
//! Used by `create`. Linux 6.12: include/linux/slab.h (`kmem_cache_args`, SLAB_ flags).

use core::fmt;
use core::ptr::NonNull;

bitflags::bitflags! {
    /// Properties of a cache (Linux: slab_flags_t).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct CacheFlags: u32 {
        /// Objects start on cache lines where that wastes less than half of them.
        const HWCACHE_ALIGN = 1 << 0;
        /// A shrinker can free the objects: pages count as reclaimable and come from reclaimable pageblocks.
        const RECLAIM_ACCOUNT = 1 << 1;
        /// Memory of the DMA zone.
        const CACHE_DMA = 1 << 2;
        /// A slab's memory stays of this type until a grace period has passed.
        const TYPESAFE_BY_RCU = 1 << 3;
        /// Slabs stay with the cache as long as the machine, since no grace period says when nobody looks at them any more.
        const KEEP_SLABS = 1 << 9;
        /// Shares its slabs with no other cache.
        const NO_MERGE = 1 << 4;
        /// Frees are checked at once.
        const CONSISTENCY_CHECKS = 1 << 5;
        /// Bytes around each object are checked for overruns.
        const RED_ZONE = 1 << 6;
        /// Free objects hold a pattern that is checked when they are handed out.
        const POISON = 1 << 7;
        /// Who allocated and freed each object is kept.
        const STORE_USER = 1 << 8;

        /// Flags that look at each object, so that no front may hand objects out unseen.
        const DEBUG = Self::CONSISTENCY_CHECKS.bits() | Self::RED_ZONE.bits() | Self::POISON.bits()
            | Self::STORE_USER.bits();
        /// Flags with which a cache is never merged.
        const NEVER_MERGE = Self::RED_ZONE.bits() | Self::POISON.bits() | Self::STORE_USER.bits()
            | Self::TYPESAFE_BY_RCU.bits() | Self::NO_MERGE.bits() | Self::KEEP_SLABS.bits();
        /// Flags that must agree for two caches to be merged.
        const MERGE_SAME = Self::RECLAIM_ACCOUNT.bits() | Self::CACHE_DMA.bits();
    }
}

/// Initialises an object once, when its slab is made. Gets the object's address.
pub type Constructor = unsafe fn(NonNull<u8>);

/// What a cache is to be.
#[derive(Clone, Copy, Debug)]
pub struct CacheParams<'a> {
    pub(crate) name: &'a str,
    pub(crate) size: usize,
    pub(crate) align: usize,
    pub(crate) flags: CacheFlags,
    pub(crate) ctor: Option<Constructor>,
}

impl<'a> CacheParams<'a> {
    /// Asks for objects of `size` bytes, aligned to 8.
    pub const fn new(name: &'a str, size: usize) -> Self {
        Self { name, size, align: 8, flags: CacheFlags::empty(), ctor: None }
    }

    /// Aligns objects to `align`, a power of two.
    #[must_use]
    pub const fn align(self, align: usize) -> Self {
        Self { align, ..self }
    }

    /// Sets the properties.
    #[must_use]
    pub const fn flags(self, flags: CacheFlags) -> Self {
        Self { flags, ..self }
    }

    /// Runs `ctor` on each object when its slab is made; who frees an object leaves it as `ctor` did.
    ///
    /// # Safety
    /// `ctor` may be called on any address that is valid for writes of the object's size and aligned as asked.
    #[must_use]
    pub const unsafe fn ctor(self, ctor: Constructor) -> Self {
        Self { ctor: Some(ctor), ..self }
    }
}

/// Longest name that is kept whole.
const NAME_BYTES: usize = 31;

/// Name of a cache; longer ones are cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CacheName {
    bytes: [u8; NAME_BYTES],
    len: u8,
}

impl CacheName {
    pub(crate) fn new(name: &str) -> Self {
        let len = name.floor_char_boundary(NAME_BYTES);
        let mut bytes = [0; NAME_BYTES];
        for (slot, byte) in bytes.iter_mut().zip(name.bytes().take(len)) {
            *slot = byte;
        }
        Self { bytes, len: len as u8 }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(|name| core::str::from_utf8(name).ok()).unwrap_or_default()
    }
}

impl fmt::Display for CacheName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for CacheName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
