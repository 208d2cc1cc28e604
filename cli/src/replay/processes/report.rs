//! The report of a process replay, as text and as JSON.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::engine::{Repeated, Residency, Totals};
use super::findings::{Difference, Kind};

/// Differences that the text shows; JSON has all.
const SHOWN: usize = 20;

/// How much of a kind was compared.
#[derive(Debug, Serialize)]
pub(super) struct Compared {
    kind: Kind,
    what: &'static str,
    compared: u64,
    differences: u64,
}

/// The report.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    recording: &'a str,
    missed_events: u64,
    events: u64,
    tasks: u64,
    execs: u32,
    exits: u64,
    calls_made: u64,
    calls_taken: &'a BTreeMap<&'static str, u64>,
    faults: u64,
    signals: u64,
    residency: Residency,
    repeated_faults: Repeated,
    crowded_steps: u64,
    crowded_exits: u64,
    unprompted_steps: u64,
    before_first_exec: u64,
    compared: Vec<Compared>,
    differences: &'a [Difference],
}

/// What a report is made of.
pub(super) struct Outcome<'a> {
    /// Name of the recording.
    pub(super) name: &'a str,
    /// Events that the recording lost.
    pub(super) missed_events: u64,
    /// Tasks.
    pub(super) tasks: u64,
    /// How much was done.
    pub(super) totals: &'a Totals,
    /// What was found.
    pub(super) findings: &'a super::findings::Findings,
}

impl<'a> Report<'a> {
    /// Sums a replay up.
    pub(super) fn new(outcome: &Outcome<'a>) -> Self {
        let (totals, findings) = (outcome.totals, outcome.findings);
        let rows = Kind::ALL.into_iter().map(|(kind, what)| {
            let (compared, differences) = findings.count(kind);
            Compared { kind, what, compared, differences }
        });
        Self {
            recording: outcome.name,
            missed_events: outcome.missed_events,
            events: totals.events,
            tasks: outcome.tasks,
            execs: totals.execs,
            exits: totals.exits,
            calls_made: totals.calls,
            calls_taken: findings.calls_taken(),
            faults: totals.faults,
            signals: totals.signals,
            residency: totals.residency,
            repeated_faults: totals.repeated,
            crowded_steps: totals.crowded,
            crowded_exits: totals.crowded_exits,
            unprompted_steps: totals.unprompted,
            before_first_exec: totals.before_exec,
            compared: rows.collect(),
            differences: findings.differences(),
        }
    }

    /// Writes the report for readers.
    pub(super) fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { recording, events, tasks, execs, exits, .. } = self;
        writeln!(out, "{recording}: {events} events of {tasks} tasks, {execs} execs, {exits} exits")?;
        if self.missed_events > 0 {
            writeln!(out, "the recording lost {} events", self.missed_events)?;
        }
        writeln!(
            out,
            "{} calls made, {} faults; before the first exec, in an address space that is not recorded: {} calls and faults",
            self.calls_made, self.faults, self.before_first_exec
        )?;
        for (why, count) in self.calls_taken {
            writeln!(out, "{count} calls taken from the recording: {why}")?;
        }
        writeln!(
            out,
            "{} faults brought pages into memory that only the recording knows to have been there; {} found more there than it",
            self.residency.entered, self.residency.too_many
        )?;
        let Repeated { while_disabled, of_two_tasks } = self.repeated_faults;
        if while_disabled + of_two_tasks > 0 {
            writeln!(
                out,
                "{while_disabled} faults followed one that came while page faults were disabled, {of_two_tasks} one of another task on the same page"
            )?;
        }
        if self.unprompted_steps > 0 {
            writeln!(
                out,
                "{} steps come outside of recorded faults and calls, as when a file is cut off; pages of files went that later fault as absent",
                self.unprompted_steps
            )?;
        }
        if self.crowded_steps + self.crowded_exits > 0 {
            writeln!(
                out,
                "{} steps and {} exits are not compared: other threads changed the same address space meanwhile",
                self.crowded_steps, self.crowded_exits
            )?;
        }
        if self.signals > 0 {
            writeln!(out, "{} faults end with a signal, which a recording does not show", self.signals)?;
        }
        writeln!(out, "\n{:<28}{:>10}{:>13}", "", "compared", "differences")?;
        for row in &self.compared {
            writeln!(out, "{:<28}{:>10}{:>13}", row.what, row.compared, row.differences)?;
        }
        for difference in self.differences.iter().take(SHOWN) {
            writeln!(out, "line {}, task {}: {}", difference.line, difference.task, difference.what)?;
        }
        let more = self.differences.len().saturating_sub(SHOWN);
        if more > 0 {
            writeln!(out, "and {more} more; --json has all")?;
        }
        Ok(())
    }
}
