//! /proc/PID/status, up to the number of threads: the part that memory management fills.
//!
//! Signals, capabilities and CPU masks, which follow in Linux's file, belong to other parts of a kernel.
//! Linux 6.12: fs/proc/array.c (`proc_pid_status`), fs/proc/task_mmu.c (`task_mem`).

use core::fmt;

use crate::{Counters, Profile, Release};

/// What a task is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskState {
    /// On a CPU or waiting for one.
    Running,
    /// Waits, signals wake it.
    Sleeping,
    /// Waits, signals do not wake it.
    DiskSleep,
    /// Stopped by a signal.
    Stopped,
    /// Ended, not yet waited for.
    Zombie,
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "R (running)",
            Self::Sleeping => "S (sleeping)",
            Self::DiskSleep => "D (disk sleep)",
            Self::Stopped => "T (stopped)",
            Self::Zombie => "Z (zombie)",
        })
    }
}

/// Who a task is.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// Name of the program, at most 15 bytes.
    pub name: &'a str,
    /// Mode bits that new files do not get; `None` of a task that has ended.
    pub umask: Option<u32>,
    /// State.
    pub state: TaskState,
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub pid: u32,
    /// Parent.
    pub ppid: u32,
    /// Tracer, or 0.
    pub tracer_pid: u32,
    /// Process group.
    pub pgid: u32,
    /// Session.
    pub sid: u32,
    /// Real, effective, saved and file-system user.
    pub uids: [u32; 4],
    /// Real, effective, saved and file-system group.
    pub gids: [u32; 4],
    /// Slots of the table of open files.
    pub fd_size: u64,
    /// Other groups.
    pub groups: &'a [u32],
    /// Threads of the process.
    pub threads: u64,
}

impl<'a> Task<'a> {
    /// Returns the first process of a system, of root, with one thread and no open files.
    pub const fn first(name: &'a str) -> Self {
        Self {
            name,
            umask: Some(0),
            state: TaskState::Sleeping,
            tgid: 1,
            pid: 1,
            ppid: 0,
            tracer_pid: 0,
            pgid: 1,
            sid: 1,
            uids: [0; 4],
            gids: [0; 4],
            fd_size: 0,
            groups: &[],
            threads: 1,
        }
    }
}

/// Memory lines in the file's order.
const MEMORY: [&str; 16] = [
    "VmPeak",
    "VmSize",
    "VmLck",
    "VmPin",
    "VmHWM",
    "VmRSS",
    "RssAnon",
    "RssFile",
    "RssShmem",
    "VmData",
    "VmStk",
    "VmExe",
    "VmLib",
    "VmPTE",
    "VmSwap",
    "HugetlbPages",
];

/// The file.
#[derive(Clone, Copy)]
pub struct Status<'a> {
    /// Release whose field set is written.
    pub profile: Profile,
    /// Who it is.
    pub task: &'a Task<'a>,
    /// Memory in kB, and `THP_enabled` as 0 or 1; `None` for a task without an address space.
    pub memory: Option<Counters<'a>>,
}

impl fmt::Display for Status<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_task(f)?;
        if let Some(values) = self.memory {
            MEMORY.iter().try_for_each(|name| writeln!(f, "{name}:\t{:8} kB", values(name)))?;
            writeln!(f, "CoreDumping:\t0\nTHP_enabled:\t{}", values("THP_enabled"))?;
            if self.profile.release > Release::V6_1 {
                writeln!(f, "untag_mask:\t{:#x}", u64::MAX)?;
            }
        }
        writeln!(f, "Threads:\t{}", self.task.threads)
    }
}

impl Status<'_> {
    fn write_task(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let task = self.task;
        writeln!(f, "Name:\t{}", task.name)?;
        if let Some(umask) = task.umask {
            writeln!(f, "Umask:\t{umask:04o}")?;
        }
        writeln!(f, "State:\t{}", task.state)?;
        writeln!(f, "Tgid:\t{}\nNgid:\t0\nPid:\t{}\nPPid:\t{}", task.tgid, task.pid, task.ppid)?;
        writeln!(f, "TracerPid:\t{}", task.tracer_pid)?;
        for (name, [real, effective, saved, file_system]) in [("Uid", task.uids), ("Gid", task.gids)] {
            writeln!(f, "{name}:\t{real}\t{effective}\t{saved}\t{file_system}")?;
        }
        write!(f, "FDSize:\t{}\nGroups:\t", task.fd_size)?;
        task.groups.iter().try_for_each(|group| write!(f, "{group} "))?;
        // Linux writes the blank after the last group even where there is none.
        writeln!(f, "{}", if task.groups.is_empty() { " " } else { "" })?;
        writeln!(f, "NStgid:\t{}\nNSpid:\t{}\nNSpgid:\t{}\nNSsid:\t{}", task.tgid, task.pid, task.pgid, task.sid)?;
        if self.profile.release > Release::V6_1 {
            // A program that has ended has no memory either.
            let is_kernel_thread = self.memory.is_none() && task.state != TaskState::Zombie;
            writeln!(f, "Kthread:\t{}", u8::from(is_kernel_thread))?;
        }
        Ok(())
    }
}
