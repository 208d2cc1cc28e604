//! `cargo xtask`: the project's own tasks. One file a task; see each file's header.

mod bench;
mod items;
mod lint;
mod linux_map;
mod qemu;
mod shell;
mod source;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The tasks of the project, run as `cargo xtask TASK`.
#[derive(Parser)]
#[command(name = "cargo xtask", version, about)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Holds the budgets on code and prints them beside their limits
    Lint(lint::Options),
    /// Runs every test of the project and prints a summary
    Test(test::Options),
    /// Runs a benchmark beside its peers and prints the table
    Bench(bench::Options),
    /// Builds the bare-metal image and boots it in QEMU
    Qemu(qemu::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Lint(options) => lint::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Qemu(options) => qemu::run(&options),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
