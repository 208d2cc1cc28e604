//! The invariants of a range tree, checked from the root down. Used by tests and by debug commands.
//!
//! Locking: none; the caller keeps writers away, or the answer may be about no state that ever was.

use core::fmt;

use super::node::{Kind, MIN_SLOTS, NO_KEY, Node};
use super::path::{MAX_HEIGHT, Snapshot};
use super::sequence::settle;
use super::{Raced, RangeTree, Word};
use crate::atomic::Ordering::Relaxed;

/// The first invariant that was found broken, and below which address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BrokenInvariant {
    /// What should hold.
    pub law: &'static str,
    /// End of the ranges that are in order.
    pub addr: u64,
}

impl fmt::Display for BrokenInvariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken from address {:#x} on: {}", self.addr, self.law)
    }
}

impl core::error::Error for BrokenInvariant {}

/// What has been seen so far, in order of addresses.
struct Walk {
    ranges: usize,
    /// End of the last range.
    end: u64,
    broken: Option<BrokenInvariant>,
}

impl Walk {
    fn require(&mut self, holds: bool, law: &'static str) {
        if !holds && self.broken.is_none() {
            self.broken = Some(BrokenInvariant { law, addr: self.end });
        }
    }
}

/// Whether a node may have fewer slots than others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    Root,
    Right,
    None,
}

impl<V: Word> RangeTree<V> {
    /// Checks that ranges are in order, keys and gaps are exact, and nodes are filled.
    ///
    /// # Errors
    /// The first broken invariant.
    pub fn check_invariants(&self) -> Result<(), BrokenInvariant> {
        let walk = settle(|| {
            let snapshot = self.snapshot()?;
            let mut walk = Walk { ranges: 0, end: 0, broken: None };
            walk.require(snapshot.height <= MAX_HEIGHT, "the height is bounded");
            walk.require(snapshot.root.is_some() == (snapshot.height > 0), "a tree without nodes has height 0");
            if let Some(root) = snapshot.root {
                check_node(&snapshot, root, 1, Edge::Root, &mut walk)?;
            }
            walk.require(walk.ranges == self.len(), "the count of ranges is right");
            walk.require(walk.end == self.top.load(Relaxed), "the top is the end of the last range");
            snapshot.validate()?;
            Ok(walk)
        });
        walk.broken.map_or(Ok(()), Err)
    }
}

/// Checks one subtree and returns its largest gap.
fn check_node(snapshot: &Snapshot<'_>, node: &Node, level: usize, edge: Edge, walk: &mut Walk) -> Result<u64, Raced> {
    let count = node.count();
    let kind = if level == snapshot.height { Kind::Leaf } else { Kind::Inner };
    let least = match (edge, kind) {
        (Edge::None, _) => MIN_SLOTS,
        (_, Kind::Leaf) => 1,
        (_, Kind::Inner) => 2,
    };
    walk.require(count >= least, "a node has its fewest slots");
    let mut largest = 0;
    for index in 0..count {
        let slot = node.slot(index);
        let gap = match kind {
            Kind::Leaf => {
                walk.require(slot.middle >= walk.end, "ranges are in order and disjoint");
                walk.require(slot.key > slot.middle, "no range is empty");
                let gap = slot.middle.wrapping_sub(walk.end);
                (walk.ranges, walk.end) = (walk.ranges + 1, slot.key);
                gap
            }
            Kind::Inner => {
                let is_last = index + 1 == count;
                let child_edge = if is_last && edge != Edge::None { Edge::Right } else { Edge::None };
                let child = snapshot.child(node, index)?;
                let gap = check_node(snapshot, child, level + 1, child_edge, walk)?;
                walk.require(slot.middle == gap, "the noted gap is the largest below the child");
                let key = if is_last { NO_KEY } else { walk.end };
                walk.require(slot.key == key, "a key is the end of the last range below its child");
                gap
            }
        };
        largest = largest.max(gap);
    }
    let unused = kind.unused();
    for index in count..super::node::SLOTS {
        let slot = node.slot(index);
        walk.require(slot.key == unused.key && slot.middle == unused.middle, "unused slots are marked");
    }
    Ok(largest)
}
