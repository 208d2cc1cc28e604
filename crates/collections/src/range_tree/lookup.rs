//! Lookups of a range by address.
//!
//! Locking: none. Each loads one state of the tree, or notices that it did not.
//! Linux 6.12: mm/mmap.c (`find_vma`, `find_vma_prev`, `find_vma_intersection`), lib/maple_tree.c (`mtree_load`, `mt_find`, `mas_prev`).

use units::{VirtAddr, VirtRange};

use super::path::Snapshot;
use super::sequence::settle;
use super::{Entry, Node, Raced, RangeTree, Word, entry_of};
use crate::atomic::Ordering::Relaxed;

impl<V: Word> RangeTree<V> {
    /// Returns the range that holds `addr`.
    #[inline]
    pub fn find(&self, addr: VirtAddr) -> Option<Entry<V>> {
        settle(|| self.try_find(addr))
    }

    /// Returns the range that holds `addr`.
    ///
    /// # Errors
    /// A writer came in between.
    #[inline]
    pub fn try_find(&self, addr: VirtAddr) -> Result<Option<Entry<V>>, Raced> {
        Ok(self.try_find_at_or_after(addr)?.filter(|entry| entry.range.start <= addr))
    }

    /// Returns the first range that ends above `addr`: the one that holds it, else the next one (Linux: `find_vma`).
    #[inline]
    pub fn find_at_or_after(&self, addr: VirtAddr) -> Option<Entry<V>> {
        settle(|| self.try_find_below_top(addr))
    }

    /// As [`try_find_at_or_after`](Self::try_find_at_or_after), for who often asks above all ranges.
    #[inline]
    pub(super) fn try_find_below_top(&self, addr: VirtAddr) -> Result<Option<Entry<V>>, Raced> {
        let count = self.sequence.begin()?;
        if addr.raw() < self.top.load(Relaxed) {
            return self.try_find_at_or_after(addr);
        }
        self.sequence.validate(count)?;
        Ok(None)
    }

    /// Returns the first range that ends above `addr`.
    ///
    /// # Errors
    /// A writer came in between.
    #[inline]
    pub fn try_find_at_or_after(&self, addr: VirtAddr) -> Result<Option<Entry<V>>, Raced> {
        let snapshot = self.snapshot()?;
        let (Some(mut node), addr) = (snapshot.root, addr.raw()) else { return Ok(None) };
        // No range ends above the highest address.
        if addr == u64::MAX {
            return Ok(None);
        }
        for _ in 1..snapshot.height {
            node = snapshot.child(node, node.rank(addr))?;
        }
        let (start, end, word) = slot_above(node, addr);
        snapshot.validate()?;
        Ok((start != u64::MAX).then(|| entry_of(start, end, word)))
    }

    /// Returns the last range that ends at or below `addr` (Linux: the `prev` of `find_vma_prev`, given a start).
    pub fn find_before(&self, addr: VirtAddr) -> Option<Entry<V>> {
        settle(|| self.try_find_before(addr))
    }

    /// Returns the lowest range that shares a byte with `range`.
    pub fn find_intersection(&self, range: VirtRange) -> Option<Entry<V>> {
        self.find_at_or_after(range.start).filter(|entry| entry.range.overlaps(range))
    }

    pub(super) fn try_find_before(&self, addr: VirtAddr) -> Result<Option<Entry<V>>, Raced> {
        let snapshot = self.snapshot()?;
        let Some(mut node) = snapshot.root else { return Ok(None) };
        if addr.raw() == u64::MAX {
            // No range ends above the highest address.
            return self.ending_at(&snapshot, self.top.load(Relaxed));
        }
        // The end of the range before all that lie below the node; 0 if there is none.
        let mut end_before = 0;
        for _ in 1..snapshot.height {
            let index = node.rank(addr.raw());
            if let Some(before) = index.checked_sub(1) {
                end_before = node.key(before);
            }
            node = snapshot.child(node, index)?;
        }
        let Some(before) = node.rank(addr.raw()).checked_sub(1) else { return self.ending_at(&snapshot, end_before) };
        let (start, end, word) = (node.middle(before), node.key(before), node.word(before));
        snapshot.validate()?;
        Ok(Some(entry_of(start, end, word)))
    }

    /// Returns the range that ends at `end`, which is the end of one, or 0 for none.
    #[cold]
    fn ending_at(&self, snapshot: &Snapshot<'_>, end: u64) -> Result<Option<Entry<V>>, Raced> {
        snapshot.validate()?;
        let Some(last) = end.checked_sub(1) else { return Ok(None) };
        let found = self.try_find_at_or_after(VirtAddr::new(last))?;
        snapshot.validate()?;
        Ok(found)
    }
}

/// Returns start, end and value of the first slot of `leaf` that ends above `addr`; a start of `u64::MAX` if there is none.
#[inline(always)]
pub(super) fn slot_above(leaf: &Node, addr: u64) -> (u64, u64, *mut ()) {
    let index = leaf.rank(addr);
    (leaf.middle(index), leaf.key(index), leaf.word(index))
}
