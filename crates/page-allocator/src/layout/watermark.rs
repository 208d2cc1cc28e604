//! Watermarks of zones: how much stays free for whom.
//!
//! Linux 6.12: mm/page_alloc.c (`calculate_min_free_kbytes`, `__setup_per_zone_wmarks`, `boost_watermark`),
//! mm/khugepaged.c (`set_recommended_min_free_kbytes`).

use boot_memory::firmware::TransparentHugepage;
use units::ZoneType;

use super::release::Release;

/// Watermarks of one zone, in pages, without boost.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Watermarks {
    /// Below this only allocations that may use reserves succeed.
    pub min: u64,
    /// Below this kswapd wakes.
    pub low: u64,
    /// Up to this kswapd works.
    pub high: u64,
    /// Up to this kswapd works while memory tiering promotes pages.
    pub promo: u64,
}

/// What the watermarks of all zones depend on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WatermarkRule {
    /// vm.min_free_kbytes.
    pub min_free_kbytes: u64,
    /// vm.watermark_scale_factor: least distance between two marks, in 1/10,000 of the zone.
    pub scale_factor: u64,
    /// Base-2 logarithm of the page size.
    pub page_shift: u32,
    /// Kind of zone that ZONE_MOVABLE takes its memory from (see [`super::ZoneLimits::movable_source`]).
    pub movable_source: ZoneType,
    /// Rules that apply.
    pub release: Release,
}

/// vm.watermark_scale_factor as booted.
pub const DEFAULT_SCALE_FACTOR: u64 = 10;
/// vm.watermark_boost_factor as booted, in 1/10,000 of the high watermark.
pub const DEFAULT_BOOST_FACTOR: u64 = 15_000;
/// Bounds of the min_free_kbytes that boot computes.
const MIN_FREE_KBYTES_BOUNDS: (u64, u64) = (128, 262_144);
/// Bounds of the min watermark of a zone that the kernel does not allocate from itself (lower one: Linux SWAP_CLUSTER_MAX).
const HIGH_ZONE_MIN_BOUNDS: (u64, u64) = (32, 128);

impl WatermarkRule {
    /// Settles vm.min_free_kbytes as boot does where nobody chose it: by the size of memory first, then by what transparent huge pages
    /// ask for (Linux: init_per_zone_wmark_min, set_recommended_min_free_kbytes). `zones` gives kind and managed
    /// pages of each zone with memory.
    #[must_use]
    pub fn settled(
        self,
        zones: impl Iterator<Item = (ZoneType, u64)> + Clone,
        huge_pages: TransparentHugepage,
        pageblock_pages: u64,
    ) -> Self {
        let all = free_buffer_pages(zones.clone().map(|(kind, pages)| (kind, pages, 0)));
        let boot = Self { min_free_kbytes: min_free_kbytes(all, self.page_shift, None), ..self };
        let bytes = zones.clone().map(|(_, pages)| pages).sum::<u64>() << self.page_shift;
        if huge_pages == TransparentHugepage::Never || bytes < HUGE_PAGE_MIN_BYTES {
            return boot;
        }
        let lowmem = boot.lowmem_pages(zones.clone());
        let marked = zones.clone().map(|(kind, pages)| (kind, pages, boot.zone(kind, pages, lowmem).high));
        let nr_zones = zones.filter(|&(kind, _)| kind <= ZoneType::Normal).count() as u64;
        let huge = huge_page_min_free_kbytes(nr_zones, free_buffer_pages(marked), pageblock_pages, self.page_shift);
        Self { min_free_kbytes: boot.min_free_kbytes.max(huge), ..boot }
    }

    /// Returns true if `kind` counts as memory that the kernel itself cannot rely on.
    ///
    /// HighMem always, and Movable if it is carved out of HighMem; from 6.12 on Movable in any case.
    pub fn is_high(&self, kind: ZoneType) -> bool {
        match kind {
            ZoneType::HighMem => true,
            ZoneType::Movable => self.movable_source == ZoneType::HighMem || self.release > Release::V6_1,
            _ => false,
        }
    }

    /// Returns the pages among which min_free_kbytes is divided: all that are managed, but for high zones.
    pub fn lowmem_pages(&self, managed: impl Iterator<Item = (ZoneType, u64)>) -> u64 {
        managed.filter(|&(kind, _)| !self.is_high(kind)).map(|(_, pages)| pages).sum()
    }

    /// Computes the marks of a zone with `managed` pages on a machine of `lowmem_pages`.
    pub fn zone(&self, kind: ZoneType, managed: u64, lowmem_pages: u64) -> Watermarks {
        let pages_min = self.min_free_kbytes >> (self.page_shift - 10);
        // A machine without low memory has nothing to divide; its zones are high or empty.
        let share = mul_div(pages_min, managed, lowmem_pages.max(1));
        let min = if self.is_high(kind) {
            (managed / 1024).clamp(HIGH_ZONE_MIN_BOUNDS.0, HIGH_ZONE_MIN_BOUNDS.1)
        } else {
            share
        };
        let distance = (share >> 2).max(mul_div(managed, self.scale_factor, 10_000));
        Watermarks { min, low: min + distance, high: min + 2 * distance, promo: min + 3 * distance }
    }
}

/// Returns `value * numerator / denominator` without overflow in between.
fn mul_div(value: u64, numerator: u64, denominator: u64) -> u64 {
    let exact = u128::from(value) * u128::from(numerator) / u128::from(denominator);
    u64::try_from(exact).unwrap_or(u64::MAX)
}

/// Returns the pages above the high watermark in all zones up to Normal (Linux: nr_free_buffer_pages).
///
/// `zones` gives kind, managed pages and high watermark of each zone.
pub fn free_buffer_pages(zones: impl Iterator<Item = (ZoneType, u64, u64)>) -> u64 {
    zones.filter(|&(kind, ..)| kind <= ZoneType::Normal).map(|(_, managed, high)| managed.saturating_sub(high)).sum()
}

/// Returns the vm.min_free_kbytes that boot sets: 4 times the square root of the low memory in KiB, within bounds.
///
/// A value that the user has set stays if it is as large as the computed one. `free_buffer_pages`: see [`free_buffer_pages`].
pub fn min_free_kbytes(free_buffer_pages: u64, page_shift: u32, user: Option<u64>) -> u64 {
    let lowmem_kbytes = free_buffer_pages << (page_shift - 10);
    let computed = lowmem_kbytes.saturating_mul(16).isqrt();
    match user {
        Some(user) if user >= computed => user,
        _ => computed.clamp(MIN_FREE_KBYTES_BOUNDS.0, MIN_FREE_KBYTES_BOUNDS.1),
    }
}

/// Machines with less managed memory than this boot without transparent huge pages.
pub const HUGE_PAGE_MIN_BYTES: u64 = 512 << 20;

/// Returns the vm.min_free_kbytes that transparent huge pages ask for, to keep fragmentation away.
///
/// Two pageblocks a zone, and one for each pair of migratetypes of the per-CPU lists, but at most 5 % of the memory above
/// the high watermarks. `nr_zones` counts the zones with memory up to Normal. Boot takes it if it is above
/// [`min_free_kbytes`].
pub fn huge_page_min_free_kbytes(nr_zones: u64, free_buffer_pages: u64, pageblock_pages: u64, page_shift: u32) -> u64 {
    const PCP_TYPES: u64 = units::MigrateType::PCP_COUNT as u64;
    let wanted = pageblock_pages * nr_zones * (2 + PCP_TYPES * PCP_TYPES);
    wanted.min(free_buffer_pages / 20) << (page_shift - 10)
}

/// Returns the boost of a zone's watermarks after a fallback has mixed pageblocks, or `None` if it stays.
///
/// One pageblock more than `boost`, up to `boost_factor`/10,000 of the high watermark, but a pageblock in any case. A factor
/// of 0 or a zone so small that the limit is 0 is never boosted.
pub fn boosted(boost: u64, high: u64, boost_factor: u64, pageblock_pages: u64) -> Option<u64> {
    let limit = mul_div(high, boost_factor, 10_000);
    (limit != 0).then(|| (boost + pageblock_pages).min(limit.max(pageblock_pages)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: WatermarkRule = WatermarkRule {
        min_free_kbytes: 4096,
        scale_factor: DEFAULT_SCALE_FACTOR,
        page_shift: 12,
        movable_source: ZoneType::Normal,
        release: Release::V6_12,
    };

    #[test]
    fn a_zone_gets_its_share_of_min_free_kbytes() {
        let marks = RULE.zone(ZoneType::Normal, 300_000, 400_000);
        assert_eq!(marks, Watermarks { min: 768, low: 1068, high: 1368, promo: 1668 });
    }

    #[test]
    fn a_large_scale_factor_spreads_the_marks() {
        let rule = WatermarkRule { scale_factor: 1000, ..RULE };
        assert_eq!(rule.zone(ZoneType::Normal, 300_000, 400_000).low, 768 + 30_000);
    }

    #[test]
    fn movable_memory_keeps_no_more_than_128_pages_from_6_12_on() {
        assert_eq!(RULE.zone(ZoneType::Movable, 300_000, 400_000).min, 128);
        let old = WatermarkRule { release: Release::V6_1, ..RULE };
        assert_eq!(old.zone(ZoneType::Movable, 300_000, 400_000).min, 768);
    }

    #[test]
    fn boot_keeps_a_larger_value_of_the_user() {
        assert_eq!(min_free_kbytes(1 << 18, 12, None), 4096);
        assert_eq!(min_free_kbytes(1 << 18, 12, Some(9000)), 9000);
        assert_eq!(min_free_kbytes(1 << 18, 12, Some(100)), 4096);
        assert_eq!(min_free_kbytes(0, 12, None), 128);
        assert_eq!(min_free_kbytes(1 << 40, 12, None), 262_144);
    }

    #[test]
    fn a_boost_grows_by_pageblocks_to_its_limit() {
        assert_eq!(boosted(0, 1000, DEFAULT_BOOST_FACTOR, 512), Some(512));
        assert_eq!(boosted(1024, 1000, DEFAULT_BOOST_FACTOR, 512), Some(1500));
        assert_eq!(boosted(0, 100, DEFAULT_BOOST_FACTOR, 512), Some(512));
        assert_eq!(boosted(0, 1000, 0, 512), None);
    }
}
