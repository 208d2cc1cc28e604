//! One test a rule: the loss of any of them would hardly show in a replay.

use super::*;

/// Frees a block; returns the pages that go back.
fn freed(pcp: &mut PcpCounters, order: Order, pressure: ZonePressure) -> u32 {
    let free_high = pcp.note_free(order);
    if pcp.is_over(free_high) || pressure != ZonePressure::None { pcp.surplus(free_high, pressure) } else { 0 }
}

const LIMITS: PcpLimits = PcpLimits { high_min: 1000, high_max: 20_000, batch: 63 };

fn set() -> PcpCounters {
    PcpCounters::new(LIMITS, 5)
}

/// A set with pages on its lists and a mark above them.
fn holding(count: u32, high: u32) -> PcpCounters {
    let mut pcp = set();
    pcp.set_high(high);
    pcp.note_added(count);
    assert_eq!((pcp.count(), pcp.high()), (count, high));
    pcp
}

fn order(raw: u8) -> Order {
    Order::new_truncate(raw)
}

#[test]
fn order_0_refills_double_up_to_32_batches() {
    let mut pcp = holding(0, 20_000);
    let refills = [0; 7].map(|_: u32| pcp.refill_blocks(Order::ZERO, ZonePressure::None));
    assert_eq!(refills, [63, 126, 252, 504, 1008, 2016, 2016]);
}

#[test]
fn a_free_halves_the_refill_factor() {
    let mut pcp = PcpCounters { alloc_factor: 4, ..holding(0, 20_000) };
    freed(&mut pcp, Order::ZERO, ZonePressure::None);
    assert_eq!(pcp.refill_blocks(Order::ZERO, ZonePressure::None), 63 << 2);
}

#[test]
fn a_refill_leaves_a_batch_of_room_below_high() {
    let mut pcp = PcpCounters { alloc_factor: 5, limits: PcpLimits { high_max: 1000, ..LIMITS }, ..holding(800, 1000) };
    assert_eq!(pcp.refill_blocks(Order::ZERO, ZonePressure::None), 1000 - 800 - 63);
    pcp.note_added(190);
    assert_eq!(pcp.refill_blocks(Order::ZERO, ZonePressure::None), 63);
}

#[test]
fn a_refill_of_a_higher_order_is_a_batch_of_pages_and_two_blocks_at_least() {
    let mut pcp = PcpCounters { alloc_factor: 3, ..set() };
    assert_eq!(pcp.refill_blocks(order(3), ZonePressure::None), 63 >> 3);
    assert_eq!(pcp.refill_blocks(order(9), ZonePressure::None), 2);
    assert_eq!(pcp.alloc_factor, 3, "only order 0 changes the factor");
}

#[test]
fn refills_raise_high_until_memory_is_short() {
    let mut pcp = set();
    pcp.refill_blocks(Order::ZERO, ZonePressure::None);
    assert_eq!(pcp.high(), 1063);
    pcp.refill_blocks(order(9), ZonePressure::BelowHigh);
    assert_eq!(pcp.high(), 1063);
    pcp.set_high(19_990);
    pcp.refill_blocks(Order::ZERO, ZonePressure::None);
    assert_eq!(pcp.high(), 20_000);
}

#[test]
fn a_fixed_high_stays_where_it_is() {
    let limits = PcpLimits { high_min: 500, high_max: 500, batch: 63 };
    let mut pcp = PcpCounters::new(limits, 5);
    pcp.refill_blocks(Order::ZERO, ZonePressure::None);
    pcp.note_added(600);
    freed(&mut pcp, Order::ZERO, ZonePressure::BelowHigh);
    assert_eq!(pcp.high(), 500);
}

#[test]
fn a_boot_set_moves_single_pages() {
    let mut pcp = PcpCounters::new(PcpLimits::BOOT, 5);
    assert_eq!(pcp.refill_blocks(Order::ZERO, ZonePressure::None), 1);
    assert_eq!(freed(&mut pcp, Order::ZERO, ZonePressure::None), 1);
}

#[test]
fn nothing_goes_back_below_high() {
    let mut pcp = holding(900, 1000);
    assert_eq!(freed(&mut pcp, Order::ZERO, ZonePressure::None), 0);
}

#[test]
fn at_high_as_many_pages_go_back_as_were_freed_in_a_row() {
    let mut pcp = PcpCounters { free_count: 200, ..holding(999, 1000) };
    assert_eq!(freed(&mut pcp, Order::ZERO, ZonePressure::None), 201);
    let mut pcp = PcpCounters { free_count: 3, ..holding(999, 1000) };
    assert_eq!(freed(&mut pcp, Order::ZERO, ZonePressure::None), 63, "a batch at least");
    let mut pcp = PcpCounters { free_count: 1999, ..holding(999, 1000) };
    assert_eq!(freed(&mut pcp, Order::ZERO, ZonePressure::None), 1000 - 63, "a batch stays");
}

#[test]
fn a_long_run_of_frees_raises_high_to_hold_it() {
    let mut pcp = PcpCounters { free_count: 1500, ..holding(999, 1000) };
    freed(&mut pcp, Order::ZERO, ZonePressure::None);
    assert_eq!(pcp.high(), 1501 + 63);
}

#[test]
fn a_run_of_frees_ends_with_the_block_that_reaches_32_batches_and_is_halved_by_allocations() {
    let mut pcp = PcpCounters { free_count: 2015, ..holding(0, 20_000) };
    freed(&mut pcp, order(9), ZonePressure::None);
    freed(&mut pcp, order(9), ZonePressure::None);
    freed(&mut pcp, Order::ZERO, ZonePressure::None);
    assert_eq!(pcp.free_count, 2015 + 512);
    pcp.note_alloc();
    assert_eq!(pcp.free_count, 1263);
}

#[test]
fn below_the_high_watermark_frees_lower_high_and_go_back() {
    let mut pcp = PcpCounters { free_count: 200, ..holding(5000, 8000) };
    assert_eq!(freed(&mut pcp, Order::ZERO, ZonePressure::BelowHigh), 201);
    assert_eq!(pcp.high(), 8000 - 201);
}

#[test]
fn while_reclaim_works_four_batches_stay() {
    let mut pcp = holding(300, 8000);
    let pages = freed(&mut pcp, Order::ZERO, ZonePressure::ReclaimActive);
    assert_eq!(pcp.high(), 8000 - 63);
    assert_eq!(pages, 63, "at 252 pages kept, a batch goes");
}

#[test]
fn heavy_freeing_of_high_orders_empties_the_lists() {
    let mut pcp = PcpCounters { free_count: 100, prev_free_high_order: true, ..holding(700, 3100) };
    assert_eq!(freed(&mut pcp, order(2), ZonePressure::None), 704);
    assert_eq!(pcp.high(), 3100 - (63 << 5));
    let mut pcp = PcpCounters { free_count: 100, ..holding(700, 3100) };
    assert_eq!(freed(&mut pcp, order(2), ZonePressure::None), 0, "the free before was of order 0");
    assert!(pcp.prev_free_high_order);
    freed(&mut pcp, Order::ZERO, ZonePressure::None);
    assert!(!pcp.prev_free_high_order);
}

#[test]
fn since_6_16_a_run_of_frees_must_reach_half_of_high_min_to_empty_the_lists() {
    let mut short = PcpCounters { free_count: 63 + 499, prev_free_high_order: true, ..holding(700, 3100) };
    short.set_free_high_rule(FreeHighRule::BatchAndHalfOfHighMin);
    assert_eq!(freed(&mut { short }, order(2), ZonePressure::None), 0);
    assert_eq!(freed(&mut PcpCounters { free_count: 63 + 500, ..short }, order(2), ZonePressure::None), 704);
    short.set_free_high_rule(FreeHighRule::Batch);
    assert_eq!(freed(&mut short, order(2), ZonePressure::None), 704);
}

#[test]
fn without_a_rule_only_high_limits_what_frees_of_high_orders_leave_here() {
    let mut pcp = PcpCounters { free_count: 63 << 5, prev_free_high_order: true, ..holding(3091, 3100) };
    pcp.set_free_high_rule(FreeHighRule::Never);
    assert_eq!(freed(&mut pcp, order(3), ZonePressure::None), 0, "the longest run is no reason");
    assert!(freed(&mut pcp, order(1), ZonePressure::None) > 0, "high is reached");
}

#[test]
fn a_batch_stays_even_where_high_is_less_than_two() {
    let limits = PcpLimits { high_min: 100, high_max: 100, batch: 63 };
    let mut full = PcpCounters::new(limits, 5);
    full.note_added(99);
    assert_eq!(freed(&mut PcpCounters { free_count: 50, ..full }, Order::ZERO, ZonePressure::None), 100 - 63);
    assert_eq!(freed(&mut PcpCounters { free_count: 5, ..full }, Order::ZERO, ZonePressure::None), 63);
}

#[test]
fn a_large_cache_lets_high_orders_wait_for_a_batch() {
    let few = PcpCounters { free_count: 100, prev_free_high_order: true, ..holding(10, 3100) };
    assert_eq!(freed(&mut { few }, order(1), ZonePressure::None), 0);
    let small_cache = PcpCounters { free_high_batch: false, ..few };
    assert_eq!(freed(&mut { small_cache }, order(1), ZonePressure::None), 12);
}

#[test]
fn high_decays_by_an_eighth_and_what_is_above_goes_back() {
    let mut pcp = holding(7500, 8000);
    assert_eq!(pcp.decay(), 500);
    assert_eq!(pcp.high(), 7000);
}

#[test]
fn a_decay_gives_back_32_batches_at_most() {
    let mut pcp = holding(20_000, 20_000);
    assert_eq!(pcp.decay(), 2016);
    assert_eq!(pcp.high(), 20_000 - 2016);
}

#[test]
fn high_never_decays_below_its_minimum() {
    let mut pcp = holding(10, 1001);
    assert_eq!(pcp.decay(), 0);
    assert_eq!(pcp.high(), 1000);
    assert_eq!(pcp.decay(), 0);
    assert_eq!(pcp.high(), 1000);
}
