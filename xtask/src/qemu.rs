//! `cargo xtask qemu`: builds the bare-metal image, checks it, boots it in QEMU and turns its exit code into ours.
//!
//! One file a concern: `build` (flags and link), `compile` (C programs), `costs` (`cargo xtask bench kernel`), `initrd` (programs to run), `red_zone` (check of the linked image), `run` (QEMU's command line, timeout,
//! exit codes), `matrix` (the machines that `--test` and `cargo xtask test` boot), `programs` (what they run in ring 3).

mod build;
mod compile;
mod costs;
mod initrd;
mod matrix;
mod programs;
mod red_zone;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};

pub(crate) use build::clippy;
pub(crate) use costs::run as run_costs;
pub(crate) use matrix::test;
pub(crate) use programs::Length;
pub(crate) use run::is_installed;

use build::Profile;
use initrd::Initrd;
use run::{Ending, Instructions, Machine, Output};

/// Options of `cargo xtask qemu`.
#[derive(Args)]
pub(crate) struct Options {
    /// Machine type
    #[arg(long, value_enum, default_value_t = MachineType::Microvm)]
    machine: MachineType,
    /// Number of CPUs
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    smp: u32,
    /// CPU model
    #[arg(long, default_value = CPU_MODEL)]
    cpu: String,
    /// Memory size, as QEMU takes it
    #[arg(long, default_value = "256M")]
    mem: String,
    /// Memory sizes of NUMA nodes, for instance 256M,512M; CPUs are dealt out evenly (pc and q35 only)
    #[arg(long, value_delimiter = ',')]
    numa: Vec<String>,
    /// The kernel's command line
    #[arg(long, default_value = "")]
    append: String,
    /// Counts guest instructions: one tick of the time-stamp counter is one instruction, and runs repeat exactly
    #[arg(long)]
    icount: bool,
    /// Builds with optimisation and without debug assertions; implied by --icount
    #[arg(long)]
    release: bool,
    /// Seconds after which the machine is stopped
    #[arg(long, default_value_t = 120)]
    timeout: u64,
    /// Boots every machine of the test matrix instead
    #[arg(long)]
    test: bool,
    /// Puts a file of the host into /root of the programs' file system
    #[arg(long)]
    file: Vec<PathBuf>,
    /// Runs a program on all CPUs and ends with its exit code: an applet of the host's static busybox, or the path of a static program
    #[arg(last = true)]
    program: Vec<String>,
}

/// The plain 64-bit CPU of QEMU: no pages of 1 GiB, no x2APIC.
const CPU_MODEL: &str = "qemu64,+rdrand";

/// Machine types of QEMU that the image boots on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum MachineType {
    /// No PCI, no legacy firmware
    Microvm,
    /// i440FX
    Pc,
    /// Q35
    Q35,
}

/// Builds and boots what the options ask for.
///
/// # Errors
/// The image could not be built, failed its check, or QEMU could not be started.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if options.test {
        return Ok(if test(Length::Short)? { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let profile = if options.release || options.icount { Profile::Release } else { Profile::Dev };
    let initrd = match options.program.split_first() {
        Some((program, arguments)) => Some(Initrd::pack(program, arguments, &options.file)?),
        None => None,
    };
    let image = build::image(profile)?;
    let append = initrd.as_ref().map_or("", |initrd| &initrd.append);
    let machine = Machine {
        kind: options.machine,
        cpus: options.smp,
        cpu: options.cpu.clone(),
        memory: options.mem.clone(),
        nodes: options.numa.clone(),
        append: format!("{append} {}", options.append).trim().to_owned(),
        initrd: initrd.as_ref().map(|initrd| initrd.path.clone()),
        instructions: if options.icount { Instructions::Counted } else { Instructions::Free },
        timeout: Duration::from_secs(options.timeout),
    };
    let (ending, _) = run::boot(&machine, &image, Output::Through)?;
    if !matches!(ending, Ending::Passed | Ending::Program(_)) {
        eprintln!("error: {ending}");
    }
    Ok(ending.exit_code())
}
