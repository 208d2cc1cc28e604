//! Removing a range, and joining one with the next.
//!
//! Both take one slot out of a leaf. A node left with too few slots is merged with a neighbour or takes some of its slots. No node is
//! needed for that, so neither can fail for want of memory.
//! Locking: one write section per change, opened under the count that the path was found with; nodes are freed after it.
//! Linux 6.12: lib/maple_tree.c (`mas_erase`, `mas_rebalance`); mm/vma.c (`vma_merge`).

use core::ptr::{self, NonNull};

use units::VirtAddr;

use super::node::{Kind, MERGED_SLOTS, MIN_SLOTS, NO_KEY, Node, SLOTS, Slot};
use super::path::Path;
use super::sequence::{Writing, settle};
use super::source::NodeList;
use super::{Entry, NodeSource, Raced, RangeTree, Word, entry_of};
use crate::atomic::Ordering::Relaxed;

impl<V: Word> RangeTree<V> {
    /// Removes the range that begins at `start` and returns it; `None` if there is none.
    pub fn remove<S: NodeSource>(&self, start: VirtAddr, source: &mut S) -> Option<Entry<V>> {
        let mut freed = NodeList::EMPTY;
        let removed = settle(|| {
            let snapshot = self.snapshot()?;
            let Some(root) = snapshot.root else { return Ok(None) };
            let mut path = Path::at_root(snapshot, root);
            if !path.descend_to_start(start.raw())? {
                return Ok(None);
            }
            let slot = path.leaf().slot(path.leaf_index());
            self.take_out(&path, slot, &mut freed)?;
            Ok(Some(entry_of(slot.middle, slot.key, slot.word)))
        });
        freed.release(source);
        removed
    }

    /// Joins the range that begins at `start` with the next one, which begins where it ends; returns the value that the next one had.
    ///
    /// Lookups see both ranges or the joined one. Returns `None`, with nothing changed, if there are no two such ranges.
    pub fn merge_next<S: NodeSource>(&self, start: VirtAddr, source: &mut S) -> Option<V> {
        let mut freed = NodeList::EMPTY;
        let upper = settle(|| {
            let snapshot = self.snapshot()?;
            let Some(root) = snapshot.root else { return Ok(None) };
            let mut path = Path::at_root(snapshot, root);
            if !path.descend_to_start(start.raw())? {
                return Ok(None);
            }
            self.join(&path, &mut freed)
        });
        freed.release(source);
        // SAFETY: the words of leaves come from `to_word` of the tree's values.
        upper.map(|word| unsafe { V::from_word(word) })
    }

    /// Takes out the slot that the path leads to.
    fn take_out(&self, path: &Path<'_>, slot: Slot, freed: &mut NodeList) -> Result<(), Raced> {
        let (leaf, index) = (path.leaf(), path.leaf_index());
        let end_before = path.end_before();
        let hole = slot.middle.wrapping_sub(end_before);
        let joined_hole = leaf.middle(index + 1).wrapping_sub(end_before);
        let is_last = index + 1 == leaf.count();
        let next = if is_last { path.next_leaf()? } else { None };
        let writing = self.sequence.claim(path.snapshot.count)?;
        leaf.remove(index, Kind::Leaf);
        self.len.store(self.len() - 1, Relaxed);
        match next {
            // The gap moves to the next leaf.
            Some(next) => move_boundary(&next, end_before),
            None if is_last => self.top.store(end_before, Relaxed),
            None => path.raise_gaps(joined_hole),
        }
        if is_last && path.noted_gap() == Some(hole) {
            path.correct_gaps(path.leaf_level());
        }
        self.refill(path, &writing, freed);
        Ok(())
    }

    fn join(&self, path: &Path<'_>, freed: &mut NodeList) -> Result<Option<*mut ()>, Raced> {
        let (leaf, index) = (path.leaf(), path.leaf_index());
        let end = leaf.key(index);
        let next_leaf = if index + 1 == leaf.count() { path.next_leaf()? } else { None };
        let upper = next_leaf.as_ref().map_or(leaf.slot(index + 1), |(next, _)| next.leaf().slot(0));
        let is_adjacent = index + 1 < leaf.count() || next_leaf.is_some();
        path.snapshot.validate()?;
        if !is_adjacent || upper.middle != end {
            return Ok(None);
        }
        let writing = self.sequence.claim(path.snapshot.count)?;
        self.len.store(self.len() - 1, Relaxed);
        // The ranges touch, so no gap changes.
        leaf.set_key(index, upper.key);
        match next_leaf {
            None => {
                leaf.remove(index + 1, Kind::Leaf);
                self.refill(path, &writing, freed);
            }
            Some((next, turn)) => {
                next.leaf().remove(0, Kind::Leaf);
                next.node(turn).set_key(next.index(turn) - 1, upper.key);
                self.refill(&next, &writing, freed);
            }
        }
        Ok(Some(upper.word))
    }

    /// Merges nodes of the path that have too few slots with neighbours, and takes roots with one child away.
    fn refill(&self, path: &Path<'_>, writing: &Writing<'_>, freed: &mut NodeList) {
        let mut level = path.leaf_level();
        while level > 0 && path.node(level).count() < MIN_SLOTS {
            let (parent, index) = (path.node(level - 1), path.index(level - 1));
            let left = if index + 1 < parent.count() { index } else { index.saturating_sub(1) };
            let lower = path.lower_bound(level - 1, left);
            match rebalance(writing, parent, left, path.kind(level), lower) {
                Some(emptied) => freed.push(emptied),
                None => break,
            }
            level -= 1;
        }
        self.lower_root(writing, freed);
    }

    fn lower_root(&self, writing: &Writing<'_>, freed: &mut NodeList) {
        while let Some(root) = writing.root(&self.root) {
            let height = self.height.load(Relaxed);
            let only_child = match (height, root.node.count()) {
                (1, 0) => ptr::null_mut(),
                (2.., 1) => root.node.word(0).cast(),
                _ => return,
            };
            self.root.store(only_child, Relaxed);
            self.height.store(height - 1, Relaxed);
            freed.push(root.pointer);
        }
    }
}

/// Makes the ranges before the first slot of the leaf at `next` end at `end`.
pub(super) fn move_boundary((next, turn): &(Path<'_>, usize), end: u64) {
    next.node(*turn).set_key(next.index(*turn) - 1, end);
    next.correct_gaps(next.leaf_level());
}

/// Merges children `left` and `left + 1` of `parent` if they fit well into one node, and returns the node that is empty then; else evens them out.
///
/// The ranges below `left` begin at `lower` or above. The largest gap of both together stays what it is, so nothing above `parent` changes.
fn rebalance(writing: &Writing<'_>, parent: &Node, left: usize, kind: Kind, lower: u64) -> Option<NonNull<Node>> {
    let (first, emptied) = (writing.child(parent, left)?.node, writing.child(parent, left + 1)?);
    let second = emptied.node;
    let mut slots = [Slot::UNUSED; 2 * SLOTS];
    let (kept, total) = (first.count(), first.count() + second.count());
    let old = (0..kept).map(|index| first.slot(index)).chain((0..second.count()).map(|index| second.slot(index)));
    for (to, from) in slots.iter_mut().zip(old) {
        *to = from;
    }
    // The last child of a node has no key of its own.
    if let (Kind::Inner, Some(last)) = (kind, slots.get_mut(kept.wrapping_sub(1))) {
        last.key = parent.key(left);
    }
    let slots = slots.get_mut(..total)?;
    if total <= MERGED_SLOTS {
        first.fill(slots, kind);
        parent.set_middle(left + 1, parent.middle(left).max(parent.middle(left + 1)));
        parent.set_word(left + 1, parent.word(left));
        parent.remove(left, Kind::Inner);
        return Some(emptied.pointer);
    }
    let (low, high) = slots.split_at_mut(total / 2);
    let separator = low.last().map_or(NO_KEY, |last| last.key);
    if let (Kind::Inner, Some(last)) = (kind, low.last_mut()) {
        last.key = NO_KEY;
    }
    first.fill(low, kind);
    second.fill(high, kind);
    parent.set_key(left, separator);
    parent.set_middle(left, first.largest_gap(kind, lower));
    parent.set_middle(left + 1, second.largest_gap(kind, separator));
    None
}
