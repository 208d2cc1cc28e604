//! Parser of /proc/vmstat and of the per-node vmstat files, which have the same form.

use std::fmt;
use std::string::String;

use super::{Lines, ParseError};
use crate::vmstat::CounterLine;

/// A parsed /proc/vmstat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmStat {
    lines: Lines<CounterLine<String>>,
}

impl VmStat {
    /// Reads the file's text; any name is accepted.
    ///
    /// # Errors
    /// At a line that is not a name and a number.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let lines = Lines::parse(text, |cursor| {
            if cursor.at_end() {
                return Ok(None);
            }
            let name = String::from(cursor.word("a counter name")?);
            let value = cursor.last_number("a number")?;
            Ok(Some(CounterLine { name, value }))
        })?;
        Ok(Self { lines })
    }

    /// Returns a counter.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.counters().find(|line| line.name == name).map(|line| line.value)
    }

    /// Iterates over the counters in the order of the file.
    pub fn counters(&self) -> impl Iterator<Item = &CounterLine<String>> {
        self.lines.items()
    }

    /// Returns the number of lines that are not in the kernel's form.
    pub fn nr_verbatim(&self) -> usize {
        self.lines.nr_verbatim()
    }
}

impl fmt::Display for VmStat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_their_whole_name() {
        let parsed = VmStat::parse("pgfree 7\npgfree_more 8\n").unwrap();
        assert_eq!(["pgfree", "pgfree_more", "pg"].map(|name| parsed.get(name)), [Some(7), Some(8), None]);
        assert_eq!(VmStat::parse("pgfree 7 8\n").unwrap_err().column, 10);
        assert_eq!(VmStat::parse("pgfree -7\n").unwrap_err().expected, "a number");
    }
}
