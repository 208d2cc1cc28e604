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

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use units::NodeId;

    use super::*;

    #[test]
    fn values_come_with_their_unit_and_node() {
        let text = "Node 1 MemTotal:              7 kB\nNode 1 HugePages_Free:      3\n";
        let parsed = MemInfo::parse(text).unwrap();
        assert_eq!(
            (parsed.get("MemTotal"), parsed.get("HugePages_Free"), parsed.get("MemFree")),
            (Some(7), Some(3), None)
        );
        let units: std::vec::Vec<_> = parsed.fields().map(|line| (line.node, line.unit)).collect();
        let one = NodeId::try_new(1);
        assert_eq!(units, [(one, MemInfoUnit::Kb), (one, MemInfoUnit::Pages)]);
        assert_eq!((parsed.to_string().as_str(), parsed.nr_verbatim()), (text, 0));
    }

    #[test]
    fn a_line_without_its_value_is_refused() {
        assert_eq!(MemInfo::parse("MemTotal: kB\n").unwrap_err().column, 11);
        assert_eq!(MemInfo::parse("MemTotal 7 kB\n").unwrap_err().expected, ":");
        assert_eq!(MemInfo::parse("MemTotal: 7 MB\n").unwrap_err().expected, "the end of the line");
    }
}
