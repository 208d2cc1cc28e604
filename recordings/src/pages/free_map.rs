//! One bit a frame: free or not. The buddy lists follow from it.
//!
//! A free map determines the blocks on the buddy lists, because the allocator merges whatever can be merged: they are
//! the maximal aligned blocks of free frames. Used by guided replay and by the inference of the initial state.

use units::{Order, Pfn, PfnRange};

/// Set of free frames below a fixed end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FreeMap {
    words: Vec<u64>,
    end: Pfn,
}

/// A free block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FreeBlock {
    /// First frame.
    pub pfn: Pfn,
    /// Size.
    pub order: Order,
}

impl FreeMap {
    /// Makes an empty set for frames below `end`.
    pub fn new(end: Pfn) -> Self {
        let words = usize::try_from(end.raw().div_ceil(64)).unwrap_or(usize::MAX);
        Self { words: vec![0; words], end }
    }

    /// Returns the frame after the last one that the set has room for.
    pub fn end(&self) -> Pfn {
        self.end
    }

    /// Returns true if `pfn` is free; frames at or above the end are not.
    #[inline]
    pub fn contains(&self, pfn: Pfn) -> bool {
        let (word, bit) = split(pfn);
        self.words.get(word).is_some_and(|word| word >> bit & 1 == 1)
    }

    /// Makes the frames of `range` free; returns how many were not.
    #[inline]
    pub fn insert(&mut self, range: PfnRange) -> u64 {
        self.update(range, |word, mask| {
            let changed = mask & !*word;
            *word |= mask;
            changed
        })
    }

    /// Makes the frames of `range` not free; returns how many were.
    #[inline]
    pub fn remove(&mut self, range: PfnRange) -> u64 {
        self.update(range, |word, mask| {
            let changed = mask & *word;
            *word &= !mask;
            changed
        })
    }

    /// Returns the number of free frames in `range`.
    pub fn count(&self, range: PfnRange) -> u64 {
        let mut count = 0;
        for_each_word(self.clip(range), |word, mask| {
            count += u64::from(self.words.get(word).map_or(0, |word| (word & mask).count_ones()));
        });
        count
    }

    /// Returns the maximal aligned free blocks inside `range`, in ascending order, none above `limit`.
    pub fn blocks(&self, range: PfnRange, limit: Order) -> Vec<FreeBlock> {
        let mut blocks = Vec::new();
        for run in self.runs(range) {
            let mut pfn = run.start;
            while pfn < run.end {
                let room = run.end.since(pfn);
                let mut order = pfn.alignment(limit);
                while order.nr_pages() > room {
                    order = order.down().unwrap_or_default();
                }
                blocks.push(FreeBlock { pfn, order });
                pfn = pfn.add(order.nr_pages());
            }
        }
        blocks
    }

    /// Returns the frames that differ between two maps.
    pub fn difference(&self, other: &Self) -> impl Iterator<Item = Pfn> {
        let words = self.words.len().max(other.words.len());
        (0..words).flat_map(move |index| {
            let ours = self.words.get(index).copied().unwrap_or(0);
            let theirs = other.words.get(index).copied().unwrap_or(0);
            let changed = ours ^ theirs;
            (0..64u64).filter(move |bit| changed >> bit & 1 == 1).map(move |bit| Pfn::new(index as u64 * 64 + bit))
        })
    }

    /// Returns the maximal runs of free frames inside `range`.
    pub fn runs(&self, range: PfnRange) -> Vec<PfnRange> {
        let mut runs: Vec<PfnRange> = Vec::new();
        let range = self.clip(range);
        let mut pfn = range.start;
        while pfn < range.end {
            let start = self.next(pfn, range.end, 0);
            let end = self.next(start, range.end, u64::MAX);
            if start < end {
                runs.push(PfnRange::new(start, end));
            }
            pfn = end;
        }
        runs
    }

    /// Returns true if `range` has a free block of at least `order`.
    pub fn has_block(&self, range: PfnRange, order: Order) -> bool {
        let range = self.clip(range);
        let mut pfn = range.start;
        while pfn < range.end {
            let start = self.next(pfn, range.end, 0);
            pfn = self.next(start, range.end, u64::MAX);
            if start.align_up(order.nr_pages()).add(order.nr_pages()) <= pfn {
                return true;
            }
        }
        false
    }

    /// Returns the first frame from `pfn` whose bit, after `flip`, is set; `end` if there is none below it.
    fn next(&self, pfn: Pfn, end: Pfn, flip: u64) -> Pfn {
        let mut pfn = pfn;
        while pfn < end {
            let (word, bit) = split(pfn);
            let rest = (self.words.get(word).copied().unwrap_or(0) ^ flip) >> bit;
            if rest != 0 {
                return pfn.add(u64::from(rest.trailing_zeros())).min(end);
            }
            pfn = pfn.add(64 - u64::from(bit));
        }
        end
    }

    #[inline]
    fn update(&mut self, range: PfnRange, change: impl Fn(&mut u64, u64) -> u64) -> u64 {
        let mut changed = 0;
        let words = &mut self.words;
        let clipped = range.intersection(PfnRange::new(Pfn::ZERO, self.end));
        for_each_word(clipped, |word, mask| {
            if let Some(word) = words.get_mut(word) {
                changed += u64::from(change(word, mask).count_ones());
            }
        });
        changed
    }

    fn clip(&self, range: PfnRange) -> PfnRange {
        range.intersection(PfnRange::new(Pfn::ZERO, self.end))
    }
}

fn split(pfn: Pfn) -> (usize, u32) {
    (usize::try_from(pfn.raw() / 64).unwrap_or(usize::MAX), (pfn.raw() % 64) as u32)
}

#[inline]
fn for_each_word(range: PfnRange, mut visit: impl FnMut(usize, u64)) {
    let mut pfn = range.start;
    while pfn < range.end {
        let (word, bit) = split(pfn);
        let length = range.end.since(pfn).min(64 - u64::from(bit));
        let mask = if length == 64 { u64::MAX } else { ((1 << length) - 1) << bit };
        visit(word, mask);
        pfn = pfn.add(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> PfnRange {
        PfnRange::new(Pfn::new(start), Pfn::new(end))
    }

    #[test]
    fn inserting_and_removing_count_the_frames_that_changed() {
        let mut map = FreeMap::new(Pfn::new(1000));
        assert_eq!(map.insert(range(10, 200)), 190);
        assert_eq!(map.insert(range(190, 210)), 10);
        assert_eq!(map.remove(range(0, 64)), 54);
        assert_eq!(map.count(range(0, 1000)), 146);
        assert!(map.contains(Pfn::new(64)) && !map.contains(Pfn::new(63)));
    }

    #[test]
    fn frames_beyond_the_end_are_ignored() {
        let mut map = FreeMap::new(Pfn::new(100));
        assert_eq!(map.insert(range(90, 300)), 10);
        assert!(!map.contains(Pfn::new(100)));
    }

    #[test]
    fn blocks_are_maximal_aligned_and_cut_at_the_limit() {
        let mut map = FreeMap::new(Pfn::new(4096));
        map.insert(range(3, 24));
        map.insert(range(1024, 3072));
        let blocks: Vec<_> = map
            .blocks(range(0, 4096), Order::new_truncate(9))
            .into_iter()
            .map(|block| (block.pfn.raw(), block.order.raw()))
            .collect();
        assert_eq!(blocks, [(3, 0), (4, 2), (8, 3), (16, 3), (1024, 9), (1536, 9), (2048, 9), (2560, 9)]);
    }

    #[test]
    fn a_block_of_an_order_is_found_only_where_it_is_aligned() {
        let mut map = FreeMap::new(Pfn::new(256));
        map.insert(range(6, 13));
        assert!(map.has_block(range(0, 256), Order::new_truncate(2)));
        assert!(!map.has_block(range(0, 256), Order::new_truncate(3)));
        assert!(!map.has_block(range(0, 11), Order::new_truncate(2)));
        map.insert(range(13, 16));
        assert!(map.has_block(range(0, 256), Order::new_truncate(3)));
    }

    #[test]
    fn blocks_stop_at_the_range() {
        let mut map = FreeMap::new(Pfn::new(4096));
        map.insert(range(0, 4096));
        let blocks = map.blocks(range(8, 12), Order::new_truncate(10));
        assert_eq!(blocks, [FreeBlock { pfn: Pfn::new(8), order: Order::new_truncate(2) }]);
    }

    #[test]
    fn the_difference_names_each_frame() {
        let (mut left, mut right) = (FreeMap::new(Pfn::new(200)), FreeMap::new(Pfn::new(200)));
        left.insert(range(60, 70));
        right.insert(range(61, 70));
        right.insert(range(199, 200));
        assert_eq!(left.difference(&right).map(Pfn::raw).collect::<Vec<_>>(), [60, 199]);
    }
}
