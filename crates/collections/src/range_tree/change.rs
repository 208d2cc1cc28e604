//! Changes in place: another value, other bounds; and emptying a tree.
//!
//! Locking: one write section per change, opened under the count that the path was found with.
//! Linux 6.12: mm/vma.c (`vma_set_range`, `vma_expand`, `vma_shrink`), lib/maple_tree.c (`mtree_destroy`).

use core::ptr;

use units::{VirtAddr, VirtRange};

use super::path::Path;
use super::remove::move_boundary;
use super::sequence::{Writing, settle};
use super::source::{Linked, NodeList};
use super::{NodeSource, RangeTree, TreeError, Word};
use crate::atomic::Ordering::Relaxed;

impl<V: Word> RangeTree<V> {
    /// Gives the range that begins at `start` another value and returns the one it had; `None` if there is no such range.
    pub fn replace(&self, start: VirtAddr, value: V) -> Option<V> {
        settle(|| {
            let snapshot = self.snapshot()?;
            let Some(root) = snapshot.root else { return Ok(None) };
            let mut path = Path::at_root(snapshot, root);
            if !path.descend_to_start(start.raw())? {
                return Ok(None);
            }
            let _writing = self.sequence.claim(path.snapshot.count)?;
            let old = path.leaf().word(path.leaf_index());
            path.leaf().set_word(path.leaf_index(), value.to_word());
            // SAFETY: the words of leaves come from `to_word` of the tree's values.
            Ok(Some(unsafe { V::from_word(old) }))
        })
    }

    /// Grows, shrinks or shifts the range that begins at `start`. It keeps its value and its place between its neighbours.
    ///
    /// # Errors
    /// [`TreeError::Empty`], [`TreeError::NotFound`], or [`TreeError::Overlap`] if `bounds` reaches into a neighbour or lies beyond one; the tree is as before.
    pub fn set_bounds(&self, start: VirtAddr, bounds: VirtRange) -> Result<(), TreeError> {
        if bounds.is_empty() {
            return Err(TreeError::Empty);
        }
        settle(|| {
            let snapshot = self.snapshot()?;
            let Some(root) = snapshot.root else { return Ok(Err(TreeError::NotFound)) };
            let mut path = Path::at_root(snapshot, root);
            if !path.descend_to_start(start.raw())? {
                return Ok(Err(TreeError::NotFound));
            }
            let (leaf, index) = (path.leaf(), path.leaf_index());
            let is_last = index + 1 == leaf.count();
            let next = if is_last { path.next_leaf()? } else { None };
            let next_start = next.as_ref().map_or(leaf.middle(index + 1), |(next, _)| next.leaf().middle(0));
            let end_before = path.end_before();
            path.snapshot.validate()?;
            let is_beyond = !(is_last && next.is_none()) && next_start < bounds.end.raw();
            if bounds.start.raw() < end_before || is_beyond {
                return Ok(Err(TreeError::Overlap));
            }
            let _writing = self.sequence.claim(path.snapshot.count)?;
            leaf.set_middle(index, bounds.start.raw());
            leaf.set_key(index, bounds.end.raw());
            match next {
                Some(next) => move_boundary(&next, bounds.end.raw()),
                None if is_last => self.top.store(bounds.end.raw(), Relaxed),
                None => {}
            }
            path.correct_gaps(path.leaf_level());
            Ok(Ok(()))
        })
    }

    /// Removes all ranges and gives every node to `source`.
    pub fn clear<S: NodeSource>(&self, source: &mut S) {
        let mut freed = NodeList::EMPTY;
        settle(|| {
            let snapshot = self.snapshot()?;
            let writing = self.sequence.claim(snapshot.count)?;
            if let Some(root) = writing.root(&self.root) {
                collect(&writing, root, snapshot.height, &mut freed);
            }
            self.root.store(ptr::null_mut(), Relaxed);
            self.height.store(0, Relaxed);
            self.top.store(0, Relaxed);
            self.len.store(0, Relaxed);
            Ok(())
        });
        freed.release(source);
    }
}

/// Puts `top` and all nodes below it, `height` levels in all, on the list.
fn collect(writing: &Writing<'_>, top: Linked<'_>, height: usize, freed: &mut NodeList) {
    if height > 1 {
        for child in (0..top.node.count()).filter_map(|index| writing.child(top.node, index)) {
            collect(writing, child, height - 1, freed);
        }
    }
    freed.push(top.pointer);
}
