//! Caches of one type whose memory stays of that type: VMAs, mm_structs, nodes of range trees.
//!
//! Who holds a [`Stable`] may look at the object at any time, even after it was freed: it then sees a valid object, perhaps another one. So lookups
//! that take no lock need no unsafe code: they look, and then make sure that what they found is still what they wanted.
//! The price is that a cache's slabs stay with it until its machine ends, as long as no grace period says when nobody looks any more.
//! Linux 6.12: SLAB_TYPESAFE_BY_RCU, KMEM_CACHE.

use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;

use collections::range_tree::{Node, NodeSource, Word};
use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;
use units::Gfp;

use super::params::{CacheFlags, CacheParams};
use super::raw_cache::RawCache;
use crate::ObjectAllocator;
use crate::error::ObjectError;

/// Types that a [`StableCache`] can hold: shared by all who hold a handle, so changed through atomics or locks of their own.
pub trait TypeStable: Sync + Sized {
    /// Returns what an object is before its first use. It is never dropped.
    fn fresh() -> Self;
}

impl TypeStable for Node {
    fn fresh() -> Self {
        Self::new()
    }
}

/// Handle of an object of a [`StableCache`], allocated or already freed. Equal if it is the same object.
///
/// # Invariants
/// `object` points to a `T` that stays one for `'k`.
pub struct Stable<'k, T> {
    object: NonNull<T>,
    cache: PhantomData<&'k T>,
}

impl<'k, T> Stable<'k, T> {
    /// Returns the object for as long as its cache's machine.
    #[inline]
    pub const fn get(self) -> &'k T {
        // SAFETY: by the type invariant a `T` for `'k`; only shared references to it exist.
        unsafe { self.object.as_ref() }
    }
}

impl<T> Clone for Stable<'_, T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Stable<'_, T> {}

impl<T> PartialEq for Stable<'_, T> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.object == other.object
    }
}

impl<T> Eq for Stable<'_, T> {}

impl<T> fmt::Debug for Stable<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No address: output must not depend on where the host put the machine.
        f.write_str("Stable(..)")
    }
}

// SAFETY: a handle gives shared references only, and `T: Sync`.
unsafe impl<T: Sync> Send for Stable<'_, T> {}
// SAFETY: as for `Send`.
unsafe impl<T: Sync> Sync for Stable<'_, T> {}

impl<T> Deref for Stable<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.get()
    }
}

impl<T: Sync> Word for Stable<'_, T> {
    #[inline]
    fn to_word(self) -> *mut () {
        self.object.as_ptr().cast()
    }

    #[inline]
    unsafe fn from_word(word: *mut ()) -> Self {
        // SAFETY: by the caller's contract the word is the address of a handle's object, which is not null.
        let object = unsafe { NonNull::new_unchecked(word) };
        // INVARIANT: that of the handle which the word was made of.
        Self { object: object.cast(), cache: PhantomData }
    }
}

/// A cache of objects that stay a `T`.
pub struct StableCache<'k, T, P: Platform, H: Hooks> {
    raw: RawCache<'k, P, H>,
    object: PhantomData<T>,
}

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Makes a cache of objects that stay a `T` as long as the machine. Its slabs are never given back.
    ///
    /// # Errors
    /// [`ObjectError`]; nothing remains of the attempt.
    pub fn create_stable_cache<'k, T: TypeStable>(
        &'k self,
        cpu: &Cpu,
        name: &str,
    ) -> Result<StableCache<'k, T, P, H>, ObjectError> {
        const { assert!(!core::mem::needs_drop::<T>(), "objects of a stable cache are never dropped") };
        let flags = CacheFlags::TYPESAFE_BY_RCU | CacheFlags::KEEP_SLABS;
        let params = CacheParams::new(name, size_of::<T>()).align(align_of::<T>()).flags(flags);
        // SAFETY: `init` writes a `T` and nothing else, and objects have its size and alignment.
        let params = unsafe { params.ctor(init::<T>) };
        Ok(StableCache { raw: self.create_cache(cpu, &params)?, object: PhantomData })
    }
}

/// Writes the first content of an object.
///
/// # Safety
/// `object` is valid for writes of a `T` and aligned for it.
unsafe fn init<T: TypeStable>(object: NonNull<u8>) {
    // SAFETY: the caller's contract.
    unsafe { object.cast::<T>().write(T::fresh()) };
}

impl<'k, T: TypeStable, P: Platform, H: Hooks> StableCache<'k, T, P, H> {
    /// Allocates an object. It holds what its last owner left, or [`TypeStable::fresh`].
    ///
    /// # Errors
    /// [`ObjectError::OutOfMemory`] or [`ObjectError::Impossible`].
    #[inline]
    pub fn alloc(&self, cpu: &Cpu, gfp: Gfp) -> Result<Stable<'k, T>, ObjectError> {
        let object = self.raw.alloc(cpu, gfp - Gfp::ZERO)?.cast();
        // INVARIANT: the constructor made a `T` of it. Nobody overwrites it but as a `T`, and the cache keeps its slabs.
        Ok(Stable { object, cache: PhantomData })
    }

    /// Frees an object of this cache. Handles stay valid, but the object may become another one.
    ///
    /// An object that is freed twice may get two owners, each of which sees a valid object that the other changes. An object of another cache
    /// is not freed, which a debug build reports.
    #[inline]
    pub fn free(&self, cpu: &Cpu, object: Stable<'k, T>) {
        if !self.raw.holds(object.object.cast()) {
            debug_assert!(false, "an object goes back to the cache that it came from");
            return;
        }
        // SAFETY: the object is of this cache; whoever still looks at it finds a `T`, since the slabs stay.
        unsafe { self.raw.free(cpu, object.object.cast()) };
    }

    /// Returns the untyped cache.
    pub const fn raw(&self) -> &RawCache<'k, P, H> {
        &self.raw
    }
}

impl<T, P: Platform, H: Hooks> fmt::Debug for StableCache<'_, T, P, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StableCache").field(&self.raw.name()).finish()
    }
}

/// Supplier of nodes from a cache of them, on one CPU.
#[derive(Debug)]
pub struct CachedNodes<'a, 'k, P: Platform, H: Hooks> {
    /// The cache.
    pub cache: &'a StableCache<'k, Node, P, H>,
    /// The CPU.
    pub cpu: &'a Cpu,
    /// How to allocate.
    pub gfp: Gfp,
}

// SAFETY: the constructor makes nodes with `Node::new`, the cache's memory stays nodes after `free`, and the slab hands an object to one
// owner at a time, under a lock or on one CPU.
unsafe impl<P: Platform, H: Hooks> NodeSource for CachedNodes<'_, '_, P, H> {
    fn alloc(&mut self) -> Option<NonNull<Node>> {
        Some(self.cache.alloc(self.cpu, self.gfp).ok()?.object)
    }

    fn free(&mut self, node: NonNull<Node>) {
        // INVARIANT: the caller gives back a node that `alloc` returned.
        self.cache.free(self.cpu, Stable { object: node, cache: PhantomData });
    }
}
