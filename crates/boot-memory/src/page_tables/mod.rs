//! The kernel's page tables: mapping, unmapping, walks, the direct map of all memory, and a dump of it.
//!
//! Tables come through [`TableMemory`]: from memblock at boot, from the page allocator after it. Entries have the bits of a
//! [`platform::TableFormat`]. Used by the machines at boot, by one CPU, and by vmalloc, under its lock; no locking here.
//! Linux 6.12: arch/x86/mm/init.c (init_memory_mapping), arch/arm64/mm/mmu.c (paging_init, early_pgtable_alloc), mm/ptdump.c,
//! mm/vmalloc.c (vmap_pages_range_noflush, vunmap_range_noflush).
//!
//! ```
//! use mmkit_boot_memory::page_tables::{DirectMap, TableMemory, PageTables};
//! use platform::{Attributes, Level, X86_64};
//! use units::{PhysAddr, PhysRange};
//!
//! /// Tables in a vector; a table's address is its index in pages.
//! struct Tables(Vec<[u64; 512]>);
//!
//! impl TableMemory for Tables {
//!     fn alloc_table(&mut self) -> Option<PhysAddr> {
//!         self.0.push([0; 512]);
//!         Some(PhysAddr::new((self.0.len() as u64 - 1) << 12))
//!     }
//!     fn read_entry(&self, table: PhysAddr, index: usize) -> u64 {
//!         self.0[(table.raw() >> 12) as usize][index]
//!     }
//!     fn write_entry(&mut self, table: PhysAddr, index: usize, entry: u64) {
//!         self.0[(table.raw() >> 12) as usize][index] = entry;
//!     }
//! }
//!
//! let mut memory = Tables(Vec::new());
//! let direct = DirectMap::new::<X86_64<4>>(PhysAddr::ZERO);
//! let mut tables = PageTables::<X86_64<4>>::alloc(&mut memory).unwrap();
//! let ram = [PhysRange::new(PhysAddr::new(0x10_0000), PhysAddr::new(64 << 20))];
//! tables.map_direct(&mut memory, &direct, ram, Attributes::KERNEL_DATA, Level::PMD).unwrap();
//!
//! let virt = direct.phys_to_virt(PhysAddr::new(0x123_4567)).unwrap();
//! assert_eq!(virt.raw(), 0xffff_8880_0123_4567);
//! assert_eq!(tables.walk(&memory, virt).map(|found| (found.phys.raw(), found.level)), Some((0x123_4567, Level::PMD)));
//!
//! let mut dump = String::new();
//! tables.dump(&memory, &mut dump).unwrap();
//! assert_eq!(dump.lines().nth(1), Some("0xffff888000200000-0xffff888004000000        62M     RW NX GLB normal pmd"));
//! ```

mod direct_map;
mod dump;
mod map;
mod unmap;
mod walk;

use core::fmt;

use platform::{Entry, KernelTables, Level, TableFormat};
use units::{PhysAddr, VirtAddr};

pub use direct_map::DirectMap;
pub use dump::LeafRun;
pub use walk::Translation;

/// Where tables come from, and how their entries are reached.
pub trait TableMemory {
    /// Takes a page for a table, every entry 0, aligned to its size; `None` if none is at hand (Linux: early_pgtable_alloc).
    fn alloc_table(&mut self) -> Option<PhysAddr>;

    /// Returns entry `index` of the table at `table`; 0 if no table is there.
    fn read_entry(&self, table: PhysAddr, index: usize) -> u64;

    /// Sets entry `index` of the table at `table`.
    fn write_entry(&mut self, table: PhysAddr, index: usize, entry: u64);
}

/// A mapping that could not be made. What was mapped before stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// No page for a table.
    OutOfMemory,
    /// The start of either side is no multiple of the page size, or the sides have different lengths.
    Unaligned(VirtAddr),
    /// The range leaves what the kernel's root table translates, or what the direct map holds.
    OutsideAddressSpace(VirtAddr),
    /// The memory is higher than an entry can say.
    PhysTooHigh(PhysAddr),
    /// Something is mapped there already.
    AlreadyMapped(VirtAddr),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory => f.write_str("no memory for a page table"),
            Self::Unaligned(virt) => write!(f, "mapping at {virt:#x} is not aligned to pages"),
            Self::OutsideAddressSpace(virt) => write!(f, "mapping at {virt:#x} leaves the address space"),
            Self::PhysTooHigh(phys) => write!(f, "physical address {phys:#x} does not fit into a page-table entry"),
            Self::AlreadyMapped(virt) => write!(f, "something is mapped at {virt:#x} already"),
        }
    }
}

impl core::error::Error for MapError {}

/// The kernel's page tables, by the address of their root.
///
/// # Invariants
/// `root` is a table of the format's root level, and whatever it points to are tables of the levels below.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageTables<F: TableFormat> {
    root: PhysAddr,
    format: F,
}

impl<F: TableFormat + Default> PageTables<F> {
    /// Takes an empty root table of a format that the compiler knows.
    ///
    /// # Errors
    /// [`MapError::OutOfMemory`].
    pub fn alloc(memory: &mut impl TableMemory) -> Result<Self, MapError> {
        let root = memory.alloc_table().ok_or(MapError::OutOfMemory)?;
        Ok(Self::at(root))
    }

    /// Takes the tables that hang under the root table at `root`, such as those that a boot loader left.
    ///
    /// What is not a tree of tables gives wrong translations, but neither endless walks nor panics.
    pub fn at(root: PhysAddr) -> Self {
        Self { root, format: F::default() }
    }
}

impl<F: TableFormat> PageTables<F> {
    /// Takes the tables that a machine runs on.
    pub const fn of(tables: KernelTables<F>) -> Self {
        Self { root: tables.root, format: tables.format }
    }

    /// Returns the address of the root table, for the processor's register (CR3, TTBR1).
    pub const fn root(&self) -> PhysAddr {
        self.root
    }

    /// Returns how entries are encoded.
    pub const fn format(&self) -> F {
        self.format
    }

    fn entry(&self, memory: &impl TableMemory, table: PhysAddr, level: Level, index: usize) -> Entry {
        self.format.decode(level, memory.read_entry(table, index))
    }
}

#[cfg(test)]
mod tests;
