//! Interval trees against a list.

extern crate std;

use std::boxed::Box;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// Objects by number, 1 up; a test has its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Object(&'static IntervalNode<Object>);

impl Word for Object {
    fn to_word(self) -> *mut () {
        core::ptr::from_ref(self.0).cast_mut().cast()
    }

    unsafe fn from_word(word: *mut ()) -> Self {
        // SAFETY: by the caller's contract the address of a leaked node.
        Self(unsafe { &*word.cast_const().cast() })
    }
}

impl PartialEq for IntervalNode<Object> {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self, other)
    }
}

impl Eq for IntervalNode<Object> {}

struct Own;

impl NodeOf<Object> for Own {
    fn node(object: &Object) -> &IntervalNode<Object> {
        object.0
    }
}

type Tree = IntervalTree<Object, Own>;

fn object() -> Object {
    Object(Box::leak(Box::default()))
}

fn found(tree: &Tree, key: u64, numbers: RangeInclusive<u64>) -> Vec<Object> {
    let mut found = Vec::new();
    tree.for_each(key, numbers, &mut |object| found.push(object));
    found
}

#[test]
fn equal_intervals_are_visited_in_the_order_of_insertion() {
    let mut tree = Tree::new();
    let objects: Vec<Object> = (0..40).map(|_| object()).collect();
    objects.iter().for_each(|&object| tree.insert(object, 1, 3..=9));
    assert_eq!(found(&tree, 1, 9..=9), objects);
    assert_eq!(found(&tree, 1, 10..=20), []);
    assert_eq!(found(&tree, 2, 3..=9), []);
}

#[test]
fn a_sorted_sequence_stays_shallow() {
    let mut tree = Tree::new();
    for at in 0..1000 {
        tree.insert(object(), 0, at..=at);
    }
    assert_eq!(tree.check_invariants(), Ok(1000));
    assert!(tree.root.unwrap().0.height.load(Relaxed) <= 14, "1.44 * log2(1000)");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(u64, u64, u64),
    Remove(usize),
    Find(u64, u64, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one =
        (0..3u8, 0..3u64, 0..60u64, 0..30u64, 0..64usize).prop_map(|(kind, key, first, more, which)| match kind {
            0 => Step::Insert(key, first, first + more),
            1 => Step::Remove(which),
            _ => Step::Find(key, first, first + more / 4),
        });
    prop::collection::vec(one, 1..120)
}

proptest! {
    #[test]
    fn random_changes_find_what_a_list_finds(steps in steps()) {
        let mut tree = Tree::new();
        let mut list: Vec<(Object, u64, u64, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Insert(key, first, last) => {
                    let object = object();
                    tree.insert(object, key, first..=last);
                    list.push((object, key, first, last));
                }
                Step::Remove(which) if which < list.len() => {
                    let (object, ..) = list.remove(which);
                    prop_assert!(tree.remove(object));
                    prop_assert!(!tree.remove(object));
                }
                Step::Remove(_) => {}
                Step::Find(key, from, to) => {
                    let fits = |&&(_, k, first, last): &&(Object, u64, u64, u64)| k == key && first <= to && last >= from;
                    let mut expected: Vec<_> = list.iter().filter(fits).copied().collect();
                    expected.sort_by_key(|&(_, _, first, _)| first);
                    let expected: Vec<_> = expected.into_iter().map(|(object, ..)| object).collect();
                    prop_assert_eq!(found(&tree, key, from..=to), expected);
                }
            }
            prop_assert_eq!(tree.check_invariants(), Ok(list.len()));
        }
    }
}
