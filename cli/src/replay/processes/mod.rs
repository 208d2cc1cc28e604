//! `mmkit replay NAME.vmtrace.zst`: a recorded process tree, executed on our memory manager and compared with what the real kernel did.

mod calls;
mod catalogue;
mod compare;
mod engine;
mod findings;
mod foresight;
mod import;
mod opened;
mod pages;
mod report;
mod residency;
mod shm;
mod space;
mod tasks;

use std::io::Write;
use std::path::Path;

use address_space::{CommitRules, HugePolicy, PAGE_SHIFT, Release, Settings};
use kernel_mm::MemoryManager;
use recordings::processes::{Recording, TaskId};
use sim::description::Machine;
use sim::{SimMachine, SimOptions};
use units::CpuId;

use self::catalogue::Catalogue;
use self::engine::{Engine, ExitFiles};
use self::foresight::Foresight;
use self::report::{Outcome, Report};
use self::space::Host;
use super::{Format, write_json};
use crate::failure::Failure;

/// Memory of the recorded machine, which decides what mmap refuses (data/README.md).
const RECORDED_RAM: u64 = 24 << 30;

/// Resident memory that the small machine of 512 MiB has room for; what needs more gets one as large as the recorded machine, which takes longer to boot.
const FITS_SMALL_KB: u64 = 192 << 10;

/// What to print.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Output {
    /// The report.
    Report(Format),
    /// /proc/PID/maps of a task at its exit.
    Maps(TaskId),
    /// /proc/PID/smaps of a task at its exit.
    Smaps(TaskId),
}

/// Reads a task as the command takes it: tN.
pub(super) fn parse_task(text: &str) -> Result<TaskId, String> {
    let number = text.strip_prefix('t').and_then(|digits| digits.parse().ok());
    number.map(TaskId).ok_or_else(|| "expected a task tN".to_owned())
}

/// Returns true if the file's name is that of a process trace.
pub(super) fn is_process_trace(trace: &Path) -> bool {
    let name = trace.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.ends_with(".vmtrace.zst") || name.ends_with(".vmtrace")
}

/// Replays a recording.
pub(super) fn run(trace: &Path, output: Output, out: &mut impl Write) -> Result<(), Failure> {
    let recording = Recording::at(trace)?;
    let missed_events = recording.events()?.header().missed_events;
    let catalogue = Catalogue::read(&recording)?;
    let is_small = catalogue.most_resident() <= FITS_SMALL_KB;
    let description = Machine::ready(if is_small { "small" } else { "recorded-24g" })
        .ok_or_else(|| Failure::Machine("no description".into()))?;
    let machine = SimMachine::boot(&description, &SimOptions::default())?;
    let cpu = machine.cpu(CpuId::ZERO).ok_or_else(|| Failure::Machine("no CPU".into()))?;
    let objects = machine.kernel().objects();
    objects.start(&cpu).map_err(|error| Failure::Machine(error.to_string()))?;
    // The recorded kernel (data/README.md): its release, huge pages by madvise only, overcommit mode 0.
    let settings = Settings { release: Release::V6_18, huge: HugePolicy::Madvise, ..Settings::X86_64 };
    let commit = CommitRules::for_ram(RECORDED_RAM >> PAGE_SHIFT);
    let manager =
        MemoryManager::new(objects, &cpu, settings, commit).map_err(|error| Failure::Machine(error.to_string()))?;
    let foresight = Foresight::read(&recording)?;
    let mut engine = Engine::new(Host { manager: &manager, cpu: &cpu }, &catalogue, &foresight);
    engine.run(&recording)?;
    match output {
        Output::Maps(task) => {
            let ExitFiles { maps, .. } = engine.files.get(&task).ok_or_else(|| no_exit(task))?;
            out.write_all(maps.as_bytes())?;
        }
        Output::Smaps(task) => {
            let ExitFiles { smaps, .. } = engine.files.get(&task).ok_or_else(|| no_exit(task))?;
            out.write_all(smaps.as_bytes())?;
        }
        Output::Report(format) => {
            let report = Report::new(&Outcome {
                name: recording.name(),
                missed_events,
                tasks: engine.nr_tasks(),
                totals: &engine.totals,
                findings: &engine.findings,
            });
            match format {
                Format::Text => report.write_text(out)?,
                Format::Json => write_json(out, &report)?,
            }
        }
    }
    Ok(())
}

fn no_exit(task: TaskId) -> Failure {
    Failure::Usage(format!("task t{} does not exit in the recording", task.0))
}
