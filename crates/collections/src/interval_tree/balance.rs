//! Insertion and removal that keep an interval tree balanced, and its laws.
//!
//! Each function gets a subtree and returns it as it is then. Two subtrees of a node differ by one level at most, so recursion is shallow.

use super::{IntervalNode, NodeOf};
use crate::atomic::Ordering::Relaxed;
use crate::range_tree::Word;

/// A side of a node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }
}

fn child<N: Word>(node: &IntervalNode<N>, side: Side) -> Option<N> {
    match side {
        Side::Left => node.left.load(),
        Side::Right => node.right.load(),
    }
}

fn set_child<N: Word>(node: &IntervalNode<N>, side: Side, to: Option<N>) {
    match side {
        Side::Left => node.left.store(to),
        Side::Right => node.right.store(to),
    }
}

fn height<N: Word, S: NodeOf<N>>(of: Option<N>) -> u64 {
    of.map_or(0, |object| S::node(&object).height.load(Relaxed))
}

fn max_last<N: Word, S: NodeOf<N>>(of: Option<N>) -> u64 {
    of.map_or(0, |object| S::node(&object).max_last.load(Relaxed))
}

/// Computes what a node knows of its subtree.
fn sum_up<N: Word, S: NodeOf<N>>(object: N) {
    let node = S::node(&object);
    let (left, right) = (node.left.load(), node.right.load());
    node.height.store(height::<N, S>(left).max(height::<N, S>(right)) + 1, Relaxed);
    let below = max_last::<N, S>(left).max(max_last::<N, S>(right));
    node.max_last.store(below.max(node.last.load(Relaxed)), Relaxed);
}

/// Lifts the child on `side` above its parent.
fn rotate<N: Word, S: NodeOf<N>>(object: N, side: Side) -> N {
    let node = S::node(&object);
    let Some(risen) = child(node, side) else { return object };
    set_child(node, side, child(S::node(&risen), side.other()));
    sum_up::<N, S>(object);
    set_child(S::node(&risen), side.other(), Some(object));
    sum_up::<N, S>(risen);
    risen
}

/// Balances a node whose subtrees differ by two levels at most.
fn balance<N: Word, S: NodeOf<N>>(object: N) -> N {
    let node = S::node(&object);
    let (left, right) = (height::<N, S>(node.left.load()), height::<N, S>(node.right.load()));
    let high = match () {
        () if left > right + 1 => Side::Left,
        () if right > left + 1 => Side::Right,
        () => {
            sum_up::<N, S>(object);
            return object;
        }
    };
    if let Some(heavy) = child(node, high) {
        let below = S::node(&heavy);
        if height::<N, S>(child(below, high.other())) > height::<N, S>(child(below, high)) {
            set_child(node, high, Some(rotate::<N, S>(heavy, high.other())));
        }
    }
    rotate::<N, S>(object, high)
}

/// Enters an object whose node says where it belongs.
pub(super) fn insert<N: Word, S: NodeOf<N>>(at: Option<N>, object: N) -> N {
    let Some(here) = at else {
        sum_up::<N, S>(object);
        return object;
    };
    let node = S::node(&here);
    let side = if S::node(&object).place() < node.place() { Side::Left } else { Side::Right };
    set_child(node, side, Some(insert::<N, S>(child(node, side), object)));
    balance::<N, S>(here)
}

/// Takes an object out; the second result says whether it was there.
pub(super) fn remove<N: Word + Eq, S: NodeOf<N>>(at: Option<N>, object: N) -> (Option<N>, bool) {
    let Some(here) = at else { return (None, false) };
    let node = S::node(&here);
    if here == object {
        let (left, right) = (node.left.load(), node.right.load());
        let Some(right) = right else { return (left, true) };
        let (rest, next) = take_first::<N, S>(right);
        let next_node = S::node(&next);
        next_node.left.store(left);
        next_node.right.store(rest);
        return (Some(balance::<N, S>(next)), true);
    }
    let side = if S::node(&object).place() < node.place() { Side::Left } else { Side::Right };
    let (rest, found) = remove::<N, S>(child(node, side), object);
    set_child(node, side, rest);
    (Some(balance::<N, S>(here)), found)
}

/// Takes the first object of a subtree out; returns what is left, and it.
fn take_first<N: Word, S: NodeOf<N>>(at: N) -> (Option<N>, N) {
    let node = S::node(&at);
    let Some(left) = node.left.load() else { return (node.right.load(), at) };
    let (rest, first) = take_first::<N, S>(left);
    node.left.store(rest);
    (Some(balance::<N, S>(at)), first)
}

/// What was found in a subtree.
#[derive(Clone, Copy, Default)]
pub(super) struct Counted {
    pub(super) objects: usize,
    height: u64,
    max_last: u64,
}

/// Checks a subtree; `before` is the place of the object before it.
pub(super) fn check<N: Word, S: NodeOf<N>>(
    at: Option<N>,
    before: &mut Option<(u64, u64, u64)>,
) -> Result<Counted, &'static str> {
    let Some(object) = at else { return Ok(Counted::default()) };
    let node = S::node(&object);
    let left = check::<N, S>(node.left.load(), before)?;
    if before.is_some_and(|before| before >= node.place()) {
        return Err("objects are in order");
    }
    *before = Some(node.place());
    let right = check::<N, S>(node.right.load(), before)?;
    let height = left.height.max(right.height) + 1;
    let max_last = left.max_last.max(right.max_last).max(node.last.load(Relaxed));
    match () {
        () if left.height.abs_diff(right.height) > 1 => Err("subtrees differ by one level at most"),
        () if node.height.load(Relaxed) != height => Err("a node knows its height"),
        () if node.max_last.load(Relaxed) != max_last => Err("a node knows the largest end below it"),
        () => Ok(Counted { objects: left.objects + right.objects + 1, height, max_last }),
    }
}
