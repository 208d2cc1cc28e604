//! Parser of /proc/PID/status.
//!
//! Linux 6.12: fs/proc/array.c (`proc_pid_status`).

use std::fmt;
use std::string::String;

use super::{Cursor, Lines, ParseError};

/// A parsed status file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    lines: Lines<StatusLine>,
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatusLine {
    /// Linux's name.
    pub name: String,
    /// All that follows the tab.
    pub value: String,
}

impl fmt::Display for StatusLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:\t{}", self.name, self.value)
    }
}

impl Status {
    /// Reads the file's text; any name is accepted.
    ///
    /// # Errors
    /// At a line without a name and a colon.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let lines = Lines::parse(text, |cursor| if cursor.at_end() { Ok(None) } else { line(cursor).map(Some) })?;
        Ok(Self { lines })
    }

    /// Returns the text of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields().find(|line| line.name == name).map(|line| line.value.as_str())
    }

    /// Returns the number at the start of a field: kB in the lines of memory.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.split_whitespace().next()?.parse().ok()
    }

    /// Iterates over the lines.
    pub fn fields(&self) -> impl Iterator<Item = &StatusLine> {
        self.lines.items()
    }

    /// Returns the number of lines that are not in the kernel's form.
    pub fn nr_verbatim(&self) -> usize {
        self.lines.nr_verbatim()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.fmt(f)
    }
}

fn line(cursor: &mut Cursor<'_>) -> Result<StatusLine, ParseError> {
    let here = *cursor;
    let name = cursor.run(|c| c != ':').ok_or_else(|| here.error("the name of a field"))?;
    cursor.literal(":")?;
    let value = cursor.rest();
    Ok(StatusLine { name: name.into(), value: value.strip_prefix('\t').unwrap_or(value).into() })
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn fields_are_text_and_numbers() {
        let text = "Name:\ta: b\nUid:\t0\t0\t0\t0\nVmRSS:\t    1696 kB\nGroups:\t \n";
        let parsed = Status::parse(text).unwrap();
        assert_eq!((parsed.to_string().as_str(), parsed.nr_verbatim()), (text, 0));
        assert_eq!((parsed.get("Name"), parsed.get("Groups"), parsed.get("Pid")), (Some("a: b"), Some(" "), None));
        assert_eq!((parsed.number("VmRSS"), parsed.number("Name")), (Some(1696), None));
    }

    #[test]
    fn a_line_without_a_colon_is_refused() {
        let error = Status::parse("Name:\tx\nVmRSS 7\n").unwrap_err();
        assert_eq!((error.line, error.expected), (2, ":"));
    }
}
