//! The machines that every change is booted on.

use std::time::Duration;

use anyhow::{Result, bail};

use super::MachineType;
use super::build::{self, Profile};
use super::run::{self, Ending, Instructions, Machine, Output};

/// A machine of the matrix, and how its run should end.
struct Entry {
    kind: MachineType,
    cpus: u32,
    memory: &'static str,
    nodes: &'static [&'static str],
    /// Option that ends the machine early, and what its last words must contain; empty for a run that passes.
    death: (&'static str, &'static str),
}

/// A run that is to pass.
const PASSES: (&str, &str) = ("", "");

const SMALLEST: Entry = Entry { kind: MachineType::Microvm, cpus: 1, memory: "256M", nodes: &[], death: PASSES };

const MATRIX: [Entry; 7] = [
    SMALLEST,
    Entry { kind: MachineType::Pc, cpus: 2, memory: "512M", nodes: &[], death: PASSES },
    Entry { kind: MachineType::Q35, cpus: 4, memory: "2 x 512M", nodes: &["512M", "512M"], death: PASSES },
    Entry { kind: MachineType::Q35, cpus: 8, memory: "1G", nodes: &[], death: PASSES },
    Entry { death: ("mmkit.die=stack", "page fault"), ..SMALLEST },
    Entry { death: ("mmkit.die=text", "page fault"), ..SMALLEST },
    Entry { death: ("mmkit.die=panic", "asked for"), ..SMALLEST },
];

impl Entry {
    fn name(&self) -> String {
        let nodes = self.nodes.len().max(1);
        format!("{:?} {} CPU(s) {} {nodes} node(s) {}", self.kind, self.cpus, self.memory, self.death.0)
            .trim_end()
            .to_owned()
    }

    /// Tells whether the run went as it should.
    fn is_met(&self, ending: Ending, log: &str) -> bool {
        match self.death {
            PASSES => ending == Ending::Passed,
            (_, last_words) => ending == Ending::Died && log.contains(last_words),
        }
    }

    fn machine(&self) -> Machine {
        Machine {
            kind: self.kind,
            cpus: self.cpus,
            memory: self.memory.to_owned(),
            nodes: self.nodes.iter().map(|&size| size.to_owned()).collect(),
            append: format!(
                "mmkit.expect_cpus={} mmkit.expect_nodes={} {}",
                self.cpus,
                self.nodes.len().max(1),
                self.death.0
            ),
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
        let met = entry.is_met(ending, &log);
        println!("qemu {}: {ending}{}", entry.name(), if met { ", as it should" } else { ": WRONG" });
        if !met {
            all_passed = false;
            println!("{log}");
        }
    }
    Ok(all_passed)
}
