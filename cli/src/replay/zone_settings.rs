//! Watermarks, reserves and per-CPU limits of the recorded machine's zones: as recorded, or computed for other settings.

use page_allocator::layout::{ByZone, PcpZone, Release, WatermarkRule, lowmem_reserve, pcp_size};
use page_allocator::{PcpLimits, ZoneSettings};
use recordings::pages::{Snapshot, ZoneSnapshot};
use units::ZoneType;

use crate::boot::Settings;

const PAGE_SHIFT: u32 = 12;

/// Returns what /proc/zoneinfo showed, zone by zone.
pub(super) fn recorded(snapshot: &Snapshot) -> Vec<ZoneSettings> {
    snapshot.zones.iter().map(recorded_zone).collect()
}

fn recorded_zone(zone: &ZoneSnapshot) -> ZoneSettings {
    let set = zone.pagesets.first().copied().unwrap_or_default();
    let narrow = |pages: u64| u32::try_from(pages).unwrap_or(u32::MAX);
    // Before 6.13 zoneinfo shows neither bound of the tuned high mark.
    let bounds =
        if set.high_max == 0 { computed_bounds(zone, 0, zone.watermarks[1]) } else { (set.high_min, set.high_max) };
    ZoneSettings {
        watermarks: zone.watermarks,
        lowmem_reserve: zone.protection,
        pcp: PcpLimits { high_min: narrow(bounds.0), high_max: narrow(bounds.1), batch: narrow(set.batch) },
    }
}

fn computed_bounds(zone: &ZoneSnapshot, high_fraction: u64, low: u64) -> (u64, u64) {
    let zone = PcpZone { managed: zone.managed, low, cpus: zone.pagesets.len() as u64 };
    let size = pcp_size(zone, high_fraction, PAGE_SHIFT, Release::V6_12);
    (size.high_min, size.high_max)
}

/// Returns what the kernel would have set for `settings`; a vm.min_free_kbytes that is not given is the recorded one.
pub(super) fn computed(snapshot: &Snapshot, settings: &Settings) -> Vec<ZoneSettings> {
    let rule = WatermarkRule {
        min_free_kbytes: settings.min_free_kbytes.unwrap_or_else(|| recorded_min_free_kbytes(snapshot)),
        scale_factor: settings.watermark_scale_factor,
        page_shift: PAGE_SHIFT,
        movable_source: ZoneType::Normal,
        release: Release::V6_12,
    };
    let lowmem = lowmem_pages(snapshot, &rule);
    let mut managed: ByZone = [0; ZoneType::COUNT];
    for zone in &snapshot.zones {
        managed[zone.zone.index()] = zone.managed;
    }
    let zone = |zone: &ZoneSnapshot| {
        let marks = rule.zone(zone.zone, zone.managed, lowmem);
        let size = pcp_size(
            PcpZone { managed: zone.managed, low: marks.low, cpus: zone.pagesets.len() as u64 },
            settings.percpu_pagelist_high_fraction,
            PAGE_SHIFT,
            Release::V6_12,
        );
        let narrow = |pages: u64| u32::try_from(pages).unwrap_or(u32::MAX);
        ZoneSettings {
            watermarks: [marks.min, marks.low, marks.high, marks.promo],
            lowmem_reserve: lowmem_reserve(zone.zone, &managed, &settings.lowmem_reserve_ratio),
            pcp: PcpLimits {
                high_min: narrow(size.high_min),
                high_max: narrow(size.high_max),
                batch: narrow(size.batch),
            },
        }
    };
    snapshot.zones.iter().map(zone).collect()
}

fn lowmem_pages(snapshot: &Snapshot, rule: &WatermarkRule) -> u64 {
    rule.lowmem_pages(snapshot.zones.iter().map(|zone| (zone.zone, zone.managed)))
}

/// Finds the vm.min_free_kbytes from which the recorded min watermarks follow; each zone's share was rounded down.
fn recorded_min_free_kbytes(snapshot: &Snapshot) -> u64 {
    let sum: u64 = snapshot.zones.iter().map(|zone| zone.watermarks[0]).sum();
    let fits = |pages: &u64| {
        let rule = WatermarkRule {
            min_free_kbytes: pages << (PAGE_SHIFT - 10),
            scale_factor: page_allocator::layout::DEFAULT_SCALE_FACTOR,
            page_shift: PAGE_SHIFT,
            movable_source: ZoneType::Normal,
            release: Release::V6_12,
        };
        let lowmem = lowmem_pages(snapshot, &rule);
        snapshot.zones.iter().all(|zone| rule.zone(zone.zone, zone.managed, lowmem).min == zone.watermarks[0])
    };
    (sum..=sum + snapshot.zones.len() as u64).find(fits).unwrap_or(sum) << (PAGE_SHIFT - 10)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use recordings::pages::Recording;

    use super::*;

    fn snapshot() -> Snapshot {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/pages/cargo.trace.zst");
        Recording::at(&path).unwrap().before().unwrap()
    }

    #[test]
    fn the_default_settings_give_what_was_recorded() {
        let snapshot = snapshot();
        assert_eq!(recorded_min_free_kbytes(&snapshot), 67_584);
        let (recorded, computed) = (recorded(&snapshot), computed(&snapshot, &Settings::default()));
        for (recorded, computed) in recorded.iter().zip(&computed) {
            assert_eq!((recorded.watermarks, recorded.pcp), (computed.watermarks, computed.pcp));
            // The recorded kernel has no HighMem, whose column it leaves out.
            let columns = [ZoneType::Dma32, ZoneType::Normal, ZoneType::Movable].map(ZoneType::index);
            assert_eq!(columns.map(|at| recorded.lowmem_reserve[at]), columns.map(|at| computed.lowmem_reserve[at]));
        }
    }

    #[test]
    fn a_larger_reserve_raises_every_watermark() {
        let snapshot = snapshot();
        let raised = computed(&snapshot, &Settings { min_free_kbytes: Some(2 * 67_584), ..Settings::default() });
        assert!(
            raised.iter().zip(recorded(&snapshot)).all(|(raised, recorded)| raised.watermarks > recorded.watermarks)
        );
    }
}
