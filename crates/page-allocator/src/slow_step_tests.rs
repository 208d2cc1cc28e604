//! The rows of the slow path's table.

extern crate std;
use std::vec::Vec;

use super::*;

fn request(gfp: Gfp, order: u8) -> SlowRequest {
    SlowRequest { gfp, order: Order::new_truncate(order), migratetype: gfp.migrate_type(), task: TaskFlags::empty() }
}

/// Steps taken when every attempt fails and nothing is judged worthwhile.
fn hopeless(request: SlowRequest) -> Vec<SlowStep> {
    let (mut state, mut steps) = (SlowState::START, Vec::new());
    while steps.len() < 20 {
        steps.push(state.step());
        let outcome = match state.step() {
            SlowStep::Fail => break,
            SlowStep::Compact(_) => Outcome::Compacted(Compaction::Skipped),
            SlowStep::Reclaim => Outcome::Reclaimed(false),
            SlowStep::TryMinWatermark | SlowStep::TryReserves => Outcome::NoBlock,
            _ => Outcome::Hopeless,
        };
        state = state.after(&request, outcome);
    }
    steps
}

use CompactPriority::{Async, SyncLight};
use SlowStep::*;

#[test]
fn atomic_requests_try_twice_and_fail() {
    assert_eq!(hopeless(request(Gfp::ATOMIC, 0)), [TryMinWatermark, TryReserves, Fail]);
}

#[test]
fn kernel_memory_goes_all_the_way_to_the_oom_killer() {
    let steps = [TryMinWatermark, TryReserves, Reclaim, Compact(SyncLight), JudgeReclaim, Kill, Fail];
    assert_eq!(hopeless(request(Gfp::KERNEL, 0)), steps);
}

#[test]
fn unmovable_high_orders_compact_first() {
    let steps = hopeless(request(Gfp::KERNEL, 2));
    assert_eq!(steps[..3], [TryMinWatermark, Compact(Async), TryReserves]);
    let steps = hopeless(request(Gfp::HIGHUSER_MOVABLE, 2));
    assert_eq!(steps[..2], [TryMinWatermark, TryReserves]);
}

#[test]
fn a_huge_page_fault_without_retry_gives_up_where_compaction_was_refused() {
    let gfp = Gfp::TRANSHUGE | Gfp::NORETRY;
    assert_eq!(hopeless(request(gfp, 9)), [TryMinWatermark, Compact(Async), Fail]);
    let state = SlowState::START.after(&request(gfp, 9), Outcome::NoBlock);
    let state = state.after(&request(gfp, 9), Outcome::Compacted(Compaction::Complete));
    assert_eq!(state.step(), TryReserves);
}

#[test]
fn costly_requests_do_not_retry_unless_they_say_so() {
    let steps = hopeless(request(Gfp::KERNEL, 4));
    assert_eq!(steps[2..], [TryReserves, Reclaim, Compact(SyncLight), Fail]);
    let steps = hopeless(request(Gfp::KERNEL | Gfp::RETRY_MAYFAIL, 4));
    assert_eq!(steps[4..], [Compact(SyncLight), JudgeReclaim, Kill, Fail]);
}

#[test]
fn a_task_that_reclaims_does_not_reclaim_again() {
    let request = SlowRequest { task: TaskFlags::MEMALLOC, ..request(Gfp::KERNEL, 0) };
    assert_eq!(hopeless(request), [TryMinWatermark, TryReserves, Fail]);
}

#[test]
fn a_request_that_must_not_fail_gets_the_min_reserve() {
    let steps = hopeless(request(Gfp::KERNEL | Gfp::NOFAIL, 0));
    assert_eq!(steps[5..], [Kill, TryNofailReserve, Fail], "only where nothing could ever free memory");
    let mut state = SlowState { step: TryNofailReserve, ..SlowState::START };
    state = state.after(&request(Gfp::KERNEL | Gfp::NOFAIL, 0), Outcome::NoBlock);
    assert_eq!(state.step(), TryReserves);
}

#[test]
fn a_killed_task_tries_its_reserves_before_it_compacts_and_goes_round_once() {
    let killed = SlowRequest { task: TaskFlags::OOM_VICTIM, ..request(Gfp::KERNEL, 4) };
    assert_eq!(hopeless(killed)[..2], [TryMinWatermark, TryReserves]);
    let without = SlowRequest { gfp: Gfp::KERNEL | Gfp::NOMEMALLOC, ..killed };
    assert_eq!(hopeless(without)[..2], [TryMinWatermark, Compact(Async)]);
    let after_kill =
        |request: &SlowRequest| SlowState { step: Kill, ..SlowState::START }.after(request, Outcome::Worthwhile);
    assert_eq!(after_kill(&killed).step(), Fail);
    assert_eq!(after_kill(&SlowRequest { gfp: Gfp::KERNEL | Gfp::MEMALLOC, ..killed }).step(), TryReserves);
}

#[test]
fn what_is_judged_worthwhile_is_retried_with_reserves() {
    let kernel = request(Gfp::KERNEL, 0);
    for step in [JudgeReclaim, JudgeCompaction, Kill] {
        let state = SlowState { step, ..SlowState::START };
        assert_eq!(state.after(&kernel, Outcome::Worthwhile).step(), TryReserves);
    }
}

#[test]
fn compaction_is_judged_only_after_reclaim_helped() {
    let kernel = request(Gfp::KERNEL, 0);
    let state = SlowState { step: Reclaim, ..SlowState::START }.after(&kernel, Outcome::Reclaimed(true));
    let state = state.after(&kernel, Outcome::Compacted(Compaction::Incomplete)).after(&kernel, Outcome::Hopeless);
    assert_eq!(state.step(), JudgeCompaction);
}

#[test]
fn compaction_tries_harder_in_the_round_that_was_granted_for_it() {
    let kernel = request(Gfp::KERNEL, 2);
    let state = SlowState { step: JudgeCompaction, ..SlowState::START };
    let state = state.after(&kernel, Outcome::WorthwhileAt(CompactPriority::SyncFull));
    assert_eq!(state.step(), TryReserves);
    let state = state.after(&kernel, Outcome::NoBlock).after(&kernel, Outcome::Reclaimed(true));
    assert_eq!(state.step(), Compact(CompactPriority::SyncFull));
}
