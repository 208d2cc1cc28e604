//! The cache of one type.

use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};

use page_allocator::{Hooks, NoPressure};
use platform::Platform;
use sync::Cpu;
use units::Gfp;

use super::SlabBox;
use crate::ObjectAllocator;
use crate::error::ObjectError;
use crate::remote_list::RemoteList;
use crate::slab::{CacheFlags, CacheParams, CachePtr, CacheUsage};

/// What a handle needs to give its object back; one for each cache, found from every object of it.
///
/// # Invariants
/// `objects` is the address of the allocator whose type `free` knows; both it and `cache` outlive every object of the cache.
pub(super) struct Core {
    /// Freed where the CPU was not known.
    remote: RemoteList,
    objects: *const (),
    free: unsafe fn(&Self, NonNull<u8>),
    cache: CachePtr,
}

/// Bytes of an object of the cache of cores.
pub(crate) const CORE_BYTES: usize = size_of::<Core>();

/// An object of a typed cache.
#[repr(C)]
pub(super) struct Slot<T> {
    pub(super) value: MaybeUninit<T>,
    pub(super) core: NonNull<Core>,
}

impl Core {
    /// Frees an object from a handle that is dropped.
    ///
    /// # Safety
    /// `object` is an object of this cache whose value is gone, and the caller owns it.
    pub(super) unsafe fn free_dropped(&self, object: NonNull<u8>) {
        // SAFETY: the caller's contract is that of `free`.
        unsafe { (self.free)(self, object) }
    }

    /// Frees on the CPU that runs this, or leaves the object to the next refill.
    ///
    /// # Safety
    /// As [`Core::free_dropped`]; `self.objects` is an `ObjectAllocator<P, H>`.
    unsafe fn free_here<P: Platform, H: Hooks>(&self, object: NonNull<u8>) {
        // SAFETY: by the type invariant the allocator outlives its objects; its type is the caller's contract.
        let objects = unsafe { &*self.objects.cast::<ObjectAllocator<P, H>>() };
        let freed = objects.pages().platform().with_current_cpu(|cpu| objects.free_object(cpu, self.cache, object));
        if freed.is_none() {
            // SAFETY: the object is given up and holds a word: the one that led here lies in it.
            unsafe { self.remote.push(object) };
        }
    }
}

/// A cache of values of type `T` (Linux: KMEM_CACHE).
///
/// Dropping it leaves the cache in place for the handles that exist; [`KmemCache::destroy`] ends it.
///
/// # Invariants
/// `core` is an object of `objects` that stays until `destroy` has found no object of `cache` in use. No other cache shares `cache`.
pub struct KmemCache<'k, T, P: Platform, H: Hooks = NoPressure> {
    objects: &'k ObjectAllocator<P, H>,
    cache: CachePtr,
    core: NonNull<Core>,
    values: PhantomData<fn(T) -> T>,
}

// SAFETY: the core is reached through `&` only and made of atomics and constants; values move between threads as `T: Send` allows.
unsafe impl<T: Send, P: Platform, H: Hooks + Sync> Send for KmemCache<'_, T, P, H> {}

// SAFETY: as for `Send`; all methods that take `&self` may run on several CPUs.
unsafe impl<T: Send, P: Platform, H: Hooks + Sync> Sync for KmemCache<'_, T, P, H> {}

/// A typed cache that cannot be destroyed yet.
pub struct TypedInUse<'k, T, P: Platform, H: Hooks = NoPressure> {
    /// The cache.
    pub cache: KmemCache<'k, T, P, H>,
    /// Values that are alive, or leaked.
    pub alive: u64,
}

impl<'k, T, P: Platform, H: Hooks + Sync> KmemCache<'k, T, P, H> {
    /// Makes a cache. Of `flags` those count that concern memory and checks; it never shares slabs with other caches.
    ///
    /// # Errors
    /// [`ObjectError`]; nothing remains of the attempt.
    pub fn create(
        objects: &'k ObjectAllocator<P, H>,
        cpu: &Cpu,
        name: &str,
        flags: CacheFlags,
    ) -> Result<Self, ObjectError> {
        let flags = (flags - CacheFlags::TYPESAFE_BY_RCU) | CacheFlags::NO_MERGE;
        let params = CacheParams::new(name, size_of::<Slot<T>>()).align(align_of::<Slot<T>>()).flags(flags);
        let cores = objects.internal.cores.get().ok_or(ObjectError::NotStarted)?;
        let room = objects.alloc_object(cpu, cores, Gfp::KERNEL)?.cast::<Core>();
        let made = objects.make_or_merge(cpu, &params);
        let cache = made.inspect_err(|_| objects.free_object(cpu, cores, room.cast()))?;
        // INVARIANT: `objects` is borrowed for `'k`, which no handle outlives; the cache is destroyed only without objects.
        let core = Core {
            remote: RemoteList::new(),
            objects: ptr::from_ref(objects).cast(),
            free: Core::free_here::<P, H>,
            cache,
        };
        // SAFETY: the room is a fresh object of the right size, aligned to words.
        unsafe { room.write(core) };
        Ok(Self { objects, cache, core: room, values: PhantomData })
    }

    fn core(&self) -> &Core {
        // SAFETY: by the type invariant the core lives as long as this value.
        unsafe { self.core.as_ref() }
    }

    /// Allocates room and moves `value` into it. On failure the value is dropped.
    ///
    /// # Errors
    /// [`ObjectError::OutOfMemory`] or [`ObjectError::Impossible`].
    #[inline]
    #[track_caller]
    pub fn alloc(&self, cpu: &Cpu, gfp: Gfp, value: T) -> Result<SlabBox<'k, T>, ObjectError> {
        let object = match self.objects.front(cpu, self.cache).and_then(|front| front.pop(cpu)) {
            Some(object) => object,
            None => self.alloc_slow(cpu, gfp - Gfp::ZERO)?,
        };
        let slot = object.cast::<Slot<T>>();
        // SAFETY: the object has the size and alignment of a slot, by the parameters of its cache, and is this call's alone.
        unsafe { slot.write(Slot { value: MaybeUninit::new(value), core: self.core }) };
        // SAFETY: a slot with a value and the core of its cache, which nobody else has.
        Ok(unsafe { SlabBox::from_slot(slot) })
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn alloc_slow(&self, cpu: &Cpu, gfp: Gfp) -> Result<NonNull<u8>, ObjectError> {
        self.take_remote(cpu);
        self.objects.alloc_object(cpu, self.cache, gfp)
    }

    fn take_remote(&self, cpu: &Cpu) {
        for object in self.core().remote.take() {
            self.objects.free_object(cpu, self.cache, object);
        }
    }

    /// Drops the value and frees its room. A handle of another cache is dropped as it would be by itself.
    #[inline]
    #[track_caller]
    pub fn free(&self, cpu: &Cpu, handle: SlabBox<'k, T>) {
        if handle.core() != self.core {
            return drop(handle);
        }
        let slot = handle.into_slot();
        // SAFETY: the handle owned the value, and its slot is not used after this.
        unsafe { ptr::drop_in_place(slot.cast::<T>().as_ptr()) };
        self.objects.free_object(cpu, self.cache, slot.cast());
    }

    /// Gives pages without values back. Not for interrupt handlers.
    pub fn shrink(&self, cpu: &Cpu) {
        self.take_remote(cpu);
        self.objects.shrink_cache(cpu, self.cache.get());
    }

    /// Returns what the cache holds.
    pub fn usage(&self, cpu: &Cpu) -> CacheUsage {
        self.objects.cache_usage(cpu, self.cache.get())
    }

    /// Ends the cache. Not for interrupt handlers.
    ///
    /// # Errors
    /// [`TypedInUse`] if values are alive.
    #[track_caller]
    pub fn destroy(self, cpu: &Cpu) -> Result<(), TypedInUse<'k, T, P, H>> {
        self.take_remote(cpu);
        match self.objects.release_cache(cpu, self.cache) {
            Ok(()) => {
                // No object is left whose handle could reach the core.
                if let Some(cores) = self.objects.internal.cores.get() {
                    self.objects.free_object(cpu, cores, self.core.cast());
                }
                Ok(())
            }
            Err(alive) => Err(TypedInUse { cache: self, alive }),
        }
    }
}

impl<T, P: Platform, H: Hooks> fmt::Debug for KmemCache<'_, T, P, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KmemCache").field(&self.cache.get().name).finish()
    }
}

impl<T, P: Platform, H: Hooks> fmt::Debug for TypedInUse<'_, T, P, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedInUse").field("cache", &self.cache).field("alive", &self.alive).finish()
    }
}
