//! How page tables are encoded: entry bits, levels and address split of x86-64 and arm64.
//!
//! Pure functions between an entry's 64 bits and what it means; reading and writing tables is done by their users
//! (`boot-memory`'s page tables), in the machine's memory. No locking, no state.
//! Linux 6.12: arch/x86/include/asm/pgtable_types.h, arch/arm64/include/asm/pgtable-hwdef.h, pgtable-prot.h.

mod arm64;
mod attributes;
mod value;
mod x86_64;
mod x86_pae;

use core::fmt;
use core::ops::Range;

use units::{PhysAddr, VirtAddr, VirtRange};

pub use arm64::Arm64;
pub use attributes::{Attributes, MemoryType, Prot};
pub use value::{AnyFormat, TableFormat};
pub use x86_64::X86_64;
pub use x86_pae::X86Pae;

/// Level of a page table, counted from the one that maps single pages; Linux's names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct Level(u8);

impl Level {
    /// Entries map single pages.
    pub const PTE: Self = Self(0);
    /// The level above: 2 MiB an entry with pages of 4 KiB.
    pub const PMD: Self = Self(1);
    /// The third level: 1 GiB an entry with pages of 4 KiB.
    pub const PUD: Self = Self(2);
    /// The fourth level.
    pub const P4D: Self = Self(3);
    /// The fifth level.
    pub const PGD: Self = Self(4);

    /// Returns the number of levels below this one.
    #[inline]
    pub const fn raw(self) -> u8 {
        self.0
    }

    /// Returns the level whose tables this level's entries point to; `None` for [`Level::PTE`].
    #[inline]
    pub const fn down(self) -> Option<Self> {
        if self.0 == 0 { None } else { Some(Self(self.0 - 1)) }
    }
}

/// Writes Linux's name of the level in lower case: `pte`, `pmd`, `pud`, `p4d`, `pgd`.
impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self.0 {
            0 => "pte",
            1 => "pmd",
            2 => "pud",
            3 => "p4d",
            _ => "pgd",
        })
    }
}

/// What an entry of a page table means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Nothing is mapped.
    Empty,
    /// A table of the level below lies there.
    Table(PhysAddr),
    /// Memory is mapped.
    Leaf(PhysAddr, Attributes),
}

impl Entry {
    /// What an entry of any format holds while a kernel has what it mapped in its own hands for a moment. It decodes as [`Entry::Empty`], so a processor that
    /// walks there faults, but a translation that a processor remembers goes on until it is flushed, if it is.
    pub const HELD: u64 = 1 << 1;
}

/// An architecture's page tables.
///
/// Every table has one page, and every level but the root uses all of it. The constants fix the address split; the functions convert
/// entries. Addresses given to `encode_*` must be aligned to the table or leaf and below [`PageTableFormat::PHYS_BITS`]; other bits of
/// them are dropped, never put into flags.
///
/// ```
/// use mmkit_platform::{Attributes, Entry, Level, PageTableFormat, X86_64};
/// use units::PhysAddr;
///
/// type Format = X86_64<4>;
/// let entry = Format::encode_leaf(Level::PMD, PhysAddr::new(0x20_0000), Attributes::KERNEL_DATA);
/// assert_eq!(entry, 0x8000_0000_0020_01e3);
/// assert_eq!(Format::decode(Level::PMD, entry), Entry::Leaf(PhysAddr::new(0x20_0000), Attributes::KERNEL_DATA));
/// assert_eq!(Format::leaf_bytes(Level::PMD), 2 << 20);
/// ```
pub trait PageTableFormat: Copy + fmt::Debug + Default + Send + Sync + 'static {
    /// Base-2 logarithm of the page size.
    const PAGE_SHIFT: u32;
    /// Number of bits of a virtual address that the tables translate.
    const VIRT_BITS: u32;
    /// Number of bits of the highest physical address that an entry can hold.
    const PHYS_BITS: u32;
    /// Largest level whose entries may map memory.
    const LARGEST_LEAF: Level;
    /// Where the direct map of all memory starts (Linux: PAGE_OFFSET).
    const DIRECT_MAP_BASE: VirtAddr;
    /// Bytes of address space for the direct map.
    const DIRECT_MAP_BYTES: u64;
    /// What the physical address at the start of the direct map is a multiple of; 0 if it is always address 0.
    const DIRECT_MAP_ALIGN: u64;
    /// Bit of an entry that maps memory which software keeps for [`Prot::SOFT_DIRTY`] (Linux: `_PAGE_SOFT_DIRTY`); 0 where no such bit is kept.
    const SOFT_DIRTY: u64;
    /// Addresses for areas that are contiguous in virtual memory only (Linux: VMALLOC_START to VMALLOC_END, of which x86 counts the
    /// last byte out).
    const VMALLOC: VirtRange;

    /// Bits of a virtual address that select an entry of one table.
    const INDEX_BITS: u32 = Self::PAGE_SHIFT - 3;
    /// Level of the root table.
    const ROOT: Level = Level((Self::VIRT_BITS - Self::PAGE_SHIFT).div_ceil(Self::PAGE_SHIFT - 3) as u8 - 1);

    /// Returns an entry that maps memory; `level` must be at most [`PageTableFormat::LARGEST_LEAF`].
    fn encode_leaf(level: Level, phys: PhysAddr, attributes: Attributes) -> u64;

    /// Returns an entry that points to the table at `phys`; `level` is the level of the entry, not of the table, and not [`Level::PTE`].
    fn encode_table(level: Level, phys: PhysAddr) -> u64;

    /// Returns what `entry` of a table of `level` means; bits that this type does not know are dropped.
    fn decode(level: Level, entry: u64) -> Entry;

    /// Returns what the memory that `entry` of a table of `level` maps allows, and whether it was used; `None` if it maps none.
    #[inline(always)]
    fn prot(level: Level, entry: u64) -> Option<Prot> {
        match Self::decode(level, entry) {
            Entry::Leaf(_, attributes) => Some(attributes.prot),
            Entry::Empty | Entry::Table(_) => None,
        }
    }

    /// Returns the same mapping as `entry`, which maps memory, with other permissions and marks of use; what maps none stays as it is.
    #[inline(always)]
    fn with_prot(level: Level, entry: u64, prot: Prot) -> u64 {
        match Self::decode(level, entry) {
            Entry::Leaf(phys, attributes) => Self::encode_leaf(level, phys, Attributes { prot, ..attributes }),
            Entry::Empty | Entry::Table(_) => entry,
        }
    }

    /// Returns the virtual address that the kernel's root table translates at `offset`, the low [`PageTableFormat::VIRT_BITS`] bits.
    fn kernel_address(offset: u64) -> VirtAddr;

    /// Returns the entries of a process's root table that are the kernel's; none where kernel and user have roots of their own.
    fn kernel_root_entries() -> Range<usize>;

    /// Returns the base-2 logarithm of the bytes that one entry of `level` covers.
    #[inline]
    fn shift(level: Level) -> u32 {
        Self::PAGE_SHIFT + u32::from(level.raw()) * Self::INDEX_BITS
    }

    /// Returns the bytes that one entry of `level` covers.
    #[inline]
    fn leaf_bytes(level: Level) -> u64 {
        1 << Self::shift(level)
    }

    /// Returns the number of entries of a table of `level`: a full page, except that the root may have fewer.
    #[inline]
    fn entries(level: Level) -> usize {
        let bits = Self::INDEX_BITS.min(Self::VIRT_BITS - Self::shift(level));
        1 << bits
    }

    /// Returns the index of the entry of `level` that translates `virt`.
    #[inline]
    fn index(level: Level, virt: VirtAddr) -> usize {
        (virt.raw() >> Self::shift(level)) as usize & (Self::entries(level) - 1)
    }

    /// Returns true if the kernel's root table translates `virt`: its high bits are as they have to be.
    #[inline]
    fn is_kernel_address(virt: VirtAddr) -> bool {
        Self::kernel_address(virt.raw() & ((1 << Self::VIRT_BITS) - 1)) == virt
    }
}

#[cfg(test)]
mod tests;
