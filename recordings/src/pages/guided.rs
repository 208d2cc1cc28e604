//! Guided replay: applies the recorded list operations themselves, which proves that a recording is understood.
//!
//! The rule is in data/README.md: Z takes a block off the buddy lists, D puts one on, a free of an order that no per-CPU list
//! holds puts its block on, and a fallback (X) takes its block off unless a Z of the same block came just before it on the
//! same CPU. The free frames that result must be those of the scan at the end, except where the scan itself is uncertain.
//!
//! Used by `mmkit replay --guided` and by tests. Linux 6.12: mm/page_alloc.c (`pcp_allowed_order`, `free_one_page`).

use units::{MAX_CPUS, Order, Pfn, PfnRange};

use super::event::{Action, Event};
use super::free_map::FreeMap;
use super::{PageKind, PfnKinds};

/// Largest of the small orders that per-CPU lists hold (Linux: PAGE_ALLOC_COSTLY_ORDER).
const PCP_SMALL_ORDER: Order = Order::COSTLY;

/// Returns true if per-CPU lists hold blocks of `order`.
#[inline]
pub fn pcp_holds(order: Order, pageblock_order: Order) -> bool {
    order <= PCP_SMALL_ORDER || order == pageblock_order
}

/// The buddy free map of the recorded kernel while its events are applied.
#[derive(Debug)]
pub struct GuidedReplay {
    map: FreeMap,
    touched: FreeMap,
    uncertain: FreeMap,
    last_take: Vec<Option<(Pfn, Order)>>,
    pageblock_order: Order,
    start_mono_ns: u64,
    last_scan_mono_ns: u64,
    counts: GuidedCounts,
    /// Zones whose free frames are counted.
    zones: Vec<(PfnRange, u64)>,
}

/// What was applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GuidedCounts {
    /// Events of any kind.
    pub events: u64,
    /// Blocks taken off the lists (Z, X).
    pub takes: u64,
    /// Blocks put on the lists (D, large frees).
    pub returns: u64,
    /// Takes of frames that an earlier event had left not free.
    pub inconsistent_takes: u64,
    /// Returns of frames that an earlier event had left free.
    pub inconsistent_returns: u64,
    /// Frames that the first scan showed in another state than their first event does.
    pub corrected_frames: u64,
}

/// How the free map at the end compares with the recorded one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GuidedOutcome {
    /// What was applied.
    pub counts: GuidedCounts,
    /// Free frames at the end, as replayed.
    pub free: u64,
    /// Free frames in the last scan.
    pub recorded_free: u64,
    /// Frames that the scan shows free and the replay does not, outside the scan's window.
    pub missing: u64,
    /// Frames that the replay shows free and the scan does not, outside the scan's window.
    pub extra: u64,
    /// Frames that differ, but changed while the scan ran or after it.
    pub excused: u64,
    /// The first few frames that differ outside the window.
    pub sample: Vec<Pfn>,
    /// The zones that were counted, in their order.
    pub zones: Vec<ZoneOutcome>,
}

/// How the free frames of one zone compare at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ZoneOutcome {
    /// Free frames, as replayed.
    pub free: u64,
    /// Free frames in the last scan.
    pub recorded_free: u64,
    /// Frames that differ outside the scan's window.
    pub off: u64,
}

impl GuidedOutcome {
    /// Returns the number of frames that differ outside the scan's window.
    pub fn off(&self) -> u64 {
        self.missing + self.extra
    }
}

impl GuidedReplay {
    /// Starts from the scan `before`; `after` gives the window in which frames are uncertain at the end.
    pub fn new(before: &PfnKinds, after: &PfnKinds, start_mono_ns: u64, pageblock_order: Order) -> Self {
        let mut map = FreeMap::new(before.end().max(after.end()));
        for range in before.ranges(PageKind::Free) {
            map.insert(range);
        }
        Self { start_mono_ns, last_scan_mono_ns: after.begin_mono_ns, ..Self::from_map(map, pageblock_order) }
    }

    /// Starts from `map`, the free frames at the first event.
    pub fn from_map(map: FreeMap, pageblock_order: Order) -> Self {
        let end = map.end();
        Self {
            map,
            touched: FreeMap::new(end),
            uncertain: FreeMap::new(end),
            last_take: vec![None; MAX_CPUS],
            pageblock_order,
            start_mono_ns: 0,
            last_scan_mono_ns: u64::MAX,
            counts: GuidedCounts::default(),
            zones: Vec::new(),
        }
    }

    /// Counts the free frames of each of these zones from now on.
    #[must_use]
    pub fn counting(mut self, zones: impl IntoIterator<Item = PfnRange>) -> Self {
        self.zones = zones.into_iter().map(|span| (span, self.map.count(span))).collect();
        self
    }

    /// Returns the free frames of a zone, by its number among those that are counted.
    pub fn free_of(&self, zone: usize) -> u64 {
        self.zones.get(zone).map_or(0, |(_, free)| *free)
    }

    /// Applies one event.
    #[inline]
    pub fn apply(&mut self, event: &Event) {
        self.counts.events += 1;
        match event.action {
            Action::ZoneLocked { pfn, order, .. } => {
                self.take(event, pfn, order);
                self.note_take(event, Some((pfn, order)));
            }
            Action::PcpuDrain { pfn, order, .. } => self.put(event, pfn, order),
            Action::Free { pfn, order, .. } if !pcp_holds(order, self.pageblock_order) => self.put(event, pfn, order),
            Action::ExtFrag(fallback) => {
                let block = (fallback.pfn, fallback.alloc_order);
                if self.last_take.get(event.cpu.index()) != Some(&Some(block)) {
                    self.take(event, block.0, block.1);
                }
                self.note_take(event, None);
            }
            _ => {}
        }
    }

    /// Returns what was applied so far.
    pub fn counts(&self) -> GuidedCounts {
        self.counts
    }

    /// Returns the free map as it stands.
    pub fn free_map(&self) -> &FreeMap {
        &self.map
    }

    /// Compares with the scan `after`.
    pub fn finish(&self, after: &PfnKinds) -> GuidedOutcome {
        let mut recorded = FreeMap::new(self.map.end());
        for range in after.ranges(PageKind::Free) {
            recorded.insert(range);
        }
        let all = PfnRange::new(Pfn::ZERO, self.map.end());
        let mut outcome = GuidedOutcome {
            counts: self.counts,
            free: self.map.count(all),
            recorded_free: recorded.count(all),
            missing: 0,
            extra: 0,
            excused: 0,
            sample: Vec::new(),
            zones: self.zones.iter().map(|(span, free)| zone_outcome(*span, *free, &recorded)).collect(),
        };
        for pfn in self.map.difference(&recorded) {
            let counter = match (self.uncertain.contains(pfn), recorded.contains(pfn)) {
                (true, _) => &mut outcome.excused,
                (false, true) => &mut outcome.missing,
                (false, false) => &mut outcome.extra,
            };
            *counter += 1;
            let zone = self.zones.iter().rposition(|(span, _)| span.contains(pfn));
            if let Some(zone) = zone.and_then(|zone| outcome.zones.get_mut(zone)) {
                zone.off += u64::from(!self.uncertain.contains(pfn));
            }
            if !self.uncertain.contains(pfn) && outcome.sample.len() < 6 {
                outcome.sample.push(pfn);
            }
        }
        outcome
    }

    fn take(&mut self, event: &Event, pfn: Pfn, order: Order) {
        let range = PfnRange::with_len(pfn, order.nr_pages());
        self.counts.takes += 1;
        let known = self.touched.insert(range) == 0;
        let removed = self.map.remove(range);
        if let Some(free) = self.counter(pfn) {
            *free = free.saturating_sub(removed);
        }
        let wrong = order.nr_pages() - removed;
        self.judge(wrong, known, |counts| &mut counts.inconsistent_takes);
        self.note_uncertain(event, range);
    }

    fn put(&mut self, event: &Event, pfn: Pfn, order: Order) {
        let range = PfnRange::with_len(pfn, order.nr_pages());
        self.counts.returns += 1;
        let known = self.touched.insert(range) == 0;
        let inserted = self.map.insert(range);
        if let Some(free) = self.counter(pfn) {
            *free += inserted;
        }
        let wrong = order.nr_pages() - inserted;
        self.judge(wrong, known, |counts| &mut counts.inconsistent_returns);
        self.note_uncertain(event, range);
    }

    #[inline]
    fn counter(&mut self, pfn: Pfn) -> Option<&mut u64> {
        self.zones.iter_mut().rfind(|(span, _)| span.contains(pfn)).map(|(_, free)| free)
    }

    /// A frame's state before its first event is only what the scan, which ran later, says: not the events' fault.
    fn judge(&mut self, wrong: u64, known: bool, counter: impl Fn(&mut GuidedCounts) -> &mut u64) {
        match (wrong, known) {
            (0, _) => {}
            (_, true) => *counter(&mut self.counts) += 1,
            (_, false) => self.counts.corrected_frames += wrong,
        }
    }

    fn note_uncertain(&mut self, event: &Event, range: PfnRange) {
        if self.start_mono_ns.saturating_add(event.time_ns) >= self.last_scan_mono_ns {
            self.uncertain.insert(range);
        }
    }

    fn note_take(&mut self, event: &Event, block: Option<(Pfn, Order)>) {
        if let Some(last) = self.last_take.get_mut(event.cpu.index()) {
            *last = block;
        }
    }
}

fn zone_outcome(span: PfnRange, free: u64, recorded: &FreeMap) -> ZoneOutcome {
    ZoneOutcome { free, recorded_free: recorded.count(span), off: 0 }
}

#[cfg(test)]
mod tests {
    use units::{CpuId, Gfp, MigrateType};

    use super::super::PageRun;
    use super::super::event::{Batch, Context, ExtFrag};
    use super::*;

    const PAGEBLOCK: Order = Order::new_truncate(9);

    fn scan(begin_mono_ns: u64, free: &[(u64, u64)]) -> PfnKinds {
        let run = |&(start, nr_pages): &(u64, u64)| PageRun {
            range: PfnRange::with_len(Pfn::new(start), nr_pages),
            kind: PageKind::Free,
        };
        let mut kinds =
            PfnKinds { begin_mono_ns, end_mono_ns: begin_mono_ns + 1, runs: free.iter().map(run).collect() };
        let range = PfnRange::new(kinds.end(), Pfn::new(4096));
        kinds.runs.push(PageRun { range, kind: PageKind::Kernel });
        kinds
    }

    fn event(action: Action) -> Event {
        Event { time_ns: 10, cpu: CpuId::ZERO, task: 1, context: Context::Task, action }
    }

    fn zone_locked(pfn: u64, order: u8) -> Event {
        let (pfn, order) = (Pfn::new(pfn), Order::new_truncate(order));
        event(Action::ZoneLocked { pfn, order, migrate_type: MigrateType::Movable, refill: true })
    }

    fn drained(pfn: u64, order: u8) -> Event {
        let (pfn, order) = (Pfn::new(pfn), Order::new_truncate(order));
        event(Action::PcpuDrain { pfn, order, migrate_type: MigrateType::Movable })
    }

    fn freed(pfn: u64, order: u8) -> Event {
        let (pfn, order) = (Pfn::new(pfn), Order::new_truncate(order));
        event(Action::Free { pfn, order, batch: Batch::Single })
    }

    fn fallback(pfn: u64, alloc_order: u8) -> Event {
        event(Action::ExtFrag(ExtFrag {
            pfn: Pfn::new(pfn),
            alloc_order: Order::new_truncate(alloc_order),
            fallback_order: PAGEBLOCK,
            alloc_type: MigrateType::Unmovable,
            fallback_type: MigrateType::Movable,
            change_ownership: true,
        }))
    }

    fn outcome(before: &PfnKinds, after: &PfnKinds, events: &[Event]) -> GuidedOutcome {
        let mut replay = GuidedReplay::new(before, after, 0, PAGEBLOCK);
        for event in events {
            replay.apply(event);
        }
        replay.finish(after)
    }

    #[test]
    fn takes_and_drains_lead_to_the_recorded_end() {
        let outcome = outcome(&scan(0, &[(0, 8)]), &scan(100, &[(4, 6)]), &[zone_locked(0, 2), drained(8, 1)]);
        assert_eq!((outcome.off(), outcome.free, outcome.recorded_free), (0, 6, 6));
        assert_eq!((outcome.counts.takes, outcome.counts.returns), (1, 1));
    }

    #[test]
    fn only_frees_that_no_per_cpu_list_holds_reach_the_buddy_lists() {
        let events = [freed(0, 3), freed(16, 4), freed(512, 9), freed(1024, 10)];
        let outcome = outcome(&scan(0, &[]), &scan(100, &[(16, 16), (1024, 1024)]), &events);
        assert_eq!(outcome.off(), 0);
    }

    #[test]
    fn a_fallback_takes_its_block_once() {
        let events = [zone_locked(0, 0), fallback(0, 0), fallback(4, 1)];
        let outcome = outcome(&scan(0, &[(0, 8)]), &scan(100, &[(1, 3), (6, 2)]), &events);
        assert_eq!((outcome.off(), outcome.counts.takes, outcome.counts.inconsistent_takes), (0, 2, 0));
    }

    #[test]
    fn taking_a_frame_twice_is_inconsistent() {
        let outcome = outcome(&scan(0, &[(0, 8)]), &scan(100, &[(1, 7)]), &[zone_locked(0, 0), zone_locked(0, 0)]);
        assert_eq!(outcome.counts.inconsistent_takes, 1);
    }

    #[test]
    fn the_first_event_of_a_frame_corrects_the_scan() {
        let outcome = outcome(&scan(0, &[]), &scan(100, &[]), &[zone_locked(0, 0)]);
        assert_eq!((outcome.counts.corrected_frames, outcome.counts.inconsistent_takes), (1, 0));
    }

    #[test]
    fn frames_that_change_during_the_last_scan_are_excused() {
        let outcome = outcome(&scan(0, &[(0, 8)]), &scan(10, &[(0, 8)]), &[zone_locked(0, 2)]);
        assert_eq!((outcome.off(), outcome.excused), (0, 4));
    }

    #[test]
    fn a_difference_without_cause_is_reported_with_its_frames() {
        let outcome = outcome(&scan(0, &[(0, 8)]), &scan(100, &[(2, 10)]), &[]);
        assert_eq!((outcome.missing, outcome.extra), (4, 2));
        assert_eq!(outcome.sample.first(), Some(&Pfn::ZERO));
    }

    #[test]
    fn requests_change_no_list() {
        let request = Action::Alloc {
            pfn: Some(Pfn::ZERO),
            order: Order::ZERO,
            gfp: Gfp::KERNEL,
            migrate_type: MigrateType::Unmovable,
        };
        let outcome = outcome(&scan(0, &[(0, 8)]), &scan(100, &[(0, 8)]), &[event(request)]);
        assert_eq!((outcome.off(), outcome.counts.takes), (0, 0));
    }
}
