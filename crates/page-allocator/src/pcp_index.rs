//! Which per-CPU list a block belongs to.
//!
//! Linux 6.12: `order_to_pindex`, `pindex_to_order`, `pcp_allowed_order`.

use units::{MigrateType, Order};

use crate::geometry::Geometry;

const LOW_ORDER_LISTS: usize = MigrateType::PCP_COUNT * (Order::COSTLY.index() + 1);
/// Lists of a set: three types by four orders, and two of the pageblock order.
pub(crate) const LISTS: usize = LOW_ORDER_LISTS + 2;

/// Returns the list of single pages of a type that a request may have.
pub(crate) const fn list_of_pages(migratetype: MigrateType) -> usize {
    migratetype.index()
}

/// Returns the order of a list's blocks.
pub(crate) const fn list_order(geometry: &Geometry, index: usize) -> Order {
    if index < LOW_ORDER_LISTS {
        Order::new_truncate((index / MigrateType::PCP_COUNT) as u8)
    } else {
        geometry.pageblock_order
    }
}

/// Returns true if blocks of this order and type move between zone and per-CPU lists in batches.
#[inline]
pub(crate) fn is_kept_per_cpu(geometry: &Geometry, order: Order, migratetype: MigrateType) -> bool {
    migratetype.index() < MigrateType::PCP_COUNT && (order <= Order::COSTLY || order == geometry.pageblock_order)
}

/// The list of every order and migratetype, so that finding it takes one load.
#[derive(Debug)]
pub(crate) struct PcpIndex([u8; Self::ENTRIES]);

impl PcpIndex {
    const ORDER_BITS: u32 = 4;
    const ENTRIES: usize = 8 << Self::ORDER_BITS;
    const NONE: u8 = u8::MAX;

    /// Makes the table of a machine.
    pub(crate) fn new(geometry: &Geometry) -> Self {
        let mut table = [Self::NONE; Self::ENTRIES];
        for order in Order::ZERO.through(geometry.max_order) {
            for migratetype in MigrateType::ALL {
                let entry = &mut table[Self::slot(order.raw(), migratetype.index() as u32)];
                *entry = Self::list_of(geometry, order, migratetype).map_or(Self::NONE, |index| index as u8);
            }
        }
        Self(table)
    }

    fn list_of(geometry: &Geometry, order: Order, migratetype: MigrateType) -> Option<usize> {
        let pcp_type = migratetype.pcp_type().filter(|&kept| is_kept_per_cpu(geometry, order, kept))?;
        if order <= Order::COSTLY {
            Some(MigrateType::PCP_COUNT * order.index() + pcp_type.index())
        } else {
            Some(LOW_ORDER_LISTS + usize::from(pcp_type == MigrateType::Movable))
        }
    }

    #[inline(always)]
    const fn slot(order_bits: u8, raw_type: u32) -> usize {
        (raw_type as usize & 7) << Self::ORDER_BITS | (order_bits & 0xf) as usize
    }

    /// Returns the list of a block, or `None` if such blocks are not kept per CPU. HighAtomic and CMA blocks go to the movable lists.
    #[inline(always)]
    pub(crate) const fn get(&self, order: Order, migratetype: MigrateType) -> Option<usize> {
        let index = self.raw(order.raw(), migratetype as u32);
        if index < LISTS { Some(index) } else { None }
    }

    /// As [`PcpIndex::get`], by the low four bits of an order and the low three of a pageblock's word; a number above every list if there
    /// is none.
    #[inline(always)]
    pub(crate) const fn raw(&self, order_bits: u8, raw_type: u32) -> usize {
        self.0[Self::slot(order_bits, raw_type)] as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_knows_the_order_of_its_blocks() {
        let geometry = Geometry::FOUR_KIB;
        let table = PcpIndex::new(&geometry);
        let mut used = [0; LISTS];
        for order in Order::ZERO.through(geometry.max_order) {
            for migratetype in [MigrateType::Unmovable, MigrateType::Movable, MigrateType::Reclaimable] {
                let Some(index) = table.get(order, migratetype) else { continue };
                assert_eq!(list_order(&geometry, index), order);
                used[index] += 1;
            }
        }
        // Unmovable and reclaimable pageblocks share a list.
        assert_eq!(used, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 1]);
    }

    #[test]
    fn isolated_blocks_and_middle_orders_have_no_list() {
        let table = PcpIndex::new(&Geometry::FOUR_KIB);
        assert_eq!(table.get(Order::ZERO, MigrateType::Isolate), None);
        assert_eq!(table.get(Order::new_truncate(4), MigrateType::Movable), None);
        assert_eq!(table.get(Order::ZERO, MigrateType::Cma), table.get(Order::ZERO, MigrateType::Movable));
    }
}
