//! `cargo xtask test`: every test of the project, one step after the other, with a summary at the end.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::shell;

/// Options of `cargo xtask test`.
#[derive(Args)]
pub(crate) struct Options {
    /// Runs the stress tests and the fuzz targets for minutes instead of seconds
    #[arg(long)]
    long: bool,
}

/// Runs the steps; the exit code tells whether all passed.
///
/// # Errors
/// A program that a step needs could not be started.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut command = shell::cargo(&["test", "--workspace"]);
    if options.long {
        command.env("MMKIT_TEST_LONG", "1");
    }
    Ok(if shell::succeeds(&mut command)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
