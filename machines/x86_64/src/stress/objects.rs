//! One CPU's random kmalloc and kfree of all sizes, every object stamped at both ends while it is held.
//!
//! Objects change hands between CPUs through the exchange; interrupt handlers use the same two calls for objects of their own.

use core::ptr::NonNull;

use object_allocator::ObjectAllocator;
use page_allocator::Hooks;
use platform::Platform;
use sync::{Cpu, SpinLock, rank};
use units::{Gfp, VirtAddr};

use super::rng::Rng;
use super::worker::{Counts, Fault};

/// Objects that a worker holds at most.
const SLOTS: usize = 128;
/// Objects that wait for another CPU at most.
const EXCHANGE: usize = 32;
/// One of so many steps first empties the fronts of all CPUs, which needs barriers on them.
const SHRINK: u64 = 2000;
/// Sizes reach two to this power: past what caches serve, into blocks of pages.
const MAX_SIZE_BITS: u64 = 14;

/// Requests that take turns.
const REQUESTS: [Gfp; 6] = [
    Gfp::KERNEL,
    Gfp::ATOMIC,
    Gfp::KERNEL.union(Gfp::ZERO),
    Gfp::KERNEL.union(Gfp::RECLAIMABLE),
    Gfp::NOWAIT,
    Gfp::NOFS.union(Gfp::DMA),
];

/// An object with a stamp at both ends.
///
/// # Invariants
/// `object` came from kmalloc with `size`, and nobody else uses it, as far as the allocator is right.
#[derive(Debug)]
pub(crate) struct HeldObject {
    object: NonNull<u8>,
    size: usize,
    stamp: u64,
}

// SAFETY: by the type invariant the value is the only user of its memory.
unsafe impl Send for HeldObject {}

/// Objects on their way to another CPU.
pub(crate) type ObjectExchange = [SpinLock<{ rank::LEAF }, Option<HeldObject>>; EXCHANGE];

/// Makes an exchange without objects.
pub(crate) const fn new_object_exchange() -> ObjectExchange {
    [const { SpinLock::new(None) }; EXCHANGE]
}

impl HeldObject {
    /// Allocates an object, checks what was promised of it and stamps it; `None` if there is no memory.
    pub(crate) fn allocate<P: Platform, H: Hooks>(
        objects: &ObjectAllocator<P, H>,
        cpu: &Cpu,
        gfp: Gfp,
        size: usize,
        stamp: u64,
    ) -> Result<Option<Self>, Fault> {
        let Ok(object) = objects.kmalloc(cpu, size, gfp | Gfp::NOWARN) else { return Ok(None) };
        // INVARIANT: just allocated.
        let held = Self { object, size, stamp };
        let align = if size.is_power_of_two() { size.clamp(8, 4096) } else { 8 };
        if !object.addr().get().is_multiple_of(align) {
            return Err(Fault::WrongObject(held.address(), size));
        }
        if gfp.contains(Gfp::ZERO) && (0..size).any(|at| held.read(at) != 0) {
            return Err(Fault::ObjectNotZero(held.address(), size));
        }
        held.places().for_each(|at| held.write(at, held.stamp_at(at)));
        Ok(Some(held))
    }

    /// Checks the stamps and frees the object.
    pub(crate) fn free<P: Platform, H: Hooks>(self, objects: &ObjectAllocator<P, H>, cpu: &Cpu) -> Result<(), Fault> {
        if self.places().any(|at| self.read(at) != self.stamp_at(at)) {
            return Err(Fault::SharedObject { address: self.address(), size: self.size, stamp: self.stamp });
        }
        // SAFETY: kmalloc gave it by the type invariant, and this value, its only user, ends here.
        unsafe { objects.kfree(cpu, self.object) };
        Ok(())
    }

    fn address(&self) -> VirtAddr {
        VirtAddr::new(self.object.addr().get() as u64)
    }

    /// Offsets of the stamped bytes: the first and the last eight.
    fn places(&self) -> impl Iterator<Item = usize> + use<> {
        let tail = self.size.saturating_sub(8).max(8.min(self.size));
        (0..self.size.min(8)).chain(tail..self.size)
    }

    /// Returns the stamp's byte for an offset.
    const fn stamp_at(&self, offset: usize) -> u8 {
        self.stamp.to_le_bytes()[offset % 8]
    }

    fn at(&self, offset: usize) -> NonNull<u8> {
        debug_assert!(offset < self.size, "the byte is inside the object");
        // SAFETY: inside the object, see the callers and the type invariant.
        unsafe { self.object.add(offset) }
    }

    fn read(&self, offset: usize) -> u8 {
        // SAFETY: a byte of an object that is held; volatile, since another owner's write is what is looked for.
        unsafe { self.at(offset).read_volatile() }
    }

    fn write(&self, offset: usize, byte: u8) {
        // SAFETY: a byte of an object that is held.
        unsafe { self.at(offset).write_volatile(byte) };
    }
}

/// One CPU's work.
pub(crate) struct ObjectWorker<'a, P: Platform, H: Hooks> {
    objects: &'a ObjectAllocator<P, H>,
    exchange: &'a ObjectExchange,
    rng: Rng,
    /// Stamp of the next object: the CPU in the upper half, a count in the lower.
    next_stamp: u64,
    slots: [Option<HeldObject>; SLOTS],
    pub(crate) counts: Counts,
}

impl<'a, P: Platform, H: Hooks> ObjectWorker<'a, P, H> {
    /// Makes the worker number `number`; no two that run together may have the same.
    pub(crate) fn new(objects: &'a ObjectAllocator<P, H>, exchange: &'a ObjectExchange, number: u64) -> Self {
        Self {
            objects,
            exchange,
            rng: Rng::new(number + 1001),
            next_stamp: (number + 1) << 32,
            slots: [const { None }; SLOTS],
            counts: Counts::default(),
        }
    }

    /// Fills a random slot, and frees what was there or what another CPU left for it.
    pub(crate) fn step(&mut self, cpu: &Cpu) -> Result<(), Fault> {
        if self.rng.below(SHRINK) == 0 {
            self.objects.shrink_caches(cpu);
        }
        let fresh = self.allocate(cpu)?;
        let slot = self.rng.below(SLOTS as u64) as usize;
        let place = self.rng.below(4 * EXCHANGE as u64) as usize;
        let old = self.slots.get_mut(slot).and_then(|slot| core::mem::replace(slot, fresh));
        match (old, self.exchange.get(place)) {
            (Some(old), Some(place)) => {
                let other = place.lock(cpu).replace(old);
                self.free(cpu, other)
            }
            (old, _) => self.free(cpu, old),
        }
    }

    /// Frees every slot and what waits in the exchange.
    pub(crate) fn finish(&mut self, cpu: &Cpu) -> Result<(), Fault> {
        for slot in 0..SLOTS {
            let held = self.slots.get_mut(slot).and_then(Option::take);
            self.free(cpu, held)?;
        }
        self.exchange.iter().try_for_each(|place| {
            let waiting = place.lock(cpu).take();
            self.free(cpu, waiting)
        })
    }

    fn allocate(&mut self, cpu: &Cpu) -> Result<Option<HeldObject>, Fault> {
        let gfp = REQUESTS[self.rng.below(REQUESTS.len() as u64) as usize];
        let limit = 1 << self.rng.below(MAX_SIZE_BITS + 1);
        let size = 1 + self.rng.below(limit) as usize;
        let held = HeldObject::allocate(self.objects, cpu, gfp, size, self.next_stamp)?;
        self.next_stamp += 1;
        let counter = if held.is_some() { &mut self.counts.allocated } else { &mut self.counts.failed };
        *counter += 1;
        Ok(held)
    }

    fn free(&mut self, cpu: &Cpu, held: Option<HeldObject>) -> Result<(), Fault> {
        let Some(held) = held else { return Ok(()) };
        held.free(self.objects, cpu)?;
        self.counts.freed += 1;
        Ok(())
    }
}
