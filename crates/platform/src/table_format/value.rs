//! A table format as a value: one that the compiler knows, or one chosen when the machine is made.
//!
//! [`TableFormat`] is what code asks that works on tables of a booted machine. Every [`PageTableFormat`] is one, as a value without
//! bytes; [`AnyFormat`] is one for machines whose architecture is data, such as a described machine of the hosted kind.

use core::fmt;
use core::ops::Range;

use units::{PhysAddr, VirtAddr, VirtRange};

use super::{Arm64, Attributes, Entry, Level, PageTableFormat, Prot, X86_64, X86Pae};

/// How tables are encoded, asked of a value. The methods are those of [`PageTableFormat`].
pub trait TableFormat: Copy + fmt::Debug + Send + Sync + 'static {
    /// Returns the base-2 logarithm of the page size.
    fn page_shift(self) -> u32;

    /// Returns the number of bits of a virtual address that the tables translate.
    fn virt_bits(self) -> u32;

    /// Returns the number of bits of the highest physical address that an entry can hold.
    fn phys_bits(self) -> u32;

    /// Returns the largest level whose entries may map memory.
    fn largest_leaf(self) -> Level;

    /// Returns the level of the root table.
    fn root_level(self) -> Level;

    /// Returns the bit of an entry that maps memory which says that it was written to since the mark was cleared; 0 in formats without.
    fn soft_dirty(self) -> u64;

    /// Returns the addresses for areas that are contiguous in virtual memory only (Linux: VMALLOC_START, VMALLOC_END).
    fn vmalloc_range(self) -> VirtRange;

    /// Returns an entry that maps memory.
    fn encode_leaf(self, level: Level, phys: PhysAddr, attributes: Attributes) -> u64;

    /// Returns an entry that points to a table.
    fn encode_table(self, level: Level, phys: PhysAddr) -> u64;

    /// Returns what an entry means.
    fn decode(self, level: Level, entry: u64) -> Entry;

    /// Returns what the memory that an entry maps allows; `None` if it maps none.
    fn prot(self, level: Level, entry: u64) -> Option<Prot>;

    /// Returns an entry with other permissions and marks of use.
    fn with_prot(self, level: Level, entry: u64, prot: Prot) -> u64;

    /// Returns the virtual address that the kernel's root table translates at `offset`.
    fn kernel_address(self, offset: u64) -> VirtAddr;

    /// Returns the entries of a process's root table that are the kernel's.
    fn kernel_root_entries(self) -> Range<usize>;

    /// Returns the number of bits of a virtual address that select an entry of one table.
    #[inline]
    fn index_bits(self) -> u32 {
        self.page_shift() - 3
    }

    /// Returns the base-2 logarithm of the bytes that one entry of `level` covers.
    #[inline]
    fn shift(self, level: Level) -> u32 {
        self.page_shift() + u32::from(level.raw()) * self.index_bits()
    }

    /// Returns the bytes that one entry of `level` covers.
    #[inline]
    fn leaf_bytes(self, level: Level) -> u64 {
        1 << self.shift(level)
    }

    /// Returns the number of entries of a table of `level`.
    #[inline]
    fn entries(self, level: Level) -> usize {
        1 << self.index_bits().min(self.virt_bits() - self.shift(level))
    }

    /// Returns the index of the entry of `level` that translates `virt`.
    #[inline]
    fn index(self, level: Level, virt: VirtAddr) -> usize {
        (virt.raw() >> self.shift(level)) as usize & (self.entries(level) - 1)
    }

    /// Returns true if the kernel's root table translates `virt`.
    #[inline]
    fn is_kernel_address(self, virt: VirtAddr) -> bool {
        self.kernel_address(virt.raw() & ((1 << self.virt_bits()) - 1)) == virt
    }
}

impl<F: PageTableFormat> TableFormat for F {
    #[inline(always)]
    fn index_bits(self) -> u32 {
        F::INDEX_BITS
    }

    #[inline(always)]
    fn page_shift(self) -> u32 {
        F::PAGE_SHIFT
    }

    #[inline(always)]
    fn virt_bits(self) -> u32 {
        F::VIRT_BITS
    }

    #[inline(always)]
    fn phys_bits(self) -> u32 {
        F::PHYS_BITS
    }

    #[inline(always)]
    fn largest_leaf(self) -> Level {
        F::LARGEST_LEAF
    }

    #[inline(always)]
    fn root_level(self) -> Level {
        F::ROOT
    }

    #[inline(always)]
    fn soft_dirty(self) -> u64 {
        F::SOFT_DIRTY
    }

    #[inline(always)]
    fn vmalloc_range(self) -> VirtRange {
        F::VMALLOC
    }

    #[inline(always)]
    fn encode_leaf(self, level: Level, phys: PhysAddr, attributes: Attributes) -> u64 {
        F::encode_leaf(level, phys, attributes)
    }

    #[inline(always)]
    fn encode_table(self, level: Level, phys: PhysAddr) -> u64 {
        F::encode_table(level, phys)
    }

    #[inline(always)]
    fn decode(self, level: Level, entry: u64) -> Entry {
        F::decode(level, entry)
    }

    #[inline(always)]
    fn prot(self, level: Level, entry: u64) -> Option<Prot> {
        F::prot(level, entry)
    }

    #[inline(always)]
    fn with_prot(self, level: Level, entry: u64, prot: Prot) -> u64 {
        F::with_prot(level, entry, prot)
    }

    #[inline(always)]
    fn kernel_address(self, offset: u64) -> VirtAddr {
        F::kernel_address(offset)
    }

    #[inline(always)]
    fn kernel_root_entries(self) -> Range<usize> {
        F::kernel_root_entries()
    }
}

/// A format that is chosen at run time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnyFormat {
    /// x86-64 with four levels.
    X86_64,
    /// x86-64 with five levels.
    X86_64La57,
    /// 32-bit x86 with PAE.
    X86Pae,
    /// arm64 with pages of 4 KiB and 48 bits of address.
    Arm64Size4K,
    /// arm64 with pages of 16 KiB and 47 bits of address.
    Arm64Size16K,
    /// arm64 with pages of 64 KiB and 48 bits of address.
    Arm64Size64K,
}

/// Asks the format that a value of [`AnyFormat`] stands for.
macro_rules! ask {
    ($format:expr, $method:ident($($argument:expr),*)) => {
        match $format {
            AnyFormat::X86_64 => TableFormat::$method(X86_64::<4>, $($argument),*),
            AnyFormat::X86_64La57 => TableFormat::$method(X86_64::<5>, $($argument),*),
            AnyFormat::X86Pae => TableFormat::$method(X86Pae, $($argument),*),
            AnyFormat::Arm64Size4K => TableFormat::$method(Arm64::<12, 48>, $($argument),*),
            AnyFormat::Arm64Size16K => TableFormat::$method(Arm64::<14, 47>, $($argument),*),
            AnyFormat::Arm64Size64K => TableFormat::$method(Arm64::<16, 48>, $($argument),*),
        }
    };
}

impl TableFormat for AnyFormat {
    fn page_shift(self) -> u32 {
        ask!(self, page_shift())
    }

    fn virt_bits(self) -> u32 {
        ask!(self, virt_bits())
    }

    fn phys_bits(self) -> u32 {
        ask!(self, phys_bits())
    }

    fn largest_leaf(self) -> Level {
        ask!(self, largest_leaf())
    }

    fn root_level(self) -> Level {
        ask!(self, root_level())
    }

    fn soft_dirty(self) -> u64 {
        ask!(self, soft_dirty())
    }

    fn vmalloc_range(self) -> VirtRange {
        ask!(self, vmalloc_range())
    }

    fn encode_leaf(self, level: Level, phys: PhysAddr, attributes: Attributes) -> u64 {
        ask!(self, encode_leaf(level, phys, attributes))
    }

    fn encode_table(self, level: Level, phys: PhysAddr) -> u64 {
        ask!(self, encode_table(level, phys))
    }

    fn decode(self, level: Level, entry: u64) -> Entry {
        ask!(self, decode(level, entry))
    }

    fn prot(self, level: Level, entry: u64) -> Option<Prot> {
        ask!(self, prot(level, entry))
    }

    fn with_prot(self, level: Level, entry: u64, prot: Prot) -> u64 {
        ask!(self, with_prot(level, entry, prot))
    }

    fn kernel_address(self, offset: u64) -> VirtAddr {
        ask!(self, kernel_address(offset))
    }

    fn kernel_root_entries(self) -> Range<usize> {
        ask!(self, kernel_root_entries())
    }
}

#[cfg(test)]
mod tests {
    use units::PhysAddr;

    use super::{AnyFormat, TableFormat};
    use crate::{Arm64, Attributes, Level, Prot, X86_64, X86Pae};

    fn answers<F: TableFormat>(format: F) -> impl PartialEq + core::fmt::Debug {
        let virt = format.vmalloc_range().start;
        let leaf = format.encode_leaf(Level::PMD, PhysAddr::new(1 << 30), Attributes::KERNEL_DATA);
        let table = format.encode_table(Level::PMD, PhysAddr::new(1 << 30));
        let sizes = (format.page_shift(), format.virt_bits(), format.phys_bits(), format.entries(format.root_level()));
        let other = (format.prot(Level::PMD, leaf), format.with_prot(Level::PMD, leaf, Prot::USER));
        let entries = (leaf, table, other, format.decode(Level::PMD, leaf), format.index(Level::PMD, virt));
        let levels = (format.largest_leaf(), format.root_level(), format.leaf_bytes(Level::PMD), format.soft_dirty());
        (sizes, entries, levels, format.vmalloc_range(), format.is_kernel_address(virt), format.kernel_address(1))
    }

    fn same(any: AnyFormat, known: impl TableFormat) {
        // Every answer is of the same type, whatever was asked.
        assert_eq!(std::format!("{:?}", answers(any)), std::format!("{:?}", answers(known)), "{any:?}");
    }

    extern crate std;

    #[test]
    fn a_format_chosen_at_run_time_answers_as_the_one_it_stands_for() {
        same(AnyFormat::X86_64, X86_64::<4>);
        same(AnyFormat::X86_64La57, X86_64::<5>);
        same(AnyFormat::X86Pae, X86Pae);
        same(AnyFormat::Arm64Size4K, Arm64::<12, 48>);
        same(AnyFormat::Arm64Size16K, Arm64::<14, 47>);
        same(AnyFormat::Arm64Size64K, Arm64::<16, 48>);
    }
}
