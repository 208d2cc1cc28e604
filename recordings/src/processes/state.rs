//! What /proc said of a task at one moment: areas, their pages, and counts.

use std::path::Path;

use proc_files::parse::{Maps, ParseError, Smaps};
use units::VirtAddr;

use crate::fields::Fields;
use crate::input_error::{InputError, Place, quoted, read_text};

/// A task at an exec or at its exit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessState {
    /// /proc/PID/maps.
    pub maps: Maps,
    /// /proc/PID/smaps; recorded at exits only.
    pub smaps: Option<Smaps>,
    /// Faults, addresses and sizes.
    pub counts: Counts,
}

impl ProcessState {
    /// Reads `STEM.maps`, `STEM.counts` and, if it is there, `STEM.smaps`.
    pub(super) fn read(directory: &Path, stem: &str) -> Result<Self, InputError> {
        let file = |extension: &str| directory.join(format!("{stem}.{extension}"));
        let maps = parse(&file("maps"), Maps::parse)?;
        check_order(&file("maps"), &maps)?;
        let smaps = file("smaps");
        let smaps = if smaps.exists() { Some(parse(&smaps, Smaps::parse)?) } else { None };
        let counts = Counts::parse(&file("counts"), &read_text(&file("counts"))?)?;
        Ok(Self { maps, smaps, counts })
    }
}

/// Named numbers of a task: faults, addresses of its parts, and the memory lines of /proc/PID/status in kB.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    values: Vec<(Box<str>, u64)>,
}

impl Counts {
    /// Returns the number of this name, such as `minflt`, `start_brk` or `VmRSS`.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// Iterates over all numbers in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.values.iter().map(|(name, value)| (&**name, *value))
    }

    /// Reads the text of a counts file; `path` is only for messages.
    ///
    /// # Errors
    /// A line that is not `name value` or `name value kB`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, InputError> {
        let mut values = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let mut fields = Fields::new(line.as_bytes());
            fields.word();
            let name = line.split(' ').next().unwrap_or_default();
            let value = fields.decimal("`name value` or `name value kB`");
            let value =
                value.map_err(|error| InputError::new(path, Place::Line(number), error.found, error.expected))?;
            let unit = fields.take_rest();
            if name.is_empty() || !matches!(unit, b"" | b"kB") {
                let expected = "`name value` or `name value kB`";
                return Err(InputError::new(path, Place::Line(number), quoted(line.as_bytes()), expected));
            }
            values.push((name.into(), value));
        }
        Ok(Self { values })
    }
}

fn parse<T>(path: &Path, parse: fn(&str) -> Result<T, ParseError>) -> Result<T, InputError> {
    parse(&read_text(path)?).map_err(|error| InputError::from_parse(path, error))
}

/// Refuses areas that overlap or fall: a replay takes them for an address space.
fn check_order(path: &Path, maps: &Maps) -> Result<(), InputError> {
    let mut end = VirtAddr::ZERO;
    for range in maps.areas().map(|area| area.range) {
        if range.start < end || range.is_empty() {
            return Err(InputError::new(path, Place::File, format!("the area {range:?}"), "areas in rising order"));
        }
        end = range.end;
    }
    Ok(())
}
