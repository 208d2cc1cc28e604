//! The buddy lists of one zone, under its lock: adding, removing, splitting and merging blocks.
//!
//! Linux 6.12: `__free_one_page`, `__rmqueue_smallest`, `expand`, `page_is_buddy`, `buddy_merge_likely`.

use frame_table::{FrameList, FreeBlock, PageType};
use sync::{Cpu, SpinGuard, rank};
use units::{MigrateType, Order, Pfn};

use crate::alloc_flags::AllocFlags;
use crate::fallback::{FallbackPolicy, Found};
use crate::frame_map::FrameMap;
use crate::gates::Gates;
use crate::trace::Tracepoints;
use crate::zone::{FreeList, FreeLists, Zone, ZoneEvents};

/// End of a free list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ListEnd {
    Head,
    Tail,
}

/// Where a freed block goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Placement {
    /// To the tail if its merge one order up is likely, else to the head.
    ByLikelyMerge,
    /// To the tail: boot memory and hot-added memory (Linux: FPI_TO_TAIL).
    Tail,
}

/// A zone whose lock is held.
pub(crate) struct LockedZone<'a> {
    pub(crate) zone: &'a Zone,
    pub(crate) map: &'a FrameMap,
    gates: &'a Gates,
    /// Who is told what happens to the lists.
    pub(crate) listener: Option<&'a dyn Tracepoints>,
    lists: SpinGuard<'a, { rank::ZONE }, FreeLists>,
}

impl<'a> LockedZone<'a> {
    #[inline]
    pub(crate) fn lock(
        zone: &'a Zone,
        map: &'a FrameMap,
        gates: &'a Gates,
        listener: Option<&'a dyn Tracepoints>,
        cpu: &'a Cpu,
    ) -> Self {
        Self { zone, map, gates, listener, lists: zone.lists.lock(cpu) }
    }

    /// Event counts of the paths that bypass the per-CPU lists.
    pub(crate) fn events(&mut self) -> &mut ZoneEvents {
        &mut self.lists.direct
    }

    /// Counts a block that was handed out on the short way: a hit of the wanted node.
    #[inline(always)]
    pub(crate) fn count_hit(&mut self, order: Order, local: bool) {
        let events = &mut self.lists.direct;
        events.allocated += order.nr_pages();
        events.numa_hit += 1;
        let by_distance = if local { &mut events.numa_local } else { &mut events.numa_other };
        *by_distance += 1;
    }

    pub(crate) fn list(&self, order: Order, migratetype: MigrateType) -> &FreeList {
        &self.lists.areas[order.index()][migratetype.index()]
    }

    /// Adds a block to a list without counting it.
    #[inline]
    pub(crate) fn insert(&mut self, block: FreeBlock, migratetype: MigrateType, end: ListEnd) {
        let order = block.order();
        let list = &mut self.lists.areas[order.index()][migratetype.index()];
        match end {
            ListEnd::Head => list.blocks.push_front(&self.map.frames, block, PageType::Buddy),
            ListEnd::Tail => list.blocks.push_back(&self.map.frames, block, PageType::Buddy),
        }
        list.nr_free += 1;
        self.zone.note_list(order, migratetype, true);
    }

    /// Takes a given free block off the list of `migratetype` without counting it.
    #[inline(always)]
    pub(crate) fn remove(&mut self, pfn: Pfn, order: Order, migratetype: MigrateType) -> Option<FreeBlock> {
        let list = &mut self.lists.areas[order.index()][migratetype.index()];
        let block = list.blocks.remove(&self.map.frames, pfn, PageType::Buddy, order)?;
        list.nr_free -= 1;
        self.zone.note_list(order, migratetype, !list.blocks.is_empty());
        Some(block)
    }

    /// Takes the first block of a list without counting it.
    #[inline]
    pub(crate) fn remove_first(&mut self, order: Order, migratetype: MigrateType) -> Option<FreeBlock> {
        let list = &mut self.lists.areas[order.index()][migratetype.index()];
        let block = list.blocks.pop_front(&self.map.frames, PageType::Buddy, order)?;
        list.nr_free -= 1;
        self.zone.note_list(order, migratetype, !list.blocks.is_empty());
        Some(block)
    }

    /// Returns the buddy of a block if it is free, whole, and in this zone.
    #[inline(always)]
    pub(crate) fn free_buddy(&self, pfn: Pfn, order: Order) -> Option<Pfn> {
        let buddy = pfn.buddy(order);
        let frame = self.map.frames.get(buddy)?;
        (frame.is(PageType::Buddy, order) && frame.place() == self.zone.place()).then_some(buddy)
    }

    /// Frees a block: merges it with its free buddies as far as they go, and lists the result.
    ///
    /// `migratetype` is the type of the block's pageblock. Merging is apart: most blocks find no buddy, and what follows from the order is
    /// then computed once where many blocks of one order are freed in a row.
    #[inline(always)]
    pub(crate) fn free_block(&mut self, block: FreeBlock, migratetype: MigrateType, placement: Placement) {
        let order = block.order();
        self.zone.account_free(migratetype, order.nr_pages() as i64);
        if order < self.map.geometry.max_order
            && let Some(buddy) = self.free_buddy(block.pfn(), order)
        {
            self.merge_and_list(block, buddy, migratetype, placement);
        } else {
            self.list_freed(block, migratetype, placement);
        }
    }

    /// Lists a block that does not merge any further.
    #[inline(always)]
    fn list_freed(&mut self, block: FreeBlock, migratetype: MigrateType, placement: Placement) {
        let end = match placement {
            Placement::Tail => ListEnd::Tail,
            Placement::ByLikelyMerge if self.is_merge_likely(block.pfn(), block.order()) => ListEnd::Tail,
            Placement::ByLikelyMerge => ListEnd::Head,
        };
        self.insert(block, migratetype, end);
    }

    /// Merges a block with its free buddy, and on as far as it goes, and lists the result.
    #[inline(never)]
    fn merge_and_list(&mut self, block: FreeBlock, buddy: Pfn, migratetype: MigrateType, placement: Placement) {
        let (mut block, mut buddy) = (block, Some(buddy));
        while let Some(found) = buddy {
            match self.merge_with(block, found, migratetype) {
                Ok(merged) => block = merged,
                Err(unmerged) => {
                    block = unmerged;
                    break;
                }
            }
            let order = block.order();
            buddy = if order < self.map.geometry.max_order { self.free_buddy(block.pfn(), order) } else { None };
        }
        self.list_freed(block, migratetype, placement);
    }

    /// Joins a block with its free buddy if their types may mix; gives it back unchanged otherwise.
    #[inline(always)]
    fn merge_with(
        &mut self,
        block: FreeBlock,
        buddy_pfn: Pfn,
        migratetype: MigrateType,
    ) -> Result<FreeBlock, FreeBlock> {
        let order = block.order();
        // Below the pageblock size both lie in one pageblock and have its type.
        let buddy_type =
            if order < self.map.geometry.pageblock_order { migratetype } else { self.map.pageblocks.get(buddy_pfn) };
        if buddy_type != migratetype && !(migratetype.is_mergeable() && buddy_type.is_mergeable()) {
            return Err(block);
        }
        let Some(buddy) = self.remove(buddy_pfn, order, buddy_type) else { return Err(block) };
        if buddy_type != migratetype {
            // A later split lists the parts by the type of their pageblock.
            self.map.pageblocks.set_range(units::PfnRange::with_len(buddy_pfn, order.nr_pages()), migratetype);
        }
        block.join(buddy).map_err(|(block, buddy)| {
            debug_assert!(false, "a block and its buddy join");
            self.insert(buddy, migratetype, ListEnd::Head);
            block
        })
    }

    /// Guesses whether the block's buddy will be freed soon: the buddy of their union is free already.
    ///
    /// Such a block goes to the tail, where it is used last and may still merge.
    #[inline(always)]
    fn is_merge_likely(&self, pfn: Pfn, order: Order) -> bool {
        let Some(higher) = order.up() else { return false };
        higher < self.map.geometry.max_order && self.free_buddy(pfn.merged(order), higher).is_some()
    }

    /// Cuts a block down to `order` and lists the upper halves at the head.
    #[inline]
    pub(crate) fn expand(&mut self, block: FreeBlock, order: Order, migratetype: MigrateType) -> FreeBlock {
        let mut block = block;
        while block.order() > order {
            let (lower, upper) = block.split();
            block = lower;
            if let Some(upper) = upper {
                self.insert(upper, migratetype, ListEnd::Head);
            }
        }
        block
    }

    /// Returns the smallest order from `order` up that has a free block of this type.
    #[inline]
    fn smallest_order(&self, order: Order, migratetype: MigrateType) -> Option<Order> {
        let candidates = self.zone.orders_with(migratetype) >> order.raw();
        (candidates != 0).then(|| Order::new_truncate(order.raw() + candidates.trailing_zeros() as u8))
    }

    /// Moves up to `count` blocks to the tail of a per-CPU list, as that many calls of [`LockedZone::take_smallest`] would take them, in the
    /// same order and leaving the same lists; but moves blocks that lie in a row together, and cuts each larger block up once. Returns how
    /// many it took.
    pub(crate) fn take_smallest_many(
        &mut self,
        order: Order,
        migratetype: MigrateType,
        count: u32,
        list: &mut FrameList,
    ) -> u32 {
        let (mut taken, frames, listener) = (0, &self.map.frames, self.listener);
        let refill = crate::pcp_index::is_kept_per_cpu(&self.map.geometry, order, migratetype);
        let note = |pfn: Pfn| {
            if let Some(listener) = listener {
                listener.mm_page_alloc_zone_locked(pfn, order, migratetype, refill);
            }
        };
        while taken < count {
            let Some(current) = self.smallest_order(order, migratetype) else { break };
            if current == order {
                let from = &mut self.lists.areas[order.index()][migratetype.index()];
                let kinds = [PageType::Buddy, PageType::Pcp];
                let moved = from.blocks.move_front_to(list, frames, order, kinds, count - taken, note);
                from.nr_free -= moved;
                self.zone.note_list(order, migratetype, !from.blocks.is_empty());
                if moved == 0 {
                    break;
                }
                taken += moved;
                continue;
            }
            let Some(block) = self.remove_first(current, migratetype) else { break };
            taken += list.push_back_cut(frames, block, order, PageType::Pcp, count - taken, note, |piece| {
                self.insert(piece, migratetype, ListEnd::Head);
            });
        }
        self.zone.account_free(migratetype, -(i64::from(taken) << order.raw()));
        taken
    }

    /// Takes the smallest free block that covers `order`, splitting larger ones.
    ///
    /// Returns `None` when no list from `order` up has a block of this migratetype. Does not check watermarks.
    #[inline]
    pub(crate) fn take_smallest(&mut self, order: Order, migratetype: MigrateType) -> Option<FreeBlock> {
        let current = self.smallest_order(order, migratetype)?;
        let block = self.remove_first(current, migratetype)?;
        let block = self.expand(block, order, migratetype);
        self.zone.account_free(migratetype, -(order.nr_pages() as i64));
        if let Some(listener) = self.listener {
            let refill = crate::pcp_index::is_kept_per_cpu(&self.map.geometry, order, migratetype);
            listener.mm_page_alloc_zone_locked(block.pfn(), order, migratetype, refill);
        }
        Some(block)
    }
}

impl Drop for LockedZone<'_> {
    /// The lock is given up after this.
    #[inline]
    fn drop(&mut self) {
        self.gates.note(self.zone);
    }
}

impl LockedZone<'_> {
    /// Takes a block for a request: of its own type, of CMA memory if it may, and else of another type (Linux: `__rmqueue`).
    ///
    /// `found` is where the last block of the same batch was found.
    pub(crate) fn take(
        &mut self,
        order: Order,
        migratetype: MigrateType,
        flags: AllocFlags,
        policy: FallbackPolicy,
        found: &mut Found,
    ) -> Option<FreeBlock> {
        let cma = flags.contains(AllocFlags::CMA);
        // Keeps the use of CMA and ordinary memory in balance, so that CMA is not left over when memory gets short.
        if cma
            && self.zone.free_cma() > self.zone.free_pages() / 2
            && let Some(block) = self.take_smallest(order, MigrateType::Cma)
        {
            return Some(block);
        }
        if *found == Found::Own
            && let Some(block) = self.take_smallest(order, migratetype)
        {
            return Some(block);
        }
        if *found <= Found::Cma {
            if cma && let Some(block) = self.take_smallest(order, MigrateType::Cma) {
                *found = Found::Cma;
                return Some(block);
            }
            if let Some(block) = self.claim(order, migratetype, flags, policy) {
                // Its own lists have been filled up.
                *found = Found::Own;
                return Some(block);
            }
        }
        if flags.contains(AllocFlags::NOFRAGMENT) {
            return None;
        }
        let block = self.steal(order, migratetype)?;
        *found = Found::Stolen;
        Some(block)
    }
}
