//! Page tables so small that a model can hold all of them: three levels of two entries each.
//!
//! Eight pages of addresses, all of them the user's; an entry of the middle level maps two pages. Entries are those of x86-64.

use std::ops::Range;

use platform::{Attributes, Entry, Level, PageTableFormat, X86_64};
use units::{PhysAddr, VirtAddr, VirtRange};

/// The format.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tiny;

/// A leaf above the lowest level.
const LARGE: u64 = 1 << 7;

impl PageTableFormat for Tiny {
    const PAGE_SHIFT: u32 = 12;
    const VIRT_BITS: u32 = 15;
    const PHYS_BITS: u32 = 52;
    const LARGEST_LEAF: Level = Level::PMD;
    const SOFT_DIRTY: u64 = X86_64::<4>::SOFT_DIRTY;
    const DIRECT_MAP_BASE: VirtAddr = VirtAddr::ZERO;
    const DIRECT_MAP_BYTES: u64 = 0;
    const DIRECT_MAP_ALIGN: u64 = 0;
    const VMALLOC: VirtRange = VirtRange::new(VirtAddr::ZERO, VirtAddr::ZERO);
    const INDEX_BITS: u32 = 1;
    const ROOT: Level = Level::PUD;

    fn encode_leaf(level: Level, phys: PhysAddr, attributes: Attributes) -> u64 {
        let large = if level == Level::PTE { 0 } else { LARGE };
        X86_64::<4>::encode_leaf(Level::PTE, phys, attributes) | large
    }

    fn encode_table(level: Level, phys: PhysAddr) -> u64 {
        X86_64::<4>::encode_table(level, phys)
    }

    fn kernel_root_entries() -> Range<usize> {
        0..0
    }

    fn decode(level: Level, entry: u64) -> Entry {
        if level > Level::PTE && entry & LARGE == 0 {
            return X86_64::<4>::decode(Level::P4D, entry);
        }
        X86_64::<4>::decode(Level::PTE, entry & !LARGE)
    }

    fn kernel_address(offset: u64) -> VirtAddr {
        VirtAddr::new(offset)
    }
}
