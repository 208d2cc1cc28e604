//! Objects of caches that look at each one: when it is handed out, and when it comes back; and frees that no cache understands.
//!
//! A fault is reported and mended as far as possible: the machine goes on. Locking: as `alloc` and `free`.
//! Linux 6.12: mm/slub.c (`alloc_debug_processing`, `free_debug_processing`, `free_consistency_checks`), `cache_from_obj`.

use core::panic::Location;
use core::ptr::NonNull;

use frame_table::SlabList;
use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;
use units::VirtAddr;

use super::cache::Cache;
use super::free_bits::Put;
use super::object_shape::{Event, Use};
use super::params::CacheName;
use crate::ObjectAllocator;
use crate::report::{SlabFault, SlabReport, Track};

type Caller = &'static Location<'static>;

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Looks at an object that was just taken from its slab, and notes who has it.
    pub(crate) fn check_allocated(&self, cpu: &Cpu, cache: &Cache, object: NonNull<u8>, caller: Caller) {
        // SAFETY: the object was just taken, so it is the caller's; the slab was laid out by this shape.
        if let Err(fault) = unsafe { cache.shape.check(object, Use::Free) } {
            self.report(cpu, Some(cache), object.as_ptr(), fault, caller);
        }
        // SAFETY: as above. Marking also mends what was overwritten.
        unsafe { cache.shape.mark(object, Use::Allocated) };
        // SAFETY: as above.
        unsafe { cache.shape.note(object, Event::Alloc, Track { caller, cpu: cpu.id() }) };
    }

    /// Frees an object after looking at it.
    #[track_caller]
    pub(crate) fn free_checked(&self, cpu: &Cpu, cache: &Cache, object: NonNull<u8>, caller: Caller) {
        let Some(place) = self.locate(cache, object.as_ptr()) else {
            return self.free_stray(cpu, cache, object.as_ptr());
        };
        let mut doomed = SlabList::new();
        let mut slabs = cache.node(self.frame(place.head).place().node()).0.lock(cpu);
        let fault = if self.free_bits(cache, place.head, place.order).is_free(place.index) {
            Err(SlabFault::DoubleFree)
        } else {
            // SAFETY: the object is allocated and its owner frees it; the slab was laid out by this shape.
            let checked = unsafe { cache.shape.check(object, Use::Allocated) };
            // SAFETY: as above. Marking also mends what was overwritten.
            unsafe { cache.shape.mark(object, Use::Free) };
            checked
        };
        if let Err(fault) = fault {
            self.report(cpu, Some(cache), object.as_ptr(), fault, caller);
        }
        if fault != Err(SlabFault::DoubleFree) {
            // SAFETY: the object is on its way from its owner to the slab.
            unsafe { cache.shape.note(object, Event::Free, Track { caller, cpu: cpu.id() }) };
            let put = self.put_one(cache, &mut slabs, place, &mut doomed);
            debug_assert!(put != Put::DoubleFree, "a used object's bit is clear");
        }
        drop(slabs);
        self.discard_slabs(cpu, cache, doomed);
    }

    /// Reports the free of an address where no object of `cache` starts. An object of another cache goes back there.
    #[cold]
    #[track_caller]
    pub(crate) fn free_stray(&self, cpu: &Cpu, cache: &Cache, object: *mut u8) {
        let actual = NonNull::new(object).and_then(|object| self.cache_of(object));
        let (fault, owner) = match actual {
            None => (SlabFault::NotSlab, None),
            Some(actual) if actual.get().number == cache.number => (SlabFault::InvalidPointer, None),
            Some(actual) => (SlabFault::WrongCache(actual.get().name), Some(actual.get())),
        };
        self.report(cpu, Some(cache), object, fault, Location::caller());
        let owner = owner.filter(|owner| self.locate(owner, object).is_some());
        match (owner, NonNull::new(object)) {
            (Some(owner), Some(object)) if owner.is_checked() => {
                self.free_checked(cpu, owner, object, Location::caller());
            }
            (Some(owner), Some(object)) => self.put_back(cpu, owner, &[object.as_ptr()]),
            _ => {}
        }
    }

    /// Tells what is wrong with an object, with all that is known about it.
    #[cold]
    pub(crate) fn report(&self, cpu: &Cpu, cache: Option<&Cache>, object: *mut u8, fault: SlabFault, caller: Caller) {
        let pfn = self.map().pfn(object);
        let slab = self.frames().get_valid(pfn).and_then(frame_table::Frame::slab);
        let slab = slab.map(|(_, order)| pfn.align_down(order.nr_pages()));
        let offset = slab.map_or(0, |head| object.addr().wrapping_sub(self.map().page(head).addr()) as u64);
        let track = |event| {
            let cache = cache.filter(|cache| self.locate(cache, object).is_some())?;
            // SAFETY: an object of the cache starts here, so the tracks are there; at worst another CPU rewrites them meanwhile, which a
            // machine in this state must live with.
            unsafe { cache.shape.track(NonNull::new(object)?, event) }
        };
        let report = SlabReport {
            fault,
            cache: cache.map_or(CacheName::none(), |cache| cache.name),
            object: VirtAddr::new(object.addr() as u64),
            slab,
            offset,
            allocated: track(Event::Alloc),
            freed: track(Event::Free),
            found_by: Track { caller, cpu: cpu.id() },
        };
        self.reports.add(cpu, report);
    }

    /// Returns how many faults were found (Linux: what taints the kernel).
    pub fn slab_faults(&self, cpu: &Cpu) -> usize {
        self.reports.total(cpu)
    }

    /// Returns report number `number`, counted from 0; the latest 16 are kept.
    pub fn slab_report(&self, cpu: &Cpu, number: usize) -> Option<SlabReport> {
        self.reports.get(cpu, number)
    }

    /// Sets what gets each report as it is made. It may run under a slab lock and in any context: it must not allocate.
    pub fn set_report_sink(&self, cpu: &Cpu, sink: crate::report::ReportSink) {
        self.reports.set_sink(cpu, sink);
    }
}
