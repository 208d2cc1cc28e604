//! What is done before a request fails: growing a zone, killing, going below every mark.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};

use common::{Machine, SECTION, ZonePlan, machine};
use frame_table::PageFlags;
use mmkit_page_allocator::{
    AllocError, AllocRequest, DebugOptions, Pressure, Progress, TaskFlags, Tracepoints, Untraced, ZoneSettings,
};
use units::{Gfp, MigrateType, Order, Pfn, ZoneType};

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

/// A machine of eight pageblocks, Movable and held, of which `free` lists the blocks that are not: first frame and order.
fn movable_but(free: &[(u64, u8)]) -> Machine<Untraced> {
    let settings = ZoneSettings { watermarks: [0; 4], ..ZonePlan::normal(0).settings };
    let plan = ZonePlan { settings, ..ZonePlan::normal(4096) };
    let m = machine(&[plan], 1, Untraced, DebugOptions::default());
    let cpu = &m.cpus[0];
    let is_free = |pfn: u64| free.iter().any(|&(start, order)| (start..start + (1 << order)).contains(&pfn));
    let gfp = Gfp::HIGHUSER_MOVABLE | Gfp::NOWARN;
    let to_the_last = AllocRequest { task: TaskFlags::MEMALLOC, ..AllocRequest::new(gfp, Order::ZERO) };
    let pages: Vec<_> = std::iter::from_fn(|| m.allocator.alloc_request(cpu, &to_the_last).ok()).collect();
    assert_eq!(pages.len(), 4096);
    for page in pages {
        if is_free(page.pfn().raw()) {
            m.allocator.free(cpu, page);
        } else {
            let _ = page.into_raw(&m.allocator.map().frames);
        }
    }
    m.allocator.drain_local_pages(cpu);
    m
}

fn type_of(m: &Machine<Untraced>, pfn: Pfn) -> MigrateType {
    m.allocator.map().pageblocks.get(pfn)
}

#[test]
fn a_pageblock_with_smaller_blocks_is_claimed_where_the_largest_lies_among_movable_pages() {
    // The third pageblock is full of pages that are not movable, as far as anybody can see, but for a block of order 3.
    let m = movable_but(&[(0, 7), (1024, 3)]);
    let cpu = &m.cpus[0];
    for pfn in 128..512 {
        m.allocator.map().frames.get(Pfn::new(pfn)).unwrap().set_flags(PageFlags::LRU);
    }
    let page = m.allocator.alloc(cpu, Gfp::KERNEL, Order::ZERO).unwrap();
    assert_eq!(page.pfn().align_down(512), Pfn::new(1024));
    assert_eq!((type_of(&m, Pfn::ZERO), type_of(&m, page.pfn())), (MigrateType::Movable, MigrateType::Unmovable));
    assert!(m.allocator.check_invariants(cpu).is_ok());
}

#[test]
fn where_no_pageblock_may_be_claimed_the_smallest_block_is_stolen() {
    let m = movable_but(&[(0, 7), (1024, 3)]);
    let cpu = &m.cpus[0];
    for pfn in (128..512).chain(1032..1536) {
        m.allocator.map().frames.get(Pfn::new(pfn)).unwrap().set_flags(PageFlags::LRU);
    }
    let page = m.allocator.alloc(cpu, Gfp::KERNEL, Order::ZERO).unwrap();
    assert_eq!(page.pfn().align_down(512), Pfn::new(1024));
    assert_eq!([0, 1024].map(|pfn| type_of(&m, Pfn::new(pfn))), [MigrateType::Movable; 2]);
    assert!(m.allocator.check_invariants(cpu).is_ok());
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
