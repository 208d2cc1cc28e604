//! `cargo xtask bench kernel`: what memory operations of a program cost on the bare machine, in instructions, beside Linux's.
//!
//! One static C program (benches/kernel/memory.c) measures itself under QEMU's -icount, where figures repeat exactly. Linux's column was measured with the same
//! operations on Linux 6.1 (x86-64, one CPU, mitigations off, memory cgroups on; medians).

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::build::{self, Profile};
use super::compile::compile;
use super::initrd::Initrd;
use super::run::{self, Ending, Instructions, Machine, Output};
use super::{CPU_MODEL, MachineType};

/// An operation that the program measures.
struct Row {
    /// As the program calls it.
    name: &'static str,
    /// As the table calls it.
    title: &'static str,
    /// Instructions on Linux.
    linux: u64,
    /// How many of them clear or copy memory, which nobody can do with fewer.
    moving: u64,
}

const fn row(name: &'static str, title: &'static str, linux: u64, moving: u64) -> Row {
    Row { name, title, linux, moving }
}

/// Words of a page: what clearing or copying one takes with string instructions.
const PAGE: u64 = 512;

const ROWS: [Row; 30] = [
    row("getppid", "getppid", 331, 0),
    row("anon_write_fault", "anonymous write fault", 2_734, PAGE),
    row("anon_read_fault", "anonymous read fault", 1_232, 0),
    row("write_over_zero_page", "write over the zero page", 3_150, PAGE),
    row("populate_write_page", "MADV_POPULATE_WRITE, a page", 3_215, PAGE),
    row("huge_fault", "huge page fault", 297_447, 280_000),
    row("shared_read_fault_around", "shared file read fault, 16 pages", 9_189, 0),
    row("file_read_fault_one_page", "file read fault, one page", 1_968, 0),
    row("shared_write_fault", "shared file write fault", 2_152, 0),
    row("private_write_fault", "private file write fault", 3_223, PAGE),
    row("cow_copy", "COW after fork, copy", 3_369, PAGE),
    row("cow_reuse", "COW after fork, reuse", 1_342, 0),
    row("dontneed_page", "MADV_DONTNEED, a page", 1_066, 0),
    row("munmap_page", "munmap of touched memory, a page", 1_066, 0),
    row("mmap_munmap", "mmap+munmap untouched", 11_610, 0),
    row("mmap_touch_munmap", "mmap+touch+munmap", 18_612, PAGE),
    row("mmap_touch_64_munmap", "mmap+touch 64 pages+munmap", 278_182, 64 * PAGE),
    row("mprotect_split", "mprotect one page, split", 9_147, 0),
    row("mprotect_merge", "mprotect one page, merge", 5_960, 0),
    row("mprotect_read_page", "mprotect 16 MiB to R, a page", 133, 0),
    row("mprotect_write_page", "mprotect 16 MiB to RW, a page", 194, 0),
    row("mremap_grow", "mremap grow in place", 4_756, 0),
    row("mremap_shrink", "mremap shrink in place", 10_371, 0),
    row("mremap_move_page", "mremap move 1 page", 15_178, 0),
    row("mremap_move_256_pages", "mremap move 256 pages", 23_398, 0),
    row("brk_grow", "brk grow", 3_612, 0),
    row("brk_shrink", "brk shrink", 11_137, 0),
    row("fork_small", "fork+exit+wait, small", 148_962, 0),
    row("fork_1_mib", "fork+exit+wait, 1 MiB touched", 263_119, 0),
    row("fork_64_mib", "fork+exit+wait, 64 MiB touched", 6_631_929, 0),
];

/// A row that needs more areas than the others.
const AMONG_AREAS: Row = row("fault_among_60000_areas", "anonymous fault among 60,000 areas", 3_028, PAGE);

/// How a row stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mark {
    /// At most half of Linux's, clearing and copying excepted.
    Goal,
    /// Fewer than Linux's.
    First,
    Short,
}

impl Row {
    fn mark(&self, ours: u64) -> Mark {
        if ours.saturating_sub(self.moving) * 2 <= self.linux - self.moving {
            Mark::Goal
        } else if ours < self.linux {
            Mark::First
        } else {
            Mark::Short
        }
    }
}

/// Builds the kernel and the program, runs it, and prints the table.
///
/// # Errors
/// No compiler links the program, QEMU could not be started, or the program failed.
pub(crate) fn run() -> Result<ExitCode> {
    let program = compile("benches/kernel/memory.c", "memory", &["-O2"])?;
    let initrd = Initrd::pack(&program.to_string_lossy(), &[], &[])?;
    let image = build::image(Profile::Release)?;
    let machine = Machine {
        kind: MachineType::Microvm,
        cpus: 1,
        cpu: CPU_MODEL.to_owned(),
        memory: "1G".to_owned(),
        nodes: Vec::new(),
        append: format!("{} mmkit.bench=program", initrd.append),
        initrd: Some(initrd.path.clone()),
        instructions: Instructions::Counted,
        timeout: Duration::from_secs(600),
    };
    let (ending, log) = run::boot(&machine, &image, Output::Kept)?;
    let measured = measured(&log);
    print_table(&measured);
    ensure!(matches!(ending, Ending::Passed | Ending::Program(0)), "the program did not end well: {ending}\n{log}");
    Ok(ExitCode::SUCCESS)
}

/// Reads a line `row NAME INSTRUCTIONS`.
fn read_row(line: &str) -> Option<(&str, u64)> {
    let (name, instructions) = line.trim_end().strip_prefix("row ")?.split_once(' ')?;
    Some((name, instructions.parse().ok()?))
}

fn measured(log: &str) -> BTreeMap<&str, u64> {
    log.lines().filter_map(read_row).collect()
}

fn print_table(measured: &BTreeMap<&str, u64>) {
    println!("{:<36} {:>12} {:>12} {:>7}  mark", "operation, instructions", "mmkit", "Linux 6.1", "ratio");
    for row in ROWS.iter().chain([&AMONG_AREAS]) {
        let Some(&ours) = measured.get(row.name) else {
            println!("{:<36} {:>12} {:>12}", row.title, "missing", row.linux);
            continue;
        };
        let mark = match row.mark(ours) {
            Mark::Goal => "goal",
            Mark::First => "first mark",
            Mark::Short => "SHORT",
        };
        println!("{:<36} {ours:>12} {:>12} {:>7.2}  {mark}", row.title, row.linux, ours as f64 / row.linux as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_among_other_lines() {
        let log = "boot\r\nrow getppid 300\r\nrow broken\nother\nrow huge_fault 281000\n";
        assert!(measured(log).into_iter().eq([("getppid", 300), ("huge_fault", 281_000)]));
    }

    #[test]
    fn clearing_counts_neither_for_nor_against_the_goal() {
        let fault = row("", "", 2_734, 512);
        assert_eq!(fault.mark(512 + 1_111), Mark::Goal);
        assert_eq!(fault.mark(512 + 1_112), Mark::First);
        assert_eq!(fault.mark(2_734), Mark::Short);
    }
}
