//! Questions about the lists.
//!
//! Linux 6.12: mm/memblock.c (`memblock_search`, `memblock_is_*`, `memblock_*_of_DRAM`, `memblock_search_pfn_nid`).

use units::{NodeId, Pfn, PfnRange, PhysAddr, PhysRange};

use super::Memblock;
use super::region::RegionFlags;

impl Memblock {
    /// Returns true if there is memory at `addr` (Linux: memblock_is_memory).
    pub fn is_memory(&self, addr: PhysAddr) -> bool {
        self.memory.search(addr).is_some()
    }

    /// Returns true if there is memory at `addr` that the kernel maps (Linux: memblock_is_map_memory).
    pub fn is_map_memory(&self, addr: PhysAddr) -> bool {
        self.memory.search(addr).is_some_and(|index| !self.memory()[index].flags.contains(RegionFlags::NOMAP))
    }

    /// Returns true if `addr` is reserved (Linux: memblock_is_reserved).
    #[inline]
    pub fn is_reserved(&self, addr: PhysAddr) -> bool {
        self.reserved.search(addr).is_some()
    }

    /// Returns true if one memory region holds the whole range (Linux: memblock_is_region_memory).
    pub fn is_region_memory(&self, base: PhysAddr, size: u64) -> bool {
        let end = base.saturating_add(size);
        self.memory.search(base).is_some_and(|index| self.memory()[index].end() >= end)
    }

    /// Returns true if part of the range is reserved (Linux: memblock_is_region_reserved).
    pub fn is_region_reserved(&self, base: PhysAddr, size: u64) -> bool {
        !self.reserved.overlapping(PhysRange::with_len(base, size)).is_empty()
    }

    /// Returns true if part of the range is memory (Linux: memblock_overlaps_region on memory).
    pub fn overlaps_memory(&self, base: PhysAddr, size: u64) -> bool {
        !self.memory.overlapping(PhysRange::with_len(base, size)).is_empty()
    }

    /// Returns true if every byte of `range` is reserved.
    pub fn is_region_reserved_whole(&self, range: PhysRange) -> bool {
        self.reserved.nr_gaps(range, self.reserved.overlapping(range)) == 0
    }

    /// Returns the lowest address of memory, 0 without memory (Linux: memblock_start_of_DRAM).
    pub fn start_of_dram(&self) -> PhysAddr {
        self.memory().first().map_or(PhysAddr::ZERO, |region| region.base)
    }

    /// Returns the end of the highest memory, 0 without memory (Linux: memblock_end_of_DRAM).
    pub fn end_of_dram(&self) -> PhysAddr {
        self.memory().last().map_or(PhysAddr::ZERO, super::Region::end)
    }

    /// Returns the bytes of memory (Linux: memblock_phys_mem_size).
    pub const fn phys_mem_size(&self) -> u64 {
        self.memory.total_size()
    }

    /// Returns the bytes that are reserved (Linux: memblock_reserved_size).
    pub const fn reserved_size(&self) -> u64 {
        self.reserved.total_size()
    }

    /// Returns the memory region around a frame, as frames, and its node (Linux: memblock_search_pfn_nid).
    pub fn search_pfn(&self, pfn: Pfn) -> Option<(PfnRange, Option<NodeId>)> {
        let shift = self.config.page_shift;
        let region = &self.memory()[self.memory.search(pfn.phys(shift))?];
        let frames = PfnRange::new(region.base.pfn_down(shift), region.end().pfn_down(shift));
        Some((frames, self.node_of(region)))
    }
}
