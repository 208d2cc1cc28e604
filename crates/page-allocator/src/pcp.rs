//! The per-CPU lists in front of a zone.
//!
//! One set per CPU and populated zone. Lists by migratetype for orders up to the costly order, and two for pageblock-sized blocks
//! (movable and not). Locking: the set is inside an `OwnerCell`; refills and drains take the zone lock inside that section.
//! Linux 6.12: `struct per_cpu_pages`, `rmqueue_bulk`, `free_pcppages_bulk`, `order_to_pindex`.

use frame_table::{FrameList, FrameTable, FreeBlock, PageType};
use units::{MigrateType, Order};

use crate::alloc_flags::AllocFlags;
use crate::buddy::{LockedZone, Placement};
use crate::fallback::FallbackPolicy;
use crate::geometry::Geometry;
use crate::pcp_rules::PcpCounters;
use crate::zone::ZoneEvents;

const LOW_ORDER_LISTS: usize = MigrateType::PCP_COUNT * (Order::COSTLY.index() + 1);
/// Lists of a set: three types by four orders, and two of the pageblock order.
pub(crate) const LISTS: usize = LOW_ORDER_LISTS + 2;

/// Returns the list of a block, or `None` if such blocks are not kept per CPU.
#[inline]
pub(crate) fn list_index(geometry: &Geometry, order: Order, migratetype: MigrateType) -> Option<usize> {
    if migratetype.index() >= MigrateType::PCP_COUNT {
        None
    } else if order <= Order::COSTLY {
        Some(MigrateType::PCP_COUNT * order.index() + migratetype.index())
    } else if order == geometry.pageblock_order {
        Some(LOW_ORDER_LISTS + usize::from(migratetype == MigrateType::Movable))
    } else {
        None
    }
}

/// Returns the order of a list's blocks.
const fn list_order(geometry: &Geometry, index: usize) -> Order {
    if index < LOW_ORDER_LISTS {
        Order::new_truncate((index / MigrateType::PCP_COUNT) as u8)
    } else {
        geometry.pageblock_order
    }
}

/// One CPU's set for one zone.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct PcpLists {
    pub(crate) counters: PcpCounters,
    pub(crate) events: ZoneEvents,
    lists: [FrameList; LISTS],
}

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
            lists: [FrameList::new(); LISTS],
        }
    }

    /// Takes the first block of a list.
    #[inline]
    pub(crate) fn pop(&mut self, frames: &FrameTable, index: usize, order: Order) -> Option<FreeBlock> {
        let block = self.lists[index].pop_front(frames, PageType::Pcp, order)?;
        self.counters.count -= order.nr_pages() as u32;
        Some(block)
    }

    /// Puts a block at the head of a list; the caller counts it through `PcpCounters::note_free`.
    #[inline]
    pub(crate) fn push(&mut self, frames: &FrameTable, index: usize, block: FreeBlock) {
        self.lists[index].push_front(frames, block, PageType::Pcp);
    }

    /// Puts a block at the tail of a list and counts it.
    pub(crate) fn push_back(&mut self, frames: &FrameTable, index: usize, block: FreeBlock) {
        self.counters.count += block.order().nr_pages() as u32;
        self.lists[index].push_back(frames, block, PageType::Pcp);
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
        let mut left = blocks;
        while left > 0 {
            // Whose turn it is between CMA and the type's own memory is asked for each block.
            if !flags.contains(AllocFlags::CMA) || zone.zone.free_cma() == 0 {
                left -= zone.take_smallest_many(order, migratetype, left, |block| self.push_back(frames, index, block));
                if left == 0 {
                    break;
                }
            }
            let Some(block) = zone.take(order, migratetype, flags, policy) else { break };
            self.push_back(frames, index, block);
            left -= 1;
        }
    }

    /// Gives up to `nr_pages` pages back to the zone, from the tails of the lists in turn, starting with list `first`.
    ///
    /// A list is emptied, or the count reached, before the next one has its turn.
    pub(crate) fn drain(&mut self, zone: &mut LockedZone<'_>, nr_pages: u32, first: usize) {
        let mut left = nr_pages.min(self.counters.count);
        let geometry = zone.map.geometry;
        let turns = (0..LISTS).map(|turn| (first + turn) % LISTS);
        for index in turns {
            let order = list_order(&geometry, index);
            let size = order.nr_pages() as u32;
            while left > 0 {
                let Some(block) = self.lists[index].pop_back(&zone.map.frames, PageType::Pcp, order) else { break };
                self.counters.count -= size;
                left = left.saturating_sub(size);
                block.clear_flags(&zone.map.frames);
                let (pfn, migratetype) = (block.pfn(), zone.map.pageblocks.get(block.pfn()));
                zone.free_block(block, migratetype, Placement::ByLikelyMerge);
                zone.trace().mm_page_pcpu_drain(pfn, order, migratetype);
            }
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
            list.check(frames, PageType::Pcp, order).map_err(|(_, rule)| rule)?;
            count += u64::from(list.len()) * order.nr_pages();
        }
        if count == u64::from(self.counters.count) { Ok(()) } else { Err("a set's count is the sum of its lists") }
    }
}
