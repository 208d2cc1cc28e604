//! `mmkit boot`: the boot of a machine, with the log in Linux's words, beside the boot of the real kernel.
//!
//! Exit codes: 0 all equal, 1 differences, 2 input that is not what its format promises.

mod comparison;
mod from_log;
mod hand_over;
mod kernel_facts;
mod output;
mod recorded_files;
mod settings;
mod zone_numbers;
mod zone_plan;

use std::io::{self, BufWriter};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::failure::Failure;
use from_log::Changes;

pub(crate) use from_log::AppendError;
pub(crate) use settings::{SettingError, Settings};

/// Arguments of `mmkit boot`.
#[derive(Args)]
pub(crate) struct BootArguments {
    /// A kernel log recorded with memblock=debug; files recorded beside it (zoneinfo, sysctl-*, node-*-distance) are compared too.
    #[arg(long, value_name = "FILE")]
    from_log: PathBuf,
    /// Kernel options to add: kernelcore=, movablecore=, movable_node.
    #[arg(long, value_name = "OPTIONS", default_value = "", allow_hyphen_values = true)]
    append: String,
    /// Changes a setting, as sysctl does: vm.min_free_kbytes=65536.
    #[arg(long = "set", value_name = "vm.NAME=VALUE")]
    settings: Vec<String>,
    /// Writes everything that was compared as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub(crate) fn run(arguments: &BootArguments) -> Result<ExitCode, Failure> {
    let changes = Changes { append: arguments.append.clone(), settings: arguments.settings.clone() };
    let boot = from_log::run(&arguments.from_log, &changes)?;
    let mut out = BufWriter::new(io::stdout().lock());
    if arguments.json {
        output::write_json(&mut out, &boot)?;
    } else {
        output::write_text(&mut out, &boot)?;
    }
    Ok(if boot.differences() == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
