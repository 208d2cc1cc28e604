//! Every computed number of /proc/zoneinfo must be the kernel's, and so must vm.min_free_kbytes.

use boot_memory::firmware::TransparentHugepage;
use mmkit_page_allocator::layout::{
    ByZone, NodeLayout, PcpZone, Release, WatermarkRule, Watermarks, lowmem_reserve, normal_threshold, pcp_size,
};
use proc_files::parse::{Zone, ZoneInfo};
use units::ZoneType;

use crate::machine::{self, Machine, PAGE};

/// Managed pages of every populated zone when the watermarks were set.
fn managed_zones(machine: &Machine) -> Vec<(ZoneType, u64)> {
    let layouts = machine.layouts();
    let zones = layouts.iter().flat_map(|layout| {
        let managed = machine.managed_at_init(layout.node);
        layout.populated().map(move |(kind, _)| (kind, managed[kind.index()]))
    });
    zones.collect()
}

fn rule(machine: &Machine, min_free_kbytes: u64) -> WatermarkRule {
    WatermarkRule {
        min_free_kbytes,
        scale_factor: machine.sysctl("watermark_scale_factor")[0],
        page_shift: PAGE.page_shift,
        movable_source: machine.limits().movable_source().unwrap(),
        release: machine.release(),
    }
}

fn for_each_zone(mut check: impl FnMut(&Machine, &NodeLayout, Zone<'_>, &ByZone)) {
    for machine in machine::all() {
        for layout in machine.layouts() {
            let managed = machine.managed_at_init(layout.node);
            for zone in machine.zoneinfo.zones().filter(|zone| zone.node == layout.node) {
                check(&machine, &layout, zone, &managed);
            }
        }
    }
}

#[test]
fn spans_and_present_pages_are_the_kernels() {
    for_each_zone(|machine, layout, recorded, _| {
        let zone = layout.zone(recorded.zone);
        let place = format!("{}, node {}, {:?}", machine.name, layout.node, recorded.zone);
        assert_eq!(Some(zone.span.nr_pages()), recorded.pages("spanned"), "{place}");
        assert_eq!(Some(zone.present), recorded.pages("present"), "{place}");
        if let Some(start) = recorded.start_pfn() {
            assert_eq!(zone.span.start, start, "{place}");
        }
    });
}

#[test]
fn watermarks_are_the_kernels() {
    for_each_zone(|machine, layout, recorded, managed| {
        let rule = rule(machine, machine.sysctl("min_free_kbytes")[0]);
        let lowmem = rule.lowmem_pages(managed_zones(machine).into_iter());
        let Watermarks { min, low, high, promo } = rule.zone(recorded.zone, managed[recorded.zone.index()], lowmem);
        // /proc/zoneinfo has a boost, which the workload left, in the watermarks.
        let boost = recorded.pages("boost").unwrap();
        let marks = ["min", "low", "high"].map(|mark| recorded.pages(mark).unwrap() - boost);
        if let Some(recorded) = recorded.pages("promo") {
            assert_eq!(recorded - boost, promo, "{}, node {}", machine.name, layout.node);
        }
        assert_eq!(marks, [min, low, high], "{}, node {}, {:?}", machine.name, layout.node, recorded.zone);
    });
}

#[test]
fn protection_is_the_kernels() {
    for_each_zone(|machine, layout, recorded, managed| {
        let reserve = lowmem_reserve(recorded.zone, managed, &machine.reserve_ratios());
        let shown: Vec<u64> = machine.limits().configured().iter().map(|kind| reserve[kind.index()]).collect();
        assert_eq!(recorded.protection(), Some(&*shown), "{}, node {}", machine.name, layout.node);
    });
}

#[test]
fn per_cpu_list_sizes_and_thresholds_are_the_kernels() {
    for_each_zone(|machine, layout, recorded, managed| {
        let managed = managed[recorded.zone.index()];
        let cpus = match machine.nr_cpus(Some(layout.node)) {
            0 => machine.nr_cpus(None),
            cpus => cpus,
        };
        let zone = PcpZone { managed, low: recorded.pages("low").unwrap() - recorded.pages("boost").unwrap(), cpus };
        let fraction = machine.sysctl("percpu_pagelist_high_fraction")[0];
        let size = pcp_size(zone, fraction, PAGE.page_shift, machine.release());
        let threshold = normal_threshold(managed, machine.nr_cpus(None), PAGE.page_shift);
        for pageset in recorded.pagesets() {
            let place = format!("{}, node {}, {:?}", machine.name, layout.node, recorded.zone);
            assert_eq!(pageset.batch, size.batch, "{place}");
            // From 6.7 on `high` is tuned by what ran, and 6.12 does not show its bounds.
            if machine.release() == Release::V6_1 {
                assert_eq!(pageset.high, size.high_min, "{place}");
            }
            assert_eq!(pageset.stat_threshold, threshold, "{place}");
        }
    });
}

#[test]
fn min_free_kbytes_is_the_kernels() {
    for machine in machine::all() {
        let zones = managed_zones(&machine);
        let expected = rule(&machine, 0).settled(zones.into_iter(), TransparentHugepage::Always, 512).min_free_kbytes;
        assert_eq!(machine.sysctl("min_free_kbytes"), [expected], "machine {}", machine.name);
    }
}

/// The 24 GiB machine of the page traces runs a later kernel, with separate limits for the length of per-CPU lists.
#[test]
fn the_later_kernels_numbers_are_reproduced() {
    use mmkit_page_allocator::layout::DEFAULT_RATIOS;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/pages/fork.before/zoneinfo");
    let zoneinfo = ZoneInfo::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    let managed = |kind| zoneinfo.zones().find(|zone| zone.zone == kind).and_then(|zone| zone.pages("managed"));
    let managed: ByZone = ZoneType::ALL.map(|kind| managed(kind).unwrap_or(0));
    for recorded in zoneinfo.zones().filter(|zone| zone.start_pfn().is_some()) {
        let pages = managed[recorded.zone.index()];
        let reserve = lowmem_reserve(recorded.zone, &managed, &DEFAULT_RATIOS);
        let shown: Vec<u64> = ZoneType::ALL
            .into_iter()
            .filter(|&kind| kind != ZoneType::HighMem)
            .map(|kind| reserve[kind.index()])
            .collect();
        assert_eq!(recorded.protection(), Some(&*shown));
        let zone = PcpZone { managed: pages, low: recorded.pages("low").unwrap(), cpus: 2 };
        let size = pcp_size(zone, 0, PAGE.page_shift, Release::V6_12);
        for pageset in recorded.pagesets() {
            let found = (pageset.batch, pageset.high_min, pageset.high_max);
            assert_eq!(found, (size.batch, size.high_min, size.high_max), "{:?}", recorded.zone);
            assert_eq!(pageset.stat_threshold, normal_threshold(pages, 2, PAGE.page_shift));
        }
        let rule = WatermarkRule {
            min_free_kbytes: 67_584,
            scale_factor: 10,
            page_shift: PAGE.page_shift,
            movable_source: ZoneType::Normal,
            release: Release::V6_12,
        };
        let lowmem = managed.iter().sum();
        let marks = rule.zone(recorded.zone, pages, lowmem);
        let names = ["min", "low", "high", "promo"].map(|name| recorded.pages(name).unwrap());
        assert_eq!(names, [marks.min, marks.low, marks.high, marks.promo], "{:?}", recorded.zone);
    }
}
