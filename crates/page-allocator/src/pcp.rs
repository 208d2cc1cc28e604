//! The per-CPU lists in front of a zone.
//!
//! One set per CPU and populated zone. Lists by migratetype for orders up to the costly order, and two for pageblock-sized blocks
//! (movable and not). Locking: the set is inside an `OwnerCell`; refills and drains take the zone lock inside that section.
//! Linux 6.12: `struct per_cpu_pages`, `rmqueue_bulk`, `free_pcppages_bulk`.

use frame_table::{FrameTable, FreeBlock, OwnedBlock, PageType};
use units::{MigrateType, Order};

use crate::alloc_flags::AllocFlags;
use crate::buddy::{LockedZone, Placement};
use crate::fallback::{FallbackPolicy, Found};
use crate::geometry::Geometry;
use crate::pcp_index::{LISTS, list_of_pages, list_order};
use crate::pcp_list::PcpList;
use crate::pcp_rules::{FreeHigh, PcpCounters};
use crate::zone::ZoneEvents;

/// One CPU's set for one zone.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct PcpLists {
    /// First, so that a list is found by its number alone.
    lists: [PcpList; LISTS],
    pub(crate) counters: PcpCounters,
    /// Counts of the general path; `freed` follows from the others.
    pub(crate) events: ZoneEvents,
    /// Pages that came from the zone.
    filled: u64,
    /// Pages that went back to the zone.
    drained: u64,
    idle: Idle,
}

/// How long a set of another node's zone has not been used.
#[derive(Clone, Copy, Debug)]
struct Idle {
    /// Pages allocated and freed up to the last interval.
    used: u64,
    /// Intervals until a batch goes back (Linux: expire).
    left: u8,
}

/// Intervals without use after which a batch goes back.
const IDLE_INTERVALS: u8 = 3;

impl PcpLists {
    pub(crate) const fn new(counters: PcpCounters) -> Self {
        Self {
            counters,
            events: ZoneEvents {
                allocated: 0,
                freed: 0,
                numa_hit: 0,
                numa_miss: 0,
                numa_foreign: 0,
                numa_local: 0,
                numa_other: 0,
            },
            filled: 0,
            drained: 0,
            idle: Idle { used: 0, left: 0 },
            lists: [PcpList::EMPTY; LISTS],
        }
    }

    /// Takes the first page of a type's list for an owner, on the short way, and counts it as a hit of the wanted node.
    #[inline(always)]
    pub(crate) fn take_page(&mut self, frames: &FrameTable, migratetype: MigrateType) -> Option<OwnedBlock> {
        self.take(frames, list_of_pages(migratetype), Order::ZERO)
    }

    /// Puts an owner's page at the head of one of the lists of pages, on the short way; gives it back if `index` is none of those or the list
    /// has to be settled first. The caller counts it.
    #[inline(always)]
    pub(crate) fn put_page(&mut self, index: usize, page: OwnedBlock) -> Option<OwnedBlock> {
        let Some(list) = self.lists[..MigrateType::PCP_COUNT].get_mut(index) else { return Some(page) };
        list.put(page)
    }

    /// As [`PcpLists::put_page`], one of many: linked at once, since the magazine would be full soon.
    #[inline]
    pub(crate) fn link_page(&mut self, frames: &FrameTable, index: usize, page: OwnedBlock) -> Option<OwnedBlock> {
        let Some(list) = self.lists[..MigrateType::PCP_COUNT].get_mut(index) else { return Some(page) };
        list.link(frames, page)
    }

    /// Takes the first block of a list for an owner, on the short way, and counts it as a hit of the wanted node.
    #[inline(always)]
    pub(crate) fn take(&mut self, frames: &FrameTable, index: usize, order: Order) -> Option<OwnedBlock> {
        let (list, counters) = (self.lists.get_mut(index)?, &mut self.counters);
        list.take(frames, order, || {
            counters.note_removed(order.nr_pages() as u32);
            counters.note_alloc();
        })
    }

    /// Puts an owner's block that is not compound at the head of a list, on the short way; gives it back if there is no such list or it has to be
    /// settled first. The caller counts it.
    #[inline(always)]
    pub(crate) fn put(&mut self, index: usize, block: OwnedBlock) -> Option<OwnedBlock> {
        let Some(list) = self.lists.get_mut(index) else { return Some(block) };
        list.put(block)
    }

    /// Makes room for [`PcpLists::put`].
    pub(crate) fn settle(&mut self, frames: &FrameTable, index: usize) {
        if let Some(list) = self.lists.get_mut(index) {
            list.settle(frames);
        }
    }

    /// Links all blocks of all lists, so that descriptors say where they are.
    pub(crate) fn settle_all(&mut self, frames: &FrameTable) {
        self.lists.iter_mut().for_each(|list| list.settle(frames));
    }

    /// Counts a freed block that was put on a list; returns whether frees of high orders empty the set.
    #[inline(always)]
    pub(crate) fn note_free(&mut self, order: Order) -> FreeHigh {
        self.counters.note_free(order)
    }

    /// Returns all event counts; `local` says whether the CPU is on the zone's node.
    pub(crate) fn events(&self, geometry: &Geometry, local: bool) -> ZoneEvents {
        let mut events = self.events;
        // What lies here came from the zone or was freed here, and what is gone was allocated or went back.
        let gone = |events: &ZoneEvents| events.allocated + self.drained + u64::from(self.counters.count());
        for (index, list) in self.lists.iter().enumerate() {
            events.allocated += list.taken << list_order(geometry, index).raw();
            events.numa_hit += list.taken;
            let by_distance = if local { &mut events.numa_local } else { &mut events.numa_other };
            *by_distance += list.taken;
        }
        events.freed = gone(&events) - self.filled;
        events
    }

    /// Lets a vmstat interval end for a set of another node's zone; returns the pages to give back, a batch at every third interval without use.
    ///
    /// Giving back is a use too: the rest goes later (Linux: the part of refresh_cpu_vm_stats behind `expire`).
    pub(crate) fn end_idle_interval(&mut self, geometry: &Geometry) -> u32 {
        let events = self.events(geometry, false);
        let used = events.allocated + events.freed;
        if used != self.idle.used {
            self.idle = Idle { used, left: IDLE_INTERVALS };
        }
        if self.idle.left == 0 || self.counters.count() == 0 {
            return 0;
        }
        self.idle.left -= 1;
        if self.idle.left > 0 {
            return 0;
        }
        self.idle.left = IDLE_INTERVALS;
        self.counters.count().min(self.counters.limits.batch)
    }

    /// Takes the first block of a list.
    #[inline]
    pub(crate) fn pop(&mut self, frames: &FrameTable, index: usize, order: Order) -> Option<FreeBlock> {
        let block = self.lists[index].pop(frames, order)?;
        self.counters.note_removed(order.nr_pages() as u32);
        Some(block)
    }

    /// Puts a block at the head of a list; the caller counts it through [`PcpLists::note_free`].
    #[inline]
    pub(crate) fn push(&mut self, frames: &FrameTable, index: usize, block: FreeBlock) {
        self.lists[index].push(frames, block);
    }

    /// Puts a block at the tail of a list and counts it.
    pub(crate) fn push_back(&mut self, frames: &FrameTable, index: usize, block: FreeBlock) {
        self.filled += block.order().nr_pages();
        self.counters.note_added(block.order().nr_pages() as u32);
        self.lists[index].push_back(frames, block);
    }

    /// Takes up to `blocks` blocks from the zone to the tail of a list, in the order in which the zone gives them.
    #[expect(clippy::too_many_arguments, reason = "what to take, where from, and by which rules")]
    pub(crate) fn refill(
        &mut self,
        zone: &mut LockedZone<'_>,
        index: usize,
        blocks: u32,
        order: Order,
        migratetype: MigrateType,
        flags: AllocFlags,
        policy: FallbackPolicy,
    ) {
        let frames = &zone.map.frames;
        let (mut left, mut found) = (blocks, Found::Own);
        while left > 0 {
            // Whose turn it is between CMA and the type's own memory is asked for each block.
            if found == Found::Own && (!flags.contains(AllocFlags::CMA) || zone.zone.free_cma() == 0) {
                let taken = zone.take_smallest_many(order, migratetype, left, self.lists[index].linked());
                self.filled += u64::from(taken) << order.raw();
                self.counters.note_added(taken << order.raw());
                left -= taken;
                if left == 0 {
                    break;
                }
            }
            let Some(block) = zone.take(order, migratetype, flags, policy, &mut found) else { break };
            self.push_back(frames, index, block);
            left -= 1;
        }
    }

    /// Gives up to `nr_pages` pages back to the zone, from the tails of the lists in turn, starting with list `first`.
    ///
    /// A list is emptied, or the count reached, before the next one has its turn.
    pub(crate) fn drain(&mut self, zone: &mut LockedZone<'_>, nr_pages: u32, first: usize) {
        let mut left = nr_pages.min(self.counters.count());
        let (frames, geometry) = (&zone.map.frames, zone.map.geometry);
        for index in (first..LISTS).chain(0..first) {
            if left == 0 {
                break;
            }
            let list = &mut self.lists[index];
            if list.is_empty() {
                continue;
            }
            list.settle(frames);
            let order = list_order(&geometry, index);
            let size = order.nr_pages() as u32;
            let taken = list.linked().take_back(frames, PageType::Pcp, order, left.div_ceil(size), |block| {
                let (pfn, migratetype) = (block.pfn(), zone.map.pageblocks.get(block.pfn()));
                zone.free_block(block, migratetype, Placement::ByLikelyMerge);
                if let Some(listener) = zone.listener {
                    listener.mm_page_pcpu_drain(pfn, order, migratetype);
                }
            });
            self.counters.note_removed(taken * size);
            self.drained += u64::from(taken * size);
            left = left.saturating_sub(taken * size);
        }
    }

    /// Checks lists and count against each other.
    ///
    /// # Errors
    /// The rule that is broken.
    pub(crate) fn check(&self, frames: &FrameTable, geometry: &Geometry) -> Result<(), &'static str> {
        let mut count = 0;
        for (index, list) in self.lists.iter().enumerate() {
            let order = list_order(geometry, index);
            count += list.check(frames, order).map_err(|(_, rule)| rule)? * order.nr_pages();
        }
        if count == u64::from(self.counters.count()) { Ok(()) } else { Err("a set's count is the sum of its lists") }
    }
}
