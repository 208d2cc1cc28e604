//! Programs that every change is run against on the bare machine: a shell script in busybox, checks written in C, and a hostile program.
//!
//! Each runs on one CPU and on two, the hostile one on two. What the host lacks, a static busybox or a C compiler with a static library, is skipped
//! loudly, and fails in CI.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::compile::compile;
use super::initrd::{Initrd, find_busybox};
use super::run::{self, Ending, Instructions, Machine, Output};
use super::{CPU_MODEL, MachineType};

/// Forks, executes, redirects, pipes, fails, and reads /proc.
const SCRIPT: &str = r#"
for i in 1 2 3; do echo line $i | sed s/line/row/; done
(exit 5) || echo failed with $?
echo one two > /tmp/file && cat /tmp/file | wc -w
yes | head -n 100000 | tail -n 1 | tr y z
test -c /dev/null && grep -c stack /proc/self/maps
i=0; while [ $i -lt 20 ]; do /bin/true & i=$((i+1)); done; wait; echo waited
exit 7
"#;
/// What the script writes, line by line.
const SCRIPT_OUTPUT: [&str; 8] = ["row 1", "row 2", "row 3", "failed with 5", "2", "z", "1", "waited"];
/// Programs in C that check what they see: file, name, and the line that they end with.
const CHECKED: [(&str, &str, &str); 6] = [
    ("checks", "checks in C", "all checks passed"),
    ("soft_dirty", "watched writes in C", "all watched writes found"),
    ("sockets", "sockets in C", "all sockets end as they should"),
    ("page_scan", "pages by category in C", "all pages found"),
    ("processes", "processes in C", "all that others see is right"),
    ("choices", "choices in C", "all choices kept"),
];
const TIMEOUT: Duration = Duration::from_secs(180);
/// What the hostile program draws its numbers from; two CPUs make each run another all the same.
const FUZZ_SEED: &str = "6";

/// A program with what it has to write and how it has to end.
struct Check {
    name: &'static str,
    program: String,
    arguments: Vec<String>,
    output: Vec<&'static str>,
    ending: Ending,
    /// Numbers of CPUs to run it on, one after the other.
    cpus: &'static [u32],
    timeout: Duration,
    /// What a line begins with that is shown of a run that passed.
    figures: &'static str,
}

/// How long the hostile program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Length {
    /// Seconds, for every change.
    Short,
    /// Minutes.
    Long,
}

impl Length {
    const fn seconds(self) -> u64 {
        match self {
            Self::Short => 15,
            Self::Long => 300,
        }
    }
}

/// Runs every program; true if all ended as they should.
///
/// # Errors
/// Something is missing in CI, or QEMU could not be started.
pub(super) fn test(image: &Path, length: Length) -> Result<bool> {
    let mut all_passed = true;
    for check in checks(length)? {
        let initrd = Initrd::pack(&check.program, &check.arguments, &[])?;
        for &cpus in check.cpus {
            let (ending, log) = run::boot(&machine(&initrd, cpus, check.timeout), image, Output::Kept)?;
            let met = ending == check.ending && writes(&log, &check.output);
            println!("qemu {}, {cpus} CPU(s): {ending}{}", check.name, if met { ", as it should" } else { ": WRONG" });
            let is_figure = |line: &&str| !check.figures.is_empty() && line.starts_with(check.figures);
            log.lines().filter(is_figure).for_each(|line| println!("  {}", line.trim_end()));
            if !met {
                all_passed = false;
                println!("{log}");
            }
        }
    }
    Ok(all_passed)
}

/// Collects what this host has the means for.
fn checks(length: Length) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    match find_busybox() {
        Ok(_) => checks.push(Check {
            name: "busybox script",
            program: "busybox".to_owned(),
            arguments: ["sh", "-c", SCRIPT].map(str::to_owned).to_vec(),
            output: SCRIPT_OUTPUT.to_vec(),
            ending: Ending::Program(7),
            cpus: &[1, 2],
            timeout: TIMEOUT,
            figures: "",
        }),
        Err(error) => skip("busybox script", &error)?,
    }
    for (file, name, last_line) in CHECKED {
        match compile(&format!("tests/programs/{file}.c"), file, &["-O1", "-pthread"]) {
            Ok(program) => checks.push(Check {
                name,
                program: program.to_string_lossy().into_owned(),
                arguments: Vec::new(),
                output: vec![last_line],
                ending: Ending::Passed,
                cpus: &[1, 2],
                timeout: TIMEOUT,
                figures: "",
            }),
            Err(error) => skip(name, &error)?,
        }
    }
    match compile("tests/programs/fuzz.c", "fuzz", &["-O1", "-pthread"]) {
        Ok(program) => checks.push(Check {
            name: "hostile program in C",
            program: program.to_string_lossy().into_owned(),
            arguments: vec![length.seconds().to_string(), FUZZ_SEED.to_owned()],
            output: vec!["fuzz: the guard's memory held"],
            ending: Ending::Passed,
            cpus: &[2],
            timeout: TIMEOUT + Duration::from_secs(length.seconds()),
            figures: "fuzz: ",
        }),
        Err(error) => skip("hostile program in C", &error)?,
    }
    Ok(checks)
}

/// Says what is not run; an error in CI.
fn skip(what: &str, error: &anyhow::Error) -> Result<()> {
    ensure!(!run::in_ci(), "{what}: {error:#}");
    eprintln!("SKIPPED: {what} on the bare-metal machine: {error:#}");
    Ok(())
}

/// Tells whether a log has these lines, in this order.
fn writes(log: &str, lines: &[&str]) -> bool {
    let mut written = log.lines().map(str::trim_end);
    lines.iter().all(|line| written.any(|found| found == *line))
}

fn machine(initrd: &Initrd, cpus: u32, timeout: Duration) -> Machine {
    Machine {
        kind: MachineType::Microvm,
        cpus,
        cpu: CPU_MODEL.to_owned(),
        memory: "256M".to_owned(),
        nodes: Vec::new(),
        append: initrd.append.clone(),
        initrd: Some(initrd.path.clone()),
        instructions: Instructions::Free,
        timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_only_in_their_order() {
        let log = "boot\r\nrow 1\r\nother\r\nrow 2\r\n";
        assert!(writes(log, &["row 1", "row 2"]));
        assert!(!writes(log, &["row 2", "row 1"]));
        assert!(!writes(log, &["row"]));
    }
}
