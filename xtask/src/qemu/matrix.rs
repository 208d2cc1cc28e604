//! The machines that every change is booted on.

use std::time::Duration;

use anyhow::{Result, bail};

use super::MachineType;
use super::build::{self, Profile};
use super::run::{self, Ending, Instructions, Machine, Output};

/// A machine of the matrix: type, CPUs, memory, nodes.
struct Entry {
    kind: MachineType,
    cpus: u32,
    memory: &'static str,
    nodes: &'static [&'static str],
}

const MATRIX: [Entry; 4] = [
    Entry { kind: MachineType::Microvm, cpus: 1, memory: "256M", nodes: &[] },
    Entry { kind: MachineType::Pc, cpus: 2, memory: "512M", nodes: &[] },
    Entry { kind: MachineType::Q35, cpus: 4, memory: "2 x 512M", nodes: &["512M", "512M"] },
    Entry { kind: MachineType::Q35, cpus: 8, memory: "1G", nodes: &[] },
];

impl Entry {
    fn name(&self) -> String {
        let nodes = self.nodes.len().max(1);
        format!("{:?} {} CPU(s) {} {nodes} node(s)", self.kind, self.cpus, self.memory)
    }

    fn machine(&self) -> Machine {
        Machine {
            kind: self.kind,
            cpus: self.cpus,
            memory: self.memory.to_owned(),
            nodes: self.nodes.iter().map(|&size| size.to_owned()).collect(),
            append: format!("mmkit.expect_cpus={} mmkit.expect_nodes={}", self.cpus, self.nodes.len().max(1)),
            instructions: Instructions::Free,
            timeout: Duration::from_secs(180),
        }
    }
}

/// Boots every machine of the matrix; true if all passed. Prints a machine's log if it did not.
///
/// Without QEMU this is skipped with a message, and fails in CI.
///
/// # Errors
/// The image could not be built, or QEMU is missing in CI.
pub(crate) fn test() -> Result<bool> {
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
        println!("qemu {}: {ending}", entry.name());
        if ending != Ending::Passed {
            all_passed = false;
            println!("{log}");
        }
    }
    Ok(all_passed)
}
