//! What lies at some addresses, with its neighbours, and other ranges in its place: a range with a hole in it, its parts, one range of several.
//!
//! The short way of a call that looks and then changes what it found: one descent for both, since what was found is still in its leaf if nothing changed in between.
//! Locking: lookups take none; a change is one write section, opened under the count that its leaf was found with.
//! Linux 6.12: lib/maple_tree.c (`mas_walk`, `mas_next`, `mas_prev`, `mas_wr_node_store`, `mas_wr_slot_store`), include/linux/mm_types.h (`struct vma_iterator`).

use core::fmt;

use units::{VirtAddr, VirtRange};

use super::node::{MIN_SLOTS, Node, SLOTS, Slot};
use super::path::{Path, Remembered, Snapshot};
use super::sequence::settle;
use super::{Entry, Raced, RangeTree, Word, entry_of};
use crate::atomic::Ordering::Relaxed;

/// What lies at some addresses of a tree, and beside it.
pub struct Around<'t, V> {
    /// The last range that ends where the addresses begin, or below; `None` also if `first` begins below them.
    pub before: Option<Entry<V>>,
    /// The lowest range that shares a byte with them.
    pub first: Option<Entry<V>>,
    /// The range after `first` if that ends with the addresses or in them; without `first`, the first range above them.
    pub behind: Option<Entry<V>>,
    tree: &'t RangeTree<V>,
    /// Where they begin: the slot of the first range that ends above that.
    leaf: Option<Remembered>,
}

impl<V: Copy> Clone for Around<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V: Copy> Copy for Around<'_, V> {}

impl<V: fmt::Debug> fmt::Debug for Around<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries([&self.before, &self.first, &self.behind]).finish()
    }
}

impl<V: Word> RangeTree<V> {
    /// Returns the lowest range that shares a byte with `range`, which is not empty, and its neighbours as far as `range` reaches over its ends.
    pub fn find_around(&self, range: VirtRange) -> Around<'_, V> {
        settle(|| self.try_find_around(range.start.raw(), range.end.raw()))
    }

    #[inline(always)]
    fn try_find_around(&self, low: u64, high: u64) -> Result<Around<'_, V>, Raced> {
        debug_assert!(low < high, "there is something to look at");
        let snapshot = self.snapshot()?;
        let mut around = Around { before: None, first: None, behind: None, tree: self, leaf: None };
        let Some(mut leaf) = snapshot.root else { return Ok(around) };
        // No range ends above the highest address.
        let addr = low.min(u64::MAX - 1);
        for _ in 1..snapshot.height {
            leaf = snapshot.child(leaf, leaf.rank(addr))?;
        }
        let index = leaf.rank(addr);
        let at = leaf.slot(index);
        let begins = at.middle >= low;
        let below = if begins { index.checked_sub(1).map(|below| leaf.slot(below)) } else { None };
        let above = if at.key <= high { leaf.slot(index + 1) } else { Slot::UNUSED };
        snapshot.validate()?;
        around.leaf = Some(snapshot.remember(leaf, index));
        if begins {
            around.before = match below {
                Some(below) => used(below),
                // The last of the leaf before, if there is one.
                None => self.find_beside(&snapshot, || self.try_find_before(VirtAddr::new(low)))?,
            };
        }
        if at.middle >= high {
            around.behind = used(at);
            return Ok(around);
        }
        around.first = used(at);
        if at.key <= high {
            around.behind = match used(above) {
                None => self.find_beside(&snapshot, || self.try_find_below_top(VirtAddr::new(at.key)))?,
                above => above,
            };
        }
        Ok(around)
    }

    /// Looks up what lies in another leaf than the one that was found in `snapshot`.
    #[cold]
    fn find_beside(
        &self,
        snapshot: &Snapshot<'_>,
        find: impl FnOnce() -> Result<Option<Entry<V>>, Raced>,
    ) -> Result<Option<Entry<V>>, Raced> {
        let found = find()?;
        snapshot.validate()?;
        Ok(found)
    }
}

/// Returns the range in a leaf's slot, if there is one.
#[inline(always)]
fn used<V: Word>(slot: Slot) -> Option<Entry<V>> {
    (slot.middle != u64::MAX).then(|| entry_of(slot.middle, slot.key, slot.word))
}

impl<V: Word> Around<'_, V> {
    /// Puts `parts` in the place of `nr_ranges` ranges side by side, the first of which begins at `start` and is `first` or `before`. The parts are ascending and disjoint,
    /// and begin and end where these ranges do.
    ///
    /// Lookups see the ranges or the parts. Returns false, with nothing changed, if the tree changed since the lookup, if there are no such ranges, or if they do not lie in
    /// one node that has room for the parts and keeps enough: [`split`](RangeTree::split), [`merge_next`](RangeTree::merge_next) and
    /// [`set_bounds`](RangeTree::set_bounds) lead there step by step.
    #[inline]
    pub fn splice(&self, start: VirtAddr, nr_ranges: usize, parts: &[Entry<V>]) -> bool {
        debug_assert!(
            parts.iter().all(|part| !part.range.is_empty())
                && parts.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start),
            "parts are ascending and disjoint"
        );
        // Whoever changes the tree meanwhile makes the leaf one that is not known any more.
        self.try_splice(start.raw(), nr_ranges, parts).unwrap_or(false)
    }

    fn try_splice(&self, start: u64, nr_ranges: usize, parts: &[Entry<V>]) -> Result<bool, Raced> {
        let snapshot = self.tree.snapshot()?;
        let remembered = self.leaf.ok_or(Raced)?;
        let (leaf, index) = (snapshot.revisit(remembered).ok_or(Raced)?, remembered.index);
        let first = if leaf.middle(index) == start { index } else { index.wrapping_sub(1) };
        let (old_count, behind) = (leaf.count(), first.wrapping_add(nr_ranges));
        let bounds = (leaf.middle(first), leaf.key(behind.wrapping_sub(1)));
        snapshot.validate()?;
        let (Some(low), Some(high)) = (parts.first(), parts.last()) else { return Ok(false) };
        let new_count = (old_count + parts.len()).saturating_sub(nr_ranges);
        let is_enough = new_count >= MIN_SLOTS || new_count >= old_count || snapshot.height == 1;
        let is_in_leaf = first < behind && behind <= old_count && start == bounds.0;
        if !is_in_leaf || (low.range.start.raw(), high.range.end.raw()) != bounds || new_count > SLOTS || !is_enough {
            return Ok(false);
        }
        let hole = largest_hole(leaf, first, behind);
        let new_hole = parts.windows(2).map(|pair| pair[1].range.start.since(pair[0].range.end)).max().unwrap_or(0);
        let path = if hole == new_hole || has_hole_beside(leaf, (first, behind), old_count, hole.max(new_hole)) {
            None
        } else {
            Some(self.tree.path_to(snapshot, start)?)
        };
        let _writing = self.tree.sequence.claim(snapshot.count)?;
        leaf.shift(behind, first + parts.len());
        for (index, part) in (first..).zip(parts) {
            let (start, end) = (part.range.start.raw(), part.range.end.raw());
            leaf.set(index, Slot { key: end, middle: start, word: part.value.to_word() });
        }
        self.tree.len.store((self.tree.len() + new_count).wrapping_sub(old_count), Relaxed);
        if let Some(path) = path {
            if new_hole > hole {
                path.raise_gaps(new_hole);
            } else if path.noted_gap() == Some(hole) {
                path.correct_gaps(path.leaf_level());
            }
        }
        Ok(true)
    }
}

impl<V: Word> RangeTree<V> {
    /// Returns the path to the range that begins at `start` and is there.
    #[inline(never)]
    fn path_to<'t>(&'t self, snapshot: Snapshot<'t>, start: u64) -> Result<Path<'t>, Raced> {
        let mut path = Path::at_root(snapshot, snapshot.root.ok_or(Raced)?);
        if path.descend_to_start(start)? { Ok(path) } else { Err(Raced) }
    }
}

/// Returns the largest hole between the ranges `first..behind` of a leaf.
#[inline]
fn largest_hole(leaf: &Node, first: usize, behind: usize) -> u64 {
    (first + 1..behind).map(|index| leaf.middle(index).wrapping_sub(leaf.key(index - 1))).max().unwrap_or(0)
}

/// Returns true if a leaf has a hole of `len` or more between two of its `count` ranges, apart from those between the ranges `first..behind`: then
/// what it has there changes nothing above it.
#[inline]
fn has_hole_beside(leaf: &Node, (first, behind): (usize, usize), count: usize, len: u64) -> bool {
    let hole = |index: usize| leaf.middle(index).wrapping_sub(leaf.key(index - 1));
    (1..=first).chain(behind..count).any(|index| hole(index) >= len)
}
