//! `mmkit diff`: the same random memory calls on the host's kernel and on ours.
//!
//! After each call the result and /proc/PID/maps must be equal, and after some calls what smaps and status tell and what pages hold (`state`). The host's
//! side is a process that makes calls when it is told to (`agent`), ours a process made like that one, with page tables and files. Both fork. A difference
//! is shrunk to few calls and printed.

mod agent;
mod contents;
mod generate;
mod host;
mod huge;
mod maps;
mod marks;
mod operation;
mod ours;
mod outcome;
mod scarcity;
mod shrink;
mod state;
mod theme;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use address_space::{CommitRules, HugePolicy, Limits, NO_LIMIT, Process, ProtectionKeys, Release, Rights, Settings};
use clap::Args;
use kernel_mm::MemoryManager;
use page_allocator::Hooks;
use rustix::process::{Resource, getrlimit};
use sim::description::{Arch, Machine};
use sim::{Rng, SimMachine, SimOptions, SimPlatform};
use sync::Cpu;
use units::{CpuId, VirtAddr};

use crate::failure::Failure;
use generate::Generator;
use host::Host;
use huge::{HugePageEvents, HugePages};
use maps::{MapLine, Smap};
use marks::WriteMarks;
use operation::{Operation, Slots};
use ours::Ours;
use scarcity::Scarcity;
use theme::Theme;

/// Calls that are made on one process before the next one starts.
const RUN: u64 = 500;
/// Calls between two comparisons of the whole state.
const STATE_EVERY: usize = 25;
/// Runs of calls on huge pages until the host has enough of them.
const HUGE_PAGE_TRIES: usize = 8;

/// Arguments of `mmkit diff`.
#[derive(Args)]
pub(crate) struct DiffArguments {
    /// Calls to make.
    #[arg(long, default_value_t = 10_000)]
    ops: u64,
    /// Seed of the calls.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these calls, by name.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Rules of this kernel: 6.12 or 6.18; by default those of the host.
    #[arg(long)]
    release: Option<String>,
}

/// A call that went differently.
struct Difference {
    /// How many calls were made, this one included.
    at: usize,
    /// What differs, in words.
    what: String,
}

/// What all runs have in common.
struct Session<'a, 'k, H: Hooks + Sync> {
    manager: &'a MemoryManager<'k, SimPlatform, H>,
    /// The same without huge pages.
    small: &'a MemoryManager<'k, SimPlatform, H>,
    cpu: &'a Cpu,
    process: Process,
    marks: WriteMarks,
}

/// Calls that are made on one process.
#[derive(Clone)]
struct Trial {
    scarcity: Scarcity,
    theme: Theme,
    operations: Vec<Operation>,
}

/// Runs `mmkit diff`.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(arguments: &DiffArguments) -> Result<ExitCode, Failure> {
    let known: Vec<_> = generate::calls().collect();
    if let Some(unknown) = arguments.only.iter().find(|call| !known.contains(&call.as_str())) {
        return Err(Failure::Usage(format!("--only: no call is named `{unknown}`; there are {}", known.join(", "))));
    }
    let settings = host_settings(arguments.release.as_deref())?;
    let mut description = Machine::ready("small").ok_or_else(|| Failure::Machine("no description".into()))?;
    if settings.task_size > settings.default_window {
        description.arch = Arch::X86_64La57;
    }
    let machine = SimMachine::boot(&description, &SimOptions::default())?;
    let cpu = machine.cpu(CpuId::ZERO).ok_or_else(|| Failure::Machine("no CPU".into()))?;
    let objects = machine.kernel().objects();
    objects.start(&cpu).map_err(|error| Failure::Machine(error.to_string()))?;
    let commit = CommitRules::for_ram(1 << 32);
    let manager = |settings| {
        MemoryManager::new(objects, &cpu, settings, commit).map_err(|error| Failure::Machine(error.to_string()))
    };
    let (manager, small) = (manager(settings)?, manager(Settings { huge: HugePolicy::Never, ..settings })?);
    let process = Process { rights: Rights::empty(), limits: limits() };
    let marks = WriteMarks::of_host()?;
    let session = Session { manager: &manager, small: &small, cpu: &cpu, process, marks };
    compare(&session, arguments, settings.release)
}

fn compare<H: Hooks + Sync>(
    session: &Session<'_, '_, H>,
    arguments: &DiffArguments,
    release: Release,
) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for part in 0..arguments.ops.div_ceil(RUN) {
        let trial = Trial::choose(arguments, part, session.marks);
        for operation in &trial.operations {
            *counts.entry(operation.call()).or_default() += 1;
        }
        if let Some(difference) = session.first_difference(&trial)? {
            println!("seed {}, call {}:", arguments.seed, part * RUN + difference.at as u64);
            let (shortest, difference) = shrink::shrink(session, &trial, difference)?;
            shrink::print(&shortest, &difference);
            return Ok(ExitCode::FAILURE);
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let calls: Vec<_> = counts.iter().map(|(call, count)| format!("{call} {count}")).collect();
    println!(
        "{} calls, seed {}, rules of {release:?}: 0 differences in results, errnos, bytes read, maps, and every {STATE_EVERY} calls in smaps, status and contents ({seconds:.1} s)",
        arguments.ops, arguments.seed
    );
    println!("{}", calls.join(", "));
    Ok(ExitCode::SUCCESS)
}

impl Trial {
    /// Chooses limits and calls of a part of a seed.
    fn choose(arguments: &DiffArguments, part: u64, marks: WriteMarks) -> Self {
        let mut generator = Generator::new(arguments.seed, part, &arguments.only, marks);
        let length = RUN.min(arguments.ops - part * RUN);
        // Apart from the calls' source, so that the calls are the same with and without limits.
        let scarcity = Scarcity::choose(&mut Rng::for_part(!arguments.seed, part));
        Self { scarcity, theme: Theme::of(part), operations: (0..length).map(|_| generator.next()).collect() }
    }
}

impl<H: Hooks + Sync> Session<'_, '_, H> {
    /// Makes the calls on both sides in a new process; once more, if the host had no huge pages meanwhile, or khugepaged made some.
    fn first_difference(&self, trial: &Trial) -> Result<Option<Difference>, Failure> {
        for _ in 0..HUGE_PAGE_TRIES {
            let events = HugePageEvents::read()?;
            let found = self.first_difference_once(trial)?;
            if found.is_none() || trial.theme.huge_pages() == HugePages::Off || events == HugePageEvents::read()? {
                return Ok(found);
            }
        }
        Err(Failure::Host("no huge pages are to be had, or khugepaged makes them all the time".into()))
    }

    fn first_difference_once(&self, trial: &Trial) -> Result<Option<Difference>, Failure> {
        let huge = trial.theme.huge_pages();
        let manager = if huge == HugePages::On { self.manager } else { self.small };
        let mut host = Host::start(huge)?;
        let areas = host.smaps()?;
        let size: u64 = areas.iter().map(|area| area.line.end - area.line.start).sum();
        let limits = trial.scarcity.apply(self.process.limits, size);
        host.set_limits(&limits)?;
        host.drop_rights()?;
        let mut ours = Ours::like(manager, self.cpu, self.process, &areas, host.program())?;
        ours.set_limits(limits);
        let (before, slots) = (Vec::new(), Slots::default());
        let found = Pair { host, ours: &mut ours, first: &areas, before, slots, marks: self.marks }
            .first_difference(&trial.operations);
        ours.end()?;
        found
    }
}

/// Both sides of one process.
struct Pair<'a, 'b, 'k, H: Hooks + Sync> {
    host: Host,
    ours: &'a mut Ours<'b, 'k, H>,
    /// Areas that were there before the first call.
    first: &'a [Smap],
    /// Slots of the parents that wait.
    before: Vec<Slots>,
    slots: Slots,
    marks: WriteMarks,
}

impl<H: Hooks + Sync> Pair<'_, '_, '_, H> {
    fn first_difference(&mut self, operations: &[Operation]) -> Result<Option<Difference>, Failure> {
        if let Some(what) = self.compare_state()? {
            return Ok(Some(Difference { at: 0, what }));
        }
        for (at, operation) in (1..).zip(operations) {
            let mut what = self.make(operation)?;
            let is_due = at % STATE_EVERY == 0 || at == operations.len() || *operation == Operation::Exit;
            if what.is_none() && is_due {
                what = self.compare_state()?;
            }
            if let Some(what) = what {
                return Ok(Some(Difference { at, what }));
            }
        }
        Ok(None)
    }

    /// Makes a call on both sides, and says what differs.
    fn make(&mut self, operation: &Operation) -> Result<Option<String>, Failure> {
        if self.ours.may_execute(operation, &self.slots) {
            // What the processor would do there nobody knows.
            return Ok(None);
        }
        let theirs = self.host.make(operation, &self.slots)?;
        let mine = self.ours.make(operation, &self.slots);
        let (Some(theirs), Some(mine)) = (&theirs, &mine) else {
            let is_one = theirs.is_some() != mine.is_some();
            return Ok(is_one.then(|| format!("{operation:x?}: only one side makes the call")));
        };
        if theirs != mine {
            return Ok(Some(format!("{operation:x?}\n  host {theirs}, ours {mine}")));
        }
        if let Some(result) = theirs.success() {
            self.note(operation, result);
        }
        let what = compare_maps(&self.host.maps()?, &self.ours.maps()?);
        Ok(what.map(|what| format!("{operation:x?} = {theirs}\n{what}")))
    }

    /// Keeps what a call returned; a child goes on with its parent's slots, and leaves them as they were.
    fn note(&mut self, operation: &Operation, result: u64) {
        match *operation {
            Operation::Mmap { len, slot, .. } | Operation::Mremap { new_len: len, slot, .. } => {
                self.slots.keep(slot, result, len);
            }
            Operation::Fork => self.before.push(self.slots),
            Operation::Exit => self.slots = self.before.pop().unwrap_or_default(),
            _ => {}
        }
    }

    /// Says what differs in the whole state.
    fn compare_state(&mut self) -> Result<Option<String>, Failure> {
        let (theirs, ours) = (self.host.smaps()?, self.ours.smaps()?);
        let differs = state::compare_areas(&theirs, &ours, self.first, self.marks)
            + &state::compare_status(&self.host.status()?, &self.ours.status()?, &ours);
        if !differs.is_empty() {
            return Ok(Some(differs));
        }
        if let Some(what) = self.compare_marks(&theirs)? {
            return Ok(Some(what));
        }
        let pages = state::readable_pages(&theirs);
        Ok(contents::compare(&self.host.contents(&pages)?, &self.ours.contents(&pages)))
    }
}

impl<H: Hooks + Sync> Pair<'_, '_, '_, H> {
    /// Says which page only one side has marked as written, in areas that the process does not write to by running.
    fn compare_marks(&self, areas: &[Smap]) -> Result<Option<String>, Failure> {
        if self.marks == WriteMarks::Absent {
            return Ok(None);
        }
        for area in areas.iter().filter(|area| !state::is_own(area, self.first)) {
            if let Some(what) = marks::compare(area, &self.host.pagemap(area)?, &self.ours.pagemap(area)) {
                return Ok(Some(what));
            }
        }
        Ok(None)
    }
}

/// Returns the lines that only one side has.
fn compare_maps(theirs: &[MapLine], ours: &[MapLine]) -> Option<String> {
    if theirs == ours {
        return None;
    }
    let only = |side: &str, these: &[MapLine], others: &[MapLine]| {
        let lines = these.iter().filter(|line| !others.contains(line));
        lines.map(|line| format!("  {side} {line}\n")).collect::<String>()
    };
    Some(only("host", theirs, ours) + &only("ours", ours, theirs))
}

/// Returns the settings of the host's kernel.
fn host_settings(release: Option<&str>) -> Result<Settings, Failure> {
    let number = |path: &str| -> Result<u64, Failure> {
        let text = std::fs::read_to_string(path)?;
        text.trim().parse().map_err(|_| Failure::Host(format!("{path}: expected a number")))
    };
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut parts = text.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let host_version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let release = match release {
        Some("6.12") => Release::V6_12,
        Some("6.18") => Release::V6_18,
        Some(other) => return Err(Failure::Usage(format!("--release {other}: expected 6.12 or 6.18"))),
        None if host_version >= (6, 17) => Release::V6_18,
        None => Release::V6_12,
    };
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let huge = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let (huge, huge_page) = match () {
        () if huge.contains("[always]") => (HugePolicy::Always, 2 << 20),
        () if huge.contains("[madvise]") => (HugePolicy::Madvise, 2 << 20),
        () if huge.contains("[never]") => (HugePolicy::Never, 2 << 20),
        () => (HugePolicy::Never, 0),
    };
    Ok(Settings {
        release,
        max_map_count: number("/proc/sys/vm/max_map_count")? as usize,
        min_addr: VirtAddr::new(host::lowest_address()?),
        privileged_below: VirtAddr::new(number("/proc/sys/vm/mmap_min_addr")?),
        huge,
        huge_page,
        keys: if cpu.contains(" ospke") { ProtectionKeys::Present } else { ProtectionKeys::Absent },
        ..if cpu.contains(" la57") { Settings::X86_64_LA57 } else { Settings::X86_64 }
    })
}

/// Returns the limits of this process, which the agent inherits.
fn limits() -> Limits {
    let soft = |resource| getrlimit(resource).current.unwrap_or(NO_LIMIT);
    Limits {
        address_space: soft(Resource::As),
        data: soft(Resource::Data),
        data_max: getrlimit(Resource::Data).maximum.unwrap_or(NO_LIMIT),
        stack: soft(Resource::Stack),
        locked: soft(Resource::Memlock),
    }
}
