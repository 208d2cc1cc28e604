//! Areas with pages of their own.
//!
//! Linux 6.12: `__vmalloc_node_range`, `__vmalloc_area_node`, `vm_area_alloc_pages`, `__get_vm_area_node`.

use page_allocator::{AllocRequest, Hooks, Zone};
use platform::{Attributes, Level, Platform, TableFormat};
use sync::Cpu;
use units::{Gfp, NodeId, Order, Pfn, PhysAddr, VirtAddr, VirtRange};

use super::area::{Area, AreaKind, AreaPtr, AreaState, VmallocArea};
use super::areas::{NoPlace, SlabNodes};
use super::tables::BATCH;
use super::{VmallocError, add};
use crate::ObjectAllocator;
use crate::error::ObjectError;

/// Whether an area may be mapped with leaves larger than a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HugeMappings {
    /// Single pages only.
    #[default]
    Never,
    /// Where a large leaf fits and a block of its size is free; the rest has single pages (Linux: VM_ALLOW_HUGE_VMAP).
    WhereTheyFit,
}

/// An area to allocate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VmallocRequest {
    /// Size; rounded up to pages.
    pub bytes: u64,
    /// Alignment of the first address; at least a page.
    pub align: u64,
    /// How to allocate the pages.
    pub gfp: Gfp,
    /// Node to take them from first; the CPU's own if `None`.
    pub node: Option<NodeId>,
    /// Sizes of mappings.
    pub huge: HugeMappings,
    /// What the mappings allow.
    pub attributes: Attributes,
    /// Who asks, for /proc/vmallocinfo.
    pub caller: &'static str,
}

impl VmallocRequest {
    /// Asks for `bytes` of ordinary kernel memory from any node.
    pub const fn new(bytes: u64, caller: &'static str) -> Self {
        let (gfp, attributes) = (Gfp::KERNEL, Attributes::KERNEL_DATA);
        Self { bytes, align: 1, gfp, node: None, huge: HugeMappings::Never, attributes, caller }
    }

    /// Allocates with these flags.
    #[must_use]
    pub const fn with(self, gfp: Gfp) -> Self {
        Self { gfp, ..self }
    }

    /// Takes pages from `node` first.
    #[must_use]
    pub const fn on_node(self, node: NodeId) -> Self {
        Self { node: Some(node), ..self }
    }

    /// Maps with large leaves where they fit.
    #[must_use]
    pub const fn huge(self) -> Self {
        Self { huge: HugeMappings::WhereTheyFit, ..self }
    }

    /// Returns the flags that the pages are allocated with.
    ///
    /// HighMem will do, since the area is its mapping; not for zeroed pages, which only the direct map lets the page allocator clear.
    fn page_gfp(&self) -> Gfp {
        let lowmem = Gfp::ZERO | Gfp::DMA | Gfp::DMA32;
        let gfp = self.gfp - Gfp::MOVABLE - Gfp::COMP - Gfp::HIGHMEM;
        if gfp.intersects(lowmem) { gfp } else { gfp | Gfp::HIGHMEM }
    }
}

/// Addresses to reserve, and what for.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Without the guard page.
    pub(super) bytes: u64,
    pub(super) align: u64,
    /// Pages behind the area that stay unmapped.
    pub(super) guard_pages: u64,
    pub(super) kind: AreaKind,
    pub(super) caller: &'static str,
    pub(super) phys: Option<PhysAddr>,
    pub(super) gfp: Gfp,
}

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Allocates `bytes` that are contiguous for the kernel (Linux: vmalloc). May sleep; not for interrupt handlers.
    ///
    /// # Errors
    /// [`VmallocError`].
    pub fn vmalloc(&self, cpu: &Cpu, bytes: u64, caller: &'static str) -> Result<VmallocArea, VmallocError> {
        self.vmalloc_request(cpu, &VmallocRequest::new(bytes, caller))
    }

    /// Allocates zeroed bytes (Linux: vzalloc).
    ///
    /// # Errors
    /// As [`ObjectAllocator::vmalloc`].
    pub fn vzalloc(&self, cpu: &Cpu, bytes: u64, caller: &'static str) -> Result<VmallocArea, VmallocError> {
        self.vmalloc_request(cpu, &VmallocRequest::new(bytes, caller).with(Gfp::KERNEL | Gfp::ZERO))
    }

    /// Allocates from one node first (Linux: vmalloc_node).
    ///
    /// # Errors
    /// As [`ObjectAllocator::vmalloc`].
    pub fn vmalloc_node(
        &self,
        cpu: &Cpu,
        bytes: u64,
        node: NodeId,
        caller: &'static str,
    ) -> Result<VmallocArea, VmallocError> {
        self.vmalloc_request(cpu, &VmallocRequest::new(bytes, caller).on_node(node))
    }

    /// Allocates with large mappings where they fit (Linux: vmalloc_huge).
    ///
    /// # Errors
    /// As [`ObjectAllocator::vmalloc`].
    pub fn vmalloc_huge(&self, cpu: &Cpu, bytes: u64, caller: &'static str) -> Result<VmallocArea, VmallocError> {
        self.vmalloc_request(cpu, &VmallocRequest::new(bytes, caller).huge())
    }

    /// Allocates what `request` describes (Linux: __vmalloc_node_range).
    ///
    /// # Errors
    /// [`VmallocError`]; every page is free again then, and the addresses after the next purge.
    pub fn vmalloc_request(&self, cpu: &Cpu, request: &VmallocRequest) -> Result<VmallocArea, VmallocError> {
        let format = self.format()?;
        let nr_pages = self.pages_of(request.bytes)?;
        let large = format.leaf_bytes(Level::PMD);
        let wants_large = request.huge == HugeMappings::WhereTheyFit && request.bytes >= large;
        let place = Place {
            bytes: nr_pages << format.page_shift(),
            align: if wants_large { request.align.max(large) } else { request.align },
            guard_pages: 1,
            kind: AreaKind::Vmalloc,
            caller: request.caller,
            phys: None,
            gfp: request.gfp,
        };
        let (area, start) = self.reserve_area(cpu, &place)?;
        let handle = VmallocArea { area, start, bytes: place.bytes };
        match self.populate(cpu, start, nr_pages, request) {
            Ok(()) => {
                add(&self.vmalloc.counts.pages, nr_pages);
                let mut areas = self.vmalloc.areas.lock(cpu);
                // SAFETY: the area was just inserted and is owned by this function.
                unsafe { areas.owned(area) }.nr_pages = nr_pages;
                drop(areas);
                Ok(handle)
            }
            Err(error) => {
                self.release_area(cpu, area, handle.range(), super::free::Pages::Owned);
                Err(error)
            }
        }
    }

    /// Returns the pages that `bytes` take.
    pub(super) fn pages_of(&self, bytes: u64) -> Result<u64, VmallocError> {
        let nr_pages = bytes.div_ceil(self.map().page_size() as u64);
        let total: u64 = self.pages().zones().iter().map(Zone::managed).sum();
        if nr_pages == 0 || nr_pages > total { Err(VmallocError::BadSize(bytes)) } else { Ok(nr_pages) }
    }

    /// Makes an area at the lowest addresses that fit (Linux: alloc_vmap_area). If there are none, purges and tries again.
    pub(super) fn reserve_area(&self, cpu: &Cpu, place: &Place) -> Result<(AreaPtr, VirtAddr), VmallocError> {
        if !place.align.max(1).is_power_of_two() {
            return Err(VmallocError::BadAlign(place.align));
        }
        let cache = self.vmalloc.area_cache.get().ok_or(ObjectError::NotStarted)?;
        let gfp =
            place.gfp - Gfp::ZERO - Gfp::HIGHMEM - Gfp::MOVABLE - Gfp::DMA - Gfp::DMA32 - Gfp::COMP - Gfp::THISNODE;
        let object = self.alloc_object(cpu, cache, gfp)?;
        let new = Area {
            range: VirtRange::default(),
            kind: place.kind,
            state: AreaState::Busy,
            caller: place.caller,
            phys: place.phys,
            nr_pages: 0,
            next: None,
        };
        // SAFETY: an object of the cache of areas, just allocated.
        let area = unsafe { AreaPtr::write(object, new) };
        match self.insert_area(cpu, area, place, gfp) {
            Ok(start) => Ok((area, start)),
            Err(error) => {
                self.free_object(cpu, cache, area.object());
                Err(error)
            }
        }
    }

    fn insert_area(&self, cpu: &Cpu, area: AreaPtr, place: &Place, gfp: Gfp) -> Result<VirtAddr, VmallocError> {
        let page = self.map().page_size() as u64;
        let size = (place.bytes.saturating_add(place.guard_pages * page), place.align.max(page));
        let mut nodes = SlabNodes { objects: self, cpu };
        let (mut may_purge, mut may_prepare) = (true, true);
        loop {
            let mut areas = self.vmalloc.areas.lock(cpu);
            // SAFETY: the descriptor was just made, or an attempt before left it out of the tree.
            let outcome = unsafe { areas.insert_lowest(area, self.vmalloc.range, size, &mut nodes) };
            let needed = areas.nodes_for_insert();
            drop(areas);
            match outcome {
                Ok(start) => return Ok(start),
                Err(NoPlace::NoGap) if may_purge => {
                    may_purge = false;
                    self.purge_for_space(cpu);
                }
                Err(NoPlace::NoNode) if may_prepare && nodes.prepare(gfp, needed) => may_prepare = false,
                Err(NoPlace::NoGap) => return Err(VmallocError::NoAddresses),
                Err(NoPlace::NoNode) => return Err(ObjectError::OutOfMemory.into()),
            }
        }
    }

    /// Allocates and maps the pages of an area from `start` up.
    fn populate(
        &self,
        cpu: &Cpu,
        start: VirtAddr,
        nr_pages: u64,
        request: &VmallocRequest,
    ) -> Result<(), VmallocError> {
        let format = self.format()?;
        let large_pages = 1 << format.index_bits();
        let wants_large = request.huge == HugeMappings::WhereTheyFit;
        let mut done = 0;
        while done < nr_pages {
            let at = start.saturating_add(done << format.page_shift());
            let is_aligned = at.raw() & (format.leaf_bytes(Level::PMD) - 1) == 0;
            if wants_large && is_aligned && nr_pages - done >= large_pages && self.populate_large(cpu, at, request)? {
                done += large_pages;
                continue;
            }
            let to_border = large_pages - (done & (large_pages - 1));
            let limit = if wants_large { to_border } else { u64::MAX };
            done += self.populate_batch(cpu, at, (nr_pages - done).min(limit), request)?;
        }
        Ok(())
    }

    /// Maps one large leaf; `false` if no block of its size is free.
    fn populate_large(&self, cpu: &Cpu, virt: VirtAddr, request: &VmallocRequest) -> Result<bool, VmallocError> {
        let order = Order::new_truncate(self.format()?.index_bits() as u8);
        let gfp = (request.page_gfp() | Gfp::NOWARN | Gfp::NORETRY) - Gfp::NOFAIL;
        let block = AllocRequest { node: request.node, ..AllocRequest::new(gfp, order) };
        let Ok(block) = self.pages().alloc_request(cpu, &block) else { return Ok(false) };
        let range = self.pages().bytes(&block);
        let pfn = block.into_raw(self.frames());
        let mapped = self.map_range(cpu, virt, range, request.attributes, (Level::PMD, request.gfp));
        if mapped.is_err() {
            self.free_pages(cpu, pfn, order);
        }
        debug_assert!(
            mapped.is_err() || self.translate(cpu, virt).is_some_and(|found| found.level == Level::PMD),
            "addresses that are free have no table, so a large leaf fits"
        );
        mapped.map(|()| true)
    }

    /// Allocates and maps up to [`BATCH`] of `wanted` single pages; returns how many.
    fn populate_batch(
        &self,
        cpu: &Cpu,
        virt: VirtAddr,
        wanted: u64,
        request: &VmallocRequest,
    ) -> Result<u64, VmallocError> {
        let mut pages = [Pfn::ZERO; BATCH];
        let count = self.take_pages(cpu, request, &mut pages, wanted)?;
        let pages = pages.get(..count).unwrap_or_default();
        let (mapped, result) = self.map_pages(cpu, virt, pages, request.attributes, request.gfp);
        for &page in pages.iter().skip(mapped) {
            self.free_pages(cpu, page, Order::ZERO);
        }
        result.map(|()| count as u64)
    }

    fn take_pages(
        &self,
        cpu: &Cpu,
        request: &VmallocRequest,
        pages: &mut [Pfn; BATCH],
        wanted: u64,
    ) -> Result<usize, VmallocError> {
        let (gfp, wanted) = (request.page_gfp(), wanted.min(BATCH as u64));
        let mut slots = pages.iter_mut();
        let count = match request.node {
            None => self.pages().alloc_bulk(cpu, gfp, wanted, |page| {
                if let Some(slot) = slots.next() {
                    *slot = page.into_raw(self.frames());
                }
            }),
            Some(node) => {
                let page = AllocRequest::new(gfp, Order::ZERO).on_node(node);
                let taken = slots.take(wanted as usize).map_while(|slot| {
                    *slot = self.pages().alloc_request(cpu, &page).ok()?.into_raw(self.frames());
                    Some(())
                });
                taken.count() as u64
            }
        };
        if count == 0 { Err(ObjectError::OutOfMemory.into()) } else { Ok(count as usize) }
    }
}
