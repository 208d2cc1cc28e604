//! `collections::RangeTree` with nodes from the host's heap.

use std::ptr::NonNull;

use collections::RangeTree;
use collections::range_tree::{Node, NodeSource};
use units::{VirtAddr, VirtRange};

use super::AreaStore;

/// Nodes on the host's heap, in blocks as a slab has them; freed ones are handed out again, last first.
#[derive(Default)]
struct HeapNodes {
    free: Vec<NonNull<Node>>,
}

/// Nodes of one block.
const BLOCK: usize = 16;

// SAFETY: blocks are leaked, so every node stays a node; one is handed out again only after `free`, by the same thread.
unsafe impl NodeSource for HeapNodes {
    fn alloc(&mut self) -> Option<NonNull<Node>> {
        if self.free.is_empty() {
            let block: Vec<Node> = (0..BLOCK).map(|_| Node::new()).collect();
            self.free.extend(block.leak().iter_mut().rev().map(NonNull::from));
        }
        self.free.pop()
    }

    fn free(&mut self, node: NonNull<Node>) {
        self.free.push(node);
    }
}

/// The tree under test.
#[derive(Default)]
pub(crate) struct Tree {
    tree: RangeTree<u64>,
    nodes: HeapNodes,
}

fn range(start: u64, end: u64) -> VirtRange {
    VirtRange::new(VirtAddr::new(start), VirtAddr::new(end))
}

impl AreaStore for Tree {
    fn find(&self, addr: u64) -> Option<u64> {
        self.tree.find(VirtAddr::new(addr)).map(|entry| entry.value)
    }

    fn insert(&mut self, start: u64, end: u64, value: u64) -> bool {
        self.tree.insert(range(start, end), value, &mut self.nodes).is_ok()
    }

    fn erase(&mut self, start: u64, _end: u64) -> bool {
        self.tree.remove(VirtAddr::new(start), &mut self.nodes).is_some()
    }

    fn split(&mut self, _start: u64, at: u64, _end: u64, upper: u64) -> bool {
        self.tree.split(VirtAddr::new(at), upper, &mut self.nodes).is_ok()
    }

    fn restore(&mut self, start: u64, at: u64, _end: u64, _value: u64) -> bool {
        self.tree.merge_next(VirtAddr::new(start), &mut self.nodes) == Some(at)
    }

    fn highest_gap(&self, low: u64, high: u64, len: u64) -> Option<u64> {
        self.tree.highest_gap(range(low, high), len, 1).map(VirtAddr::raw)
    }
}
