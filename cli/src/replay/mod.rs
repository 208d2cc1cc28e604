//! `mmkit replay TRACE`: a recorded page-allocator trace or process tree, next to what the real kernel did.
//!
//! Page traces are replayed by the files here, process trees by `processes`.

mod demand;
mod fragmentation;
mod guided;
mod machine;
mod near;
mod node_report;
mod node_rule;
#[cfg(test)]
mod numa_tests;
mod processes;
mod recorder;
mod report;
mod simulate;
#[cfg(test)]
mod tests;
mod timer;
mod watch;
mod zone_settings;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use page_allocator::FreeHighRule;
use page_allocator::layout::ZoneSet;
use proc_files::Release;
use recordings::CpuList;
use recordings::pages::{InitialState, ListOrder, Recording, Snapshot, Surroundings, present_ranges};
use recordings::processes::TaskId;
use serde::Serialize;
use units::CpuId;

use self::machine::ReplayMachine;
use self::processes::Output;
use self::report::Report;
use self::simulate::{Run, Scenario};
use self::zone_settings::SettingsSource;
use crate::boot::Settings;
use crate::failure::Failure;
use crate::output_file;
use crate::proc_file::{ProcFile, write_memory_ranges};

/// Arguments of `mmkit replay`.
#[derive(Args)]
pub(crate) struct ReplayArguments {
    /// A page trace, NAME.trace.zst, with the directories NAME.before and NAME.after beside it, or a process trace, NAME.vmtrace.zst, with NAME.vm.
    trace: PathBuf,
    /// Applies the recorded list operations instead of simulating, and compares the free frames with the recorded ones.
    #[arg(long, conflicts_with_all = ["phase", "settings", "proc_file", "csv", "list_order", "free_high", "node_cpus"])]
    guided: bool,
    /// Milliseconds after each full second at which CPU 0 runs its vmstat timer; the replay is run at each, details are of the first.
    #[arg(long, value_name = "MS", value_delimiter = ',', default_values_t = [60, 70, 80, 90, 100],
        value_parser = clap::value_parser!(u64).range(..1000))]
    phase: Vec<u64>,
    /// Changes a setting of the recorded machine, as sysctl does: vm.min_free_kbytes=131072.
    #[arg(long = "set", value_name = "vm.NAME=VALUE")]
    settings: Vec<String>,
    /// Where the order inside the free lists comes from at the start.
    #[arg(long, value_enum, default_value_t = FreeListOrder::Recorded)]
    list_order: FreeListOrder,
    /// How long a run of frees must be before frees of orders 1 to 3 empty a CPU's lists; by default as in the recorded kernel's release.
    #[arg(long, value_enum)]
    free_high: Option<FreeHigh>,
    /// Says which CPUs are near a node of a machine with several, instead of the recording's node-nodeN-cpulist files: 0=0-3,8.
    #[arg(long, value_name = "NODE=CPUS", value_parser = near::parse)]
    node_cpus: Vec<CpuList>,
    /// Prints a /proc file of the simulated machine after the replay, instead of the report.
    #[arg(long = "proc", value_name = "FILE", value_enum)]
    proc_file: Option<ProcFile>,
    /// Writes the course of the largest zone of each node, once a second, as comma-separated values.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Of a process trace: prints our /proc/PID/maps of a task at its exit, instead of the report.
    #[arg(long, value_name = "tN", value_parser = processes::parse_task, conflicts_with = "json")]
    maps: Option<TaskId>,
    /// Of a process trace: likewise our /proc/PID/smaps.
    #[arg(long, value_name = "tN", value_parser = processes::parse_task, conflicts_with_all = ["json", "maps"])]
    smaps: Option<TaskId>,
    /// Prints the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Where the order inside the free lists comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum FreeListOrder {
    /// From the order in which the recording takes blocks.
    Recorded,
    /// By address.
    Ascending,
}

/// The free_high rule of a kernel release.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum FreeHigh {
    /// A batch, up to Linux 6.15.
    #[value(name = "6.12")]
    Before616,
    /// A batch and half of high_min, since Linux 6.16.
    #[value(name = "6.16")]
    Since616,
    /// They never do: no kernel's rule, to see what the rules cost and save.
    Never,
}

/// Form of a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Text,
    Json,
}

/// Runs the subcommand.
pub(crate) fn run(arguments: &ReplayArguments) -> Result<(), Failure> {
    let format = if arguments.json { Format::Json } else { Format::Text };
    if processes::is_process_trace(&arguments.trace) {
        return run_processes(arguments, format);
    }
    if arguments.maps.is_some() || arguments.smaps.is_some() {
        return Err(Failure::Usage("--maps and --smaps are for process traces, NAME.vmtrace.zst".to_owned()));
    }
    if let Some(csv) = &arguments.csv {
        output_file::spare_input(csv, &arguments.trace)?;
    }
    let recording = Recording::at(&arguments.trace)?;
    let interrupted = watch::note_ctrl_c();
    let mut out = BufWriter::new(io::stdout().lock());
    if arguments.guided {
        guided::run(&recording, format, &interrupted, &mut out)?;
    } else {
        simulated(&recording, arguments, format, &interrupted, &mut out)?;
    }
    Ok(out.flush()?)
}

fn run_processes(arguments: &ReplayArguments, format: Format) -> Result<(), Failure> {
    let is_of_pages =
        arguments.guided || arguments.proc_file.is_some() || arguments.csv.is_some() || !arguments.settings.is_empty();
    if is_of_pages || !arguments.node_cpus.is_empty() {
        let text = "--guided, --proc, --csv, --set and --node-cpus are for page traces, NAME.trace.zst";
        return Err(Failure::Usage(text.to_owned()));
    }
    let output = match (arguments.maps, arguments.smaps) {
        (Some(task), _) => Output::Maps(task),
        (None, Some(task)) => Output::Smaps(task),
        (None, None) => Output::Report(format),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    processes::run(&arguments.trace, output, &mut out)?;
    Ok(out.flush()?)
}

fn simulated(
    recording: &Recording,
    arguments: &ReplayArguments,
    format: Format,
    interrupted: &Arc<AtomicBool>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let surroundings = Surroundings::read(recording)?;
    let before = &surroundings.before;
    let mut settings = Settings::default();
    for setting in &arguments.settings {
        settings.apply(setting, ZoneSet::of(&before.zone_kinds))?;
    }
    let zone_settings = if arguments.settings.is_empty() {
        SettingsSource::Recorded { watermark_boost_factor: settings.tunables.watermark_boost_factor }
    } else {
        SettingsSource::Computed(settings.tunables)
    };
    let list_order = match arguments.list_order {
        FreeListOrder::Recorded => ListOrder::Recorded,
        FreeListOrder::Ascending => ListOrder::Ascending,
    };
    let cpu_nodes = near::cpu_nodes(recording, before, &arguments.node_cpus)?;
    let state = InitialState::infer(&surroundings, list_order, || recording.events())?;
    let scenario = Scenario {
        recording,
        surroundings: &surroundings,
        state: &state,
        present: &present_ranges(before, &surroundings.kinds),
        cpu_nodes: &cpu_nodes,
        distances: &recording.node_distances()?,
        settings: &zone_settings,
        free_high_rule: free_high_rule(arguments.free_high, before),
        interrupted,
    };
    let runs = run_phases(&scenario, &arguments.phase)?;
    let Some(first) = runs.first() else { return Ok(()) };
    if let Some(path) = &arguments.csv {
        write_csv(path, first)?;
    }
    if let (Some(file), Some(machine)) = (arguments.proc_file, &first.machine) {
        return write_proc_file(out, file, machine);
    }
    let Some(report) = Report::new(recording.name(), &runs, &surroundings, &cpu_nodes) else { return Ok(()) };
    match format {
        Format::Text => report.write_text(out)?,
        Format::Json => write_json(out, &report)?,
    }
    Ok(())
}

/// Returns the rule that was asked for, or that of the recorded release.
fn free_high_rule(asked: Option<FreeHigh>, before: &Snapshot) -> FreeHighRule {
    let recorded = if before.profile.release < Release::V6_18 { FreeHigh::Before616 } else { FreeHigh::Since616 };
    match asked.unwrap_or(recorded) {
        FreeHigh::Before616 => FreeHighRule::Batch,
        FreeHigh::Since616 => FreeHighRule::BatchAndHalfOfHighMin,
        FreeHigh::Never => FreeHighRule::Never,
    }
}

/// Runs the scenario at each phase, until the user ends it.
fn run_phases(scenario: &Scenario<'_>, phases: &[u64]) -> Result<Vec<Run>, Failure> {
    let mut runs = Vec::new();
    for phase in phases {
        // Relaxed: see `watch`.
        if !runs.is_empty() && scenario.interrupted.load(Ordering::Relaxed) {
            break;
        }
        let mut run = scenario.run(*phase)?;
        if !runs.is_empty() {
            // Details are of the first run only; a machine's descriptors take hundreds of megabytes.
            run.machine = None;
        }
        runs.push(run);
    }
    Ok(runs)
}

/// Writes a /proc file of the machine as it is after the replay.
fn write_proc_file(out: &mut impl Write, file: ProcFile, machine: &ReplayMachine) -> Result<(), Failure> {
    let cpu = machine.cpu(CpuId::ZERO).ok_or_else(|| Failure::Machine("CPU 0 is taken".to_owned()))?;
    let mut text = String::new();
    let written = file.write(&mut text, &machine.proc(&cpu), |out| write_memory_ranges(out, machine.memblock()));
    debug_assert!(written.is_ok(), "a string takes every line");
    Ok(out.write_all(text.as_bytes())?)
}

fn write_csv(path: &Path, run: &Run) -> io::Result<()> {
    let several = run.samples.iter().any(|sample| sample.node != run.samples[0].node);
    let node = |text: String| if several { text } else { String::new() };
    let mut text = format!("{}{}\n", node(fragmentation::CSV_NODE_HEADER.to_owned()), fragmentation::CSV_HEADER);
    for sample in &run.samples {
        text.push_str(&node(sample.csv_node()));
        text.push_str(&sample.csv_line());
        text.push('\n');
    }
    output_file::write(path, &text)
}

/// Writes `report` as one JSON document.
fn write_json(out: &mut impl Write, report: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}
