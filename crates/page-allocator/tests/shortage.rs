//! What is done before a request fails: growing a zone, killing, going below every mark.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};

use common::{Machine, SECTION, ZonePlan, machine};
use mmkit_page_allocator::{
    AllocError, AllocRequest, DebugOptions, Pressure, Progress, Tracepoints, Untraced, ZoneSettings,
};
use units::{Gfp, Order, ZoneType};

/// Counts the calls of an OOM killer that finds nobody.
#[derive(Default)]
struct NobodyToKill(AtomicU64);

impl Tracepoints for NobodyToKill {}

impl Pressure for NobodyToKill {
    fn out_of_memory(&self, _: &AllocRequest) -> Progress {
        self.0.fetch_add(1, Ordering::Relaxed);
        Progress::Never
    }
}

/// A machine of which only what lies below the reserves of atomic requests is free.
fn exhausted(kind: ZoneType) -> Machine<NobodyToKill> {
    let plan = ZonePlan { kind, ..ZonePlan::normal(1024) };
    let m = machine(&[plan], 1, NobodyToKill::default(), DebugOptions::default());
    while m.allocator.alloc(&m.cpus[0], Gfp::ATOMIC | Gfp::NOWARN, Order::ZERO).is_ok() {}
    assert!(m.allocator.zones()[0].free_pages() > 0);
    m
}

fn kills(m: &Machine<NobodyToKill>) -> u64 {
    m.allocator.hooks().0.load(Ordering::Relaxed)
}

#[test]
fn a_request_that_must_not_fail_goes_below_every_mark_where_nobody_can_be_killed() {
    let m = exhausted(ZoneType::Normal);
    let request = |gfp| m.allocator.alloc(&m.cpus[0], gfp | Gfp::NOWARN, Order::ZERO);
    assert_eq!(request(Gfp::KERNEL).unwrap_err(), AllocError::OutOfMemory);
    assert_eq!(kills(&m), 1);
    assert!(request(Gfp::KERNEL | Gfp::NOFAIL).is_ok());
    assert_eq!(kills(&m), 2);
}

#[test]
fn nobody_is_killed_for_low_memory_even_if_it_must_not_fail() {
    let m = exhausted(ZoneType::Dma32);
    let low = m.allocator.alloc(&m.cpus[0], Gfp::KERNEL | Gfp::DMA32 | Gfp::NOFAIL | Gfp::NOWARN, Order::ZERO);
    assert_eq!((low.unwrap_err(), kills(&m)), (AllocError::OutOfMemory, 0));
}

#[test]
fn a_zone_grows_before_another_zone_serves_or_types_mix() {
    let settings = ZoneSettings { watermarks: [0; 4], ..ZonePlan::normal(0).settings };
    let low = ZonePlan { kind: ZoneType::Dma32, settings, ..ZonePlan::normal(4 * SECTION) };
    let normal = ZonePlan { early: 4 * SECTION, settings, ..ZonePlan::normal(8 * SECTION) };
    let m = machine(&[low, normal], 1, Untraced, DebugOptions::default());
    let (cpu, zone, order) = (&m.cpus[0], &m.allocator.zones()[1], Order::new_truncate(8));
    // All early memory; then every other block comes back, too small for a pageblock to change its type.
    let taken =
        (0..4 * SECTION / order.nr_pages()).map(|_| m.allocator.alloc(cpu, Gfp::HIGHUSER_MOVABLE, order).unwrap());
    let (back, held): (Vec<_>, Vec<_>) = taken.partition(|block| block.pfn().raw() >> 8 & 1 == 0);
    back.into_iter().for_each(|block| m.allocator.free(cpu, block));
    assert_eq!((zone.managed(), zone.free_pages()), (4 * SECTION, 2 * SECTION));
    let page = m.allocator.alloc(cpu, Gfp::KERNEL, Order::ZERO).unwrap();
    assert_eq!(zone.managed(), 5 * SECTION);
    assert!(page.pfn().raw() >= zone.span().start.raw() + 4 * SECTION, "{:?}", page.pfn());
    held.into_iter().chain([page]).for_each(|block| m.allocator.free(cpu, block));
    assert!(m.allocator.check_invariants(cpu).is_ok());
}
