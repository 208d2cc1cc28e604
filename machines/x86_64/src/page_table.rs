//! The kernel's own page tables: four levels, written through the direct map.
//!
//! Table pages come from a pool set aside before memblock exists, because the tables map what memblock hands out. Used at
//! boot by `paging` and `memory`; nothing is ever unmapped. Intel SDM volume 3, 4.5.

use core::ptr::NonNull;

use units::{PhysAddr, PhysRange, VirtAddr};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLE: u64 = 1 << 4;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Entries of a table.
const ENTRIES: u64 = 512;
/// Bytes of a table, and of the smallest page.
pub(crate) const TABLE_SIZE: u64 = 4096;
/// Bytes that an entry of the second level maps.
pub(crate) const LARGE_PAGE: u64 = 2 << 20;
/// Level of the top table; level 1 maps 4 KiB pages.
const TOP_LEVEL: u32 = 4;

/// What may be done with mapped memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// Read and execute.
    Code,
    /// Read.
    ReadOnly,
    /// Read and write.
    Data,
    /// Read and write device registers, uncached.
    Device,
}

impl Access {
    const fn bits(self) -> u64 {
        PRESENT
            | GLOBAL
            | match self {
                Self::Code => 0,
                Self::ReadOnly => NO_EXECUTE,
                Self::Data => WRITABLE | NO_EXECUTE,
                Self::Device => WRITABLE | NO_EXECUTE | CACHE_DISABLE | WRITE_THROUGH,
            }
    }
}

/// Why a range was not mapped, or not whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MapError {
    /// The pool of table pages is used up.
    NoTables,
    /// Something is mapped at this address already.
    Occupied(VirtAddr),
    /// An end of the range is not on a page boundary.
    Unaligned,
}

/// Where table pages come from and how they are reached.
///
/// # Safety
/// `table` returns an aligned pointer to 4,096 bytes, valid for reads and writes as long as the implementer lives and reached
/// by nobody else, for every address that `allocate` returned; each address is returned once.
pub(crate) unsafe trait TableMemory {
    /// Takes a zeroed table page.
    fn allocate(&mut self) -> Option<PhysAddr>;
    /// Returns where a table page that [`TableMemory::allocate`] returned is seen.
    fn table(&self, page: PhysAddr) -> NonNull<u64>;
}

/// A tree of page tables.
///
/// # Invariants
/// `root` and every table below it came from `memory`.
pub(crate) struct PageTable<M> {
    root: PhysAddr,
    memory: M,
}

impl<M: TableMemory> PageTable<M> {
    /// Makes a tree that maps nothing.
    pub(crate) fn new(mut memory: M) -> Result<Self, MapError> {
        let root = memory.allocate().ok_or(MapError::NoTables)?;
        // INVARIANT: `root` was just allocated from `memory`.
        Ok(Self { root, memory })
    }

    /// Returns the physical address of the top table.
    pub(crate) fn root(&self) -> PhysAddr {
        self.root
    }

    /// Maps `range` at `virt`, with 2 MiB pages where both are aligned to them and 4 KiB pages elsewhere.
    ///
    /// On failure the part before the failing page stays mapped.
    pub(crate) fn map(&mut self, virt: VirtAddr, range: PhysRange, access: Access) -> Result<(), MapError> {
        if !(virt.raw() | range.start.raw() | range.end.raw()).is_multiple_of(TABLE_SIZE) {
            return Err(MapError::Unaligned);
        }
        let (mut virt, mut phys) = (virt, range.start);
        while phys < range.end {
            let fits = (virt.raw() | phys.raw()).is_multiple_of(LARGE_PAGE) && range.end.since(phys) >= LARGE_PAGE;
            let (level, size, large) = if fits { (2, LARGE_PAGE, LARGE) } else { (1, TABLE_SIZE, 0) };
            self.set_leaf(virt, level, phys.raw() | access.bits() | large)?;
            virt = virt.saturating_add(size);
            phys = phys.saturating_add(size);
        }
        Ok(())
    }

    /// Returns the physical address behind `virt` and the bits of its entry.
    #[cfg(test)]
    fn lookup(&self, virt: VirtAddr) -> Option<(PhysAddr, u64)> {
        let mut table = self.root;
        for level in (1..=TOP_LEVEL).rev() {
            let entry = self.read(table, index(virt, level));
            if entry & PRESENT == 0 {
                return None;
            }
            if level == 1 || entry & LARGE != 0 {
                let offset = virt.raw() & ((1 << (12 + 9 * (level - 1))) - 1);
                return Some((PhysAddr::new((entry & ADDRESS) + offset), entry & !ADDRESS));
            }
            table = PhysAddr::new(entry & ADDRESS);
        }
        None
    }

    fn set_leaf(&mut self, virt: VirtAddr, leaf_level: u32, entry: u64) -> Result<(), MapError> {
        let mut table = self.root;
        for level in (leaf_level + 1..=TOP_LEVEL).rev() {
            let above = self.read(table, index(virt, level));
            if above & LARGE != 0 {
                return Err(MapError::Occupied(virt));
            }
            let below = if above & PRESENT != 0 {
                PhysAddr::new(above & ADDRESS)
            } else {
                let page = self.memory.allocate().ok_or(MapError::NoTables)?;
                self.write(table, index(virt, level), page.raw() | PRESENT | WRITABLE);
                page
            };
            table = below;
        }
        if self.read(table, index(virt, leaf_level)) & PRESENT != 0 {
            return Err(MapError::Occupied(virt));
        }
        self.write(table, index(virt, leaf_level), entry);
        Ok(())
    }

    fn slot(&self, table: PhysAddr, index: u64) -> NonNull<u64> {
        // SAFETY: `index` is masked to 511, so the slot is inside the table's 4,096 bytes.
        unsafe { self.memory.table(table).add((index % ENTRIES) as usize) }
    }

    fn read(&self, table: PhysAddr, index: u64) -> u64 {
        // SAFETY: by the type invariant the table is one of `memory`'s, valid for reads.
        unsafe { self.slot(table, index).read_volatile() }
    }

    fn write(&mut self, table: PhysAddr, index: u64, entry: u64) {
        // SAFETY: by the type invariant the table is one of `memory`'s, valid for writes.
        unsafe { self.slot(table, index).write_volatile(entry) };
    }
}

/// Returns the index of `virt` in a table of `level`.
const fn index(virt: VirtAddr, level: u32) -> u64 {
    virt.raw() >> (12 + 9 * (level - 1)) & (ENTRIES - 1)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::boxed::Box;
    use std::vec::Vec;

    use super::*;

    #[repr(align(4096))]
    struct Page {
        _entries: [u64; 512],
    }

    /// Table page n has physical address n * 4096.
    struct Pages(Vec<NonNull<Page>>, usize);

    // SAFETY: each page is leaked once and reached through its index only.
    unsafe impl TableMemory for Pages {
        fn allocate(&mut self) -> Option<PhysAddr> {
            if self.0.len() == self.1 {
                return None;
            }
            self.0.push(NonNull::from(Box::leak(Box::new(Page { _entries: [0; 512] }))));
            Some(PhysAddr::new((self.0.len() as u64 - 1) * TABLE_SIZE))
        }

        fn table(&self, page: PhysAddr) -> NonNull<u64> {
            self.0[(page.raw() / TABLE_SIZE) as usize].cast()
        }
    }

    fn tree(pages: usize) -> PageTable<Pages> {
        PageTable::new(Pages(Vec::new(), pages)).unwrap()
    }

    fn range(start: u64, end: u64) -> PhysRange {
        PhysRange::new(PhysAddr::new(start), PhysAddr::new(end))
    }

    #[test]
    fn aligned_parts_get_large_pages_and_the_ends_small_ones() {
        let mut tree = tree(8);
        let base = VirtAddr::new(0xffff_8880_0000_0000);
        tree.map(base, range(0x1000, 0x1000), Access::Data).unwrap();
        tree.map(base.saturating_add(0x1f_f000), range(0x1f_f000, 0x40_1000), Access::Data).unwrap();
        let at = |offset| tree.lookup(base.saturating_add(offset));
        assert_eq!(at(0x1f_e000), None);
        assert_eq!(at(0x1f_f008).unwrap().0, PhysAddr::new(0x1f_f008));
        assert_eq!(at(0x20_1234).unwrap(), (PhysAddr::new(0x20_1234), Access::Data.bits() | LARGE));
        assert_eq!(at(0x40_0000).unwrap().1 & LARGE, 0);
        assert_eq!(at(0x40_1000), None);
    }

    #[test]
    fn mapping_twice_is_refused_at_either_size() {
        let mut tree = tree(8);
        let virt = VirtAddr::new(0xffff_ea00_0000_0000);
        tree.map(virt, range(0, LARGE_PAGE), Access::Data).unwrap();
        assert_eq!(tree.map(virt, range(0, LARGE_PAGE), Access::Data), Err(MapError::Occupied(virt)));
        assert_eq!(tree.map(virt, range(0, 0x1000), Access::Data), Err(MapError::Occupied(virt)));
    }

    #[test]
    fn an_empty_pool_is_an_error() {
        assert!(PageTable::new(Pages(Vec::new(), 0)).is_err());
        assert_eq!(tree(3).map(VirtAddr::ZERO, range(0, 0x1000), Access::Code), Err(MapError::NoTables));
    }

    #[test]
    fn only_code_is_executable_and_only_data_writable() {
        assert_eq!(Access::Code.bits() & (NO_EXECUTE | WRITABLE), 0);
        assert_eq!(Access::ReadOnly.bits() & (NO_EXECUTE | WRITABLE), NO_EXECUTE);
        assert_eq!(Access::Data.bits() & (NO_EXECUTE | WRITABLE), NO_EXECUTE | WRITABLE);
    }
}
