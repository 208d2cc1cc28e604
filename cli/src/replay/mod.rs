//! `mmkit replay TRACE`: a recorded page-allocator trace, next to what the real kernel did.

use std::path::PathBuf;

use clap::Args;
use recordings::pages::TraceReader;

use crate::failure::Failure;

/// Arguments of `mmkit replay`.
#[derive(Args)]
pub(crate) struct ReplayArguments {
    /// The trace, NAME.trace.zst, with the directories NAME.before and NAME.after beside it.
    trace: PathBuf,
}

/// Runs the subcommand.
pub(crate) fn run(arguments: &ReplayArguments) -> Result<(), Failure> {
    let mut reader = TraceReader::open(&arguments.trace)?;
    let mut events = 0u64;
    while reader.next_event()?.is_some() {
        events += 1;
    }
    println!("{events} events");
    Ok(())
}
