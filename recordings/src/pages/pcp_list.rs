//! Numbers of the lists of one per-CPU page set, in the order in which draining visits them.
//!
//! Three lists (unmovable, movable, reclaimable) for each of the orders 0 to 3, then two of pageblock order: one for
//! everything but movable, one for movable. Linux 6.12: mm/page_alloc.c (`order_to_pindex`), with transparent huge pages.

use units::{MigrateType, Order};

const SMALL_ORDERS: usize = Order::COSTLY.index() + 1;

/// One list of a per-CPU page set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PcpList(u8);

impl PcpList {
    /// Number of lists.
    pub const COUNT: usize = SMALL_ORDERS * MigrateType::PCP_COUNT + 2;

    /// Returns the list for blocks of an order and a migratetype; `None` if they bypass the per-CPU lists.
    #[inline]
    pub const fn of(order: Order, migrate_type: MigrateType, pageblock_order: Order) -> Option<Self> {
        let Some(migrate_type) = migrate_type.pcp_type() else { return None };
        if order.index() < SMALL_ORDERS {
            Some(Self((order.index() * MigrateType::PCP_COUNT + migrate_type.index()) as u8))
        } else if order.raw() == pageblock_order.raw() {
            Some(Self((Self::COUNT - 2) as u8 + matches!(migrate_type, MigrateType::Movable) as u8))
        } else {
            None
        }
    }

    /// Returns every list, in the order in which draining visits them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    /// Returns the order of the list's blocks.
    pub fn order(self, pageblock_order: Order) -> Order {
        let small = Order::new_truncate(self.0 / MigrateType::PCP_COUNT as u8);
        if small <= Order::COSTLY { small } else { pageblock_order }
    }

    /// Returns the migratetype of the list; Unmovable for the list of huge blocks that are not movable.
    pub fn migrate_type(self) -> MigrateType {
        let huge = Self::COUNT as u8 - 2;
        let raw = if self.0 < huge { self.0 % MigrateType::PCP_COUNT as u8 } else { self.0 - huge };
        MigrateType::from_raw(raw).unwrap_or(MigrateType::Unmovable)
    }

    /// Returns the number as an array index, below [`PcpList::COUNT`].
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUGE: Order = Order::new_truncate(9);

    #[test]
    fn every_list_is_found_by_its_order_and_type() {
        for list in PcpList::all() {
            assert_eq!(PcpList::of(list.order(HUGE), list.migrate_type(), HUGE), Some(list));
        }
    }

    #[test]
    fn reclaimable_huge_blocks_share_the_unmovable_list() {
        let list = PcpList::of(HUGE, MigrateType::Reclaimable, HUGE);
        assert_eq!(list, PcpList::of(HUGE, MigrateType::Unmovable, HUGE));
        assert_eq!(list.map(PcpList::index), Some(12));
    }

    #[test]
    fn orders_between_bypass_the_lists() {
        for order in [4, 8, 10] {
            assert_eq!(PcpList::of(Order::new_truncate(order), MigrateType::Movable, HUGE), None);
        }
        assert_eq!(PcpList::of(Order::ZERO, MigrateType::Isolate, HUGE), None);
    }
}
