//! What was compared and what differed.

use std::collections::BTreeMap;

use recordings::processes::TaskId;
use serde::Serialize;

/// What differs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// An address that a call returned.
    Address,
    /// An error number, or success where the other side failed.
    Errno,
    /// A line of maps at an exec.
    MapsAtExec,
    /// A line of maps at an exit.
    MapsAtExit,
    /// VmFlags of smaps at an exit.
    Flags,
    /// A size of /proc/PID/status at an exit.
    Size,
    /// A fault that ours did not need, needed otherwise, or refused.
    Fault,
    /// Resident pages after a fault or a call.
    Step,
    /// Resident pages of a forked child.
    Fork,
    /// Resident pages at an exit.
    Resident,
    /// Resident and anonymous pages of an area at an exit.
    AreaPages,
    /// Faults of a process up to an exit.
    FaultCount,
    /// Page tables at an exit (VmPTE).
    Tables,
}

impl Kind {
    /// All kinds with what is compared, in the report's order.
    pub(super) const ALL: [(Self, &'static str); 13] = [
        (Self::Address, "returned addresses"),
        (Self::Errno, "errnos"),
        (Self::MapsAtExec, "lines of maps at execs"),
        (Self::MapsAtExit, "lines of maps at exits"),
        (Self::Flags, "VmFlags at exits"),
        (Self::Size, "sizes at exits"),
        (Self::Fault, "faults, needed as recorded"),
        (Self::Step, "resident pages, by steps"),
        (Self::Fork, "resident pages after forks"),
        (Self::Resident, "resident pages at exits"),
        (Self::AreaPages, "pages of areas at exits"),
        (Self::FaultCount, "fault counts at exits"),
        (Self::Tables, "page tables at exits"),
    ];
}

/// One difference.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Difference {
    /// Line of the trace, counted from 1.
    pub(super) line: u64,
    /// Task.
    pub(super) task: u32,
    /// What differs.
    pub(super) kind: Kind,
    /// In words.
    pub(super) what: String,
}

/// Everything that was compared.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// How much was compared.
    compared: BTreeMap<Kind, u64>,
    /// What differed.
    differences: Vec<Difference>,
    /// Calls whose result was taken from the recording, by reason.
    taken: BTreeMap<&'static str, u64>,
}

impl Findings {
    /// Notes that `count` things of a kind were compared.
    pub(super) fn compared(&mut self, kind: Kind, count: u64) {
        *self.compared.entry(kind).or_default() += count;
    }

    /// Notes a difference.
    pub(super) fn differs(&mut self, line: u64, task: TaskId, kind: Kind, what: String) {
        self.differences.push(Difference { line, task: task.0, kind, what });
    }

    /// Notes a call that was not made.
    pub(super) fn taken(&mut self, why: &'static str) {
        *self.taken.entry(why).or_default() += 1;
    }

    /// Returns how much of a kind was compared and how much differed.
    pub(super) fn count(&self, kind: Kind) -> (u64, u64) {
        let differing = self.differences.iter().filter(|difference| difference.kind == kind).count();
        (self.compared.get(&kind).copied().unwrap_or(0), differing as u64)
    }

    /// Returns all differences in the trace's order.
    pub(super) fn differences(&self) -> &[Difference] {
        &self.differences
    }

    /// Returns the calls that were not made, by reason.
    pub(super) const fn calls_taken(&self) -> &BTreeMap<&'static str, u64> {
        &self.taken
    }
}
