//! Walking over the ranges in order, in both directions.
//!
//! A cursor stands between ranges and remembers the leaf; while nothing changes, a step costs no descent. After a change it finds its
//! place again by address, so a walk goes on over a tree that is being changed and meets every range that was there all the time.
//! Locking: none; see `lookup`.
//! Linux 6.12: include/linux/mm_types.h (`struct vma_iterator`, `for_each_vma`), lib/maple_tree.c (`mas_next`, `mas_prev`).

use core::iter::FusedIterator;

use units::{VirtAddr, VirtRange};

use super::path::{Remembered, Snapshot};
use super::sequence::settle;
use super::{Entry, Node, Raced, RangeTree, Word, entry_of};

/// Place between two ranges of a tree.
pub struct Cursor<'t, V> {
    tree: &'t RangeTree<V>,
    /// Ranges that end above this address are ahead, all others behind.
    addr: u64,
    /// Leaf that the cursor stands in, and its first slot ahead.
    leaf: Option<Remembered>,
}

/// Slot of a leaf, in one state of the tree.
struct Place<'t> {
    snapshot: Snapshot<'t>,
    leaf: &'t Node,
    index: usize,
}

// SAFETY: a cursor is a shared reference to a tree and an address that it follows only through `Snapshot::revisit`, on any thread.
unsafe impl<V: Word> Send for Cursor<'_, V> {}

impl<V: Word> RangeTree<V> {
    /// Makes a cursor before the first range that ends above `addr`.
    pub const fn cursor(&self, addr: VirtAddr) -> Cursor<'_, V> {
        Cursor { tree: self, addr: addr.raw(), leaf: None }
    }

    /// Walks over all ranges.
    pub fn iter(&self) -> Entries<'_, V> {
        self.range(VirtRange::new(VirtAddr::ZERO, VirtAddr::new(u64::MAX)))
    }

    /// Walks over the ranges that share a byte with `range`.
    pub fn range(&self, range: VirtRange) -> Entries<'_, V> {
        let last = VirtAddr::new(range.end.raw().saturating_sub(1));
        let end = self.find(last).map_or(range.end, |entry| entry.range.end);
        Entries { front: self.cursor(range.start), back: self.cursor(end) }
    }
}

impl<V: Word> Cursor<'_, V> {
    /// Steps over the next range and returns it.
    #[expect(clippy::should_implement_trait, reason = "a cursor goes both ways and has no end")]
    pub fn next(&mut self) -> Option<Entry<V>> {
        let tree = self.tree;
        let (entry, leaf) = settle(|| {
            let mut place = tree.place(self.addr, self.leaf)?;
            if place.as_ref().is_some_and(|place| place.index >= place.leaf.count()) {
                // Behind the last slot of this leaf. The next leaf, if there is one, begins with the first range above.
                place = tree.place(self.addr, None)?;
            }
            let Some(place) = place else { return Ok(None) };
            place.entry(place.index, place.index + 1)
        })?;
        (self.addr, self.leaf) = (entry.range.end.raw(), Some(leaf));
        Some(entry)
    }

    /// Steps back over the range before and returns it.
    pub fn prev(&mut self) -> Option<Entry<V>> {
        let tree = self.tree;
        let stepped = settle(|| {
            let Some(place) = tree.place(self.addr, self.leaf)? else { return Ok(None) };
            let Some(before) = place.index.checked_sub(1) else { return Ok(None) };
            place.entry(before, before)
        });
        let (entry, leaf) = match stepped {
            Some((entry, leaf)) => (entry, Some(leaf)),
            // Before the first slot of this leaf.
            None => (tree.find_before(VirtAddr::new(self.addr))?, None),
        };
        (self.addr, self.leaf) = (entry.range.start.raw(), leaf);
        Some(entry)
    }

    /// Returns the next range without stepping over it.
    pub fn peek(&self) -> Option<Entry<V>> {
        self.tree.find_at_or_after(VirtAddr::new(self.addr))
    }
}

impl<V: Word> RangeTree<V> {
    /// Returns the place before the first range that ends above `addr`: in `leaf` if nothing changed since it was remembered, else
    /// from the root. `None` in a tree without nodes.
    fn place(&self, addr: u64, leaf: Option<Remembered>) -> Result<Option<Place<'_>>, Raced> {
        let snapshot = self.snapshot()?;
        let Some(mut node) = snapshot.root else { return Ok(None) };
        if let Some(remembered) = leaf
            && let Some(leaf) = snapshot.revisit(remembered)
        {
            return Ok(Some(Place { snapshot, leaf, index: remembered.index }));
        }
        for _ in 1..snapshot.height {
            node = snapshot.child(node, node.rank(addr.min(u64::MAX - 1)))?;
        }
        Ok(Some(Place { snapshot, leaf: node, index: node.rank(addr).min(node.count()) }))
    }
}

impl Place<'_> {
    /// Returns the range at `index`, and this leaf with `ahead` as the first slot ahead.
    fn entry<V: Word>(&self, index: usize, ahead: usize) -> Result<Option<(Entry<V>, Remembered)>, Raced> {
        let slot = self.leaf.slot(index);
        let is_used = index < self.leaf.count();
        self.snapshot.validate()?;
        let leaf = self.snapshot.remember(self.leaf, ahead);
        Ok(is_used.then(|| (entry_of(slot.middle, slot.key, slot.word), leaf)))
    }
}

/// Iterator over ranges in rising order, and from the back in falling order.
pub struct Entries<'t, V> {
    front: Cursor<'t, V>,
    back: Cursor<'t, V>,
}

impl<V: Word> Iterator for Entries<'_, V> {
    type Item = Entry<V>;

    fn next(&mut self) -> Option<Entry<V>> {
        let entry = self.front.next()?;
        if entry.range.start.raw() < self.back.addr {
            return Some(entry);
        }
        self.front = self.back.tree.cursor(VirtAddr::new(self.back.addr));
        None
    }
}

impl<V: Word> DoubleEndedIterator for Entries<'_, V> {
    fn next_back(&mut self) -> Option<Entry<V>> {
        let entry = self.back.prev()?;
        if entry.range.end.raw() > self.front.addr {
            return Some(entry);
        }
        self.back = self.front.tree.cursor(VirtAddr::new(self.front.addr));
        None
    }
}

impl<V: Word> FusedIterator for Entries<'_, V> {}
