//! The direct map: one offset between physical and virtual addresses of all memory.
//!
//! Linux 6.12: __va and __pa (x86: arch/x86/include/asm/page_64.h; arm64: __phys_to_virt, memstart_addr).

use platform::PageTableFormat;
use units::{PhysAddr, VirtAddr};

/// Where the direct map lies, and which physical address its start shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirectMap {
    virt_base: VirtAddr,
    phys_base: PhysAddr,
    bytes: u64,
}

impl DirectMap {
    /// Places the direct map of a machine whose memory starts at `start_of_memory`.
    ///
    /// x86-64 shows physical address 0 at its start, arm64 the start of memory rounded down (Linux: memstart_addr).
    pub fn new<F: PageTableFormat>(start_of_memory: PhysAddr) -> Self {
        let phys_base = match F::DIRECT_MAP_ALIGN {
            0 => PhysAddr::ZERO,
            align => start_of_memory.align_down(align),
        };
        Self { virt_base: F::DIRECT_MAP_BASE, phys_base, bytes: F::DIRECT_MAP_BYTES }
    }

    /// Returns the first address of the direct map.
    pub const fn start(&self) -> VirtAddr {
        self.virt_base
    }

    /// Returns where the direct map shows `phys`; `None` if it lies outside. Says nothing about whether memory is there.
    pub fn phys_to_virt(&self, phys: PhysAddr) -> Option<VirtAddr> {
        let offset = phys.raw().checked_sub(self.phys_base.raw()).filter(|&offset| offset < self.bytes)?;
        self.virt_base.checked_add(offset)
    }

    /// Returns which physical address the direct map shows at `virt`; `None` if `virt` lies outside.
    pub fn virt_to_phys(&self, virt: VirtAddr) -> Option<PhysAddr> {
        let offset = virt.raw().checked_sub(self.virt_base.raw()).filter(|&offset| offset < self.bytes)?;
        self.phys_base.checked_add(offset)
    }
}
