//! Sorted list of disjoint regions, in an inline array or in one that grew out of boot memory.
//!
//! Knows nothing about growing: callers check [`RegionList::has_room`] first. Used by [`super::Memblock`] for memory and for
//! reserved ranges. Locking: none; memblock runs on the boot CPU only.
//! Linux 6.12: mm/memblock.c (`struct memblock_type`, `memblock_insert_region`, `memblock_remove_region`,
//! `memblock_merge_regions`).

use core::ops::Range;

use collections::BootSlice;
use units::{PhysAddr, PhysRange};

use super::region::Region;

/// Most regions that the inline array holds: 128, plus one for each of 256 CPUs and one, as arm64 reserves.
pub(super) const INLINE_REGIONS: usize = 385;

/// Sorted, disjoint regions.
///
/// # Invariants
/// The first `len` slots are sorted by base, not empty and disjoint; neighbours that touch differ in node or flags.
#[derive(Debug)]
pub(super) struct RegionList {
    inline: [Region; INLINE_REGIONS],
    grown: Option<GrownArray>,
    capacity: usize,
    len: usize,
    total_size: u64,
}

/// Array that replaced the inline one.
#[derive(Debug)]
struct GrownArray {
    slots: BootSlice<Region>,
    at: PhysRange,
}

const EMPTY: Region = Region { base: PhysAddr::ZERO, size: 0, flags: super::region::RegionFlags::empty(), node: None };

impl RegionList {
    /// Makes an empty list that holds `capacity` regions, at least 1 and at most [`INLINE_REGIONS`], before it must grow.
    pub(super) const fn new(capacity: usize) -> Self {
        let capacity = if capacity == 0 {
            1
        } else if capacity > INLINE_REGIONS {
            INLINE_REGIONS
        } else {
            capacity
        };
        Self { inline: [EMPTY; INLINE_REGIONS], grown: None, capacity, len: 0, total_size: 0 }
    }

    #[inline]
    pub(super) fn regions(&self) -> &[Region] {
        let slots: &[Region] = match &self.grown {
            Some(grown) => &grown.slots,
            None => &self.inline,
        };
        &slots[..self.len]
    }

    #[inline]
    pub(super) fn regions_mut(&mut self) -> &mut [Region] {
        let len = self.len;
        &mut self.slots_mut()[..len]
    }

    #[inline]
    fn slots_mut(&mut self) -> &mut [Region] {
        match &mut self.grown {
            Some(grown) => &mut grown.slots,
            None => &mut self.inline,
        }
    }

    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    #[inline]
    pub(super) const fn has_room(&self, more: usize) -> bool {
        self.len + more <= self.capacity
    }

    /// Returns the bytes that were added and not removed; trimming does not change it, as in Linux.
    pub(super) const fn total_size(&self) -> u64 {
        self.total_size
    }

    /// Returns where the array lies in memory once it has grown.
    pub(super) fn array_range(&self) -> Option<PhysRange> {
        self.grown.as_ref().map(|grown| grown.at)
    }

    /// Moves the regions into `slots`, which lie at `at`, and returns where the old array was if it too had grown.
    ///
    /// `slots` must hold at least `capacity` regions.
    pub(super) fn move_into(
        &mut self,
        mut slots: BootSlice<Region>,
        at: PhysRange,
        capacity: usize,
    ) -> Option<PhysRange> {
        slots[..self.len].copy_from_slice(self.regions());
        let old = self.array_range();
        self.grown = Some(GrownArray { slots, at });
        self.capacity = capacity;
        old
    }

    /// Returns the index of the first region that ends above `addr`.
    #[inline]
    pub(super) fn first_ending_above(&self, addr: PhysAddr) -> usize {
        self.regions().partition_point(|region| region.end() <= addr)
    }

    /// Returns the index of the first region that starts at or above `addr`.
    #[inline]
    pub(super) fn first_starting_at(&self, addr: PhysAddr) -> usize {
        match self.regions() {
            [.., last] if last.base < addr => self.len,
            regions => regions.partition_point(|region| region.base < addr),
        }
    }

    /// Returns the base of the first region at or above `addr`, or the highest address.
    pub(super) fn next_start(&self, addr: PhysAddr) -> PhysAddr {
        self.regions().get(self.first_starting_at(addr)).map_or(PhysAddr::new(u64::MAX), |region| region.base)
    }

    /// Returns the indexes of the regions that share a byte with `range`.
    #[inline]
    pub(super) fn overlapping(&self, range: PhysRange) -> Range<usize> {
        let first = self.first_ending_above(range.start);
        let more = &self.regions()[first..];
        match more.first() {
            Some(region) if region.base < range.end => {
                first..first + more.partition_point(|region| region.base < range.end)
            }
            _ => first..first,
        }
    }

    /// Returns the index of the region that contains `addr`.
    #[inline]
    pub(super) fn search(&self, addr: PhysAddr) -> Option<usize> {
        let index = self.first_ending_above(addr);
        self.regions().get(index).filter(|region| region.base <= addr).map(|_| index)
    }

    /// Replaces the regions at `window` by `with`; the caller made sure of the room.
    pub(super) fn replace(&mut self, window: Range<usize>, with: &[Region]) {
        let old_len = self.len;
        let removed: u64 = self.regions()[window.clone()].iter().map(|region| region.size).sum();
        let added: u64 = with.iter().map(|region| region.size).sum();
        let len = old_len - window.len() + with.len();
        debug_assert!(len <= self.capacity, "a region list never outgrows its array");
        let tail = window.start + with.len();
        let slots = self.slots_mut();
        if with.len() != window.len() {
            slots.copy_within(window.end..old_len, tail);
        }
        slots[window.start..tail].copy_from_slice(with);
        self.len = len;
        self.total_size = self.total_size.wrapping_sub(removed).wrapping_add(added);
    }

    /// Merges touching regions of equal node and flags among those at `window` and its two neighbours.
    pub(super) fn merge(&mut self, window: Range<usize>) {
        let start = window.start.saturating_sub(1);
        let end = (window.end + 1).min(self.len);
        let old_len = self.len;
        let mut kept = start;
        let slots = self.slots_mut();
        for index in start + 1..end {
            let next = slots[index];
            let this = &mut slots[kept];
            if this.end() == next.base && this.merges_with(&next) {
                this.size += next.size;
            } else {
                kept += 1;
                slots[kept] = next;
            }
        }
        if kept + 1 < end {
            slots.copy_within(end..old_len, kept + 1);
            self.len = old_len - (end - kept - 1);
        }
    }

    /// Inserts the parts of `new` that no region covers, and merges; `touched` are the regions that share bytes with it.
    ///
    /// The caller made sure of the room.
    pub(super) fn fill_gaps(&mut self, new: Region, touched: Range<usize>) {
        if touched.is_empty() {
            return self.insert(new, touched.start);
        }
        let regions = self.regions();
        if !regions[touched.clone()].iter().all(|region| region.merges_with(&new)) {
            return self.fill_gaps_between(new, touched);
        }
        let mut window = touched;
        let mut range = new.range();
        if self.joins_below(&new, window.start) {
            window.start -= 1;
        }
        if self.joins_above(&new, window.end) {
            window.end += 1;
        }
        if let (Some(first), Some(last)) = (regions.get(window.start), regions[..window.end].last()) {
            range = PhysRange::new(range.start.min(first.base), range.end.max(last.end()));
        }
        self.replace(window, &[new.with_range(range)]);
    }

    /// Inserts `new`, which overlaps no region and belongs at `index`, or extends a neighbour by it.
    #[inline]
    fn insert(&mut self, new: Region, index: usize) {
        match (self.joins_below(&new, index), self.joins_above(&new, index)) {
            (false, false) => return self.replace(index..index, &[new]),
            (true, false) => self.regions_mut()[index - 1].size += new.size,
            (false, true) => {
                let next = &mut self.regions_mut()[index];
                next.base = new.base;
                next.size += new.size;
            }
            (true, true) => {
                let size = self.regions()[index - 1].size + new.size;
                let next = &mut self.regions_mut()[index];
                next.base = PhysAddr::new(next.base.since(PhysAddr::new(size)));
                next.size += size;
                self.remove_merged(index - 1);
            }
        }
        self.total_size = self.total_size.wrapping_add(new.size);
    }

    /// Removes the region at `index`, whose bytes another region has taken over.
    fn remove_merged(&mut self, index: usize) {
        let len = self.len;
        self.slots_mut().copy_within(index + 1..len, index);
        self.len -= 1;
    }

    /// Returns true if the region below `index` ends where `new` starts and merges with it.
    #[inline]
    fn joins_below(&self, new: &Region, index: usize) -> bool {
        let below = index.checked_sub(1).and_then(|below| self.regions().get(below));
        below.is_some_and(|below| below.end() == new.base && below.merges_with(new))
    }

    /// Returns true if the region at `index` starts where `new` ends and merges with it.
    #[inline]
    fn joins_above(&self, new: &Region, index: usize) -> bool {
        self.regions().get(index).is_some_and(|above| above.base == new.end() && above.merges_with(new))
    }

    /// [`RegionList::fill_gaps`] where the touched regions differ from `new`: they keep their node and flags.
    fn fill_gaps_between(&mut self, new: Region, touched: Range<usize>) {
        let end = new.end();
        let mut at = new.base;
        let mut index = touched.start;
        while at < end {
            let next = self.regions().get(index).copied().filter(|region| region.base < end);
            let gap_end = next.map_or(end, |region| region.base.max(at));
            if at < gap_end {
                self.replace(index..index, &[new.with_range(PhysRange::new(at, gap_end))]);
                index += 1;
            }
            index += 1;
            at = next.map_or(end, |region| region.end());
        }
        self.merge(touched.start..index.min(self.len));
    }

    /// Returns how many parts of `range` no region covers; `touched` are the regions that share bytes with it.
    #[inline]
    pub(super) fn nr_gaps(&self, range: PhysRange, touched: Range<usize>) -> usize {
        let mut at = range.start;
        let mut gaps = 0;
        for region in &self.regions()[touched] {
            gaps += usize::from(region.base > at);
            at = region.end();
        }
        gaps + usize::from(at < range.end)
    }

    /// Takes `range` out; the caller made sure of room for one more region.
    pub(super) fn cut(&mut self, range: PhysRange) {
        let window = self.overlapping(range);
        let (Some(first), Some(last)) =
            (self.regions().get(window.start).copied(), self.regions()[..window.end].last().copied())
        else {
            return;
        };
        if window.is_empty() {
            return;
        }
        let left = first.with_range(PhysRange::new(first.base, range.start));
        let right = last.with_range(PhysRange::new(range.end, last.end()));
        match (left.size, right.size) {
            (0, 0) => self.replace(window, &[]),
            (0, _) => self.replace(window, &[right]),
            (_, 0) => self.replace(window, &[left]),
            _ => self.replace(window, &[left, right]),
        }
    }

    /// Splits regions at both ends of `range` and returns the indexes of those inside; the caller made sure of room for two.
    pub(super) fn isolate(&mut self, range: PhysRange) -> Range<usize> {
        self.split_at(range.start);
        self.split_at(range.end);
        self.overlapping(range)
    }

    fn split_at(&mut self, addr: PhysAddr) {
        let Some(index) = self.search(addr) else { return };
        let region = self.regions()[index];
        if region.base < addr {
            let low = region.with_range(PhysRange::new(region.base, addr));
            let high = region.with_range(PhysRange::new(addr, region.end()));
            self.replace(index..index + 1, &[low, high]);
        }
    }

    /// Shrinks the region at `index` to `range` without counting the loss in the total, as Linux does when it trims.
    pub(super) fn shrink_uncounted(&mut self, index: usize, range: PhysRange) {
        let region = &mut self.regions_mut()[index];
        *region = region.with_range(range);
    }

    /// Panics in debug builds if the type invariant does not hold.
    pub(super) fn check_invariants(&self) {
        assert!(self.len <= self.capacity, "no more regions than slots");
        for region in self.regions() {
            assert!(region.size > 0, "no empty region");
            assert!(region.base.checked_add(region.size).is_some(), "no region wraps");
        }
        for pair in self.regions().windows(2) {
            assert!(pair[0].end() <= pair[1].base, "regions are sorted and disjoint");
            let touch = pair[0].end() == pair[1].base;
            assert!(!touch || !pair[0].merges_with(&pair[1]), "touching regions of one kind are merged");
        }
        let sum: u64 = self.regions().iter().map(|region| region.size).sum();
        assert!(self.total_size >= sum, "the total counts every region");
    }
}
