//! `cargo xtask bench`: builds the benchmarks with optimisation and runs them; `kernel` runs on the bare machine instead. Used by `main`.

use std::process::{Command, ExitCode, Stdio};

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

/// Feature of the benchmarks with peers that are written in C and C++.
const NATIVE_PEERS: &str = "native-peers";

/// Runs one benchmark, with the peers that this machine can build.
///
/// # Errors
/// cargo could not be started.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if options.arguments.first().is_some_and(|name| name == "kernel") {
        return crate::qemu::run_costs();
    }
    let mut command = shell::cargo(&["run", "--quiet", "--release", "--package", "mmkit-benches"]);
    if options.arguments.first().is_some_and(|name| name == "objects") {
        match missing_compilers().as_slice() {
            [] => drop(command.args(["--features", NATIVE_PEERS])),
            missing => eprintln!("WARNING: mimalloc and snmalloc are left out: cannot run {}", missing.join(", ")),
        }
    }
    let succeeded = shell::succeeds(command.arg("--").args(&options.arguments))?;
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the compilers that the native peers need and that do not start: those of CC and CXX, or the usual names.
fn missing_compilers() -> Vec<String> {
    let named = [("CC", "cc"), ("CXX", "c++")].map(|(variable, usual)| std::env::var(variable).unwrap_or(usual.into()));
    named.into_iter().filter(|compiler| !starts(compiler)).collect()
}

fn starts(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_that_does_not_start_is_missing() {
        assert!(starts(&std::env::var("CARGO").unwrap_or("cargo".into())));
        assert!(!starts("no-such-compiler"));
    }
}
