//! Beginning and end of tasks: fork, vfork, clone, clone3, exit.
//!
//! Linux 6.12: kernel/fork.c (`kernel_clone`, `copy_process`), kernel/exit.c (`do_exit`, `do_group_exit`).

use super::pidfd::Reserved;
use super::{Context, Outcome, Table, add};
use crate::errno::Errno;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::process::{Exit, Life, NAME_BYTES, Process, ProcessKey};
use crate::registers::Entry;
use crate::schedule::Stop;
use crate::signals::{AltStack, Pending, SIGCHLD};
use crate::slots::{NoRoom, Owned};
use crate::thread::{Run, Thread, ThreadEntry, ThreadKey};
use crate::wait::{Progress, WaitFor};
use crate::world::World;

bitflags::bitflags! {
    /// Flags of clone (CLONE_); the low byte is the signal at the end.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) struct CloneFlags: u64 {
        const VM = 0x100;
        const FS = 0x200;
        const FILES = 0x400;
        const SIGHAND = 0x800;
        const PIDFD = 0x1000;
        const VFORK = 0x4000;
        const PARENT = 0x8000;
        const THREAD = 0x1_0000;
        const SYSVSEM = 0x4_0000;
        const SETTLS = 0x8_0000;
        const PARENT_SETTID = 0x10_0000;
        const CHILD_CLEARTID = 0x20_0000;
        const DETACHED = 0x40_0000;
        const CHILD_SETTID = 0x100_0000;
        const CLEAR_SIGHAND = 0x1_0000_0000;
    }
}

/// Whether a new task is in its maker's address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SharesMemory {
    Yes,
    No,
}

/// What a new task is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewTask {
    pub(super) flags: CloneFlags,
    pub(super) exit_signal: u8,
    /// Its stack pointer; 0 for the caller's.
    pub(super) stack: u64,
    pub(super) parent_tid: u64,
    pub(super) child_tid: u64,
    pub(super) tls: u64,
    /// Where the number of its descriptor goes.
    pub(super) pidfd: u64,
    /// The number that it is to have.
    pub(super) chosen: Option<u32>,
}

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Adds the calls of this file to the table.
    #[rustfmt::skip]
    pub(super) const fn processes_calls(table: Table<M, D>) -> Table<M, D> {
        add(table, [
            (56, "clone", |cx, [flags, stack, parent_tid, child_tid, tls, _]| cx.clone_task(flags, stack, parent_tid, child_tid, tls)),
            (57, "fork", |cx, _| cx.clone_task(SIGCHLD.into(), 0, 0, 0, 0)),
            (58, "vfork", |cx, _| {
                    let flags = CloneFlags::VM | CloneFlags::VFORK;
                    cx.clone_task(flags.bits() | u64::from(SIGCHLD), 0, 0, 0, 0)
                }),
            (435, "clone3", |cx, [from, bytes, ..]| cx.clone3(from, bytes)),
            (60, "exit", |cx, [code, ..]| {
                    let mut world = cx.world();
                    // The last thread's code is the process's.
                    if let Some(process) = world.processes.get_mut(cx.thread.process)
                        && process.nr_threads == 1
                        && process.life == Life::Runs
                    {
                        process.life = Life::Ends(Exit::Code(code as u8));
                    }
                    Err(Stop::End)
                }),
            (218, "set_tid_address", |cx, [addr, ..]| { cx.thread.clear_tid = addr; Ok(cx.thread.tid.into()) }),
            (231, "exit_group", |cx, [code, ..]| { cx.world().end_process(cx.thread.process, Exit::Code(code as u8)); Err(Stop::End) }),
        ])
    }

    fn clone3(&mut self, from: u64, bytes: u64) -> Outcome {
        // What the child of a vfork did to the structure meanwhile does not matter.
        if let Some((child, pid)) = self.thread.progress.child {
            return self.wait_for_vfork(child, pid);
        }
        let new = self.clone3_arguments(from, bytes)?;
        self.new_task(&new)
    }

    fn clone_task(&mut self, flags: u64, stack: u64, parent_tid: u64, child_tid: u64, tls: u64) -> Outcome {
        if let Some((child, pid)) = self.thread.progress.child {
            return self.wait_for_vfork(child, pid);
        }
        // The upper half is passed over.
        let (flags, exit_signal) = (u64::from(flags as u32 & !0xff), flags as u8);
        let flags = CloneFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
        self.new_task(&NewTask {
            flags,
            exit_signal,
            stack,
            parent_tid,
            child_tid,
            tls,
            pidfd: parent_tid,
            chosen: None,
        })
    }

    fn new_task(&mut self, new: &NewTask) -> Outcome {
        let both = CloneFlags::PIDFD | CloneFlags::PARENT_SETTID;
        let has_one_place = new.flags.contains(both) && new.pidfd == new.parent_tid;
        if has_one_place || new.flags.contains(CloneFlags::PIDFD | CloneFlags::DETACHED) {
            return Err(Errno::EINVAL.into());
        }
        if new.flags.contains(CloneFlags::SETTLS) && new.tls >= crate::user_memory::PROGRAM_END {
            return Err(Errno::EPERM.into());
        }
        let shares = CloneFlags::VM | CloneFlags::FS | CloneFlags::FILES | CloneFlags::SIGHAND;
        if new.flags.contains(CloneFlags::THREAD) {
            // Threads share everything here; other mixtures do not exist, nor do descriptors of threads.
            let refused = CloneFlags::VFORK | CloneFlags::PIDFD | CloneFlags::CLEAR_SIGHAND;
            if !new.flags.contains(shares) || new.flags.intersects(refused) {
                return Err(Errno::EINVAL.into());
            }
            return self.new_thread(new);
        }
        if new.flags.intersects(shares - CloneFlags::VM) || new.flags.contains(CloneFlags::PARENT) {
            return Err(Errno::EINVAL.into());
        }
        self.new_process(new)
    }

    /// Makes the private part of a new task. It is a copy of the caller whose call returns 0.
    ///
    /// # Errors
    /// ENOMEM; the user of the address space is given back.
    fn new_part(&self, new: &NewTask, mm: M::Mm) -> Result<Owned<Thread<M>>, Errno> {
        let mut registers = self.thread.registers.clone();
        (registers.rax, registers.entry) = (0, Entry::SystemCall);
        if new.stack != 0 {
            registers.rsp = new.stack;
        }
        if new.flags.contains(CloneFlags::SETTLS) {
            registers.fs_base = new.tls;
        }
        let shares_stack_rules = new.flags.contains(CloneFlags::VM) && !new.flags.contains(CloneFlags::VFORK);
        let alt_stack = if shares_stack_rules { AltStack::NONE } else { self.thread.alt_stack };
        let clear_tid = if new.flags.contains(CloneFlags::CHILD_CLEARTID) { new.child_tid } else { 0 };
        let part = Thread {
            registers,
            key: self.thread.key,
            tid: 0,
            pid: self.thread.pid,
            parent: self.thread.parent,
            process: self.thread.process,
            mm,
            old_mm: None,
            caller: self.thread.caller,
            blocked: self.thread.blocked,
            blocked_before: None,
            alt_stack,
            clear_tid,
            robust_list: 0,
            progress: Progress::default(),
            held: [None; 2],
            in_call: false,
        };
        Owned::try_new(part).map_err(|NoRoom(part)| {
            if let Some(part) = part {
                self.userland.memory().mmput(self.cpu, part.mm);
            }
            Errno::ENOMEM
        })
    }

    /// Makes a thread of the caller's process.
    fn new_thread(&mut self, new: &NewTask) -> Outcome {
        let mm = self.userland.memory().mmget(&self.thread.mm);
        let mut part = self.new_part(new, mm)?;
        let added = {
            let mut world = self.world();
            world
                .pid_for(self.thread, new)
                .and_then(|tid| Ok((tid, world.add_thread(entry_of(self.thread, tid, self.thread.process))?)))
        };
        let (tid, key) = match added {
            Ok(added) => added,
            Err(error) => {
                self.userland.memory().mmput(self.cpu, part.into_inner().mm);
                return Err(error.into());
            }
        };
        (part.key, part.tid) = (key, tid);
        self.tell_numbers(new, tid, &part);
        self.start(part, SharesMemory::Yes);
        Ok(tid.into())
    }

    /// Puts a new thread into the run queue, with its address space for others to find.
    fn start(&self, part: Owned<Thread<M>>, shares: SharesMemory) {
        let mm = self.userland.memory().mmget(&part.mm);
        let now = self.userland.machine().now_ns();
        let mut world = self.world();
        let name = world.name_of_task(self.thread.process, self.thread.tid);
        if let (Some(entry), Ok(name)) = (world.threads.get_mut(part.key), name) {
            (entry.name, entry.started, entry.since) = (name, now, now);
        }
        if let Some(process) = world.processes.get_mut(part.process).filter(|process| process.pid == part.tid) {
            process.started = now;
        }
        let own = world.threads.get(self.thread.key).and_then(|entry| entry.space.as_ref());
        let number = own.filter(|_| shares == SharesMemory::Yes).map(|space| space.number);
        let program = own.and_then(|space| space.program);
        let unplaced = world.share_space(part.key, (mm, program), number);
        world.make_ready(part);
        drop(world);
        if let Some(unplaced) = unplaced {
            self.userland.memory().mmput(self.cpu, unplaced);
        }
    }

    /// Writes the number of the new task where clone's caller wants it. Linux does not look whether that works either.
    fn tell_numbers(&self, new: &NewTask, tid: u32, child: &Thread<M>) {
        let bytes = tid.to_le_bytes();
        if new.flags.contains(CloneFlags::PARENT_SETTID) {
            let _ = self.write(new.parent_tid, &bytes);
        }
        if new.flags.contains(CloneFlags::CHILD_SETTID) {
            let addr = units::VirtAddr::new(new.child_tid);
            let _ = self.userland.memory().write_user(self.cpu, child.memory(), addr, &bytes);
        }
    }

    fn new_process(&mut self, new: &NewTask) -> Outcome {
        let memory = self.userland.memory();
        let mm = if new.flags.contains(CloneFlags::VM) {
            memory.mmget(&self.thread.mm)
        } else {
            memory.dup_mm(self.cpu, &self.thread.mm, &self.thread.caller)?
        };
        let mut part = self.new_part(new, mm)?;
        let (pid, process, key) = match self.add_process(new) {
            Ok(added) => added,
            Err(error) => {
                memory.mmput(self.cpu, part.into_inner().mm);
                return Err(error.into());
            }
        };
        (part.key, part.tid, part.pid, part.process) = (key, pid, pid, process);
        part.parent = self.thread.pid;
        self.tell_numbers(new, pid, &part);
        self.start(part, if new.flags.contains(CloneFlags::VM) { SharesMemory::Yes } else { SharesMemory::No });
        if new.flags.contains(CloneFlags::VFORK) {
            self.thread.progress.child = Some((process, pid));
            return self.wait_for_vfork(process, pid);
        }
        Ok(pid.into())
    }

    /// Makes the shared parts of a new process, and its descriptor if there is to be one.
    fn add_process(&mut self, new: &NewTask) -> Result<AddedProcess<M>, Errno> {
        if !new.flags.contains(CloneFlags::PIDFD) {
            return self.world().add_process(self.thread, new, None);
        }
        let reserved = self.reserve_pidfd(new.pidfd)?;
        let added = self.world().add_process(self.thread, new, Some(reserved));
        match &added {
            Ok((_, process, _)) => self.fill_pidfd(reserved, *process),
            Err(_) => self.release_pidfd(reserved),
        }
        added
    }

    /// Waits until the child of a vfork has given the memory back.
    fn wait_for_vfork(&mut self, child: ProcessKey, pid: u32) -> Outcome {
        let world = self.world();
        let borrows = world.processes.get(child).is_some_and(|process| process.pid == pid && process.borrows_memory);
        if borrows {
            return Err(Stop::Wait(world.wait_for(WaitFor::Vfork(child))));
        }
        drop(world);
        self.thread.progress = Progress::default();
        Ok(pid.into())
    }
}

/// The shared parts of a new process: its number, the process, its first thread.
type AddedProcess<M> = (u32, ProcessKey, ThreadKey<M>);

/// Makes the shared part of a task like `parent`.
fn entry_of<M: Memory>(parent: &Thread<M>, tid: u32, process: ProcessKey) -> ThreadEntry<M> {
    ThreadEntry {
        tid,
        // Given where it gets its place.
        serial: 0,
        process,
        // Until its private part is put into the run queue.
        run: Run::OnCpu(units::CpuId::ZERO),
        name: [0; NAME_BYTES],
        started: 0,
        run_ns: 0,
        since: 0,
        pending: Pending::new(),
        blocked: parent.blocked,
        killed: false,
        space: None,
    }
}

impl<M: Memory> World<M> {
    /// Iterates over the children of a process.
    pub(super) fn children(&self, parent: u32) -> impl Iterator<Item = (ProcessKey, &Process)> {
        self.processes.iter().filter(move |(_, child)| child.parent == parent)
    }

    /// Returns the number of a new task of `maker`: the one that was chosen for it, or a new one.
    ///
    /// # Errors
    /// EINTR for a maker that is ended, whose end would not reach the task (Linux: copy_process looks for signals last); EINVAL, EEXIST, EAGAIN.
    fn pid_for(&mut self, maker: &Thread<M>, new: &NewTask) -> Result<u32, Errno> {
        if self.is_ending(maker) {
            return Err(Errno::EINTR);
        }
        match new.chosen {
            Some(pid) => self.chosen_pid(pid),
            None => self.new_pid(),
        }
    }

    /// Makes a child of a thread's process, with a thread that is not ready yet.
    ///
    /// # Errors
    /// EAGAIN at a limit, ENOMEM.
    fn add_process(
        &mut self,
        parent: &Thread<M>,
        new: &NewTask,
        reserved: Option<Reserved>,
    ) -> Result<AddedProcess<M>, Errno> {
        let limit = self.processes.get(parent.process).ok_or(Errno::ESRCH)?.other_limits.processes[0];
        if self.processes.len() as u64 >= limit {
            return Err(Errno::EAGAIN);
        }
        let pid = self.pid_for(parent, new)?;
        let mut child = self.processes.get(parent.process).ok_or(Errno::ESRCH)?.fork(pid, self.nr_forks + 1)?;
        child.name = self.name_of_task(parent.process, parent.tid)?;
        (child.exit_signal, child.borrows_memory) = (new.exit_signal, new.flags.contains(CloneFlags::VFORK));
        if new.flags.contains(CloneFlags::CLEAR_SIGHAND) {
            child.actions.exec();
        }
        if let Some(Reserved { fd, file }) = reserved
            && child.descriptors.get(fd).is_ok_and(|own| own.file == file)
        {
            // The descriptor is its maker's alone.
            child.descriptors.remove(fd)?;
        }
        let process = self.processes.insert(child)?;
        let key = match self.add_thread(entry_of(parent, pid, process)) {
            Ok(key) => key,
            Err(error) => {
                self.processes.remove(process);
                return Err(error);
            }
        };
        self.count_files(process);
        self.nr_forks += 1;
        Ok((pid, process, key))
    }

    /// Counts a new process among the users of its files and its directory.
    fn count_files(&mut self, process: ProcessKey) {
        let Some(child) = self.processes.get(process) else { return };
        for (_, descriptor) in child.descriptors.iter() {
            self.files.get(descriptor.file);
        }
        self.files.get_place(child.directory);
    }

    /// Makes the first process.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn add_init(
        &mut self,
        mut part: Owned<Thread<M>>,
        process: Process,
    ) -> Result<crate::thread::ThreadKey<M>, Errno> {
        let pid = process.pid;
        let directory = process.directory;
        let process = self.processes.insert(process)?;
        let key = self.add_thread(entry_of(&part, pid, process))?;
        self.files.get_place(directory);
        (part.key, part.process, part.tid, part.pid) = (key, process, pid, pid);
        self.make_ready(part);
        Ok(key)
    }
}
