//! Areas that show memory of someone else: given pages, or the registers of a device.
//!
//! Linux 6.12: `vmap`, arch/x86/mm/ioremap.c and mm/ioremap.c (`ioremap_prot`).

use page_allocator::Hooks;
use platform::{Attributes, MemoryType, Platform, TableFormat};
use sync::Cpu;
use units::{Gfp, Pfn, PhysRange, VirtAddr};

use super::VmallocError;
use super::alloc::Place;
use super::area::{AreaKind, VmapArea};
use super::free::Pages;
use crate::ObjectAllocator;

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Shows `pages` side by side, in their order (Linux: vmap). They stay whose they are.
    ///
    /// # Errors
    /// [`VmallocError`]; nothing is mapped then.
    pub fn vmap(
        &self,
        cpu: &Cpu,
        pages: &[Pfn],
        attributes: Attributes,
        caller: &'static str,
    ) -> Result<VmapArea, VmallocError> {
        let bytes = (pages.len() as u64) << self.format()?.page_shift();
        self.pages_of(bytes)?;
        let place =
            Place { bytes, align: 1, guard_pages: 1, kind: AreaKind::Vmap, caller, phys: None, gfp: Gfp::KERNEL };
        self.map_area(cpu, &place, |virt| self.map_pages(cpu, virt, pages, attributes, Gfp::KERNEL).1)
    }

    /// Shows the registers of a device, or other memory that the page allocator does not have, with leaves as large as fit.
    ///
    /// The range may start and end inside of pages; whole pages are mapped, and [`Mapped::start`] is where its first byte is seen
    /// (Linux: ioremap, ioremap_wc by `memory_type`).
    ///
    /// # Errors
    /// [`VmallocError::IsMemory`] if the page allocator has part of the range; else as [`ObjectAllocator::vmap`].
    pub fn ioremap(
        &self,
        cpu: &Cpu,
        range: PhysRange,
        memory_type: MemoryType,
        caller: &'static str,
    ) -> Result<Mapped, VmallocError> {
        let page_shift = self.format()?.page_shift();
        if range.is_empty() {
            return Err(VmallocError::BadSize(range.len()));
        }
        let frames = range.touched_frames(page_shift);
        let pages = frames.phys(page_shift);
        if frames.end.raw() > 1 << (self.format()?.phys_bits() - page_shift) {
            return Err(VmallocError::PhysTooHigh(range.end));
        }
        let is_ours = |zone: &page_allocator::Zone| !zone.span().intersection(frames).is_empty();
        let may_be_ours = self.pages().zones().iter().any(is_ours);
        if may_be_ours && frames.iter().any(|pfn| self.is_managed(pfn)) {
            return Err(VmallocError::IsMemory(range));
        }
        let largest = self.format()?.largest_leaf();
        let align = largest_power_within(pages.len()).min(self.format()?.leaf_bytes(largest));
        let place = Place {
            bytes: pages.len(),
            align,
            guard_pages: 1,
            kind: AreaKind::Ioremap,
            caller,
            phys: Some(pages.start),
            gfp: Gfp::KERNEL,
        };
        let attributes = Attributes { memory_type, ..Attributes::KERNEL_DATA };
        let area =
            self.map_area(cpu, &place, |virt| self.map_range(cpu, virt, pages, attributes, (largest, Gfp::KERNEL)))?;
        Ok(Mapped { offset: range.start.since(pages.start), area })
    }

    /// Returns true if a frame is the page allocator's: it has a descriptor and is not reserved.
    fn is_managed(&self, pfn: Pfn) -> bool {
        let frame = self.frames().get_valid(pfn);
        frame.is_some_and(|frame| !frame.flags().contains(frame_table::PageFlags::RESERVED))
    }

    /// Reserves an area and maps it; gives it back if that fails.
    fn map_area(
        &self,
        cpu: &Cpu,
        place: &Place,
        map: impl FnOnce(VirtAddr) -> Result<(), VmallocError>,
    ) -> Result<VmapArea, VmallocError> {
        let (area, start) = self.reserve_area(cpu, place)?;
        let handle = VmapArea { area, start, bytes: place.bytes };
        match map(start) {
            Ok(()) => Ok(handle),
            Err(error) => {
                self.release_area(cpu, area, handle.range(), Pages::Foreign);
                Err(error)
            }
        }
    }
}

/// A device's registers as the kernel sees them.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "dropping a mapping leaks its addresses"]
pub struct Mapped {
    area: VmapArea,
    offset: u64,
}

impl Mapped {
    /// Returns where the first byte that was asked for is seen.
    pub fn start(&self) -> VirtAddr {
        self.area.start().saturating_add(self.offset)
    }

    /// Returns the whole pages, for [`ObjectAllocator::vunmap`] (Linux: iounmap).
    pub fn into_area(self) -> VmapArea {
        self.area
    }
}

/// Returns the largest power of two that is at most `bytes`.
fn largest_power_within(bytes: u64) -> u64 {
    1 << bytes.max(1).ilog2()
}
