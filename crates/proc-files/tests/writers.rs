//! Writers print a recorded kernel's text from values: fill them from a parsed recording, print, compare.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use mmkit_proc_files::meminfo::{MemInfo, NodeMemInfo};
use mmkit_proc_files::pagetypeinfo::{BlocksHeading, BlocksRow, Heading};
use mmkit_proc_files::show_mem::{FreeBlocks, HugePages, Summary};
use mmkit_proc_files::zoneinfo::{PopulatedZone, ZoneInfo, ZonePages};
use mmkit_proc_files::{Config, GfpText, MemorySource, OomInvocation, Profile, Release, ShowMem, parse, vmstat};
use units::{MigrateType, NodeId, Order, PhysAddr, VirtAddr, VirtRange, ZoneType};

const CLOUD: Config = Config::X86_64
    .difference(Config::CMA)
    .difference(Config::ZSWAP)
    .difference(Config::MEMORY_FAILURE)
    .difference(Config::GIGABYTE_PAGES);
/// Linux 6.12.117 on a processor with pages of a gigabyte.
const CLOUD_6_12: Config = CLOUD.union(Config::UNACCEPTED).union(Config::MEMORY_FAILURE).union(Config::GIGABYTE_PAGES);
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

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data")
}

/// Every recorded machine with the file `name`: its directory, the file's text and what the kernel was.
fn recorded(name: &str) -> Vec<(PathBuf, String, Profile)> {
    let mut machines = Vec::new();
    for kind in ["boots", "pages"] {
        for entry in data().join(kind).read_dir().unwrap() {
            let machine = entry.unwrap().path();
            let Ok(text) = std::fs::read_to_string(machine.join(name)) else { continue };
            let directory = machine.file_name().unwrap().to_str().unwrap();
            let profile = match directory.split(['-', '.']).next() {
                Some("numa2") if kind == "pages" => Profile::new(Release::V6_12, CLOUD_6_12),
                _ if kind == "pages" => Profile::new(Release::V6_18, VM_6_18),
                Some("i386") => Profile::new(Release::V6_1, I386),
                Some("linux612") => Profile::new(Release::V6_12, CLOUD.union(Config::UNACCEPTED)),
                Some("arm64") => Profile::new(Release::V6_1, ARM64),
                _ => Profile::new(Release::V6_1, CLOUD),
            };
            machines.push((machine, text, profile));
        }
    }
    assert!(machines.len() >= 25, "{name} of {} machines", machines.len());
    machines
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
    for (machine, text, profile) in recorded("zoneinfo") {
        let parsed = parse::ZoneInfo::parse(&text).unwrap();
        let printed: String = parsed.zones().map(|zone| print_zone(profile, &zone)).collect();
        assert_eq!(printed, text, "{}", machine.display());
    }
}

#[test]
fn vmstat_is_the_recorded_text() {
    for (machine, text, profile) in recorded("vmstat") {
        let parsed = parse::VmStat::parse(&text).unwrap();
        let counters = |name: &str| parsed.get(name).unwrap_or_else(|| panic!("{}: no {name}", machine.display()));
        assert_eq!(vmstat::VmStat { profile, counters: &counters }.to_string(), text, "{}", machine.display());
    }
}

#[test]
fn meminfo_is_the_recorded_text() {
    for (machine, text, profile) in recorded("meminfo") {
        let parsed = parse::MemInfo::parse(&text).unwrap();
        let values = |name: &str| parsed.get(name).unwrap_or_else(|| panic!("{}: no {name}", machine.display()));
        assert_eq!(MemInfo { profile, values: &values }.to_string(), text, "{}", machine.display());
        for node in [NodeId::ZERO, NodeId::try_new(1).unwrap()] {
            let Ok(text) = std::fs::read_to_string(machine.join(format!("node-node{node}-meminfo"))) else { continue };
            let parsed = parse::MemInfo::parse(&text).unwrap();
            let values = |name: &str| parsed.get(name).unwrap_or_else(|| panic!("{}: no {name}", machine.display()));
            assert_eq!(NodeMemInfo { profile, node, values: &values }.to_string(), text, "{}", machine.display());
        }
    }
}

fn print_node_blocks(parsed: &parse::PageTypeInfo, node: NodeId) -> String {
    let pageblock_order = Order::try_new(parsed.pageblock_order().unwrap()).unwrap();
    let max_order = Order::try_new(10).unwrap();
    let mut printed = Heading { pageblock_order, max_order }.to_string();
    let mut zones = Vec::new();
    for row in parsed.free().filter(|row| row.node == node) {
        writeln!(printed, "{row}").unwrap();
        zones.push(row.zone);
    }
    zones.dedup();
    let types: Vec<MigrateType> = parsed.nr_blocks(node, zones[0]).map(|(migrate_type, _)| migrate_type).collect();
    write!(printed, "{}", BlocksHeading { types }).unwrap();
    for zone in zones {
        let nr_blocks: Vec<u64> = parsed.nr_blocks(node, zone).map(|(_, count)| count).collect();
        writeln!(printed, "{}", BlocksRow { node, zone, nr_blocks }).unwrap();
    }
    printed
}

#[test]
fn pagetypeinfo_is_the_recorded_text() {
    for (machine, text, _) in recorded("pagetypeinfo") {
        let parsed = parse::PageTypeInfo::parse(&text).unwrap();
        let mut nodes: Vec<_> = parsed.free().map(|row| row.node).collect();
        nodes.dedup();
        let printed: String = nodes.into_iter().map(|node| print_node_blocks(&parsed, node)).collect();
        assert_eq!(printed, text, "{}", machine.display());
    }
}

/// A recorded report as a source of values.
struct Recorded<'a>(parse::MemInfoReport<'a>);

impl Recorded<'_> {
    fn report_zone(&self, node: NodeId, zone: ZoneType) -> parse::ReportZone<'_> {
        let is_it = |found: &parse::ReportZone<'_>| (found.node.unwrap_or_default(), found.zone) == (node, zone);
        self.0.zones().into_iter().find(is_it).unwrap()
    }
}

impl MemorySource for Recorded<'_> {
    fn total(&self, name: &str) -> u64 {
        self.0.total(name).unwrap_or_else(|| panic!("no {name}"))
    }

    fn node(&self, index: usize) -> Option<NodeId> {
        self.0.nodes().nth(index).map(|node| node.node)
    }

    fn node_kb(&self, node: NodeId, name: &str) -> u64 {
        let found = self.0.nodes().find(|found| found.node == node).unwrap();
        found.field(name).unwrap_or_else(|| panic!("no {name}"))
    }

    fn all_unreclaimable(&self, node: NodeId) -> u64 {
        self.node_kb(node, "all_unreclaimable")
    }

    fn zone(&self, index: usize) -> Option<(NodeId, ZoneType)> {
        self.0.zones().get(index).map(|zone| (zone.node.unwrap_or_default(), zone.zone))
    }

    fn zone_kb(&self, node: NodeId, zone: ZoneType, name: &str) -> u64 {
        self.report_zone(node, zone).field(name).unwrap_or_else(|| panic!("no {name}"))
    }

    fn lowmem_reserve(&self, node: NodeId, zone: ZoneType, index: usize) -> Option<u64> {
        self.report_zone(node, zone).lowmem_reserve.get(index).copied()
    }

    fn free_blocks(&self, node: NodeId, zone: ZoneType, order: Order) -> Option<FreeBlocks> {
        self.report_zone(node, zone).free_blocks(order)
    }

    fn huge_pages(&self, index: usize) -> Option<HugePages> {
        self.0.huge_pages().nth(index)
    }

    fn summary(&self) -> Summary {
        let count = |what| self.0.count(what).unwrap_or(0);
        Summary {
            pagecache: count("total pagecache pages"),
            swap_cache: count("pages in swap cache"),
            free_swap_kb: self.0.swap_kb("Free swap").unwrap(),
            total_swap_kb: self.0.swap_kb("Total swap").unwrap(),
            ram: count("pages RAM"),
            highmem: count("pages HighMem/MovableOnly"),
            reserved: count("pages reserved"),
            cma_reserved: count("pages cma reserved"),
            hwpoisoned: count("pages hwpoisoned"),
        }
    }
}

#[test]
fn memory_reports_are_the_recorded_text() {
    let reports = [
        ("oom-256m-linux-6.1.txt", CLOUD),
        ("oom-i386-highmem-linux-6.1.txt", I386),
        ("oom-arm64-256m-linux-6.1.txt", ARM64),
    ];
    for (name, config) in reports {
        let text = std::fs::read_to_string(data().join("reports").join(name)).unwrap();
        let log = parse::Log::parse(&text);
        let source = Recorded(log.reports().next().unwrap());
        let profile = Profile::new(Release::V6_1, config);
        let printed = ShowMem { profile, page_shift: 12, source: &source }.to_string();
        let without_time = |line: &str| line.split_once("] ").unwrap().1.to_owned() + "\n";
        let lines = text.lines().map(without_time);
        let recorded: String = lines
            .skip_while(|line| line != "Mem-Info:\n")
            .take_while(|line| !line.starts_with("Tasks state"))
            .collect();
        assert_eq!(printed, recorded, "{name}");
        let trigger = source.0.trigger.unwrap();
        let invocation = OomInvocation {
            comm: trigger.comm.as_str(),
            gfp: GfpText { release: Release::V6_1, bits: trigger.gfp_bits.unwrap() },
            order: Order::ZERO,
            oom_score_adj: 0,
        };
        assert_eq!(invocation.to_string() + "\n", without_time(text.lines().next().unwrap()), "{name}");
    }
}

#[test]
fn recorded_caches_stand_under_the_heading() {
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data");
    let mut files = 0;
    for kind in ["boots", "pages"] {
        for entry in data.join(kind).read_dir().unwrap() {
            let Ok(text) = std::fs::read_to_string(entry.unwrap().path().join("slabinfo")) else { continue };
            let mut written = mmkit_proc_files::slabinfo::Heading.to_string();
            for cache in parse::SlabInfo::parse(&text).unwrap().caches() {
                written += &format!("{cache}\n");
            }
            assert!(written == text, "every line is a heading or a cache");
            files += 1;
        }
    }
    assert!(files > 15, "{files} files");
}

/// Takes a recorded line apart and writes it again from plain values.
fn written_again(area: &mmkit_proc_files::parse::VmallocArea) -> String {
    use mmkit_proc_files::vmallocinfo::{AreaDetails, AreaWords};
    let words = [
        ("ioremap", AreaWords::IOREMAP),
        ("sparse", AreaWords::SPARSE),
        ("vmalloc", AreaWords::VMALLOC),
        ("vmap", AreaWords::VMAP),
        ("user", AreaWords::USER),
        ("dma-coherent", AreaWords::DMA_COHERENT),
        ("vpages", AreaWords::VPAGES),
    ];
    if area.details == "unpurged vm_area" {
        return AreaDetails::Unpurged.to_string();
    }
    let phys = area.details.split_whitespace().find_map(|word| word.strip_prefix("phys=0x"));
    let node_pages: Vec<u64> = (0..64).map(|node| area.number(&format!("N{node}")).unwrap_or(0)).collect();
    let caller = area.caller().map(|caller| {
        // A function of a module is followed by the module's name.
        let rest = area.details.strip_prefix(caller).unwrap_or_default();
        if rest.starts_with(" [") { area.details.split_inclusive(']').next().unwrap_or(caller) } else { caller }
    });
    let owned = AreaDetails::Owned {
        caller,
        pages: area.number("pages").unwrap_or(0),
        phys: phys.map(|digits| PhysAddr::new(u64::from_str_radix(digits, 16).unwrap())),
        words: words.iter().filter(|(word, _)| area.is(word)).map(|(_, flag)| *flag).collect(),
        node_pages: &node_pages,
    };
    owned.to_string()
}

#[test]
fn recorded_areas_are_written_in_the_words_that_they_came_in() {
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data");
    let mut lines = 0;
    for kind in ["boots", "pages"] {
        for entry in data.join(kind).read_dir().unwrap() {
            let Ok(text) = std::fs::read_to_string(entry.unwrap().path().join("vmallocinfo")) else { continue };
            for area in mmkit_proc_files::parse::VmallocInfo::parse(&text).unwrap().areas() {
                assert_eq!(written_again(area).trim_start(), area.details);
                lines += 1;
            }
        }
    }
    assert!(lines > 10_000, "{lines} lines");
}

#[test]
fn a_line_of_vmallocinfo_has_the_machines_pointers_and_a_padded_size() {
    use mmkit_proc_files::vmallocinfo::{AreaDetails, VmallocLine};
    let line = |start, bytes| VmallocLine {
        range: VirtRange::with_len(VirtAddr::new(start), bytes),
        details: AreaDetails::MapRam,
    };
    let text = line(0xffff_c900_0000_0000, 20480).to_string();
    assert_eq!(text, "0xffffc90000000000-0xffffc90000005000   20480 vm_map_ram");
    assert_eq!(line(0xf7ff_e000, 4 << 20).to_string(), "0xf7ffe000-0xf83fe000 4194304 vm_map_ram");
}
