//! /proc/PID/pagemap: 64 bits a page of a process.
//!
//! Linux 6.12: fs/proc/task_mmu.c (`pagemap_read`, `pte_to_pagemap_entry`), Documentation/admin-guide/mm/pagemap.rst.

use units::Pfn;

/// Where a page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageLocation {
    /// Nowhere: never touched, or gone.
    None,
    /// In this frame; frame 0 where the reader may not know.
    Present(Pfn),
    /// Swapped out.
    Swapped {
        /// Swap area.
        area: u8,
        /// Slot in it.
        offset: u64,
    },
}

bitflags::bitflags! {
    /// Other bits of an entry.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct PageBits: u64 {
        /// Written since the mark was cleared.
        const SOFT_DIRTY = 1 << 55;
        /// Mapped by nobody else.
        const EXCLUSIVE = 1 << 56;
        /// Write-protected by userfaultfd.
        const UFFD_WP = 1 << 57;
        /// A page of a file or of shared anonymous memory.
        const FILE = 1 << 61;
    }
}

/// One entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PagemapEntry {
    /// Where the page is.
    pub location: PageLocation,
    /// Other bits.
    pub bits: PageBits,
}

const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// Bits of the frame number, or of swap area and offset.
const NUMBER: u64 = (1 << 55) - 1;
const AREA_BITS: u32 = 5;
const AREA: u64 = (1 << AREA_BITS) - 1;

impl PagemapEntry {
    /// Bytes of an entry in the file.
    pub const BYTES: usize = 8;

    /// Returns the entry's 64 bits. A number that does not fit loses its upper bits, as in Linux.
    pub fn to_bits(self) -> u64 {
        let location = match self.location {
            PageLocation::None => 0,
            PageLocation::Present(pfn) => PRESENT | (pfn.raw() & NUMBER),
            PageLocation::Swapped { area, offset } => {
                SWAPPED | (((offset << AREA_BITS) | (u64::from(area) & AREA)) & NUMBER)
            }
        };
        location | self.bits.bits()
    }

    /// Reads an entry's 64 bits; bits without a meaning are passed over.
    pub fn from_bits(bits: u64) -> Self {
        let number = bits & NUMBER;
        let location = match (bits & PRESENT != 0, bits & SWAPPED != 0) {
            (true, _) => PageLocation::Present(Pfn::new(number)),
            (false, true) => PageLocation::Swapped { area: (number & AREA) as u8, offset: number >> AREA_BITS },
            (false, false) => PageLocation::None,
        };
        Self { location, bits: PageBits::from_bits_truncate(bits) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_its_bits() {
        let swapped = PageLocation::Swapped { area: 3, offset: 0x1234_5678 };
        for location in [PageLocation::None, PageLocation::Present(Pfn::new(0x12_3456)), swapped] {
            for bits in [PageBits::empty(), PageBits::SOFT_DIRTY | PageBits::FILE, PageBits::EXCLUSIVE] {
                let entry = PagemapEntry { location, bits };
                assert_eq!(PagemapEntry::from_bits(entry.to_bits()), entry);
            }
        }
    }

    #[test]
    fn bits_stand_where_linux_documents_them() {
        let bits = PageBits::SOFT_DIRTY | PageBits::EXCLUSIVE;
        let entry = PagemapEntry { location: PageLocation::Present(Pfn::new(0xabc)), bits };
        assert_eq!(entry.to_bits(), 0x8180_0000_0000_0abc);
        let entry = PagemapEntry { location: PageLocation::Swapped { area: 1, offset: 2 }, bits: PageBits::FILE };
        assert_eq!(entry.to_bits(), 0x6000_0000_0000_0041);
    }
}
