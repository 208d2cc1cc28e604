//! `mmkit diff`: the same random memory calls on the host's kernel and on ours.
//!
//! After each call the result and /proc/PID/maps must be equal, and VmFlags of smaps at the end of a process. The host's side is a process that makes calls when it is told to (`agent`), ours an address
//! space made like that process's. A difference is shrunk to few calls and printed.

mod agent;
mod generate;
mod host;
mod maps;
mod operation;
mod ours;
mod shrink;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use address_space::{
    AddressSpaces, CommitRules, HugePolicy, Limits, NO_LIMIT, Process, ProtectionKeys, Release, Rights, Settings,
};
use clap::Args;
use page_allocator::Hooks;
use rustix::process::{Resource, getrlimit};
use sim::description::Machine;
use sim::{SimMachine, SimOptions, SimPlatform};
use sync::Cpu;
use units::{CpuId, VirtAddr};

use crate::failure::Failure;
use generate::Generator;
use host::Host;
use maps::MapLine;
use operation::{Operation, Slots};
use ours::Ours;

/// Calls that are made on one process before the next one starts.
const RUN: u64 = 500;

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
struct Session<'a, 'k, H: Hooks> {
    spaces: &'a AddressSpaces<'k, SimPlatform, H>,
    cpu: &'a Cpu,
    process: Process,
}

/// Runs `mmkit diff`.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(arguments: &DiffArguments) -> Result<ExitCode, Failure> {
    let known: Vec<_> = generate::calls().collect();
    if let Some(unknown) = arguments.only.iter().find(|call| !known.contains(&call.as_str())) {
        return Err(Failure::Machine(format!("no call is named {unknown}; there are {}", known.join(", "))));
    }
    let settings = host_settings(arguments.release.as_deref())?;
    let description = Machine::ready("small").ok_or_else(|| Failure::Machine("no description".into()))?;
    let machine = SimMachine::boot(&description, &SimOptions::default())?;
    let cpu = machine.cpu(CpuId::ZERO).ok_or_else(|| Failure::Machine("no CPU".into()))?;
    let objects = machine.kernel().objects();
    objects.start(&cpu).map_err(|error| Failure::Machine(error.to_string()))?;
    let commit = CommitRules::for_ram(1 << 32);
    let spaces =
        AddressSpaces::new(objects, &cpu, settings, commit).map_err(|error| Failure::Machine(error.to_string()))?;
    let session =
        Session { spaces: &spaces, cpu: &cpu, process: Process { rights: Rights::empty(), limits: limits() } };
    compare(&session, arguments, settings.release)
}

fn compare<H: Hooks>(
    session: &Session<'_, '_, H>,
    arguments: &DiffArguments,
    release: Release,
) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for part in 0..arguments.ops.div_ceil(RUN) {
        let mut generator = Generator::new(arguments.seed, part, &arguments.only);
        let length = RUN.min(arguments.ops - part * RUN);
        let operations: Vec<Operation> = (0..length).map(|_| generator.next()).collect();
        for operation in &operations {
            *counts.entry(operation.call()).or_default() += 1;
        }
        if let Some(difference) = session.first_difference(&operations)? {
            println!("seed {}, call {}:", arguments.seed, part * RUN + difference.at as u64);
            let failing = operations.get(..difference.at).unwrap_or(&operations);
            let (shortest, difference) = shrink::shrink(session, failing, difference)?;
            shrink::print(&shortest, &difference);
            return Ok(ExitCode::FAILURE);
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let calls: Vec<_> = counts.iter().map(|(call, count)| format!("{call} {count}")).collect();
    println!(
        "{} calls, seed {}, rules of {release:?}: 0 differences in results, errnos, bytes read, maps and VmFlags ({seconds:.1} s)",
        arguments.ops, arguments.seed
    );
    println!("{}", calls.join(", "));
    Ok(ExitCode::SUCCESS)
}

impl<H: Hooks> Session<'_, '_, H> {
    /// Makes the calls on both sides in a new process.
    fn first_difference(&self, operations: &[Operation]) -> Result<Option<Difference>, Failure> {
        let mut host = Host::start()?;
        let areas = host.areas()?;
        host.drop_rights()?;
        let mut ours = Ours::like(self.spaces, self.cpu, self.process, &areas, host.program())?;
        let mut slots = Slots::default();
        let mut result = compare_maps(&host.maps()?, &ours.maps()).map(|what| Difference { at: 0, what });
        for (index, operation) in operations.iter().enumerate() {
            if result.is_some() {
                break;
            }
            let what = compare_call(&mut host, &mut ours, operation, &mut slots)?;
            result = what.map(|what| Difference { at: index + 1, what });
        }
        if result.is_none() {
            let what = compare_flags(&host.areas()?, &ours);
            result = what.map(|what| Difference { at: operations.len(), what });
        }
        ours.end();
        Ok(result)
    }
}

fn compare_call<H: Hooks>(
    host: &mut Host,
    ours: &mut Ours<'_, '_, H>,
    operation: &Operation,
    slots: &mut Slots,
) -> Result<Option<String>, Failure> {
    let Some(theirs) = host.make(operation, slots)? else { return Ok(None) };
    let Some(mine) = ours.make(operation, slots) else { return Ok(Some("only the host makes the call".into())) };
    if theirs != mine {
        let what = format!("{operation:x?}\n  host {}, ours {}", shown(theirs), shown(mine));
        return Ok(Some(what));
    }
    if theirs >= 0 {
        match *operation {
            Operation::Mmap { len, slot, .. } | Operation::Mremap { new_len: len, slot, .. } => {
                slots.keep(slot, theirs as u64, len);
            }
            _ => {}
        }
    }
    let what = compare_maps(&host.maps()?, &ours.maps());
    Ok(what.map(|what| format!("{operation:x?} = {}\n{what}", shown(theirs))))
}

/// Returns the areas whose VmFlags of smaps differ.
fn compare_flags<H: Hooks>(theirs: &[maps::Smap], ours: &Ours<'_, '_, H>) -> Option<String> {
    let pairs = theirs.iter().zip(ours.flags()).filter(|(theirs, ours)| theirs.flags != *ours);
    let lines: String = pairs
        .map(|(theirs, ours)| format!("  {}\n  host {:?}\n  ours {ours:?}\n", theirs.line, theirs.flags))
        .collect();
    (!lines.is_empty()).then_some(lines)
}

fn shown(result: i64) -> String {
    if result < 0 { format!("errno {}", -result) } else { format!("{result:#x}") }
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
        Some(other) => return Err(Failure::Machine(format!("release {other}: expected 6.12 or 6.18"))),
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
        ..Settings::X86_64
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
