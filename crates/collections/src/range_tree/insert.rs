//! Inserting a range, and splitting one in two.
//!
//! Both add one slot to a leaf. A full leaf is split, and its parent if that is full too, up to a new root; the nodes for that are
//! taken before anything is changed.
//! Locking: one write section per change, opened under the count that the path was found with.
//! Linux 6.12: lib/maple_tree.c (`mas_wr_node_store`, `mas_split`, `mas_prealloc`); mm/vma.c (`__split_vma`).

use units::{VirtAddr, VirtRange};

use super::node::{Kind, MIN_SLOTS, NO_KEY, Node, SLOTS, Slot};
use super::path::{MAX_HEIGHT, Path, child_word};
use super::sequence::settle;
use super::source::NodeList;
use super::{NodeSource, Raced, RangeTree, TreeError, Word};
use crate::atomic::Ordering::Relaxed;

/// Why an attempt did not get through.
enum Setback {
    Raced,
    Refused(TreeError),
}

impl From<Raced> for Setback {
    fn from(_: Raced) -> Self {
        Self::Raced
    }
}

impl From<TreeError> for Setback {
    fn from(error: TreeError) -> Self {
        Self::Refused(error)
    }
}

fn settle_change(mut attempt: impl FnMut() -> Result<(), Setback>) -> Result<(), TreeError> {
    settle(|| match attempt() {
        Ok(()) => Ok(Ok(())),
        Err(Setback::Refused(error)) => Ok(Err(error)),
        Err(Setback::Raced) => Err(Raced),
    })
}

impl<V: Word> RangeTree<V> {
    /// Inserts a range. Takes nodes from `source` only if a leaf is full.
    ///
    /// # Errors
    /// [`TreeError::Empty`], [`TreeError::Overlap`] or [`TreeError::NoMemory`]; the tree is as before.
    pub fn insert<S: NodeSource>(&self, range: VirtRange, value: V, source: &mut S) -> Result<(), TreeError> {
        if range.is_empty() {
            return Err(TreeError::Empty);
        }
        settle_change(|| self.try_insert(range, value.to_word(), source))
    }

    /// Splits the range around `at`: its lower part keeps its value, the part from `at` on gets `upper`.
    ///
    /// Lookups see the whole range or both parts.
    ///
    /// # Errors
    /// [`TreeError::NotFound`] if no range begins below `at` and ends above it, [`TreeError::NoMemory`]; the tree is as before.
    pub fn split<S: NodeSource>(&self, at: VirtAddr, upper: V, source: &mut S) -> Result<(), TreeError> {
        settle_change(|| self.try_split(at.raw(), upper.to_word(), source))
    }

    fn try_insert<S: NodeSource>(&self, range: VirtRange, word: *mut (), source: &mut S) -> Result<(), Setback> {
        let slot = Slot { key: range.end.raw(), middle: range.start.raw(), word };
        let snapshot = self.snapshot()?;
        let Some(root) = snapshot.root else {
            let mut nodes = NodeList::reserve(1, source)?;
            let planted = self.plant(snapshot.count, slot, &mut nodes);
            nodes.release(source);
            return Ok(planted?);
        };
        let mut path = Path::at_root(snapshot, root);
        path.descend(slot.middle)?;
        let (leaf, index) = (path.leaf(), path.leaf_index());
        // An unused slot starts at the highest address, so this needs no count.
        if leaf.middle(index) < slot.key {
            path.snapshot.validate()?;
            return Err(TreeError::Overlap.into());
        }
        let mut nodes = self.reserve_for(&path, source)?;
        let done = self.add(&path, index, slot, &mut nodes);
        nodes.release(source);
        Ok(done?)
    }

    fn try_split<S: NodeSource>(&self, at: u64, word: *mut (), source: &mut S) -> Result<(), Setback> {
        let snapshot = self.snapshot()?;
        let root = snapshot.root.ok_or(TreeError::NotFound)?;
        let mut path = Path::at_root(snapshot, root);
        path.descend(at)?;
        let (leaf, index) = (path.leaf(), path.leaf_index());
        let whole = leaf.slot(index);
        if whole.middle >= at {
            path.snapshot.validate()?;
            return Err(TreeError::NotFound.into());
        }
        let mut nodes = self.reserve_for(&path, source)?;
        let done = self.divide(&path, index, at, Slot { middle: at, word, ..whole }, &mut nodes);
        nodes.release(source);
        Ok(done?)
    }

    /// Takes the nodes that one more slot in the path's leaf needs.
    fn reserve_for<S: NodeSource>(&self, path: &Path<'_>, source: &mut S) -> Result<NodeList, Setback> {
        if path.leaf().count() < SLOTS {
            return Ok(NodeList::EMPTY);
        }
        let levels = path.leaf_level() + 1;
        let full = (0..levels).rev().take_while(|&level| path.node(level).count() >= SLOTS).count();
        path.snapshot.validate()?;
        let root_splits = full == levels;
        if root_splits && levels == MAX_HEIGHT {
            return Err(TreeError::NoMemory.into());
        }
        Ok(NodeList::reserve(full + usize::from(root_splits), source)?)
    }

    /// Makes the first leaf.
    fn plant(&self, count: u64, slot: Slot, nodes: &mut NodeList) -> Result<(), Raced> {
        let _writing = self.sequence.claim(count)?;
        let Some(leaf) = nodes.take() else { return Err(Raced) };
        leaf.node.fill(&[slot], Kind::Leaf);
        self.root.store(leaf.pointer.as_ptr(), Relaxed);
        self.height.store(1, Relaxed);
        self.top.store(slot.key, Relaxed);
        self.len.store(1, Relaxed);
        Ok(())
    }

    fn add(&self, path: &Path<'_>, index: usize, slot: Slot, nodes: &mut NodeList) -> Result<(), Raced> {
        let leaf = path.leaf();
        let is_append = index == leaf.count();
        let end_before = path.end_before();
        let is_largest_hole = path.noted_gap().is_some_and(|gap| gap <= leaf.middle(index).wrapping_sub(end_before));
        let _writing = self.sequence.claim(path.snapshot.count)?;
        if is_append {
            self.top.store(slot.key, Relaxed);
        }
        self.len.store(self.len() + 1, Relaxed);
        if leaf.count() == SLOTS {
            self.grow(path, index, slot, is_append, nodes);
            return Ok(());
        }
        leaf.insert(index, slot);
        if is_append {
            path.raise_gaps(slot.middle.wrapping_sub(end_before));
        } else if is_largest_hole {
            path.correct_gaps(path.leaf_level());
        }
        Ok(())
    }

    fn divide(&self, path: &Path<'_>, index: usize, at: u64, upper: Slot, nodes: &mut NodeList) -> Result<(), Raced> {
        let leaf = path.leaf();
        let _writing = self.sequence.claim(path.snapshot.count)?;
        self.len.store(self.len() + 1, Relaxed);
        leaf.set_key(index, at);
        if leaf.count() == SLOTS {
            let is_append = index + 1 == SLOTS && path.is_last_leaf();
            self.grow(path, index + 1, upper, is_append, nodes);
        } else {
            // The parts touch, so no gap changes.
            leaf.insert(index + 1, upper);
        }
        Ok(())
    }

    /// Adds `slot` at `index` to the path's leaf, which is full.
    fn grow(&self, path: &Path<'_>, index: usize, slot: Slot, is_append: bool, nodes: &mut NodeList) {
        let (mut level, mut index, mut slot) = (path.leaf_level(), index, slot);
        while path.node(level).count() == SLOTS {
            let Some(right) = nodes.take() else { return };
            let (left, kind) = (path.node(level), path.kind(level));
            let lower = path.lower_bound(level, 0);
            let separator = split_node(left, right.node, kind, index, slot, is_append);
            let gap = left.largest_gap(kind, lower);
            let right_gap = right.node.largest_gap(kind, separator);
            let right_word = child_word(right.pointer);
            if level == 0 {
                let left = Slot { key: separator, middle: gap, word: self.root.load(Relaxed).cast() };
                self.raise(&[left, Slot { key: NO_KEY, middle: right_gap, word: right_word }], nodes);
                return;
            }
            level -= 1;
            let (parent, child) = (path.node(level), path.index(level));
            slot = Slot { key: parent.key(child), middle: right_gap, word: right_word };
            parent.set_key(child, separator);
            parent.set_middle(child, gap);
            index = child + 1;
        }
        path.node(level).insert(index, slot);
        path.correct_gaps(level);
    }

    /// Puts a root above the two halves of the old one.
    fn raise(&self, halves: &[Slot; 2], nodes: &mut NodeList) {
        let Some(root) = nodes.take() else { return };
        root.node.fill(halves, Kind::Inner);
        self.root.store(root.pointer.as_ptr(), Relaxed);
        self.height.store(self.height.load(Relaxed) + 1, Relaxed);
    }
}

/// Distributes the slots of `left`, which is full, and one more at `index` over `left` and `right`; returns the key between them.
fn split_node(left: &Node, right: &Node, kind: Kind, index: usize, slot: Slot, is_append: bool) -> u64 {
    let mut slots = [Slot::UNUSED; SLOTS + 1];
    let old = (0..SLOTS).map(|from| left.slot(from));
    let (below, above) = (old.clone().take(index), old.skip(index));
    for (to, from) in slots.iter_mut().zip(below.chain([slot]).chain(above)) {
        *to = from;
    }
    let (lower, upper) = slots.split_at_mut(kept_on_the_left(kind, index, is_append));
    let separator = lower.last().map_or(NO_KEY, |last| last.key);
    if let (Kind::Inner, Some(last)) = (kind, lower.last_mut()) {
        last.key = NO_KEY;
    }
    right.fill(upper, kind);
    left.fill(lower, kind);
    separator
}

/// Returns how many of `SLOTS + 1` slots stay in the left half.
///
/// Where ranges are added in rising or falling order the next one will go beside this one, so the half that it goes to is left with
/// room; a node at the right end is left full.
fn kept_on_the_left(kind: Kind, index: usize, is_append: bool) -> usize {
    match (is_append, kind) {
        (true, Kind::Leaf) => SLOTS,
        (true, Kind::Inner) => SLOTS - 1,
        (false, _) if index <= 1 => MIN_SLOTS,
        (false, _) if index + 1 >= SLOTS => SLOTS + 1 - MIN_SLOTS,
        (false, _) => SLOTS.div_ceil(2),
    }
}
