//! Readers of recordings.

use std::io::Cursor;
use std::path::Path;

use recordings::boot_log::{BootLog, BootLogError, Until, replay};
use recordings::pages::{
    CpuNodeSource, CpuNodes, GuidedReplay, InitialState, InputError, ListOrder, PfnKinds, Snapshot, Surroundings,
    TraceReader, present_ranges,
};
use recordings::processes::{self, Counts};
use recordings::{CpuList, NodeDistances};
use units::{Order, Pfn};

use super::{Target, outcome};
use crate::corpus::Seed;

const PAGEBLOCK_ORDER: Order = Order::new_truncate(9);
const LARGE_MACHINE: Pfn = Pfn::new(1 << 24);
const KINDS: &str = "# mono_ns_begin 1 mono_ns_end 2\n0 16 r\n10 5 b\n";

/// `TraceReader` to the end of the trace, with guided replay of what it reads.
pub(super) const PAGE_TRACE: Target = Target {
    name: "page-trace",
    seeds: &[Seed::Compressed("data/pages/cargo.trace.zst"), Seed::Compressed("data/pages/pressure.trace.zst")],
    tokens: &["A ", "F ", "G ", "Z ", "D ", "X ", "V ", "B ", "# ", "t0_mono_ns", " - ", "0s ", "1h ", "\n"],
    run: |input| outcome(read_trace(input)),
};

/// `TraceReader` of processes to the end of the trace.
pub(super) const PROCESS_TRACE: Target = Target {
    name: "process-trace",
    seeds: &[Seed::Compressed("data/vm/bash.vmtrace.zst"), Seed::Compressed("data/vm/prog.vmtrace.zst")],
    tokens: &[
        "> ",
        "< ",
        "U ",
        "K ",
        "R ",
        "N ",
        "E ",
        "Q ",
        " mmap ",
        " brk ",
        " t2",
        " m1 ",
        " -12",
        " file 3 /a",
        "\n",
    ],
    run: |input| outcome(read_process_trace(input)),
};

/// `Counts`, in which every name is found.
pub(super) const PROCESS_COUNTS: Target = Target {
    name: "process-counts",
    seeds: &[Seed::File("data/vm/hello.vm/t1.exit.counts")],
    tokens: &["VmRSS ", " kB", "minflt ", "\n"],
    run: |input| {
        let counts = Counts::parse(Path::new("fuzzed"), &String::from_utf8_lossy(input));
        outcome(counts.inspect(|counts| {
            assert!(counts.iter().all(|(name, _)| counts.get(name).is_some()), "a name is lost");
        }))
    },
};

/// `PfnKinds`, and the free map made of it.
pub(super) const PFN_KINDS: Target = Target {
    name: "pfnkinds",
    seeds: &[Seed::Compressed("data/pages/cargo.before/pfnkinds.zst"), Seed::Text(KINDS)],
    tokens: &["# mono_ns_begin ", "mono_ns_end ", " b\n", " a\n", " -\n", " 0 "],
    run: |input| {
        outcome(scan(input).map(|kinds| {
            // A free map has a place for each frame: on the largest machines that is a matter of seconds, not of the input.
            if kinds.end() > LARGE_MACHINE {
                return;
            }
            let found = GuidedReplay::new(&kinds, &kinds, kinds.end_mono_ns, PAGEBLOCK_ORDER).finish(&kinds);
            assert_eq!(found.off(), 0, "a scan differs from itself");
        }))
    },
};

/// `BootLog::parse`, and the replay of what it reads.
pub(super) const BOOT_LOG: Target = Target {
    name: "boot-log",
    seeds: &[Seed::Each("data/boots", "dmesg")],
    tokens: &[
        "memblock_reserve: [0x",
        "memblock_add: [0x",
        "memblock_alloc_try_nid: ",
        " bytes align=0x",
        " nid=",
        " from=0x",
        " max_addr=0x",
        "MEMBLOCK configuration:",
        " memory.cnt  = 0x",
        " reserved[0x0]",
        "flags: 0x0",
        " on node 0",
        "Command line: ",
    ],
    run: |input| outcome(read_boot(input)),
};

/// The inference of a machine's state from its /proc files, a scan and a trace, which are the parts of the input.
pub(super) const INITIAL_STATE: Target = Target {
    name: "initial-state",
    seeds: &[Seed::Made(machine_seed)],
    tokens: &[
        "spanned  ",
        "managed  ",
        "start_pfn: ",
        "Page block order: 9",
        "count: ",
        " b\n",
        "Z 9 0 1 ",
        "D 9 1 1 ",
        "A 9 0 1 ",
        "# cpus 2",
    ],
    run: |input| outcome(infer(&String::from_utf8_lossy(input))),
};

/// Between the parts of an input.
const DIVIDER: &str = "\n====\n";
/// Files that a snapshot is read from.
const SNAPSHOT_FILES: [&str; 5] = ["buddyinfo", "pagetypeinfo", "zoneinfo", "vmstat", "meminfo"];
/// Files about nodes, which follow the trace in an input.
const NODE_FILES: [&str; 4] =
    ["node-node0-cpulist", "node-node1-cpulist", "node-node0-distance", "node-node1-distance"];
const SMALL_SCAN: &str = "# mono_ns_begin 1 mono_ns_end 2\n0 1 r\n1 4000 b\n1000 4096 k\n2000 24576 b\n";
const SMALL_TRACE: &str = "\
# mmtrace 1
# t0_mono_ns 1000
# cpus 2
# missed_pages 0 missed_events 0
A 5 0 1 1234 0 440dc0 1
Z 5 0 1 2200 0 1 1
A 5 0 1 2201 0 440dc0 1
F 900 1 1 1234 0
D 5 1 1 1300 0 1
X 5 0 1 2400 0 9 0 1 1
F 5 0 1 2201 0
F 5 0 1 2201 0
";

/// The smallest recorded machine, with a scan and a trace that name frames of it.
fn machine_seed() -> Vec<u8> {
    let boot = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/boots/m128");
    let files = SNAPSHOT_FILES.map(|name| std::fs::read_to_string(boot.join(name)).unwrap_or_default());
    [files.join(DIVIDER).as_str(), SMALL_SCAN, SMALL_TRACE, "0-1", "", "10 20", "20 10"].join(DIVIDER).into_bytes()
}

fn infer(input: &str) -> Result<(), InputError> {
    let mut parts = input.split(DIVIDER);
    let (process, thread) = (std::process::id(), std::thread::current().id());
    let directory = std::env::temp_dir().join(format!("mmkit-fuzz-{process}-{thread:?}"));
    // A part that could not be written is missing, which is one more bad input.
    let _ = std::fs::create_dir_all(&directory);
    for (name, part) in SNAPSHOT_FILES.iter().zip(&mut parts) {
        let _ = std::fs::write(directory.join(name), part);
    }
    let snapshot = Snapshot::read(&directory);
    for (name, part) in NODE_FILES.iter().zip(input.split(DIVIDER).skip(SNAPSHOT_FILES.len() + 2)) {
        let _ = std::fs::write(directory.join(name), part);
    }
    let nodes = CpuList::read_all(&directory).and_then(|lists| Ok((lists, NodeDistances::read(&directory)?)));
    let _ = std::fs::remove_dir_all(&directory);
    let before = snapshot?;
    let kinds = scan(parts.next().unwrap_or_default().as_bytes())?;
    present_ranges(&before, &kinds);
    let trace = parts.next().unwrap_or_default();
    let surroundings = Surroundings { after: before.clone(), before, kinds };
    let events = || TraceReader::new(Path::new("fuzzed"), Box::new(Cursor::new(trace.as_bytes().to_vec())));
    let (lists, distances) = nodes?;
    let reader = events()?;
    let nr_cpus = reader.header().nr_cpus;
    let inferred = CpuNodes::inferred(&surroundings.before, reader)?;
    // A conflict between the lists is one more bad input; the inference does not need them.
    let listed = CpuNodes::listed(&lists, CpuNodeSource::Files, &surroundings.before, nr_cpus);
    for nodes in listed.iter().chain([&inferred]) {
        assert_eq!(nodes.nodes.len(), nr_cpus, "a node for every CPU");
        assert!(nodes.nodes.iter().all(|node| distances.get(*node, *node) >= 10), "no node is nearer than itself");
    }
    InitialState::infer(&surroundings, ListOrder::Recorded, events).map(|_| ())
}

fn read_trace(input: &[u8]) -> Result<(), InputError> {
    let kinds = scan(KINDS.as_bytes())?;
    let mut reader = TraceReader::new(Path::new("fuzzed"), Box::new(Cursor::new(input.to_vec())))?;
    let mut guided = GuidedReplay::new(&kinds, &kinds, reader.header().start_mono_ns, PAGEBLOCK_ORDER);
    while let Some(event) = reader.next_event()? {
        guided.apply(&event);
    }
    guided.finish(&kinds);
    Ok(())
}

fn read_process_trace(input: &[u8]) -> Result<(), InputError> {
    let mut reader = processes::TraceReader::new(Path::new("fuzzed"), Box::new(Cursor::new(input.to_vec())))?;
    let mut last = 0;
    while let Some(event) = reader.next_event()? {
        assert!(event.time_ns >= last, "time runs backward");
        last = event.time_ns;
    }
    Ok(())
}

fn scan(input: &[u8]) -> Result<PfnKinds, InputError> {
    PfnKinds::new(Path::new("fuzzed"), Box::new(Cursor::new(input.to_vec())))
}

fn read_boot(input: &[u8]) -> Result<(), BootLogError> {
    let log = BootLog::parse(input)?;
    replay(&log, Until::End).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_small_machine_is_accepted() {
        assert_eq!((INITIAL_STATE.run)(&machine_seed()), "accepted");
    }
}
