//! The slab caches and per-CPU parts that areas need.
//!
//! Linux 6.12: `vmalloc_init`.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use collections::range_tree::Node;
use page_allocator::Hooks;
use platform::Platform;
use sync::{Cpu, OwnerCell};
use units::{CpuId, Gfp};

use super::area::Area;
use super::block::Front;
use crate::ObjectAllocator;
use crate::error::ObjectError;
use crate::slab::{CacheFlags, CacheParams, CacheSlot};

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Makes what is missing. Does nothing on a machine without page tables.
    pub(crate) fn start_vmalloc(&self, cpu: &Cpu) -> Result<(), ObjectError> {
        if self.vmalloc.tables.is_none() {
            return Ok(());
        }
        let area = CacheParams::new("vmap_area", size_of::<Area>()).align(align_of::<Area>());
        self.start_cache(cpu, &self.vmalloc.area_cache, area)?;
        let node = CacheParams::new("maple_node", size_of::<Node>()).align(align_of::<Node>().max(64));
        self.start_cache(cpu, &self.vmalloc.node_cache, node)?;
        self.start_fronts(cpu)
    }

    fn start_cache(&self, cpu: &Cpu, slot: &CacheSlot, params: CacheParams<'_>) -> Result<(), ObjectError> {
        if slot.get().is_none() {
            slot.set(self.make_or_merge(cpu, &params.flags(CacheFlags::NO_MERGE))?);
        }
        Ok(())
    }

    /// Makes a front for each CPU, in pages that are never freed.
    fn start_fronts(&self, cpu: &Cpu) -> Result<(), ObjectError> {
        // Relaxed: start runs on one CPU.
        if !self.vmalloc.fronts.load(Ordering::Relaxed).is_null() {
            return Ok(());
        }
        let nr_cpus = self.vmalloc.nr_cpus;
        let nr_pages = (nr_cpus * size_of::<OwnerCell<Front>>()).div_ceil(self.map().page_size()) as u64;
        let pages = self.pages().alloc_exact(cpu, Gfp::KERNEL, nr_pages)?;
        let Some(room) = NonNull::new(self.map().page(pages.frames().start)) else {
            self.pages().free_exact(cpu, pages);
            return Err(ObjectError::Impossible);
        };
        let fronts = room.cast::<OwnerCell<Front>>();
        for id in 0..nr_cpus {
            let tag = Cpu::tag_of(cpu.machine(), CpuId::try_new(id as u64).unwrap_or_default());
            // SAFETY: the pages hold `nr_cpus` cells, so this one is inside.
            let slot = unsafe { fronts.add(id) };
            // SAFETY: the pages are this function's alone and never freed; a page is aligned for any cell.
            unsafe { slot.write(OwnerCell::new(tag, Front::default())) };
        }
        // Release: pairs with the Acquire load in `fronts`, so that the cells are seen initialised.
        self.vmalloc.fronts.store(fronts.as_ptr(), Ordering::Release);
        Ok(())
    }

    /// Returns the fronts of all CPUs; none before the start.
    pub(super) fn fronts(&self) -> &[OwnerCell<Front>] {
        // Acquire: pairs with the Release store in `start_fronts`.
        let Some(fronts) = NonNull::new(self.vmalloc.fronts.load(Ordering::Acquire)) else { return &[] };
        // SAFETY: `start_fronts` stored the address of a cell for each CPU, in pages that stay.
        unsafe { core::slice::from_raw_parts(fronts.as_ptr(), self.vmalloc.nr_cpus) }
    }
}
