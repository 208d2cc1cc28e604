//! Memory pools: a few elements kept in reserve, so that work which frees memory can always go on.
//!
//! A [`MemPool`] asks its source first and takes from the reserve when the source has nothing; what is freed refills the reserve before
//! it goes back to the source. Used by whoever must not fail while memory is being written out or given back.
//! Locking: `rank::MEMPOOL` guards the reserve; the source is called without it. Linux 6.12: mm/mempool.c.

use core::fmt;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use page_allocator::Hooks;
use platform::Platform;
use sync::{Cpu, SpinLock, rank};
use units::Gfp;

use crate::ObjectAllocator;
use crate::error::ObjectError;

mod source;
#[cfg(all(test, not(loom)))]
mod tests;

pub use source::{ElementSource, KmallocElements, PageElements, PoolMemory, SlabElements};

/// Why a pool gave nothing. One variant per reaction of the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PoolError {
    /// The source and the reserve are empty, and the flags forbid to wait.
    OutOfMemory,
    /// The source and the reserve are empty; once someone frees an element, this call succeeds.
    WouldBlock,
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory => f.write_str("the pool is empty"),
            Self::WouldBlock => f.write_str("the pool is empty until an element is freed"),
        }
    }
}

impl core::error::Error for PoolError {}

/// Where a freed element went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refill {
    /// Into the reserve: whoever waits for an element can be woken.
    Reserved,
    /// Back to the source; the reserve is full.
    Released,
}

/// Elements in reserve.
///
/// # Invariants
/// `slots` points to room for `capacity` elements in an object of kmalloc; the first `len` are initialised.
struct Reserve<E> {
    slots: NonNull<MaybeUninit<E>>,
    capacity: usize,
    len: usize,
}

// SAFETY: the reserve is the only way to its elements and their room.
unsafe impl<E: Send> Send for Reserve<E> {}

impl<E> Reserve<E> {
    fn push(&mut self, element: E) -> Result<(), E> {
        if self.len == self.capacity {
            return Err(element);
        }
        // SAFETY: `len < capacity`, so by the type invariant the slot is inside the room.
        let mut slot = unsafe { self.slots.add(self.len) };
        // SAFETY: as above; `&mut self` makes this the only reference.
        unsafe { slot.as_mut() }.write(element);
        self.len += 1;
        Ok(())
    }

    fn pop(&mut self) -> Option<E> {
        self.len = self.len.checked_sub(1)?;
        // SAFETY: the slot is below the old `len`, so inside the room.
        let slot = unsafe { self.slots.add(self.len) };
        // SAFETY: as above.
        let slot = unsafe { slot.as_ref() };
        // SAFETY: below the old `len` slots are initialised; this one is above the `len` of now, so nobody reads it again.
        Some(unsafe { slot.assume_init_read() })
    }
}

/// A pool with a reserve. Dropping it leaks the reserve; [`MemPool::destroy`] gives it back.
#[must_use = "dropping the pool leaks its reserve"]
pub struct MemPool<'k, S: ElementSource, P: Platform, H: Hooks> {
    objects: &'k ObjectAllocator<P, H>,
    source: S,
    reserve: SpinLock<{ rank::MEMPOOL }, Reserve<S::Element>>,
}

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Makes a pool that keeps `min_nr` elements of `source` in reserve, one at least (Linux: mempool_create).
    ///
    /// # Errors
    /// [`ObjectError`] if the reserve cannot be filled; nothing remains then.
    pub fn create_mempool<'k, S: ElementSource>(
        &'k self,
        cpu: &Cpu,
        min_nr: usize,
        source: S,
    ) -> Result<MemPool<'k, S, P, H>, ObjectError> {
        let reserve = self.empty_reserve(cpu, min_nr)?;
        let pool = MemPool { objects: self, source, reserve: SpinLock::new(reserve) };
        match pool.fill(cpu) {
            Ok(()) => Ok(pool),
            Err(error) => {
                pool.destroy(cpu);
                Err(error)
            }
        }
    }

    fn empty_reserve<E>(&self, cpu: &Cpu, min_nr: usize) -> Result<Reserve<E>, ObjectError> {
        let capacity = min_nr.max(1);
        let bytes = capacity.checked_mul(size_of::<E>()).ok_or(ObjectError::Impossible)?;
        // kmalloc aligns to 8, and elements are words.
        const { assert!(align_of::<E>() <= 8, "elements of a pool are aligned as words are") };
        let slots = self.kmalloc(cpu, bytes, Gfp::KERNEL)?.cast();
        // INVARIANT: the object is as long as `capacity` elements; none is initialised.
        Ok(Reserve { slots, capacity, len: 0 })
    }
}

impl<S: ElementSource, P: Platform, H: Hooks> MemPool<'_, S, P, H> {
    /// Allocates an element: from the source if it has one at once, else from the reserve, else from the source after it tried hard
    /// (Linux: mempool_alloc).
    ///
    /// # Errors
    /// [`PoolError`].
    pub fn alloc(&self, cpu: &Cpu, gfp: Gfp) -> Result<S::Element, PoolError> {
        // The reserve is for trouble, so the source need not enter its own, nor complain.
        let patient = gfp | Gfp::NOMEMALLOC | Gfp::NORETRY | Gfp::NOWARN;
        let eager = patient - Gfp::DIRECT_RECLAIM - Gfp::IO;
        for flags in [Some(eager), (eager != patient).then_some(patient)].into_iter().flatten() {
            if let Ok(element) = self.source.alloc(cpu, flags) {
                return Ok(element);
            }
            if let Some(element) = self.reserve.lock(cpu).pop() {
                return Ok(element);
            }
        }
        Err(if gfp.may_block() { PoolError::WouldBlock } else { PoolError::OutOfMemory })
    }

    /// Allocates an element, calling `wait` whenever nothing can be had before one is freed.
    ///
    /// # Errors
    /// [`PoolError::OutOfMemory`] if the flags forbid to wait.
    pub fn alloc_waiting(&self, cpu: &Cpu, gfp: Gfp, mut wait: impl FnMut()) -> Result<S::Element, PoolError> {
        loop {
            match self.alloc(cpu, gfp) {
                Err(PoolError::WouldBlock) => wait(),
                outcome => return outcome,
            }
        }
    }

    /// Takes an element from the reserve without asking the source (Linux: mempool_alloc_preallocated).
    pub fn alloc_preallocated(&self, cpu: &Cpu) -> Option<S::Element> {
        self.reserve.lock(cpu).pop()
    }

    /// Takes an element back: into the reserve if that is not full (Linux: mempool_free).
    pub fn free(&self, cpu: &Cpu, element: S::Element) -> Refill {
        let refused = self.reserve.lock(cpu).push(element);
        match refused {
            Ok(()) => Refill::Reserved,
            Err(element) => {
                self.source.free(cpu, element);
                Refill::Released
            }
        }
    }

    /// Changes the size of the reserve to `min_nr`, one at least, and fills it (Linux: mempool_resize).
    ///
    /// # Errors
    /// [`ObjectError`]: if there is no room for a larger reserve, nothing has changed; if the source gave too few elements, the reserve is
    /// larger but not full, and frees fill it.
    pub fn resize(&self, cpu: &Cpu, min_nr: usize) -> Result<(), ObjectError> {
        let mut fresh = Some(self.objects.empty_reserve(cpu, min_nr)?);
        let mut surplus = {
            let mut reserve = self.reserve.lock(cpu);
            let mut old = match fresh.take() {
                Some(fresh) => core::mem::replace(&mut *reserve, fresh),
                None => return Ok(()),
            };
            while reserve.len < reserve.capacity {
                let Some(element) = old.pop() else { break };
                if let Err(element) = reserve.push(element) {
                    // The room was just asked for.
                    debug_assert!(old.push(element).is_ok(), "a slot that was just emptied is free");
                    break;
                }
            }
            old
        };
        while let Some(element) = surplus.pop() {
            self.source.free(cpu, element);
        }
        self.free_room(cpu, &surplus);
        self.fill(cpu)
    }

    /// Fills the reserve from the source.
    fn fill(&self, cpu: &Cpu) -> Result<(), ObjectError> {
        loop {
            {
                let reserve = self.reserve.lock(cpu);
                if reserve.len == reserve.capacity {
                    return Ok(());
                }
            }
            let element = self.source.alloc(cpu, Gfp::KERNEL)?;
            // Others may have filled it meanwhile; then this one goes back.
            self.free(cpu, element);
        }
    }

    fn free_room(&self, cpu: &Cpu, reserve: &Reserve<S::Element>) {
        // SAFETY: by the invariant of the reserve it is an object of kmalloc, and the caller holds the reserve's last use.
        unsafe { self.objects.kfree(cpu, reserve.slots.cast()) };
    }

    /// Returns the elements in reserve, and how many there should be.
    pub fn reserve(&self, cpu: &Cpu) -> (usize, usize) {
        let reserve = self.reserve.lock(cpu);
        (reserve.len, reserve.capacity)
    }

    /// Returns the source.
    pub const fn source(&self) -> &S {
        &self.source
    }

    /// Gives the reserve back and returns the source (Linux: mempool_destroy). Elements that are still out go back to it one by one.
    pub fn destroy(self, cpu: &Cpu) -> S {
        while let Some(element) = self.alloc_preallocated(cpu) {
            self.source.free(cpu, element);
        }
        self.free_room(cpu, &self.reserve.lock(cpu));
        self.source
    }
}

impl<S: ElementSource, P: Platform, H: Hooks> fmt::Debug for MemPool<'_, S, P, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemPool").finish_non_exhaustive()
    }
}
