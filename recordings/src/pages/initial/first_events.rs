//! First pass over a trace: what each frame's first event tells about its state before, and what type each pageblock had.
//!
//! A frame whose first event takes it off a buddy list was free; one whose first event is anything else was not. The type of
//! a pageblock is the migratetype of the first list operation in it (a block lies on the list of its pageblock's type, and is
//! drained to that list), or of an allocation that gets a page back right after it was freed: the free put it on the per-CPU list of
//! its pageblock's type, and the allocation took it from the list of the type it asked for.

use units::{MigrateType, Order, Pfn, PfnRange};

use super::super::event::{Action, Event};
use super::super::guided::pcp_holds;

/// What the first event of a frame was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub(super) enum FirstEvent {
    /// The frame does not appear.
    #[default]
    None,
    /// Taken off a buddy list: it was free.
    Taken,
    /// Handed out without being taken off a buddy list: it was on a per-CPU list.
    Allocated,
    /// Drained: it was on a per-CPU list.
    Drained,
    /// Freed: it was in use.
    Freed,
}

/// What the first pass finds.
#[derive(Debug)]
pub(super) struct FirstEvents {
    first: Vec<FirstEvent>,
    freed_last: Vec<bool>,
    types: Vec<Option<MigrateType>>,
    taken: Vec<Pfn>,
    last_take: Vec<Option<(Pfn, Order)>>,
    pageblock_order: Order,
}

impl FirstEvents {
    pub(super) fn new(end: Pfn, nr_cpus: usize, pageblock_order: Order) -> Self {
        let frames = usize::try_from(end.raw()).unwrap_or(usize::MAX);
        Self {
            first: vec![FirstEvent::None; frames],
            freed_last: vec![false; frames],
            types: vec![None; frames.div_ceil(1 << pageblock_order.raw())],
            taken: Vec::new(),
            last_take: vec![None; nr_cpus],
            pageblock_order,
        }
    }

    /// Takes in one event.
    pub(super) fn note(&mut self, event: &Event) {
        let cpu = event.cpu.index();
        match event.action {
            Action::ZoneLocked { pfn, order, migrate_type, .. } => {
                self.set_last_take(cpu, Some((pfn, order)));
                self.take(pfn, order, migrate_type);
            }
            Action::ExtFrag(fallback) => {
                let block = (fallback.pfn, fallback.alloc_order);
                self.set_types(fallback.pfn, fallback.fallback_order, fallback.fallback_type);
                if self.last_take.get(cpu) != Some(&Some(block)) {
                    self.take(block.0, block.1, fallback.fallback_type);
                }
                self.set_last_take(cpu, None);
            }
            Action::PcpuDrain { pfn, order, migrate_type } => {
                self.set_type(pfn, migrate_type);
                self.mark(pfn, order, FirstEvent::Drained, false);
            }
            Action::Alloc { pfn: Some(pfn), order, migrate_type, .. } => {
                let again = self.index(pfn).is_some_and(|index| self.freed_last.get(index) == Some(&true));
                if again && pcp_holds(order, self.pageblock_order) {
                    self.set_type(pfn, migrate_type);
                }
                self.mark(pfn, order, FirstEvent::Allocated, false);
            }
            Action::Free { pfn, order, .. } => self.mark(pfn, order, FirstEvent::Freed, true),
            _ => {}
        }
    }

    /// Returns what the first event of `pfn` was.
    pub(super) fn first(&self, pfn: Pfn) -> FirstEvent {
        self.index(pfn).and_then(|index| self.first.get(index).copied()).unwrap_or_default()
    }

    /// Iterates over the frames with an event, with what their first one was.
    pub(super) fn frames(&self) -> impl Iterator<Item = (Pfn, FirstEvent)> + '_ {
        let frames = (0u64..).map(Pfn::new).zip(self.first.iter().copied());
        frames.filter(|(_, first)| *first != FirstEvent::None)
    }

    /// Returns the type of each pageblock that the trace tells about.
    pub(super) fn types(&self) -> &[Option<MigrateType>] {
        &self.types
    }

    /// Returns the first frames of the blocks that were free at the start, in the order in which they were taken.
    pub(super) fn taken(&self) -> &[Pfn] {
        &self.taken
    }

    fn take(&mut self, pfn: Pfn, order: Order, migrate_type: MigrateType) {
        self.set_type(pfn, migrate_type);
        if self.first(pfn) == FirstEvent::None {
            self.taken.push(pfn);
        }
        self.mark(pfn, order, FirstEvent::Taken, false);
    }

    fn mark(&mut self, pfn: Pfn, order: Order, event: FirstEvent, freed: bool) {
        for pfn in PfnRange::with_len(pfn, order.nr_pages()).iter() {
            let Some(index) = self.index(pfn) else { return };
            if let Some(first) = self.first.get_mut(index)
                && *first == FirstEvent::None
            {
                *first = event;
            }
            if let Some(freed_last) = self.freed_last.get_mut(index) {
                *freed_last = freed;
            }
        }
    }

    fn set_type(&mut self, pfn: Pfn, migrate_type: MigrateType) {
        self.set_types(pfn, Order::ZERO, migrate_type);
    }

    /// Sets the type of each pageblock that the block covers, unless an earlier event told it.
    fn set_types(&mut self, pfn: Pfn, order: Order, migrate_type: MigrateType) {
        let shift = self.pageblock_order.raw();
        let Some(index) = self.index(pfn).map(|index| index >> shift) else { return };
        let covered = 1 << order.raw().saturating_sub(shift);
        for slot in self.types.iter_mut().skip(index).take(covered) {
            slot.get_or_insert(migrate_type);
        }
    }

    fn set_last_take(&mut self, cpu: usize, block: Option<(Pfn, Order)>) {
        if let Some(last) = self.last_take.get_mut(cpu) {
            *last = block;
        }
    }

    fn index(&self, pfn: Pfn) -> Option<usize> {
        usize::try_from(pfn.raw()).ok().filter(|index| *index < self.first.len())
    }
}
