//! Kernel logs of boots with `memblock=debug`: what every boot-time allocation asked for and got.
//!
//! [`BootLog::parse`] reads a log; [`replay()`] makes the same calls on our own memblock and compares the lines, one by one,
//! with the recorded ones. Used by `mmkit boot --from-log` and by tests. Reads any kernel from 6.1 on, x86 and devicetree
//! machines, with or without the first lines (a log buffer wraps).
//! Linux 6.1 and 6.12: mm/memblock.c and its callers.

mod dump;
mod error;
mod machine;
mod memory_options;
mod nodes;
mod notes;
mod replay;
mod request;
mod scan;
mod start;
mod steps;
#[cfg(test)]
mod tests;

use units::PhysRange;

pub use dump::Dump;
pub use error::BootLogError;
pub use machine::{Architecture, KernelVersion};
pub use nodes::{Hotplug, NodeBlock, NodeClaim};
pub use notes::{Note, NoteKind};
pub use replay::{BootReplay, ComparedLine, Until, Verdict, replay, replay_with};
pub use request::{AllocCall, RangeCall, Request, RequestLine};
pub use steps::{Action, Step};

/// A log, taken apart.
#[derive(Clone, Debug)]
pub struct BootLog {
    /// Every line without its time stamp; line N of the log is at index N - 1.
    pub lines: Vec<String>,
    /// Release of the kernel, if the log shows it.
    pub version: Option<KernelVersion>,
    /// Kind of machine.
    pub architecture: Architecture,
    /// The command line, if the log shows it.
    pub command_line: Option<String>,
    /// Memblock calls and dumps in order.
    pub steps: Vec<Step>,
    /// What the log says about nodes, with line indexes.
    pub claims: Vec<(usize, NodeClaim)>,
    /// Lines about zones and nodes.
    pub notes: Vec<Note>,
}

impl BootLog {
    /// Parses a log. Bytes that are no UTF-8 are read as replacement characters.
    ///
    /// # Errors
    /// A damaged memblock, dump or node line, or a log without memblock lines.
    pub fn parse(log: &[u8]) -> Result<Self, BootLogError> {
        let text = String::from_utf8_lossy(log);
        let lines: Vec<String> = text.lines().map(|line| scan::message(line).to_owned()).collect();
        let steps = steps::collect(&lines)?;
        if steps.is_empty() {
            return Err(BootLogError::NoMemblockLines { lines: lines.len() });
        }
        Ok(Self {
            version: lines.iter().find_map(|line| machine::parse_version(line)),
            architecture: machine::architecture(&lines),
            command_line: machine::command_line(&lines),
            claims: Self::parse_claims(&lines)?,
            notes: notes::collect(&lines),
            steps,
            lines,
        })
    }

    fn parse_claims(lines: &[String]) -> Result<Vec<(usize, NodeClaim)>, BootLogError> {
        let about_nodes = lines.iter().enumerate().filter(|(_, line)| nodes::is_claim(line));
        about_nodes
            .map(|(index, line)| {
                let claim = nodes::parse_claim(line);
                let claim = claim.ok_or_else(|| BootLogError::line(index + 1, line, nodes::CLAIM_FORM))?;
                Ok((index, claim))
            })
            .collect()
    }

    /// Iterates over the kept lines of one kind.
    pub fn notes_of(&self, kind: NoteKind) -> impl Iterator<Item = &Note> {
        self.notes.iter().filter(move |note| note.kind == kind)
    }

    /// Returns the first dump of the configuration and its place among the steps.
    pub fn first_dump(&self) -> Option<(usize, &Dump)> {
        self.steps.iter().enumerate().find_map(|(index, step)| match &step.action {
            Action::Dump(dump) => Some((index, dump)),
            _ => None,
        })
    }

    /// Returns the ranges and nodes of the lines below `Early memory node ranges`.
    pub fn early_node_ranges(&self) -> Vec<NodeBlock> {
        self.notes_of(NoteKind::EarlyNodeRanges).filter_map(|note| machine::parse_node_range(&note.text)).collect()
    }

    /// Returns the range of the zone with this name in the `Zone ranges:` block; `None` if it is empty or not there.
    pub fn zone_range(&self, zone: &str) -> Option<PhysRange> {
        self.notes_of(NoteKind::ZoneRanges).find_map(|note| machine::parse_zone_range(&note.text, zone))
    }
}
