//! The map of areas against a list of them.

extern crate std;

use core::cell::Cell;
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// Pages of 256 bytes, so that many are touched by few bytes: one word of bits each.
const SHIFT: u32 = 8;
const PAGE: usize = 1 << SHIFT;

fn leak<T: Clone + Default + 'static>(len: usize) -> BootSlice<T> {
    BootSlice::from_static(Box::leak(vec![T::default(); len].into_boxed_slice()))
}

fn map(pages: usize, head: usize, tail: usize) -> AreaMap {
    let words = AreaMap::words(pages, SHIFT);
    AreaMap::new(MapRoom { taken: leak(words), starts: leak(words), hints: leak(pages) }, SHIFT, head, tail)
}

fn any(_: Range<usize>) -> bool {
    true
}

fn take(map: &mut AreaMap, size: usize, align: usize) -> Option<usize> {
    map.take(size, align, any).map(|taken| taken.offset)
}

#[test]
fn small_areas_do_not_cross_pages_and_large_ones_start_at_one() {
    let mut map = map(4, 0, 0);
    assert_eq!(take(&mut map, 200, 4), Some(0));
    assert_eq!(take(&mut map, 100, 4), Some(PAGE));
    assert_eq!(take(&mut map, 56, 8), Some(200));
    assert_eq!(take(&mut map, PAGE + 4, 4), Some(2 * PAGE));
    assert_eq!(map.size_at(2 * PAGE), Some(PAGE + 4));
    assert_eq!(take(&mut map, PAGE, 4), None);
    assert_eq!(map.check(), Ok(()));
}

#[test]
fn hidden_ends_belong_to_nobody() {
    let mut map = map(2, 100, 60);
    assert_eq!(map.free_bytes(), 2 * PAGE - 160);
    assert_eq!(take(&mut map, 16, 64), Some(128));
    assert_eq!((map.give_back(0), map.give_back(2 * PAGE - 60)), (None, None));
    assert_eq!(map.give_back(128), Some(16));
    assert_eq!(take(&mut map, PAGE - 60, 4), Some(PAGE));
    assert_eq!(map.size_at(PAGE), Some(PAGE - 60));
    assert_eq!(map.check(), Ok(()));
}

#[test]
fn only_usable_pages_are_taken() {
    let mut map = map(4, 0, 0);
    let odd = |pages: Range<usize>| pages.start % 2 == 1;
    assert_eq!(map.take(8, 4, odd).map(|taken| taken.offset), Some(PAGE));
    assert_eq!(map.take(PAGE + 8, 4, odd), None, "pages 1 and 3 are not both free behind an odd page");
    let asked = Cell::new(0);
    map.take(8, 4, |_| {
        asked.set(asked.get() + 1);
        false
    });
    assert_eq!(asked.get(), 4);
}

#[test]
fn an_area_is_given_back_once() {
    let mut map = map(1, 0, 0);
    let offset = take(&mut map, 6, 4).unwrap();
    assert_eq!((map.give_back(offset + 1), map.give_back(offset + 4)), (None, None));
    assert_eq!((map.give_back(offset), map.give_back(offset)), (Some(8), None));
}

#[test]
fn gaps_and_sizes_are_seen() {
    let mut map = map(2, 0, 0);
    let kept: Vec<_> = (0..4).map(|_| take(&mut map, 32, 4).unwrap()).collect();
    map.give_back(kept[1]);
    assert_eq!(map.sizes().collect::<Vec<_>>(), [32, 32, 32]);
    assert_eq!(map.gaps().collect::<Vec<_>>(), [32]);
    assert_eq!((map.first_free_step(), map.largest_bytes()), (8, (PAGE - 128) + PAGE - (PAGE - 128)));
}

#[derive(Clone, Debug)]
enum Op {
    Take(usize, u32),
    Give(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let size = prop_oneof![4 => 1..60_usize, 2 => 1..=PAGE, 1 => PAGE..4 * PAGE];
    let op = prop_oneof![3 => (size, 0..=SHIFT).prop_map(|(size, align)| Op::Take(size, align)), 2 => any_index().prop_map(Op::Give)];
    proptest::collection::vec(op, 1..200)
}

fn any_index() -> impl Strategy<Value = usize> {
    0..1000_usize
}

/// True if some placement that the rules allow is free.
fn fits(taken: &[bool], size: usize, align: usize) -> bool {
    let starts = (0..taken.len()).step_by(align.max(MIN_ALLOC_SIZE));
    let allowed = |start: &usize| {
        if size > PAGE { start.is_multiple_of(PAGE) } else { start % PAGE + size <= PAGE }
    };
    starts.filter(allowed).any(|start| taken.get(start..start + size).is_some_and(|steps| !steps.contains(&true)))
}

proptest! {
    #[test]
    fn areas_never_overlap_and_a_request_fails_only_if_nothing_fits(ops in ops(), head in 0..300_usize, tail in 0..200_usize) {
        let mut map = map(8, head, tail);
        let mut taken = vec![false; 8 * PAGE];
        let round = |bytes: usize| bytes.next_multiple_of(MIN_ALLOC_SIZE);
        taken[..round(head)].fill(true);
        taken[8 * PAGE - round(tail)..].fill(true);
        let hidden = taken.clone();
        let mut held: Vec<(usize, usize)> = Vec::new();
        for op in ops {
            match op {
                Op::Take(size, align) => {
                    let (size, align) = (round(size), 1 << align);
                    let fitting = fits(&taken, size, align);
                    match take(&mut map, size, align) {
                        Some(offset) => {
                            prop_assert!(offset % align == 0 && !taken[offset..offset + size].contains(&true));
                            prop_assert!(size > PAGE || offset / PAGE == (offset + size - 1) / PAGE);
                            taken[offset..offset + size].fill(true);
                            held.push((offset, size));
                        }
                        None => prop_assert!(!fitting, "{} bytes at {} would fit", size, align),
                    }
                }
                Op::Give(_) if held.is_empty() => {}
                Op::Give(which) => {
                    let (offset, size) = held.swap_remove(which % held.len());
                    prop_assert_eq!(map.give_back(offset), Some(size));
                    taken[offset..offset + size].fill(false);
                }
            }
            prop_assert_eq!(map.check(), Ok(()));
            prop_assert_eq!(map.free_bytes(), taken.iter().filter(|taken| !**taken).count());
        }
        for (offset, size) in held {
            prop_assert_eq!(map.give_back(offset), Some(size));
        }
        prop_assert_eq!(map.free_bytes(), hidden.iter().filter(|taken| !**taken).count());
        let pages_free = (0..8).filter(|page| map.is_empty(*page)).count();
        prop_assert_eq!(pages_free, (0..8).filter(|page| !hidden[page * PAGE..(page + 1) * PAGE].contains(&true)).count());
    }
}
