//! The run-length coded scan of /proc/kpageflags: what every frame was used for.
//!
//! The scan is not atomic: its header gives the window of time in which it ran. Linux 6.12: fs/proc/page.c.

use std::io::Read;
use std::path::Path;

use proc_files::kpageflags::{PageKind, PageRun};
use units::{Pfn, PfnRange};

use crate::fields::{FieldError, Fields, PFN_LIMIT, wrong};
use crate::input_error::{InputError, quoted};
use crate::lines::Lines;

/// One scan: runs in ascending order that do not overlap.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PfnKinds {
    /// CLOCK_MONOTONIC before the first frame was read, in nanoseconds.
    pub begin_mono_ns: u64,
    /// CLOCK_MONOTONIC after the last frame was read.
    pub end_mono_ns: u64,
    /// The runs.
    pub runs: Vec<PageRun>,
}

impl PfnKinds {
    /// Reads a scan from `path`, compressed by zstd or plain.
    ///
    /// # Errors
    /// The file cannot be read, is no scan, or its runs are out of order.
    pub fn open(path: &Path) -> Result<Self, InputError> {
        Self::read(Lines::open(path)?)
    }

    /// Reads a scan from `input`; `path` is only for messages.
    ///
    /// # Errors
    /// As [`PfnKinds::open`].
    pub fn new(path: &Path, input: Box<dyn Read>) -> Result<Self, InputError> {
        Self::read(Lines::new(path, input))
    }

    fn read(mut lines: Lines) -> Result<Self, InputError> {
        let first = lines.next_line()?.unwrap_or_default().to_vec();
        let Some((begin_mono_ns, end_mono_ns)) = window(&first) else {
            return Err(lines.error(quoted(&first), "\"# mono_ns_begin N mono_ns_end N\", the first line of a scan"));
        };
        let mut kinds = Self { begin_mono_ns, end_mono_ns, runs: Vec::new() };
        while let Some(parsed) = lines.next_line()?.map(parse_run) {
            let run = parsed.map_err(|error| lines.error(error.found, error.expected))?;
            if run.range.end.raw() > PFN_LIMIT {
                return Err(lines.error(format!("{run}"), "a number of frames from 1 up to frame 100000000"));
            }
            let end = kinds.end();
            if run.range.start < end {
                return Err(lines.error(format!("{:x}", run.range.start), format!("a run at {end:x} or above")));
            }
            kinds.runs.push(run);
        }
        Ok(kinds)
    }

    /// Returns the frame after the last run.
    pub fn end(&self) -> Pfn {
        self.runs.last().map_or(Pfn::ZERO, |run| run.range.end)
    }

    /// Iterates over the frames of one kind, as ranges.
    pub fn ranges(&self, kind: PageKind) -> impl Iterator<Item = PfnRange> + '_ {
        self.runs.iter().filter(move |run| run.kind == kind).map(|run| run.range)
    }
}

fn window(line: &[u8]) -> Option<(u64, u64)> {
    let mut fields = Fields::new(line);
    if fields.word() != b"#" || fields.word() != b"mono_ns_begin" {
        return None;
    }
    let begin = fields.decimal("").ok()?;
    if fields.word() != b"mono_ns_end" {
        return None;
    }
    Some((begin, fields.decimal("").ok()?))
}

fn parse_run(line: &[u8]) -> Result<PageRun, FieldError> {
    let Ok(text) = str::from_utf8(line) else {
        return Err(wrong(line, "a run of frames: its first frame, their number, their kind"));
    };
    PageRun::parse(text).map_err(|error| wrong(error.found.as_bytes(), error.expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<PfnKinds, InputError> {
        PfnKinds::read(Lines::new(Path::new("test"), Box::new(std::io::Cursor::new(text.to_owned().into_bytes()))))
    }

    #[test]
    fn runs_and_window_read_back() {
        let kinds = read("# mono_ns_begin 5 mono_ns_end 9\n0 256 r\n100 16 b\n110 1 k\n").unwrap();
        assert_eq!((kinds.begin_mono_ns, kinds.end_mono_ns), (5, 9));
        assert_eq!(kinds.ranges(PageKind::Free).collect::<Vec<_>>(), [PfnRange::with_len(Pfn::new(0x100), 16)]);
        assert_eq!(kinds.end(), Pfn::new(0x111));
    }

    #[test]
    fn a_run_beyond_the_last_possible_frame_is_refused() {
        let error = read("# mono_ns_begin 5 mono_ns_end 9\nffffffff 2 b\n").unwrap_err().to_string();
        assert!(error.contains("from 1 up to frame 100000000"), "{error}");
        assert_eq!(read("# mono_ns_begin 5 mono_ns_end 9\nffffffff 1 b\n").unwrap().end(), Pfn::new(1 << 32));
    }

    #[test]
    fn overlapping_runs_are_refused() {
        let error = read("# mono_ns_begin 5 mono_ns_end 9\n0 256 r\nff 16 b\n").unwrap_err();
        assert_eq!(error.found, "ff");
    }

    #[test]
    fn unknown_kinds_and_empty_runs_are_refused() {
        assert!(read("# mono_ns_begin 5 mono_ns_end 9\n0 256 q\n").is_err());
        assert!(read("# mono_ns_begin 5 mono_ns_end 9\n0 0 r\n").is_err());
        assert!(read("0 256 r\n").is_err());
    }
}
