//! The machine's caches by number.
//!
//! Lookups take no lock: frames name their cache by number, and a free from an address alone goes through here.
//! Locking: `rank::SLAB_CACHES` for changes. Linux 6.12: slab_caches, slab_mutex.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use sync::{Cpu, SpinGuard, SpinLock, rank};

use super::cache::{Cache, CachePtr};
use super::front::CpuFront;
use crate::error::ObjectError;

/// A place for one cache, empty at first.
#[derive(Debug)]
pub(crate) struct CacheSlot {
    cache: AtomicPtr<Cache>,
    fronts: AtomicPtr<CpuFront>,
}

impl CacheSlot {
    pub(crate) const fn empty() -> Self {
        Self { cache: AtomicPtr::new(ptr::null_mut()), fronts: AtomicPtr::new(ptr::null_mut()) }
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> Option<CachePtr> {
        // Acquire: pairs with the Release in `set`, so the cache is seen initialised.
        let cache = NonNull::new(self.cache.load(Ordering::Acquire))?;
        // Relaxed: stored before `cache`.
        let fronts = self.fronts.load(Ordering::Relaxed);
        // SAFETY: `set` was given both by a cache that stays until the slot is cleared, when nobody uses it.
        Some(unsafe { CachePtr::new(cache, fronts) })
    }

    pub(crate) fn set(&self, cache: CachePtr) {
        // Relaxed: `cache` publishes it.
        self.fronts.store(cache.fronts().cast_mut(), Ordering::Relaxed);
        // Release: pairs with the Acquire in `get`.
        self.cache.store(cache.as_ptr(), Ordering::Release);
    }

    fn clear(&self) {
        // Relaxed: whoever could have used the cache is gone.
        self.cache.store(ptr::null_mut(), Ordering::Relaxed);
    }
}

/// All caches of a machine.
///
/// # Invariants
/// `slots` is the address of `len` slots that live as long as the machine; while `len` is 0 it dangles.
#[derive(Debug)]
pub(crate) struct CacheTable {
    slots: AtomicPtr<CacheSlot>,
    len: AtomicUsize,
    lock: SpinLock<{ rank::SLAB_CACHES }, ()>,
}

/// The table, locked for changes.
pub(crate) struct LockedTable<'a> {
    slots: &'a [CacheSlot],
    _guard: SpinGuard<'a, { rank::SLAB_CACHES }, ()>,
}

impl CacheTable {
    pub(crate) fn new() -> Self {
        // INVARIANT: no slots.
        Self { slots: AtomicPtr::new(ptr::dangling_mut()), len: AtomicUsize::new(0), lock: SpinLock::new(()) }
    }

    /// Gives the table its slots.
    ///
    /// # Safety
    /// `room` is zeroed, aligned room for `len` slots that nobody else uses while the machine lives.
    pub(crate) unsafe fn set_slots(&self, room: NonNull<u8>, len: usize) {
        // Relaxed: `len` publishes it.
        self.slots.store(room.cast().as_ptr(), Ordering::Relaxed);
        // INVARIANT: the caller's contract; zeroes are empty slots.
        // Release: pairs with the Acquire in `all`.
        self.len.store(len, Ordering::Release);
    }

    /// Returns all slots; none before the table has room.
    #[inline(always)]
    pub(crate) fn all(&self) -> &[CacheSlot] {
        // Acquire: pairs with the Release in `set_slots`.
        let len = self.len.load(Ordering::Acquire);
        // Relaxed: stored before `len`.
        let slots = self.slots.load(Ordering::Relaxed);
        // SAFETY: by the type invariant `len` slots are there as long as the machine.
        unsafe { core::slice::from_raw_parts(slots, len) }
    }

    /// Returns the cache with a number.
    #[inline(always)]
    pub(crate) fn get(&self, number: u16) -> Option<CachePtr> {
        self.all().get(usize::from(number))?.get()
    }

    /// Returns all caches, lowest number first.
    pub(crate) fn caches(&self) -> impl Iterator<Item = CachePtr> {
        self.all().iter().filter_map(CacheSlot::get)
    }

    pub(crate) fn lock<'a>(&'a self, cpu: &'a Cpu) -> LockedTable<'a> {
        LockedTable { _guard: self.lock.lock(cpu), slots: self.all() }
    }
}

impl LockedTable<'_> {
    pub(crate) fn caches(&self) -> impl Iterator<Item = CachePtr> {
        self.slots.iter().filter_map(CacheSlot::get)
    }

    /// Returns the lowest number that no cache has.
    pub(crate) fn free_number(&self) -> Result<u16, ObjectError> {
        let free = self.slots.iter().position(|slot| slot.get().is_none());
        free.and_then(|number| u16::try_from(number).ok()).ok_or(ObjectError::TooManyCaches)
    }

    /// Enters a cache under its number.
    pub(crate) fn insert(&self, cache: CachePtr) {
        if let Some(slot) = self.slots.get(usize::from(cache.get().number)) {
            slot.set(cache);
        }
    }

    /// Removes the cache with a number.
    pub(crate) fn remove(&self, number: u16) {
        if let Some(slot) = self.slots.get(usize::from(number)) {
            slot.clear();
        }
    }
}
