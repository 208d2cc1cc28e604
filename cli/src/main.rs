//! The `mmkit` command.
//!
//! One file (or directory) per subcommand; this file only dispatches. Exit codes: 0 done, 2 wrong usage or input that is not
//! what its format promises, 1 anything else.
#![forbid(unsafe_code)]

mod boot;
mod diff;
mod failure;
mod output_file;
mod proc_file;
mod replay;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Failure;

/// The Linux memory manager as a library, from the command line.
#[derive(Parser)]
#[command(name = "mmkit", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Boots a machine and compares its log and zones with the real kernel's.
    Boot(boot::BootArguments),
    /// Makes random memory calls on the kernel underneath and on this memory manager, and compares.
    Diff(diff::DiffArguments),
    /// Replays a recorded page-allocator trace and compares with the real kernel.
    Replay(replay::ReplayArguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Boot(arguments) => boot::run(&arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments).map(|()| ExitCode::SUCCESS),
    };
    match result {
        Ok(code) => code,
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    eprintln!("mmkit: {failure}");
    failure.exit_code()
}
