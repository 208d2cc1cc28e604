//! A CPU's own objects of a cache: a stack of addresses, filled from and emptied to the node's slabs in batches.
//!
//! Allocation pops, free pushes; neither takes a lock, an atomic read-modify-write or a look at the object or its slab. An object
//! in a front counts as allocated in its slab. The older half goes back when the stack is full, so a CPU that only frees keeps what is warm.
//! Locking: the `OwnerCell` around it. Linux 6.12: kmem_cache_cpu and its partial slabs; 6.18: sheaves.

use core::ptr::{self, NonNull};

use sync::{Cpu, OwnerCell};

/// Room for addresses; a cache uses `capacity` of it.
pub(crate) const SLOTS: usize = 120;

/// The front of one CPU, on cache lines of its own.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct CpuFront(pub(crate) OwnerCell<Front>);

/// A stack of free objects.
///
/// # Invariants
/// `len <= capacity <= SLOTS`; the first `len` slots are addresses of objects of the front's cache that nobody else has.
#[derive(Debug)]
pub(crate) struct Front {
    len: u32,
    capacity: u32,
    slots: [*mut u8; SLOTS],
}

// SAFETY: the addresses stand for objects that the front owns and does not touch.
unsafe impl Send for Front {}

impl CpuFront {
    pub(crate) fn new(cpu_tag: u64, capacity: u32) -> Self {
        // INVARIANT: an empty stack; `capacity` is cut to the room.
        let front = Front { len: 0, capacity: capacity.min(SLOTS as u32), slots: [ptr::null_mut(); SLOTS] };
        Self(OwnerCell::new(cpu_tag, front))
    }

    /// Takes an object, if this is the CPU's own front, nobody is inside and it is not empty.
    #[inline(always)]
    pub(crate) fn pop(&self, cpu: &Cpu) -> Option<NonNull<u8>> {
        self.0.try_with(cpu, Front::pop).flatten()
    }

    /// Adds an object; false if this is not the CPU's own front, somebody is inside or it is full.
    #[inline(always)]
    pub(crate) fn push(&self, cpu: &Cpu, object: NonNull<u8>) -> bool {
        self.0.try_with(cpu, |front| front.push(object)) == Some(true)
    }
}

impl Front {
    /// Takes the object that was added last.
    #[inline(always)]
    pub(crate) fn pop(&mut self) -> Option<NonNull<u8>> {
        let len = self.len.checked_sub(1)?;
        self.len = len;
        // SAFETY: `len < SLOTS` by the type invariant.
        NonNull::new(unsafe { *self.slots.get_unchecked(len as usize) })
    }

    /// Adds an object; false if the front is full.
    #[inline(always)]
    pub(crate) fn push(&mut self, object: NonNull<u8>) -> bool {
        if self.len >= self.capacity {
            return false;
        }
        // SAFETY: `len < capacity <= SLOTS` by the type invariant.
        *unsafe { self.slots.get_unchecked_mut(self.len as usize) } = object.as_ptr();
        // INVARIANT: the slot was just set, and `len` was below `capacity`.
        self.len += 1;
        true
    }

    /// Returns the number of objects.
    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    /// Returns how many objects move at a time: half of the capacity.
    pub(crate) const fn batch(&self) -> u32 {
        self.capacity.div_ceil(2)
    }

    /// Takes up to `objects.len()` objects, the last added first; returns how many.
    pub(crate) fn pop_many(&mut self, objects: &mut [*mut u8]) -> usize {
        let count = objects.len().min(self.len as usize);
        let rest = self.len as usize - count;
        if let (Some(from), Some(to)) = (self.slots.get(rest..rest + count), objects.get_mut(..count)) {
            to.copy_from_slice(from);
        }
        // INVARIANT: the objects above belong to the caller from here on.
        self.len = rest as u32;
        count
    }

    /// Adds objects while there is room; returns how many were taken.
    pub(crate) fn push_many(&mut self, objects: &[*mut u8]) -> usize {
        let start = self.len as usize;
        let count = objects.len().min(self.capacity as usize - start);
        if let (Some(to), Some(from)) = (self.slots.get_mut(start..start + count), objects.get(..count)) {
            to.copy_from_slice(from);
        }
        // INVARIANT: `count` more slots were set, and `start + count <= capacity`.
        self.len += count as u32;
        count
    }

    /// Hands the oldest `count` objects to `take` and forgets them.
    pub(crate) fn flush(&mut self, count: u32, take: impl FnOnce(&[*mut u8])) {
        let (count, len) = (count.min(self.len) as usize, self.len as usize);
        take(self.slots.get(..count).unwrap_or_default());
        self.slots.copy_within(count..len, 0);
        // INVARIANT: the objects that are left were moved to the front.
        self.len = (len - count) as u32;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use units::CpuId;

    use super::*;

    fn object(number: usize) -> NonNull<u8> {
        NonNull::new(ptr::without_provenance_mut(number)).unwrap()
    }

    fn with_front(capacity: u32, test: impl FnOnce(&mut Front)) {
        // SAFETY: each test calls this once, and machine numbers of other tests of this file end with their scope.
        let cpu = unsafe { Cpu::new(900 + capacity, CpuId::ZERO, sync::IrqControl::NONE) };
        CpuFront::new(cpu.tag(), capacity).0.try_with(&cpu, test).unwrap();
    }

    #[test]
    fn what_was_freed_last_is_handed_out_first() {
        with_front(2, |front| {
            assert!(front.push(object(1)) && front.push(object(2)));
            assert!(!front.push(object(3)));
            assert_eq!((front.pop(), front.pop(), front.pop()), (Some(object(2)), Some(object(1)), None));
        });
    }

    #[test]
    fn the_oldest_objects_are_flushed() {
        with_front(4, |front| {
            (1..=4).for_each(|number| assert!(front.push(object(number))));
            front.flush(front.batch(), |old| assert_eq!(old, [object(1).as_ptr(), object(2).as_ptr()]));
            assert_eq!((front.pop(), front.pop(), front.len()), (Some(object(4)), Some(object(3)), 0));
        });
    }

    #[test]
    fn many_objects_move_as_far_as_they_fit() {
        with_front(3, |front| {
            let objects: [*mut u8; 4] = [1, 2, 3, 4].map(|number| object(number).as_ptr());
            assert_eq!(front.push_many(&objects), 3);
            let mut out = [ptr::null_mut(); 2];
            assert_eq!((front.pop_many(&mut out), out), (2, [objects[1], objects[2]]));
            assert_eq!((front.pop_many(&mut out), out[0], front.len()), (1, objects[0], 0));
        });
    }
}
