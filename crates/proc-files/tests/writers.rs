//! Writers print a recorded kernel's text from values: fill them from a parsed recording, print, compare.

use std::fmt::Write;
use std::path::Path;

use mmkit_proc_files::pagetypeinfo::{BlocksHeading, BlocksRow, Heading};
use mmkit_proc_files::zoneinfo::{PopulatedZone, ZoneInfo, ZonePages};
use mmkit_proc_files::{Config, Profile, Release, parse, vmstat};
use units::{MigrateType, Order};

const CLOUD: Config =
    Config::X86_64.difference(Config::CMA).difference(Config::ZSWAP).difference(Config::MEMORY_FAILURE);
const I386: Config = Config::ZONE_DMA
    .union(Config::HIGHMEM)
    .union(Config::ZSWAP)
    .union(Config::MEMORY_FAILURE)
    .union(Config::THP)
    .union(Config::DIRECT_MAP);
const ARM64: Config = Config::NUMA
    .union(Config::NUMA_BALANCING)
    .union(Config::ZONE_DMA)
    .union(Config::ZONE_DMA32)
    .union(Config::CMA)
    .union(Config::ZSWAP)
    .union(Config::MEMORY_FAILURE)
    .union(Config::THP);
const VM_6_18: Config = Config::X86_64.difference(Config::CMA).difference(Config::MEMORY_FAILURE);

/// Recorded machines and what their kernels were.
const MACHINES: [(&str, Profile); 4] = [
    ("kernelcore-numa2", Profile::new(Release::V6_1, CLOUD)),
    ("i386-m3g", Profile::new(Release::V6_1, I386)),
    ("arm64-cma", Profile::new(Release::V6_1, ARM64)),
    ("pressure.after", Profile::new(Release::V6_18, VM_6_18)),
];

fn recorded(machine: &str, file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(machine).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn pages_of(zone: &parse::Zone<'_>) -> ZonePages {
    let pages = |name| zone.pages(name).unwrap();
    ZonePages {
        free: pages("free"),
        boost: pages("boost"),
        min: pages("min"),
        low: pages("low"),
        high: pages("high"),
        promo: zone.pages("promo").unwrap_or(0),
        spanned: pages("spanned"),
        present: pages("present"),
        managed: pages("managed"),
        cma: pages("cma"),
    }
}

fn print_zone(profile: Profile, zone: &parse::Zone<'_>) -> String {
    let stats = |name: &str| zone.stat(name).unwrap_or_else(|| panic!("no {name}"));
    let node_stats = |name: &str| zone.node_stat(name).unwrap_or_else(|| panic!("no {name}"));
    let sets = zone.pagesets();
    let pagesets = |index: usize| sets.get(index).copied();
    ZoneInfo {
        profile,
        node: zone.node,
        zone: zone.zone,
        node_stats: zone.node_stats().next().is_some().then_some(&node_stats as _),
        pages: pages_of(zone),
        protection: zone.protection().unwrap(),
        populated: zone.start_pfn().map(|start_pfn| PopulatedZone {
            stats: &stats,
            pagesets: &pagesets,
            node_unreclaimable: u32::try_from(zone.node_unreclaimable().unwrap()).unwrap(),
            start_pfn,
        }),
    }
    .to_string()
}

#[test]
fn zoneinfo_is_the_recorded_text() {
    for (machine, profile) in MACHINES {
        let text = recorded(machine, "zoneinfo");
        let parsed = parse::ZoneInfo::parse(&text).unwrap();
        let printed: String = parsed.zones().map(|zone| print_zone(profile, &zone)).collect();
        assert_eq!(printed, text, "{machine}");
    }
}

#[test]
fn vmstat_is_the_recorded_text() {
    for (machine, profile) in MACHINES {
        let text = recorded(machine, "vmstat");
        let parsed = parse::VmStat::parse(&text).unwrap();
        let counters = |name: &str| parsed.get(name).unwrap_or_else(|| panic!("{machine}: no {name}"));
        assert_eq!(vmstat::VmStat { profile, counters: &counters }.to_string(), text, "{machine}");
    }
}

#[test]
fn pagetypeinfo_is_the_recorded_text() {
    for machine in ["i386-m3g", "arm64-cma", "pressure.after"] {
        let text = recorded(machine, "pagetypeinfo");
        let parsed = parse::PageTypeInfo::parse(&text).unwrap();
        let pageblock_order = Order::try_new(parsed.pageblock_order().unwrap()).unwrap();
        let max_order = Order::try_new(10).unwrap();
        let mut printed = Heading { pageblock_order, max_order }.to_string();
        let mut zones = Vec::new();
        for row in parsed.free() {
            writeln!(printed, "{row}").unwrap();
            zones.push((row.node, row.zone));
        }
        zones.dedup();
        let blocks = |&(node, zone)| (node, zone, parsed.nr_blocks(node, zone).collect::<Vec<_>>());
        let blocks: Vec<_> = zones.iter().map(blocks).collect();
        let types: Vec<MigrateType> = blocks[0].2.iter().map(|(migrate_type, _)| *migrate_type).collect();
        write!(printed, "{}", BlocksHeading { types }).unwrap();
        for (node, zone, counts) in blocks {
            let nr_blocks: Vec<u64> = counts.iter().map(|(_, count)| *count).collect();
            writeln!(printed, "{}", BlocksRow { node, zone, nr_blocks }).unwrap();
        }
        assert_eq!(printed, text, "{machine}");
    }
}
