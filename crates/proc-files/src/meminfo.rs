//! /proc/meminfo and the meminfo file of each node.
//!
//! Values come from the caller by name: kB, or pages for the `HugePages_` fields. Which fields appear is the
//! [`Profile`]'s choice. Linux 6.12: fs/proc/meminfo.c, drivers/base/node.c (`node_read_meminfo`).

use core::fmt;

use units::NodeId;

use crate::{Counters, Profile};

/// Width of a name with its colon.
const NAME_WIDTH: usize = 16;
/// Width of a value.
const VALUE_WIDTH: usize = 8;

/// The file of the whole machine.
#[derive(Clone, Copy)]
pub struct MemInfo<'a> {
    /// Release and configuration whose field set is written.
    pub profile: Profile,
    /// Values.
    pub values: Counters<'a>,
}

impl fmt::Display for MemInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.profile.meminfo().try_for_each(|name| writeln!(f, "{}", MemInfoLine::new(None, name, (self.values)(name))))
    }
}

/// The file of one node.
#[derive(Clone, Copy)]
pub struct NodeMemInfo<'a> {
    /// Release and configuration whose field set is written.
    pub profile: Profile,
    /// Node.
    pub node: NodeId,
    /// Values.
    pub values: Counters<'a>,
}

impl fmt::Display for NodeMemInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |name| MemInfoLine::new(Some(self.node), name, (self.values)(name));
        self.profile.node_meminfo().try_for_each(|name| writeln!(f, "{}", line(name)))
    }
}

/// Unit of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemInfoUnit {
    /// Kilobytes, written behind the value.
    Kb,
    /// Huge pages, without a unit.
    Pages,
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemInfoLine<N> {
    /// Node in the file of a node.
    pub node: Option<NodeId>,
    /// Linux's name.
    pub name: N,
    /// Value.
    pub value: u64,
    /// Unit of the value.
    pub unit: MemInfoUnit,
}

impl<N: AsRef<str>> MemInfoLine<N> {
    fn new(node: Option<NodeId>, name: N, value: u64) -> Self {
        let pages = name.as_ref().starts_with("HugePages_");
        Self { node, name, value, unit: if pages { MemInfoUnit::Pages } else { MemInfoUnit::Kb } }
    }
}

impl<N: AsRef<str>> MemInfoLine<N> {
    /// Returns the width of the name with its colon, and that of the value.
    ///
    /// Most lines are aligned. Not so a name that leaves no room, and some lines of a node, whose text Linux wrote by
    /// hand; in those a blank and the bare width follow the name.
    fn widths(&self) -> (usize, usize) {
        let name = self.name.as_ref();
        let own_width = name.len() + 1;
        let narrow = matches!(name, "FileHugePages" | "FilePmdMapped");
        match self.unit {
            _ if own_width > NAME_WIDTH => (own_width + 1, (NAME_WIDTH + VALUE_WIDTH).saturating_sub(own_width + 1)),
            MemInfoUnit::Pages if self.node.is_some() => (NAME_WIDTH + 1, 5),
            MemInfoUnit::Kb if self.node.is_some() && narrow => (own_width + 1, VALUE_WIDTH),
            _ => (NAME_WIDTH, VALUE_WIDTH),
        }
    }
}

impl<N: AsRef<str>> fmt::Display for MemInfoLine<N> {
    /// Writes the line without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = self.node {
            write!(f, "Node {node} ")?;
        }
        let name = self.name.as_ref();
        let (name_width, value_width) = self.widths();
        let gap = name_width.saturating_sub(name.len());
        write!(f, "{name}{:<gap$}{:value_width$}", ":", self.value)?;
        f.write_str(match self.unit {
            MemInfoUnit::Kb => " kB",
            MemInfoUnit::Pages => "",
        })
    }
}
