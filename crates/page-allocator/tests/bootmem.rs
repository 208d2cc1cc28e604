//! The historical boot allocator hands its memory to the page allocator (Linux to 4.19: free_all_bootmem, free_bootmem_late).
#![cfg(not(loom))]

mod common;

use std::collections::BTreeSet;

use boot_memory::bootmem::{Bootmem, BootmemRequest, Overlap};
use collections::BootSlice;
use common::{ZonePlan, unfilled_machine};
use mmkit_page_allocator::{DebugOptions, Untraced};
use units::{Gfp, Order, Pfn, PfnRange, PhysAddr, PhysRange};

const PAGES: u64 = 2048;
const PAGE: u64 = 4096;

fn bytes(first: u64, nr_pages: u64) -> PhysRange {
    PhysRange::with_len(PhysAddr::new(first * PAGE), nr_pages * PAGE)
}

#[test]
fn exactly_what_bootmem_has_free_and_its_bitmap_can_be_allocated_afterwards() {
    let m = unfilled_machine(&[ZonePlan::normal(PAGES)], 1, Untraced, DebugOptions::default());
    let cpu = &m.cpus[0];
    let mut bootmem = Bootmem::new(12);
    let words = vec![0; (Bootmem::bootmap_bytes(PAGES) / 8) as usize];
    bootmem.init(Pfn::new(16), PAGES, BootSlice::from_static(words.leak())).unwrap();
    bootmem.free(bytes(17, PAGES - 17)).unwrap();
    bootmem.reserve(bytes(1000, 24), Overlap::Refused).unwrap();
    let table = bootmem.alloc(&BootmemRequest::new(5 * PAGE, PAGE)).unwrap().whole_frames(12);

    let held = [PfnRange::with_len(Pfn::ZERO, 16), PfnRange::with_len(Pfn::new(1000), 24), table];
    let expected: BTreeSet<u64> =
        (0..PAGES).filter(|&pfn| !held.iter().any(|range| range.contains(Pfn::new(pfn)))).collect();
    let given = bootmem.free_all(|pfn, order| {
        m.allocator.release_boot_range(cpu, PfnRange::with_len(pfn, order.nr_pages())).unwrap();
    });
    assert_eq!(given, expected.len() as u64);
    assert_eq!(m.allocator.check_invariants(cpu), Ok(given));

    m.allocator.release_boot_range(cpu, bootmem.free_late(bytes(1000, 24))).unwrap();
    assert_eq!(m.allocator.check_invariants(cpu), Ok(given + 24));
    let mut taken = BTreeSet::new();
    while let Ok(block) = m.allocator.alloc(cpu, Gfp::KERNEL | Gfp::NOWARN | Gfp::MEMALLOC, Order::ZERO) {
        assert!(taken.insert(block.pfn().raw()));
    }
    let late = 1000..1024;
    assert!(taken.iter().all(|pfn| expected.contains(pfn) || late.contains(pfn)), "what is held stays so");
    assert_eq!(taken.len() as u64, given + 24);
}
