//! Behaviour of single calls, and random calls compared with a model that looks at every page.

extern crate std;

mod model;

use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use super::*;

const PAGE: u64 = 0x1000;

fn addr(raw: u64) -> PhysAddr {
    PhysAddr::new(raw)
}

fn range(start: u64, end: u64) -> PhysRange {
    PhysRange::new(addr(start), addr(end))
}

fn node(raw: u64) -> NodeId {
    NodeId::try_new(raw).unwrap()
}

fn frames(start: u64, end: u64) -> PfnRange {
    PfnRange::new(Pfn::new(start), Pfn::new(end))
}

fn map(nr_pages: u64) -> BootSlice<u64> {
    let words = vec![0; (Bootmem::bootmap_bytes(nr_pages) / 8) as usize];
    BootSlice::from_static(Box::leak(words.into_boxed_slice()))
}

/// Makes one node of 256 pages from frame 0, all free but the first 16.
fn one_node() -> Bootmem {
    let mut bootmem = Bootmem::new(12);
    bootmem.init(Pfn::new(16), 256, map(256)).unwrap();
    bootmem.free(range(16 * PAGE, 256 * PAGE)).unwrap();
    bootmem
}

/// Makes three nodes: frames 64 to 128, 128 to 200 and 300 to 400, all free.
fn three_nodes() -> Bootmem {
    let mut bootmem = Bootmem::new(12);
    for (number, start, end) in [(1, 128, 200), (0, 64, 128), (2, 300, 400)] {
        bootmem.init_node(node(number), Pfn::new(start), frames(start, end), map(end - start)).unwrap();
    }
    bootmem.free(range(64 * PAGE, 200 * PAGE)).unwrap();
    bootmem.free_node(node(2), range(300 * PAGE, 400 * PAGE)).unwrap();
    bootmem.check_invariants();
    bootmem
}

fn released(run: impl FnOnce(&mut dyn FnMut(Pfn, Order)) -> u64) -> (Vec<(u64, u8)>, u64) {
    let mut blocks = vec![];
    let pages = run(&mut |pfn, order| blocks.push((pfn.raw(), order.raw())));
    (blocks, pages)
}

#[test]
fn the_bitmap_takes_whole_words() {
    assert_eq!([1, 64, 65].map(Bootmem::bootmap_bytes), [8, 8, 16]);
    assert_eq!(Bootmem::new(12).bootmap_pages(1 << 16), 2);
}

#[test]
fn allocations_ascend_from_the_first_free_page() {
    let mut bootmem = one_node();
    let first = bootmem.alloc(&BootmemRequest::new(PAGE, PAGE)).unwrap();
    let second = bootmem.alloc(&BootmemRequest::new(2 * PAGE, PAGE)).unwrap();
    assert_eq!((first, second), (range(0x10000, 0x11000), range(0x11000, 0x13000)));
}

#[test]
fn the_rest_of_a_page_serves_the_next_allocation() {
    let mut bootmem = one_node();
    let request = BootmemRequest::new(100, 64);
    assert_eq!(bootmem.alloc(&request).unwrap(), range(0x10000, 0x10064));
    assert_eq!(bootmem.alloc(&request).unwrap(), range(0x10080, 0x100e4));
    assert!(bootmem.is_free(Pfn::new(0x11)));
    assert_eq!(bootmem.alloc(&BootmemRequest::new(PAGE, 64)).unwrap(), range(0x10100, 0x11100));
    assert!(!bootmem.is_free(Pfn::new(0x11)));
}

#[test]
fn a_page_that_was_freed_serves_no_next_allocation() {
    let mut bootmem = one_node();
    bootmem.alloc(&BootmemRequest::new(100, 64)).unwrap();
    bootmem.free(range(0x10000, 0x11000)).unwrap();
    let request = BootmemRequest { goal: addr(0x11000), ..BootmemRequest::new(100, 64) };
    assert_eq!(bootmem.alloc(&request).unwrap().start, addr(0x11000));
}

#[test]
fn freeing_below_the_hint_brings_the_search_back() {
    let mut bootmem = one_node();
    let first = bootmem.alloc(&BootmemRequest::new(PAGE, PAGE)).unwrap();
    bootmem.alloc(&BootmemRequest::new(PAGE, PAGE)).unwrap();
    bootmem.free(first).unwrap();
    assert_eq!(bootmem.alloc(&BootmemRequest::new(PAGE, PAGE)).unwrap(), first);
}

#[test]
fn a_goal_is_kept_to_if_possible_and_then_given_up() {
    let mut bootmem = one_node();
    let high = BootmemRequest { goal: addr(0xf0000), ..BootmemRequest::new(0x10000, PAGE) };
    assert_eq!(bootmem.alloc(&high).unwrap().start, addr(0xf0000));
    assert_eq!(bootmem.alloc_core(&high), Err(BootmemError::NoMemory { size: 0x10000 }));
    assert_eq!(bootmem.alloc(&high).unwrap().start, addr(0x10000));
}

#[test]
fn a_limit_is_never_passed() {
    let mut bootmem = one_node();
    let low = BootmemRequest { limit: Some(addr(0x12000)), ..BootmemRequest::new(PAGE, PAGE) };
    assert!(bootmem.alloc(&low).is_ok() && bootmem.alloc(&low).is_ok());
    assert_eq!(bootmem.alloc(&low), Err(BootmemError::NoMemory { size: PAGE }));
    assert!(bootmem.alloc_low(&BootmemRequest::new(PAGE, PAGE)).is_ok());
}

#[test]
fn contradicting_requests_are_refused() {
    let bad = [
        BootmemRequest::new(0, PAGE),
        BootmemRequest::new(PAGE, 3),
        BootmemRequest { goal: addr(0x11000), limit: Some(addr(0x11800)), ..BootmemRequest::new(PAGE, PAGE) },
    ];
    for request in bad {
        assert_eq!(one_node().alloc(&request), Err(BootmemError::BadRequest(request)));
    }
}

#[test]
fn an_exclusive_reservation_takes_nothing_when_a_page_is_taken() {
    let mut bootmem = one_node();
    bootmem.reserve(range(0x20800, 0x21000), Overlap::Refused).unwrap();
    let error = bootmem.reserve(range(0x1f000, 0x21000), Overlap::Refused).unwrap_err();
    assert_eq!(error, BootmemError::Busy(Pfn::new(0x20)));
    assert!(bootmem.is_free(Pfn::new(0x1f)));
    bootmem.reserve(range(0x1f000, 0x21000), Overlap::Allowed).unwrap();
    assert!(!bootmem.is_free(Pfn::new(0x1f)));
}

#[test]
fn freeing_rounds_inwards_and_refuses_free_pages() {
    let mut bootmem = one_node();
    bootmem.reserve(range(0x20000, 0x24000), Overlap::Refused).unwrap();
    bootmem.free(range(0x20800, 0x22800)).unwrap();
    let free: Vec<_> = (0x20..0x24).map(|pfn| bootmem.is_free(Pfn::new(pfn))).collect();
    assert_eq!(free, [false, true, false, false]);
    assert_eq!(bootmem.free(range(0x20000, 0x24000)), Err(BootmemError::NotReserved(Pfn::new(0x21))));
}

#[test]
fn ranges_may_span_nodes_that_touch_but_no_hole() {
    let mut bootmem = three_nodes();
    bootmem.reserve(range(120 * PAGE, 140 * PAGE), Overlap::Refused).unwrap();
    assert!(!bootmem.is_free(Pfn::new(127)) && !bootmem.is_free(Pfn::new(128)));
    let over_hole = bootmem.reserve(range(190 * PAGE, 310 * PAGE), Overlap::Allowed);
    assert_eq!(over_hole, Err(BootmemError::OutsideNodes(frames(190, 310))));
    assert!(bootmem.is_free(Pfn::new(190)) && bootmem.is_free(Pfn::new(300)));
    let wrong_node = bootmem.reserve_node(node(1), range(120 * PAGE, 130 * PAGE), Overlap::Allowed);
    assert_eq!(wrong_node, Err(BootmemError::OutsideNodes(frames(120, 130))));
}

#[test]
fn a_full_node_hands_its_requests_to_the_others() {
    let mut bootmem = three_nodes();
    let request = BootmemRequest::new(72 * PAGE, PAGE);
    assert_eq!(bootmem.alloc_node(node(1), &request).unwrap().start, addr(128 * PAGE));
    assert_eq!(bootmem.alloc_node(node(1), &request).unwrap().start, addr(300 * PAGE));
    assert_eq!(bootmem.alloc_node(node(1), &request), Err(BootmemError::NoMemory { size: 72 * PAGE }));
}

#[test]
fn overlapping_and_repeated_nodes_are_refused() {
    let mut bootmem = three_nodes();
    let refused = [(3, frames(100, 110)), (2, frames(500, 510)), (3, frames(500, 500))];
    for (number, range) in refused {
        let outcome = bootmem.init_node(node(number), Pfn::new(0), range, map(64));
        assert_eq!(outcome, Err(BootmemError::BadNode(node(number))));
    }
    let too_small = bootmem.init_node(node(3), Pfn::new(0), frames(500, 600), map(64));
    assert_eq!(too_small, Err(BootmemError::BadNode(node(3))));
}

#[test]
fn the_end_releases_aligned_words_whole_and_the_bitmap_too() {
    let mut bootmem = one_node();
    bootmem.reserve(range(16 * PAGE, 62 * PAGE), Overlap::Refused).unwrap();
    bootmem.reserve(range(128 * PAGE, 250 * PAGE), Overlap::Refused).unwrap();
    let (blocks, pages) = released(|mut release| bootmem.free_all(&mut release));
    let single = [62, 63].into_iter().map(|pfn| (pfn, 0)).chain([(64, 6)]).chain((250..256).map(|pfn| (pfn, 0)));
    assert_eq!(blocks, single.chain([(16, 0)]).collect::<Vec<_>>());
    assert_eq!(pages, 2 + 64 + 6 + 1);
    assert_eq!(bootmem.alloc(&BootmemRequest::new(PAGE, PAGE)), Err(BootmemError::NoMemory { size: PAGE }));
}

#[test]
fn one_node_can_end_before_the_others() {
    let mut bootmem = three_nodes();
    bootmem.reserve_node(node(1), range(129 * PAGE, 200 * PAGE), Overlap::Refused).unwrap();
    let (blocks, pages) = released(|mut release| bootmem.free_all_node(node(1), &mut release));
    assert_eq!((blocks, pages), (vec![(128, 0), (128, 0)], 2));
    bootmem.check_invariants();
    assert_eq!(bootmem.free_all_node(node(1), |_, _| ()), 0);
    assert_eq!(bootmem.free_late(range(0x800, 0x2800)), frames(1, 2));
}
