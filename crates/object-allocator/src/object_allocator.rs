//! The allocator of kernel objects of one machine.

use frame_table::FrameTable;
use page_allocator::{Hooks, NoPressure, PageAllocator};
use platform::Platform;
use sync::Cpu;

use crate::direct_map::DirectMap;
use crate::error::ObjectError;
use crate::kmalloc::KmallocCaches;
use crate::mmu::MmuState;
use crate::percpu::PercpuAllocator;
use crate::report::ReportLog;
use crate::shrinker::ShrinkerList;
use crate::slab::{CachePtr, CacheSlot, CacheTable, MachineSizes, OptionCell, RcuQueue, SlabOptions};
use crate::vmalloc::Vmalloc;
use crate::vmstat::VmStat;

/// Everything that is allocated in other units than pages, on top of the page allocator that it owns.
#[derive(Debug)]
pub struct ObjectAllocator<P: Platform, H: Hooks = NoPressure> {
    pages: PageAllocator<P, H>,
    map: DirectMap,
    nr_nodes: u32,
    nr_cpus: usize,
    pub(crate) caches: CacheTable,
    pub(crate) internal: InternalCaches,
    pub(crate) kmalloc: KmallocCaches,
    pub(crate) options: OptionCell,
    pub(crate) reports: ReportLog,
    pub(crate) rcu: RcuQueue,
    pub(crate) vmalloc: Vmalloc<P::Format>,
    pub(crate) mmu: MmuState<P::Format>,
    percpu: PercpuAllocator,
    shrinkers: ShrinkerList,
    vmstat: VmStat,
}

/// Caches whose objects are bookkeeping of other caches.
#[derive(Debug)]
pub(crate) struct InternalCaches {
    pub(crate) root: CacheSlot,
    pub(crate) bits: CacheSlot,
    pub(crate) fronts: CacheSlot,
    pub(crate) cores: CacheSlot,
}

impl InternalCaches {
    const fn new() -> Self {
        Self {
            root: CacheSlot::empty(),
            bits: CacheSlot::empty(),
            fronts: CacheSlot::empty(),
            cores: CacheSlot::empty(),
        }
    }
}

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Takes the page allocator over. No object can be allocated before [`ObjectAllocator::start`].
    pub fn new(pages: PageAllocator<P, H>) -> Self {
        Self {
            map: DirectMap::new(pages.platform(), pages.map().frames.span().start, pages.map().geometry.page_shift),
            nr_nodes: pages.nodes().len(),
            nr_cpus: pages.nr_cpus(),
            caches: CacheTable::new(),
            internal: InternalCaches::new(),
            kmalloc: KmallocCaches::new(),
            options: OptionCell::default(),
            reports: ReportLog::new(),
            rcu: RcuQueue::new(),
            vmalloc: Vmalloc::new(pages.platform(), pages.nr_cpus()),
            mmu: MmuState::new(pages.platform()),
            percpu: PercpuAllocator::new(),
            shrinkers: ShrinkerList::new(),
            vmstat: VmStat::new(),
            pages,
        }
    }

    /// Replaces the per-CPU allocator by one that has the first chunk of boot.
    #[must_use]
    pub fn with_percpu(self, percpu: PercpuAllocator) -> Self {
        Self { percpu, ..self }
    }

    /// Sets the options that [`ObjectAllocator::start`] gives to all caches.
    #[must_use]
    pub fn with_slab_options(self, options: SlabOptions) -> Self {
        self.options.set(options);
        self
    }

    /// Makes the counters, the first caches, and what kmalloc and vmalloc need (Linux: kmem_cache_init, setup_per_cpu_pageset,
    /// vmalloc_init).
    ///
    /// Called once the page allocator has memory. A call that failed may be repeated; what it made stays and is used then. Not for
    /// two CPUs at once.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn start(&self, cpu: &Cpu) -> Result<(), ObjectError> {
        self.start_with(cpu, self.options.get())
    }

    /// As [`ObjectAllocator::start`], with options for all caches.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn start_with(&self, cpu: &Cpu, options: SlabOptions) -> Result<(), ObjectError> {
        self.vmstat.start(&self.pages, &self.percpu, cpu)?;
        self.start_caches(cpu, options)?;
        self.start_kmalloc(cpu)?;
        self.start_vmalloc(cpu)
    }

    /// As [`ObjectAllocator::start_with`], without kmalloc: for kernels that use caches only.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn start_caches(&self, cpu: &Cpu, options: SlabOptions) -> Result<(), ObjectError> {
        self.options.set(options);
        self.start_slab(cpu)
    }

    /// Returns the page allocator.
    #[inline]
    pub const fn pages(&self) -> &PageAllocator<P, H> {
        &self.pages
    }

    /// Returns the per-CPU allocator.
    pub const fn percpu(&self) -> &PercpuAllocator {
        &self.percpu
    }

    /// Returns the counters of nodes, zones and events.
    #[inline]
    pub const fn vmstat(&self) -> &VmStat {
        &self.vmstat
    }

    /// Returns the registered shrinkers.
    pub(crate) const fn shrinkers(&self) -> &ShrinkerList {
        &self.shrinkers
    }

    #[inline(always)]
    pub(crate) const fn map(&self) -> &DirectMap {
        &self.map
    }

    #[inline(always)]
    pub(crate) const fn frames(&self) -> &FrameTable {
        &self.pages.map().frames
    }

    /// Returns the number of nodes with memory.
    #[inline(always)]
    pub(crate) const fn nr_nodes(&self) -> u32 {
        self.nr_nodes
    }

    #[inline(always)]
    pub(crate) const fn nr_cpus(&self) -> usize {
        self.nr_cpus
    }

    /// Returns one more than the highest number of a node with memory.
    pub(crate) fn node_slots(&self) -> usize {
        self.pages.nodes().iter().last().map_or(1, |node| node.index() + 1)
    }

    pub(crate) fn bits_cache(&self) -> Option<CachePtr> {
        self.internal.bits.get()
    }

    pub(crate) fn sizes(&self) -> MachineSizes {
        MachineSizes {
            page_size: self.map.page_size(),
            max_order: self.pages.map().geometry.max_order,
            nr_cpus: self.pages.nr_cpus(),
        }
    }
}
