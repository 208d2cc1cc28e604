//! Which zones a machine can have and between which frames, by architecture. Read by every other computation of `layout`.
//!
//! Linux 6.12: mm/mm_init.c (`free_area_init`, `find_usable_zone_for_movable`), arch/*/mm/init.c (`zone_sizes_init`).

use core::fmt;

use units::{Pfn, PfnRange, PhysAddr, ZoneType};

/// Set of kinds of zones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ZoneSet(u8);

impl ZoneSet {
    /// Makes the set of `kinds`.
    pub const fn of(kinds: &[ZoneType]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < kinds.len() {
            bits |= 1 << kinds[at].index();
            at += 1;
        }
        Self(bits)
    }

    /// Returns true if `kind` is in the set.
    #[inline]
    pub const fn contains(self, kind: ZoneType) -> bool {
        self.0 >> kind.index() & 1 == 1
    }

    /// Iterates over the kinds, lowest first.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = ZoneType> + use<> {
        ZoneType::ALL.into_iter().filter(move |&kind| self.contains(kind))
    }
}

impl fmt::Debug for ZoneSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Frames between which each kind of zone may lie, on any node.
///
/// Linux: arch_zone_lowest_possible_pfn, arch_zone_highest_possible_pfn. ZONE_MOVABLE has no limits of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZoneLimits {
    configured: ZoneSet,
    ranges: [PfnRange; ZoneType::COUNT],
}

/// First byte that 24-bit ISA devices do not reach.
const DMA_END: PhysAddr = PhysAddr::new(16 << 20);
/// First byte that 32-bit devices do not reach.
const DMA32_END: PhysAddr = PhysAddr::new(4 << 30);

impl ZoneLimits {
    /// Stacks zones upwards from `first`: each kind reaches from the end of the one below to `ends(kind)`.
    ///
    /// A kind whose end lies below the one before it is empty. Movable and Device take no part.
    pub fn stacked(configured: ZoneSet, first: Pfn, ends: impl Fn(ZoneType) -> Pfn) -> Self {
        let mut ranges = [PfnRange::default(); ZoneType::COUNT];
        let mut start = first;
        for kind in configured.iter().filter(|&kind| kind != ZoneType::Movable) {
            let end = start.max(ends(kind));
            ranges[kind.index()] = PfnRange::new(start, end);
            start = end;
        }
        Self { configured, ranges }
    }

    /// 64-bit x86: DMA below 16 MiB, DMA32 below 4 GiB, Normal up to `memory.end`.
    ///
    /// `memory` reaches from the first to behind the last frame with memory.
    pub fn x86_64(memory: PfnRange) -> Self {
        let configured =
            ZoneSet::of(&[ZoneType::Dma, ZoneType::Dma32, ZoneType::Normal, ZoneType::Movable, ZoneType::Device]);
        Self::stacked(configured, memory.start, |kind| match kind {
            ZoneType::Dma => DMA_END.pfn_down(12).min(memory.end),
            ZoneType::Dma32 => DMA32_END.pfn_down(12).min(memory.end),
            ZoneType::Normal => memory.end,
            _ => Pfn::ZERO,
        })
    }

    /// 32-bit x86: DMA below 16 MiB, Normal below `low_end` (Linux: max_low_pfn), HighMem up to `memory.end`.
    pub fn i386(memory: PfnRange, low_end: Pfn) -> Self {
        let configured = ZoneSet::of(&[ZoneType::Dma, ZoneType::Normal, ZoneType::HighMem, ZoneType::Movable]);
        Self::stacked(configured, memory.start, |kind| match kind {
            ZoneType::Dma => DMA_END.pfn_down(12).min(low_end),
            ZoneType::Normal => low_end,
            ZoneType::HighMem => memory.end,
            _ => Pfn::ZERO,
        })
    }

    /// 64-bit Arm: DMA as far as `dma_bits` address bits reach (devicetree or ACPI), DMA32 below 4 GiB, Normal above.
    ///
    /// Where memory starts out of reach of a limit, the limit is 4 GiB, and none if it starts above that.
    pub fn arm64(memory: PfnRange, dma_bits: u32, page_shift: u32) -> Self {
        let configured = ZoneSet::of(&[ZoneType::Dma, ZoneType::Dma32, ZoneType::Normal, ZoneType::Movable]);
        let reach = |bits: u32| {
            let end = if bits < u64::BITS { PhysAddr::new(1 << bits).pfn_down(page_shift) } else { memory.end };
            let dma32_end = DMA32_END.pfn_down(page_shift);
            match memory.start {
                start if start >= dma32_end => memory.end,
                start if start >= end => dma32_end.min(memory.end),
                _ => end.min(memory.end),
            }
        };
        Self::stacked(configured, memory.start, |kind| match kind {
            ZoneType::Dma => reach(dma_bits),
            ZoneType::Dma32 => reach(32),
            ZoneType::Normal => memory.end,
            _ => Pfn::ZERO,
        })
    }

    /// Returns the kinds of zones that the kernel was built with.
    pub const fn configured(&self) -> ZoneSet {
        self.configured
    }

    /// Returns the frames between which zones of `kind` may lie; empty for Movable and for kinds not configured.
    pub const fn range(&self, kind: ZoneType) -> PfnRange {
        self.ranges[kind.index()]
    }

    /// Returns the highest kind with room, whose memory ZONE_MOVABLE takes (Linux: movable_zone).
    ///
    /// `None` if no kind has room, that is, on a machine without memory.
    pub fn movable_source(&self) -> Option<ZoneType> {
        self.configured.iter().rev().find(|&kind| !self.range(kind).is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_above_the_end_of_memory_are_empty() {
        let limits = ZoneLimits::x86_64(PfnRange::new(Pfn::new(1), Pfn::new(0x1ffe0)));
        assert_eq!(limits.range(ZoneType::Dma32), PfnRange::new(Pfn::new(0x1000), Pfn::new(0x1ffe0)));
        assert!(limits.range(ZoneType::Normal).is_empty());
        assert_eq!(limits.movable_source(), Some(ZoneType::Dma32));
    }

    #[test]
    fn an_arm_dma_limit_of_32_bits_leaves_dma32_empty() {
        let memory = PfnRange::new(Pfn::new(0x40000), Pfn::new(0x14_0000));
        let limits = ZoneLimits::arm64(memory, 32, 12);
        assert!(limits.range(ZoneType::Dma32).is_empty());
        assert_eq!(limits.range(ZoneType::Normal).start, Pfn::new(0x10_0000));
    }

    #[test]
    fn an_arm_dma_limit_below_all_memory_is_raised() {
        let low = ZoneLimits::arm64(PfnRange::new(Pfn::new(0x8_0000), Pfn::new(0x9_0000)), 30, 12);
        assert_eq!(low.range(ZoneType::Dma), PfnRange::new(Pfn::new(0x8_0000), Pfn::new(0x9_0000)));
        let high = ZoneLimits::arm64(PfnRange::new(Pfn::new(0x80_0000), Pfn::new(0x90_0000)), 32, 12);
        assert_eq!(high.movable_source(), Some(ZoneType::Dma));
        let raspberry = ZoneLimits::arm64(PfnRange::new(Pfn::new(1), Pfn::new(0x20_0000)), 30, 12);
        assert_eq!(raspberry.range(ZoneType::Dma32), PfnRange::new(Pfn::new(0x4_0000), Pfn::new(0x10_0000)));
    }

    #[test]
    fn high_memory_starts_where_the_direct_map_ends() {
        let memory = PfnRange::new(Pfn::new(1), Pfn::new(0xbffe0));
        let limits = ZoneLimits::i386(memory, Pfn::new(0x36ffe));
        assert_eq!(limits.range(ZoneType::HighMem), PfnRange::new(Pfn::new(0x36ffe), Pfn::new(0xbffe0)));
        assert!(!limits.configured().contains(ZoneType::Dma32));
    }
}
