//! Which zone the flags of an allocation reach up to.
//!
//! Linux 6.12: GFP_ZONE_TABLE, `gfp_zone`.

use units::{Gfp, ZoneType};

use crate::layout::ZoneSet;

/// Highest acceptable zone by the four zone flags DMA, HIGHMEM, DMA32 and MOVABLE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZoneTable([ZoneType; ZONE_BITS_VALUES]);

/// Number of values of [`zone_bits`].
pub(crate) const ZONE_BITS_VALUES: usize = 16;

/// Returns the four zone flags as a number.
#[inline(always)]
pub(crate) const fn zone_bits(gfp: Gfp) -> usize {
    (gfp.bits() & 0xf) as usize
}

impl ZoneTable {
    /// Makes the table of a machine with these kinds of zones; a kind that it lacks is replaced by Normal.
    pub fn new(configured: ZoneSet) -> Self {
        let mut table = [ZoneType::Normal; ZONE_BITS_VALUES];
        for (bits, entry) in table.iter_mut().enumerate() {
            let wanted = Self::wanted(Gfp::from_bits_truncate(bits as u32));
            *entry = if configured.contains(wanted) || wanted == ZoneType::Movable { wanted } else { ZoneType::Normal };
        }
        Self(table)
    }

    /// DMA wins over DMA32 and both over HIGHMEM; MOVABLE reaches the Movable zone only together with HIGHMEM. Linux calls other
    /// combinations a caller's mistake.
    const fn wanted(gfp: Gfp) -> ZoneType {
        if gfp.contains(Gfp::DMA) {
            ZoneType::Dma
        } else if gfp.contains(Gfp::DMA32) {
            ZoneType::Dma32
        } else if gfp.contains(Gfp::HIGHMEM) {
            if gfp.contains(Gfp::MOVABLE) { ZoneType::Movable } else { ZoneType::HighMem }
        } else {
            ZoneType::Normal
        }
    }

    /// Returns the highest zone that the flags accept.
    #[inline]
    pub const fn highest_zone(&self, gfp: Gfp) -> ZoneType {
        self.0[zone_bits(gfp)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_64_bit_machine_has_no_highmem() {
        let x86_64 = ZoneSet::of(&[ZoneType::Dma, ZoneType::Dma32, ZoneType::Normal, ZoneType::Movable]);
        let table = ZoneTable::new(x86_64);
        assert_eq!(table.highest_zone(Gfp::HIGHUSER_MOVABLE), ZoneType::Movable);
        assert_eq!(table.highest_zone(Gfp::HIGHUSER), ZoneType::Normal);
        assert_eq!(table.highest_zone(Gfp::KERNEL | Gfp::DMA32), ZoneType::Dma32);
        assert_eq!(table.highest_zone(Gfp::KERNEL | Gfp::MOVABLE), ZoneType::Normal);
    }

    #[test]
    fn a_32_bit_machine_has_no_dma32() {
        let i386 = ZoneSet::of(&[ZoneType::Dma, ZoneType::Normal, ZoneType::HighMem, ZoneType::Movable]);
        let table = ZoneTable::new(i386);
        assert_eq!(table.highest_zone(Gfp::KERNEL | Gfp::DMA32), ZoneType::Normal);
        assert_eq!(table.highest_zone(Gfp::HIGHUSER), ZoneType::HighMem);
        assert_eq!(table.highest_zone(Gfp::KERNEL | Gfp::DMA), ZoneType::Dma);
    }
}
