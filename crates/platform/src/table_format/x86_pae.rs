//! Page tables of 32-bit x86 with PAE: pages of 4 KiB and 2 MiB, three levels, the root with four entries.
//!
//! Entries are those of x86-64. Entries of the root have no bits for writing, user mode, use and changes: those are reserved and
//! must be 0. Intel SDM volume 3, section 5.4. The kernel has the addresses from 3 GiB up, most of them a direct map of low memory.

use core::ops::Range;

use units::{PhysAddr, VirtAddr, VirtRange};

use super::{Attributes, Entry, Level, PageTableFormat, Prot, X86_64};

/// Page tables of 32-bit x86 with PAE.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct X86Pae;

const PRESENT: u64 = 1 << 0;
/// Bits 12 to 51.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Drops what entries do not keep here.
fn kept(attributes: Attributes) -> Attributes {
    Attributes { prot: attributes.prot - Prot::SOFT_DIRTY, ..attributes }
}

impl PageTableFormat for X86Pae {
    const PAGE_SHIFT: u32 = 12;
    const VIRT_BITS: u32 = 32;
    const PHYS_BITS: u32 = 52;
    const LARGEST_LEAF: Level = Level::PMD;
    const DIRECT_MAP_BASE: VirtAddr = VirtAddr::new(3 << 30);
    /// Up to 8 MiB below the vmalloc area (Linux: MAXMEM, VMALLOC_OFFSET).
    const DIRECT_MAP_BYTES: u64 = 0x377f_e000;
    const DIRECT_MAP_ALIGN: u64 = 0;
    /// Linux keeps it with 64 bits only.
    const SOFT_DIRTY: u64 = 0;
    /// 120 MiB below the fixed mappings (Linux: __VMALLOC_RESERVE less VMALLOC_OFFSET).
    const VMALLOC: VirtRange = VirtRange::new(VirtAddr::new(0xf7ff_e000), VirtAddr::new(0xff7f_e000));

    fn encode_leaf(level: Level, phys: PhysAddr, attributes: Attributes) -> u64 {
        X86_64::<4>::encode_leaf(level, phys, kept(attributes))
    }

    fn encode_table(level: Level, phys: PhysAddr) -> u64 {
        if level == Self::ROOT { phys.raw() & ADDRESS | PRESENT } else { X86_64::<4>::encode_table(level, phys) }
    }

    /// The last of four.
    fn kernel_root_entries() -> Range<usize> {
        3..4
    }

    fn decode(level: Level, entry: u64) -> Entry {
        if level == Self::ROOT && entry & PRESENT != 0 {
            return Entry::Table(PhysAddr::new(entry & ADDRESS));
        }
        match X86_64::<4>::decode(level, entry) {
            Entry::Leaf(phys, attributes) => Entry::Leaf(phys, kept(attributes)),
            other => other,
        }
    }

    /// Addresses have 32 bits and nothing above them.
    fn kernel_address(offset: u64) -> VirtAddr {
        VirtAddr::new(offset)
    }
}
