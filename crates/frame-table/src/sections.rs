//! Which frames have a descriptor: the flat and the sparse memory model.
//!
//! Flat: every frame of one range has one. Sparse: memory is divided into sections (128 MiB on x86-64), descriptors exist for
//! whole sections that hold memory, and a bit per subsection (2 MiB) says which frames are valid.
//! Linux 6.12: mm/sparse.c, `struct mem_section_usage`, pfn_valid.

use core::sync::atomic::{AtomicU64, Ordering};

use collections::BootSlice;
use units::{Pfn, PfnRange};

/// How descriptors are laid out over physical memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MemoryModel {
    /// One table for the whole range (Linux: FLATMEM).
    Flat,
    /// Descriptors by section (Linux: SPARSEMEM_VMEMMAP).
    Sparse {
        /// log2 of a section's size in pages.
        section_order: u32,
        /// log2 of a subsection's size in pages.
        subsection_order: u32,
    },
}

impl MemoryModel {
    /// SECTION_SIZE_BITS 27 and SUBSECTION_SHIFT 21 with 4 KiB pages: x86-64 and arm64.
    pub const SPARSE_4K: Self = Self::Sparse { section_order: 15, subsection_order: 9 };
    /// SECTION_SIZE_BITS 29 and SUBSECTION_SHIFT 21 with 64 KiB pages: arm64.
    pub const SPARSE_64K: Self = Self::Sparse { section_order: 13, subsection_order: 5 };

    /// Returns the frames of one section; of everything in the flat model.
    pub const fn section_pages(self) -> u64 {
        match self {
            Self::Flat => u64::MAX,
            Self::Sparse { section_order, .. } => 1 << section_order,
        }
    }

    /// Widens a range of memory to the frames that get descriptors for it.
    pub const fn described(self, range: PfnRange) -> PfnRange {
        match self {
            Self::Flat => range,
            Self::Sparse { section_order, .. } => {
                PfnRange::new(range.start.align_down(1 << section_order), range.end.align_up(1 << section_order))
            }
        }
    }

    const fn unit_order(self) -> u32 {
        match self {
            Self::Flat => 0,
            Self::Sparse { subsection_order, .. } => subsection_order,
        }
    }
}

/// Bit per subsection of the frames that are valid; in the flat model the range alone.
#[derive(Debug)]
pub struct SectionMap {
    model: MemoryModel,
    span: PfnRange,
    valid: BootSlice<AtomicU64>,
}

impl SectionMap {
    /// Returns how many words [`SectionMap::new`] needs for `span`.
    pub const fn words(model: MemoryModel, span: PfnRange) -> usize {
        match model {
            MemoryModel::Flat => 0,
            MemoryModel::Sparse { .. } => (span.nr_pages() >> model.unit_order()).div_ceil(64) as usize,
        }
    }

    /// Makes the map of `span`, no frame valid in the sparse model and every frame in the flat one.
    ///
    /// `valid` has at least [`SectionMap::words`] zeroed words; with fewer, frames beyond them stay invalid.
    pub const fn new(model: MemoryModel, span: PfnRange, valid: BootSlice<AtomicU64>) -> Self {
        Self { model, span, valid }
    }

    /// Returns the memory model.
    pub const fn model(&self) -> MemoryModel {
        self.model
    }

    /// Marks the subsections that hold at least one frame of `range` as valid.
    pub fn mark_valid(&self, range: PfnRange) {
        if self.model == MemoryModel::Flat {
            return;
        }
        let range = range.intersection(self.span);
        if range.is_empty() {
            return;
        }
        let shift = self.model.unit_order();
        let first = range.start.since(self.span.start) >> shift;
        let last = (range.end.since(self.span.start) - 1) >> shift;
        for unit in first..=last {
            if let Some(word) = self.valid.get((unit / 64) as usize) {
                // Relaxed: set at boot or under the hotplug lock, before the frames are used.
                word.fetch_or(1 << (unit % 64), Ordering::Relaxed);
            }
        }
    }

    /// Returns true if the frame has an initialised descriptor that means something (Linux: pfn_valid).
    pub fn is_valid(&self, pfn: Pfn) -> bool {
        if !self.span.contains(pfn) {
            return false;
        }
        if self.model == MemoryModel::Flat {
            return true;
        }
        let unit = pfn.since(self.span.start) >> self.model.unit_order();
        // Relaxed: see `mark_valid`.
        self.valid.get((unit / 64) as usize).is_some_and(|word| word.load(Ordering::Relaxed) >> (unit % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::boxed::Box;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn a_sparse_map_is_valid_by_whole_subsections() {
        let span = PfnRange::with_len(Pfn::ZERO, 1 << 16);
        let words = SectionMap::words(MemoryModel::SPARSE_4K, span);
        let valid: Vec<_> = (0..words).map(|_| AtomicU64::new(0)).collect();
        let map = SectionMap::new(MemoryModel::SPARSE_4K, span, BootSlice::from_static(Box::leak(valid.into())));
        map.mark_valid(PfnRange::new(Pfn::new(0x210), Pfn::new(0x401)));
        assert!(!map.is_valid(Pfn::new(0x1ff)));
        assert!(map.is_valid(Pfn::new(0x200)));
        assert!(map.is_valid(Pfn::new(0x5ff)));
        assert!(!map.is_valid(Pfn::new(0x600)));
        assert!(!map.is_valid(Pfn::new(1 << 16)));
    }

    #[test]
    fn a_flat_map_is_valid_throughout_its_range() {
        let span = PfnRange::with_len(Pfn::new(16), 16);
        let map = SectionMap::new(MemoryModel::Flat, span, BootSlice::empty());
        assert!(map.is_valid(Pfn::new(16)) && map.is_valid(Pfn::new(31)));
        assert!(!map.is_valid(Pfn::new(15)) && !map.is_valid(Pfn::new(32)));
    }
}
