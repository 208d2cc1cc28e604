//! Intervals that may overlap, each within one of many keyed spaces: the areas that map pages of a file.
//!
//! A height-balanced tree (AVL) ordered by key, first number and time of insertion; each node knows the largest last number below it. Nodes lie in the
//! objects that they stand for, so nothing is allocated and no change fails. Equal starts are visited in the order of insertion: fork enters a child's
//! area behind its parent's, and a walk that passes the parent before a page is copied meets the child after it.
//! Locking: the owner's, by `&` and `&mut`; the nodes' fields are atomics, so that their objects may be shared.
//! Linux 6.12: include/linux/interval_tree_generic.h, mm/interval_tree.c, lib/rbtree.c.

mod balance;
#[cfg(all(test, not(loom)))]
mod tests;

use core::fmt;
use core::marker::PhantomData;
use core::ops::RangeInclusive;

use crate::WordCell;
use crate::atomic::AtomicU64;
use crate::atomic::Ordering::Relaxed;
use crate::range_tree::Word;

/// Where the node of a tree lies in its object. One object may have nodes of several trees.
pub trait NodeOf<N: Word> {
    /// Returns the node of `object`: always the same one.
    fn node(object: &N) -> &IntervalNode<N>;
}

/// Node of an object. Opaque outside this crate.
// Relaxed throughout: the lock of the tree orders everything.
pub struct IntervalNode<N> {
    key: AtomicU64,
    first: AtomicU64,
    last: AtomicU64,
    /// Number of the insertion.
    serial: AtomicU64,
    /// Largest `last` of the node and all below it.
    max_last: AtomicU64,
    /// Levels of the subtree, at least 1.
    height: AtomicU64,
    left: WordCell<N>,
    right: WordCell<N>,
}

impl<N: Word> Default for IntervalNode<N> {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            key: zero(),
            first: zero(),
            last: zero(),
            serial: zero(),
            max_last: zero(),
            height: zero(),
            left: WordCell::new(),
            right: WordCell::new(),
        }
    }
}

impl<N> fmt::Debug for IntervalNode<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [key, first, last] = [&self.key, &self.first, &self.last].map(|field| field.load(Relaxed));
        write!(f, "IntervalNode({key}: {first}..={last})")
    }
}

impl<N: Word> IntervalNode<N> {
    /// What the tree is ordered by.
    fn place(&self) -> (u64, u64, u64) {
        (self.key.load(Relaxed), self.first.load(Relaxed), self.serial.load(Relaxed))
    }
}

/// Intervals with their keys.
///
/// # Invariants
/// Every object reached from `root` was inserted and not removed since; the tree is ordered and balanced.
pub struct IntervalTree<N, S> {
    root: Option<N>,
    next_serial: u64,
    nodes: PhantomData<fn() -> S>,
}

impl<N, S> IntervalTree<N, S> {
    /// Makes a tree without intervals.
    pub const fn new() -> Self {
        Self { root: None, next_serial: 0, nodes: PhantomData }
    }
}

impl<N, S> Default for IntervalTree<N, S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<N, S> fmt::Debug for IntervalTree<N, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntervalTree").field("is_empty", &self.root.is_none()).finish_non_exhaustive()
    }
}

impl<N: Word + Eq, S: NodeOf<N>> IntervalTree<N, S> {
    /// Enters an object, which is in no tree by this node, with an interval of the space `key`.
    pub fn insert(&mut self, object: N, key: u64, interval: RangeInclusive<u64>) {
        let node = S::node(&object);
        self.next_serial += 1;
        for (field, value) in [
            (&node.key, key),
            (&node.first, *interval.start()),
            (&node.last, *interval.end()),
            (&node.serial, self.next_serial),
        ] {
            field.store(value, Relaxed);
        }
        node.left.store(None);
        node.right.store(None);
        self.root = Some(balance::insert::<N, S>(self.root, object));
    }

    /// Takes an object out; false if it is not in this tree.
    pub fn remove(&mut self, object: N) -> bool {
        let (root, found) = balance::remove::<N, S>(self.root, object);
        self.root = root;
        found
    }

    /// Calls `visit` for each object with a number of `numbers` in the space `key`, by first number and time of insertion.
    pub fn for_each(&self, key: u64, numbers: RangeInclusive<u64>, visit: &mut impl FnMut(N)) {
        Self::walk(self.root, key, &numbers, visit);
    }

    /// The tree is balanced, so at most 92 levels deep.
    fn walk(at: Option<N>, key: u64, numbers: &RangeInclusive<u64>, visit: &mut impl FnMut(N)) {
        let Some(object) = at else { return };
        let node = S::node(&object);
        // Intervals of other spaces count as well; then the search below finds nothing.
        if node.max_last.load(Relaxed) < *numbers.start() {
            return;
        }
        let (own_key, first, _) = node.place();
        if own_key >= key {
            Self::walk(node.left.load(), key, numbers, visit);
        }
        if own_key == key && first <= *numbers.end() && node.last.load(Relaxed) >= *numbers.start() {
            visit(object);
        }
        if (own_key, first) <= (key, *numbers.end()) {
            Self::walk(node.right.load(), key, numbers, visit);
        }
    }

    /// Returns true if no object is in the tree.
    pub const fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Checks order, balance and the largest ends; returns the number of objects.
    ///
    /// # Errors
    /// The first law that is broken.
    pub fn check_invariants(&self) -> Result<usize, &'static str> {
        let mut before = None;
        balance::check::<N, S>(self.root, &mut before).map(|counted| counted.objects)
    }
}
