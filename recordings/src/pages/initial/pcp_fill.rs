//! Contents of the per-CPU lists at the start.
//!
//! The ends of a list are known from the trace: blocks that it hands out without a refill stood next to the head, blocks that it
//! drains without having freed them stood at the tail. How many pages the set held follows from the count after the trace and
//! the flow through it. What is missing lies between head and tail of a list that was never seen empty, and consists of
//! frames that the trace never shows and whose use the scan could not tell (kind k: per-CPU pages have no flag).

use units::{CpuId, MigrateType, Order, Pfn, PfnRange};

use super::super::free_map::FreeMap;
use super::super::pcp_list::PcpList;
use super::super::present::present_ranges;
use super::super::snapshot::Snapshot;
use super::super::{PageKind, PfnKinds};
use super::first_events::{FirstEvent, FirstEvents};
use super::shadow_lists::{ShadowList, ShadowOutcome};

/// One per-CPU page set at the start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InitialPageSet {
    /// CPU that the set belongs to.
    pub cpu: CpuId,
    /// Index of the zone in [`Snapshot::zones`].
    pub zone: usize,
    /// Pages above which the lists are drained.
    pub high: u64,
    /// Pages that the set should hold, by the count after the trace and the flow.
    pub wanted: u64,
    /// Blocks of each list ([`PcpList`]), head first.
    pub lists: Vec<Vec<Pfn>>,
}

impl InitialPageSet {
    /// Returns the pages in the lists.
    pub fn nr_pages(&self, pageblock_order: Order) -> u64 {
        let pages = |(list, blocks): (PcpList, &Vec<Pfn>)| blocks.len() as u64 * list.order(pageblock_order).nr_pages();
        PcpList::all().zip(&self.lists).map(pages).sum()
    }
}

/// Lists that take the missing pages, the likeliest first.
const FILL_TYPES: [MigrateType; 3] = [MigrateType::Movable, MigrateType::Unmovable, MigrateType::Reclaimable];

/// Returns the page sets of all CPUs and zones.
pub(super) fn page_sets(
    before: &Snapshot,
    after: &Snapshot,
    shadow: &ShadowOutcome,
    spare: &mut SpareFrames,
    nr_cpus: usize,
) -> Vec<InitialPageSet> {
    let mut sets = Vec::new();
    for cpu in (0..nr_cpus as u64).filter_map(CpuId::try_new) {
        for (zone, snapshot) in before.zones.iter().enumerate() {
            let number = cpu.index() * before.zones.len() + zone;
            let zone_after = after.zone(snapshot.node, snapshot.zone);
            let count_after = zone_after.and_then(|zone| zone.pageset(cpu)).map_or(0, |set| set.count);
            let net = shadow.net.get(number).copied().unwrap_or(0);
            let first = number * PcpList::COUNT;
            let lists = shadow.lists.get(first..first + PcpList::COUNT).unwrap_or_default();
            let mut set = InitialPageSet {
                cpu,
                zone,
                high: snapshot.pageset(cpu).map_or(0, |set| set.high),
                wanted: count_after.saturating_add_signed(-net),
                lists: lists.iter().map(|list| list.head.clone()).collect(),
            };
            fill(&mut set, lists, before, spare);
            sets.push(set);
        }
    }
    sets
}

/// Puts the missing pages and then the drained ones behind each list's head.
fn fill(set: &mut InitialPageSet, shadow: &[ShadowList], before: &Snapshot, spare: &mut SpareFrames) {
    let pageblock_order = before.pageblock_order;
    let known = |list: &ShadowList| list.head.len() + list.drained.len();
    let pages =
        PcpList::all().zip(shadow).map(|(list, shadow)| known(shadow) as u64 * list.order(pageblock_order).nr_pages());
    let mut missing = set.wanted.saturating_sub(pages.sum());
    let span = before.zones.get(set.zone).map_or(PfnRange::default(), |zone| zone.span);
    let open = FILL_TYPES.into_iter().filter_map(|migrate_type| {
        let list = PcpList::of(Order::ZERO, migrate_type, pageblock_order)?;
        shadow.get(list.index()).is_some_and(|shadow| !shadow.emptied).then_some((migrate_type, list))
    });
    let open: Vec<(MigrateType, PcpList)> = open.collect();
    let mut filler: Vec<(PcpList, Vec<Pfn>)> = Vec::new();
    for (migrate_type, list) in open {
        let found = spare.take(span, Some(migrate_type), missing);
        missing -= found.len() as u64;
        filler.push((list, found));
    }
    // Too few frames of the right types: the count of the set matters more than where its pages come from. They go to the middle,
    // where they stay longest.
    if let Some((_, pages)) = filler.first_mut() {
        let found = spare.take(span, None, missing);
        let middle = pages.len() / 2;
        pages.splice(middle..middle, found);
    }
    for (list, pages) in filler {
        if let Some(blocks) = set.lists.get_mut(list.index()) {
            blocks.extend(pages);
        }
    }
    for (blocks, shadow) in set.lists.iter_mut().zip(shadow) {
        blocks.extend(shadow.drained.iter().rev());
    }
}

/// Frames that may have been on a per-CPU list: of no known use, and never in the trace.
#[derive(Debug)]
pub(super) struct SpareFrames {
    frames: FreeMap,
    types: Vec<MigrateType>,
    pageblock_order: Order,
}

impl SpareFrames {
    pub(super) fn new(kinds: &PfnKinds, first: &FirstEvents, types: &[MigrateType], snapshot: &Snapshot) -> Self {
        let mut frames = FreeMap::new(snapshot.end());
        let present = present_ranges(snapshot, kinds);
        let unknown = kinds.ranges(PageKind::Kernel);
        for range in unknown.flat_map(|unknown| present.iter().map(move |present| unknown.intersection(present.frames)))
        {
            for pfn in range.iter().filter(|pfn| first.first(*pfn) == FirstEvent::None) {
                frames.insert(PfnRange::with_len(pfn, 1));
            }
        }
        Self { frames, types: types.to_vec(), pageblock_order: snapshot.pageblock_order }
    }

    /// Takes up to `nr_pages` frames of `span` out of pageblocks of `migrate_type`, or of any type, lowest first.
    fn take(&mut self, span: PfnRange, migrate_type: Option<MigrateType>, nr_pages: u64) -> Vec<Pfn> {
        let limit = usize::try_from(nr_pages).unwrap_or(usize::MAX);
        let of_type = |pfn: &Pfn| {
            let index = usize::try_from(pfn.raw() >> self.pageblock_order.raw()).ok();
            let found = index.and_then(|index| self.types.get(index).copied());
            migrate_type.is_none() || found == migrate_type
        };
        let runs = self.frames.runs(span);
        let found: Vec<Pfn> = runs.into_iter().flat_map(PfnRange::iter).filter(of_type).take(limit).collect();
        for pfn in &found {
            self.frames.remove(PfnRange::with_len(*pfn, 1));
        }
        found
    }
}
