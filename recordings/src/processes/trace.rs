//! Streaming reader of a process trace. Reads one event at a time in constant memory.

use std::io::Read;
use std::path::Path;

use super::event::{Event, parse_event};
use crate::fields::Fields;
use crate::input_error::{InputError, quoted};
use crate::lines::{Lines, Progress};

/// What the header lines of a trace say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceHeader {
    /// CLOCK_MONOTONIC of the recorded machine at the first event, in nanoseconds.
    pub start_mono_ns: u64,
    /// Events that the recording itself lost.
    pub missed_events: u64,
}

/// Reader of one trace.
pub struct TraceReader {
    lines: Lines,
    header: TraceHeader,
    time_ns: u64,
}

impl TraceReader {
    /// Opens `path`, compressed by zstd or plain, and reads its header.
    ///
    /// # Errors
    /// The file cannot be read, is not a process trace, or its header is incomplete.
    pub fn open(path: &Path) -> Result<Self, InputError> {
        Self::from_lines(Lines::open(path)?)
    }

    /// Reads a trace from `input`; `path` is only for messages.
    ///
    /// # Errors
    /// As [`TraceReader::open`].
    pub fn new(path: &Path, input: Box<dyn Read>) -> Result<Self, InputError> {
        Self::from_lines(Lines::new(path, input))
    }

    fn from_lines(mut lines: Lines) -> Result<Self, InputError> {
        let header = read_header(&mut lines)?;
        Ok(Self { lines, header, time_ns: 0 })
    }

    /// Returns what the header says.
    pub fn header(&self) -> TraceHeader {
        self.header
    }

    /// Returns the line that was read last, counted from 1.
    pub fn line(&self) -> u64 {
        self.lines.line()
    }

    /// Returns how far the reading is, for progress displays.
    pub fn progress(&self) -> Progress {
        self.lines.progress()
    }

    /// Returns an error about the line that was read last, for readers of the events' meaning.
    #[cold]
    pub fn error(&self, found: impl Into<String>, expected: impl Into<String>) -> InputError {
        self.lines.error(found, expected)
    }

    /// Returns the next event, or `None` at the end of the trace.
    ///
    /// # Errors
    /// A line that is no event, damaged compression, or a truncated file. The reader must not be used after an error.
    pub fn next_event(&mut self) -> Result<Option<Event>, InputError> {
        let parsed = match self.lines.next_line()? {
            None => return Ok(None),
            Some(line) => parse_event(line),
        };
        let raw = parsed.map_err(|error| self.lines.error(error.found, error.expected))?;
        self.time_ns = self.time_ns.saturating_add(raw.delta_ns);
        Ok(Some(Event { time_ns: self.time_ns, task: raw.task, action: raw.action }))
    }
}

fn read_header(lines: &mut Lines) -> Result<TraceHeader, InputError> {
    const MAGIC: &[u8] = b"# vmtrace 1";
    let first = lines.next_line()?.map(<[u8]>::to_vec);
    if first.as_deref() != Some(MAGIC) {
        let found = first.map_or("an empty file".to_owned(), |line| quoted(&line));
        return Err(lines.error(found, "\"# vmtrace 1\", the first line of a process trace"));
    }
    let (mut start_mono_ns, mut missed_events) = (None, 0);
    while lines.peek()? == Some(b'#') {
        let Some(line) = lines.next_line()? else { break };
        let mut fields = Fields::new(line);
        fields.word();
        let parsed = match fields.word() {
            b"t0_mono_ns" => fields.decimal("nanoseconds").map(|value| start_mono_ns = Some(value)),
            b"missed_pages" => {
                fields.word();
                fields.word();
                fields.decimal("missed_pages N missed_events N").map(|value| missed_events = value)
            }
            _ => Ok(()),
        };
        parsed.map_err(|error| lines.error(error.found, error.expected))?;
    }
    match start_mono_ns {
        Some(start_mono_ns) => Ok(TraceHeader { start_mono_ns, missed_events }),
        None => Err(lines.error("the end of the header", "a \"# t0_mono_ns\" line before the first event")),
    }
}
