//! Page tables of x86-64: pages of 4 KiB, four or five levels, leaves of 4 KiB, 2 MiB and 1 GiB.
//!
//! Intel SDM volume 3, section 5.5; the memory types are those that Linux programs into the PAT (WB, WC, UC-, UC).

use core::ops::Range;

use units::{PhysAddr, VirtAddr, VirtRange};

use super::{Attributes, Entry, Level, MemoryType, PageTableFormat, Prot};

/// Page tables of x86-64 with `LEVELS` levels: 4, or 5 with LA57.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct X86_64<const LEVELS: u32>;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
/// PWT and PCD: the two low bits of the index into the PAT.
const PAT_SHIFT: u32 = 3;
const PAT_MASK: u64 = 0b11 << PAT_SHIFT;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// A leaf above the lowest level.
const PAGE_SIZE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
/// The last of three bits that the processor leaves to software (Linux: `_PAGE_BIT_SOFTW3`).
const SOFT_DIRTY: u64 = 1 << 11;
const NO_EXECUTE: u64 = 1 << 63;
/// Bits 12 to 51.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Returns the bits of an entry that say what `prot` allows. Moves several bits at a time: entries are read and made more often than anything else here.
#[inline(always)]
const fn bits_of(prot: Prot) -> u64 {
    let prot = prot.bits() as u64;
    let write_accessed_dirty = (prot & WRITE_ACCESSED_DIRTY) << 1;
    let global_soft_dirty = (prot & GLOBAL_SOFT_DIRTY) << 5;
    let no_execute = !prot << 62 & NO_EXECUTE;
    write_accessed_dirty | prot & USER | global_soft_dirty | no_execute
}

/// The inverse of [`bits_of`].
#[inline(always)]
const fn prot_of(entry: u64) -> Prot {
    let write_accessed_dirty = entry >> 1 & WRITE_ACCESSED_DIRTY;
    let global_soft_dirty = entry >> 5 & GLOBAL_SOFT_DIRTY;
    let execute = !entry >> 62 & Prot::EXECUTE.bits() as u64;
    Prot::from_bits_truncate((write_accessed_dirty | entry & USER | global_soft_dirty | execute) as u8)
}

/// Flags of [`Prot`] that lie one bit higher in an entry.
const WRITE_ACCESSED_DIRTY: u64 = Prot::WRITE.bits() as u64 | Prot::ACCESSED.bits() as u64 | Prot::DIRTY.bits() as u64;

/// Flags that lie five bits higher.
const GLOBAL_SOFT_DIRTY: u64 = Prot::GLOBAL.bits() as u64 | Prot::SOFT_DIRTY.bits() as u64;

/// All that [`bits_of`] may set.
const PROT: u64 = WRITABLE | USER | ACCESSED | DIRTY | GLOBAL | SOFT_DIRTY | NO_EXECUTE;

/// Each flag has the bit that [`bits_of`] moves it to.
const _: () = {
    assert!(bits_of(Prot::WRITE) & !NO_EXECUTE == WRITABLE);
    assert!(bits_of(Prot::USER) & !NO_EXECUTE == USER);
    assert!(bits_of(Prot::ACCESSED) & !NO_EXECUTE == ACCESSED);
    assert!(bits_of(Prot::DIRTY) & !NO_EXECUTE == DIRTY);
    assert!(bits_of(Prot::GLOBAL) & !NO_EXECUTE == GLOBAL);
    assert!(bits_of(Prot::SOFT_DIRTY) & !NO_EXECUTE == SOFT_DIRTY);
    assert!(bits_of(Prot::EXECUTE) == 0 && bits_of(Prot::empty()) == NO_EXECUTE);
};

const MEMORY_TYPES: [MemoryType; 4] =
    [MemoryType::Normal, MemoryType::WriteCombining, MemoryType::Device, MemoryType::StrictDevice];

impl<const LEVELS: u32> PageTableFormat for X86_64<LEVELS> {
    const PAGE_SHIFT: u32 = 12;
    const VIRT_BITS: u32 = {
        assert!(LEVELS == 4 || LEVELS == 5, "x86-64 has four or five levels");
        12 + 9 * LEVELS
    };
    const PHYS_BITS: u32 = 52;
    const LARGEST_LEAF: Level = Level::PUD;
    const DIRECT_MAP_BASE: VirtAddr =
        VirtAddr::new(if LEVELS == 4 { 0xffff_8880_0000_0000 } else { 0xff11_0000_0000_0000 });
    const DIRECT_MAP_BYTES: u64 = if LEVELS == 4 { 64 << 40 } else { 32 << 50 };
    const DIRECT_MAP_ALIGN: u64 = 0;
    const SOFT_DIRTY: u64 = SOFT_DIRTY;
    /// 32 TiB, or 12,800 TiB with five levels.
    const VMALLOC: VirtRange = if LEVELS == 4 {
        VirtRange::new(VirtAddr::new(0xffff_c900_0000_0000), VirtAddr::new(0xffff_e8ff_ffff_ffff))
    } else {
        VirtRange::new(VirtAddr::new(0xffa0_0000_0000_0000), VirtAddr::new(0xffd1_ffff_ffff_ffff))
    };

    #[inline(always)]
    fn encode_leaf(level: Level, phys: PhysAddr, attributes: Attributes) -> u64 {
        let address = phys.raw() & ADDRESS & !(Self::leaf_bytes(level) - 1);
        let size = if level == Level::PTE { 0 } else { PAGE_SIZE };
        let pat = match attributes.memory_type {
            MemoryType::Normal => 0,
            MemoryType::WriteCombining => 1,
            MemoryType::Device => 2,
            MemoryType::StrictDevice => 3,
        };
        address | PRESENT | size | pat << PAT_SHIFT | bits_of(attributes.prot)
    }

    /// Table entries allow everything, so that the leaf alone decides.
    #[inline(always)]
    fn encode_table(_level: Level, phys: PhysAddr) -> u64 {
        phys.raw() & ADDRESS | PRESENT | WRITABLE | USER | ACCESSED | DIRTY
    }

    /// The upper half.
    fn kernel_root_entries() -> Range<usize> {
        256..512
    }

    #[inline(always)]
    fn decode(level: Level, entry: u64) -> Entry {
        if entry & PRESENT == 0 {
            return Entry::Empty;
        }
        let is_leaf = level == Level::PTE || (entry & PAGE_SIZE != 0 && level <= Self::LARGEST_LEAF);
        if !is_leaf {
            return Entry::Table(PhysAddr::new(entry & ADDRESS));
        }
        let memory_type = MEMORY_TYPES.get(((entry & PAT_MASK) >> PAT_SHIFT) as usize).copied().unwrap_or_default();
        // Masking with the leaf's size also drops the third PAT bit, which large leaves have at bit 12.
        let phys = entry & ADDRESS & !(Self::leaf_bytes(level) - 1);
        Entry::Leaf(PhysAddr::new(phys), Attributes { prot: prot_of(entry), memory_type })
    }

    #[inline(always)]
    fn with_prot(level: Level, entry: u64, prot: Prot) -> u64 {
        if Self::prot(level, entry).is_none() { entry } else { entry & !PROT | bits_of(prot) }
    }

    /// Extends the sign: the highest translated bit fills all bits above it.
    fn kernel_address(offset: u64) -> VirtAddr {
        let unused = u64::BITS - Self::VIRT_BITS;
        VirtAddr::new(((offset << unused).cast_signed() >> unused).cast_unsigned())
    }
}
