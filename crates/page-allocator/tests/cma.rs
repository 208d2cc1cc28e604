//! Pageblocks of CMA memory: who may take from them, in what balance with other memory, and where their pages return to.
#![cfg(not(loom))]

mod common;

use common::{Machine, ZonePlan, machine};
use frame_table::OwnedBlock;
use mmkit_page_allocator::{DebugOptions, Untraced};
use units::{Gfp, MigrateType, NodeId, Order, Pfn, PfnRange, ZoneType};

const PAGES: u64 = 4096;
const CMA: PfnRange = PfnRange::new(Pfn::new(PAGES / 2), Pfn::new(PAGES));

/// A machine whose upper half is CMA memory.
fn half_cma() -> Machine<Untraced> {
    let m = machine(&[ZonePlan::normal(PAGES)], 1, Untraced, DebugOptions::default());
    for pfn in CMA.iter().step_by(512) {
        m.allocator.isolate_pageblock(&m.cpus[0], pfn).unwrap();
        m.allocator.unisolate_pageblock(&m.cpus[0], pfn, MigrateType::Cma).unwrap();
    }
    m
}

fn free_cma(m: &Machine<Untraced>) -> u64 {
    m.allocator.zone(NodeId::ZERO, ZoneType::Normal).unwrap().free_cma()
}

fn take_all(m: &Machine<Untraced>, gfp: Gfp, order: Order) -> Vec<OwnedBlock> {
    std::iter::from_fn(|| m.allocator.alloc(&m.cpus[0], gfp | Gfp::NOWARN, order).ok()).collect()
}

#[test]
fn kernel_memory_never_comes_from_cma() {
    for order in [Order::ZERO, Order::new_truncate(4)] {
        let m = half_cma();
        let blocks = take_all(&m, Gfp::KERNEL, order);
        assert!(blocks.len() as u64 * order.nr_pages() > PAGES / 4);
        assert!(blocks.iter().all(|block| !CMA.contains(block.pfn())));
        assert_eq!(free_cma(&m), CMA.nr_pages());
        assert!(m.allocator.check_invariants(&m.cpus[0]).is_ok());
    }
}

#[test]
fn movable_memory_is_taken_from_cma_and_from_the_rest_in_balance() {
    let m = half_cma();
    let order = Order::new_truncate(4);
    let blocks: Vec<_> =
        (0..64).map(|_| m.allocator.alloc(&m.cpus[0], Gfp::KERNEL | Gfp::MOVABLE, order).unwrap()).collect();
    let of_cma = blocks.iter().filter(|block| CMA.contains(block.pfn())).count();
    assert!((31..=33).contains(&of_cma), "{of_cma} of 64 blocks");
    assert_eq!(free_cma(&m), CMA.nr_pages() - of_cma as u64 * order.nr_pages());
}

#[test]
fn pages_of_cma_return_to_it() {
    let m = half_cma();
    let blocks = take_all(&m, Gfp::KERNEL | Gfp::MOVABLE, Order::ZERO);
    assert!(blocks.len() as u64 > CMA.nr_pages(), "both halves serve movable memory");
    assert!(free_cma(&m) < 192, "no more is left than the watermarks keep");
    m.allocator.free_bulk(&m.cpus[0], blocks);
    m.allocator.drain_all_pages(&m.cpus[0], m.allocator.nodes());
    assert_eq!(free_cma(&m), CMA.nr_pages());
    assert_eq!(m.allocator.check_invariants(&m.cpus[0]), Ok(PAGES));
}
