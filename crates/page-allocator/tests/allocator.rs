//! The allocator as a whole on small machines.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};

use common::{Machine, PCP, ZonePlan, machine};
use frame_table::PageType;
use mmkit_page_allocator::{
    AllocError, AllocRequest, BadPage, Checks, DebugOptions, ExtFrag, NoPressure, PageFragCache, Pressure, TaskFlags,
    Tracepoints, Untraced, Zone,
};
use units::{Gfp, MigrateType, NodeId, NodeMask, Order, Pfn, ZoneType};

fn order(raw: u8) -> Order {
    Order::new_truncate(raw)
}

fn small(pages: u64) -> Machine<NoPressure> {
    machine(&[ZonePlan::normal(pages)], 2, Untraced, DebugOptions::default())
}

/// Counts what the tests below look at.
#[derive(Default)]
struct Counters {
    refilled: AtomicU64,
    drained: AtomicU64,
    fallbacks: AtomicU64,
    warnings: AtomicU64,
    bad_pages: AtomicU64,
}

#[derive(Default)]
struct Counting(Counters);

fn bump(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Tracepoints for Counting {
    fn mm_page_alloc_zone_locked(&self, _: Pfn, order: Order, _: MigrateType, _: bool) {
        bump(&self.0.refilled, order.nr_pages());
    }

    fn mm_page_pcpu_drain(&self, _: Pfn, order: Order, _: MigrateType) {
        bump(&self.0.drained, order.nr_pages());
    }

    fn mm_page_alloc_extfrag(&self, _: ExtFrag) {
        bump(&self.0.fallbacks, 1);
    }

    fn warn_alloc(&self, _: &AllocRequest) {
        bump(&self.0.warnings, 1);
    }

    fn bad_page(&self, _: BadPage) {
        bump(&self.0.bad_pages, 1);
    }
}

impl Pressure for Counting {}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn zone(machine: &Machine<impl mmkit_page_allocator::Hooks>) -> &Zone {
    &machine.allocator.zones()[0]
}

#[test]
fn every_order_comes_and_goes_and_all_pages_merge_again() {
    let m = small(4096);
    let cpu = &m.cpus[0];
    for raw in 0..=10 {
        let block = m.allocator.alloc(cpu, Gfp::KERNEL, order(raw)).unwrap();
        assert!(block.pfn().is_aligned(order(raw)));
        m.allocator.free(cpu, block);
        assert_eq!(m.allocator.check_invariants(cpu), Ok(4096));
    }
    m.allocator.drain_local_pages(cpu);
    let counts = m.allocator.free_counts(cpu, zone(&m));
    assert_eq!(counts[10].iter().sum::<u32>(), 4);
    assert_eq!(counts[..10].iter().flatten().sum::<u32>(), 0);
}

#[test]
fn unused_lists_of_another_nodes_zone_give_back_a_batch_every_third_interval() {
    let plans = [ZonePlan::normal(1024), ZonePlan { node: 1, ..ZonePlan::normal(1024) }];
    let m = machine(&plans, 1, Untraced, DebugOptions::default());
    let (cpu, zones) = (&m.cpus[0], m.allocator.zones());
    let take = |node: u64| m.allocator.alloc_on_node(cpu, Gfp::KERNEL, Order::ZERO, NodeId::try_new(node).unwrap());
    let listed = |zone: usize| m.allocator.pcp_pages(cpu, &zones[zone]);
    let busy = || m.allocator.decay_pcp_high(cpu) > 0;
    // Fewer than the lists keep at least, and more than two batches.
    let pages: Vec<_> = (0..24).flat_map(|_| [take(0).unwrap(), take(1).unwrap()]).collect();
    m.allocator.drain_local_pages(cpu);
    pages.into_iter().for_each(|page| m.allocator.free(cpu, page));
    (0..5).for_each(|_| assert!(busy()));
    let [kept, rest] = [listed(0), listed(1)];
    assert_eq!(rest, 24 - u64::from(PCP.batch), "one batch in five intervals");
    // A use begins the count again.
    m.allocator.free(cpu, take(1).unwrap());
    (0..2).for_each(|_| assert!(busy()));
    assert_eq!(listed(1), rest);
    for _ in 0..10 {
        busy();
    }
    assert_eq!([listed(0), listed(1)], [kept, 0]);
    assert_eq!(m.allocator.check_invariants(cpu), Ok(2048));
}

#[test]
fn a_double_free_by_number_is_refused_and_changes_nothing() {
    let m = small(4096);
    let cpu = &m.cpus[0];
    let pfn = m.allocator.alloc(cpu, Gfp::KERNEL, order(2)).unwrap().into_raw(&m.allocator.map().frames);
    assert!(m.allocator.free_raw(cpu, pfn, order(1)).is_err());
    assert!(m.allocator.free_raw(cpu, pfn, order(2)).is_ok());
    let again = m.allocator.free_raw(cpu, pfn, order(2)).unwrap_err();
    assert_eq!(again.found, Some((PageType::Pcp, order(2))));
    assert_eq!(m.allocator.check_invariants(cpu), Ok(4096));
}

#[test]
fn the_page_freed_last_is_handed_out_first() {
    let m = small(4096);
    let cpu = &m.cpus[0];
    let block = m.allocator.alloc(cpu, Gfp::HIGHUSER_MOVABLE, Order::ZERO).unwrap();
    let pfn = block.pfn();
    m.allocator.free(cpu, block);
    assert_eq!(m.allocator.alloc(cpu, Gfp::HIGHUSER_MOVABLE, Order::ZERO).unwrap().pfn(), pfn);
}

#[test]
fn one_cpus_pages_are_not_another_cpus() {
    let m = small(4096);
    let block = m.allocator.alloc(&m.cpus[0], Gfp::KERNEL, Order::ZERO).unwrap();
    m.allocator.free(&m.cpus[1], block);
    let zone = zone(&m);
    let held = |cpu: usize| m.allocator.pcp_counters(&m.cpus[0], zone, m.cpus[cpu].id()).unwrap().count();
    assert_eq!((held(0), held(1)), (PCP.batch - 1, 1));
    m.allocator.drain_all_pages(&m.cpus[0], NodeMask::ALL);
    assert_eq!((held(0), held(1)), (0, 0));
    assert_eq!(zone.free_pages(), 4096);
}

#[test]
fn requests_that_never_work_say_so() {
    let m = small(4096);
    let cpu = &m.cpus[0];
    let too_large = m.allocator.alloc(cpu, Gfp::KERNEL, order(11));
    assert_eq!(too_large.unwrap_err(), AllocError::TooLarge(order(10)));
    let no_zone = m.allocator.alloc(cpu, Gfp::KERNEL | Gfp::DMA, Order::ZERO);
    assert_eq!(no_zone.unwrap_err(), AllocError::NoZone);
}

#[test]
fn ordinary_requests_stop_at_the_min_mark_and_atomic_ones_go_on() {
    let m = machine(&[ZonePlan::normal(1024)], 1, Counting::default(), DebugOptions::default());
    let (cpu, warnings) = (&m.cpus[0], &m.allocator.hooks().0.warnings);
    let drain = |gfp: Gfp| {
        let mut taken = 0;
        while m.allocator.alloc(cpu, gfp | Gfp::NOWARN, Order::ZERO).is_ok() {
            taken += 1;
        }
        taken
    };
    let ordinary = drain(Gfp::KERNEL);
    assert!(zone(&m).free_pages() <= 128, "{} free", zone(&m).free_pages());
    let atomic = drain(Gfp::ATOMIC);
    assert!(atomic > 0, "{ordinary} pages left nothing for atomic requests");
    let emergency =
        AllocRequest { task: TaskFlags::MEMALLOC, ..AllocRequest::new(Gfp::KERNEL | Gfp::NOWARN, Order::ZERO) };
    assert!(m.allocator.alloc_request(cpu, &emergency).is_ok(), "a task that reclaims may take the last page");
    assert_eq!(count(warnings), 0);
    assert_eq!(m.allocator.alloc(cpu, Gfp::KERNEL, Order::ZERO).unwrap_err(), AllocError::OutOfMemory);
    assert_eq!(count(warnings), 1);
}

#[test]
fn an_unmovable_request_on_a_movable_machine_claims_a_pageblock() {
    let m = machine(&[ZonePlan::normal(4096)], 1, Counting::default(), DebugOptions::default());
    let block = m.allocator.alloc(&m.cpus[0], Gfp::KERNEL, Order::ZERO).unwrap();
    assert_eq!(m.allocator.map().pageblocks.get(block.pfn()), MigrateType::Unmovable);
    let movable = m.allocator.alloc(&m.cpus[0], Gfp::HIGHUSER_MOVABLE, Order::ZERO).unwrap();
    assert_eq!(m.allocator.map().pageblocks.get(movable.pfn()), MigrateType::Movable);
    assert_eq!(count(&m.allocator.hooks().0.fallbacks), 1);
}

#[test]
fn remote_memory_counts_as_a_miss_there_and_foreign_here() {
    let plans = [ZonePlan::normal(1024), ZonePlan { node: 1, ..ZonePlan::normal(1024) }];
    let m = machine(&plans, 2, Untraced, DebugOptions::default());
    let cpu = &m.cpus[0];
    let mut first_remote = None;
    while first_remote.is_none() {
        let block = m.allocator.alloc(cpu, Gfp::KERNEL, order(4)).unwrap();
        first_remote = (block.pfn() >= Pfn::new(1024)).then_some(block);
    }
    let [local, remote] = [0, 1].map(|node: usize| m.allocator.zone_events(cpu, &m.allocator.zones()[node]));
    assert_eq!((remote.numa_miss, remote.numa_other, local.numa_foreign), (1, 1, 1));
    assert_eq!(local.numa_hit, local.numa_local);
    let only_here = AllocRequest::new(Gfp::KERNEL | Gfp::THISNODE | Gfp::NOWARN, order(9));
    assert!(m.allocator.alloc_request(cpu, &only_here).is_err());
}

#[test]
fn zeroed_and_exact_and_bulk_requests_give_what_they_say() {
    let m = small(4096);
    let cpu = &m.cpus[0];
    let mut dirty = m.allocator.alloc(cpu, Gfp::KERNEL, order(0)).unwrap();
    frame_table::fill(m.allocator.platform(), &mut dirty, 12, 0xff).unwrap();
    m.allocator.free(cpu, dirty);
    let mut zeroed = m.allocator.alloc_zeroed(cpu, Gfp::KERNEL).unwrap();
    assert_eq!(frame_table::first_difference(m.allocator.platform(), &mut zeroed, 12, 0), Ok(None));
    m.allocator.free(cpu, zeroed);

    let exact = m.allocator.alloc_exact(cpu, Gfp::KERNEL, 5).unwrap();
    assert_eq!(exact.frames().nr_pages(), 5);
    assert_eq!(m.allocator.check_invariants(cpu), Ok(4096 - 5));
    m.allocator.free_exact(cpu, exact);

    let mut pages = Vec::new();
    assert_eq!(m.allocator.alloc_bulk(cpu, Gfp::KERNEL, 100, |page| pages.push(page)), 100);
    m.allocator.free_bulk(cpu, pages);
    assert_eq!(m.allocator.check_invariants(cpu), Ok(4096));
}

#[test]
fn a_fragment_keeps_its_block_until_the_last_one_goes() {
    let m = small(4096);
    let cpu = &m.cpus[0];
    let mut cache = PageFragCache::new();
    let frags: Vec<_> =
        (0..100).map(|_| m.allocator.alloc_frag(cpu, &mut cache, Gfp::ATOMIC, 1000, 64).unwrap()).collect();
    assert!(frags.iter().all(|frag| frag.start().raw() % 64 == 0));
    let mut starts: Vec<u64> = frags.iter().map(|frag| frag.start().raw()).collect();
    starts.sort_unstable();
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] >= 1000), "fragments do not overlap");
    m.allocator.drain_frag(cpu, &mut cache);
    assert!(m.allocator.check_invariants(cpu).unwrap() < 4096);
    frags.into_iter().for_each(|frag| m.allocator.free_frag(cpu, frag));
    assert_eq!(m.allocator.check_invariants(cpu), Ok(4096));
}

#[test]
fn a_folio_lives_as_long_as_someone_refers_to_it() {
    let m = small(4096);
    let cpu = &m.cpus[0];
    let folio = m.allocator.alloc_folio(cpu, Gfp::KERNEL, order(3)).unwrap();
    let frames = &m.allocator.map().frames;
    assert_eq!(frames.compound_head(folio.pfn().add(7)), Some(folio.pfn()), "it is compound");
    let other = folio.get(frames);
    m.allocator.free_counted(cpu, folio);
    assert_eq!(m.allocator.check_invariants(cpu), Ok(4096 - 8));
    m.allocator.put(cpu, other);
    assert_eq!(m.allocator.check_invariants(cpu), Ok(4096));
}

#[test]
fn an_isolated_pageblock_gives_nothing_and_comes_back() {
    let m = small(2048);
    let cpu = &m.cpus[0];
    let was = m.allocator.isolate_pageblock(cpu, Pfn::new(600)).unwrap();
    assert_eq!(was, MigrateType::Movable);
    assert_eq!(zone(&m).free_pages(), 2048 - 512);
    assert!(m.allocator.check_invariants(cpu).is_ok());
    while let Ok(block) = m.allocator.alloc(cpu, Gfp::ATOMIC | Gfp::NOWARN, Order::ZERO) {
        assert!(!(512..1024).contains(&block.pfn().raw()));
    }
    assert!(m.allocator.isolate_pageblock(cpu, Pfn::new(512)).is_err(), "isolated already");
    m.allocator.unisolate_pageblock(cpu, Pfn::new(600), was).unwrap();
    assert!(m.allocator.alloc(cpu, Gfp::KERNEL, order(8)).is_ok());
    assert!(m.allocator.check_invariants(cpu).is_ok());
}

#[test]
fn a_write_after_free_is_reported_and_the_page_stays_out_of_use() {
    let m = machine(&[ZonePlan::normal(1024)], 1, Counting::default(), DebugOptions::with_checks(Checks::POISON));
    let cpu = &m.cpus[0];
    let block = m.allocator.alloc(cpu, Gfp::KERNEL, order(0)).unwrap();
    let stale = m.allocator.address(&block).unwrap();
    m.allocator.free(cpu, block);
    // SAFETY: the memory exists; writing to it after the free is the misuse under test.
    unsafe { stale.write(7) };
    assert!(m.allocator.alloc(cpu, Gfp::KERNEL, order(0)).is_err());
    assert_eq!(count(&m.allocator.hooks().0.bad_pages), 1);
    assert!(m.allocator.alloc(cpu, Gfp::KERNEL, order(0)).is_ok(), "the machine goes on");
    assert_eq!(m.allocator.check_invariants(cpu), Ok(1022));
}

#[test]
fn a_page_freed_with_a_forbidden_flag_stays_out_of_use() {
    let m = machine(&[ZonePlan::normal(1024)], 1, Counting::default(), DebugOptions::with_checks(Checks::BAD_PAGE));
    let cpu = &m.cpus[0];
    let block = m.allocator.alloc(cpu, Gfp::KERNEL, order(1)).unwrap();
    m.allocator.map().frames.get(block.pfn().add(1)).unwrap().set_flags(frame_table::PageFlags::LRU);
    m.allocator.free(cpu, block);
    assert_eq!(m.allocator.debug().bad_pages(), 1);
    assert_eq!(m.allocator.check_invariants(cpu), Ok(1022));
}

#[test]
fn injected_failures_hit_the_nth_request_and_leak_nothing() {
    let m = small(2048);
    let cpu = &m.cpus[0];
    for nth in 0..40 {
        m.allocator.arm_faults(nth, 1);
        let mut blocks = Vec::new();
        let failed = (0..40).filter(|raw| match m.allocator.alloc(cpu, Gfp::KERNEL, order(raw % 4)) {
            Ok(block) => {
                blocks.push(block);
                false
            }
            Err(error) => error == AllocError::OutOfMemory,
        });
        assert_eq!(failed.collect::<Vec<_>>(), [nth as u8]);
        m.allocator.free_bulk(cpu, blocks);
        assert_eq!(m.allocator.check_invariants(cpu), Ok(2048));
    }
}

#[test]
fn high_order_atomic_requests_reserve_a_pageblock_of_a_large_zone() {
    let m = small(512 * 110);
    let cpu = &m.cpus[0];
    let block = m.allocator.alloc_request(cpu, &AllocRequest::new(Gfp::ATOMIC, order(3))).unwrap();
    assert_eq!(zone(&m).reserved_highatomic(), 0, "not while memory is plenty");
    m.allocator.free(cpu, block);
    while m.allocator.alloc(cpu, Gfp::KERNEL | Gfp::NOWARN, order(4)).is_ok() {}
    let atomic = m.allocator.alloc(cpu, Gfp::ATOMIC | Gfp::NOWARN, order(3));
    assert!(atomic.is_ok());
    assert_eq!(zone(&m).reserved_highatomic(), 512);
    assert!(m.allocator.check_invariants(cpu).is_ok());
}

#[test]
fn lower_zones_keep_their_reserve_from_requests_that_could_go_higher() {
    let mut low = ZonePlan { kind: ZoneType::Dma32, ..ZonePlan::normal(1024) };
    low.settings.lowmem_reserve[ZoneType::Normal.index()] = 900;
    let m = machine(&[low, ZonePlan::normal(1024)], 1, Untraced, DebugOptions::default());
    let cpu = &m.cpus[0];
    while m.allocator.alloc(cpu, Gfp::KERNEL | Gfp::NOWARN, Order::ZERO).is_ok() {}
    let dma32 = m.allocator.zone(units::NodeId::ZERO, ZoneType::Dma32).unwrap();
    assert!(dma32.free_pages() >= 900);
    assert!(m.allocator.alloc(cpu, Gfp::KERNEL | Gfp::DMA32, Order::ZERO).is_ok());
}
