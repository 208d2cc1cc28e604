//! Memory that the frame descriptors themselves take, as zones account for it before hand-over.
//!
//! Linux 6.1: mm/page_alloc.c (`calc_memmap_size`, `free_area_init_core`); 6.12 no longer subtracts anything.

use frame_table::MemoryModel;
use units::ZoneType;

use super::release::Release;
use super::zone_spans::{NodeLayout, ZoneLayout};

/// What the descriptors of a machine cost.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MemmapCost {
    /// Bytes of the reference machine's descriptor (Linux: sizeof(struct page)): 64 on 64-bit machines, 40 or 32 on i386.
    pub descriptor_bytes: u64,
    /// Base-2 logarithm of the page size.
    pub page_shift: u32,
    /// How the descriptors are laid out.
    pub model: MemoryModel,
    /// Frames below 16 MiB that boot had reserved (Linux: dma_reserve); only 64-bit x86 counts them.
    pub dma_reserve: u64,
}

impl MemmapCost {
    /// Returns the pages that the zone's descriptors take.
    ///
    /// A sparse table has no descriptors for large holes, so a zone that is more than 1/16 hole is charged for what is present.
    pub fn pages(&self, zone: &ZoneLayout) -> u64 {
        let spanned = zone.span.nr_pages();
        let described = match self.model {
            MemoryModel::Sparse { .. } if spanned > zone.present + (zone.present >> 4) => zone.present,
            _ => spanned,
        };
        described.saturating_mul(self.descriptor_bytes).div_ceil(1 << self.page_shift)
    }

    /// Returns what a zone counts as managed from its creation until boot memory is handed over.
    pub fn managed_before_handover(&self, kind: ZoneType, zone: &ZoneLayout, release: Release) -> u64 {
        if release > Release::V6_1 {
            return zone.present;
        }
        let mut managed = zone.present;
        if kind != ZoneType::HighMem {
            let memmap = self.pages(zone);
            managed = if managed >= memmap { managed - memmap } else { managed };
        }
        if kind == ZoneType::Dma && managed > self.dma_reserve {
            managed -= self.dma_reserve;
        }
        managed
    }

    /// Returns the pages that the boot log calls total: what all zones count as managed before hand-over.
    pub fn total_pages(&self, nodes: &[NodeLayout], release: Release) -> u64 {
        nodes
            .iter()
            .flat_map(NodeLayout::populated)
            .map(|(kind, zone)| self.managed_before_handover(kind, zone, release))
            .sum()
    }
}
