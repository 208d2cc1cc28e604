//! The demand of a recording, given to our allocator: who asks for what, and who gives which block back.
//!
//! Recorded frames are translated: an allocation's frames map to those of the block that we handed out for it. A frame without an
//! allocation in the trace was in use at the start, and is its own translation.

use frame_table::PageType;
use page_allocator::AllocRequest;
use recordings::pages::{Action, BulkPage, Event, GuidedReplay};
use sim::CpuGuard;
use units::{Gfp, MigrateType, NodeId, Order, Pfn};

use super::machine::ReplayAllocator;
use super::node_rule::NodeRule;

/// What became of the demand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct DemandCounts {
    /// Requests, without bulk ones.
    pub(super) allocations: u64,
    /// Requests that we did not serve.
    pub(super) failed: u64,
    /// Requests that the recorded kernel did not serve.
    pub(super) recorded_failed: u64,
    /// Requests that we did not serve and the recorded kernel did, by order.
    pub(super) failed_here_only: [u64; Order::COUNT],
    /// Requests for which we handed out the very block that the recorded kernel did.
    pub(super) same_pfn: u64,
    /// Pages of inferred bulk allocations.
    pub(super) bulk_pages: u64,
    /// Blocks given back.
    pub(super) frees: u64,
    /// Frees of frames that nobody holds here: the inference missed an allocation.
    pub(super) unmatched_frees: u64,
    /// Frees of blocks that we had not been able to hand out.
    pub(super) frees_of_failed: u64,
    /// Where requests were served, on a machine of several nodes.
    pub(super) by_node: NodeCounts,
}

/// Requests by the node that they were served from; all are zero on a machine of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct NodeCounts {
    /// Requests whose caller named another node than its CPU's.
    pub(super) named: u64,
    /// Requests that we served from another node than the CPU's.
    pub(super) remote: u64,
    /// Those that the recorded kernel did.
    pub(super) recorded_remote: u64,
    /// Requests that both served from the same node.
    pub(super) same_node: u64,
}

/// Where a recorded frame is here.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
struct Place(u32);

impl Place {
    /// In use since before the first event: at its own number.
    const AT_START: Self = Self(u32::MAX);
    /// Not in use.
    const FREED: Self = Self(u32::MAX - 1);
    /// In use there, but the request failed here.
    const FAILED: Self = Self(u32::MAX - 2);

    fn at(pfn: Pfn) -> Self {
        Self(u32::try_from(pfn.raw()).unwrap_or(Self::FAILED.0).min(Self::FAILED.0))
    }
}

/// Serves the demand.
pub(super) struct Demand<'a> {
    allocator: &'a ReplayAllocator,
    cpus: &'a [CpuGuard<'a>],
    places: Vec<Place>,
    rule: Option<NodeRule<'a>>,
    counts: DemandCounts,
}

/// Flags that change what a block holds or how its descriptors look, but not which block it is.
const CONTENTS: Gfp = Gfp::ZERO.union(Gfp::COMP);

impl<'a> Demand<'a> {
    pub(super) fn new(allocator: &'a ReplayAllocator, cpus: &'a [CpuGuard<'a>], end: Pfn) -> Self {
        let frames = usize::try_from(end.raw()).unwrap_or(usize::MAX);
        let places = vec![Place::AT_START; frames];
        Self { allocator, cpus, places, rule: None, counts: DemandCounts::default() }
    }

    /// Decides by `rule` which node a request asks for; without it every request asks for the CPU's own.
    #[must_use]
    pub(super) fn with_rule(self, rule: Option<NodeRule<'a>>) -> Self {
        Self { rule, ..self }
    }

    /// Returns the node of a recorded frame, if there are several.
    pub(super) fn node_of(&self, pfn: Pfn) -> Option<NodeId> {
        self.rule.as_ref()?.node_of(pfn)
    }

    pub(super) fn counts(&self) -> DemandCounts {
        self.counts
    }

    /// Gives one event to the allocator; what the recorded allocator did by itself is passed over. `lists` are the recorded free lists.
    #[inline]
    pub(super) fn serve(&mut self, event: &Event, lists: &GuidedReplay) {
        let Some(cpu) = self.cpus.get(event.cpu.index()) else { return };
        match event.action {
            Action::Alloc { pfn, order, gfp, .. } => {
                let request = AllocRequest::new(gfp - CONTENTS, order);
                let named = pfn.and_then(|pfn| self.named(lists, cpu, pfn, &request));
                self.alloc(cpu, pfn, &AllocRequest { node: named, ..request });
            }
            Action::Free { pfn, order, .. } => self.free(cpu, pfn, order),
            _ => {}
        }
    }

    fn named(&self, lists: &GuidedReplay, cpu: &CpuGuard<'_>, pfn: Pfn, request: &AllocRequest) -> Option<NodeId> {
        self.rule.as_ref()?.asked_for(lists, cpu.id(), pfn, request.order, request.gfp)
    }

    /// Serves pages of one node that one call took in bulk.
    pub(super) fn serve_bulk(&mut self, pages: &[BulkPage], lists: &GuidedReplay) {
        let Some(first) = pages.first() else { return };
        let Some(cpu) = self.cpus.get(first.cpu.index()) else { return };
        let gfp = match first.migrate_type {
            MigrateType::Movable => Gfp::HIGHUSER_MOVABLE,
            MigrateType::Reclaimable => Gfp::KERNEL | Gfp::RECLAIMABLE,
            _ => Gfp::KERNEL | Gfp::HIGHMEM,
        };
        let single = AllocRequest::new(gfp, Order::ZERO);
        if let Some(node) = self.named(lists, cpu, first.pfn, &single) {
            return self.serve_singly(cpu, pages, &single.on_node(node));
        }
        let mut recorded = pages.iter();
        let frames = &self.allocator.map().frames;
        let places = &mut self.places;
        let taken = self.allocator.alloc_bulk(cpu, gfp, pages.len() as u64, |block| {
            let place = Place::at(block.into_raw(frames));
            if let Some(page) = recorded.next() {
                set(places, page.pfn, place);
            }
        });
        self.counts.bulk_pages += taken;
    }

    /// Serves bulk pages of another node: a bulk request cannot name one here, and takes the same pages one by one.
    #[cold]
    fn serve_singly(&mut self, cpu: &CpuGuard<'_>, pages: &[BulkPage], request: &AllocRequest) {
        for page in pages {
            let Ok(block) = self.allocator.alloc_request(cpu, request) else { return };
            let place = Place::at(block.into_raw(&self.allocator.map().frames));
            set(&mut self.places, page.pfn, place);
            self.counts.bulk_pages += 1;
        }
    }

    #[inline]
    fn alloc(&mut self, cpu: &CpuGuard<'_>, recorded: Option<Pfn>, request: &AllocRequest) {
        let order = request.order;
        self.counts.allocations += 1;
        self.counts.recorded_failed += u64::from(recorded.is_none());
        let block = self.allocator.alloc_request(cpu, request);
        let Ok(block) = block else {
            self.counts.failed += 1;
            if let Some(pfn) = recorded {
                self.counts.failed_here_only[order.index()] += 1;
                self.place(pfn, order, |_| Place::FAILED);
            }
            return;
        };
        let Some(pfn) = recorded else {
            // The recorded kernel had nothing to give, so nobody holds what we gave.
            return self.allocator.free(cpu, block);
        };
        let ours = block.into_raw(&self.allocator.map().frames);
        self.counts.same_pfn += u64::from(ours == pfn);
        self.count_nodes(cpu, request, ours, pfn);
        self.place(pfn, order, |offset| Place::at(ours.add(offset)));
    }

    #[inline]
    fn count_nodes(&mut self, cpu: &CpuGuard<'_>, request: &AllocRequest, ours: Pfn, recorded: Pfn) {
        let Some(rule) = &self.rule else { return };
        let (own, here, there) = (Some(rule.own_node(cpu.id())), rule.node_of(ours), rule.node_of(recorded));
        let counts = &mut self.counts.by_node;
        counts.named += u64::from(request.node.is_some());
        counts.remote += u64::from(here != own);
        counts.recorded_remote += u64::from(there != own);
        counts.same_node += u64::from(here == there);
    }

    #[inline]
    fn free(&mut self, cpu: &CpuGuard<'_>, recorded: Pfn, order: Order) {
        self.counts.frees += 1;
        let place = self.places.get(recorded.raw() as usize).copied().unwrap_or(Place::FREED);
        match place {
            Place::FAILED => self.counts.frees_of_failed += 1,
            Place::FREED => self.counts.unmatched_frees += 1,
            Place::AT_START => self.free_from_start(cpu, recorded, order),
            Place(raw) => {
                let ours = Pfn::new(u64::from(raw));
                if self.allocator.free_raw(cpu, ours, order).is_err() {
                    self.free_part(cpu, ours, order);
                }
            }
        }
        self.place(recorded, order, |_| Place::FREED);
    }

    /// Frees a block that was in use at the start.
    #[cold]
    fn free_from_start(&mut self, cpu: &CpuGuard<'_>, pfn: Pfn, order: Order) {
        let loaded = self.allocator.load_allocated(pfn, order).is_ok();
        if !loaded || self.allocator.free_raw(cpu, pfn, order).is_err() {
            self.counts.unmatched_frees += 1;
        }
    }

    /// Frees part of a larger block, which is split for it.
    #[cold]
    fn free_part(&mut self, cpu: &CpuGuard<'_>, pfn: Pfn, order: Order) {
        let frames = &self.allocator.map().frames;
        let whole = order.through(Order::MAX).skip(1).find_map(|larger| {
            let head = pfn.align_down(larger.nr_pages());
            let found = frames.get(head).is_some_and(|frame| frame.is(PageType::Raw, larger));
            found.then_some((head, larger))
        });
        let Some(mut block) = whole.and_then(|(head, larger)| frames.adopt_raw(head, larger).ok()) else {
            self.counts.unmatched_frees += 1;
            return;
        };
        while block.order() > order {
            let (lower, upper) = block.split_half(frames);
            let Some(upper) = upper else {
                block = lower;
                break;
            };
            let (kept, rest) = if pfn >= upper.pfn() { (upper, lower) } else { (lower, upper) };
            rest.into_raw(frames);
            block = kept;
        }
        self.allocator.free(cpu, block);
    }

    #[inline]
    fn place(&mut self, pfn: Pfn, order: Order, place: impl Fn(u64) -> Place) {
        for offset in 0..order.nr_pages() {
            set(&mut self.places, pfn.add(offset), place(offset));
        }
    }
}

#[inline]
fn set(places: &mut [Place], pfn: Pfn, place: Place) {
    if let Some(slot) = places.get_mut(pfn.raw() as usize) {
        *slot = place;
    }
}
