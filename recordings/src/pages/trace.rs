//! Streaming reader of a page-allocator trace.
//!
//! Reads one event at a time in constant memory; the rate is that of parsing bytes, with no allocation per line.
//! Used by guided replay, by the inference of the initial state and by simulated replay.

use std::io::Read;
use std::path::Path;

use units::MAX_CPUS;

use super::event::{Event, parse_event};
use crate::fields::Fields;
use crate::input_error::{InputError, quoted};
use crate::lines::{Lines, Progress};

/// What the header lines of a trace say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceHeader {
    /// CLOCK_MONOTONIC of the recorded machine at the first event, in nanoseconds.
    pub start_mono_ns: u64,
    /// Number of CPUs that the recording covers.
    pub nr_cpus: usize,
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
    /// The file cannot be read, is not a page-allocator trace, or its header is incomplete.
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
    #[inline]
    pub fn next_event(&mut self) -> Result<Option<Event>, InputError> {
        let parsed = match self.lines.next_line()? {
            None => return Ok(None),
            Some(line) => parse_event(line),
        };
        let raw = match parsed {
            Ok(raw) => raw,
            Err(error) => return Err(self.lines.error(error.found, error.expected)),
        };
        if raw.cpu.index() >= self.header.nr_cpus {
            return Err(self.wrong_cpu(raw.cpu.index()));
        }
        self.time_ns = self.time_ns.saturating_add(raw.delta_ns);
        Ok(Some(Event {
            time_ns: self.time_ns,
            cpu: raw.cpu,
            task: raw.task,
            context: raw.context,
            action: raw.action,
        }))
    }

    #[cold]
    fn wrong_cpu(&self, cpu: usize) -> InputError {
        self.lines.error(format!("CPU {cpu}"), format!("a CPU below {}, as the header says", self.header.nr_cpus))
    }
}

fn read_header(lines: &mut Lines) -> Result<TraceHeader, InputError> {
    const MAGIC: &[u8] = b"# mmtrace 1";
    let first = lines.next_line()?.map(<[u8]>::to_vec);
    if first.as_deref() != Some(MAGIC) {
        let found = first.map_or("an empty file".to_owned(), |line| quoted(&line));
        return Err(lines.error(found, "\"# mmtrace 1\", the first line of a page trace"));
    }
    let (mut start_mono_ns, mut nr_cpus, mut missed_events) = (None, None, 0);
    while lines.peek()? == Some(b'#') {
        let Some(line) = lines.next_line()? else { break };
        let mut fields = Fields::new(line);
        fields.word();
        let parsed = match fields.word() {
            b"t0_mono_ns" => fields.decimal("nanoseconds").map(|value| start_mono_ns = Some(value)),
            b"cpus" => fields.decimal("a number of CPUs").map(|value| nr_cpus = usize::try_from(value).ok()),
            b"missed_pages" => {
                fields.word();
                fields.word();
                fields.decimal("missed_pages N missed_events N").map(|value| missed_events = value)
            }
            _ => Ok(()),
        };
        parsed.map_err(|error| lines.error(error.found, error.expected))?;
    }
    match (start_mono_ns, nr_cpus.filter(|nr_cpus| (1..=MAX_CPUS).contains(nr_cpus))) {
        (Some(start_mono_ns), Some(nr_cpus)) => Ok(TraceHeader { start_mono_ns, nr_cpus, missed_events }),
        _ => Err(lines.error("the end of the header", "\"# t0_mono_ns\" and \"# cpus\" lines before the first event")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input_error::Place;

    const HEADER: &str = "# mmtrace 1\n# t0_mono_ns 1000\n# cpus 2\n# missed_pages 0 missed_events 3\n";

    fn open(text: &str) -> Result<TraceReader, InputError> {
        TraceReader::new(Path::new("test"), Box::new(std::io::Cursor::new(text.to_owned().into_bytes())))
    }

    #[test]
    fn times_add_up_over_the_lines() {
        let mut reader = open(&format!("{HEADER}F 5 0 1 10 0\nG 7 1 0s 20 1\n")).unwrap();
        assert_eq!(reader.header(), TraceHeader { start_mono_ns: 1000, nr_cpus: 2, missed_events: 3 });
        assert_eq!(reader.next_event().unwrap().unwrap().time_ns, 5);
        assert_eq!(reader.next_event().unwrap().unwrap().time_ns, 12);
        assert_eq!(reader.next_event(), Ok(None));
    }

    #[test]
    fn foreign_files_are_told_from_traces_by_their_first_line() {
        assert_eq!(open("hello\n").err().unwrap().found, "\"hello\"");
        assert_eq!(open("").err().unwrap().found, "an empty file");
    }

    #[test]
    fn a_header_without_cpus_is_refused() {
        let error = open("# mmtrace 1\n# t0_mono_ns 1\nF 0 0 0 0 0\n").err().unwrap();
        assert!(error.expected.contains("cpus"), "{error}");
    }

    #[test]
    fn a_wrong_field_is_reported_with_its_line() {
        let error = open(&format!("{HEADER}F 5 0 1 10 0\nF 5 0 1 zz 0\n")).and_then(|mut reader| {
            reader.next_event()?;
            reader.next_event()
        });
        let error = error.unwrap_err();
        assert_eq!((error.place, error.found.as_str()), (Place::Line(6), "\"zz\""));
    }

    #[test]
    fn a_cpu_beyond_the_header_is_refused() {
        let error = open(&format!("{HEADER}F 5 2 1 10 0\n")).unwrap().next_event().unwrap_err();
        assert_eq!(error.found, "CPU 2");
    }
}
