//! How far free memory is broken up: the two indexes that Linux shows in debugfs, and their course over a replay.
//!
//! Linux 6.12: mm/vmstat.c (`fragmentation_index`, `unusable_free_index`), in thousandths.

use serde::Serialize;
use units::Order;

/// Free blocks of one zone by order.
pub(super) type FreeBlocks = [u64; Order::COUNT];

/// Returns the share of free memory that lies in blocks too small for `order`, in thousandths.
pub(super) fn unusable_free_index(blocks: &FreeBlocks, order: Order) -> u64 {
    let free = free_pages(blocks);
    let usable: u64 = (0..).zip(blocks).skip(order.index()).map(|(order, count): (u32, _)| count << order).sum();
    ((free - usable) * 1000).checked_div(free).unwrap_or(1000)
}

/// Returns how much a failure at `order` would be due to fragmentation (towards 1000) rather than lack of memory (towards 0);
/// -1000 if a request would succeed.
pub(super) fn fragmentation_index(blocks: &FreeBlocks, order: Order) -> i64 {
    let count: u64 = blocks.iter().sum();
    if count == 0 {
        return 0;
    }
    if blocks.iter().skip(order.index()).any(|count| *count > 0) {
        return -1000;
    }
    let share = 1000 + free_pages(blocks) * 1000 / order.nr_pages();
    1000 - i64::try_from(share / count).unwrap_or(i64::MAX)
}

pub(super) fn free_pages(blocks: &FreeBlocks) -> u64 {
    (0..).zip(blocks).map(|(order, count): (u32, _)| count << order).sum()
}

/// State of one zone at one moment, here and in the recording.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(super) struct Sample {
    /// Milliseconds since the first event.
    pub(super) time_ms: u64,
    pub(super) node: u8,
    pub(super) zone: &'static str,
    pub(super) ours: SideSample,
    pub(super) recorded: SideSample,
    /// Pages on all per-CPU lists of the zone, here.
    pub(super) pcp_pages: u64,
}

/// One side of a sample. Traffic counts from the start, in all zones of the node.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(super) struct SideSample {
    pub(super) free_pages: u64,
    /// For a huge page.
    pub(super) unusable_free_index: u64,
    pub(super) fragmentation_index: i64,
    pub(super) refilled: u64,
    pub(super) drained: u64,
    pub(super) fallbacks: u64,
}

/// Header of what stands before the other columns if there are several nodes.
pub(super) const CSV_NODE_HEADER: &str = "node,zone,";

/// Header of the CSV form of samples.
pub(super) const CSV_HEADER: &str = "time_ms,pcp_pages,free,unusable,fragmentation,refilled,drained,fallbacks,\
    recorded_free,recorded_unusable,recorded_fragmentation,recorded_refilled,recorded_drained,recorded_fallbacks";

impl Sample {
    /// Returns the columns of [`CSV_NODE_HEADER`].
    pub(super) fn csv_node(&self) -> String {
        format!("{},{},", self.node, self.zone)
    }

    /// Returns the line of a CSV file with [`CSV_HEADER`].
    pub(super) fn csv_line(&self) -> String {
        let side = |side: &SideSample| {
            format!(
                "{},{},{},{},{},{}",
                side.free_pages,
                side.unusable_free_index,
                side.fragmentation_index,
                side.refilled,
                side.drained,
                side.fallbacks
            )
        };
        format!("{},{},{},{}", self.time_ms, self.pcp_pages, side(&self.ours), side(&self.recorded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(counts: &[(usize, u64)]) -> FreeBlocks {
        let mut blocks = [0; Order::COUNT];
        for (order, count) in counts {
            blocks[*order] = *count;
        }
        blocks
    }

    #[test]
    fn memory_in_large_blocks_is_usable() {
        let order = Order::new_truncate(9);
        assert_eq!(unusable_free_index(&blocks(&[(9, 3)]), order), 0);
        assert_eq!(unusable_free_index(&blocks(&[(9, 1), (0, 512)]), order), 500);
        assert_eq!(unusable_free_index(&blocks(&[]), order), 1000);
    }

    #[test]
    fn the_index_tells_fragmentation_from_lack_of_memory() {
        let order = Order::new_truncate(3);
        assert_eq!(fragmentation_index(&blocks(&[(3, 1)]), order), -1000);
        assert_eq!(fragmentation_index(&blocks(&[]), order), 0);
        assert_eq!(fragmentation_index(&blocks(&[(0, 1)]), order), 1000 - 1125);
        assert_eq!(fragmentation_index(&blocks(&[(0, 8000)]), order), 1000 - 125);
    }

    #[test]
    fn a_csv_line_has_a_field_for_each_heading() {
        let side = SideSample {
            free_pages: 1,
            unusable_free_index: 2,
            fragmentation_index: -3,
            refilled: 4,
            drained: 5,
            fallbacks: 6,
        };
        let sample = Sample { time_ms: 1000, node: 1, zone: "Normal", ours: side, recorded: side, pcp_pages: 7 };
        let line = sample.csv_line();
        assert_eq!(sample.csv_node(), "1,Normal,");
        assert_eq!(line, "1000,7,1,2,-3,4,5,6,1,2,-3,4,5,6");
        assert_eq!(line.split(',').count(), CSV_HEADER.split(',').count());
    }
}
