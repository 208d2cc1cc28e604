//! Readers of recordings.

use std::io::Cursor;
use std::path::Path;

use recordings::boot_log::{BootLog, BootLogError, Until, replay};
use recordings::pages::{GuidedReplay, InputError, PfnKinds, TraceReader};
use units::Order;

use super::{Target, outcome};
use crate::corpus::Seed;

const PAGEBLOCK_ORDER: Order = Order::new_truncate(9);
const KINDS: &str = "# mono_ns_begin 1 mono_ns_end 2\n0 16 r\n10 5 b\n";

/// `TraceReader` to the end of the trace, with guided replay of what it reads.
pub(super) const PAGE_TRACE: Target = Target {
    name: "page-trace",
    seeds: &[Seed::Compressed("data/pages/cargo.trace.zst"), Seed::Compressed("data/pages/pressure.trace.zst")],
    tokens: &["A ", "F ", "G ", "Z ", "D ", "X ", "V ", "B ", "# ", "t0_mono_ns", " - ", "0s ", "1h ", "\n"],
    run: |input| outcome(read_trace(input)),
};

/// `PfnKinds`, and the free map made of it.
pub(super) const PFN_KINDS: Target = Target {
    name: "pfnkinds",
    seeds: &[Seed::Compressed("data/pages/cargo.before/pfnkinds.zst"), Seed::Text(KINDS)],
    tokens: &["# mono_ns_begin ", "mono_ns_end ", " b\n", " a\n", " -\n", " 0 "],
    run: |input| {
        outcome(scan(input).map(|kinds| {
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

fn scan(input: &[u8]) -> Result<PfnKinds, InputError> {
    PfnKinds::new(Path::new("fuzzed"), Box::new(Cursor::new(input.to_vec())))
}

fn read_boot(input: &[u8]) -> Result<(), BootLogError> {
    let log = BootLog::parse(input)?;
    replay(&log, Until::End).map(|_| ())
}
