//! Sizes of the per-CPU page lists.
//!
//! Linux 6.12: mm/page_alloc.c (`zone_batchsize`, `zone_highsize`, `zone_set_pageset_high_and_batch`).

use super::release::Release;

/// Sizes of one zone's per-CPU lists, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PcpSize {
    /// Pages that a refill takes and a drain returns.
    pub batch: u64,
    /// Length that the list is trimmed to; auto-tuning does not go below. Up to 6.1 this is `high`.
    pub high_min: u64,
    /// Length that auto-tuning does not go above. Up to 6.1 equal to `high_min`.
    pub high_max: u64,
}

impl PcpSize {
    /// Sizes until the zone's are known: every free goes straight to the zone.
    pub const BOOT: Self = Self { batch: 1, high_min: 0, high_max: 0 };
}

/// What the sizes of one zone's lists depend on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PcpZone {
    /// Managed pages.
    pub managed: u64,
    /// Low watermark with boost.
    pub low: u64,
    /// CPUs that share the lists' room: the online ones of the node, and one coming online; all of them if the node has none.
    pub cpus: u64,
}

/// Least vm.percpu_pagelist_high_fraction, and the share of a zone that auto-tuning may use.
const MIN_HIGH_FRACTION: u64 = 8;

/// Computes the sizes of a zone's lists; `high_fraction` is vm.percpu_pagelist_high_fraction, 0 for the default rule.
pub fn pcp_size(zone: PcpZone, high_fraction: u64, page_shift: u32, release: Release) -> PcpSize {
    let batch = batch_size(zone.managed, page_shift);
    let high = |total: u64| (total / zone.cpus.max(1)).max(batch << 2);
    let (high_min, high_max) = match (high_fraction, release) {
        (0, Release::V6_1) => (high(zone.low), high(zone.low)),
        (0, Release::V6_12) => (high(zone.low), high(zone.managed / MIN_HIGH_FRACTION)),
        (fraction, _) => (high(zone.managed / fraction), high(zone.managed / fraction)),
    };
    PcpSize { batch, high_min, high_max }
}

/// Returns 1/4096 of the zone, at most 256 KiB, made one less than a power of two, and at least 1.
///
/// Of a power of two, half the lists of a cache-coloured working set would collide.
fn batch_size(managed: u64, page_shift: u32) -> u64 {
    let share = (managed >> 12).min((256 << 10) >> page_shift).max(1);
    let rounded = share + share / 2;
    (1 << rounded.ilog2()).max(2) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const NORMAL: PcpZone = PcpZone { managed: 5_394_266, low: 20_163, cpus: 2 };

    #[test]
    fn a_large_zone_has_batches_of_63_pages() {
        assert_eq!(pcp_size(NORMAL, 0, 12, Release::V6_12), PcpSize { batch: 63, high_min: 10_081, high_max: 337_141 });
    }

    #[test]
    fn pages_of_64_kib_come_in_batches_of_3() {
        assert_eq!(pcp_size(NORMAL, 0, 16, Release::V6_12).batch, 3);
    }

    #[test]
    fn a_tiny_zone_still_moves_a_page_at_a_time() {
        let zone = PcpZone { managed: 3840, low: 13, cpus: 2 };
        assert_eq!(pcp_size(zone, 0, 12, Release::V6_12), PcpSize { batch: 1, high_min: 6, high_max: 240 });
    }

    #[test]
    fn a_fraction_fixes_both_limits() {
        let size = pcp_size(NORMAL, 16, 12, Release::V6_12);
        assert_eq!((size.high_min, size.high_max), (168_570, 168_570));
    }

    #[test]
    fn old_releases_have_one_limit() {
        let size = pcp_size(NORMAL, 0, 12, Release::V6_1);
        assert_eq!(size.high_min, size.high_max);
    }
}
