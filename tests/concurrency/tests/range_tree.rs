//! Models of `collections::RangeTree`: a lookup that takes no lock, against a writer that splits, merges, frees and reuses nodes.
//!
//! The law: a range that is there all the time is found with its value, or the lookup says that it raced; a range that comes or goes is
//! found whole or not at all.
#![cfg(loom)]

use std::ptr::NonNull;

use collections::RangeTree;
use collections::range_tree::{Entry, Node, NodeSource};
use loom::model::Builder;
use loom::sync::Arc;
use loom::thread;
use units::{VirtAddr, VirtRange};

/// Nodes of one iteration of a model. A freed node is the next to be handed out, while a lookup may still be in it.
#[derive(Default)]
struct Nodes {
    all: Vec<NonNull<Node>>,
    free: Vec<NonNull<Node>>,
}

// SAFETY: the nodes go with their source, which the models drop after every thread that uses the tree has ended.
unsafe impl NodeSource for Nodes {
    fn alloc(&mut self) -> Option<NonNull<Node>> {
        self.free.pop().or_else(|| {
            let node = NonNull::from(Box::leak(Box::new(Node::new())));
            self.all.push(node);
            Some(node)
        })
    }

    fn free(&mut self, node: NonNull<Node>) {
        self.free.push(node);
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in self.all.drain(..) {
            // SAFETY: `alloc` leaked this box, and by the implementer's promise nobody uses it any more.
            drop(unsafe { Box::from_raw(node.as_ptr()) });
        }
    }
}

fn at(addr: u64) -> VirtAddr {
    VirtAddr::new(addr)
}

/// Returns the range in slot `slot`, whose value is its start.
fn area(slot: u64) -> Entry<u64> {
    let start = slot * 0x10 + 8;
    Entry { range: VirtRange::new(at(start), at(start + 8)), value: start }
}

fn insert(tree: &RangeTree<u64>, nodes: &mut Nodes, slot: u64) {
    tree.insert(area(slot).range, area(slot).value, nodes).unwrap();
}

/// Runs `write` on a tree with the ranges `slots` while a lookup for `addr` runs; it must find one of `allowed`, or nothing if that has `None`.
fn lookup_against(
    slots: &'static [u64],
    addr: u64,
    allowed: Vec<Option<Entry<u64>>>,
    write: fn(&RangeTree<u64>, &mut Nodes),
) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let tree = Arc::new(RangeTree::new());
        let mut nodes = Nodes::default();
        slots.iter().for_each(|&slot| insert(&tree, &mut nodes, slot));
        let reader = {
            let tree = Arc::clone(&tree);
            thread::spawn(move || tree.try_find(at(addr)))
        };
        write(&tree, &mut nodes);
        if let Ok(found) = reader.join().unwrap() {
            assert!(allowed.contains(&found), "{found:?}");
        }
        tree.check_invariants().unwrap();
    });
}

fn entry(start: u64, end: u64, value: u64) -> Option<Entry<u64>> {
    Some(Entry { range: VirtRange::new(at(start), at(end)), value })
}

#[test]
fn a_range_is_found_while_its_leaf_gets_another() {
    lookup_against(&[1, 3], 0x38, vec![entry(0x38, 0x40, 0x38)], |tree, nodes| insert(tree, nodes, 2));
}

#[test]
fn a_range_is_found_while_its_leaf_is_split_under_a_first_root() {
    lookup_against(&[1, 2, 3, 5], 0x58, vec![entry(0x58, 0x60, 0x58)], |tree, nodes| insert(tree, nodes, 4));
}

#[test]
fn a_range_that_goes_is_found_whole_or_not_at_all() {
    lookup_against(&[1, 2, 3], 0x2c, vec![entry(0x28, 0x30, 0x28), None], |tree, nodes| {
        tree.remove(at(0x28), nodes).unwrap();
    });
}

#[test]
fn a_range_is_found_while_leaves_are_merged_and_the_freed_nodes_used_again() {
    lookup_against(&[1, 2, 3, 5, 4], 0x58, vec![entry(0x58, 0x60, 0x58)], |tree, nodes| {
        // The leaves have 2 and 3 ranges; the removal merges them and frees one leaf and the root, which the insertion takes.
        tree.remove(at(0x18), nodes).unwrap();
        insert(tree, nodes, 1);
    });
}

#[test]
fn a_range_that_gets_a_hole_is_found_whole_or_without_it_and_becomes_whole_again() {
    let allowed = vec![entry(0x28, 0x30, 0x28), entry(0x2c, 0x30, 7)];
    lookup_against(&[1, 2], 0x2c, allowed, |tree, _| {
        let whole = area(2).range;
        let part = |start, end, value| Entry { range: VirtRange::new(at(start), at(end)), value };
        let parts = [part(0x28, 0x2a, 0x28), part(0x2c, 0x30, 7)];
        assert!(tree.find_around(whole).splice(whole.start, 1, &parts));
        assert!(tree.find_around(whole).splice(whole.start, 2, &[area(2)]));
    });
}

#[test]
fn a_range_that_is_split_is_found_whole_or_in_parts() {
    lookup_against(&[1, 2], 0x2c, vec![entry(0x28, 0x30, 0x28), entry(0x2a, 0x30, 7)], |tree, nodes| {
        tree.split(at(0x2a), 7, nodes).unwrap();
    });
}

#[test]
fn of_two_writers_one_waits_and_both_get_through() {
    loom::model(|| {
        let tree = Arc::new(RangeTree::new());
        let mut nodes = Nodes::default();
        let other = {
            let tree = Arc::clone(&tree);
            thread::spawn(move || {
                let mut nodes = Nodes::default();
                insert(&tree, &mut nodes, 2);
                nodes
            })
        };
        insert(&tree, &mut nodes, 1);
        let _others_nodes = other.join().unwrap();
        assert_eq!((tree.find(at(0x18)), tree.find(at(0x28))), (Some(area(1)), Some(area(2))));
        tree.check_invariants().unwrap();
    });
}
