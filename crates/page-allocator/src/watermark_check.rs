//! May this zone give a block of this order now?
//!
//! Linux 6.12: `zone_watermark_fast`, `__zone_watermark_ok`, `__zone_watermark_unusable_free`, `zone_watermark_ok_safe`.

use units::{MigrateType, Order, ZoneType};

use crate::alloc_flags::AllocFlags;
use crate::zone::{Watermark, Zone};

impl Zone {
    /// Returns true if an allocation of `order` that accepts zones up to `highest` leaves more than `mark` pages.
    ///
    /// Free memory is counted exactly here, so Linux's `zone_watermark_ok_safe` is the same check.
    pub fn watermark_ok(&self, order: Order, mark: u64, highest: ZoneType, flags: AllocFlags) -> bool {
        self.watermark_holds_with(self.free_pages(), order, mark, highest, flags)
    }

    /// As [`Zone::watermark_ok`], as if `free` pages were free.
    pub(crate) fn watermark_holds_with(
        &self,
        free: u64,
        order: Order,
        mark: u64,
        highest: ZoneType,
        flags: AllocFlags,
    ) -> bool {
        let free = free.saturating_sub(self.unusable_free(order, flags));
        if free <= Self::lowered(mark, flags) + self.lowmem_reserve(highest) {
            return false;
        }
        order == Order::ZERO || self.has_block(order, flags)
    }

    /// As [`Zone::watermark_ok`], but answers the common order-0 case with one comparison, and lets an order-0 request with
    /// GFP HIGH ignore the boost of the min watermark.
    #[inline]
    pub fn watermark_fast(&self, order: Order, mark: u64, highest: ZoneType, flags: AllocFlags) -> bool {
        if order == Order::ZERO {
            let usable = self.free_pages().saturating_sub(self.unusable_free(order, flags));
            if usable > mark + self.lowmem_reserve(highest) {
                return true;
            }
        }
        self.watermark_ok(order, mark, highest, flags) || self.ok_without_boost(order, highest, flags)
    }

    #[cold]
    fn ok_without_boost(&self, order: Order, highest: ZoneType, flags: AllocFlags) -> bool {
        order == Order::ZERO
            && flags.contains(AllocFlags::MIN_RESERVE)
            && self.boost() > 0
            && flags.watermark() == Watermark::Min
            && self.watermark_ok(order, self.plain_watermark(Watermark::Min), highest, flags)
    }

    /// Returns the free pages that this request cannot get, with the rest of the block it asks for.
    #[inline]
    fn unusable_free(&self, order: Order, flags: AllocFlags) -> u64 {
        let mut unusable = order.nr_pages() - 1;
        if !flags.intersects(AllocFlags::RESERVES) {
            unusable += self.free_highatomic();
        }
        if !flags.contains(AllocFlags::CMA) {
            unusable += self.free_cma();
        }
        unusable
    }

    /// Lowers a mark by the share of the reserves that the request may use: a half for HIGH, a quarter of the rest if it cannot
    /// wait, a half of what is left for a task that is being killed.
    fn lowered(mark: u64, flags: AllocFlags) -> u64 {
        let mut mark = mark;
        if flags.contains(AllocFlags::MIN_RESERVE) {
            mark -= mark / 2;
            if flags.contains(AllocFlags::NON_BLOCK) {
                mark -= mark / 4;
            }
        }
        if flags.contains(AllocFlags::OOM) {
            mark -= mark / 2;
        }
        mark
    }

    /// Returns true if a list that the request may use holds a block of at least `order`.
    fn has_block(&self, order: Order, flags: AllocFlags) -> bool {
        let mut orders = self.orders_with(MigrateType::Unmovable)
            | self.orders_with(MigrateType::Movable)
            | self.orders_with(MigrateType::Reclaimable);
        if flags.contains(AllocFlags::CMA) {
            orders |= self.orders_with(MigrateType::Cma);
        }
        if flags.intersects(AllocFlags::HIGHATOMIC | AllocFlags::OOM) {
            orders |= self.orders_with(MigrateType::HighAtomic);
        }
        orders >> order.raw() != 0
    }
}

#[cfg(test)]
mod tests {
    use units::{NodeId, Pfn, PfnRange};

    use super::*;
    use crate::zone::ZoneSettings;

    fn zone(free: i64, boost: u64) -> Zone {
        let span = PfnRange::with_len(Pfn::ZERO, 4096);
        let zone = Zone::new(NodeId::ZERO, ZoneType::Normal, span, 4096, 0);
        let watermarks = [100, 125, 150, 175];
        zone.set_limits(&ZoneSettings { watermarks, ..ZoneSettings::default() });
        zone.set_boost(boost);
        zone.account_free(MigrateType::Movable, free);
        zone.note_list(Order::ZERO, MigrateType::Movable, free > 0);
        zone
    }

    fn ok(zone: &Zone, order: u8, flags: AllocFlags) -> bool {
        let mark = zone.watermark(flags.watermark());
        zone.watermark_fast(Order::new_truncate(order), mark, ZoneType::Normal, flags)
    }

    #[test]
    fn exactly_the_mark_is_too_little() {
        assert!(!ok(&zone(100, 0), 0, AllocFlags::empty()));
        assert!(ok(&zone(101, 0), 0, AllocFlags::empty()));
    }

    #[test]
    fn reserves_open_in_steps() {
        let high = AllocFlags::MIN_RESERVE;
        assert!(!ok(&zone(50, 0), 0, high) && ok(&zone(51, 0), 0, high));
        let atomic = high | AllocFlags::NON_BLOCK;
        assert!(!ok(&zone(38, 0), 0, atomic) && ok(&zone(39, 0), 0, atomic));
        let dying = AllocFlags::OOM;
        assert!(!ok(&zone(50, 0), 0, dying) && ok(&zone(51, 0), 0, dying));
    }

    #[test]
    fn enough_pages_without_a_block_of_the_order_fail() {
        assert!(!ok(&zone(1000, 0), 1, AllocFlags::empty()));
        let zone = zone(1000, 0);
        zone.note_list(Order::new_truncate(4), MigrateType::Movable, true);
        assert!(ok(&zone, 1, AllocFlags::empty()));
        assert!(!ok(&zone, 5, AllocFlags::empty()));
    }

    #[test]
    fn only_order_0_with_high_ignores_the_boost_of_the_min_mark() {
        let boosted = zone(101, 200);
        assert!(!ok(&boosted, 0, AllocFlags::empty()));
        assert!(ok(&boosted, 0, AllocFlags::MIN_RESERVE));
    }

    #[test]
    fn free_cma_memory_counts_for_movable_requests_only() {
        let zone = zone(0, 0);
        zone.account_free(MigrateType::Cma, 1000);
        assert!(!ok(&zone, 0, AllocFlags::empty()));
        assert!(ok(&zone, 0, AllocFlags::CMA));
    }
}
