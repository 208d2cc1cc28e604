//! State of a recorded machine's page allocator at the first event of its trace, inferred from everything the recording has.
//!
//! User space cannot see all of that state, so a simulated replay must infer it. Each part, with its source:
//!
//! * **Free frames.** The first scan of /proc/kpageflags lies a second or so inside the trace. A frame whose first event takes
//!   it off a buddy list was free at the start, one whose first event is any other was not; for the rest the scan holds.
//!   `first_events`
//! * **Free blocks** are the maximal aligned blocks of free frames, because the allocator merges whatever it can; their
//!   order in each list is the order in which the trace first takes from them. `free_lists`
//! * **Types of pageblocks** come from the first list operation in each, then from fitting pagetypeinfo's counts. `pageblock_types`
//! * **Bulk allocations** (alloc_pages_bulk) leave no event: they show as blocks that a per-CPU list skips. `shadow_lists`
//! * **Per-CPU lists**: heads and tails are known from the trace, lengths from the count after it and the flow; the middle is filled
//!   with frames that could have been there. `pcp_fill`
//! * **pcp high** of each page set is what /proc/zoneinfo said before the trace; batch-scaling state starts at rest.
//!
//! # The recorded kernel is 6.18, the reference is 6.12
//! Measured with a throwaway model of buddy lists and per-CPU lists under this state, both releases' rules:
//! * Emptying a page set because of frees of orders 1 to 3 (free_high) takes `free_count >= batch` in 6.12, and
//!   `free_count >= batch + high_min / 2` since 6.16. On these recordings the older rule drains 108,126 pages of cargo where the
//!   recorded kernel drained none (residual 0.17 instead of 0.00) and triples the drains of fork (1.78 instead of 0.06).
//! * Capping `free_count` at `batch << 5` changes fork's mean residual from 0.087 to 0.062, and nothing in cargo.
//! * Without the tail insertion of blocks that will likely merge, 69.9 % instead of 99.97 % of cargo's allocations get the
//!   recorded frame; the residuals do not show it.
//! * A kernel with CMA numbers Isolate 5; these traces come from one without, where it is 4.
//!
//! Nothing in here looks at what the recorded allocator decided later than needed for the state at the start, except the
//! order inside the free lists, which can be left out ([`ListOrder::Ascending`]).

mod first_events;
mod free_lists;
mod pageblock_types;
mod pcp_fill;
mod shadow_lists;
#[cfg(test)]
mod tests;

use units::{MigrateType, PfnRange};

pub use free_lists::{InitialBlock, ListOrder};
pub use pcp_fill::InitialPageSet;
pub use shadow_lists::BulkPage;

use self::first_events::{FirstEvent, FirstEvents};
use self::pcp_fill::SpareFrames;
use self::shadow_lists::ShadowLists;
use super::free_map::FreeMap;
use super::recording::Recording;
use super::snapshot::Snapshot;
use super::trace::TraceReader;
use super::{PageKind, PfnKinds};
use crate::input_error::InputError;

/// What a simulated replay loads before the first event, and the demand that has no event.
#[derive(Clone, Debug)]
pub struct InitialState {
    /// Free blocks, each list's head first.
    pub free_blocks: Vec<InitialBlock>,
    /// Type of each pageblock, by frame number divided by the pageblock size.
    pub pageblock_types: Vec<MigrateType>,
    /// Per-CPU page sets, by CPU and zone.
    pub page_sets: Vec<InitialPageSet>,
    /// Pages that alloc_pages_bulk took, in the order of time.
    pub bulk: Vec<BulkPage>,
}

/// Everything that the inference reads, apart from the events.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// /proc files from before the trace.
    pub before: Snapshot,
    /// /proc files from after the trace.
    pub after: Snapshot,
    /// The first scan of /proc/kpageflags.
    pub kinds: PfnKinds,
}

impl Surroundings {
    /// Reads them from a recording.
    ///
    /// # Errors
    /// A file is missing or is not what its format promises.
    pub fn read(recording: &Recording) -> Result<Self, InputError> {
        Ok(Self { before: recording.before()?, after: recording.after()?, kinds: recording.kinds_before()? })
    }
}

/// Page sets of the largest machine that is taken: 4,096 CPUs with 16 zones.
const MOST_PAGE_SETS: usize = 1 << 16;

impl InitialState {
    /// Infers the state from two passes over the events; `events` opens the trace for each.
    ///
    /// # Errors
    /// The trace is not what its format promises.
    pub fn infer(
        surroundings: &Surroundings,
        list_order: ListOrder,
        mut events: impl FnMut() -> Result<TraceReader, InputError>,
    ) -> Result<Self, InputError> {
        let Surroundings { before, after, kinds } = surroundings;
        let mut reader = events()?;
        let nr_cpus = reader.header().nr_cpus;
        if nr_cpus * before.zones.len() > MOST_PAGE_SETS {
            let found = format!("{nr_cpus} CPUs and {} zones", before.zones.len());
            return Err(reader.error(found, format!("at most {MOST_PAGE_SETS} per-CPU page sets")));
        }
        let mut first = FirstEvents::new(before.end(), nr_cpus, before.pageblock_order);
        while let Some(event) = reader.next_event()? {
            if let Some(pfn) = event.action.pfn().filter(|pfn| *pfn >= before.end()) {
                let expected = format!("a frame of the recorded machine, below {:x}", before.end());
                return Err(reader.error(format!("frame {pfn:x}"), expected));
            }
            first.note(&event);
        }
        let free = free_at_start(before, kinds, &first);
        let types = pageblock_types::fit_types(before, kinds, &free, first.types());

        let mut shadow = ShadowLists::new(before, &first, types.clone(), nr_cpus);
        let mut reader = events()?;
        while let Some(event) = reader.next_event()? {
            shadow.note(&event);
        }
        let shadow = shadow.finish();
        let mut spare = SpareFrames::new(kinds, &first, &types, before);
        Ok(Self {
            free_blocks: free_lists::free_lists(before, &free, &types, first.taken(), list_order),
            page_sets: pcp_fill::page_sets(before, after, &shadow, &mut spare, nr_cpus),
            pageblock_types: types,
            bulk: shadow.bulk,
        })
    }
}

fn free_at_start(before: &Snapshot, kinds: &PfnKinds, first: &FirstEvents) -> FreeMap {
    let mut free = FreeMap::new(before.end());
    for range in kinds.ranges(PageKind::Free) {
        free.insert(range);
    }
    for (pfn, event) in first.frames() {
        let frame = PfnRange::with_len(pfn, 1);
        match event {
            FirstEvent::Taken => free.insert(frame),
            _ => free.remove(frame),
        };
    }
    free
}
