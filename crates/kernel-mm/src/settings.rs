//! Watermarks, reserves and per-CPU limits of all zones, computed from the settings.
//!
//! Linux 6.12: `init_per_zone_wmark_min`, `setup_per_zone_wmarks`, `setup_per_zone_lowmem_reserve`, `setup_per_cpu_pageset`.

use page_allocator::layout::{PcpZone, Release, WatermarkRule, lowmem_reserve, pcp_size};
use page_allocator::{Hooks, PageAllocator, PcpLimits, Tunables, Zone, ZoneSettings};
use platform::Platform;
use sync::Cpu;
use units::{CpuId, ZoneType};

/// Applies `tunables` to every zone; `pages` gives the pages that each zone has, or will have once it is fully initialised.
pub(crate) fn apply<P: Platform, H: Hooks>(
    allocator: &PageAllocator<P, H>,
    cpu: &Cpu,
    tunables: &Tunables,
    release: Release,
    pages: impl Fn(&Zone) -> u64,
) {
    allocator.set_watermark_boost_factor(tunables.watermark_boost_factor);
    let rule = rule(allocator, tunables, release, &pages);
    for zone in allocator.zones() {
        let settings = zone_settings(allocator, tunables, &rule, &pages, zone);
        allocator.apply_settings(cpu, zone, &settings, tunables.pcp_batch_scale_max);
    }
}

/// Returns what the watermarks of a machine's zones follow from.
pub(crate) fn rule<P: Platform, H: Hooks>(
    allocator: &PageAllocator<P, H>,
    tunables: &Tunables,
    release: Release,
    pages: &impl Fn(&Zone) -> u64,
) -> WatermarkRule {
    let zones = allocator.zones();
    let highmem = zones.iter().any(|zone| zone.kind() == ZoneType::HighMem);
    let movable_source = if highmem { ZoneType::HighMem } else { ZoneType::Normal };
    let sized = zones.iter().map(|zone| (zone.kind(), pages(zone)));
    tunables.watermark_rule(sized, movable_source, allocator.map().geometry, release)
}

/// Computes the settings of one zone among all zones of the machine.
fn zone_settings<P: Platform, H: Hooks>(
    allocator: &PageAllocator<P, H>,
    tunables: &Tunables,
    rule: &WatermarkRule,
    pages: &impl Fn(&Zone) -> u64,
    zone: &Zone,
) -> ZoneSettings {
    let zones = allocator.zones();
    let lowmem = rule.lowmem_pages(zones.iter().map(|zone| (zone.kind(), pages(zone))));
    let marks = rule.zone(zone.kind(), pages(zone), lowmem);
    let mut by_kind = [0; ZoneType::COUNT];
    for other in zones.iter().filter(|other| other.node() == zone.node()) {
        by_kind[other.kind().index()] = pages(other);
    }
    let on_node = (0..allocator.nr_cpus() as u64).filter_map(CpuId::try_new);
    let on_node = on_node.filter(|&id| allocator.node_of_cpu(id) == zone.node()).count();
    let cpus = if on_node == 0 { allocator.nr_cpus() } else { on_node } as u64;
    let pcp_zone = PcpZone { managed: pages(zone), low: marks.low, cpus };
    let size = pcp_size(pcp_zone, tunables.percpu_pagelist_high_fraction, rule.page_shift, rule.release);
    ZoneSettings {
        watermarks: [marks.min, marks.low, marks.high, marks.promo],
        lowmem_reserve: lowmem_reserve(zone.kind(), &by_kind, &tunables.lowmem_reserve_ratio),
        pcp: PcpLimits {
            high_min: pages32(size.high_min),
            high_max: pages32(size.high_max),
            batch: pages32(size.batch),
        },
    }
}

/// Per-CPU lists count in 32 bits; no zone within the frame table's reach has more pages.
fn pages32(pages: u64) -> u32 {
    u32::try_from(pages).unwrap_or(u32::MAX)
}
