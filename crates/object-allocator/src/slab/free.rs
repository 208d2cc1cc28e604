//! Freeing: to the CPU's front; when it is full, a batch goes back to the slabs that the objects lie in.
//!
//! Linux 6.12: mm/slub.c (`slab_free`, `__slab_free`, `kmem_cache_free_bulk`).

use core::panic::Location;
use core::ptr::NonNull;

use frame_table::SlabList;
use page_allocator::Hooks;
use platform::Platform;
use sync::{Cpu, SpinGuard, rank};
use units::NodeId;

use super::cache::{Cache, CachePtr, NodeSlabs};
use super::free_bits::Put;
use super::slab_pages::Place;
use crate::ObjectAllocator;
use crate::report::SlabFault;

type LockedSlabs<'a> = SpinGuard<'a, { rank::SLAB_NODE }, NodeSlabs>;

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Frees an object of `cache` that the caller owns.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn free_object(&self, cpu: &Cpu, cache: CachePtr, object: NonNull<u8>) {
        let is_remote = self.nr_nodes() > 1 && self.is_remote(cpu, object);
        if is_remote || !self.front(cpu, cache).is_some_and(|front| front.push(cpu, object)) {
            self.free_slow(cpu, cache, object);
        }
    }

    /// Returns true if the object's memory is on another node than the CPU. Such objects do not enter its front, or memory
    /// would drift between nodes.
    #[inline]
    fn is_remote(&self, cpu: &Cpu, object: NonNull<u8>) -> bool {
        let frame = self.frames().get(self.map().pfn(object.as_ptr()));
        frame.is_none_or(|frame| frame.place().node() != self.pages().node_of_cpu(cpu.id()))
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn free_slow(&self, cpu: &Cpu, cache: CachePtr, object: NonNull<u8>) {
        let cache = cache.get();
        if cache.is_checked() {
            return self.free_checked(cpu, cache, object, Location::caller());
        }
        let is_local = self.nr_nodes() == 1 || !self.is_remote(cpu, object);
        let front = cache.fronts.get(cpu.id().index()).filter(|_| is_local);
        let pushed = front.and_then(|front| {
            front.0.try_with(cpu, |front| {
                front.flush(front.batch(), |old| self.put_back(cpu, cache, old));
                front.push(object)
            })
        });
        if pushed != Some(true) {
            self.put_back(cpu, cache, &[object.as_ptr()]);
        }
    }

    /// Frees many objects at once (Linux: kmem_cache_free_bulk).
    #[track_caller]
    pub(crate) fn free_bulk_objects(&self, cpu: &Cpu, cache: CachePtr, objects: &[*mut u8]) {
        if self.nr_nodes() > 1 || cache.get().is_checked() {
            objects.iter().filter_map(|&object| NonNull::new(object)).for_each(|object| {
                self.free_object(cpu, cache, object);
            });
            return;
        }
        let front = self.front(cpu, cache);
        let cache = cache.get();
        let pushed = front.and_then(|front| {
            front.0.try_with(cpu, |front| {
                let pushed = front.push_many(objects);
                if pushed < objects.len() && objects.len() - pushed < front.batch() as usize {
                    front.flush(front.batch(), |old| self.put_back(cpu, cache, old));
                }
                pushed + front.push_many(objects.get(pushed..).unwrap_or_default())
            })
        });
        let rest = objects.get(pushed.unwrap_or(0)..).unwrap_or_default();
        if !rest.is_empty() {
            self.put_back(cpu, cache, rest);
        }
    }

    /// Notes objects as free in their slabs, and gives slabs back that nobody needs any more.
    pub(crate) fn put_back(&self, cpu: &Cpu, cache: &Cache, objects: &[*mut u8]) {
        let mut doomed = SlabList::new();
        let mut locked: Option<(NodeId, LockedSlabs<'_>)> = None;
        for &object in objects {
            let Some(place) = self.locate(cache, object) else {
                drop(locked.take());
                self.free_stray(cpu, cache, object);
                continue;
            };
            let node = self.frame(place.head).place().node();
            if locked.as_ref().is_none_or(|&(of, _)| of != node) {
                drop(locked.take());
                locked = Some((node, cache.node(node).0.lock(cpu)));
            }
            let put = locked.as_mut().map(|(_, slabs)| self.put_one(cache, slabs, place, &mut doomed));
            if put == Some(Put::DoubleFree) {
                self.report(cpu, Some(cache), object, SlabFault::DoubleFree, Location::caller());
            }
        }
        drop(locked);
        if !doomed.is_empty() {
            self.discard_slabs(cpu, cache, doomed);
        }
    }

    /// Notes one object as free, with its node's slabs locked; a slab that is not kept goes to `doomed`.
    #[inline]
    pub(crate) fn put_one(&self, cache: &Cache, slabs: &mut NodeSlabs, place: Place, doomed: &mut SlabList) -> Put {
        let Place { head, order, index } = place;
        let keeps = slabs.partial.len() < cache.min_partial || cache.keeps_slabs();
        let put = self.free_bits(cache, head, order).put(index);
        match put {
            Put::Partial | Put::DoubleFree => {}
            Put::First => slabs.partial.push_back(self.frames(), head),
            Put::Empty if keeps => {}
            Put::Only if keeps => slabs.partial.push_back(self.frames(), head),
            emptied @ (Put::Empty | Put::Only) => {
                if emptied == Put::Empty {
                    slabs.partial.remove(self.frames(), head);
                }
                doomed.push_front(self.frames(), head);
            }
        }
        put
    }
}
