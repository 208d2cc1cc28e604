//! `cargo xtask bench`: builds the benchmarks with optimisation and runs them. Used by `main`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::shell;

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Benchmark and its options, such as `pages --rounds 3`
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs one benchmark.
///
/// # Errors
/// cargo could not be started.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut command = shell::cargo(&["run", "--quiet", "--release", "--package", "mmkit-benches", "--"]);
    let succeeded = shell::succeeds(command.args(&options.arguments))?;
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
