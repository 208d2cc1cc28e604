//! `cargo xtask lint`: holds the project's budgets over the whole workspace and prints them beside their limits.
//!
//! One file a group of budgets: `sizes` (files, functions, tests), `text` (headers, comments, panics, std), `unsafety`,
//! `layers` (dependencies), `tools` (rustfmt, clippy, rustdoc). Each returns `Row`s; a row that is not held fails the task.

mod layers;
mod sizes;
mod text;
mod tools;
mod unsafety;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::items::Items;
use crate::source::SourceFile;
use crate::workspace::{self, Member};
use crate::{linux_map, shell};

/// Options of `cargo xtask lint`.
#[derive(Args)]
pub(crate) struct Options {
    /// Leaves out clippy and rustdoc, which compile the workspace
    #[arg(long)]
    fast: bool,
}

/// What the source checks look at.
pub(crate) struct Checkout {
    /// Members in the order of the root manifest.
    pub(crate) members: Vec<Member>,
    /// Every Rust file.
    pub(crate) files: Vec<SourceFile>,
}

impl Checkout {
    /// The member that owns `file`, if any.
    fn owner(&self, file: &SourceFile) -> Option<&Member> {
        let owners = self.members.iter().filter(|member| file.path.starts_with(&member.directory));
        owners.max_by_key(|member| member.directory.components().count())
    }
}

/// One budget with what was measured.
#[derive(Debug)]
pub(crate) struct Row {
    /// What is measured.
    pub(crate) budget: &'static str,
    /// The measured value.
    pub(crate) value: String,
    /// The limit in words.
    pub(crate) limit: String,
    /// Whether the value is within the limit.
    pub(crate) held: bool,
    /// The places to change if it is not.
    pub(crate) offenders: Vec<Offender>,
}

impl Row {
    /// A budget of "none at all".
    pub(crate) fn none(budget: &'static str, offenders: Vec<Offender>) -> Self {
        Self { budget, value: offenders.len().to_string(), limit: "0".into(), held: offenders.is_empty(), offenders }
    }
}

/// A place that breaks a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offender {
    path: String,
    line: usize,
    what: String,
}

impl Offender {
    /// A place in `file`.
    pub(crate) fn new(file: &SourceFile, line: usize, what: impl Into<String>) -> Self {
        Self { path: file.path.display().to_string(), line, what: what.into() }
    }

    /// A place in a file that is no Rust file.
    pub(crate) fn at(path: String, line: usize, what: impl Into<String>) -> Self {
        Self { path, line, what: what.into() }
    }
}

impl fmt::Display for Offender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Runs the lint; fails if a budget is not held.
///
/// # Errors
/// A file cannot be read or parsed, or a tool cannot be started.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let top = shell::top();
    let checkout = Checkout { members: workspace::members(&top)?, files: workspace::sources(&top)? };
    let mut rows = source_rows(&checkout);
    rows.push(linux_map_row(&top, &checkout)?);
    rows.push(tools::format()?);
    if !options.fast {
        rows.push(tools::clippy()?);
        rows.push(tools::rustdoc()?);
    }
    print!("{}", report(&rows));
    Ok(if rows.iter().all(|row| row.held) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every budget that reading the sources is enough for.
pub(crate) fn source_rows(checkout: &Checkout) -> Vec<Row> {
    let mut rows = sizes::rows(checkout);
    rows.extend(text::rows(checkout));
    rows.extend(unsafety::rows(checkout));
    rows.extend(layers::rows(checkout));
    rows
}

fn linux_map_row(top: &Path, checkout: &Checkout) -> Result<Row> {
    let faults = linux_map::faults(top, &Items::new(&checkout.members, &checkout.files))?;
    let places = faults.into_iter().map(|(line, fault)| Offender::at(linux_map::FILE.into(), line, fault));
    Ok(Row::none("faults of the map of Linux's names", places.collect()))
}

/// The table, and below it the places of each budget that is not held.
fn report(rows: &[Row]) -> String {
    let mut text = format!("{:<44} {:>10}  {:<22} verdict\n", "budget", "value", "limit");
    for row in rows {
        let verdict = if row.held { "ok" } else { "BREACH" };
        text += &format!("{:<44} {:>10}  {:<22} {verdict}\n", row.budget, row.value, row.limit);
    }
    for row in rows.iter().filter(|row| !row.held && !row.offenders.is_empty()) {
        text += &format!("\n{}: {}, limit {}\n", row.budget, row.value, row.limit);
        for offender in &row.offenders {
            text += &format!("  {offender}\n");
        }
    }
    text
}
