//! Pages that lower zones keep back from allocations that could have used a higher zone.
//!
//! Linux 6.12: mm/page_alloc.c (`setup_per_zone_lowmem_reserve`, `calculate_totalreserve_pages`).

use units::ZoneType;

/// A number for each kind of zone of one node.
pub type ByZone = [u64; ZoneType::COUNT];

/// vm.lowmem_reserve_ratio as booted, by kind of zone; 0 keeps nothing back.
pub const DEFAULT_RATIOS: ByZone = [256, 256, 32, 0, 0, 0];

/// Computes what the zone of `kind` keeps back from allocations whose highest acceptable zone is each of the kinds.
///
/// `managed` holds the managed pages of the node's zones. This is the `protection` line of /proc/zoneinfo, with the kinds
/// that a kernel was not built with left out.
pub fn lowmem_reserve(kind: ZoneType, managed: &ByZone, ratios: &ByZone) -> ByZone {
    let mut reserve = [0; ZoneType::COUNT];
    let ratio = ratios[kind.index()];
    if ratio == 0 || managed[kind.index()] == 0 {
        return reserve;
    }
    let mut above = 0;
    for upper in ZoneType::ALL.into_iter().filter(|&upper| upper > kind) {
        above += managed[upper.index()];
        reserve[upper.index()] = above / ratio;
    }
    reserve
}

/// Returns the pages of one zone that user memory cannot count on: its largest reserve and its high watermark.
///
/// Their sum over all zones is Linux's totalreserve_pages.
pub fn unusable_pages(reserve: &ByZone, high_watermark: u64, managed: u64) -> u64 {
    let largest = reserve.iter().copied().max().unwrap_or(0);
    (largest + high_watermark).min(managed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_kept_from_all_that_lies_above() {
        let managed = [3840, 772_915, 5_394_266, 0, 0, 0];
        assert_eq!(
            lowmem_reserve(ZoneType::Dma, &managed, &DEFAULT_RATIOS)[1..],
            [3019, 24_090, 24_090, 24_090, 24_090]
        );
        assert_eq!(lowmem_reserve(ZoneType::Normal, &managed, &DEFAULT_RATIOS), [0; 6]);
    }

    #[test]
    fn an_empty_zone_and_a_ratio_of_zero_keep_nothing() {
        let managed = [0, 100_000, 100_000, 0, 0, 0];
        assert_eq!(lowmem_reserve(ZoneType::Dma, &managed, &DEFAULT_RATIOS), [0; 6]);
        assert_eq!(lowmem_reserve(ZoneType::Dma32, &managed, &[0; 6]), [0; 6]);
    }

    #[test]
    fn a_zone_cannot_keep_more_than_it_has() {
        assert_eq!(unusable_pages(&[0, 10, 500, 500, 0, 0], 100, 10_000), 600);
        assert_eq!(unusable_pages(&[0, 10, 500, 500, 0, 0], 100, 550), 550);
    }
}
