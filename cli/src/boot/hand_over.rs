//! What the page allocator gets from memblock, zone by zone and at once, and the log's Memory: line about it.

use std::fmt;

use page_allocator::layout::boot_log::{self, MemoryFigures};
use units::{NodeId, Pfn, PfnRange, ZoneType};

use super::kernel_facts::{Architecture, FreedWhen, KernelFacts, MemoryLine, PAGE};
use super::zone_plan::ZonePlan;

/// Free memory at the hand-over.
pub(super) struct HandOver<'a> {
    plan: &'a ZonePlan,
    facts: &'a KernelFacts,
    free: Vec<PfnRange>,
}

impl<'a> HandOver<'a> {
    /// Takes memblock's free frames.
    pub(super) fn new(plan: &'a ZonePlan, facts: &'a KernelFacts, free: impl Iterator<Item = PfnRange>) -> Self {
        Self { plan, facts, free: free.collect() }
    }

    /// Returns the pages that a zone manages: what it was handed, deferred frames included, its contiguous areas, and what
    /// the kernel freed later, up to `until`.
    pub(super) fn managed(&self, node: NodeId, span: PfnRange, until: FreedWhen) -> u64 {
        let in_zone = |frames: PfnRange| self.pages_on(node, frames.intersection(span));
        let handed: u64 = self.free.iter().map(|&frames| in_zone(frames)).sum();
        let cma: u64 = self.facts.cma.iter().map(|&frames| in_zone(frames)).sum();
        let freed = self.facts.freed_later.iter().filter(|freed| {
            let in_time = until == FreedWhen::AfterWatermarks || freed.when == FreedWhen::BeforeWatermarks;
            in_time && in_zone(PfnRange::with_len(freed.at, 1)) == 1
        });
        handed + cma + freed.map(|freed| freed.nr_pages).sum::<u64>()
    }

    /// Counts the frames that are memory of the node; spans of nodes that interleave hold memory of others.
    fn pages_on(&self, node: NodeId, frames: PfnRange) -> u64 {
        let on_node = self.plan.ranges().filter(|range| range.node == node);
        on_node.map(|range| range.frames.intersection(frames).nr_pages()).sum()
    }

    fn freed_early(&self) -> u64 {
        let early = self.facts.freed_later.iter().filter(|freed| freed.when == FreedWhen::BeforeWatermarks);
        early.map(|freed| freed.nr_pages).sum()
    }

    fn handed(&self) -> u64 {
        self.free.iter().map(|frames| frames.nr_pages()).sum()
    }

    /// Returns the pages that are free right after the hand-over: those whose descriptors were not deferred.
    fn available(&self) -> u64 {
        let deferred = self.plan.first_deferred(self.facts);
        let end = |node: NodeId| {
            deferred.iter().find(|&&(deferring, _)| deferring == node).map_or(Pfn::new(u64::MAX), |&(_, first)| first)
        };
        let ready: u64 = self
            .plan
            .ranges()
            .map(|range| PfnRange::new(range.frames.start, range.frames.end.min(end(range.node))))
            .flat_map(|ready| self.free.iter().map(move |frames| frames.intersection(ready).nr_pages()))
            .sum();
        ready.saturating_sub(self.facts.early_tables)
    }

    /// Returns the free pages that the kernel does not map for good.
    fn high(&self) -> u64 {
        let spans = self.plan.zones().filter(|&(_, kind, _)| kind == ZoneType::HighMem).map(|(.., span)| span);
        spans.flat_map(|span| self.free.iter().map(move |frames| frames.intersection(span).nr_pages())).sum()
    }

    /// Writes the line as the kernel does.
    pub(super) fn write_memory(&self, log: &mut String) -> fmt::Result {
        let present = self.plan.present();
        let cma: u64 = self.facts.cma.iter().map(|area| area.nr_pages()).sum();
        let (available, freed) = match self.facts.memory_line {
            MemoryLine::AtHandOver => (self.available(), 0),
            MemoryLine::AfterInit(free) => (free, self.freed_early()),
        };
        let figures = MemoryFigures {
            available,
            present,
            image_sizes: &self.facts.image_sizes,
            reserved: present.saturating_sub(self.handed() + cma + freed),
            cma,
            highmem: (self.facts.architecture == Architecture::I386).then(|| self.high()),
        };
        boot_log::write_memory(log, &figures, PAGE.page_shift)
    }
}
