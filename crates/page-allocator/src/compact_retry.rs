//! Is compaction worth another round? A pure rule over what the rounds so far brought.
//!
//! | last compaction | verdict |
//! |---|---|
//! | (order 0, or a task that is being killed) | give up |
//! | skipped | again if reclaim could make room for it in some zone, else give up |
//! | success, and the block was lost to others | again: 16 times, 4 times for a costly order, then as if it had failed |
//! | deferred, complete or incomplete | again with higher priority, if there is one; costly orders never wait for everything |
//!
//! Used by `slow_path`. Linux 6.12: `should_compact_retry`, `compaction_zonelist_suitable`, `compact_gap`.

use units::Order;

use crate::alloc_context::TaskFlags;
use crate::pressure::{CompactPriority, Compaction};

/// Rounds that ended in success without a block (Linux: MAX_COMPACT_RETRIES).
const MAX_RETRIES: u32 = 16;

/// What is known after a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CompactRound {
    /// Size of the request.
    pub order: Order,
    /// Who asks.
    pub task: TaskFlags,
    /// How the round ended.
    pub result: Compaction,
    /// How hard it tried.
    pub priority: CompactPriority,
    /// Rounds at this priority that ended in success before.
    pub retries: u32,
}

/// Whether a zone would have the free pages that compaction works with, if all its reclaimable pages were free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// Some zone would.
    AfterReclaim,
    /// None would.
    Nowhere,
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompactVerdict {
    /// Another round would not help.
    GiveUp,
    /// Another round; carries the successes that count against it.
    Again {
        /// Rounds that ended in success so far.
        retries: u32,
    },
    /// Another round that tries harder; no success counts against it yet.
    Harder(CompactPriority),
}

impl CompactRound {
    /// Judges the round; `room` is asked only if compaction was skipped.
    pub fn judge(&self, room: impl FnOnce() -> Room) -> CompactVerdict {
        let Self { order, task, result, priority, retries } = *self;
        if order == Order::ZERO || task.contains(TaskFlags::OOM_VICTIM) {
            return CompactVerdict::GiveUp;
        }
        if result == Compaction::Skipped {
            return match room() {
                Room::AfterReclaim => CompactVerdict::Again { retries },
                Room::Nowhere => CompactVerdict::GiveUp,
            };
        }
        let costly = order > Order::COSTLY;
        let limit = if costly { MAX_RETRIES / 4 } else { MAX_RETRIES };
        if result == Compaction::Success && retries < limit {
            return CompactVerdict::Again { retries: retries + 1 };
        }
        let hardest = if costly { CompactPriority::SyncLight } else { CompactPriority::SyncFull };
        match priority {
            _ if priority <= hardest => CompactVerdict::GiveUp,
            CompactPriority::Async => CompactVerdict::Harder(CompactPriority::SyncLight),
            CompactPriority::SyncLight | CompactPriority::SyncFull => CompactVerdict::Harder(CompactPriority::SyncFull),
        }
    }
}

/// Returns the free pages that compaction of an order needs beyond the watermark (Linux: compact_gap).
pub(crate) const fn compact_gap(order: Order) -> u64 {
    2 * order.nr_pages()
}

#[cfg(test)]
mod tests {
    use super::*;

    use CompactPriority::{Async, SyncFull, SyncLight};
    use CompactVerdict::{Again, GiveUp, Harder};
    use Compaction::{Complete, Deferred, Incomplete, Skipped, Success};

    fn round(order: u8, result: Compaction, priority: CompactPriority, retries: u32) -> CompactRound {
        CompactRound { order: Order::new_truncate(order), task: TaskFlags::empty(), result, priority, retries }
    }

    fn verdict(round: CompactRound) -> CompactVerdict {
        round.judge(|| Room::Nowhere)
    }

    #[test]
    fn every_row_of_the_table_holds() {
        let rows = [
            (round(0, Success, Async, 0), GiveUp),
            (round(2, Skipped, SyncLight, 0), GiveUp),
            (round(2, Success, SyncLight, 0), Again { retries: 1 }),
            (round(2, Success, SyncLight, 15), Again { retries: 16 }),
            (round(2, Success, SyncLight, 16), Harder(SyncFull)),
            (round(2, Success, SyncFull, 16), GiveUp),
            (round(9, Success, SyncLight, 3), Again { retries: 4 }),
            (round(9, Success, SyncLight, 4), GiveUp),
            (round(9, Success, Async, 4), Harder(SyncLight)),
            (round(2, Complete, Async, 0), Harder(SyncLight)),
            (round(2, Incomplete, SyncLight, 7), Harder(SyncFull)),
            (round(2, Deferred, SyncFull, 0), GiveUp),
            (round(9, Complete, SyncLight, 0), GiveUp),
            (round(9, Deferred, Async, 0), Harder(SyncLight)),
        ];
        for (round, expected) in rows {
            assert_eq!(verdict(round), expected, "{round:?}");
        }
    }

    #[test]
    fn a_skipped_round_waits_for_reclaim_to_make_room() {
        let skipped = round(3, Skipped, SyncLight, 5);
        assert_eq!(skipped.judge(|| Room::AfterReclaim), Again { retries: 5 });
        assert_eq!(skipped.judge(|| Room::Nowhere), GiveUp);
        let failed = round(3, Complete, SyncFull, 5);
        assert_eq!(failed.judge(|| unreachable!("room decides nothing here")), GiveUp);
    }

    #[test]
    fn a_task_that_is_being_killed_does_not_wait() {
        for result in [Skipped, Deferred, Complete, Incomplete, Success] {
            let dying = CompactRound { task: TaskFlags::OOM_VICTIM, ..round(2, result, Async, 0) };
            assert_eq!(dying.judge(|| Room::AfterReclaim), GiveUp);
        }
    }
}
