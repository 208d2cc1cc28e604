//! Parser of /proc/meminfo and of the nodes' meminfo files.

use std::fmt;
use std::string::String;

use super::{Cursor, Lines, ParseError};
use crate::meminfo::{MemInfoLine, MemInfoUnit};

/// A parsed meminfo file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemInfo {
    lines: Lines<MemInfoLine<String>>,
}

impl MemInfo {
    /// Reads the file's text; any name is accepted.
    ///
    /// # Errors
    /// At a line that is not `[Node N ]name: value[ kB]`.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let lines = Lines::parse(text, |cursor| if cursor.at_end() { Ok(None) } else { line(cursor).map(Some) })?;
        Ok(Self { lines })
    }

    /// Returns a value in its line's unit.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.fields().find(|line| line.name == name).map(|line| line.value)
    }

    /// Iterates over the lines.
    pub fn fields(&self) -> impl Iterator<Item = &MemInfoLine<String>> {
        self.lines.items()
    }

    /// Returns the number of lines that are not in the kernel's form.
    pub fn nr_verbatim(&self) -> usize {
        self.lines.nr_verbatim()
    }
}

fn line(cursor: &mut Cursor<'_>) -> Result<MemInfoLine<String>, ParseError> {
    let node = if cursor.try_literal("Node ") { Some(cursor.node()?) } else { None };
    let here = *cursor;
    let name = cursor.run(|c| c != ':' && !c.is_whitespace());
    let name = String::from(name.ok_or_else(|| here.error("a field name"))?);
    cursor.literal(":")?;
    let value = cursor.number("a number")?;
    let unit = if cursor.try_literal("kB") { MemInfoUnit::Kb } else { MemInfoUnit::Pages };
    cursor.end().map(|()| MemInfoLine { node, name, value, unit })
}

impl fmt::Display for MemInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.fmt(f)
    }
}
