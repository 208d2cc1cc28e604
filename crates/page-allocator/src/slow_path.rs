//! Allocation when no zone keeps its low watermark: acts on the steps of `slow_step`.
//!
//! Linux 6.12: `__alloc_pages_slowpath`, `__alloc_pages_direct_reclaim`, `should_reclaim_retry`, `__alloc_pages_may_oom`.

use frame_table::FreeBlock;
use platform::Platform;
use sync::Cpu;
use units::{Gfp, NodeMask, Order, ZoneType};

use crate::alloc_context::{AllocContext, AllocError};
use crate::alloc_flags::AllocFlags;
use crate::allocator::PageAllocator;
use crate::compact_retry::{CompactRound, CompactVerdict, Room, compact_gap};
use crate::highatomic::Unreserve;
use crate::pressure::{CompactPriority, Compaction, Hooks, Progress};
use crate::slow_step::{Outcome, SlowRequest, SlowState, SlowStep};
use crate::zone::Watermark;

/// Rounds of reclaim without progress before reclaim counts as hopeless (Linux: MAX_RECLAIM_RETRIES).
const MAX_RECLAIM_RETRIES: u32 = 16;

/// What the path remembers between its steps.
struct SlowRun<'a> {
    context: AllocContext<'a>,
    flags: AllocFlags,
    no_progress: u32,
    compact_retries: u32,
    last_compaction: Compaction,
    /// Somebody may free memory one day; without that a request that must not fail would wait for ever.
    may_ever_progress: bool,
}

/// A step found a block, or ended so.
type StepResult = Result<FreeBlock, Outcome>;

impl<P: Platform, H: Hooks> PageAllocator<P, H> {
    /// Allocates with reserves, reclaim, compaction and the OOM killer, as far as the request allows them.
    #[cold]
    #[inline(never)]
    pub(crate) fn alloc_slow(&self, cpu: &Cpu, context: AllocContext<'_>) -> Result<FreeBlock, AllocError> {
        let request = context.request;
        let table = SlowRequest {
            gfp: request.gfp,
            order: request.order,
            migratetype: context.migratetype,
            task: request.task,
        };
        let mut run = SlowRun {
            context: AllocContext { spread_dirty: false, ..context },
            flags: AllocFlags::slow(request.gfp, request.order),
            no_progress: 0,
            compact_retries: 0,
            last_compaction: Compaction::Skipped,
            may_ever_progress: false,
        };
        let mut state = SlowState::START;
        loop {
            if state.step() == SlowStep::Fail {
                if !request.gfp.contains(Gfp::NOWARN) {
                    self.hooks.warn_alloc(request);
                }
                return Err(AllocError::OutOfMemory);
            }
            match self.act(cpu, &mut run, &table, &state) {
                Ok(block) => return Ok(block),
                Err(outcome) => state = state.after(&table, outcome),
            }
        }
    }

    fn act(&self, cpu: &Cpu, run: &mut SlowRun<'_>, table: &SlowRequest, state: &SlowState) -> StepResult {
        match state.step() {
            SlowStep::TryMinWatermark => {
                self.wake_kswapds(run);
                self.walk(cpu, run, run.flags)
            }
            SlowStep::TryReserves => self.try_reserves(cpu, run, table),
            SlowStep::Compact(priority) => self.compact(cpu, run, priority),
            SlowStep::Reclaim => self.reclaim(cpu, run),
            SlowStep::JudgeReclaim => Err(self.judge_reclaim(cpu, run, state.reclaim_helped())),
            SlowStep::JudgeCompaction => Err(self.judge_compaction(run, state.compact_priority())),
            SlowStep::Kill => self.kill(cpu, run),
            SlowStep::TryNofailReserve => {
                let found = self.walk_beyond_cpuset(cpu, run, AllocFlags::MIN_RESERVE);
                found.map_err(|_| if run.may_ever_progress { Outcome::NoBlock } else { Outcome::Hopeless })
            }
            SlowStep::Fail => Err(Outcome::Hopeless),
        }
    }

    fn walk(&self, cpu: &Cpu, run: &SlowRun<'_>, flags: AllocFlags) -> StepResult {
        self.take_from_zones(cpu, &run.context, flags).ok_or(Outcome::NoBlock)
    }

    /// Walks the zones of the cpuset, and if that fails all (Linux: __alloc_pages_cpuset_fallback).
    fn walk_beyond_cpuset(&self, cpu: &Cpu, run: &SlowRun<'_>, flags: AllocFlags) -> StepResult {
        self.walk(cpu, run, flags | AllocFlags::CPUSET).or_else(|_| self.walk(cpu, run, flags))
    }

    /// Wakes kswapd once for each node of the walk.
    fn wake_kswapds(&self, run: &SlowRun<'_>) {
        if !run.flags.contains(AllocFlags::KSWAPD) {
            return;
        }
        let (context, mut woken) = (&run.context, NodeMask::EMPTY);
        for entry in context.list.walk(context.highest, context.nodes) {
            if let Some(zone) = self.zone_number(entry.zone).filter(|_| !woken.contains(entry.node)) {
                self.hooks.wake_kswapd(zone, context.request.order, context.highest);
                woken = woken.with(entry.node);
            }
        }
    }

    fn try_reserves(&self, cpu: &Cpu, run: &mut SlowRun<'_>, table: &SlowRequest) -> StepResult {
        self.wake_kswapds(run);
        let reserves = if table.ignores_watermarks() {
            AllocFlags::NO_WATERMARKS
        } else if table.has_reserves() {
            AllocFlags::OOM
        } else {
            AllocFlags::empty()
        };
        if !reserves.is_empty() {
            run.flags = reserves.with_cma_for(table.gfp) | run.flags & AllocFlags::KSWAPD;
        }
        if !reserves.is_empty() || !run.flags.contains(AllocFlags::CPUSET) {
            self.ignore_memory_policy(&mut run.context);
        }
        self.walk(cpu, run, run.flags)
    }

    /// Lets the walk use every node: what is at stake is more than a policy.
    fn ignore_memory_policy(&self, context: &mut AllocContext<'_>) {
        context.nodes = NodeMask::ALL;
        if let Some(entry) = context.list.walk(context.highest, context.nodes).next() {
            context.preferred = entry.zone;
        }
    }

    fn compact(&self, cpu: &Cpu, run: &mut SlowRun<'_>, priority: CompactPriority) -> StepResult {
        if run.context.request.order == Order::ZERO {
            return Err(Outcome::Compacted(Compaction::Skipped));
        }
        let result = self.hooks.direct_compact(run.context.request, priority);
        run.last_compaction = result;
        if matches!(result, Compaction::Skipped | Compaction::Deferred) {
            return Err(Outcome::Compacted(result));
        }
        run.may_ever_progress = true;
        self.walk(cpu, run, run.flags).map_err(|_| Outcome::Compacted(result))
    }

    /// Reclaims; if the walk after it fails, what other CPUs hold is taken back and it is repeated once.
    fn reclaim(&self, cpu: &Cpu, run: &mut SlowRun<'_>) -> StepResult {
        let progress = self.hooks.direct_reclaim(run.context.request);
        run.may_ever_progress |= progress != Progress::Never;
        if !progress.is_made() {
            return Err(Outcome::Reclaimed(false));
        }
        self.walk(cpu, run, run.flags).or_else(|_| {
            self.unreserve_highatomic(cpu, &run.context, Unreserve::KeepOne);
            self.drain_all_pages(cpu, NodeMask::ALL);
            self.walk(cpu, run, run.flags).map_err(|_| Outcome::Reclaimed(true))
        })
    }

    /// Would some zone keep its min watermark if all of its reclaimable pages were free?
    fn judge_reclaim(&self, cpu: &Cpu, run: &mut SlowRun<'_>, reclaim_helped: bool) -> Outcome {
        let context = &run.context;
        let order = context.request.order;
        if reclaim_helped && order <= Order::COSTLY {
            run.no_progress = 0;
        } else {
            run.no_progress += 1;
        }
        let reachable = run.no_progress <= MAX_RECLAIM_RETRIES
            && context.list.walk(context.highest, context.nodes).any(|entry| {
                self.zone_number(entry.zone).is_some_and(|zone| {
                    let available = zone.free_pages() + self.hooks.reclaimable_pages(zone);
                    let mark = zone.watermark(Watermark::Min);
                    zone.watermark_holds_with(available, order, mark, context.highest, run.flags)
                })
            });
        if reachable || self.unreserve_highatomic(cpu, context, Unreserve::Last) {
            Outcome::Worthwhile
        } else {
            Outcome::Hopeless
        }
    }

    fn judge_compaction(&self, run: &mut SlowRun<'_>, priority: CompactPriority) -> Outcome {
        let round = CompactRound {
            order: run.context.request.order,
            task: run.context.request.task,
            result: run.last_compaction,
            priority,
            retries: run.compact_retries,
        };
        match round.judge(|| self.room_for_compaction(&run.context)) {
            CompactVerdict::GiveUp => Outcome::Hopeless,
            CompactVerdict::Again { retries } => {
                run.compact_retries = retries;
                Outcome::Worthwhile
            }
            CompactVerdict::Harder(priority) => {
                run.compact_retries = 0;
                Outcome::WorthwhileAt(priority)
            }
        }
    }

    /// Would a zone have the pages that compaction moves, if reclaim freed a share of it that shrinks with the order?
    fn room_for_compaction(&self, context: &AllocContext<'_>) -> Room {
        let order = context.request.order;
        let mark = if order > Order::COSTLY { Watermark::Low } else { Watermark::Min };
        let suitable = context.list.walk(context.highest, context.nodes).any(|entry| {
            self.zone_number(entry.zone).is_some_and(|zone| {
                let reclaimable = self.hooks.reclaimable_pages(zone) / u64::from(order.raw().max(1));
                let available = zone.free_pages() + reclaimable;
                let mark = zone.watermark(mark) + compact_gap(order);
                zone.watermark_holds_with(available, Order::ZERO, mark, context.highest, AllocFlags::CMA)
            })
        });
        if suitable { Room::AfterReclaim } else { Room::Nowhere }
    }

    /// Looks once more at the high watermark, in case a parallel kill freed memory, and calls the OOM killer.
    fn kill(&self, cpu: &Cpu, run: &mut SlowRun<'_>) -> StepResult {
        let request = run.context.request;
        let last_look = AllocFlags::WMARK_HIGH | AllocFlags::CPUSET;
        if let Ok(block) = self.walk(cpu, run, last_look) {
            return Ok(block);
        }
        let futile = request.order > Order::COSTLY
            || request.gfp.intersects(Gfp::RETRY_MAYFAIL | Gfp::THISNODE)
            || run.context.highest < ZoneType::Normal;
        if futile {
            return Err(Outcome::Hopeless);
        }
        let progress = self.hooks.out_of_memory(request);
        run.may_ever_progress |= progress != Progress::Never;
        let must_succeed = request.gfp.contains(Gfp::NOFAIL);
        if must_succeed && let Ok(block) = self.walk_beyond_cpuset(cpu, run, AllocFlags::NO_WATERMARKS) {
            return Ok(block);
        }
        if progress.is_made() || must_succeed && run.may_ever_progress {
            run.no_progress = 0;
            return Err(Outcome::Worthwhile);
        }
        Err(Outcome::Hopeless)
    }

    fn unreserve_highatomic(&self, cpu: &Cpu, context: &AllocContext<'_>, how: Unreserve) -> bool {
        context.list.walk(context.highest, context.nodes).any(|entry| {
            let zone = self.zone_number(entry.zone).filter(|zone| zone.reserved_highatomic() > 0);
            zone.is_some_and(|zone| self.lock(zone, cpu).unreserve_highatomic(context.migratetype, how))
        })
    }
}
