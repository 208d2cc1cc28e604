//! What the files of /proc say. Those about memory are written by `kernel-mm`; here are processes and the machine.
//!
//! A file's text is taken at a read from its start and kept by the open file. Linux 6.12: fs/proc/array.c, task_mmu.c, base.c.

use alloc::vec::Vec;
use core::fmt::Write;

use address_space::{NO_LIMIT, ProgramRanges};
use kernel_mm::VmFile;
use proc_files::statm::Statm;
use proc_files::status::{Task, TaskState};

use super::limits::{NR_LIMITS, limit};
use super::{Context, Outcome};
use crate::errno::Errno;
use crate::files::{GlobalFile, OpenKey, ProcNode, ProcessFile, Subject, SysNode, SysctlNode, Target};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::process::{Life, NAME_BYTES, Process, ProcessKey, trimmed};
use crate::slots::{Text, copy_of, push};
use crate::thread::Run;
use crate::user_memory::{CHUNK, UserBuffer};
use crate::world::World;

/// Nanoseconds of a tick of the clock, as programs count (USER_HZ).
const TICK_NS: u64 = 10_000_000;

/// Limits in the order of their numbers, with their units.
const LIMITS: [(&str, &str); NR_LIMITS as usize] = [
    ("Max cpu time", "seconds"),
    ("Max file size", "bytes"),
    ("Max data size", "bytes"),
    ("Max stack size", "bytes"),
    ("Max core file size", "bytes"),
    ("Max resident set", "bytes"),
    ("Max processes", "processes"),
    ("Max open files", "files"),
    ("Max locked memory", "bytes"),
    ("Max address space", "bytes"),
    ("Max file locks", "locks"),
    ("Max pending signals", "signals"),
    ("Max msgqueue size", "bytes"),
    ("Max nice priority", ""),
    ("Max realtime priority", ""),
    ("Max realtime timeout", "us"),
];

impl<M: Memory> World<M> {
    /// Returns whom a file that is being opened is about, and what it says whatever happens from now on.
    ///
    /// # Errors
    /// ENOMEM.
    pub(super) fn subject(&self, target: Target) -> Result<(Subject, Vec<u8>), Errno> {
        let Target::Proc(node) = target else { return Ok(Default::default()) };
        let key = node.process().and_then(|pid| self.process_of(pid));
        let Some((key, process)) = key.and_then(|key| Some((key, self.processes.get(key)?))) else {
            return Ok(Default::default());
        };
        let thread = match node {
            ProcNode::TaskFile(_, tid, _) => self.thread_in(key, tid),
            _ => self.first_thread(key),
        };
        let thread = thread.and_then(|key| self.threads.get(key));
        let space = thread.and_then(|thread| thread.space.as_ref()).map_or(0, |space| space.number);
        let tells_now = space != 0 && matches!(node.file(), Some((_, ProcessFile::Auxv)));
        let text = if tells_now { copy_of(&process.auxiliary)? } else { Vec::new() };
        Ok((Subject { process: process.serial, space }, text))
    }

    /// Returns true if a process still is the one that an open file is about.
    pub(super) fn is_still(&self, pid: u32, subject: Subject) -> bool {
        self.still(pid, subject).is_ok()
    }

    /// Returns the process that an open file is about.
    ///
    /// # Errors
    /// ESRCH if it is gone.
    pub(super) fn still(&self, pid: u32, subject: Subject) -> Result<ProcessKey, Errno> {
        let key = self.process_of(pid).ok_or(Errno::ESRCH)?;
        let is_same = self.processes.get(key).is_some_and(|process| process.serial == subject.process);
        if is_same { Ok(key) } else { Err(Errno::ESRCH) }
    }

    /// Returns what a thread of a process does.
    fn state_of(&self, key: ProcessKey, tid: u32) -> TaskState {
        match self.thread_in(key, tid).and_then(|key| self.threads.get(key)).map(|thread| &thread.run) {
            None => TaskState::Zombie,
            Some(Run::Waits(..)) => TaskState::Sleeping,
            Some(Run::Ready(_) | Run::OnCpu(_)) => TaskState::Running,
        }
    }

    /// Calls `show` with a thread of a process as its status has it.
    fn with_task<R>(
        &self,
        (key, tid): (ProcessKey, u32),
        show: impl FnOnce(&Process, &Task<'_>) -> R,
    ) -> Result<R, Errno> {
        let name = self.name_of_task(key, tid)?;
        let process = self.processes.get(key).ok_or(Errno::ESRCH)?;
        let has_ended = matches!(process.life, Life::Zombie(_));
        // The first thread counts as long as the process is known.
        let first_has_ended = self.first_thread(key).is_none();
        let task = Task {
            name: core::str::from_utf8(trimmed(&name)).unwrap_or("?"),
            umask: (!has_ended).then_some(process.umask),
            state: self.state_of(key, tid),
            tgid: process.pid,
            pid: tid,
            ppid: process.parent,
            tracer_pid: 0,
            pgid: process.group,
            sid: process.session,
            uids: [0; 4],
            gids: [0; 4],
            fd_size: process.descriptors.len(),
            groups: &[],
            threads: u64::from(process.nr_threads) + u64::from(first_has_ended),
        };
        Ok(show(process, &task))
    }
}

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Reads from a file of /proc.
    pub(super) fn read_proc(&self, file: OpenKey, offset: u64, to: &mut [u8]) -> Result<usize, Errno> {
        let (target, subject) = self.with_file(file, |open| (open.target, open.subject))?;
        let Target::Proc(node) = target else { return Err(Errno::EBADF) };
        let is_said = match node {
            node if node.file().is_some_and(|(_, file)| file == ProcessFile::Pagemap) => {
                return self.read_pagemap(subject, offset, to);
            }
            node if node.file().is_some_and(|(_, file)| file == ProcessFile::Auxv) => true,
            _ => offset != 0 && self.with_file(file, |open| !open.text.is_empty())?,
        };
        if !is_said {
            let text = self.proc_text(node, subject)?;
            self.with_file(file, |open| open.text = text)?;
        }
        self.with_file(file, |open| {
            let rest = usize::try_from(offset).ok().and_then(|offset| open.text.get(offset..)).unwrap_or_default();
            let count = rest.len().min(to.len());
            to.iter_mut().zip(rest).for_each(|(place, byte)| *place = *byte);
            count
        })
    }

    /// Writes to a file of /proc: each part is a write of its own, of which the file says how much it took.
    pub(super) fn write_proc(&self, file: OpenKey, node: ProcNode, parts: &[UserBuffer], offset: u64) -> Outcome {
        let subject = self.with_file(file, |open| open.subject)?;
        let mut done = 0;
        for part in parts {
            let taken = match node {
                ProcNode::ProcessFile(pid, ProcessFile::ClearRefs)
                | ProcNode::TaskFile(pid, _, ProcessFile::ClearRefs) => self.clear_refs((pid, subject), *part),
                ProcNode::ProcessFile(pid, ProcessFile::Comm) => self.write_name((pid, pid, subject), *part),
                ProcNode::TaskFile(pid, tid, ProcessFile::Comm) => self.write_name((pid, tid, subject), *part),
                ProcNode::Sys(node) => self.write_setting(node, *part),
                ProcNode::Sysctl(SysctlNode::File(setting)) => {
                    self.write_sysctl((file, setting), *part, offset.saturating_add(done))
                }
                ProcNode::Global(_) => Err(Errno::EIO),
                _ => Err(Errno::EINVAL),
            };
            match taken {
                Ok(taken) => {
                    done += taken;
                    if taken < part.bytes {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error.into()),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Names a thread of the caller's process; nobody else's can be named. What does not fit is dropped.
    fn write_name(&self, (pid, tid, subject): (u32, u32, Subject), text: UserBuffer) -> Result<u64, Errno> {
        let mut name = [0; NAME_BYTES];
        let name = name.get_mut(..text.bytes.min(NAME_BYTES as u64) as usize).unwrap_or_default();
        self.read(text.addr, name)?;
        let mut world = self.world();
        let key = world.still(pid, subject)?;
        if key != self.thread.process {
            return Err(Errno::EINVAL);
        }
        world.set_name_of_task(key, tid, name)?;
        Ok(text.bytes)
    }

    fn proc_text(&self, node: ProcNode, subject: Subject) -> Result<Vec<u8>, Errno> {
        match node {
            ProcNode::ProcessFile(pid, file) => self.process_text((pid, None, subject), file),
            ProcNode::TaskFile(pid, tid, file) => self.process_text((pid, Some(tid), subject), file),
            _ => {
                let mut text = Text::default();
                self.machine_text(node, &mut text).ok_or(Errno::EINVAL)?.map_err(|_| Errno::ENOMEM)?;
                Ok(text.0)
            }
        }
    }

    /// Writes what a file that is of no process says; `None` for a directory.
    fn machine_text(&self, node: ProcNode, text: &mut Text) -> Option<core::fmt::Result> {
        let memory = self.userland.memory();
        Some(match node {
            ProcNode::Global(file) => self.global_text(file, text),
            ProcNode::Sys(SysNode::File(file)) => memory.write_huge_file(file, text),
            ProcNode::Sys(SysNode::Thread(file)) => self.world().khugepaged.write(file, text),
            ProcNode::Sysctl(SysctlNode::File(file)) => memory.write_vm_file(self.cpu, file, text),
            _ => return None,
        })
    }

    /// Sets what a file of /proc/sys is about to what was written at its beginning; what is written behind that counts for nothing (Linux: SYSCTL_WRITES_STRICT).
    fn write_sysctl(&self, (file, setting): (OpenKey, VmFile), text: UserBuffer, offset: u64) -> Result<u64, Errno> {
        let taken = if offset == 0 {
            let mut bytes = [0; CHUNK];
            let bytes = bytes.get_mut(..text.bytes.min(CHUNK as u64 - 1) as usize).unwrap_or_default();
            self.read(text.addr, bytes)?;
            self.userland.memory().set_vm_file(self.cpu, &self.thread.caller, setting, bytes)? as u64
        } else {
            text.bytes
        };
        self.with_file(file, |open| open.offset = offset.saturating_add(taken))?;
        Ok(taken)
    }

    /// Sets what a file of /sys is about to what was written to it.
    fn write_setting(&self, node: SysNode, text: UserBuffer) -> Result<u64, Errno> {
        /// Longer than every word that such a file knows.
        const LONGEST: usize = 32;
        let mut word = [0; LONGEST];
        let word = word.get_mut(..text.bytes.min(LONGEST as u64) as usize).unwrap_or_default();
        self.read(text.addr, word)?;
        match node {
            SysNode::File(file) => self.userland.memory().set_huge_file(file, word)?,
            SysNode::Thread(file) => self.world().khugepaged.set(file, word)?,
            _ => return Err(Errno::EINVAL),
        }
        Ok(text.bytes)
    }

    fn global_text(&self, file: GlobalFile, text: &mut Text) -> core::fmt::Result {
        let memory = self.userland.memory();
        let uptime = self.userland.machine().now_ns();
        let (seconds, hundredths) = (uptime / 1_000_000_000, uptime / 10_000_000 % 100);
        match file {
            GlobalFile::Uptime => writeln!(text, "{seconds}.{hundredths:02} 0.00"),
            GlobalFile::Loadavg => {
                let world = self.world();
                let (ready, all) = (usize::from(world.has_ready()) + 1, world.threads.len());
                writeln!(text, "0.00 0.00 0.00 {ready}/{all} {}", self.thread.pid)
            }
            GlobalFile::Version => writeln!(text, "Linux version 6.12.0-mmkit"),
            GlobalFile::Cmdline => writeln!(text),
            GlobalFile::Mounts => {
                writeln!(text, "rootfs / rootfs rw 0 0\nproc /proc proc rw 0 0\nsysfs /sys sysfs rw 0 0")
            }
            GlobalFile::Filesystems => writeln!(text, "nodev\tsysfs\nnodev\trootfs\nnodev\tproc"),
            _ => memory.write_machine_file(self.cpu, file.name(), text),
        }
    }

    /// Writes what a file says of a process, or of one of its threads.
    fn process_text(
        &self,
        (pid, tid, subject): (u32, Option<u32>, Subject),
        file: ProcessFile,
    ) -> Result<Vec<u8>, Errno> {
        if file == ProcessFile::Environ {
            return self.environment(subject);
        }
        let key = self.world().still(pid, subject)?;
        let of = tid.unwrap_or(pid);
        if of != pid && self.world().thread_in(key, of).is_none() {
            return Err(Errno::ESRCH);
        }
        let mut text = Text::default();
        let written = match file {
            ProcessFile::Comm => {
                let world = self.world();
                let mut name = copy_of(trimmed(&world.name_of_task(key, of)?))?;
                push(&mut name, b'\n')?;
                return Ok(name);
            }
            ProcessFile::Cmdline => return self.command_line(key),
            ProcessFile::Stat => self.write_stat((key, pid, tid), &mut text)?,
            ProcessFile::Limits => write_limits(self.world().processes.get(key).ok_or(Errno::ESRCH)?, &mut text),
            ProcessFile::Statm => write!(text, "{}", self.usage(key, of).0),
            ProcessFile::Maps | ProcessFile::Smaps | ProcessFile::SmapsRollup | ProcessFile::NumaMaps => {
                let written = self.with_memory_of(
                    |world| world.sharer(subject.space),
                    |mm, _| self.userland.memory().write_process_file(self.cpu, mm, file.name(), &mut text),
                );
                match (written, file) {
                    (None, ProcessFile::SmapsRollup) => return Err(Errno::ESRCH),
                    (written, _) => written.unwrap_or(Ok(())),
                }
            }
            ProcessFile::Status => self.write_status((key, of), &mut text)?,
            _ => return Err(Errno::EINVAL),
        };
        written.map_err(|_| Errno::ENOMEM)?;
        Ok(text.0)
    }

    /// Returns the figures of a thread's memory and where its program lies; zeros once it has ended.
    fn usage(&self, key: ProcessKey, tid: u32) -> (Statm, ProgramRanges) {
        let memory = self.userland.memory();
        let usage = self.with_memory_of(
            |world| world.thread_in(key, tid),
            |mm, _| (memory.statm(self.cpu, mm), memory.program(self.cpu, mm)),
        );
        usage.unwrap_or_default()
    }

    fn write_status(&self, (key, tid): (ProcessKey, u32), text: &mut Text) -> Result<core::fmt::Result, Errno> {
        let memory = self.userland.memory();
        // The name goes into a copy, since memory is not looked at under the world's lock.
        let name = self.world().name_of_task(key, tid)?;
        let name = core::str::from_utf8(trimmed(&name)).unwrap_or("?");
        let task = self.world().with_task((key, tid), |_, task| Task { name, groups: &[], ..*task })?;
        let written = self
            .with_memory_of(|world| world.thread_in(key, tid), |mm, _| memory.write_status(self.cpu, mm, &task, text));
        Ok(written.unwrap_or_else(|| {
            let profile = proc_files::Profile::new(proc_files::Release::V6_12, proc_files::Config::X86_64);
            write!(text, "{}", proc_files::status::Status { profile, task: &task, memory: None })
        }))
    }

    /// Writes the fields that programs use; signals and priorities are 0, and all time counts as the program's own.
    fn write_stat(
        &self,
        (key, pid, tid): (ProcessKey, u32, Option<u32>),
        text: &mut Text,
    ) -> Result<core::fmt::Result, Errno> {
        let (usage, program) = self.usage(key, tid.unwrap_or(pid));
        let now = self.userland.machine().now_ns();
        let world = self.world();
        let own = tid.filter(|&tid| tid != pid).and_then(|tid| world.threads.get(world.thread_in(key, tid)?));
        let run = world.run_time(key, tid, now) / TICK_NS;
        world.with_task((key, tid.unwrap_or(pid)), |process, task| {
            let started = own.map_or(process.started, |thread| thread.started) / TICK_NS;
            let children = process.children_ns / TICK_NS;
            let exit_signal = if own.is_some() { -1 } else { process.exit_signal.into() };
            let exit = match process.life {
                Life::Zombie(exit) => exit.status(),
                Life::Runs | Life::Ends(_) => 0,
            };
            let (state, waits) = match task.state {
                TaskState::Zombie => ('Z', 1),
                TaskState::Running => ('R', 0),
                _ => ('S', 1),
            };
            let Task { name, pid, ppid, pgid, sid, threads, .. } = task;
            write!(text, "{pid} ({name}) {state} {ppid} {pgid} {sid} 0 -1 0 0 0 0 0 {run} 0 {children} 0")?;
            write!(text, " 20 0 {threads} 0 {started}")?;
            let bytes = usage.size * address_space::PAGE_SIZE;
            write!(text, " {bytes} {} {NO_LIMIT} {}", usage.resident, program.code.start.raw())?;
            write!(text, " {} {} 0 0", program.code.end.raw(), program.start_stack.raw())?;
            write!(text, " 0 0 0 0 {waits} 0 0 {exit_signal} 0 0 0 0 0 0")?;
            let (data, args, env) = (program.data, program.args, program.env);
            let places = [data.start, data.end, program.start_brk, args.start, args.end, env.start, env.end];
            places.iter().try_for_each(|place| write!(text, " {}", place.raw()))?;
            writeln!(text, " {exit}")
        })
    }
}

fn write_limits(process: &Process, text: &mut Text) -> core::fmt::Result {
    writeln!(text, "{:<25} {:<20} {:<20} {:<10}", "Limit", "Soft Limit", "Hard Limit", "Units")?;
    for ((name, unit), resource) in LIMITS.iter().zip(0..) {
        write!(text, "{name:<25} ")?;
        for value in limit(process, resource) {
            match value {
                NO_LIMIT => write!(text, "{:<20} ", "unlimited")?,
                value => write!(text, "{value:<20} ")?,
            }
        }
        match unit {
            &"" => writeln!(text)?,
            unit => writeln!(text, "{unit:<10}")?,
        }
    }
    Ok(())
}
