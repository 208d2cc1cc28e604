//! The way from the root of a range tree to a slot of a leaf.
//!
//! Used by every change and by checks; lookups descend without keeping the way.
//! Linux 6.12: lib/maple_tree.c (`struct ma_state`, `mas_walk`).

use core::ptr::NonNull;

use super::node::{Kind, Node};
use super::sequence::Sequence;
use super::{Raced, RangeTree, Word};
use crate::atomic::Ordering::Relaxed;

/// Most levels of a tree. With at least four slots in use a node, the leaves of a full-height tree hold over 2^32 ranges.
pub(super) const MAX_HEIGHT: usize = 16;

/// Root and height at one moment.
#[derive(Clone, Copy)]
pub(super) struct Snapshot<'t> {
    pub(super) sequence: &'t Sequence,
    pub(super) count: u64,
    /// `None` for a tree without nodes.
    pub(super) root: Option<&'t Node>,
    pub(super) height: usize,
}

impl<V: Word> RangeTree<V> {
    #[inline(always)]
    pub(super) fn snapshot(&self) -> Result<Snapshot<'_>, Raced> {
        let count = self.sequence.begin()?;
        let root = self.root.load(Relaxed);
        let height = self.height.load(Relaxed);
        self.sequence.validate(count)?;
        // SAFETY: `count` is valid, so by the type invariant this is null or a node of a source, whose memory stays a `Node` during the call.
        let root = unsafe { root.as_ref() };
        Ok(Snapshot { sequence: &self.sequence, count, root, height })
    }
}

/// Leaf of a lookup, to come back to. Loaded from only while the tree's sequence count is `count`.
#[derive(Clone, Copy)]
pub(super) struct Remembered {
    count: u64,
    node: NonNull<Node>,
    /// A slot of it.
    pub(super) index: usize,
}

impl<'t> Snapshot<'t> {
    /// Returns the child at `index` of `node`, an inner node of the tree.
    #[inline(always)]
    pub(super) fn child(&self, node: &Node, index: usize) -> Result<&'t Node, Raced> {
        let child = node.child(index).ok_or(Raced)?;
        self.sequence.validate(self.count)?;
        // SAFETY: the count is valid after the load, so by the tree's type invariant this points to a node of a source, whose memory stays a
        // `Node` during the call.
        Ok(unsafe { &*child })
    }

    /// Remembers a slot of a leaf.
    #[inline(always)]
    pub(super) fn remember(&self, leaf: &Node, index: usize) -> Remembered {
        Remembered { count: self.count, node: NonNull::from(leaf), index }
    }

    /// Returns a leaf that was remembered; `None` if the tree has changed since.
    pub(super) fn revisit(&self, leaf: Remembered) -> Option<&'t Node> {
        if self.count != leaf.count {
            return None;
        }
        // SAFETY: the tree is as it was when the leaf was in it, so this is a node of a source, whose memory stays a `Node` during the call.
        Some(unsafe { leaf.node.as_ref() })
    }

    /// Checks that all that was loaded through this snapshot belongs to one state of the tree.
    #[inline(always)]
    pub(super) fn validate(&self) -> Result<(), Raced> {
        self.sequence.validate(self.count)
    }
}

/// A slot of a leaf with all nodes above it.
///
/// Made where it is used: it is too large to be handed around by value.
#[derive(Clone)]
pub(super) struct Path<'t> {
    pub(super) snapshot: Snapshot<'t>,
    /// From the root down; what lies below the leaf is not part of the path.
    nodes: [&'t Node; MAX_HEIGHT],
    indexes: [u8; MAX_HEIGHT],
    height: usize,
    leaf: &'t Node,
    leaf_index: usize,
}

impl<'t> Path<'t> {
    /// Makes a path that has not left the root.
    #[inline(always)]
    pub(super) fn at_root(snapshot: Snapshot<'t>, root: &'t Node) -> Self {
        let height = snapshot.height.min(MAX_HEIGHT);
        Self { snapshot, nodes: [root; MAX_HEIGHT], indexes: [0; MAX_HEIGHT], height, leaf: root, leaf_index: 0 }
    }

    /// Descends to the first slot that ends above `addr`, or to the place after the last slot of the last leaf.
    #[inline(always)]
    pub(super) fn descend(&mut self, addr: u64) -> Result<(), Raced> {
        let addr = addr.min(u64::MAX - 1);
        for level in 0..self.leaf_level() {
            let index = self.leaf.rank(addr);
            self.set_step(level, self.leaf, index);
            self.leaf = self.snapshot.child(self.leaf, index)?;
        }
        self.leaf_index = self.leaf.rank(addr);
        self.set_step(self.leaf_level(), self.leaf, self.leaf_index);
        if self.leaf_index > self.leaf.count() { Err(Raced) } else { Ok(()) }
    }

    /// Descends to the range that begins at `start`; returns false if there is none.
    #[inline(always)]
    pub(super) fn descend_to_start(&mut self, start: u64) -> Result<bool, Raced> {
        self.descend(start)?;
        let is_found = self.leaf_index < self.leaf.count() && self.leaf.middle(self.leaf_index) == start;
        self.snapshot.validate()?;
        Ok(is_found)
    }

    #[inline(always)]
    fn set_step(&mut self, level: usize, node: &'t Node, index: usize) {
        self.nodes[level % MAX_HEIGHT] = node;
        self.indexes[level % MAX_HEIGHT] = index as u8;
    }

    /// Returns the level of the leaf; the root's is 0.
    pub(super) fn leaf_level(&self) -> usize {
        self.height.saturating_sub(1)
    }

    #[inline(always)]
    pub(super) fn leaf(&self) -> &'t Node {
        self.leaf
    }

    /// Returns the index of the slot in its leaf.
    #[inline(always)]
    pub(super) fn leaf_index(&self) -> usize {
        self.leaf_index
    }

    #[inline(always)]
    pub(super) fn node(&self, level: usize) -> &'t Node {
        self.nodes[level % MAX_HEIGHT]
    }

    #[inline(always)]
    pub(super) fn index(&self, level: usize) -> usize {
        usize::from(self.indexes[level % MAX_HEIGHT])
    }

    /// Returns the largest gap of the leaf as it is noted above it; `None` if the leaf is the root.
    pub(super) fn noted_gap(&self) -> Option<u64> {
        let above = self.leaf_level().checked_sub(1)?;
        Some(self.node(above).middle(self.index(above)))
    }

    pub(super) fn kind(&self, level: usize) -> Kind {
        if level + 1 == self.height { Kind::Leaf } else { Kind::Inner }
    }

    /// Returns where the ranges below child `index` of the node at `level` may begin: the end of the range before.
    pub(super) fn lower_bound(&self, level: usize, index: usize) -> u64 {
        if index > 0 {
            return self.node(level).key(index - 1);
        }
        let turn = (0..level).rev().find(|&above| self.index(above) > 0);
        turn.map_or(0, |above| self.node(above).key(self.index(above) - 1))
    }

    /// Returns the end of the range before this one; 0 for the first.
    pub(super) fn end_before(&self) -> u64 {
        self.lower_bound(self.leaf_level(), self.leaf_index())
    }

    /// Returns the deepest level above the leaf whose node has a child after the one that the path takes.
    fn turn_right(&self) -> Option<usize> {
        (0..self.leaf_level()).rev().find(|&level| self.index(level) + 1 < self.node(level).count())
    }

    /// Returns true if no leaf follows this one.
    pub(super) fn is_last_leaf(&self) -> bool {
        self.turn_right().is_none()
    }

    /// Returns the path to the first slot of the next leaf, and the level and index of the key between the two leaves.
    pub(super) fn next_leaf(&self) -> Result<Option<(Self, usize)>, Raced> {
        let Some(turn) = self.turn_right() else { return Ok(None) };
        let mut next = self.clone();
        next.set_step(turn, self.node(turn), self.index(turn) + 1);
        for level in turn + 1..self.height {
            next.leaf = self.snapshot.child(next.node(level - 1), next.index(level - 1))?;
            next.set_step(level, next.leaf, 0);
        }
        next.leaf_index = 0;
        Ok(Some((next, turn)))
    }

    /// Notes that there is a gap of `gap` in the leaf, above it and further up as far as it is the largest.
    pub(super) fn raise_gaps(&self, gap: u64) {
        for level in (0..self.leaf_level()).rev() {
            let (node, index) = (self.node(level), self.index(level));
            if node.middle(index) >= gap {
                return;
            }
            node.set_middle(index, gap);
        }
    }

    /// Corrects the gaps above the node at `level`, from there up, until one is right.
    pub(super) fn correct_gaps(&self, level: usize) {
        for level in (1..=level).rev() {
            let gap = match self.kind(level) {
                Kind::Leaf => self.node(level).largest_gap(Kind::Leaf, self.lower_bound(level, 0)),
                // Gaps are noted there, wherever the ranges begin.
                Kind::Inner => self.node(level).largest_gap(Kind::Inner, 0),
            };
            let (parent, index) = (self.node(level - 1), self.index(level - 1));
            if parent.middle(index) == gap {
                return;
            }
            parent.set_middle(index, gap);
        }
    }
}

/// Returns the word that stands for a child.
pub(super) fn child_word(node: NonNull<Node>) -> *mut () {
    node.as_ptr().cast()
}
