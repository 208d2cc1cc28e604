//! Registration of shrinkers in the machine's own memory, and the call that reclaim makes.
//!
//! Linux 6.12: `shrinker_alloc`, `shrinker_register`, `shrinker_free`, `shrink_slab`.

use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;
use units::{Gfp, NodeId};

use super::list::{Entry, NewEntry};
use super::pressure::{Shrunk, shrink_one};
use super::{ShrinkControl, Shrinker, ShrinkerFlags, ShrinkerParams};
use crate::ObjectAllocator;
use crate::error::ObjectError;
use crate::vmstat::VmEvent;

/// A shrinker with its entry, in one object of kmalloc.
#[repr(C)]
struct Registered<S> {
    entry: Entry,
    shrinker: S,
}

/// Handle of a registered shrinker. Dropping it leaves the shrinker registered.
///
/// # Invariants
/// `registered` is on the list of the allocator that the handle came from.
pub struct RegisteredShrinker<'k, S, P: Platform, H: Hooks> {
    objects: &'k ObjectAllocator<P, H>,
    registered: NonNull<Registered<S>>,
}

/// The shrinker runs on another CPU; it is not called again, and can be unregistered once it has returned.
pub struct StillRunning<'k, S, P: Platform, H: Hooks>(pub RegisteredShrinker<'k, S, P, H>);

/// A call of reclaim (Linux: the arguments of shrink_slab).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShrinkSlab {
    /// Flags of the allocation that reclaim is for.
    pub gfp: Gfp,
    /// Node that is short of memory.
    pub node: NodeId,
    /// Pressure: 12 for the least, 0 for the whole cache.
    pub priority: u32,
}

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Registers a shrinker: from here on reclaim may call it.
    ///
    /// # Errors
    /// [`ObjectError`] if there is no memory for it; the shrinker is dropped.
    pub fn register_shrinker<S: Shrinker + Send + 'static>(
        &self,
        cpu: &Cpu,
        params: ShrinkerParams,
        shrinker: S,
    ) -> Result<RegisteredShrinker<'_, S, P, H>, ObjectError> {
        // SAFETY: it borrows nothing.
        unsafe { self.register_borrowing(cpu, params, shrinker) }
    }

    /// Registers a shrinker that borrows from others.
    ///
    /// # Errors
    /// As [`ObjectAllocator::register_shrinker`].
    ///
    /// # Safety
    /// It is unregistered before what it borrows goes away.
    pub unsafe fn register_borrowing<S: Shrinker + Send>(
        &self,
        cpu: &Cpu,
        params: ShrinkerParams,
        shrinker: S,
    ) -> Result<RegisteredShrinker<'_, S, P, H>, ObjectError> {
        const { assert!(align_of::<Registered<S>>() <= 8, "kmalloc aligns to words") };
        let nr_deferred = if params.flags.contains(ShrinkerFlags::NUMA_AWARE) { self.node_slots() } else { 1 };
        let place = self.kmalloc(cpu, size_of::<Registered<S>>(), Gfp::KERNEL)?.cast::<Registered<S>>();
        let deferred = match self.kmalloc(cpu, nr_deferred * size_of::<AtomicU64>(), Gfp::KERNEL | Gfp::ZERO) {
            Ok(deferred) => deferred.cast::<AtomicU64>(),
            Err(error) => {
                // SAFETY: kmalloc just returned it.
                unsafe { self.kfree(cpu, place.cast()) };
                return Err(error);
            }
        };
        // SAFETY: the field is inside the object.
        let field = unsafe { place.byte_add(core::mem::offset_of!(Registered<S>, shrinker)) }.cast::<S>();
        let erased: NonNull<dyn Shrinker + '_> = field;
        // SAFETY: only the lifetime changes; by the caller's contract the shrinker is gone from the list before what it borrows.
        let erased = unsafe { core::mem::transmute::<NonNull<dyn Shrinker + '_>, NonNull<dyn Shrinker>>(erased) };
        let entry = Entry::new(NewEntry { shrinker: erased, params, deferred, nr_deferred });
        // SAFETY: kmalloc returned room for it, aligned, that nobody else uses.
        unsafe { place.write(Registered { entry, shrinker }) };
        // SAFETY: the object stays until `unregister` has taken the entry off the list; the entry is its first field.
        unsafe { self.shrinkers().insert(cpu, place.cast()) };
        // INVARIANT: just listed.
        Ok(RegisteredShrinker { objects: self, registered: place })
    }

    /// Runs every shrinker for a node (Linux: shrink_slab). For reclaim; no locks may be held.
    pub fn shrink_slab(&self, cpu: &Cpu, call: &ShrinkSlab) -> Shrunk {
        let mut all = Shrunk::default();
        let mut held = self.shrinkers().next(cpu, None);
        while let Some(running) = held {
            // SAFETY: held, so it exists with everything that it points to; these fields never change.
            let entry = unsafe { running.entry().as_ref() };
            let aware = entry.params.flags.contains(ShrinkerFlags::NUMA_AWARE);
            let node = if aware { call.node } else { NodeId::ZERO };
            if node.index() < entry.nr_deferred {
                // SAFETY: there are `nr_deferred` counts.
                let deferred = unsafe { entry.deferred.add(node.index()) };
                // SAFETY: as above; counts are atomics.
                let deferred = unsafe { deferred.as_ref() };
                // SAFETY: held, so the shrinker exists; it is shared as `Shrinker: Sync` allows.
                let shrinker = unsafe { entry.shrinker.as_ref() };
                let control = ShrinkControl { cpu, gfp: call.gfp, node };
                let one = shrink_one(shrinker, &entry.params, deferred, &control, call.priority);
                all.freed += one.freed;
                all.scanned += one.scanned;
            }
            held = self.shrinkers().next(cpu, Some(running));
        }
        self.vmstat().count_events(cpu, VmEvent::SlabsScanned, all.scanned);
        all
    }
}

impl<'k, S: Shrinker, P: Platform, H: Hooks> RegisteredShrinker<'k, S, P, H> {
    /// Returns the shrinker.
    pub fn get(&self) -> &S {
        // SAFETY: by the type invariant it is registered, so it exists; everybody shares it.
        let registered = unsafe { self.registered.as_ref() };
        &registered.shrinker
    }

    /// Returns the work that is left for later calls on a node.
    pub fn deferred(&self, node: NodeId) -> u64 {
        // SAFETY: as in `get`; these fields never change.
        let entry = unsafe { self.registered.as_ref() };
        if node.index() >= entry.entry.nr_deferred {
            return 0;
        }
        // SAFETY: there are `nr_deferred` counts.
        let count = unsafe { entry.entry.deferred.add(node.index()) };
        // SAFETY: as above. Relaxed: a count.
        unsafe { count.as_ref() }.load(Ordering::Relaxed)
    }

    /// Unregisters the shrinker and returns it (Linux: shrinker_free, which waits where this returns an error).
    ///
    /// # Errors
    /// [`StillRunning`] while a scan runs it; try again later. No new scan starts meanwhile.
    pub fn unregister(self, cpu: &Cpu) -> Result<S, StillRunning<'k, S, P, H>> {
        // SAFETY: by the type invariant it is on the list.
        if !unsafe { self.objects.shrinkers().remove(cpu, self.registered.cast()) } {
            return Err(StillRunning(self));
        }
        // SAFETY: off the list, it is reached through this handle only, which ends here.
        let Registered { entry, shrinker } = unsafe { self.registered.read() };
        for object in [entry.deferred.cast(), self.registered.cast()] {
            // SAFETY: kmalloc returned both, and nobody uses them any more.
            unsafe { self.objects.kfree(cpu, object) };
        }
        Ok(shrinker)
    }
}

// SAFETY: the handle gives the shrinker to whoever holds it, which needs what `S` needs to be sent and shared.
unsafe impl<S: Send + Sync, P: Platform, H: Hooks> Send for RegisteredShrinker<'_, S, P, H> where
    ObjectAllocator<P, H>: Sync
{
}

impl<S, P: Platform, H: Hooks> fmt::Debug for RegisteredShrinker<'_, S, P, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisteredShrinker").finish_non_exhaustive()
    }
}

impl<S, P: Platform, H: Hooks> fmt::Debug for StillRunning<'_, S, P, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StillRunning").field(&self.0).finish()
    }
}
