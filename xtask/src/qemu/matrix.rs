//! The machines that every change is booted on.

use std::time::Duration;

use anyhow::{Result, bail};

use super::build::{self, Profile};
use super::programs::{self, Length};
use super::run::{self, Ending, Instructions, Machine, Output};
use super::{CPU_MODEL, MachineType};

/// A machine of the matrix, and how its run should end.
struct Entry {
    kind: MachineType,
    cpus: u32,
    cpu: &'static str,
    memory: &'static str,
    nodes: &'static [&'static str],
    /// Options of the command line.
    options: &'static str,
    /// What the machine says when it dies as it should; `None` for a run that is to pass.
    last_words: Option<&'static str>,
}

const SMALLEST: Entry = Entry {
    kind: MachineType::Microvm,
    cpus: 1,
    cpu: CPU_MODEL,
    memory: "256M",
    nodes: &[],
    options: "",
    last_words: None,
};

const MATRIX: [Entry; 10] = [
    SMALLEST,
    Entry { kind: MachineType::Pc, cpus: 2, memory: "512M", ..SMALLEST },
    Entry { kind: MachineType::Q35, cpus: 4, nodes: &["512M", "512M"], ..SMALLEST },
    Entry { kind: MachineType::Q35, cpus: 8, memory: "1G", ..SMALLEST },
    // Memory above 4 GiB, a direct map of 1 GiB pages, and options that change the map and the zones.
    Entry {
        kind: MachineType::Q35,
        cpus: 2,
        cpu: "max",
        nodes: &["3G", "3G"],
        options: "mem=6G movablecore=1G memblock=debug mmkit.stress=0",
        ..SMALLEST
    },
    Entry {
        kind: MachineType::Pc,
        cpus: 2,
        nodes: &["128M", "128M"],
        options: "numa=off mmkit.expect_nodes=1 mmkit.stress=1000",
        ..SMALLEST
    },
    Entry { options: "mem=64M kernelcore=50% memmap=1M$32M", ..SMALLEST },
    Entry { options: "mmkit.die=stack", last_words: Some("page fault"), ..SMALLEST },
    Entry { options: "mmkit.die=text", last_words: Some("page fault"), ..SMALLEST },
    Entry { options: "mmkit.die=panic", last_words: Some("asked for"), ..SMALLEST },
];

impl Entry {
    fn name(&self) -> String {
        let memory = if self.nodes.is_empty() { self.memory.to_owned() } else { self.nodes.join(" + ") };
        let name = format!("{:?}, {} CPU(s), {memory}, {}", self.kind, self.cpus, self.options);
        name.trim_end_matches(", ").to_owned()
    }

    /// Tells whether the run went as it should.
    fn is_met(&self, ending: Ending, log: &str) -> bool {
        match self.last_words {
            None => ending == Ending::Passed,
            Some(words) => ending == Ending::Died && log.contains(words),
        }
    }

    fn machine(&self) -> Machine {
        Machine {
            kind: self.kind,
            cpus: self.cpus,
            cpu: self.cpu.to_owned(),
            memory: self.memory.to_owned(),
            nodes: self.nodes.iter().map(|&size| size.to_owned()).collect(),
            append: format!(
                "mmkit.expect_cpus={} mmkit.expect_nodes={} {}",
                self.cpus,
                self.nodes.len().max(1),
                self.options
            ),
            initrd: None,
            instructions: Instructions::Free,
            timeout: Duration::from_secs(600),
        }
    }
}

/// Boots every machine of the matrix; true if all passed. Prints a machine's log if it did not.
///
/// Without QEMU this is skipped with a message, and fails in CI.
///
/// # Errors
/// The image could not be built, or QEMU is missing in CI.
pub(crate) fn test(length: Length) -> Result<bool> {
    if !run::is_installed() {
        if run::in_ci() {
            bail!("qemu-system-x86_64 is not installed, so the bare-metal machine cannot be tested");
        }
        eprintln!("SKIPPED: bare-metal machine: qemu-system-x86_64 is not installed");
        return Ok(true);
    }
    let image = build::image(Profile::Dev)?;
    let mut all_passed = true;
    for entry in &MATRIX {
        let (ending, log) = run::boot(&entry.machine(), &image, Output::Kept)?;
        let met = entry.is_met(ending, &log);
        println!("qemu {}: {ending}{}", entry.name(), if met { ", as it should" } else { ": WRONG" });
        if !met {
            all_passed = false;
            println!("{log}");
        }
    }
    Ok(all_passed & programs::test(&image, length)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_is_to_die_must_die_of_the_right_thing() {
        let dies = Entry { last_words: Some("page fault"), ..SMALLEST };
        assert!(dies.is_met(Ending::Died, "panic: page fault"));
        assert!(!dies.is_met(Ending::Died, "panic: double fault"));
        assert!(!dies.is_met(Ending::Passed, "page fault"));
        assert!(SMALLEST.is_met(Ending::Passed, ""));
        assert!(!SMALLEST.is_met(Ending::Died, ""));
    }

    #[test]
    fn the_image_is_told_what_it_has_to_find() {
        let entry = Entry { cpus: 4, nodes: &["1G", "1G"], options: "quiet", ..SMALLEST };
        assert_eq!(entry.machine().append, "mmkit.expect_cpus=4 mmkit.expect_nodes=2 quiet");
    }
}
