//! Pageblocks held back for atomic allocations above order 0.
//!
//! At most 1 % of a zone, in whole pageblocks. Linux 6.12: `reserve_highatomic_pageblock`, `unreserve_highatomic_pageblock`.

use core::sync::atomic::Ordering;

use units::{MigrateType, Order, Pfn, PfnRange};

use crate::buddy::{ListEnd, LockedZone};

/// How far [`LockedZone::unreserve_highatomic`] may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unreserve {
    /// Keeps the last pageblock.
    KeepOne,
    /// Gives up the last pageblock too: nothing else is left.
    Last,
}

impl LockedZone<'_> {
    /// Reserves the pageblock of a block that an atomic allocation just took.
    pub(crate) fn reserve_highatomic(&mut self, pfn: Pfn, order: Order) {
        let block_pages = self.map.geometry.pageblock_pages();
        let share = self.zone.managed() / 100;
        if share < block_pages {
            return;
        }
        let limit = share.next_multiple_of(block_pages);
        let reserved = self.zone.reserved_highatomic();
        let from = self.map.pageblocks.get(pfn);
        if reserved >= limit || !from.is_mergeable() {
            return;
        }
        let pages = if order < self.map.geometry.pageblock_order {
            let Some(range) = self.whole_pageblock(pfn) else { return };
            self.move_free_blocks(range, from, MigrateType::HighAtomic);
            self.map.pageblocks.set(pfn, MigrateType::HighAtomic);
            block_pages
        } else {
            self.map.pageblocks.set_range(PfnRange::with_len(pfn, order.nr_pages()), MigrateType::HighAtomic);
            order.nr_pages()
        };
        // Relaxed: changes under the zone lock only.
        self.zone.reserved_highatomic.store(reserved + pages, Ordering::Relaxed);
    }

    /// Gives one reserved pageblock with free memory to `migratetype`. Returns true if that freed any page for it.
    pub(crate) fn unreserve_highatomic(&mut self, migratetype: MigrateType, how: Unreserve) -> bool {
        let reserved = self.zone.reserved_highatomic();
        let block_pages = self.map.geometry.pageblock_pages();
        if reserved == 0 || how == Unreserve::KeepOne && reserved <= block_pages {
            return false;
        }
        let orders = self.zone.orders_with(MigrateType::HighAtomic);
        for order in Order::ZERO.through(self.map.geometry.max_order).filter(|order| orders >> order.raw() & 1 == 1) {
            let Some(pfn) = self.list(order, MigrateType::HighAtomic).blocks.front(&self.map.frames) else { continue };
            let pages = order.nr_pages().max(block_pages);
            // Relaxed: changes under the zone lock only.
            self.zone.reserved_highatomic.store(reserved.saturating_sub(pages), Ordering::Relaxed);
            if self.give_pageblock(pfn, order, migratetype) > 0 {
                return true;
            }
        }
        false
    }

    /// Returns the pages that came free for `migratetype`.
    fn give_pageblock(&mut self, pfn: Pfn, order: Order, migratetype: MigrateType) -> u64 {
        if order < self.map.geometry.pageblock_order {
            let Some(range) = self.whole_pageblock(pfn) else { return 0 };
            self.map.pageblocks.set(pfn, migratetype);
            return self.move_free_blocks(range, MigrateType::HighAtomic, migratetype);
        }
        let Some(block) = self.remove(pfn, order, MigrateType::HighAtomic) else { return 0 };
        self.map.pageblocks.set_range(PfnRange::with_len(pfn, order.nr_pages()), migratetype);
        self.insert(block, migratetype, ListEnd::Tail);
        self.zone.account_free(MigrateType::HighAtomic, -(order.nr_pages() as i64));
        self.zone.account_free(migratetype, order.nr_pages() as i64);
        order.nr_pages()
    }
}
