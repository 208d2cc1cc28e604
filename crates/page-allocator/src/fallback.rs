//! Taking memory of another migratetype when the wanted one has none left.
//!
//! First a whole pageblock is claimed, beginning with those that have the largest free blocks; where none may change its type, the smallest
//! block of another type is stolen, which leaves large ones whole.
//! Linux 6.12 as of its stable releases (6.12.0 stole from the largest block): `__rmqueue_claim`, `__rmqueue_steal`, `find_suitable_fallback`,
//! `try_to_steal_block`, `boost_watermark`.

use frame_table::{FreeBlock, PageFlags, PageType};
use units::{MigrateType, Order, Pfn, PfnRange};

use crate::alloc_flags::AllocFlags;
use crate::buddy::{ListEnd, LockedZone, Placement};
use crate::layout::boosted;
use crate::trace::ExtFrag;
use crate::zone::{Watermark, ZoneFlags};

/// Whose memory to take first when a type's own is used up; isolated, CMA and atomic memory is never taken.
const fn fallback_order(migratetype: MigrateType) -> [MigrateType; 2] {
    match migratetype {
        MigrateType::Movable => [MigrateType::Reclaimable, MigrateType::Unmovable],
        MigrateType::Reclaimable => [MigrateType::Unmovable, MigrateType::Movable],
        _ => [MigrateType::Reclaimable, MigrateType::Movable],
    }
}

/// Settings of the machine that fallback obeys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FallbackPolicy {
    /// False where memory is too small to keep types apart (Linux: page_group_by_mobility_disabled).
    pub(crate) group_by_mobility: bool,
    /// vm.watermark_boost_factor.
    pub(crate) watermark_boost_factor: u64,
}

/// A block of another type that may be taken.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    order: Order,
    migratetype: MigrateType,
}

/// Where the last block of a batch was found; the search for the next one begins there, since the lists do not change in between
/// (Linux: enum rmqueue_mode).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Found {
    /// On the wanted type's own lists, or nowhere yet.
    Own,
    /// In CMA memory.
    Cma,
    /// On another type's lists, without its pageblock.
    Stolen,
}

impl LockedZone<'_> {
    /// Claims a pageblock of another type for the wanted one, and takes a block of it.
    pub(crate) fn claim(
        &mut self,
        order: Order,
        wanted: MigrateType,
        flags: AllocFlags,
        policy: FallbackPolicy,
    ) -> Option<FreeBlock> {
        let geometry = self.map.geometry;
        let lowest = if flags.contains(AllocFlags::NOFRAGMENT) { order.max(geometry.pageblock_order) } else { order };
        for current in lowest.through(geometry.max_order).rev() {
            let Some(candidate) = self.fallback_at(current, wanted) else { continue };
            if !self.may_claim(current, wanted, policy) {
                break;
            }
            if let Some(block) = self.claim_candidate(candidate, order, wanted, flags, policy) {
                self.report_fallback(&block, candidate, order, wanted);
                return Some(block);
            }
        }
        None
    }

    /// Takes the smallest block of another type; its pageblock, and what is left of it, keep that type.
    pub(crate) fn steal(&mut self, order: Order, wanted: MigrateType) -> Option<FreeBlock> {
        let mut orders = order.through(self.map.geometry.max_order);
        let candidate = orders.find_map(|current| self.fallback_at(current, wanted))?;
        let block = self.take_and_expand(candidate, order)?;
        self.report_fallback(&block, candidate, order, wanted);
        Some(block)
    }

    fn report_fallback(&self, block: &FreeBlock, candidate: Candidate, order: Order, wanted: MigrateType) {
        if let Some(listener) = self.listener {
            listener.mm_page_alloc_extfrag(ExtFrag {
                pfn: block.pfn(),
                alloc_order: order,
                fallback_order: candidate.order,
                alloc_migratetype: wanted,
                fallback_migratetype: candidate.migratetype,
                change_ownership: self.map.pageblocks.get(block.pfn()) == wanted,
            });
        }
    }

    fn fallback_at(&self, order: Order, wanted: MigrateType) -> Option<Candidate> {
        fallback_order(wanted)
            .into_iter()
            .find(|&migratetype| self.zone.orders_with(migratetype) >> order.raw() & 1 == 1)
            .map(|migratetype| Candidate { order, migratetype })
    }

    /// Returns true if taking a block of `order` justifies taking its pageblock (Linux: can_steal_fallback).
    fn may_claim(&self, order: Order, wanted: MigrateType, policy: FallbackPolicy) -> bool {
        order.raw() >= self.map.geometry.pageblock_order.raw() / 2
            || matches!(wanted, MigrateType::Reclaimable | MigrateType::Unmovable)
            || !policy.group_by_mobility
    }

    fn claim_candidate(
        &mut self,
        candidate: Candidate,
        order: Order,
        wanted: MigrateType,
        flags: AllocFlags,
        policy: FallbackPolicy,
    ) -> Option<FreeBlock> {
        if candidate.order >= self.map.geometry.pageblock_order {
            return self.claim_large(candidate, order, wanted);
        }
        if self.boost_watermark(policy.watermark_boost_factor) && flags.contains(AllocFlags::KSWAPD) {
            // The next allocation from this zone acts on it.
            self.zone.set_flags(ZoneFlags::BOOSTED);
        }
        let pfn = self.list(candidate.order, candidate.migratetype).blocks.front(&self.map.frames)?;
        let claimed = self.claim_pageblock(pfn, candidate.migratetype, wanted, policy);
        if claimed { self.take_smallest(order, wanted) } else { None }
    }

    /// Takes a block that covers whole pageblocks, and gives them the wanted type.
    fn claim_large(&mut self, candidate: Candidate, order: Order, wanted: MigrateType) -> Option<FreeBlock> {
        let block = self.remove_first(candidate.order, candidate.migratetype)?;
        self.zone.account_free(candidate.migratetype, -(candidate.order.nr_pages() as i64));
        self.map.pageblocks.set_range(PfnRange::with_len(block.pfn(), candidate.order.nr_pages()), wanted);
        let block = self.expand(block, order, wanted);
        self.zone.account_free(wanted, (candidate.order.nr_pages() - order.nr_pages()) as i64);
        Some(block)
    }

    /// Takes a block and leaves its remainder, and its pageblock, with their type.
    fn take_and_expand(&mut self, candidate: Candidate, order: Order) -> Option<FreeBlock> {
        let block = self.remove_first(candidate.order, candidate.migratetype)?;
        let block = self.expand(block, order, candidate.migratetype);
        self.zone.account_free(candidate.migratetype, -(order.nr_pages() as i64));
        Some(block)
    }

    /// Gives a pageblock the wanted type if at least half of it is free or already holds such memory.
    fn claim_pageblock(&mut self, pfn: Pfn, from: MigrateType, wanted: MigrateType, policy: FallbackPolicy) -> bool {
        let Some(range) = self.whole_pageblock(pfn) else { return false };
        let (free, movable) = self.count_pageblock(range);
        let alike = if wanted == MigrateType::Movable {
            movable
        } else if from == MigrateType::Movable {
            range.nr_pages() - free - movable
        } else {
            // Reclaimable against unmovable: what is allocated there cannot be told apart.
            0
        };
        if free + alike < range.nr_pages() / 2 && policy.group_by_mobility {
            return false;
        }
        self.move_free_blocks(range, from, wanted);
        self.map.pageblocks.set(pfn, wanted);
        true
    }

    /// Returns the pageblock around `pfn` if all of it lies in the zone.
    pub(crate) fn whole_pageblock(&self, pfn: Pfn) -> Option<PfnRange> {
        let range = self.map.pageblock_in(pfn, self.zone.span());
        (range.nr_pages() == self.map.geometry.pageblock_pages()).then_some(range)
    }

    /// Counts free pages, and allocated pages that can be moved (on an LRU list), of a pageblock.
    fn count_pageblock(&self, range: PfnRange) -> (u64, u64) {
        let (mut free, mut movable, mut pfn) = (0, 0, range.start);
        while pfn < range.end {
            let frame = self.map.frames.get(pfn);
            let step = match frame.and_then(|frame| frame.page_type()) {
                Some((PageType::Buddy, order)) => {
                    free += order.nr_pages();
                    order.nr_pages()
                }
                // Its flags are those of its last owner.
                Some((PageType::Pcp, order)) => order.nr_pages(),
                _ => {
                    movable += u64::from(frame.is_some_and(|frame| frame.flags().contains(PageFlags::LRU)));
                    1
                }
            };
            pfn = pfn.add(step);
        }
        (free, movable)
    }

    /// Moves every free block of a pageblock to the list of another type (Linux: move_freepages). Returns the pages moved.
    pub(crate) fn move_free_blocks(&mut self, range: PfnRange, from: MigrateType, to: MigrateType) -> u64 {
        let (mut moved, mut pfn) = (0, range.start);
        while pfn < range.end {
            let found = self.map.frames.get(pfn).and_then(|frame| frame.page_type());
            let Some((PageType::Buddy, order)) = found else {
                pfn = pfn.add(1);
                continue;
            };
            if let Some(block) = self.remove(pfn, order, from) {
                self.insert(block, to, ListEnd::Tail);
                self.zone.account_free(from, -(order.nr_pages() as i64));
                self.zone.account_free(to, order.nr_pages() as i64);
                moved += order.nr_pages();
            }
            pfn = pfn.add(order.nr_pages());
        }
        moved
    }

    /// Cuts free blocks that reach beyond a pageblock down to it, so that its free pages can change their type alone.
    pub(crate) fn cut_to_pageblock(&mut self, start: Pfn, migratetype: MigrateType) {
        let pageblock_order = self.map.geometry.pageblock_order;
        let Some(above) = pageblock_order.up() else { return };
        for order in above.through(self.map.geometry.max_order) {
            let head = start.align_down(order.nr_pages());
            let head_type = self.map.pageblocks.get(head);
            let Some(block) = self.remove(head, order, head_type) else { continue };
            debug_assert!(head_type == migratetype || head_type.is_mergeable(), "a large free block has one type");
            self.list_pieces(block, migratetype, pageblock_order);
        }
    }

    fn list_pieces(&mut self, block: FreeBlock, migratetype: MigrateType, order: Order) {
        let (lower, upper) = block.split();
        for piece in [Some(lower), upper].into_iter().flatten() {
            if piece.order() > order {
                self.list_pieces(piece, migratetype, order);
            } else {
                self.insert(piece, migratetype, ListEnd::Tail);
            }
        }
    }

    /// Merges a wholly free pageblock, whose type just changed, with free neighbours of types that it may mix with.
    pub(crate) fn merge_pageblock(&mut self, start: Pfn, migratetype: MigrateType) {
        let order = self.map.geometry.pageblock_order;
        if order == self.map.geometry.max_order || migratetype == MigrateType::Isolate {
            return;
        }
        if let Some(block) = self.remove(start, order, migratetype) {
            self.zone.account_free(migratetype, -(order.nr_pages() as i64));
            self.free_block(block, migratetype, Placement::Tail);
        }
    }

    /// Raises the watermarks by a pageblock, so that kswapd makes room and fallbacks stay rare. Returns true if it did.
    ///
    /// Zones of fewer than four pageblocks are left alone: the boost could take all they have.
    fn boost_watermark(&self, factor: u64) -> bool {
        let block_pages = self.map.geometry.pageblock_pages();
        if factor == 0 || block_pages * 4 > self.zone.managed() {
            return false;
        }
        let high = self.zone.plain_watermark(Watermark::High);
        let Some(boost) = boosted(self.zone.boost(), high, factor, block_pages) else { return false };
        self.zone.set_boost(boost);
        true
    }
}
