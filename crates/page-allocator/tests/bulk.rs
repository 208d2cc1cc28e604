//! Many single pages by one call.

mod common;

use common::{Machine, ZonePlan, machine};
use mmkit_page_allocator::{DebugOptions, NoPressure, Untraced};
use units::{Gfp, Order};

fn small(pages: u64) -> Machine<NoPressure> {
    machine(&[ZonePlan::normal(pages)], 1, Untraced, DebugOptions::default())
}

fn run_of_frees(m: &Machine<NoPressure>) -> u32 {
    let cpu = &m.cpus[0];
    m.allocator.pcp_counters(cpu, &m.allocator.zones()[0], cpu.id()).unwrap().free_count
}

#[test]
fn pages_taken_in_bulk_leave_the_run_of_frees_as_it_is() {
    let m = small(4096);
    let cpu = &m.cpus[0];
    let mut pages = Vec::new();
    assert_eq!(m.allocator.alloc_bulk(cpu, Gfp::KERNEL, 24, |page| pages.push(page)), 24);
    m.allocator.free_bulk(cpu, pages.drain(..));
    assert_eq!(run_of_frees(&m), 24);
    assert_eq!(m.allocator.alloc_bulk(cpu, Gfp::KERNEL, 20, |page| pages.push(page)), 20);
    assert_eq!(run_of_frees(&m), 24);
    pages.push(m.allocator.alloc(cpu, Gfp::KERNEL, Order::ZERO).unwrap());
    assert_eq!(run_of_frees(&m), 12);
    m.allocator.free_bulk(cpu, pages);
}

#[test]
fn one_page_is_no_bulk() {
    let m = small(4096);
    let cpu = &m.cpus[0];
    let mut pages = Vec::new();
    m.allocator.alloc_bulk(cpu, Gfp::KERNEL, 24, |page| pages.push(page));
    m.allocator.free_bulk(cpu, pages.drain(..));
    assert_eq!(m.allocator.alloc_bulk(cpu, Gfp::KERNEL, 1, |page| pages.push(page)), 1);
    assert_eq!(run_of_frees(&m), 12);
    m.allocator.free_bulk(cpu, pages);
    assert_eq!(m.allocator.alloc_bulk(cpu, Gfp::KERNEL, 0, |_| panic!("nothing was asked for")), 0);
}

#[test]
fn a_zone_that_cannot_spare_all_pages_gives_one() {
    let m = small(4096);
    let cpu = &m.cpus[0];
    let low = 160;
    let mut pages = Vec::new();
    assert_eq!(m.allocator.alloc_bulk(cpu, Gfp::KERNEL, 4096 - low, |page| pages.push(page)), 1);
    assert_eq!(m.allocator.alloc_bulk(cpu, Gfp::KERNEL, 3000, |page| pages.push(page)), 3000);
    m.allocator.drain_local_pages(cpu);
    let left = m.allocator.zones()[0].free_pages();
    assert_eq!(m.allocator.alloc_bulk(cpu, Gfp::KERNEL, left - low, |page| pages.push(page)), 1);
    let left = left - 1 - low;
    m.allocator.drain_local_pages(cpu);
    assert_eq!(m.allocator.alloc_bulk(cpu, Gfp::KERNEL, left - 1, |page| pages.push(page)), left - 1);
    m.allocator.free_bulk(cpu, pages);
    assert_eq!(m.allocator.check_invariants(cpu), Ok(4096));
}

/// Allocates single pages and larger blocks, plain and compound, in a pattern.
fn mixture(m: &Machine<NoPressure>) -> Vec<frame_table::OwnedBlock> {
    let shapes =
        [(0, Gfp::KERNEL), (0, Gfp::MOVABLE), (2, Gfp::KERNEL), (0, Gfp::KERNEL), (3, Gfp::KERNEL | Gfp::COMP)];
    let shapes = shapes.into_iter().cycle().take(400);
    shapes.map(|(order, gfp)| m.allocator.alloc(&m.cpus[0], gfp, Order::new_truncate(order)).unwrap()).collect()
}

#[test]
fn blocks_freed_in_bulk_go_where_they_go_one_by_one() {
    let (one_by_one, in_bulk) = (small(8192), small(8192));
    mixture(&one_by_one).into_iter().for_each(|block| one_by_one.allocator.free(&one_by_one.cpus[0], block));
    in_bulk.allocator.free_bulk(&in_bulk.cpus[0], mixture(&in_bulk));
    let [left, right] = [&one_by_one, &in_bulk].map(|m| {
        let (cpu, zone) = (&m.cpus[0], &m.allocator.zones()[0]);
        let counters = m.allocator.pcp_counters(cpu, zone, cpu.id()).unwrap();
        let events = format!("{counters:?} {:?}", m.allocator.zone_events(cpu, zone));
        m.allocator.check_invariants(cpu).unwrap();
        // The lists are in the same order too: what comes next says so.
        let next = mixture(m);
        let pfns: Vec<_> = next.iter().map(|block| block.pfn()).collect();
        m.allocator.free_bulk(cpu, next);
        (events, pfns)
    });
    assert_eq!(left, right);
}
