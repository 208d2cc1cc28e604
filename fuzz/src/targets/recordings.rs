//! Readers of recordings.

use std::io::Cursor;
use std::path::Path;

use recordings::pages::{InputError, PfnKinds, TraceReader};

use super::{Target, outcome};
use crate::corpus::Seed;

const KINDS: &str = "# mono_ns_begin 1 mono_ns_end 2\n0 16 r\n10 5 b\n";

/// `TraceReader`, to the end of the trace.
pub(super) const PAGE_TRACE: Target = Target {
    name: "page-trace",
    seeds: &[Seed::Compressed("data/pages/cargo.trace.zst"), Seed::Compressed("data/pages/pressure.trace.zst")],
    tokens: &["A ", "F ", "G ", "Z ", "D ", "X ", "V ", "B ", "# ", "t0_mono_ns", " - ", "0s ", "1h ", "\n"],
    run: |input| outcome(read_trace(input)),
};

/// `PfnKinds`.
pub(super) const PFN_KINDS: Target = Target {
    name: "pfnkinds",
    seeds: &[Seed::Compressed("data/pages/cargo.before/pfnkinds.zst"), Seed::Text(KINDS)],
    tokens: &["# mono_ns_begin ", "mono_ns_end ", " b\n", " a\n", " -\n", " 0 "],
    run: |input| outcome(PfnKinds::new(Path::new("fuzzed"), Box::new(Cursor::new(input.to_vec())))),
};

fn read_trace(input: &[u8]) -> Result<(), InputError> {
    let mut reader = TraceReader::new(Path::new("fuzzed"), Box::new(Cursor::new(input.to_vec())))?;
    while reader.next_event()?.is_some() {}
    Ok(())
}
