//! Feeds damaged input to every parser of foreign formats, on the stable toolchain: `cargo run -p mmkit-fuzz --profile fuzz -- TARGET`.
//!
//! `targets` names the parsers and their seeds, `corpus` loads seeds, `mutate` damages them, `worker` runs one target in a process of
//! its own with a memory limit, `driver` starts workers and keeps the input that ended one. A seed repeats a run exactly.
#![forbid(unsafe_code)]

mod corpus;
mod driver;
mod mutate;
mod targets;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use targets::{TARGETS, Target};

/// Feeds damaged input to parsers; a panic, a hang or too much memory is a failure.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Name of the target
    #[arg(required_unless_present_any = ["list", "all"])]
    target: Option<String>,
    /// Prints the names of the targets
    #[arg(long)]
    list: bool,
    /// Runs every target, as many at a time as there are CPUs
    #[arg(long, conflicts_with = "target")]
    all: bool,
    /// Time for each target
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Start of the random numbers; the same seed gives the same inputs
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs the target once on this file
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    input: Option<PathBuf>,
    /// Runs as the driver's worker and keeps the current input in this file
    #[arg(long, value_name = "FILE", hide = true)]
    worker: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    if cli.list {
        TARGETS.iter().for_each(|target| println!("{}", target.name));
        return Ok(ExitCode::SUCCESS);
    }
    let Some(name) = &cli.target else {
        return driver::run(TARGETS, cli.seconds, cli.seed);
    };
    let target = target(name)?;
    if let Some(file) = &cli.input {
        let input = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        println!("{}", (target.run)(&input));
        return Ok(ExitCode::SUCCESS);
    }
    let Some(file) = &cli.worker else {
        return driver::run(&[target], cli.seconds, cli.seed);
    };
    worker::limit_memory()?;
    let passed = worker::run(target, cli.seconds, cli.seed, file)?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn target(name: &str) -> Result<&'static Target> {
    TARGETS
        .iter()
        .copied()
        .find(|target| target.name == name)
        .with_context(|| format!("no target is named {name}; --list shows all"))
}
