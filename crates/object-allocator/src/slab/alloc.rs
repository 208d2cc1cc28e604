//! Allocation: from the CPU's front, else a batch from the node's slabs, else a slab of fresh pages.
//!
//! Fronts are left before pages are asked for: the page allocator may reclaim, and a CPU that waits for another's front must not
//! wait for that. Linux 6.12: mm/slub.c (`slab_alloc_node`, `___slab_alloc`, `get_partial`, `kmem_cache_alloc_bulk`).

use core::panic::Location;
use core::ptr::NonNull;

use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;
use units::{Gfp, NodeId};

use super::cache::{Cache, CachePtr};
use super::front::{CpuFront, Front, SLOTS};
use super::slab_pages::FreshSlab;
use crate::ObjectAllocator;
use crate::error::ObjectError;

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Returns this CPU's front.
    #[inline(always)]
    pub(crate) fn front(&self, cpu: &Cpu, cache: CachePtr) -> Option<&CpuFront> {
        cache.front(cpu.id(), self.nr_cpus())
    }

    /// Allocates an object of `cache`.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn alloc_object(&self, cpu: &Cpu, cache: CachePtr, gfp: Gfp) -> Result<NonNull<u8>, ObjectError> {
        let object = match self.front(cpu, cache).and_then(|front| front.pop(cpu)) {
            Some(object) => object,
            None => self.alloc_slow(cpu, cache, gfp)?,
        };
        if gfp.contains(Gfp::ZERO) {
            zero(object, cache.get().layout.object_size);
        }
        Ok(object)
    }

    /// Allocates an object on `node`, or elsewhere without `Gfp::THISNODE` if the node has no memory.
    #[track_caller]
    pub(crate) fn alloc_object_on(
        &self,
        cpu: &Cpu,
        cache: CachePtr,
        gfp: Gfp,
        node: NodeId,
    ) -> Result<NonNull<u8>, ObjectError> {
        if node == self.pages().node_of_cpu(cpu.id()) && !gfp.contains(Gfp::THISNODE) {
            return self.alloc_object(cpu, cache, gfp);
        }
        let cache = cache.get();
        let object = match self.take_one(cpu, cache, node) {
            Some(object) => object,
            None => {
                let slab = self.new_slab(cpu, cache, gfp, Some(node))?;
                self.take_from_fresh(cpu, cache, slab)?
            }
        };
        if cache.is_checked() {
            self.check_allocated(cpu, cache, object, Location::caller());
        }
        if gfp.contains(Gfp::ZERO) {
            zero(object, cache.layout.object_size);
        }
        Ok(object)
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn alloc_slow(&self, cpu: &Cpu, cache: CachePtr, gfp: Gfp) -> Result<NonNull<u8>, ObjectError> {
        let cache = cache.get();
        let object = self.alloc_behind_front(cpu, cache, gfp)?;
        if cache.is_checked() {
            self.check_allocated(cpu, cache, object, Location::caller());
        }
        Ok(object)
    }

    fn alloc_behind_front(&self, cpu: &Cpu, cache: &Cache, gfp: Gfp) -> Result<NonNull<u8>, ObjectError> {
        let node = self.pages().node_of_cpu(cpu.id());
        if let Some(object) = self.alloc_from_slabs(cpu, cache, node) {
            return Ok(object);
        }
        let slab = self.slab_near(cpu, cache, gfp, node);
        let slab = match slab {
            Ok(slab) => slab,
            Err(error) => return self.take_anywhere(cpu, cache, gfp).ok_or(error),
        };
        self.take_from_fresh(cpu, cache, slab)
    }

    /// Fills the front from the node's slabs and takes one; without a front that may be entered, takes one from the slabs.
    fn alloc_from_slabs(&self, cpu: &Cpu, cache: &Cache, node: NodeId) -> Option<NonNull<u8>> {
        let refilled = cache.fronts.get(cpu.id().index()).and_then(|front| {
            front.0.try_with(cpu, |front| {
                self.refill(cpu, cache, node, front);
                front.pop()
            })
        });
        refilled.unwrap_or_else(|| self.take_one(cpu, cache, node))
    }

    fn refill(&self, cpu: &Cpu, cache: &Cache, node: NodeId, front: &mut Front) {
        let mut objects = [core::ptr::null_mut(); SLOTS];
        let wanted = front.batch().saturating_sub(front.len()) as usize;
        let taken = self.take_many(cpu, cache, node, &mut objects[..wanted]);
        front.push_many(&objects[..taken]);
    }

    /// Takes up to `objects.len()` objects from a node's slabs; returns how many.
    pub(crate) fn take_many(&self, cpu: &Cpu, cache: &Cache, node: NodeId, objects: &mut [*mut u8]) -> usize {
        let mut slabs = cache.node(node).0.lock(cpu);
        let mut taken = 0;
        while taken < objects.len() {
            let Some(head) = slabs.partial.front(self.frames()) else { break };
            let Some((_, order)) = self.frame(head).slab() else { break };
            let room = (objects.len() - taken) as u32;
            let rotation = slabs.next_rotation();
            let left = self.free_bits(cache, head, order).take(room, rotation, &mut |index| {
                if let Some(slot) = objects.get_mut(taken) {
                    *slot = self.object_at(&cache.layout, head, index).as_ptr();
                    taken += 1;
                }
            });
            if left == 0 {
                slabs.partial.remove(self.frames(), head);
            }
        }
        taken
    }

    fn take_one(&self, cpu: &Cpu, cache: &Cache, node: NodeId) -> Option<NonNull<u8>> {
        let mut object = [core::ptr::null_mut()];
        self.take_many(cpu, cache, node, &mut object);
        NonNull::new(object[0])
    }

    /// Makes a slab, on this node if it has memory left, so that objects of other nodes' slabs are used before their pages.
    fn slab_near(&self, cpu: &Cpu, cache: &Cache, gfp: Gfp, node: NodeId) -> Result<FreshSlab, ObjectError> {
        if self.nr_nodes() == 1 {
            return self.new_slab(cpu, cache, gfp, None);
        }
        let here = (gfp | Gfp::THISNODE | Gfp::NOWARN) - Gfp::DIRECT_RECLAIM - Gfp::NOFAIL;
        self.new_slab(cpu, cache, here, Some(node))
    }

    /// The node gave nothing: takes an object of any node's slabs, or else makes a slab wherever there are pages.
    fn take_anywhere(&self, cpu: &Cpu, cache: &Cache, gfp: Gfp) -> Option<NonNull<u8>> {
        if self.nr_nodes() == 1 {
            return None;
        }
        let taken = self.pages().nodes().iter().find_map(|node| self.take_one(cpu, cache, node));
        taken.or_else(|| {
            let slab = self.new_slab(cpu, cache, gfp, None).ok()?;
            self.take_from_fresh(cpu, cache, slab).ok()
        })
    }

    /// Takes one object from a slab that is on no list, fills the front with as many as it holds, and lists the slab if some are left.
    fn take_from_fresh(&self, cpu: &Cpu, cache: &Cache, slab: FreshSlab) -> Result<NonNull<u8>, ObjectError> {
        let bits = self.free_bits(cache, slab.head, slab.order);
        let node = self.frame(slab.head).place().node();
        let rotation = if self.options.is_random() { cache.node(node).0.lock(cpu).next_rotation() } else { 0 };
        let mut object = Err(ObjectError::OutOfMemory);
        let mut take_one = |index| object = Ok(self.object_at(&cache.layout, slab.head, index));
        let mut left = bits.take(1, rotation, &mut take_one);
        if node == self.pages().node_of_cpu(cpu.id())
            && let Some(front) = cache.fronts.get(cpu.id().index())
        {
            front.0.try_with(cpu, |front| {
                let room = front.batch().saturating_sub(front.len());
                left = bits.take(room, rotation, &mut |index| {
                    front.push(self.object_at(&cache.layout, slab.head, index));
                });
            });
        }
        let mut slabs = cache.node(node).0.lock(cpu);
        slabs.nr_slabs += 1;
        slabs.total_objects += u64::from(bits.objects());
        if left > 0 {
            // INVARIANT: the slab has free objects.
            slabs.partial.push_front(self.frames(), slab.head);
        }
        object
    }

    /// Allocates as many objects as `objects` has room for, or none (Linux: kmem_cache_alloc_bulk).
    #[track_caller]
    pub(crate) fn alloc_bulk_objects(
        &self,
        cpu: &Cpu,
        cache: CachePtr,
        gfp: Gfp,
        objects: &mut [*mut u8],
    ) -> Result<(), ObjectError> {
        let node = self.pages().node_of_cpu(cpu.id());
        let front = self.front(cpu, cache);
        let popped = front.and_then(|front| front.0.try_with(cpu, |front| front.pop_many(objects)));
        let mut filled = popped.unwrap_or(0);
        if let Some(rest) = objects.get_mut(filled..).filter(|rest| !rest.is_empty() && front.is_some()) {
            filled += self.take_many(cpu, cache.get(), node, rest);
        }
        while let Some(slot) = objects.get_mut(filled) {
            match self.alloc_object(cpu, cache, gfp - Gfp::ZERO) {
                Ok(object) => *slot = object.as_ptr(),
                Err(error) => {
                    self.free_bulk_objects(cpu, cache, objects.get(..filled).unwrap_or_default());
                    return Err(error);
                }
            }
            filled += 1;
        }
        if gfp.contains(Gfp::ZERO) {
            objects.iter().filter_map(|&object| NonNull::new(object)).for_each(|object| {
                zero(object, cache.get().layout.object_size);
            });
        }
        Ok(())
    }
}

/// Fills an object that the caller was just given with zeros.
fn zero(object: NonNull<u8>, size: u32) {
    // SAFETY: the object has at least `size` bytes, and its allocation made it this call's alone.
    unsafe { object.write_bytes(0, size as usize) };
}
