//! What the files of /proc say. Those about memory are written by `kernel-mm`; here are processes and the machine.
//!
//! A file's text is taken at a read from its start and kept by the open file. Linux 6.12: fs/proc/array.c, task_mmu.c, base.c.

use alloc::vec::Vec;
use core::fmt::Write;

use address_space::{BadClearRefs, ClearRefs};

use super::{Context, Outcome};
use crate::errno::Errno;
use crate::files::{GlobalFile, ProcNode, ProcessFile, Target};
use crate::machine::Machine;
use crate::memory::{Memory, SpaceCall};
use crate::slots::{Text, copy_of, extend, push};
use crate::user_memory::UserBuffer;

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Reads from a file of /proc.
    pub(super) fn read_proc(&self, fd: u64, offset: u64, to: &mut [u8]) -> Result<usize, Errno> {
        let target = self.with_open(fd, |open| open.target)?;
        let Target::Proc(node) = target else { return Err(Errno::EBADF) };
        if let ProcNode::ProcessFile(pid, ProcessFile::Pagemap) = node {
            self.memory_of(pid)?;
            return self.userland.memory().read_pagemap(self.cpu, &self.thread.mm, offset, to).map_err(Errno::from);
        }
        if offset == 0 {
            let text = self.proc_text(node)?;
            self.with_open(fd, |open| open.text = text)?;
        }
        self.with_open(fd, |open| {
            let rest = usize::try_from(offset).ok().and_then(|offset| open.text.get(offset..)).unwrap_or_default();
            let count = rest.len().min(to.len());
            to.iter_mut().zip(rest).for_each(|(place, byte)| *place = *byte);
            count
        })
    }

    /// Writes to a file of /proc: each part is a write of its own, of which the file says how much it took.
    pub(super) fn write_proc(&self, node: ProcNode, parts: &[UserBuffer]) -> Outcome {
        let ProcNode::ProcessFile(pid, ProcessFile::ClearRefs) = node else { return Err(Errno::EINVAL.into()) };
        let mut done = 0;
        for part in parts {
            match self.clear_refs(pid, *part) {
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

    /// Takes marks back from the pages of a process as a text says. Returns how many bytes of it were taken.
    fn clear_refs(&self, pid: u32, text: UserBuffer) -> Result<u64, Errno> {
        let mut bytes = [0; ClearRefs::TEXT_BYTES];
        let taken = text.bytes.min(bytes.len() as u64);
        let bytes = bytes.get_mut(..taken as usize).unwrap_or_default();
        self.read(text.addr, bytes)?;
        let what = ClearRefs::parse(bytes).map_err(|error| match error {
            BadClearRefs::Unknown => Errno::EINVAL,
            BadClearRefs::TooLarge => Errno::ERANGE,
        })?;
        self.memory_of(pid)?;
        let call = SpaceCall::ClearRefs(what);
        self.userland.memory().call(self.cpu, &self.thread.mm, &self.thread.caller, &call)?;
        Ok(taken)
    }

    fn proc_text(&self, node: ProcNode) -> Result<Vec<u8>, Errno> {
        let mut text = Text::default();
        let written = match node {
            ProcNode::ProcessFile(pid, file) => return self.process_text(pid, file),
            ProcNode::Global(file) => self.global_text(file, &mut text),
            _ => return Err(Errno::EINVAL),
        };
        written.map_err(|_| Errno::ENOMEM)?;
        Ok(text.0)
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
            GlobalFile::Mounts => writeln!(text, "rootfs / rootfs rw 0 0\nproc /proc proc rw 0 0"),
            GlobalFile::Filesystems => writeln!(text, "nodev\trootfs\nnodev\tproc"),
            _ => memory.write_machine_file(self.cpu, file.name(), text),
        }
    }

    fn process_text(&self, pid: u32, file: ProcessFile) -> Result<Vec<u8>, Errno> {
        match file {
            ProcessFile::Comm => {
                let mut name = self.of_pid(pid, |process| copy_of(process.name()))??;
                push(&mut name, b'\n')?;
                Ok(name)
            }
            ProcessFile::Cmdline => self.command_line(pid),
            ProcessFile::Stat => self.stat_text(pid),
            ProcessFile::Pagemap | ProcessFile::ClearRefs => Err(Errno::EINVAL),
            ProcessFile::Maps | ProcessFile::Smaps | ProcessFile::SmapsRollup | ProcessFile::Statm => {
                self.memory_of(pid)?;
                self.memory_text(file)
            }
            ProcessFile::Status => self.status_text(pid),
        }
    }

    fn of_pid<R>(&self, pid: u32, look: impl FnOnce(&crate::process::Process) -> R) -> Result<R, Errno> {
        let world = self.world();
        let key = world.process_of(pid).ok_or(Errno::ESRCH)?;
        world.processes.get(key).map(look).ok_or(Errno::ESRCH)
    }

    /// Checks that the memory of a process is the caller's own: another's is with the thread that owns it.
    ///
    /// # Errors
    /// EACCES for another process, ESRCH.
    fn memory_of(&self, pid: u32) -> Result<(), Errno> {
        if pid == self.thread.pid {
            return Ok(());
        }
        self.of_pid(pid, |_| ())?;
        Err(Errno::EACCES)
    }

    fn memory_text(&self, file: ProcessFile) -> Result<Vec<u8>, Errno> {
        let mut text = Text::default();
        let name_of_kind = match file {
            ProcessFile::Maps => "maps",
            ProcessFile::Smaps => "smaps",
            ProcessFile::SmapsRollup => "smaps_rollup",
            _ => "statm",
        };
        let written = self.userland.memory().write_process_file(self.cpu, &self.thread.mm, name_of_kind, &mut text);
        written.map_err(|_| Errno::ENOMEM)?;
        Ok(text.0)
    }

    /// Reads arguments back from where exec put them.
    fn command_line(&self, pid: u32) -> Result<Vec<u8>, Errno> {
        self.memory_of(pid)?;
        let arguments = self.userland.memory().program(self.cpu, &self.thread.mm).args;
        let mut text = Vec::new();
        let length = arguments.len().min(crate::user_memory::CHUNK as u64);
        let mut bytes = crate::slots::zeros(length as usize)?;
        self.read(arguments.start.raw(), &mut bytes)?;
        extend(&mut text, &bytes)?;
        Ok(text)
    }

    fn status_text(&self, pid: u32) -> Result<Vec<u8>, Errno> {
        let mut text = Text::default();
        let is_own = pid == self.thread.pid;
        let written = self.of_pid(pid, |process| {
            let name = core::str::from_utf8(process.name()).unwrap_or("?");
            let task = proc_files::status::Task {
                name,
                umask: process.umask,
                state: state_of(process, is_own),
                tgid: process.pid,
                pid: process.pid,
                ppid: process.parent,
                tracer_pid: 0,
                pgid: process.group,
                sid: process.session,
                uids: [0; 4],
                gids: [0; 4],
                fd_size: process.descriptors.len(),
                groups: &[],
                threads: process.nr_threads.into(),
            };
            if is_own {
                return self.userland.memory().write_status(self.cpu, &self.thread.mm, &task, &mut text);
            }
            let profile = proc_files::Profile::new(proc_files::Release::V6_12, proc_files::Config::X86_64);
            write!(text, "{}", proc_files::status::Status { profile, task: &task, memory: None })
        })?;
        written.map_err(|_| Errno::ENOMEM)?;
        Ok(text.0)
    }

    /// Writes the fields that programs use; times, priorities and addresses are 0.
    fn stat_text(&self, pid: u32) -> Result<Vec<u8>, Errno> {
        let mut text = Text::default();
        let is_own = pid == self.thread.pid;
        let written = self.of_pid(pid, |process| {
            let name = core::str::from_utf8(process.name()).unwrap_or("?");
            let state = match state_of(process, is_own) {
                proc_files::status::TaskState::Zombie => 'Z',
                proc_files::status::TaskState::Running => 'R',
                _ => 'S',
            };
            let (parent, group, session, threads) =
                (process.parent, process.group, process.session, process.nr_threads);
            write!(
                text,
                "{pid} ({name}) {state} {parent} {group} {session} 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 0"
            )?;
            (0..30).try_for_each(|_| write!(text, " 0"))?;
            writeln!(text)
        })?;
        written.map_err(|_| Errno::ENOMEM)?;
        Ok(text.0)
    }
}

const fn state_of(process: &crate::process::Process, is_own: bool) -> proc_files::status::TaskState {
    match process.life {
        crate::process::Life::Zombie(_) => proc_files::status::TaskState::Zombie,
        _ if is_own => proc_files::status::TaskState::Running,
        _ => proc_files::status::TaskState::Sleeping,
    }
}
