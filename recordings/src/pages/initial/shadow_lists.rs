//! Second pass over a trace: the per-CPU lists, replayed from the recorded events, to see what events do not show.
//!
//! A free pushes its block on the head of a list, a refill appends to the tail, an allocation pops the head, a drain pops the
//! tail. Wherever the events disagree with that, something invisible happened:
//! * an allocated block that lies *below* others: those others were taken by alloc_pages_bulk, which has no event;
//! * a refill while blocks are left: likewise, since a list is refilled only when it is empty;
//! * an allocated block that was never put on the list: it was there at the start, next to the head;
//! * a drained one: it was there at the start, and was the last;
//! * a drain that goes on to a later list: the lists before it were empty.
//!
//! The event of an allocation is written after the block left the list, so a soft interrupt in between can swap two lines: a block that
//! was passed over and turns up in an allocation of its own was not taken in bulk.

use std::collections::{HashMap, VecDeque};

use units::{CpuId, MigrateType, Order, Pfn, PfnRange};

use super::super::event::{Action, Event};
use super::super::free_map::FreeMap;
use super::super::pcp_list::PcpList;
use super::super::snapshot::Snapshot;
use super::first_events::{FirstEvent, FirstEvents};

/// A page that alloc_pages_bulk took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BulkPage {
    /// Number of the event before which it was taken at the latest, counted from 0.
    pub event: u64,
    /// CPU that took it.
    pub cpu: CpuId,
    /// Migratetype of the request.
    pub migrate_type: MigrateType,
    /// The page.
    pub pfn: Pfn,
}

/// One list of one page set.
#[derive(Clone, Default, Debug)]
pub(super) struct ShadowList {
    /// Blocks put on the list since the start, head first.
    known: VecDeque<Pfn>,
    /// Blocks of the start next to the head, in list order.
    pub(super) head: Vec<Pfn>,
    /// Blocks of the start at the tail, in the order in which they were drained.
    pub(super) drained: Vec<Pfn>,
    /// True once the list was seen empty: nothing of the start is left.
    pub(super) emptied: bool,
}

/// A CPU's most recent list operations.
#[derive(Clone, Copy, Default, Debug)]
struct LastOperation {
    take: Option<(Pfn, Order)>,
    refill: Option<(usize, usize)>,
    drain: Option<(usize, PcpList)>,
}

/// The lists of every page set, and the flow of pages through each set.
#[derive(Debug)]
pub(super) struct ShadowLists<'a> {
    snapshot: &'a Snapshot,
    first: &'a FirstEvents,
    types: Vec<MigrateType>,
    lists: Vec<ShadowList>,
    net: Vec<i64>,
    listed: Vec<u32>,
    claimed: FreeMap,
    passed_over: HashMap<Pfn, BulkPage>,
    bulk: Vec<BulkPage>,
    last: Vec<LastOperation>,
    event: u64,
}

impl<'a> ShadowLists<'a> {
    /// Starts with lists whose contents are not known; `types` are the pageblocks' types at the start.
    pub(super) fn new(snapshot: &'a Snapshot, first: &'a FirstEvents, types: Vec<MigrateType>, nr_cpus: usize) -> Self {
        let sets = nr_cpus * snapshot.zones.len();
        let frames = usize::try_from(snapshot.end().raw()).unwrap_or(usize::MAX);
        Self {
            snapshot,
            first,
            types,
            lists: vec![ShadowList::default(); sets * PcpList::COUNT],
            net: vec![0; sets],
            listed: vec![0; frames],
            claimed: FreeMap::new(snapshot.end()),
            passed_over: HashMap::new(),
            bulk: Vec::new(),
            last: vec![LastOperation::default(); nr_cpus],
            event: 0,
        }
    }

    /// Takes in one event.
    pub(super) fn note(&mut self, event: &Event) {
        let cpu = event.cpu;
        let mut last = self.last.get(cpu.index()).copied().unwrap_or_default();
        match event.action {
            Action::ZoneLocked { pfn, order, migrate_type, .. } => {
                last.take = Some((pfn, order));
                last.drain = None;
                self.refill(cpu, pfn, order, migrate_type, &mut last);
            }
            Action::ExtFrag(fallback) => {
                if last.take != Some((fallback.pfn, fallback.alloc_order)) {
                    self.refill(cpu, fallback.pfn, fallback.alloc_order, fallback.alloc_type, &mut last);
                }
                last.take = None;
                if fallback.change_ownership {
                    self.change_types(fallback.pfn, fallback.fallback_order, fallback.alloc_type);
                }
            }
            Action::PcpuDrain { pfn, order, migrate_type } => {
                last.refill = None;
                self.drain(cpu, pfn, order, migrate_type, &mut last);
            }
            Action::Alloc { pfn: Some(pfn), order, migrate_type, .. } => {
                self.pop(cpu, pfn, order, migrate_type, last.take == Some((pfn, order)) && last.refill.is_none());
                last = LastOperation::default();
            }
            Action::Free { pfn, order, .. } => {
                self.push(cpu, pfn, order);
                last = LastOperation::default();
            }
            _ => {}
        }
        if let Some(slot) = self.last.get_mut(cpu.index()) {
            *slot = last;
        }
        self.event += 1;
    }

    /// Ends the pass: blocks that were passed over and never came back were taken in bulk.
    pub(super) fn finish(mut self) -> ShadowOutcome {
        self.bulk.extend(self.passed_over.drain().map(|(_, page)| page));
        self.bulk.sort_by_key(|page| (page.event, page.pfn));
        let mut bulk_taken = vec![0i64; self.net.len()];
        for page in &self.bulk {
            if let Some(count) = self.set_of(page.cpu, page.pfn).and_then(|set| bulk_taken.get_mut(set)) {
                *count += 1;
            }
        }
        let net = self.net.iter().zip(bulk_taken).map(|(net, bulk)| net - bulk).collect();
        ShadowOutcome { lists: self.lists, net, bulk: self.bulk }
    }

    fn push(&mut self, cpu: CpuId, pfn: Pfn, order: Order) {
        if let Some(page) = self.passed_over.remove(&pfn) {
            self.bulk.push(page);
        } else if self.unlist(pfn) {
            self.bulk.push(BulkPage { event: self.event, cpu, migrate_type: self.type_of(pfn), pfn });
        }
        let Some((set, list)) = self.list_of(cpu, pfn, order, self.type_of(pfn)) else { return };
        self.flow(set, order, 1);
        self.set_listed(pfn, Some((set, list)));
        if let Some(list) = self.list_mut(set, list) {
            list.known.push_front(pfn);
        }
    }

    /// `direct`: a block taken for this very request, which never was on the list.
    fn pop(&mut self, cpu: CpuId, pfn: Pfn, order: Order, migrate_type: MigrateType, direct: bool) {
        let Some((set, list)) = self.list_of(cpu, pfn, order, migrate_type) else { return };
        self.flow(set, order, -1);
        if self.passed_over.remove(&pfn).is_some() {
            return;
        }
        let here = self.is_listed(pfn, set, list);
        let from_start = !here && self.claim(pfn, order, FirstEvent::Allocated);
        if !here {
            self.unlist(pfn);
        }
        let Some(shadow) = self.list_mut(set, list) else { return };
        let depth = match (here, from_start && !shadow.emptied) {
            (true, _) => shadow.known.iter().position(|listed| *listed == pfn).unwrap_or(0),
            (false, true) => {
                shadow.head.push(pfn);
                shadow.known.len()
            }
            (false, false) => return,
        };
        if direct {
            shadow.known.remove(depth);
            self.set_listed(pfn, None);
            return;
        }
        let over: Vec<Pfn> = shadow.known.drain(..depth).collect();
        if here {
            shadow.known.pop_front();
            self.set_listed(pfn, None);
        }
        self.pass_over(cpu, list, over);
    }

    fn refill(&mut self, cpu: CpuId, pfn: Pfn, order: Order, migrate_type: MigrateType, last: &mut LastOperation) {
        let Some((set, list)) = self.list_of(cpu, pfn, order, migrate_type) else {
            last.refill = None;
            return;
        };
        self.flow(set, order, 1);
        self.unlist(pfn);
        self.set_listed(pfn, Some((set, list)));
        let number = set * PcpList::COUNT + list.index();
        let Some(shadow) = self.lists.get_mut(number) else { return };
        // A single block may have been taken past the list; from the second on it is a refill, and the list was empty before.
        let before = shadow.known.len();
        let over: Vec<Pfn> = match last.refill {
            Some((running, first)) if running == number => {
                last.refill = Some((number, 0));
                shadow.emptied |= true;
                shadow.known.drain(..first.min(before)).collect()
            }
            _ => {
                last.refill = None;
                Vec::new()
            }
        };
        shadow.known.push_back(pfn);
        if last.refill.is_none() {
            last.refill = Some((number, before));
        }
        self.pass_over(cpu, list, over);
    }

    fn drain(&mut self, cpu: CpuId, pfn: Pfn, order: Order, migrate_type: MigrateType, last: &mut LastOperation) {
        let Some((set, list)) = self.list_of(cpu, pfn, order, migrate_type) else { return };
        self.flow(set, order, -1);
        self.passed_over.remove(&pfn);
        if let Some((drained_set, drained)) = last.drain
            && drained_set == set
        {
            for empty in PcpList::all().filter(|empty| (drained..list).contains(empty)) {
                self.note_empty(cpu, set, empty);
            }
        }
        last.drain = Some((set, list));
        if self.unlist(pfn) || !self.claim(pfn, order, FirstEvent::Drained) {
            return;
        }
        if let Some(shadow) = self.list_mut(set, list)
            && !shadow.emptied
        {
            shadow.drained.push(pfn);
        }
    }

    /// Returns true, once, if `event` was the first of every frame of the block: it was on a list at the start.
    fn claim(&mut self, pfn: Pfn, order: Order, event: FirstEvent) -> bool {
        let block = PfnRange::with_len(pfn, order.nr_pages());
        let first = block.iter().all(|pfn| self.first.first(pfn) == event);
        first && self.claimed.count(block) == 0 && self.claimed.insert(block) > 0
    }

    fn note_empty(&mut self, cpu: CpuId, set: usize, list: PcpList) {
        let Some(shadow) = self.list_mut(set, list) else { return };
        shadow.emptied = true;
        let over: Vec<Pfn> = shadow.known.drain(..).collect();
        self.pass_over(cpu, list, over);
    }

    fn pass_over(&mut self, cpu: CpuId, list: PcpList, pages: Vec<Pfn>) {
        for pfn in pages {
            self.set_listed(pfn, None);
            let page = BulkPage { event: self.event, cpu, migrate_type: list.migrate_type(), pfn };
            if list.order(self.snapshot.pageblock_order) == Order::ZERO {
                self.passed_over.insert(pfn, page);
            }
        }
    }

    /// Takes `pfn` off whatever list it is on; returns true if it was on one.
    fn unlist(&mut self, pfn: Pfn) -> bool {
        let number = self.listed_number(pfn);
        let Some(shadow) = number.and_then(|number| self.lists.get_mut(number)) else { return false };
        // Drains take from the tail, so search from there.
        if let Some(at) = shadow.known.iter().rposition(|listed| *listed == pfn) {
            shadow.known.remove(at);
        }
        self.set_listed(pfn, None);
        true
    }

    fn change_types(&mut self, pfn: Pfn, order: Order, migrate_type: MigrateType) {
        let shift = self.snapshot.pageblock_order.raw();
        let blocks = 1 << order.raw().saturating_sub(shift);
        let start = usize::try_from(pfn.raw() >> shift).unwrap_or(usize::MAX);
        for block in self.types.iter_mut().skip(start).take(blocks) {
            *block = migrate_type;
        }
    }

    fn type_of(&self, pfn: Pfn) -> MigrateType {
        let block = usize::try_from(pfn.raw() >> self.snapshot.pageblock_order.raw()).ok();
        block.and_then(|block| self.types.get(block).copied()).unwrap_or(MigrateType::Movable)
    }

    fn set_of(&self, cpu: CpuId, pfn: Pfn) -> Option<usize> {
        Some(cpu.index() * self.snapshot.zones.len() + self.snapshot.zone_of(pfn)?)
    }

    fn list_of(&self, cpu: CpuId, pfn: Pfn, order: Order, migrate_type: MigrateType) -> Option<(usize, PcpList)> {
        let list = PcpList::of(order, migrate_type, self.snapshot.pageblock_order)?;
        Some((self.set_of(cpu, pfn)?, list))
    }

    fn list_mut(&mut self, set: usize, list: PcpList) -> Option<&mut ShadowList> {
        self.lists.get_mut(set * PcpList::COUNT + list.index())
    }

    fn flow(&mut self, set: usize, order: Order, sign: i64) {
        if let Some(net) = self.net.get_mut(set) {
            *net += sign << order.raw();
        }
    }

    fn listed_number(&self, pfn: Pfn) -> Option<usize> {
        let index = usize::try_from(pfn.raw()).ok()?;
        self.listed.get(index).and_then(|number| (*number as usize).checked_sub(1))
    }

    fn is_listed(&self, pfn: Pfn, set: usize, list: PcpList) -> bool {
        self.listed_number(pfn) == Some(set * PcpList::COUNT + list.index())
    }

    fn set_listed(&mut self, pfn: Pfn, place: Option<(usize, PcpList)>) {
        let number = place.and_then(|(set, list)| u32::try_from(set * PcpList::COUNT + list.index() + 1).ok());
        let slot = usize::try_from(pfn.raw()).ok().and_then(|index| self.listed.get_mut(index));
        if let Some(slot) = slot {
            *slot = number.unwrap_or(0);
        }
    }
}

/// What the second pass finds.
#[derive(Debug)]
pub(super) struct ShadowOutcome {
    /// The lists, [`PcpList::COUNT`] for each CPU and zone.
    pub(super) lists: Vec<ShadowList>,
    /// Pages that came to each page set during the trace, less those that left it.
    pub(super) net: Vec<i64>,
    /// Pages that alloc_pages_bulk took, by event.
    pub(super) bulk: Vec<BulkPage>,
}
