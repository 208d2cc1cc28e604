//! Every recorded file survives parsing and printing byte for byte, and in the kernel's form.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use mmkit_proc_files::kpageflags::PageKind;
use mmkit_proc_files::parse::{
    BuddyInfo, Iomem, Log, MemInfo, PageRuns, PageTypeInfo, ParseError, SlabInfo, VmStat, VmallocInfo, ZoneInfo,
};
use units::Order;

/// The file of this name in every recorded directory.
fn recorded_files(name: &str) -> Vec<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data");
    let machines = ["boots", "pages"].map(|kind| data.join(kind).read_dir().unwrap());
    let machines = machines.into_iter().flatten();
    let mut files: Vec<_> = machines.map(|entry| entry.unwrap().path().join(name)).filter(|p| p.exists()).collect();
    files.sort();
    files
}

fn assert_round_trip<T: Display>(name: &str, parse: fn(&str) -> Result<T, ParseError>, nr_verbatim: fn(&T) -> usize) {
    let files = recorded_files(name);
    assert!(files.len() >= 16, "{name}: {} files", files.len());
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let parsed = parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(parsed.to_string(), text, "{}", path.display());
        assert_eq!(nr_verbatim(&parsed), 0, "{}: lines that were not understood", path.display());
    }
}

#[test]
fn buddyinfo_survives() {
    assert_round_trip("buddyinfo", BuddyInfo::parse, BuddyInfo::nr_verbatim);
}

#[test]
fn pagetypeinfo_survives() {
    assert_round_trip("pagetypeinfo", PageTypeInfo::parse, PageTypeInfo::nr_verbatim);
}

#[test]
fn zoneinfo_survives() {
    assert_round_trip("zoneinfo", ZoneInfo::parse, ZoneInfo::nr_verbatim);
}

#[test]
fn vmstat_survives() {
    assert_round_trip("vmstat", VmStat::parse, VmStat::nr_verbatim);
}

#[test]
fn meminfo_survives() {
    assert_round_trip("meminfo", MemInfo::parse, MemInfo::nr_verbatim);
}

#[test]
fn meminfo_of_nodes_survives() {
    assert_round_trip("node-node0-meminfo", MemInfo::parse, MemInfo::nr_verbatim);
    for path in recorded_files("node-node1-meminfo") {
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(MemInfo::parse(&text).unwrap().to_string(), text, "{}", path.display());
    }
}

#[test]
fn iomem_survives() {
    assert_round_trip("iomem", Iomem::parse, Iomem::nr_verbatim);
}

#[test]
fn slabinfo_survives() {
    // Two lines of head.
    assert_round_trip("slabinfo", SlabInfo::parse, |parsed| parsed.nr_verbatim() - 2);
}

#[test]
fn vmallocinfo_survives() {
    assert_round_trip("vmallocinfo", VmallocInfo::parse, VmallocInfo::nr_verbatim);
}

#[test]
fn scans_of_page_kinds_survive_and_agree_with_buddyinfo() {
    for path in recorded_files("pfnkinds.zst") {
        let text = String::from_utf8(zstd::decode_all(std::fs::File::open(&path).unwrap()).unwrap()).unwrap();
        let parsed = PageRuns::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(parsed.to_string() == text, "{}", path.display());
        assert_eq!(parsed.nr_verbatim(), 1, "{}", path.display());
        let free: u64 = parsed.runs().filter(|run| run.kind == PageKind::Free).map(|run| run.range.nr_pages()).sum();
        let buddyinfo = std::fs::read_to_string(path.with_file_name("buddyinfo")).unwrap();
        let buddyinfo = BuddyInfo::parse(&buddyinfo).unwrap();
        let pages = |counts: &[u64]| (0..).zip(counts).map(|(order, count)| count << order).sum::<u64>();
        let counted: u64 = buddyinfo.zones().map(|row| pages(&row.nr_free)).sum();
        // The scan takes seconds, in which pages come and go.
        assert!(free.abs_diff(counted) * 50 <= counted.max(1_000_000), "{}: {free}, {counted}", path.display());
    }
}

/// Logs with a memory report, and what the report's lines are known to be.
fn recorded_logs() -> Vec<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data");
    let reports = data.join("reports").read_dir().unwrap().map(|entry| entry.unwrap().path());
    let boots = data.join("boots").read_dir().into_iter().flatten();
    let boots = boots.map(|entry| entry.unwrap().path().join("oom-dmesg")).filter(|path| path.exists());
    let mut logs: Vec<_> = reports.filter(|path| path.extension().is_some_and(|e| e == "txt")).chain(boots).collect();
    logs.sort();
    logs
}

#[test]
fn logs_survive_and_their_reports_are_read_whole() {
    let logs = recorded_logs();
    assert!(logs.len() >= 4, "{} logs", logs.len());
    for path in logs {
        let text = std::fs::read_to_string(&path).unwrap();
        let log = Log::parse(&text);
        assert_eq!(log.to_string(), text, "{}", path.display());
        assert_eq!(log.problems(), [], "{}", path.display());
        let reports: Vec<_> = log.reports().collect();
        assert_eq!(reports.len(), 1, "{}", path.display());
        let report = &reports[0];
        assert!(report.trigger.is_some_and(|trigger| trigger.gfp().is_some()), "{}", path.display());
        let zones = report.zones();
        assert!(!zones.is_empty() && report.nodes().count() == 1, "{}", path.display());
        for zone in zones {
            let free_kb: u64 = Order::ZERO
                .through(Order::MAX)
                .filter_map(|order| Some((zone.free_blocks(order)?.nr_free * zone.page_kb()?) << order.raw()))
                .sum();
            let counted = zone.field("free").unwrap();
            assert!(free_kb.abs_diff(counted) * 100 <= counted, "{}: {free_kb} kB, {counted} kB", path.display());
        }
        assert!(report.count("pages RAM").is_some() && report.swap_kb("Total swap") == Some(0), "{}", path.display());
    }
}
