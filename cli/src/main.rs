//! The `mmkit` command.
//!
//! One file (or directory) per subcommand; this file only dispatches. Exit codes: 0 done, 2 wrong usage or input that is not
//! what its format promises, 1 anything else.
#![forbid(unsafe_code)]

mod failure;
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
    /// Replays a recorded page-allocator trace and compares with the real kernel.
    Replay(replay::ReplayArguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Replay(arguments) => replay::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    eprintln!("mmkit: {failure}");
    failure.exit_code()
}
