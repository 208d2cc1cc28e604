//! A range tree against a `BTreeMap`, with invariants checked after each change and nodes counted.
extern crate std;

use std::boxed::Box;
use std::collections::BTreeMap;
use std::format;
use std::vec::Vec;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Nodes on the host's heap. Freed ones are handed out again, last first, and given back at the end.
struct HeapNodes {
    all: Vec<NonNullNode>,
    free: Vec<NonNullNode>,
    /// How many nodes it may have out; it fails above.
    limit: usize,
    /// Calls of `alloc` that gave a node.
    handed_out: usize,
}

type NonNullNode = core::ptr::NonNull<Node>;

impl HeapNodes {
    fn new() -> Self {
        Self { all: Vec::new(), free: Vec::new(), limit: usize::MAX, handed_out: 0 }
    }

    fn out(&self) -> usize {
        self.all.len() - self.free.len()
    }
}

// SAFETY: nodes are boxes that are dropped only with the source, which the tests drop after the tree.
unsafe impl NodeSource for HeapNodes {
    fn alloc(&mut self) -> Option<NonNullNode> {
        if self.out() >= self.limit {
            return None;
        }
        self.handed_out += 1;
        Some(self.free.pop().unwrap_or_else(|| {
            let node = NonNullNode::from(Box::leak(Box::new(Node::new())));
            self.all.push(node);
            node
        }))
    }

    fn free(&mut self, node: NonNullNode) {
        assert!(self.all.contains(&node) && !self.free.contains(&node), "only nodes that are out come back");
        self.free.push(node);
    }
}

impl Drop for HeapNodes {
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

fn range(start: u64, end: u64) -> VirtRange {
    VirtRange::new(at(start), at(end))
}

/// Ranges as start -> (end, value).
type Model = BTreeMap<u64, (u64, u64)>;

/// A tree, its model and its nodes.
#[derive(Default)]
struct Pair {
    tree: RangeTree<u64>,
    model: Model,
    nodes: Nodes,
}

struct Nodes(HeapNodes);

impl Default for Nodes {
    fn default() -> Self {
        Self(HeapNodes::new())
    }
}

impl Pair {
    fn overlaps(&self, start: u64, end: u64, except: Option<u64>) -> bool {
        self.model.range(..end).rev().find(|&(&other, _)| Some(other) != except).is_some_and(|(_, old)| old.0 > start)
    }

    fn insert(&mut self, start: u64, end: u64, value: u64) {
        let expected = match () {
            () if end <= start => Err(TreeError::Empty),
            () if self.overlaps(start, end, None) => Err(TreeError::Overlap),
            () => Ok(()),
        };
        assert_eq!(self.tree.insert(range(start, end), value, &mut self.nodes.0), expected);
        if expected.is_ok() {
            self.model.insert(start, (end, value));
        }
    }

    fn remove(&mut self, start: u64) {
        let expected = self.model.remove(&start).map(|(end, value)| Entry { range: range(start, end), value });
        assert_eq!(self.tree.remove(at(start), &mut self.nodes.0), expected);
    }

    fn replace(&mut self, start: u64, value: u64) {
        let expected = self.model.get_mut(&start).map(|old| core::mem::replace(&mut old.1, value));
        assert_eq!(self.tree.replace(at(start), value), expected);
    }

    fn split(&mut self, place: u64, upper: u64) {
        let around = self.model.range(..place).next_back().filter(|(_, old)| old.0 > place);
        let around = around.map(|(&start, &old)| (start, old));
        let expected = around.map(|_| ()).ok_or(TreeError::NotFound);
        assert_eq!(self.tree.split(at(place), upper, &mut self.nodes.0), expected);
        if let Some((start, (end, value))) = around {
            self.model.insert(start, (place, value));
            self.model.insert(place, (end, upper));
        }
    }

    fn merge_next(&mut self, start: u64) {
        let lower = self.model.get(&start).copied();
        let upper = lower.and_then(|(end, _)| self.model.get(&end).copied());
        assert_eq!(self.tree.merge_next(at(start), &mut self.nodes.0), upper.map(|upper| upper.1));
        if let (Some(lower), Some(upper)) = (lower, upper) {
            self.model.remove(&lower.0);
            self.model.insert(start, (upper.0, lower.1));
        }
    }

    /// Has `nr_ranges` ranges from the one at `start` on become `nr_parts`, with holes of `hole` between them; tells whether the tree did it in one step.
    fn splice(&mut self, start: u64, nr_ranges: usize, (nr_parts, hole): (u64, u64), value: u64) -> bool {
        let old: Vec<_> = self.model.range(start..).take(nr_ranges).map(|(&start, &(end, _))| (start, end)).collect();
        let (low, high) = (old.first().map_or(start, |old| old.0), old.last().map_or(start + 40, |old| old.1));
        let len = (high - low) / nr_parts;
        if len <= hole {
            return false;
        }
        let part = |number: u64| {
            let start = low + number * len;
            let end = if number + 1 == nr_parts { high } else { start + len - hole };
            Entry { range: range(start, end), value: value + number }
        };
        let parts: Vec<_> = (0..nr_parts).map(part).collect();
        // By the first of the ranges, or by what is behind it.
        let addr = if value.is_multiple_of(2) { low } else { old.first().map_or(low, |old| old.1) };
        let is_done = self.tree.find_around(range(addr, addr + 1)).splice(at(start), nr_ranges, &parts);
        if is_done {
            assert!(old.len() == nr_ranges && low == start, "only ranges that are there become others");
            self.model.retain(|start, _| !old.iter().any(|old| old.0 == *start));
            let new = parts.iter().map(|part| (part.range.start.raw(), (part.range.end.raw(), part.value)));
            self.model.extend(new);
        }
        is_done
    }

    fn set_bounds(&mut self, start: u64, new_start: u64, new_end: u64) {
        let before = self.model.range(..start).next_back().map_or(0, |(_, old)| old.0);
        let after = self.model.range(start + 1..).next().map_or(u64::MAX, |(&next, _)| next);
        let expected = match self.model.get(&start) {
            _ if new_end <= new_start => Err(TreeError::Empty),
            None => Err(TreeError::NotFound),
            Some(_) if new_start < before || new_end > after => Err(TreeError::Overlap),
            Some(_) => Ok(()),
        };
        assert_eq!(self.tree.set_bounds(at(start), range(new_start, new_end)), expected);
        if let (Ok(()), Some((_, value))) = (expected, self.model.get(&start).copied()) {
            self.model.remove(&start);
            self.model.insert(new_start, (new_end, value));
        }
    }

    /// Returns the holes of the model between `low` and `high`.
    fn holes(&self, low: u64, high: u64) -> Vec<(u64, u64)> {
        let mut from = 0;
        let mut holes = Vec::new();
        for (start, end) in self.model.iter().map(|(&start, old)| (start, old.0)).chain([(u64::MAX, u64::MAX)]) {
            holes.push((from.max(low), start.min(high)));
            from = end;
        }
        holes.retain(|(start, end)| start < end);
        holes
    }

    fn check_gaps(&self, low: u64, high: u64, len: u64, align: u64) {
        let holes = self.holes(low, high);
        let lowest = holes.iter().find_map(|&(start, end)| {
            let start = start.next_multiple_of(align);
            (start + len <= end).then_some(start)
        });
        let highest = holes.iter().rev().find_map(|&(start, end)| {
            let place = end.checked_sub(len)? / align * align;
            (place >= start).then_some(place)
        });
        let limits = range(low, high);
        assert_eq!(self.tree.lowest_gap(limits, len, align), lowest.map(at), "lowest {low} {high} {len} {align}");
        assert_eq!(self.tree.highest_gap(limits, len, align), highest.map(at), "highest {low} {high} {len} {align}");
    }

    fn check_lookups(&self, addr: u64) {
        let entry = |(&start, &(end, value)): (&u64, &(u64, u64))| Entry { range: range(start, end), value };
        let next = self.model.iter().find(|(_, old)| old.0 > addr).map(entry);
        assert_eq!(self.tree.find_at_or_after(at(addr)), next);
        assert_eq!(self.tree.find(at(addr)), next.filter(|next| next.range.contains(at(addr))));
        assert_eq!(self.tree.try_find(at(addr)), Ok(self.tree.find(at(addr))));
        let before = self.model.iter().rev().find(|(_, old)| old.0 <= addr).map(entry);
        assert_eq!(self.tree.find_before(at(addr)), before);
        let ranges = [1, 3, 40].map(|len| range(addr, addr.saturating_add(len)));
        ranges.into_iter().filter(|range| !range.is_empty()).for_each(|range| self.check_around(range));
        let near = range(addr, addr.saturating_add(40));
        let inside: Vec<_> = self.model.iter().map(entry).filter(|entry| entry.range.overlaps(near)).collect();
        assert_eq!(self.tree.find_intersection(near), inside.first().copied());
        assert!(self.tree.range(near).eq(inside.iter().copied()));
        assert!(self.tree.range(near).rev().eq(inside.iter().rev().copied()));
        let mut cursor = self.tree.cursor(at(addr));
        assert_eq!((cursor.peek(), cursor.prev()), (next, before));
        if before.is_some() {
            assert_eq!((cursor.next(), cursor.next()), (before, next));
        }
    }

    fn check_around(&self, range: VirtRange) {
        let around = self.tree.find_around(range);
        let first = self.tree.find_intersection(range);
        let reaches_over = first.is_none_or(|first| first.range.end <= range.end);
        let behind = first.map_or(range.start, |first| first.range.end);
        let begins = first.is_none_or(|first| first.range.start >= range.start);
        assert_eq!(around.first, first);
        assert_eq!(around.before, self.tree.find_before(range.start).filter(|_| begins));
        assert_eq!(around.behind, self.tree.find_at_or_after(behind).filter(|_| reaches_over));
    }

    fn check(&self) {
        self.tree.check_invariants().unwrap();
        let entries = self.tree.iter().map(|entry| (entry.range.start.raw(), (entry.range.end.raw(), entry.value)));
        assert!(entries.eq(self.model.iter().map(|(&start, &old)| (start, old))));
        assert_eq!(self.tree.len(), self.model.len());
    }
}

#[derive(Debug, Clone)]
enum Change {
    Insert(u64, u64),
    Remove(Index),
    Replace(Index),
    Split(u64),
    Merge(Index),
    Bounds(Index, i64, i64),
    Splice(Index, usize, u64, u64),
    Gap(u64, u64, u64, u32),
    Look(u64),
}

/// Addresses are few, so that ranges touch and overlap.
const SPACE: u64 = 4000;

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        8 => (0..SPACE, 0..12u64).prop_map(|(start, len)| Change::Insert(start, start + len)),
        4 => any::<Index>().prop_map(Change::Remove),
        1 => any::<Index>().prop_map(Change::Replace),
        2 => (0..SPACE).prop_map(Change::Split),
        2 => any::<Index>().prop_map(Change::Merge),
        3 => (any::<Index>(), 0..4usize, 1..4u64, 0..4u64).prop_map(|(a, b, c, d)| Change::Splice(a, b, c, d)),
        3 => (any::<Index>(), -9..9i64, -9..9i64).prop_map(|(which, low, high)| Change::Bounds(which, low, high)),
        2 => (0..SPACE, 0..SPACE * 2, 1..40u64, 0..5u32).prop_map(|(a, b, c, d)| Change::Gap(a, b, c, d)),
        1 => (0..SPACE).prop_map(Change::Look),
    ]
}

fn apply(pair: &mut Pair, change: &Change, value: u64) {
    let starts: Vec<u64> = pair.model.keys().copied().collect();
    let pick = |which: &Index| if starts.is_empty() { 7 } else { starts[which.index(starts.len())] };
    match change {
        Change::Insert(start, end) => pair.insert(*start, *end, value),
        Change::Remove(which) => pair.remove(pick(which)),
        Change::Replace(which) => pair.replace(pick(which), value),
        Change::Split(place) => pair.split(*place, value),
        Change::Merge(which) => pair.merge_next(pick(which)),
        Change::Bounds(which, low, high) => {
            let start = pick(which);
            let end = pair.model.get(&start).map_or(start, |old| old.0);
            pair.set_bounds(start, start.saturating_add_signed(*low), end.saturating_add_signed(*high));
        }
        Change::Splice(which, nr_ranges, nr_parts, hole) => {
            pair.splice(pick(which), *nr_ranges, (*nr_parts, *hole), value);
        }
        Change::Gap(low, high, len, align) if low < high => pair.check_gaps(*low, *high, *len, 1 << align),
        Change::Gap(..) => {}
        Change::Look(addr) => pair.check_lookups(*addr),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn it_behaves_like_a_map_of_disjoint_ranges(changes in prop::collection::vec(change(), 1..600)) {
        let mut pair = Pair::default();
        for (value, change) in changes.iter().enumerate() {
            apply(&mut pair, change, value as u64);
            pair.tree.check_invariants().map_err(|broken| TestCaseError::fail(format!("{change:?}: {broken}")))?;
        }
        pair.check();
        pair.tree.clear(&mut pair.nodes.0);
        prop_assert_eq!(pair.nodes.0.out(), 0);
        pair.tree.check_invariants().unwrap();
    }

    #[test]
    fn a_change_that_gets_no_node_leaves_everything_as_it_was(
        changes in prop::collection::vec(change(), 1..400),
        place in 0..SPACE,
    ) {
        let mut pair = Pair::default();
        for (value, change) in changes.iter().enumerate() {
            apply(&mut pair, change, value as u64);
        }
        let before = pair.nodes.0.out();
        for more in 0..pair.tree.nodes_for_insert() {
            pair.nodes.0.limit = before + more;
            let refused = pair.tree.insert(range(place, place + 1), 0, &mut pair.nodes.0);
            if refused == Err(TreeError::NoMemory) {
                prop_assert_eq!(pair.nodes.0.out(), before);
            }
            let split = pair.tree.split(at(place), 0, &mut pair.nodes.0);
            if refused != Err(TreeError::NoMemory) && split != Err(TreeError::NoMemory) {
                return Ok(());
            }
            pair.check();
        }
    }
}

/// Inserts `count` ranges of 2 with holes of 1 in the order of `order`, then removes them in the order of `removal`.
fn fill_and_empty(count: u64, order: impl Fn(u64) -> u64, removal: impl Fn(u64) -> u64) -> usize {
    let mut pair = Pair::default();
    for index in 0..count {
        let start = order(index) * 3 + 1;
        pair.insert(start, start + 2, index);
        pair.tree.check_invariants().unwrap();
    }
    pair.check();
    pair.check_gaps(0, count * 3, 1, 1);
    pair.check_gaps(0, count * 3 + 100, 2, 1);
    pair.check_lookups(count);
    let most = pair.nodes.0.out();
    for index in 0..count {
        pair.remove(removal(index) * 3 + 1);
        pair.tree.check_invariants().unwrap();
    }
    assert_eq!(pair.nodes.0.out(), 0);
    most
}

const MANY: u64 = 1009;

#[test]
fn ranges_in_rising_order_fill_their_leaves() {
    let nodes = fill_and_empty(MANY, |index| index, |index| index);
    assert!(nodes <= 120, "{nodes}");
}

#[test]
fn ranges_in_falling_order_fill_their_leaves_to_two_thirds() {
    let nodes = fill_and_empty(MANY, |index| MANY - 1 - index, |index| index);
    assert!(nodes <= 175, "{nodes}");
}

#[test]
fn ranges_in_scattered_order_come_and_go() {
    fill_and_empty(MANY, |index| index * 400 % MANY, |index| index * 77 % MANY);
    fill_and_empty(MANY, |index| index * 400 % MANY, |index| MANY - 1 - index);
}

#[test]
fn the_highest_address_belongs_to_no_range_but_may_end_one() {
    let mut pair = Pair::default();
    pair.insert(u64::MAX - 4, u64::MAX, 1);
    assert_eq!(pair.tree.find(at(u64::MAX - 1)).map(|entry| entry.value), Some(1));
    pair.insert(3, 4, 2);
    [0, 3, 4, u64::MAX - 5, u64::MAX - 4, u64::MAX - 1, u64::MAX].iter().for_each(|&addr| pair.check_lookups(addr));
    assert_eq!(pair.tree.find(at(u64::MAX)), None);
    assert_eq!(pair.tree.find_before(at(u64::MAX)).map(|entry| entry.value), Some(1));
}

#[test]
fn a_gap_search_honours_limits_and_alignment() {
    let mut pair = Pair::default();
    for slot in 0..500 {
        pair.insert(slot * 16 + 3, slot * 16 + 10, slot);
    }
    for (low, high) in [(0, 8000), (5, 8), (100, 4000), (4001, 4002), (7000, 9000)] {
        for len in [1, 5, 9, 10, 300] {
            for align in [1, 2, 4, 8, 16, 256] {
                pair.check_gaps(low, high, len, align);
            }
        }
    }
}

#[test]
fn a_walk_goes_on_when_the_tree_changes_under_it() {
    let mut pair = Pair::default();
    (0..300).for_each(|slot| pair.insert(slot * 10, slot * 10 + 5, slot));
    let mut cursor = pair.tree.cursor(at(0));
    let mut seen = Vec::new();
    while let Some(entry) = cursor.next() {
        seen.push(entry.value);
        // Every other range goes away just behind the cursor, and one that is ahead gets a neighbour.
        if entry.value % 2 == 0 {
            pair.tree.remove(entry.range.start, &mut pair.nodes.0);
        }
        if entry.value < 300 {
            let ahead = entry.value * 10 + 6;
            pair.tree.insert(range(ahead, ahead + 1), 1000, &mut pair.nodes.0).unwrap();
        }
    }
    let old: Vec<u64> = seen.iter().copied().filter(|&value| value < 300).collect();
    assert!(old.iter().copied().eq(0..300));
    pair.tree.check_invariants().unwrap();
}

#[test]
fn a_hole_in_a_range_and_its_parts_take_one_step_each_way_where_a_leaf_has_room() {
    let mut pair = Pair::default();
    (0..300).for_each(|slot| pair.insert(slot * 40, slot * 40 + 30, slot));
    let mut done = [0; 4];
    for slot in (0..300).map(|slot| slot * 7 % 300 * 40) {
        let steps = [(1, (2, 9)), (2, (1, 0)), (1, (3, 0)), (3, (1, 0))];
        for (step, (nr_ranges, parts)) in steps.into_iter().enumerate() {
            if pair.splice(slot, nr_ranges, parts, slot) {
                done[step] += 1;
            } else if nr_ranges == 1 {
                // In small steps, so that the leaf has room from now on.
                (1..parts.0).for_each(|part| pair.split(slot + part * 10, slot));
            } else {
                (1..nr_ranges).for_each(|_| pair.merge_next(slot));
            }
            pair.check();
        }
        pair.check_gaps(0, 20_000, 10, 1);
    }
    assert!(done.iter().all(|&done| done > 120), "{done:?}");
}

#[test]
fn what_does_not_fit_its_place_is_not_spliced() {
    let mut pair = Pair::default();
    (0..4).for_each(|slot| pair.insert(slot * 10, slot * 10 + 10, slot));
    let refused = |start, nr_ranges, parts: &[VirtRange]| {
        let parts: Vec<_> = parts.iter().map(|&range| Entry { range, value: 9 }).collect();
        !pair.tree.find_around(range(start, start + 1)).splice(at(start), nr_ranges, &parts)
    };
    assert!(refused(5, 1, &[range(5, 10)]), "no range begins there");
    assert!(refused(10, 1, &[range(10, 19)]), "the range ends later");
    assert!(refused(10, 1, &[range(11, 20)]), "the range begins earlier");
    assert!(refused(30, 2, &[range(30, 40)]), "there is no range behind");
    assert!(refused(10, 0, &[range(10, 20)]) && refused(10, 1, &[]));
    let around = pair.tree.find_around(range(10, 11));
    pair.tree.replace(at(30), 3);
    assert!(!around.splice(at(10), 1, &[Entry { range: range(10, 20), value: 1 }]), "the tree changed");
    pair.check();
}

#[test]
fn splitting_and_restoring_the_same_ranges_settles_without_nodes_coming_and_going() {
    let mut pair = Pair::default();
    (0..MANY).for_each(|slot| pair.insert(slot * 10, slot * 10 + 5, slot));
    let pass = |pair: &mut Pair| {
        for slot in 0..MANY {
            pair.split(slot * 10 + 2, slot);
            pair.merge_next(slot * 10);
        }
        pair.check();
        pair.nodes.0.handed_out
    };
    // The first pass makes room in full leaves.
    pass(&mut pair);
    assert_eq!(pass(&mut pair), pass(&mut pair));
}

#[test]
fn lookups_of_another_thread_find_what_is_there_all_the_time() {
    use core::sync::atomic::{AtomicBool, Ordering};

    let mut nodes = HeapNodes::new();
    let tree = RangeTree::<u64>::new();
    // Even slots stay; odd ones come and go in bursts, so that leaves split and merge and their nodes are used again.
    (0..400).step_by(2).for_each(|slot| tree.insert(range(slot * 10, slot * 10 + 5), slot, &mut nodes).unwrap());
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut found = 0u64;
            // Relaxed: only ends the loop.
            while !is_done.load(Ordering::Relaxed) || found == 0 {
                for slot in (0..400).step_by(2) {
                    if let Ok(entry) = tree.try_find(at(slot * 10 + 4)) {
                        assert_eq!(entry.map(|entry| entry.value), Some(slot));
                        found += 1;
                    }
                    let coming = tree.find(at(slot * 10 + 12)).map(|entry| entry.value);
                    assert!(coming.is_none_or(|value| value == slot + 1));
                }
                assert_eq!(tree.iter().filter(|entry| entry.value % 2 == 0).count(), 200);
            }
        });
        for burst in 0..300 {
            let odd = (burst % 7 * 40 + 1..400).step_by(2).take(60);
            odd.clone().for_each(|slot| tree.insert(range(slot * 10, slot * 10 + 5), slot, &mut nodes).unwrap());
            odd.for_each(|slot| assert!(tree.remove(at(slot * 10), &mut nodes).is_some()));
        }
        is_done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    tree.check_invariants().unwrap();
    tree.clear(&mut nodes);
    assert_eq!(nodes.out(), 0);
}
