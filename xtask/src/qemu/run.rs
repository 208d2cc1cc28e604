//! One run of QEMU: its command line, the timeout, and what its exit status means.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use wait_timeout::ChildExt;

use super::MachineType;

/// The emulator's program name.
const PROGRAM: &str = "qemu-system-x86_64";

/// A machine to boot.
pub(super) struct Machine {
    pub(super) kind: MachineType,
    pub(super) cpus: u32,
    pub(super) cpu: String,
    pub(super) memory: String,
    /// Sizes of the NUMA nodes; empty for a machine without NUMA.
    pub(super) nodes: Vec<String>,
    pub(super) append: String,
    /// Archive of the programs' files.
    pub(super) initrd: Option<PathBuf>,
    pub(super) instructions: Instructions,
    pub(super) timeout: Duration,
}

/// How guest time passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Instructions {
    /// With the host's clock.
    Free,
    /// One nanosecond an instruction, all CPUs on one host thread.
    Counted,
}

/// Where the serial port goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Output {
    /// To our standard output.
    Through,
    /// Into the returned text.
    Kept,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// The image says that everything it checked holds.
    Passed,
    /// The image says that a check failed.
    Failed,
    /// A panic or an exception in the image.
    Died,
    /// The first program ended with this exit code, which is not 0; 63 stands for all that are larger, too.
    Program(u8),
    /// Stopped after the timeout.
    TimedOut(Duration),
    /// QEMU ended by itself: it refused its command line, or the machine reset.
    Unexpected(ExitStatus),
}

/// Exit status of QEMU for exit code 0 of a program, were there such an end.
const PROGRAM_STATUS: u8 = 0x81;

impl Ending {
    /// Reads the exit status: isa-debug-exit makes 2c + 1 of the image's code c.
    fn of(status: ExitStatus) -> Self {
        match status.code() {
            Some(0x21) => Self::Passed,
            Some(0x23) => Self::Failed,
            Some(0x25) => Self::Died,
            Some(code @ 0x83..=0xff) if code & 1 != 0 => Self::Program((code as u8 - PROGRAM_STATUS) >> 1),
            _ => Self::Unexpected(status),
        }
    }

    pub(super) fn exit_code(self) -> ExitCode {
        match self {
            Self::Passed => ExitCode::SUCCESS,
            Self::Program(code) => ExitCode::from(code),
            _ => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => write!(f, "passed"),
            Self::Failed => write!(f, "the machine reports a failed check"),
            Self::Died => write!(f, "the machine died of a panic or an exception"),
            Self::Program(code) => write!(f, "the program ended with code {code}"),
            Self::TimedOut(after) => write!(f, "no end after {} s", after.as_secs()),
            Self::Unexpected(status) => write!(f, "QEMU ended with {status} instead of the machine's exit code"),
        }
    }
}

/// Returns true if the emulator starts.
pub(crate) fn is_installed() -> bool {
    Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Returns true in a CI run, where nothing may be skipped.
pub(super) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false" && value != "0")
}

/// Boots `image` on `machine` and waits for its end; returns what it printed if `output` is kept.
///
/// # Errors
/// QEMU could not be started or waited for.
pub(super) fn boot(machine: &Machine, image: &Path, output: Output) -> Result<(Ending, String)> {
    let mut command = command_line(machine, image)?;
    if output == Output::Kept {
        command.stdout(Stdio::piped());
    }
    let mut child = command.spawn().with_context(|| format!("cannot start {PROGRAM}"))?;
    let reader = child.stdout.take().map(|mut pipe| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).map(|_| bytes)
        })
    });
    let ending = match child.wait_timeout(machine.timeout).context("cannot wait for QEMU")? {
        Some(status) => Ending::of(status),
        None => {
            child.kill().context("cannot stop QEMU")?;
            child.wait().context("cannot wait for QEMU")?;
            Ending::TimedOut(machine.timeout)
        }
    };
    let text = match reader.map(thread::JoinHandle::join) {
        Some(Ok(bytes)) => String::from_utf8_lossy(&bytes.context("cannot read QEMU's output")?).into_owned(),
        _ => String::new(),
    };
    Ok((ending, text))
}

fn command_line(machine: &Machine, image: &Path) -> Result<Command> {
    let mut command = Command::new(PROGRAM);
    let kind = match (machine.kind, machine.instructions) {
        (MachineType::Microvm, _) => "microvm",
        // A fixed version, since the firmware's own instructions differ from one to the next.
        (MachineType::Pc, Instructions::Counted) => "pc-i440fx-7.1",
        (MachineType::Pc, Instructions::Free) => "pc",
        (MachineType::Q35, _) => "q35",
    };
    command.args(["-machine", kind, "-cpu", &machine.cpu, "-smp", &format!("{0},sockets={0}", machine.cpus)]);
    command.args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]);
    command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
    match machine.instructions {
        Instructions::Free => command.args(["-accel", "tcg"]),
        Instructions::Counted => command
            .args(["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-seed", "1"])
            .args(["-rtc", "base=2020-01-01T00:00:00,clock=vm"]),
    };
    let memory = if machine.nodes.is_empty() { machine.memory.clone() } else { total(&machine.nodes)? };
    command.args(["-m", &memory]);
    add_nodes(&mut command, machine);
    command.arg("-kernel").arg(image);
    if let Some(initrd) = &machine.initrd {
        command.arg("-initrd").arg(initrd);
    }
    if !machine.append.is_empty() {
        command.args(["-append", &machine.append]);
    }
    command.stdin(Stdio::null());
    Ok(command)
}

/// Adds sizes of the form that QEMU takes: a number with a suffix K, M or G, or without one for MiB.
fn total(sizes: &[String]) -> Result<String> {
    let mut kibibytes = 0;
    for size in sizes {
        let (number, shift) = match size.split_at_checked(size.len().saturating_sub(1)) {
            Some((number, "K")) => (number, 0),
            Some((number, "M")) => (number, 10),
            Some((number, "G")) => (number, 20),
            _ => (size.as_str(), 10),
        };
        let number: u32 =
            number.parse().with_context(|| format!("node size {size:?}: expected a number and K, M or G"))?;
        kibibytes += u64::from(number) << shift;
    }
    Ok(format!("{kibibytes}K"))
}

/// Adds the nodes of a NUMA machine, with its CPUs dealt out in order and distance 20 between any two nodes.
fn add_nodes(command: &mut Command, machine: &Machine) {
    let nodes = machine.nodes.len();
    for (node, size) in machine.nodes.iter().enumerate() {
        command.arg("-object").arg(format!("memory-backend-ram,id=node{node},size={size}"));
        command.arg("-numa").arg(format!("node,nodeid={node},memdev=node{node}"));
    }
    for (from, to) in (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to))) {
        let distance = if from == to { 10 } else { 20 };
        command.arg("-numa").arg(format!("dist,src={from},dst={to},val={distance}"));
    }
    if nodes == 0 {
        return;
    }
    let cpus = machine.cpus as usize;
    for cpu in 0..cpus {
        let node = cpu * nodes / cpus;
        command.arg("-numa").arg(format!("cpu,node-id={node},socket-id={cpu}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_sizes_add_up_across_suffixes() {
        let sizes = ["256M".to_owned(), "1G".to_owned(), "64".to_owned()];
        assert_eq!(total(&sizes).unwrap(), "1376256K");
    }

    fn arguments(machine: &Machine) -> Vec<String> {
        let command = command_line(machine, Path::new("image")).unwrap();
        command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect()
    }

    fn numa_machine() -> Machine {
        Machine {
            kind: MachineType::Q35,
            cpus: 4,
            cpu: "max".to_owned(),
            memory: "1G".to_owned(),
            nodes: vec!["256M".to_owned(), "512M".to_owned()],
            append: "quiet".to_owned(),
            initrd: None,
            instructions: Instructions::Free,
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn nodes_share_out_memory_and_cpus() {
        let arguments = arguments(&numa_machine());
        let has = |argument: &str| arguments.iter().any(|found| found == argument);
        assert!(has("786432K") && has("memory-backend-ram,id=node1,size=512M"));
        assert!(has("cpu,node-id=0,socket-id=1") && has("cpu,node-id=1,socket-id=2"));
        assert!(has("dist,src=0,dst=1,val=20") && has("dist,src=1,dst=1,val=10"));
        assert!(has("quiet") && !has("-icount"));
    }

    #[test]
    fn counting_instructions_takes_one_thread_and_a_fixed_machine_version() {
        let machine = Machine {
            kind: MachineType::Pc,
            nodes: Vec::new(),
            append: String::new(),
            instructions: Instructions::Counted,
            ..numa_machine()
        };
        let arguments = arguments(&machine);
        let has = |argument: &str| arguments.iter().any(|found| found == argument);
        assert!(has("shift=0,sleep=off") && has("tcg,thread=single") && has("pc-i440fx-7.1"));
        assert!(!has("-append") && !has("-numa"));
    }

    #[test]
    fn a_node_size_that_is_no_number_is_named() {
        let error = total(&["lots".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("\"lots\""));
    }

    #[test]
    #[cfg(unix)]
    fn only_the_image_s_own_code_counts_as_passed() {
        use std::os::unix::process::ExitStatusExt;
        let exited = |code: i32| Ending::of(ExitStatus::from_raw(code << 8));
        assert_eq!(exited(0x21), Ending::Passed);
        assert_eq!(exited(0x25), Ending::Died);
        assert_eq!((exited(0x83), exited(0xff)), (Ending::Program(1), Ending::Program(63)));
        assert_eq!(exited(0), Ending::Unexpected(ExitStatus::from_raw(0)));
    }
}
