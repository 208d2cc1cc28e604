//! Every recorded file survives parsing and printing byte for byte, and in the kernel's form.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use mmkit_proc_files::parse::{BuddyInfo, PageTypeInfo, ParseError, VmStat, ZoneInfo};

/// Directories of recorded files: a few beside this test, the rest in the project's data.
fn recorded_files(name: &str) -> Vec<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let roots = [here.join("tests/data"), here.join("../../data/boots"), here.join("../../data/pages")];
    let machines = roots.iter().filter_map(|root| root.read_dir().ok()).flatten();
    let mut files: Vec<_> = machines.map(|entry| entry.unwrap().path().join(name)).filter(|p| p.exists()).collect();
    files.sort();
    files
}

fn assert_round_trip<T: Display>(name: &str, parse: fn(&str) -> Result<T, ParseError>, nr_verbatim: fn(&T) -> usize) {
    let files = recorded_files(name);
    assert!(files.len() >= 3, "{name}: {} files", files.len());
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
