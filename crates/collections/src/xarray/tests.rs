//! The array against a sorted map, and its use of nodes.

extern crate std;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::vec::Vec;

use core::ops::{ControlFlow, Deref, DerefMut};

use proptest::prelude::*;

use super::*;

/// A node on the host's heap.
#[derive(Debug)]
struct HeapNode(Box<Node<u32, HeapNode>>);

impl Deref for HeapNode {
    type Target = Node<u32, HeapNode>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for HeapNode {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

type Array = XArray<u32, HeapNode>;

fn supply(spare: &mut Spare<HeapNode>, count: u32) {
    while spare.len() < count {
        spare.give(HeapNode(Box::default()));
    }
}

fn put(array: &mut Array, spare: &mut Spare<HeapNode>, index: u64, value: u32) -> bool {
    supply(spare, array.nodes_needed(index));
    array.insert(index, value, spare).is_ok()
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, u32),
    Replace(u64, u32),
    Remove(u64),
    SetMark(u64, usize),
    ClearMark(u64, usize),
    RemoveFrom(u64),
}

/// Indexes that meet each other, at every height.
fn index() -> impl Strategy<Value = u64> {
    prop_oneof![0..200u64, 4000..4200u64, (0..64u32).prop_map(|bit| 1 << bit), Just(u64::MAX), any::<u64>()]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (index(), any::<u32>()).prop_map(|(index, value)| Step::Insert(index, value)),
        2 => (index(), any::<u32>()).prop_map(|(index, value)| Step::Replace(index, value)),
        2 => index().prop_map(Step::Remove),
        2 => (index(), 0..3usize).prop_map(|(index, mark)| Step::SetMark(index, mark)),
        1 => (index(), 0..3usize).prop_map(|(index, mark)| Step::ClearMark(index, mark)),
        1 => index().prop_map(Step::RemoveFrom),
    ]
}

type Model = BTreeMap<u64, (u32, [bool; 3])>;

fn apply(array: &mut Array, model: &mut Model, spare: &mut Spare<HeapNode>, step: &Step) {
    match *step {
        Step::Insert(index, value) => {
            let is_free = !model.contains_key(&index);
            assert_eq!(put(array, spare, index, value), is_free);
            model.entry(index).or_insert((value, [false; 3]));
        }
        Step::Replace(index, value) => {
            let old = model.get_mut(&index).map(|(old, _)| core::mem::replace(old, value));
            assert_eq!(array.replace(index, value), old.ok_or(value));
        }
        Step::Remove(index) => {
            assert_eq!(array.remove(index, spare), model.remove(&index).map(|(value, _)| value));
        }
        Step::SetMark(index, mark) => {
            assert_eq!(array.set_mark(index, Mark::ALL[mark]), model.contains_key(&index));
            model.entry(index).and_modify(|(_, marks)| marks[mark] = true);
        }
        Step::ClearMark(index, mark) => {
            let was_set = model.get_mut(&index).is_some_and(|(_, marks)| core::mem::replace(&mut marks[mark], false));
            assert_eq!(array.clear_mark(index, Mark::ALL[mark]), was_set);
        }
        Step::RemoveFrom(first) => {
            while let Some((index, &value)) = array.find(first..=u64::MAX) {
                assert_eq!(model.remove(&index).map(|(value, _)| value), Some(value));
                assert_eq!(array.remove(index, spare), Some(value));
            }
            assert!(model.range(first..).next().is_none());
        }
    }
}

fn compare(array: &Array, model: &Model, from: u64, to: u64) {
    array.check_invariants().unwrap();
    assert_eq!(array.len(), model.len() as u64);
    let mut seen = Vec::new();
    let all = array.visit(0..=u64::MAX, |index, &value| {
        seen.push((index, value));
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(all, None);
    assert!(seen.into_iter().eq(model.iter().map(|(&index, &(value, _))| (index, value))));
    let in_range = |&(&index, _): &(&u64, &(u32, [bool; 3]))| (from..=to).contains(&index);
    let first = model.iter().find(in_range).map(|(&index, &(value, _))| (index, value));
    assert_eq!(array.find(from..=to).map(|(index, &value)| (index, value)), first);
    for mark in Mark::ALL {
        let is_marked = |entry: &(&u64, &(u32, [bool; 3]))| entry.1.1[mark as usize];
        let first = model.iter().filter(is_marked).find(in_range).map(|(&index, _)| index);
        assert_eq!(array.find_marked(from..=to, mark).map(|(index, _)| index), first);
        assert_eq!(array.is_marked(mark), model.iter().any(|entry| is_marked(&entry)));
        assert_eq!(array.has_mark(from, mark), model.get(&from).is_some_and(|(_, marks)| marks[mark as usize]));
    }
    assert_eq!(array.get(from), model.get(&from).map(|(value, _)| value));
    let absent = (from..=u64::MAX).find(|index| !model.contains_key(index));
    assert_eq!(array.first_absent(from), absent);
}

proptest! {
    #[test]
    fn an_array_holds_what_a_sorted_map_would(
        steps in proptest::collection::vec(step(), 1..60), from in index(), to in index(),
    ) {
        let (mut array, mut model, mut spare) = (Array::new(), Model::new(), Spare::new());
        for step in &steps {
            apply(&mut array, &mut model, &mut spare, step);
            compare(&array, &model, from, to);
        }
    }
}

#[test]
fn storing_takes_just_the_nodes_that_it_said() {
    let (mut array, mut spare) = (Array::new(), Spare::new());
    for index in [5, 63, 64, 4095, 4096, 1 << 30, u64::MAX, 1 << 40, 7 << 40] {
        let needed = array.nodes_needed(index);
        supply(&mut spare, needed.saturating_sub(1));
        while spare.len() >= needed.max(1) {
            spare.pop();
        }
        if needed > 0 {
            assert_eq!(array.insert(index, 1, &mut spare), Err(Refused::NodesMissing(1, needed)));
            array.check_invariants().unwrap();
            supply(&mut spare, needed);
        }
        array.insert(index, 1, &mut spare).unwrap();
        assert!(spare.is_empty(), "index {index:#x}");
        assert_eq!(array.insert(index, 2, &mut spare), Err(Refused::Occupied(2)));
    }
}

#[test]
fn an_empty_array_has_given_every_node_back() {
    let (mut array, mut spare) = (Array::new(), Spare::new());
    let indexes = [0, 100, 5000, 1 << 20, 1 << 33, u64::MAX];
    let mut nodes = 0;
    for index in indexes {
        let before = spare.len();
        nodes += array.nodes_needed(index).saturating_sub(before);
        put(&mut array, &mut spare, index, 3);
    }
    for index in indexes.into_iter().rev() {
        assert_eq!(array.remove(index, &mut spare), Some(3));
        array.check_invariants().unwrap();
    }
    assert_eq!(spare.len(), nodes);
    assert_eq!(array.first_absent(9), Some(9));
}
