//! The slow path as a table: what to do next, given what happened so far.
//!
//! A pure function of the request and the outcomes, so that every row can be tested without memory; `slow_path` acts on it.
//!
//! | after | next |
//! |---|---|
//! | the fast path failed | wake kswapd, try the min watermark |
//! | that failed, the request is costly or of a sticky type and may compact | compact at the lowest cost |
//! | that failed, costly and NORETRY, compaction refused | give up |
//! | (retry) | try with what reserves the task may use |
//! | that failed, no direct reclaim allowed, or the task reclaims itself | give up |
//! | else | reclaim, then compact |
//! | both failed, NORETRY, or costly without RETRY_MAYFAIL | give up |
//! | reclaim may still help | retry |
//! | reclaim helped and compaction may (see `compact_retry`) | retry, with compaction trying harder if it failed |
//! | else | OOM killer; retry if it killed |
//! | given up, NOFAIL | try the reserves, retry |
//!
//! Linux 6.12: `__alloc_pages_slowpath`.

use units::{Gfp, MigrateType, Order};

use crate::alloc_context::TaskFlags;
use crate::pressure::{CompactPriority, Compaction};

/// The next action of the slow path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlowStep {
    /// Wake kswapd and walk the zones with the slow path's flags.
    TryMinWatermark,
    /// Compact, then walk the zones.
    Compact(CompactPriority),
    /// Walk the zones with the reserves that the task may use.
    TryReserves,
    /// Reclaim, then walk the zones.
    Reclaim,
    /// Find out whether reclaim could still satisfy the watermark (Linux: should_reclaim_retry).
    JudgeReclaim,
    /// Find out whether compaction is worth another round (Linux: should_compact_retry).
    JudgeCompaction,
    /// Call the OOM killer.
    Kill,
    /// Walk the zones with the min reserve, for a request that must not fail.
    TryNofailReserve,
    /// Report the failure.
    Fail,
}

/// What an action brought, apart from a block, which ends the path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// No block.
    NoBlock,
    /// Compaction ended so, and no block came of it.
    Compacted(Compaction),
    /// Reclaim freed pages (or not), and no block came of it.
    Reclaimed(bool),
    /// A judgement, or the OOM killer, says that another round is worth it.
    Worthwhile,
    /// Another round is worth it if compaction tries as hard as this.
    WorthwhileAt(CompactPriority),
    /// It is not.
    Hopeless,
}

/// The request as the table sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlowRequest {
    /// Flags.
    pub gfp: Gfp,
    /// Size.
    pub order: Order,
    /// Mobility class.
    pub migratetype: MigrateType,
    /// Who asks.
    pub task: TaskFlags,
}

impl SlowRequest {
    const fn is_costly(&self) -> bool {
        self.order.raw() > Order::COSTLY.raw()
    }

    const fn may_reclaim(&self) -> bool {
        self.gfp.contains(Gfp::DIRECT_RECLAIM)
    }

    const fn may_compact(&self) -> bool {
        self.may_reclaim() && self.gfp.contains(Gfp::IO)
    }

    /// Returns true if the task may ignore watermarks (Linux: __gfp_pfmemalloc_flags).
    pub const fn ignores_watermarks(&self) -> bool {
        !self.gfp.contains(Gfp::NOMEMALLOC)
            && (self.gfp.contains(Gfp::MEMALLOC) || self.task.contains(TaskFlags::MEMALLOC))
    }

    /// Returns true if the task may go below the min watermark by what it is (Linux: gfp_pfmemalloc_allowed).
    pub const fn has_reserves(&self) -> bool {
        self.ignores_watermarks() || self.task.contains(TaskFlags::OOM_VICTIM) && !self.gfp.contains(Gfp::NOMEMALLOC)
    }

    /// Costly requests likely have enough single pages; types that stick are better compacted than spread over pageblocks.
    fn compacts_first(&self) -> bool {
        let sticky = self.order > Order::ZERO && self.migratetype != MigrateType::Movable;
        self.may_compact() && (self.is_costly() || sticky) && !self.has_reserves()
    }
}

/// Where the path stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlowState {
    step: SlowStep,
    /// Compaction before any reclaim has had its turn.
    compacted_first: bool,
    priority: CompactPriority,
    reclaim_helped: bool,
}

impl SlowState {
    /// Starts the path.
    pub const START: Self = Self {
        step: SlowStep::TryMinWatermark,
        compacted_first: false,
        priority: CompactPriority::SyncLight,
        reclaim_helped: false,
    };

    /// Returns what to do.
    pub const fn step(&self) -> SlowStep {
        self.step
    }

    /// Returns how hard compaction tries behind reclaim.
    pub const fn compact_priority(&self) -> CompactPriority {
        self.priority
    }

    /// Returns whether the last reclaim freed pages.
    pub const fn reclaim_helped(&self) -> bool {
        self.reclaim_helped
    }

    /// Returns the state after the current step ended with `outcome`.
    #[must_use]
    pub fn after(self, request: &SlowRequest, outcome: Outcome) -> Self {
        let mut next = self;
        next.step = match self.step {
            SlowStep::TryMinWatermark if request.compacts_first() => SlowStep::Compact(CompactPriority::Async),
            SlowStep::TryMinWatermark => SlowStep::TryReserves,
            SlowStep::Compact(_) if !self.compacted_first && request.compacts_first() => {
                next.compacted_first = true;
                next.after_first_compaction(request, outcome)
            }
            SlowStep::TryReserves => Self::after_reserves(request),
            SlowStep::Reclaim => {
                next.reclaim_helped = outcome == Outcome::Reclaimed(true);
                SlowStep::Compact(self.priority)
            }
            SlowStep::Compact(_) => Self::after_both(request),
            SlowStep::JudgeReclaim if outcome == Outcome::Worthwhile => SlowStep::TryReserves,
            SlowStep::JudgeReclaim if self.reclaim_helped && request.may_compact() => SlowStep::JudgeCompaction,
            SlowStep::JudgeReclaim => SlowStep::Kill,
            SlowStep::JudgeCompaction => match outcome {
                Outcome::Worthwhile => SlowStep::TryReserves,
                Outcome::WorthwhileAt(priority) => {
                    next.priority = priority;
                    SlowStep::TryReserves
                }
                _ => SlowStep::Kill,
            },
            // It had its part of the reserves, and must not go round for ever.
            SlowStep::Kill if request.task.contains(TaskFlags::OOM_VICTIM) && !request.ignores_watermarks() => {
                Self::give_up(request)
            }
            SlowStep::Kill if outcome == Outcome::Worthwhile => SlowStep::TryReserves,
            SlowStep::Kill => Self::give_up(request),
            SlowStep::TryNofailReserve if outcome == Outcome::Hopeless => SlowStep::Fail,
            SlowStep::TryNofailReserve => SlowStep::TryReserves,
            SlowStep::Fail => SlowStep::Fail,
        };
        // The first compaction is skipped for requests that do not compact first.
        next.compacted_first |= next.step == SlowStep::TryReserves;
        next
    }

    fn after_first_compaction(&mut self, request: &SlowRequest, outcome: Outcome) -> SlowStep {
        if !(request.is_costly() && request.gfp.contains(Gfp::NORETRY)) {
            return SlowStep::TryReserves;
        }
        if matches!(outcome, Outcome::Compacted(Compaction::Skipped | Compaction::Deferred)) {
            return Self::give_up(request);
        }
        // Such a request reclaims once, but does not wait in compaction.
        self.priority = CompactPriority::Async;
        SlowStep::TryReserves
    }

    fn after_reserves(request: &SlowRequest) -> SlowStep {
        if !request.may_reclaim() || request.task.contains(TaskFlags::MEMALLOC) {
            return Self::give_up(request);
        }
        SlowStep::Reclaim
    }

    fn after_both(request: &SlowRequest) -> SlowStep {
        let insists = request.gfp.contains(Gfp::RETRY_MAYFAIL) && request.may_compact();
        if request.gfp.contains(Gfp::NORETRY) || request.is_costly() && !insists {
            return Self::give_up(request);
        }
        SlowStep::JudgeReclaim
    }

    const fn give_up(request: &SlowRequest) -> SlowStep {
        if request.gfp.contains(Gfp::NOFAIL) && request.may_reclaim() {
            SlowStep::TryNofailReserve
        } else {
            SlowStep::Fail
        }
    }
}

#[cfg(test)]
#[path = "slow_step_tests.rs"]
mod tests;
