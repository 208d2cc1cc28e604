//! `mmkit replay TRACE`: a recorded page-allocator trace, next to what the real kernel did.

mod guided;
mod watch;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use recordings::pages::Recording;
use serde::Serialize;

use crate::failure::Failure;

/// Arguments of `mmkit replay`.
#[derive(Args)]
pub(crate) struct ReplayArguments {
    /// The trace, NAME.trace.zst, with the directories NAME.before and NAME.after beside it.
    trace: PathBuf,
    /// Applies the recorded list operations instead of simulating, and compares the free frames with the recorded ones.
    #[arg(long, required = true)]
    guided: bool,
    /// Prints the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Form of a report.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// Runs the subcommand.
pub(crate) fn run(arguments: &ReplayArguments) -> Result<(), Failure> {
    let recording = Recording::at(&arguments.trace)?;
    let format = if arguments.json { Format::Json } else { Format::Text };
    let interrupted = watch::note_ctrl_c();
    let mut out = io::stdout().lock();
    guided::run(&recording, format, &interrupted, &mut out)
}

/// Writes `report` as one JSON document.
fn write_json(out: &mut impl Write, report: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}
