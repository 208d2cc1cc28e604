//! Watermark checks against the rule written out over the free lists: what is free, what of it the request cannot use, and whether
//! a block is there. The allocator answers from counters and bits instead.

use frame_table::OwnedBlock;
use model_tests::{Machine, machine, shape};
use page_allocator::{AllocFlags, DebugOptions, Watermark, Zone};
use proptest::prelude::*;
use sync::Cpu;
use units::{CpuId, Gfp, MigrateType, Order, ZoneType};

const RESERVE: u64 = 50;

/// A request as the check sees it.
#[derive(Clone, Copy, Debug)]
struct Request {
    order: Order,
    mark: u64,
    highest: ZoneType,
    flags: AllocFlags,
}

/// The rule, by counting blocks.
fn may_serve(machine: &Machine, cpu: &Cpu, zone: &Zone, request: Request) -> bool {
    let counts = machine.pages().free_counts(cpu, zone);
    let has = |flag| request.flags.contains(flag);
    let reserves = has(AllocFlags::NON_BLOCK) || has(AllocFlags::MIN_RESERVE) || has(AllocFlags::OOM);
    let (mut usable, mut block) = (0, false);
    for (order, by_type) in counts.iter().enumerate() {
        for migratetype in MigrateType::ALL {
            let blocks = u64::from(by_type[migratetype.index()]);
            let (counts_as_free, may_give) = match migratetype {
                MigrateType::Isolate => (false, false),
                MigrateType::Cma => (has(AllocFlags::CMA), has(AllocFlags::CMA)),
                MigrateType::HighAtomic => (reserves, has(AllocFlags::HIGHATOMIC) || has(AllocFlags::OOM)),
                _ => (true, true),
            };
            usable += if counts_as_free { blocks << order } else { 0 };
            block |= may_give && blocks > 0 && order >= request.order.index();
        }
    }
    let mut mark = request.mark as f64;
    if has(AllocFlags::MIN_RESERVE) {
        mark = (mark / 2.0).ceil();
        if has(AllocFlags::NON_BLOCK) {
            mark = (mark * 0.75).ceil();
        }
    }
    if has(AllocFlags::OOM) {
        mark = (mark / 2.0).ceil();
    }
    // Every zone here keeps the same reserve from requests that could go above DMA32.
    let reserve = if request.highest > ZoneType::Dma32 { RESERVE } else { 0 };
    let left = usable as f64 - (request.order.nr_pages() - 1) as f64;
    left > mark + reserve as f64 && (request.order == Order::ZERO || block)
}

fn check_all(machine: &Machine, cpu: &Cpu) {
    let privileges = [
        AllocFlags::empty(),
        AllocFlags::MIN_RESERVE,
        AllocFlags::MIN_RESERVE | AllocFlags::NON_BLOCK,
        AllocFlags::OOM,
        AllocFlags::HIGHATOMIC | AllocFlags::MIN_RESERVE,
        AllocFlags::CMA,
    ];
    for zone in machine.pages().zones() {
        for order in Order::ZERO.through(machine.shape().geometry.max_order) {
            for mark in [Watermark::Min, Watermark::High].map(|mark| zone.watermark(mark)) {
                for highest in [ZoneType::Dma32, ZoneType::Normal] {
                    for flags in privileges {
                        let request = Request { order, mark, highest, flags };
                        let found = zone.watermark_ok(order, mark, highest, flags);
                        assert_eq!(found, may_serve(machine, cpu, zone, request), "{request:?} in {:?}", zone.span());
                    }
                }
            }
        }
    }
}

/// Takes memory until ordinary requests of eight pages fail, so that atomic ones start to reserve pageblocks.
fn fill(machine: &Machine, cpu: &Cpu) -> Vec<OwnedBlock> {
    let mut held = Vec::new();
    for order in [10, 8, 3].map(Order::new_truncate) {
        held.extend(std::iter::from_fn(|| machine.pages().alloc(cpu, Gfp::KERNEL, order).ok()));
    }
    held.extend((0..4).filter_map(|_| machine.pages().alloc(cpu, Gfp::ATOMIC, Order::new_truncate(1)).ok()));
    let reserved: u64 = machine.pages().zones().iter().map(Zone::reserved_highatomic).sum();
    assert!(reserved > 0, "no atomic request reserved memory");
    held
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_answer_follows_from_the_free_lists(
        requests in prop::collection::vec((0..11u8, 0..4usize, any::<bool>()), 50..400),
    ) {
        // Large enough that a hundredth of a zone, which is the most that atomic requests may reserve, is a pageblock.
        let mut shape = shape(64, 1);
        for higher in [ZoneType::Normal, ZoneType::HighMem, ZoneType::Movable] {
            shape.settings.lowmem_reserve[higher.index()] = RESERVE;
        }
        let machine = machine(shape, None, DebugOptions::default()).unwrap();
        let cpu = machine.pages().platform().cpu(CpuId::ZERO).unwrap();
        let gfps = [Gfp::KERNEL, Gfp::HIGHUSER_MOVABLE, Gfp::ATOMIC, Gfp::KERNEL | Gfp::MEMALLOC];
        let mut held = fill(&machine, &cpu);
        for (order, gfp, keep) in requests {
            // Few large requests, so that memory runs out slowly.
            let order = Order::new_truncate(order / 3 * u8::from(order < 9) + (order / 10) * 9);
            held.extend(machine.pages().alloc(&cpu, gfps[gfp], order).ok());
            if !keep {
                machine.pages().free(&cpu, held.swap_remove(held.len() - 1));
            }
        }
        check_all(&machine, &cpu);
        let pages = machine.pages();
        held.drain(1..).for_each(|block| pages.free(&cpu, block));
        check_all(&machine, &cpu);
    }
}
