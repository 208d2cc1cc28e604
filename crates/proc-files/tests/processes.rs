//! Files of a process: every recorded one survives parsing and printing, and the writers print it from values.

use std::path::{Path, PathBuf};

use mmkit_proc_files::numa_maps::{Backing, NumaMapsLine, NumaPages};
use mmkit_proc_files::parse::{Maps, NumaMaps, Smaps, Status};
use mmkit_proc_files::smaps::{SmapsArea, SmapsRollup};
use mmkit_proc_files::status::{self, Task, TaskState};
use mmkit_proc_files::{Config, Profile, Release};
use units::{NodeId, VirtAddr, VmFlags};

const LINUX_6_18: Profile = Profile::new(Release::V6_18, Config::X86_64);

/// The files of every recorded process with this extension.
fn recorded(extension: &str) -> Vec<(PathBuf, String)> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/vm");
    let processes = data.read_dir().unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let files = processes.flat_map(|directory| directory.read_dir().unwrap().map(|entry| entry.unwrap().path()));
    let files = files.filter(|path| path.extension().is_some_and(|found| found == extension));
    let mut files: Vec<_> = files.map(|path| (path.clone(), std::fs::read_to_string(&path).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn recorded_maps_survive() {
    let files = recorded("maps");
    assert!(files.len() >= 50, "{} files", files.len());
    for (path, text) in files {
        let parsed = Maps::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(parsed.to_string(), text, "{}", path.display());
        assert_eq!(parsed.nr_verbatim(), 0, "{}", path.display());
        assert!(parsed.areas().is_sorted_by(|a, b| a.range.end <= b.range.start), "{}", path.display());
    }
}

#[test]
fn recorded_smaps_survive_and_have_the_areas_of_maps() {
    let files = recorded("smaps");
    assert!(files.len() >= 30, "{} files", files.len());
    for (path, text) in files {
        let parsed = Smaps::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(parsed.to_string(), text, "{}", path.display());
        assert_eq!(parsed.nr_verbatim(), 0, "{}", path.display());
        let maps = std::fs::read_to_string(path.with_extension("maps")).unwrap();
        assert!(parsed.areas().map(|area| area.area).eq(Maps::parse(&maps).unwrap().areas()), "{}", path.display());
    }
}

#[test]
fn recorded_smaps_are_written_from_values() {
    for (path, text) in recorded("smaps") {
        let parsed = Smaps::parse(&text).unwrap();
        let mut written = String::new();
        for area in parsed.areas() {
            let values = |name: &str| area.get(name).unwrap();
            let (flags, protection_key) = (area.flags.unwrap(), None);
            let area = SmapsArea { profile: LINUX_6_18, area: area.area, values: &values, protection_key, flags };
            written += &area.to_string();
        }
        assert_eq!(written, text, "{}", path.display());
    }
}

#[test]
fn linux_6_1_does_not_count_merged_pages() {
    let profile = Profile::new(Release::V6_1, Config::X86_64);
    let maps = Maps::parse("00400000-00401000 r-xp 00000000 fe:00 7 /bin/a\n").unwrap();
    let area = maps.areas().next().unwrap();
    let flags = VmFlags::READ | VmFlags::SEALED;
    let text = SmapsArea { profile, area, values: &|_| 0, protection_key: Some(3), flags }.to_string();
    assert!(!text.contains("KSM"), "{text}");
    assert!(text.ends_with("THPeligible:           0\nProtectionKey:         3\nVmFlags: rd sl \n"), "{text}");
}

/// As read on Linux 6.18.
const ROLLUP: &str = "\
563a6b124000-7ffeba062000 ---p 00000000 00:00 0                          [rollup]
Rss:                1756 kB
Pss:                 461 kB
Pss_Dirty:           112 kB
Pss_Anon:            112 kB
Pss_File:            349 kB
Pss_Shmem:             0 kB
Shared_Clean:       1604 kB
Shared_Dirty:          0 kB
Private_Clean:        40 kB
Private_Dirty:       112 kB
Referenced:         1756 kB
Anonymous:           112 kB
KSM:                   0 kB
LazyFree:              0 kB
AnonHugePages:         0 kB
ShmemPmdMapped:        0 kB
FilePmdMapped:         0 kB
Shared_Hugetlb:        0 kB
Private_Hugetlb:       0 kB
Swap:                  0 kB
SwapPss:               0 kB
Locked:                0 kB
";

#[test]
fn a_rollup_survives_and_is_written_from_values() {
    let parsed = Smaps::parse(ROLLUP).unwrap();
    assert_eq!((parsed.to_string().as_str(), parsed.nr_verbatim()), (ROLLUP, 0));
    let sum = parsed.areas().next().unwrap();
    let values = |name: &str| sum.get(name).unwrap();
    let written = SmapsRollup { profile: LINUX_6_18, range: sum.area.range, values: &values }.to_string();
    assert_eq!(written, ROLLUP);
}

/// As read on Linux 6.18, up to the number of threads.
const STATUS: &str = "\
Name:\tcat
Umask:\t0022
State:\tR (running)
Tgid:\t11617
Ngid:\t0
Pid:\t11617
PPid:\t11611
TracerPid:\t0
Uid:\t0\t0\t0\t0
Gid:\t0\t0\t0\t0
FDSize:\t256
Groups:\t \nNStgid:\t11617
NSpid:\t11617
NSpgid:\t11611
NSsid:\t32230
Kthread:\t0
VmPeak:\t    3060 kB
VmSize:\t    3060 kB
VmLck:\t       0 kB
VmPin:\t       0 kB
VmHWM:\t    1696 kB
VmRSS:\t    1696 kB
RssAnon:\t     112 kB
RssFile:\t    1584 kB
RssShmem:\t       0 kB
VmData:\t     360 kB
VmStk:\t     132 kB
VmExe:\t      20 kB
VmLib:\t    1528 kB
VmPTE:\t      44 kB
VmSwap:\t       0 kB
HugetlbPages:\t       0 kB
CoreDumping:\t0
THP_enabled:\t1
untag_mask:\t0xffffffffffffffff
Threads:\t1
";

const CAT: Task<'static> = Task {
    name: "cat",
    umask: Some(0o22),
    state: TaskState::Running,
    tgid: 11617,
    pid: 11617,
    ppid: 11611,
    tracer_pid: 0,
    pgid: 11611,
    sid: 32230,
    uids: [0; 4],
    gids: [0; 4],
    fd_size: 256,
    groups: &[],
    threads: 1,
};

#[test]
fn a_status_survives_and_is_written_from_values() {
    let parsed = Status::parse(STATUS).unwrap();
    assert_eq!((parsed.to_string().as_str(), parsed.nr_verbatim()), (STATUS, 0));
    let values = |name: &str| parsed.number(name).unwrap();
    let written = status::Status { profile: LINUX_6_18, task: &CAT, memory: Some(&values) };
    assert_eq!(written.to_string(), STATUS);
}

#[test]
fn a_task_without_an_address_space_has_no_memory_lines() {
    let task = Task { state: TaskState::Sleeping, groups: &[4, 27], ..CAT };
    let text = status::Status { profile: LINUX_6_18, task: &task, memory: None }.to_string();
    let parsed = Status::parse(&text).unwrap();
    assert_eq!(parsed.get("State"), Some("S (sleeping)"));
    assert_eq!((parsed.get("Groups"), parsed.get("Kthread"), parsed.get("VmSize")), (Some("4 27 "), Some("1"), None));
}

#[test]
fn a_task_that_has_ended_is_no_kernel_thread_and_has_no_umask() {
    let task = Task { state: TaskState::Zombie, umask: None, ..CAT };
    let text = status::Status { profile: LINUX_6_18, task: &task, memory: None }.to_string();
    assert!(text.starts_with("Name:\tcat\nState:\tZ (zombie)\nTgid:"), "{text}");
    assert_eq!(Status::parse(&text).unwrap().get("Kthread"), Some("0"));
}

/// As read on Linux 6.18.
const NUMA_MAPS: &str = "\
55810f29c000 default file=/usr/bin/cat mapped=2 N0=2 kernelpagesize_kB=4
55810f2a6000 default file=/usr/bin/cat anon=1 dirty=1 active=0 N0=1 kernelpagesize_kB=4
558126e5d000 default heap anon=3 dirty=3 active=0 N0=3 kernelpagesize_kB=4
7ff0f2a80000 default
7ffc3ff27000 default stack anon=4 dirty=4 active=0 N0=4 kernelpagesize_kB=4
";

#[test]
fn numa_maps_survive_and_are_written_from_values() {
    let parsed = NumaMaps::parse(NUMA_MAPS).unwrap();
    assert_eq!((parsed.to_string().as_str(), parsed.nr_verbatim()), (NUMA_MAPS, 0));
    let written: String = parsed
        .areas()
        .map(|area| {
            let number = |key| area.number(key).unwrap_or(0);
            let nodes: Vec<_> = area.nodes().collect();
            let pages = nodes.iter().map(|(_, pages)| pages).sum();
            let backing = match area.text("file") {
                Some(path) => Backing::File(path),
                None if area.is("heap") => Backing::Heap,
                None if area.is("stack") => Backing::Stack,
                None => Backing::Anonymous,
            };
            let active = if area.number("active").is_some() { 0 } else { pages };
            let (anon, dirty) = (number("anon"), number("dirty"));
            let pages = NumaPages { pages, anon, dirty, active, ..NumaPages::default() };
            let (policy, page_kb, is_hugetlb) = (&area.policy, 4, false);
            let line = NumaMapsLine { start: area.start, policy, backing, page_kb, is_hugetlb, pages, nodes: &nodes };
            format!("{line}\n")
        })
        .collect();
    assert_eq!(written, NUMA_MAPS);
}

#[test]
fn a_path_with_blanks_is_one_word_of_numa_maps() {
    let line = NumaMapsLine {
        start: VirtAddr::new(0x1000),
        policy: &"interleave:0-1",
        backing: Backing::File("/a b=c"),
        page_kb: 2048,
        is_hugetlb: true,
        pages: NumaPages { pages: 3, dirty: 1, mapcount_max: 2, writeback: 1, swapcache: 1, ..NumaPages::default() },
        nodes: &[(NodeId::ZERO, 0), (NodeId::try_new(1).unwrap(), 3)],
    };
    let text = line.to_string();
    assert_eq!(
        text,
        "00001000 interleave:0-1 file=/a\\040b\\075c huge dirty=1 mapped=3 mapmax=2 swapcache=1 writeback=1 N1=3 \
         kernelpagesize_kB=2048"
    );
    assert_eq!(NumaMaps::parse(&text).unwrap().areas().next().unwrap().text("file"), Some("/a\\040b\\075c"));
}
