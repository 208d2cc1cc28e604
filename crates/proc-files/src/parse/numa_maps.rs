//! Parser of /proc/PID/numa_maps.
//!
//! Linux 6.12: fs/proc/task_mmu.c (`show_numa_map`).

use std::fmt;
use std::string::String;
use std::vec::Vec;

use units::{NodeId, VirtAddr};

use super::{Cursor, Lines, ParseError};

/// A parsed numa_maps file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NumaMaps {
    lines: Lines<NumaArea>,
}

/// One area.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NumaArea {
    /// Start.
    pub start: VirtAddr,
    /// Policy in words.
    pub policy: String,
    /// What follows: `file=PATH`, `heap`, `anon=3`, `N0=3` and so on.
    pub words: Vec<String>,
}

impl NumaArea {
    /// Returns what stands behind `key=`.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// Returns the number behind `key=`.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.text(key)?.parse().ok()
    }

    /// Returns true if `word` (`heap`, `stack`, `huge`) stands in the line.
    pub fn is(&self, word: &str) -> bool {
        self.words.iter().any(|found| found == word)
    }

    /// Iterates over the nodes that have pages of the area, with their numbers.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, u64)> {
        self.words.iter().filter_map(|word| {
            let (node, pages) = word.strip_prefix('N')?.split_once('=')?;
            Some((NodeId::try_new(node.parse().ok()?)?, pages.parse().ok()?))
        })
    }
}

impl fmt::Display for NumaArea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x} {}", self.start.raw(), self.policy)?;
        self.words.iter().try_for_each(|word| write!(f, " {word}"))
    }
}

impl NumaMaps {
    /// Reads the file's text.
    ///
    /// # Errors
    /// At a line that does not begin with an address and a policy.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let lines = Lines::parse(text, |cursor| if cursor.at_end() { Ok(None) } else { area(cursor).map(Some) })?;
        Ok(Self { lines })
    }

    /// Iterates over the areas.
    pub fn areas(&self) -> impl Iterator<Item = &NumaArea> {
        self.lines.items()
    }

    /// Returns the number of lines that are not in the kernel's form.
    pub fn nr_verbatim(&self) -> usize {
        self.lines.nr_verbatim()
    }
}

impl fmt::Display for NumaMaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.fmt(f)
    }
}

fn area(cursor: &mut Cursor<'_>) -> Result<NumaArea, ParseError> {
    let start = VirtAddr::new(cursor.hex("the start of an area")?);
    let policy = cursor.word("a memory policy")?.into();
    Ok(NumaArea { start, policy, words: cursor.rest().split_whitespace().map(String::from).collect() })
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn an_area_tells_its_policy_and_nodes() {
        let text = "7f0000000000 bind:0-1 file=/a\\040b anon=3 dirty=3 active=0 N0=1 N1=2 kernelpagesize_kB=4\n";
        let parsed = NumaMaps::parse(text).unwrap();
        assert_eq!((parsed.to_string().as_str(), parsed.nr_verbatim()), (text, 0));
        let area = parsed.areas().next().unwrap();
        assert_eq!(
            (area.policy.as_str(), area.text("file"), area.number("anon")),
            ("bind:0-1", Some("/a\\040b"), Some(3))
        );
        let nodes: Vec<_> = area.nodes().collect();
        assert_eq!(nodes, [(NodeId::ZERO, 1), (NodeId::try_new(1).unwrap(), 2)]);
        assert!(!area.is("heap") && area.number("mapmax").is_none());
    }

    #[test]
    fn a_line_without_a_policy_is_refused() {
        assert_eq!(NumaMaps::parse("7f00\n").unwrap_err().expected, "a memory policy");
    }
}
