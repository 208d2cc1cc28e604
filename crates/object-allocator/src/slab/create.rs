//! Making caches, the first of which makes itself.
//!
//! A cache is an object of the cache `kmem_cache`; its fronts are one object of `kmem_cache_fronts`; bitmaps of slabs with many objects are
//! objects of `slab_bits`. These have no fronts.
//! Linux 6.12: mm/slab_common.c (`kmem_cache_create`, `find_mergeable`), mm/slub.c (`kmem_cache_init`, `bootstrap`).

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, Ordering};

use collections::BootSlice;
use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;
use units::{CpuId, Gfp, Order};

use super::cache::{Cache, CacheNode, CachePtr, front_capacity, min_partial};
use super::free_bits::{FreeBits, OutsideBits};
use super::front::CpuFront;
use super::layout::{SlabLayout, object_align};
use super::object_shape::ObjectShape;
use super::options::Merging;
use super::params::{CacheFlags, CacheName, CacheParams};
use super::table::CacheSlot;
use crate::ObjectAllocator;
use crate::error::ObjectError;
use crate::typed::CORE_BYTES;

/// Room for the table of caches: 1,024 of them, several times what a large Linux system has.
const TABLE_BYTES: usize = 1024 * size_of::<CacheSlot>();

/// A cache's fixed properties, derived from what was asked.
#[derive(Clone, Copy)]
struct Plan {
    layout: SlabLayout,
    shape: ObjectShape,
    align: usize,
    flags: CacheFlags,
    gfp: Gfp,
}

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Makes the caches that everything else needs, as far as they are missing (Linux: kmem_cache_init).
    pub(crate) fn start_slab(&self, cpu: &Cpu) -> Result<(), ObjectError> {
        if self.caches.all().is_empty() {
            let order = Order::covering((TABLE_BYTES / self.map().page_size()) as u64).unwrap_or_default();
            let block = self.pages().alloc(cpu, Gfp::KERNEL | Gfp::ZERO, order)?;
            let Some(room) = self.pages().address(&block) else {
                self.pages().free(cpu, block);
                return Err(ObjectError::Impossible);
            };
            block.into_raw(self.frames());
            // SAFETY: the block is zeroed, as large as its slots, and never freed.
            unsafe { self.caches.set_slots(room, TABLE_BYTES.max(self.map().page_size()) / size_of::<CacheSlot>()) };
        }
        if self.internal.root.get().is_none() {
            self.internal.root.set(self.make_root(cpu)?);
        }
        let bits = CacheParams::new("slab_bits", OutsideBits::bytes(self.map().page_size()));
        self.start_internal(cpu, &self.internal.bits, &bits)?;
        let fronts = CacheParams::new("kmem_cache_fronts", self.pages().nr_cpus() * size_of::<CpuFront>());
        self.start_internal(cpu, &self.internal.fronts, &fronts.align(align_of::<CpuFront>()))?;
        self.start_internal(cpu, &self.internal.cores, &CacheParams::new("kmem_cache_cores", CORE_BYTES))
    }

    fn start_internal(&self, cpu: &Cpu, slot: &CacheSlot, params: &CacheParams<'_>) -> Result<(), ObjectError> {
        if slot.get().is_none() {
            let mut plan = self.plan(params, CacheFlags::empty())?;
            if self.internal.bits.get().is_none() {
                plan.layout = plan.layout.with_bits_in_head();
            }
            slot.set(self.make_cache(cpu, params, &plan, BootSlice::empty())?);
        }
        Ok(())
    }

    /// Derives from what was asked, and checks that every cache runs, what the cache will be.
    fn plan(&self, params: &CacheParams<'_>, debug: CacheFlags) -> Result<Plan, ObjectError> {
        if !params.align.is_power_of_two() || params.align > self.map().page_size() {
            return Err(ObjectError::BadAlign(params.align));
        }
        let mut flags = params.flags | debug;
        // What the constructor wrote, or what a reader may still look at, must survive.
        if params.ctor.is_some() || flags.contains(CacheFlags::TYPESAFE_BY_RCU) {
            flags -= CacheFlags::POISON;
        }
        let align = object_align(params.size, params.align, flags);
        let shape = ObjectShape::new(params.size, align, flags).ok_or(ObjectError::BadSize(params.size))?;
        let layout = SlabLayout::new(params.size, &shape, align, &self.sizes())?;
        let mut gfp = Gfp::empty();
        gfp.set(Gfp::DMA, flags.contains(CacheFlags::CACHE_DMA));
        gfp.set(Gfp::RECLAIMABLE, flags.contains(CacheFlags::RECLAIM_ACCOUNT));
        Ok(Plan { layout, shape, align, flags, gfp })
    }

    /// Makes the cache of caches inside its own first slab.
    fn make_root(&self, cpu: &Cpu) -> Result<CachePtr, ObjectError> {
        let bytes = size_of::<Cache>() + self.node_slots() * size_of::<CacheNode>();
        let params = CacheParams::new("kmem_cache", bytes).align(align_of::<Cache>().max(64));
        let mut plan = self.plan(&params, CacheFlags::empty())?;
        plan.layout = plan.layout.with_bits_in_head();
        let order = plan.layout.min_order;
        let block = self.pages().alloc(cpu, Gfp::KERNEL, order)?;
        let head = block.into_slab(self.frames(), 0);
        let objects = plan.layout.objects_in(order);
        // SAFETY: the slab is this function's alone and its layout's objects fit the head's word.
        let bits = unsafe { FreeBits::set_up(self.frame(head), objects, None, self.map()) };
        let mut first = 0;
        let left = bits.take(1, 0, &mut |index| first = index);
        let room = self.object_at(&plan.layout, head, first);
        // SAFETY: the object was just taken; it has the size of a cache of this machine.
        let cache = unsafe { self.init_cache(room, &params, &plan, BootSlice::empty(), 0) };
        let place = self.frame(head).place().node();
        let mut slabs = cache.get().node(place).0.lock(cpu);
        slabs.nr_slabs = 1;
        slabs.total_objects = u64::from(objects);
        if left > 0 {
            // INVARIANT: the slab has free objects.
            slabs.partial.push_front(self.frames(), head);
        }
        drop(slabs);
        self.count_slab(cpu, head, plan.flags, order.nr_pages() as i64);
        self.caches.lock(cpu).insert(cache);
        Ok(cache)
    }

    /// Writes a cache with one handle.
    ///
    /// # Safety
    /// `room` is an object of the cache of caches that belongs to the caller.
    unsafe fn init_cache(
        &self,
        room: NonNull<u8>,
        params: &CacheParams<'_>,
        plan: &Plan,
        fronts: BootSlice<CpuFront>,
        number: u16,
    ) -> CachePtr {
        let (cache, slots) = (room.cast::<Cache>(), self.node_slots());
        // SAFETY: the object has room for the nodes behind the cache, by the size that `make_root` chose.
        let nodes = unsafe { cache.add(1) }.cast::<CacheNode>();
        // SAFETY: the room is the caller's; a `Cache` has at least a node's alignment, and so has what follows it.
        let nodes = unsafe { BootSlice::init_raw(nodes, slots, |_| CacheNode::new(self.options.seed_of(number))) };
        let value = Cache {
            fronts,
            nodes,
            layout: plan.layout,
            shape: plan.shape,
            number,
            flags: plan.flags,
            gfp: plan.gfp,
            min_partial: min_partial(plan.layout.stride as usize),
            ctor: params.ctor,
            name: CacheName::new(params.name),
            handles: AtomicU32::new(1),
        };
        let fronts = value.fronts.first().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the room is the caller's and large enough.
        unsafe { cache.write(value) };
        // SAFETY: just initialised; whoever destroys it knows that nothing uses it. A cache has no fronts or one for each CPU.
        unsafe { CachePtr::new(cache, fronts) }
    }

    /// Makes a cache with the given fronts and enters it into the table.
    fn make_cache(
        &self,
        cpu: &Cpu,
        params: &CacheParams<'_>,
        plan: &Plan,
        fronts: BootSlice<CpuFront>,
    ) -> Result<CachePtr, ObjectError> {
        let root = self.internal.root.get().ok_or(ObjectError::NotStarted)?;
        let room = self.alloc_object(cpu, root, Gfp::KERNEL)?;
        let table = self.caches.lock(cpu);
        let cache = table.free_number().map(|number| {
            // SAFETY: the object is of the cache of caches and was just allocated.
            let cache = unsafe { self.init_cache(room, params, plan, fronts, number) };
            table.insert(cache);
            cache
        });
        drop(table);
        cache.inspect_err(|_| self.free_object(cpu, root, room))
    }

    /// Makes a cache, or another handle of one that serves as well.
    ///
    /// # Errors
    /// [`ObjectError`]; nothing remains.
    pub(crate) fn make_or_merge(&self, cpu: &Cpu, params: &CacheParams<'_>) -> Result<CachePtr, ObjectError> {
        let plan = self.plan(params, self.options.debug())?;
        if let Some(cache) = self.find_mergeable(cpu, params, &plan) {
            return Ok(cache);
        }
        self.make_with_fronts(cpu, params, &plan)
    }

    fn make_with_fronts(&self, cpu: &Cpu, params: &CacheParams<'_>, plan: &Plan) -> Result<CachePtr, ObjectError> {
        if plan.flags.intersects(CacheFlags::DEBUG) {
            return self.make_cache(cpu, params, plan, BootSlice::empty());
        }
        let fronts_cache = self.internal.fronts.get().ok_or(ObjectError::NotStarted)?;
        let room = self.alloc_object(cpu, fronts_cache, Gfp::KERNEL)?;
        let capacity = front_capacity(params.size, self.map().page_size());
        let init = |index: usize| {
            let id = CpuId::try_new(index as u64).unwrap_or_default();
            CpuFront::new(Cpu::tag_of(cpu.machine(), id), capacity)
        };
        // SAFETY: the object has room for a front of every CPU and is aligned for them.
        let fronts = unsafe { BootSlice::init_raw(room.cast(), self.pages().nr_cpus(), init) };
        let made = self.make_cache(cpu, params, plan, fronts);
        made.inspect_err(|_| self.free_object(cpu, fronts_cache, room))
    }

    /// Takes a handle of a cache whose objects serve as well: no constructor, the same kind of memory, and hardly larger.
    fn find_mergeable(&self, cpu: &Cpu, params: &CacheParams<'_>, plan: &Plan) -> Option<CachePtr> {
        let never = params.ctor.is_some() || plan.flags.intersects(CacheFlags::NEVER_MERGE | CacheFlags::DEBUG);
        if never || self.options.merging() == Merging::Never {
            return None;
        }
        let table = self.caches.lock(cpu);
        let found = table.caches().find(|cache| {
            let cache = cache.get();
            let stride = cache.layout.stride as usize;
            !cache.fronts.is_empty()
                && cache.ctor.is_none()
                && !cache.flags.intersects(CacheFlags::NEVER_MERGE)
                && cache.flags & CacheFlags::MERGE_SAME == plan.flags & CacheFlags::MERGE_SAME
                && cache.layout.object_size as usize >= params.size
                && stride.is_multiple_of(plan.align)
                && stride - (plan.layout.stride as usize).min(stride) < size_of::<usize>()
        })?;
        // Relaxed: under the table's lock.
        found.get().handles.fetch_add(1, Ordering::Relaxed);
        Some(found)
    }
}
