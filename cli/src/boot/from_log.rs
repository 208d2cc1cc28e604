//! `mmkit boot --from-log`: makes a recorded boot again from its own requests and compares every line and number.

use std::fs;
use std::path::Path;

use page_allocator::layout::{MemoryRange, memblock_ranges};
use recordings::boot_log::{self, BootLog, BootReplay, ComparedLine, NoteKind, Until, Verdict};
use recordings::pages::{InputError, Place};
use units::{Pfn, PfnRange};

use super::Changes;
use super::append::Appended;
use super::comparison::{NumberDifference, compare_numbers, pair_lines};
use super::hand_over::HandOver;
use super::kernel_facts::{KernelFacts, MemoryLine, PAGE, cpu_nodes_of_emulator};
use super::recorded_files::RecordedFiles;
use super::zone_numbers::MachineNumbers;
use super::zone_plan::ZonePlan;
use crate::failure::Failure;

/// A recorded boot beside ours.
pub(super) struct ComparedBoot {
    /// Lines of memblock, zones, nodes and zonelists, in the order of the log.
    pub(super) lines: Vec<ComparedLine>,
    /// Numbers of /proc files that differ.
    pub(super) numbers: Vec<NumberDifference>,
    /// Ours.
    pub(super) machine: MachineNumbers,
    /// What could not be compared, because it was not recorded.
    pub(super) not_compared: Vec<String>,
}

impl ComparedBoot {
    /// Counts lines and numbers that differ.
    pub(super) fn differences(&self) -> usize {
        self.lines.iter().filter(|line| line.verdict == Verdict::Different).count() + self.numbers.len()
    }
}

/// Makes the boot in the log at `path` again.
///
/// # Errors
/// A log or a file beside it that cannot be read; options or settings that the kernel would refuse.
pub(super) fn run(path: &Path, changes: &Changes) -> Result<ComparedBoot, Failure> {
    let bytes = fs::read(path)
        .map_err(|error| InputError::new(path, Place::File, error.to_string(), "a readable kernel log"))?;
    let log = BootLog::parse(&bytes).map_err(|error| Failure::BootLog { file: path.to_owned(), error })?;
    let files = RecordedFiles::beside(path);
    let mut facts = KernelFacts::gather(&log, &files.text("version")?, &files.text("iomem")?);
    let appended = Appended::parse(&changes.append, facts.architecture)?;
    let replay = boot_log::replay_with(&log, Until::HandOver, &appended.options)
        .map_err(|error| Failure::BootLog { file: path.to_owned(), error })?;
    if memblock_ranges(&replay.memblock, PAGE.page_shift).next().is_none() {
        let expected = "a boot that adds memory, and options that leave some";
        return Err(InputError::new(path, Place::File, "no whole page of memory", expected).into());
    }
    if facts.cpu_nodes.is_empty() {
        facts.set_cpu_nodes(cpu_nodes_of_emulator(&files.text("machine.txt")?));
    }
    Boot { log: &log, replay, facts, files, appended }.compare(changes)
}

struct Boot<'a> {
    log: &'a BootLog,
    replay: BootReplay,
    facts: KernelFacts,
    files: RecordedFiles,
    appended: Appended<'a>,
}

impl Boot<'_> {
    fn compare(self, changes: &Changes) -> Result<ComparedBoot, Failure> {
        let memory: Vec<MemoryRange> = memblock_ranges(&self.replay.memblock, PAGE.page_shift).collect();
        let free: Vec<PfnRange> = self.replay.memblock.free_ranges(Pfn::new(u64::MAX)).collect();
        let rule = self.appended.movable_rule(&self.facts.command_line);
        let plan = ZonePlan::new(memory, &self.facts, rule);
        let hand_over = HandOver::new(&plan, &self.facts, free.iter().copied());
        let mut lines = self.zone_lines(&plan, &free)?;
        lines.extend(self.memory_line(&hand_over));
        lines.extend(self.replay.lines);
        lines.sort_by_key(|line| line.line);

        let configured = plan.limits.configured();
        let mut settings = self.files.settings(configured)?;
        changes.settings.iter().try_for_each(|setting| settings.apply(setting, configured))?;
        settings.tunables.transparent_hugepage = self.appended.transparent_hugepage(&self.facts.command_line);
        let machine = MachineNumbers::compute(&plan, &self.facts, &hand_over, &settings);
        let mut not_compared = Vec::new();
        let numbers = compare_files(&self.files, &machine, &mut not_compared)?;
        Ok(ComparedBoot { lines, numbers, machine, not_compared })
    }

    /// Compares the Memory: line. Free memory that the kernel counted after it had allocated counts as given.
    fn memory_line(&self, hand_over: &HandOver<'_>) -> Vec<ComparedLine> {
        let mut ours = String::new();
        let written = hand_over.write_memory(&mut ours);
        debug_assert!(written.is_ok(), "a string takes every line");
        let mut lines = pair_lines(&self.recorded(&[NoteKind::Memory]), &ours);
        let late = self.facts.memory_line != MemoryLine::AtHandOver;
        for line in lines.iter_mut().filter(|line| late && line.verdict == Verdict::Equal) {
            line.verdict = Verdict::Given;
        }
        lines
    }

    /// Compares the lines about zones, nodes and zonelists.
    fn zone_lines(&self, plan: &ZonePlan, free: &[PfnRange]) -> Result<Vec<ComparedLine>, Failure> {
        use NoteKind::{
            EarlyNodeRanges, FallbackOrder, InitmemSetup, MemorylessNode, MovableStart, PolicyZone, UnavailableRanges,
            ZoneRanges, Zonelists,
        };
        let facts = &self.facts;
        let distances = self.files.distances()?;
        let reserved_low = facts.arch_rules().reserved_low(plan.ranges(), free.iter().copied());
        let [mut zones, mut unavailable, mut zonelists] = [const { String::new() }; 3];
        let written = plan
            .write_zones(&mut zones, facts)
            .and_then(|()| plan.write_unavailable(&mut unavailable, facts))
            .and_then(|()| {
                plan.write_zonelists(&mut zonelists, facts, |from, to| distances.get(from, to), reserved_low)
            });
        debug_assert!(written.is_ok(), "a string takes every line");
        let blocks = [
            (&[ZoneRanges, MovableStart, EarlyNodeRanges, MemorylessNode, InitmemSetup][..], zones),
            (&[UnavailableRanges], unavailable),
            (&[FallbackOrder, Zonelists, PolicyZone], zonelists),
        ];
        Ok(blocks.iter().flat_map(|(kinds, ours)| pair_lines(&self.recorded(kinds), ours)).collect())
    }

    /// Returns the recorded lines of these kinds with their numbers.
    fn recorded(&self, kinds: &[NoteKind]) -> Vec<(usize, &str)> {
        let notes = self.log.notes.iter().filter(|note| kinds.contains(&note.kind));
        notes.map(|note| (note.line, note.text.as_str())).collect()
    }
}

fn compare_files(
    files: &RecordedFiles,
    machine: &MachineNumbers,
    not_compared: &mut Vec<String>,
) -> Result<Vec<NumberDifference>, Failure> {
    let mut numbers = Vec::new();
    match files.min_free_kbytes()? {
        Some(recorded) if recorded != machine.min_free_kbytes => numbers.push(NumberDifference {
            what: "vm.min_free_kbytes".to_owned(),
            recorded: recorded.to_string(),
            ours: machine.min_free_kbytes.to_string(),
        }),
        Some(_) => {}
        None => not_compared.push("vm.min_free_kbytes: no file sysctl-min_free_kbytes beside the log".to_owned()),
    }
    match files.zoneinfo()? {
        Some(recorded) => numbers.extend(compare_numbers(machine, &recorded)),
        None => not_compared.push("zone numbers: no file zoneinfo beside the log".to_owned()),
    }
    if machine.zones.iter().any(|zone| zone.pcp.is_none()) {
        not_compared.push("per-CPU list sizes: nothing says which CPUs are on which node".to_owned());
    }
    Ok(numbers)
}
