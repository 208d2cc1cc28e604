//! The ranges of physical memory that the direct map shows.
//!
//! Written at boot, read at every `PhysMemory::direct_map`.

use units::{PhysAddr, PhysRange};

/// Most ranges; firmware of emulators reports fewer than ten.
const MAX_RANGES: usize = 64;

/// Sorted, disjoint, page-aligned ranges; neighbours are joined.
///
/// # Invariants
/// The first `len` ranges are set and not empty; each ends before the next one starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RamRanges {
    ranges: [PhysRange; MAX_RANGES],
    len: usize,
}

/// More ranges than there is room for, or ranges out of order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BadRanges;

impl RamRanges {
    /// Collects the whole pages of ascending ranges.
    pub(crate) fn collect(ranges: impl Iterator<Item = PhysRange>, page_shift: u32) -> Result<Self, BadRanges> {
        let nowhere = PhysRange::new(PhysAddr::ZERO, PhysAddr::ZERO);
        let mut collected = Self { ranges: [nowhere; MAX_RANGES], len: 0 };
        for range in ranges {
            let pages = range.whole_frames(page_shift).phys(page_shift);
            if !pages.is_empty() {
                collected.push(pages)?;
            }
        }
        Ok(collected)
    }

    fn push(&mut self, range: PhysRange) -> Result<(), BadRanges> {
        let last = self.len.checked_sub(1).and_then(|last| self.ranges.get_mut(last));
        match last {
            Some(last) if range.start < last.end => return Err(BadRanges),
            // INVARIANT: the joined range starts where the last one did.
            Some(last) if range.start == last.end => last.end = range.end,
            _ => {
                // INVARIANT: above the last range with a gap between.
                *self.ranges.get_mut(self.len).ok_or(BadRanges)? = range;
                self.len += 1;
            }
        }
        Ok(())
    }

    /// Iterates over the ranges in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = PhysRange> + '_ {
        self.ranges.iter().take(self.len).copied()
    }

    /// Returns true if every byte of `range` is in one of the ranges.
    pub(crate) fn contains(&self, range: PhysRange) -> bool {
        self.iter().any(|ram| ram.start <= range.start && range.end <= ram.end)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    fn range(start: u64, end: u64) -> PhysRange {
        PhysRange::new(PhysAddr::new(start), PhysAddr::new(end))
    }

    #[test]
    fn neighbours_join_and_partial_pages_are_left_out() {
        let input = [range(0x1000, 0x9_fc00), range(0x10_0000, 0x20_0000), range(0x20_0000, 0x30_0000)];
        let ram = RamRanges::collect(input.into_iter(), 12).unwrap();
        assert!(ram.iter().eq([range(0x1000, 0x9_f000), range(0x10_0000, 0x30_0000)]));
    }

    #[test]
    fn a_range_across_a_hole_is_not_contained() {
        let ram = RamRanges::collect([range(0, 0x1000), range(0x2000, 0x4000)].into_iter(), 12).unwrap();
        assert!(ram.contains(range(0x2000, 0x4000)));
        assert!(!ram.contains(range(0, 0x3000)));
        assert!(!ram.contains(range(0x3000, 0x5000)));
    }

    proptest::proptest! {
        #[test]
        fn a_range_is_contained_if_each_of_its_pages_is(
            gaps in proptest::collection::vec((0..3u64, 1..4u64), 1..20), start in 0..80u64, pages in 1..10u64,
        ) {
            let (mut at, mut is_ram) = (0, std::vec::Vec::new());
            let mut ranges = std::vec::Vec::new();
            for (gap, len) in gaps {
                is_ram.extend((0..gap).map(|_| false).chain((0..len).map(|_| true)));
                ranges.push(range((at + gap) << 12, (at + gap + len) << 12));
                at += gap + len;
            }
            let ram = RamRanges::collect(ranges.into_iter(), 12).unwrap();
            let each = (start..start + pages).all(|page| is_ram.get(page as usize) == Some(&true));
            proptest::prop_assert_eq!(ram.contains(range(start << 12, (start + pages) << 12)), each);
        }
    }

    #[test]
    fn overlapping_or_too_many_ranges_are_refused() {
        assert_eq!(
            RamRanges::collect([range(0, 0x2000), range(0x1000, 0x3000)].into_iter(), 12).unwrap_err(),
            BadRanges
        );
        let many = (0..65).map(|n| range(n * 0x2000, n * 0x2000 + 0x1000));
        assert_eq!(RamRanges::collect(many, 12).unwrap_err(), BadRanges);
    }
}
