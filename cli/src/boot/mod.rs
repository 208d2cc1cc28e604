//! `mmkit boot`: the boot of a machine, with the log in Linux's words; of a recorded one beside what the real kernel did.
//!
//! Exit codes: 0 booted, and equal to the recording if there is one; 1 differences; 2 input that is not what its format promises.

mod append;
mod comparison;
mod from_log;
mod hand_over;
mod kernel_facts;
mod machine;
mod output;
mod recorded_files;
mod settings;
mod zone_numbers;
mod zone_plan;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use page_allocator::layout::{ZoneLimits, ZoneSet};
use sim::description::Arch;
use units::{Pfn, PfnRange};

use crate::failure::Failure;
use crate::proc_file::ProcFile;
use machine::BootedMachine;

pub(crate) use append::AppendError;
pub(crate) use settings::{SettingError, Settings};

/// Arguments of `mmkit boot`.
#[derive(Args)]
pub(crate) struct BootArguments {
    /// A ready machine, or a file that describes one: TOML, a devicetree blob (arm64) or the text of /proc/iomem (x86-64).
    #[arg(long, value_name = "NAME|FILE", required_unless_present = "from_log", conflicts_with = "from_log")]
    machine: Option<String>,
    /// A kernel log recorded with memblock=debug; files recorded beside it (zoneinfo, sysctl-*, node-*-distance) are compared too.
    #[arg(long, value_name = "FILE")]
    from_log: Option<PathBuf>,
    /// Kernel options to add, such as "mem=1G movablecore=256M"; a recorded boot refuses those that change the kernel's own requests.
    #[arg(long, value_name = "OPTIONS", default_value = "", allow_hyphen_values = true)]
    append: String,
    /// Changes a setting, as sysctl does: vm.min_free_kbytes=65536.
    #[arg(long = "set", value_name = "vm.NAME=VALUE")]
    settings: Vec<String>,
    /// Writes a /proc file of the booted machine instead of its log.
    #[arg(long, value_name = "FILE", conflicts_with = "from_log")]
    proc: Option<ProcFile>,
    /// Writes everything as one JSON object.
    #[arg(long, conflicts_with = "proc")]
    json: bool,
}

/// Options and settings of a boot that come on top of those of the machine or the recording.
#[derive(Clone, Debug, Default)]
struct Changes {
    /// Kernel options, behind the machine's own.
    append: String,
    /// Settings as `vm.NAME=VALUE`.
    settings: Vec<String>,
}

/// Runs the subcommand.
pub(crate) fn run(arguments: &BootArguments) -> Result<ExitCode, Failure> {
    let changes = Changes { append: arguments.append.clone(), settings: arguments.settings.clone() };
    let mut out = BufWriter::new(io::stdout().lock());
    if let Some(log) = &arguments.from_log {
        let boot = from_log::run(log, &changes)?;
        if arguments.json {
            output::write_json(&mut out, &boot)?;
        } else {
            output::write_text(&mut out, &boot)?;
        }
        return Ok(if boot.differences() == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) });
    }
    let booted = BootedMachine::boot(arguments.machine.as_deref().unwrap_or_default(), &changes)?;
    match arguments.proc {
        Some(file) => write!(out, "{}", booted.proc_file(file)?)?,
        None if arguments.json => output::write_report(&mut out, &booted.report())?,
        None => booted.log().iter().try_for_each(|line| writeln!(out, "{line}"))?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the kinds of zones that kernels of an architecture are built with.
fn configured_zones(arch: Arch) -> ZoneSet {
    let memory = PfnRange::new(Pfn::ZERO, Pfn::new(1));
    let limits = match arch {
        Arch::X86_64 | Arch::X86_64La57 => ZoneLimits::x86_64(memory),
        Arch::I386 => ZoneLimits::i386(memory, memory.end),
        Arch::Arm64(_) => ZoneLimits::arm64(memory, 32, arch.page_shift()),
    };
    limits.configured()
}
