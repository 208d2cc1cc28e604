//! Parser of runs of /proc/kpageflags.

use std::fmt;

use units::{Pfn, PfnRange};

use super::{Cursor, Lines, ParseError};
use crate::kpageflags::{PageKind, PageRun};

/// Frames that the largest physical address space has (52 bits of address, 4 KiB pages).
const FRAME_LIMIT: u64 = 1 << 40;

/// A parsed scan: runs in ascending order that do not overlap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageRuns {
    lines: Lines<PageRun>,
}

impl PageRuns {
    /// Reads the text of a scan; lines that start with `#` are kept and not read.
    ///
    /// # Errors
    /// At a run that is empty, of an unknown kind, not above the run before, or beyond 2^40 frames.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut end = Pfn::ZERO;
        let lines = Lines::parse(text, |cursor| {
            if cursor.at_end() || cursor.try_literal("#") {
                return Ok(None);
            }
            let run = run(cursor, end)?;
            end = run.range.end;
            Ok(Some(run))
        })?;
        Ok(Self { lines })
    }

    /// Iterates over the runs.
    pub fn runs(&self) -> impl Iterator<Item = PageRun> {
        self.lines.items().copied()
    }

    /// Returns the number of lines that are not runs in the usual form, the head among them.
    pub fn nr_verbatim(&self) -> usize {
        self.lines.nr_verbatim()
    }
}

impl PageRun {
    /// Reads one line of a scan, as large scans are read: without keeping the text.
    ///
    /// # Errors
    /// At a run that is empty, of an unknown kind or beyond 2^40 frames; the line counts as the first.
    pub fn parse(line: &str) -> Result<Self, ParseError> {
        run(&mut Cursor::new(1, line), Pfn::ZERO)
    }
}

fn run(cursor: &mut Cursor<'_>, end_before: Pfn) -> Result<PageRun, ParseError> {
    let here = *cursor;
    let start = cursor.hex("the first frame of a run, in hexadecimal")?;
    if start < end_before.raw() {
        return Err(here.error("a run above the one before"));
    }
    let here = *cursor;
    let nr_pages = cursor.number("a number of frames")?;
    let end = start.checked_add(nr_pages).filter(|end| nr_pages > 0 && *end <= FRAME_LIMIT);
    let end = end.ok_or_else(|| here.error("a number of frames from 1 up, inside 2^40 frames"))?;
    let here = *cursor;
    let mut letters = cursor.word("the letter of a kind")?.chars();
    let kind = letters.next().and_then(PageKind::from_letter).filter(|_| letters.next().is_none());
    let kind = kind.ok_or_else(|| here.error("one of the kinds b a f s t m k r o -"))?;
    cursor.end().map(|()| PageRun { range: PfnRange::new(Pfn::new(start), Pfn::new(end)), kind })
}

impl fmt::Display for PageRuns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.fmt(f)
    }
}
