//! Parsers of /proc files. What is accepted has to print back byte for byte.

use proc_files::pagemap::PagemapEntry;
use proc_files::parse::{
    BuddyInfo, Iomem, Log, Maps, MemInfo, NumaMaps, PageRuns, PageTypeInfo, Pagemap, SlabInfo, Smaps, Status, VmStat,
    VmallocInfo, ZoneInfo,
};
use proc_files::statm::Statm;
use units::Order;

use super::{Target, outcome};
use crate::corpus::Seed;

macro_rules! round_trip {
    ($parser:ty) => {
        |input| {
            let text = String::from_utf8_lossy(input);
            outcome(<$parser>::parse(&text).inspect(|parsed| assert_eq!(parsed.to_string(), text, "printed differs")))
        }
    };
}

/// `BuddyInfo`.
pub(super) const BUDDYINFO: Target = Target {
    name: "buddyinfo",
    seeds: &[Seed::Each("data/pages", "buddyinfo"), Seed::Each("data/boots", "buddyinfo")],
    tokens: &["Node 0, zone ", "DMA32", "Normal", "Movable", "HighMem", "Device", "\n", "  "],
    run: round_trip!(BuddyInfo),
};

/// `PageTypeInfo`.
pub(super) const PAGETYPEINFO: Target = Target {
    name: "pagetypeinfo",
    seeds: &[Seed::Each("data/pages", "pagetypeinfo"), Seed::Each("data/boots", "pagetypeinfo")],
    tokens: &[
        "Page block order: ",
        "Pages per block:  ",
        "Free pages count",
        ", type ",
        "Number of blocks type",
        ">",
        "Isolate",
    ],
    run: round_trip!(PageTypeInfo),
};

/// `ZoneInfo`.
pub(super) const ZONEINFO: Target = Target {
    name: "zoneinfo",
    seeds: &[Seed::Each("data/pages", "zoneinfo"), Seed::Each("data/boots", "zoneinfo")],
    tokens: &[
        "Node ",
        ", zone ",
        "pages free",
        "protection: (",
        "pagesets",
        "cpu: ",
        "high_max:",
        "nr_free_pages ",
        "per-node stats",
    ],
    run: round_trip!(ZoneInfo),
};

/// `VmStat`.
pub(super) const VMSTAT: Target = Target {
    name: "vmstat",
    seeds: &[Seed::Each("data/pages", "vmstat"), Seed::Each("data/boots", "vmstat")],
    tokens: &["nr_free_pages ", "pgalloc_dma ", "\n", " "],
    run: round_trip!(VmStat),
};

/// `MemInfo`.
pub(super) const MEMINFO: Target = Target {
    name: "meminfo",
    seeds: &[
        Seed::Each("data/pages", "meminfo"),
        Seed::Each("data/boots", "meminfo"),
        Seed::Each("data/boots", "node-node0-meminfo"),
    ],
    tokens: &["MemTotal:", "HugePages_Total:", "HardwareCorrupted:", "Node 0 ", " kB", "\n"],
    run: round_trip!(MemInfo),
};

/// `Iomem` of proc-files, which keeps every line; boot-memory's reader takes the System RAM only.
pub(super) const IOMEM: Target = Target {
    name: "iomem-tree",
    seeds: &[Seed::Each("data/boots", "iomem")],
    tokens: &["00000000-", "ffffffffffffffff", " : ", "System RAM", "  ", "\n"],
    run: round_trip!(Iomem),
};

/// `SlabInfo`.
pub(super) const SLABINFO: Target = Target {
    name: "slabinfo",
    seeds: &[Seed::Each("data/pages", "slabinfo"), Seed::Each("data/boots", "slabinfo")],
    tokens: &["slabinfo - version: 2.1", "# name", " : tunables ", " : slabdata ", "\n"],
    run: round_trip!(SlabInfo),
};

/// `VmallocInfo`.
pub(super) const VMALLOCINFO: Target = Target {
    name: "vmallocinfo",
    seeds: &[Seed::Each("data/pages", "vmallocinfo"), Seed::Each("data/boots", "vmallocinfo")],
    tokens: &["0x(ptrval)-0x(ptrval)", "+0x1/0x2", " pages=", " vmalloc", " N0=", "\n"],
    run: round_trip!(VmallocInfo),
};

/// `PageRuns`.
pub(super) const PAGE_RUNS: Target = Target {
    name: "page-runs",
    seeds: &[Seed::Text("# mono_ns_begin 5 mono_ns_end 9\n0 256 r\n100 3840 b\nfffffffff0 16 k\n")],
    tokens: &["# ", "ffffffffff", " 1 ", " b\n", " -\n", "18446744073709551615"],
    run: round_trip!(PageRuns),
};

/// `Maps`.
pub(super) const MAPS: Target = Target {
    name: "maps",
    seeds: &[Seed::File("data/vm/bash.vm/t1.exit.maps")],
    tokens: &["7fffffffffff-", "ffffffffffffffff", " rw-p ", " ---s ", " fe:00 ", " 0 ", "[heap]", " (deleted)", "\n"],
    run: round_trip!(Maps),
};

/// `Smaps`, and the grouping of its lines into areas.
pub(super) const SMAPS: Target = Target {
    name: "smaps",
    seeds: &[Seed::File("data/vm/bash.vm/t1.exit.smaps")],
    tokens: &["Rss: ", "THPeligible: ", "VmFlags: ", " rd", " zz", " kB", "1000-2000 rw-p 0 0:0 0", "\n"],
    run: |input| {
        let text = String::from_utf8_lossy(input);
        outcome(Smaps::parse(&text).inspect(|parsed| {
            assert_eq!(parsed.to_string(), text, "printed differs");
            let fields: usize = parsed.areas().map(|area| area.fields.len()).sum();
            assert!(fields <= text.lines().count(), "a field is counted twice");
        }))
    },
};

/// `Status`.
pub(super) const STATUS: Target = Target {
    name: "status",
    seeds: &[Seed::Text("Name:\tcat\nUid:\t0\t0\t0\t0\nGroups:\t \nVmSize:\t    3060 kB\nThreads:\t1\n")],
    tokens: &["VmRSS:\t", ":", "\t", " kB", "\n"],
    run: round_trip!(Status),
};

/// `Statm`, which reads what it prints.
pub(super) const STATM: Target = Target {
    name: "statm",
    seeds: &[Seed::Text("723 424 400 11 0 68 0\n")],
    tokens: &["18446744073709551616", "-1", " 0", "\n", "\t"],
    run: |input| {
        outcome(Statm::parse(&String::from_utf8_lossy(input)).inspect(|statm| {
            assert_eq!(Statm::parse(&statm.to_string()).as_ref(), Ok(statm), "reads another");
        }))
    },
};

/// `NumaMaps`.
pub(super) const NUMA_MAPS: Target = Target {
    name: "numa-maps",
    seeds: &[Seed::Text("7f00 default\n55810f2a6000 bind:0-1 file=/a anon=1 active=0 N0=1 kernelpagesize_kB=4\n")],
    tokens: &[" heap", " N63=", " N64=", " mapmax=", " file=", "=", "\n"],
    run: |input| {
        let text = String::from_utf8_lossy(input);
        outcome(NumaMaps::parse(&text).inspect(|parsed| {
            assert_eq!(parsed.to_string(), text, "printed differs");
            assert!(parsed.areas().all(|area| area.nodes().count() <= area.words.len()), "a node is counted twice");
        }))
    },
};

/// `Pagemap`, whose entries have to keep every bit that has a meaning.
pub(super) const PAGEMAP: Target = Target {
    name: "pagemap",
    seeds: &[Seed::Made(|| [0x8180_0000_0000_0abc_u64, 0, 0x6000_0000_0000_0041].map(u64::to_le_bytes).concat())],
    tokens: &["\0\0\0\0\0\0\0\0", "\u{1}"],
    run: |input| {
        outcome(Pagemap::parse(input).inspect(|parsed| {
            assert_eq!(parsed.to_bytes(), input, "bytes differ");
            let keeps = |entry: PagemapEntry| PagemapEntry::from_bits(entry.to_bits()) == entry;
            assert!(parsed.entries().all(keeps), "an entry changes");
        }))
    },
};

/// `Log`, and every figure of the reports in it. There is no log that it refuses.
pub(super) const LOG: Target = Target {
    name: "memory-report",
    seeds: &[
        Seed::File("data/reports/oom-256m-linux-6.1.txt"),
        Seed::File("data/reports/oom-arm64-256m-linux-6.1.txt"),
        Seed::File("data/reports/oom-i386-highmem-linux-6.1.txt"),
        Seed::File("data/reports/page-allocation-failure-arm64-64k.txt"),
        Seed::Each("data/boots", "oom-dmesg"),
    ],
    tokens: &[
        "Mem-Info:\n",
        "#012 ",
        "[    1.0] ",
        "page allocation failure: order:",
        "mode:0x",
        "nodemask=(null)",
        " free:",
        "kB ",
        "lowmem_reserve[]: ",
        "*4kB (UME) ",
        "= 12kB",
        "Node 0 ",
        "hugepages_total=",
        " pages RAM",
        "invoked oom-killer: gfp_mask=",
    ],
    run: |input| {
        let text = String::from_utf8_lossy(input);
        let log = Log::parse(&text);
        assert_eq!(log.to_string(), text, "printed differs");
        let reports: Vec<String> = log.reports().map(|report| figures(&report)).collect();
        format!("{} problems, {}", log.problems().len(), reports.join(", "))
    },
};

fn figures(report: &proc_files::parse::MemInfoReport<'_>) -> String {
    let gfp = report.trigger.and_then(|trigger| trigger.gfp());
    let zones = report.zones();
    let blocks = zones.iter().filter(|zone| zone.free_blocks(Order::ZERO).is_some()).count();
    let known = [report.total("free"), report.count("RAM"), report.swap_kb("Free swap")].iter().flatten().count();
    let (nodes, pools) = (report.nodes().count(), report.huge_pages().count());
    format!("{} nodes {nodes} zones {} {blocks} pools {pools} known {known}", gfp.is_some(), zones.len())
}
