//! Page tables of arm64: granules of 4, 16 and 64 KiB, the kernel's half of the address space (TTBR1).
//!
//! Arm ARM, section D8.3 (VMSAv8-64 descriptors, stage 1). Blocks: 2 MiB and 1 GiB with 4 KiB, 32 MiB with 16 KiB, 512 MiB with 64 KiB
//! pages. Physical addresses have 48 bits, or 52 with 64 KiB pages (LPA); LPA2 is not encoded.
//! Indexes of memory types are Linux's: arch/arm64/include/asm/memory.h (MT_NORMAL 0, MT_NORMAL_NC 2, MT_DEVICE_nGnRnE 3, nGnRE 4).

use core::ops::Range;

use units::{PhysAddr, VirtAddr, VirtRange};

use super::{Attributes, Entry, Level, MemoryType, PageTableFormat, Prot};

/// Page tables of arm64 with pages of `1 << PAGE_SHIFT` bytes (12, 14 or 16) and `VIRT_BITS` bits of address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Arm64<const PAGE_SHIFT: u32, const VIRT_BITS: u32>;

const VALID: u64 = 1 << 0;
/// Set in a table entry, and in an entry of the lowest level; clear in a block.
const TABLE_OR_PAGE: u64 = 1 << 1;
const MEMORY_TYPE_SHIFT: u32 = 2;
const MEMORY_TYPE_MASK: u64 = 0b111 << MEMORY_TYPE_SHIFT;
/// Bit 1 of AP: user mode may use it.
const USER: u64 = 1 << 6;
/// Bit 2 of AP.
const READ_ONLY: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const ACCESSED: u64 = 1 << 10;
const NOT_GLOBAL: u64 = 1 << 11;
/// PXN: the kernel may not execute.
const NO_KERNEL_EXECUTE: u64 = 1 << 53;
/// UXN: user mode may not execute.
const NO_USER_EXECUTE: u64 = 1 << 54;
/// A bit that the hardware leaves to software (Linux: PTE_DIRTY).
const DIRTY: u64 = 1 << 55;

/// Bytes of address space for modules (Linux: MODULES_VSIZE).
const MODULES_BYTES: u64 = 2 << 30;
/// Base-2 logarithm of the bytes of a frame descriptor in Linux (STRUCT_PAGE_MAX_SHIFT).
const MEMMAP_ENTRY_SHIFT: u32 = 6;

const NORMAL: u64 = 0;
const NORMAL_NOT_CACHED: u64 = 2;
const DEVICE_NGNRNE: u64 = 3;
const DEVICE_NGNRE: u64 = 4;

impl<const PAGE_SHIFT: u32, const VIRT_BITS: u32> Arm64<PAGE_SHIFT, VIRT_BITS> {
    /// Bits of an entry that hold the address as it is: from the page shift to bit 47.
    const ADDRESS: u64 = (1 << 48) - (1 << PAGE_SHIFT);

    /// Bits of address that the kernel lays itself out in, so that it also runs where the processor has no more than 48 of them.
    const VIRT_BITS_MIN: u32 = if VIRT_BITS > 48 { 48 } else { VIRT_BITS };

    /// Puts address bits 48 to 51 into bits 12 to 15, which 64 KiB pages leave free.
    fn spread(phys: u64) -> u64 {
        let high = if PAGE_SHIFT == 16 { phys >> 48 & 0xf } else { 0 };
        phys & Self::ADDRESS | high << 12
    }

    fn gather(entry: u64) -> u64 {
        let high = if PAGE_SHIFT == 16 { entry >> 12 & 0xf } else { 0 };
        entry & Self::ADDRESS | high << 48
    }
}

impl<const PAGE_SHIFT: u32, const VIRT_BITS: u32> PageTableFormat for Arm64<PAGE_SHIFT, VIRT_BITS> {
    const PAGE_SHIFT: u32 = {
        assert!(PAGE_SHIFT == 12 || PAGE_SHIFT == 14 || PAGE_SHIFT == 16, "arm64 has granules of 4, 16 and 64 KiB");
        PAGE_SHIFT
    };
    const VIRT_BITS: u32 = {
        assert!(
            VIRT_BITS >= 36 && (VIRT_BITS <= 48 || VIRT_BITS == 52 && PAGE_SHIFT == 16),
            "36 to 48 bits, or 52 with 64 KiB"
        );
        VIRT_BITS
    };
    const PHYS_BITS: u32 = if PAGE_SHIFT == 16 { 52 } else { 48 };
    const LARGEST_LEAF: Level = if PAGE_SHIFT == 12 { Level::PUD } else { Level::PMD };
    /// The lower half of the kernel's addresses.
    const DIRECT_MAP_BASE: VirtAddr = VirtAddr::new(!0 << VIRT_BITS);
    const DIRECT_MAP_BYTES: u64 = 1 << (VIRT_BITS - 1);
    /// 1 GiB, so that the largest blocks fit; 512 MiB, a block and a section, with 64 KiB pages (Linux: ARM64_MEMSTART_ALIGN).
    const DIRECT_MAP_ALIGN: u64 = if PAGE_SHIFT == 16 { 1 << 29 } else { 1 << 30 };
    /// Linux 6.12 keeps none on arm64.
    const SOFT_DIRTY: u64 = 0;
    /// From the end of the modules, 2 GiB above the direct map, to 8 MiB below the frame descriptors, which take 64 bytes a page of
    /// the direct map and end 1 GiB below the top.
    const VMALLOC: VirtRange = {
        let page_end = (!0u64) << (Self::VIRT_BITS_MIN - 1);
        let memmap_bytes = page_end.wrapping_sub(!0 << VIRT_BITS) >> (PAGE_SHIFT - MEMMAP_ENTRY_SHIFT);
        let memmap_end = (1u64 << 30).wrapping_neg();
        let start = page_end + MODULES_BYTES;
        VirtRange::new(VirtAddr::new(start), VirtAddr::new(memmap_end - memmap_bytes - (8 << 20)))
    };

    fn encode_leaf(level: Level, phys: PhysAddr, attributes: Attributes) -> u64 {
        let Attributes { prot, memory_type } = attributes;
        let address = Self::spread(phys.raw() & !(Self::leaf_bytes(level) - 1));
        let kind = if level == Level::PTE { VALID | TABLE_OR_PAGE } else { VALID };
        let index = match memory_type {
            MemoryType::Normal => NORMAL,
            MemoryType::WriteCombining => NORMAL_NOT_CACHED,
            MemoryType::StrictDevice => DEVICE_NGNRNE,
            MemoryType::Device => DEVICE_NGNRE,
        };
        // Whoever does not use the mapping may never execute from it.
        let may_execute = match (prot.contains(Prot::EXECUTE), prot.contains(Prot::USER)) {
            (true, true) => NO_KERNEL_EXECUTE,
            (true, false) => NO_USER_EXECUTE,
            (false, _) => NO_KERNEL_EXECUTE | NO_USER_EXECUTE,
        };
        let bit = |condition, bit| if condition { bit } else { 0 };
        address
            | kind
            | index << MEMORY_TYPE_SHIFT
            | may_execute
            | INNER_SHAREABLE
            | bit(prot.contains(Prot::USER), USER)
            | bit(!prot.contains(Prot::WRITE), READ_ONLY)
            | bit(prot.contains(Prot::ACCESSED), ACCESSED)
            | bit(!prot.contains(Prot::GLOBAL), NOT_GLOBAL)
            | bit(prot.contains(Prot::DIRTY), DIRTY)
    }

    fn encode_table(_level: Level, phys: PhysAddr) -> u64 {
        Self::spread(phys.raw()) | VALID | TABLE_OR_PAGE
    }

    /// The kernel has a root of its own (TTBR1).
    fn kernel_root_entries() -> Range<usize> {
        0..0
    }

    /// A block where the level has none is empty to the walker: the hardware faults on it.
    fn decode(level: Level, entry: u64) -> Entry {
        let (valid, table_or_page) = (entry & VALID != 0, entry & TABLE_OR_PAGE != 0);
        let is_leaf = if level == Level::PTE { table_or_page } else { !table_or_page && level <= Self::LARGEST_LEAF };
        if valid && table_or_page && level != Level::PTE {
            return Entry::Table(PhysAddr::new(Self::gather(entry)));
        }
        if !valid || !is_leaf {
            return Entry::Empty;
        }
        let user = entry & USER != 0;
        let forbidden = if user { NO_USER_EXECUTE } else { NO_KERNEL_EXECUTE };
        let mut prot = Prot::empty();
        prot.set(Prot::USER, user);
        prot.set(Prot::WRITE, entry & READ_ONLY == 0);
        prot.set(Prot::EXECUTE, entry & forbidden == 0);
        prot.set(Prot::GLOBAL, entry & NOT_GLOBAL == 0);
        prot.set(Prot::ACCESSED, entry & ACCESSED != 0);
        prot.set(Prot::DIRTY, entry & DIRTY != 0);
        let memory_type = match (entry & MEMORY_TYPE_MASK) >> MEMORY_TYPE_SHIFT {
            NORMAL_NOT_CACHED => MemoryType::WriteCombining,
            DEVICE_NGNRNE => MemoryType::StrictDevice,
            DEVICE_NGNRE => MemoryType::Device,
            _ => MemoryType::Normal,
        };
        let phys = Self::gather(entry) & !(Self::leaf_bytes(level) - 1);
        Entry::Leaf(PhysAddr::new(phys), Attributes { prot, memory_type })
    }

    /// All bits above the translated ones are set: TTBR1.
    fn kernel_address(offset: u64) -> VirtAddr {
        VirtAddr::new(offset | !0 << VIRT_BITS)
    }
}
