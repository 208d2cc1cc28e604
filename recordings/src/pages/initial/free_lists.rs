//! The buddy lists at the start: which free blocks, on the list of which type, in which order.
//!
//! Blocks are the maximal aligned blocks of the free map. A list is used from its head, so the block that the trace takes
//! from first stood before the one it takes from later; blocks that it never touches stand behind, in ascending order.

use units::{MigrateType, Order, Pfn};

use super::super::free_map::{FreeBlock, FreeMap};
use super::super::snapshot::Snapshot;

/// A free block at the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InitialBlock {
    /// First frame.
    pub pfn: Pfn,
    /// Size.
    pub order: Order,
    /// Type of the list that it is on.
    pub migrate_type: MigrateType,
}

/// Where the order inside the free lists comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListOrder {
    /// From the order in which the recording takes blocks.
    Recorded,
    /// By address: what an observer without the trace would assume.
    Ascending,
}

/// Returns the blocks of all zones, each list's head first.
///
/// `taken` are the first frames of the blocks that the trace takes, in the order of time.
pub(super) fn free_lists(
    snapshot: &Snapshot,
    free: &FreeMap,
    types: &[MigrateType],
    taken: &[Pfn],
    list_order: ListOrder,
) -> Vec<InitialBlock> {
    let limit = largest_order(snapshot);
    let mut blocks: Vec<FreeBlock> = snapshot.zones.iter().flat_map(|zone| free.blocks(zone.span, limit)).collect();
    if list_order == ListOrder::Recorded {
        blocks = by_first_use(blocks, taken);
    }
    let type_of = |pfn: Pfn| {
        let index = usize::try_from(pfn.raw() >> snapshot.pageblock_order.raw()).ok();
        index.and_then(|index| types.get(index).copied()).unwrap_or(MigrateType::Movable)
    };
    let block =
        |block: FreeBlock| InitialBlock { pfn: block.pfn, order: block.order, migrate_type: type_of(block.pfn) };
    blocks.into_iter().map(block).collect()
}

/// Returns the largest order that /proc/buddyinfo shows.
fn largest_order(snapshot: &Snapshot) -> Order {
    let orders = snapshot.zones.iter().map(|zone| zone.free_blocks.len()).max().unwrap_or(0);
    Order::try_new(orders.saturating_sub(1) as u64).unwrap_or(Order::MAX)
}

fn by_first_use(blocks: Vec<FreeBlock>, taken: &[Pfn]) -> Vec<FreeBlock> {
    let mut used = vec![false; blocks.len()];
    let mut sorted = Vec::with_capacity(blocks.len());
    for pfn in taken {
        let Some(index) = blocks.partition_point(|block| block.pfn <= *pfn).checked_sub(1) else { continue };
        let (Some(block), Some(used)) = (blocks.get(index), used.get_mut(index)) else { continue };
        if !*used && pfn.since(block.pfn) < block.order.nr_pages() {
            *used = true;
            sorted.push(*block);
        }
    }
    let rest = blocks.iter().zip(&used).filter(|(_, used)| !**used).map(|(block, _)| *block);
    sorted.extend(rest);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(pfn: u64, order: u8) -> FreeBlock {
        FreeBlock { pfn: Pfn::new(pfn), order: Order::new_truncate(order) }
    }

    #[test]
    fn blocks_used_first_stand_first() {
        let blocks = vec![block(0, 2), block(8, 3), block(32, 5)];
        let sorted = by_first_use(blocks, &[Pfn::new(40), Pfn::new(9), Pfn::new(33), Pfn::new(100)]);
        assert_eq!(sorted, [block(32, 5), block(8, 3), block(0, 2)]);
    }
}
