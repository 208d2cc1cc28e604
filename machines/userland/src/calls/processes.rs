//! Beginning and end of tasks: fork, vfork, clone, clone3, exit.
//!
//! Linux 6.12: kernel/fork.c (`kernel_clone`, `copy_process`, `copy_clone_args_from_user`), kernel/exit.c (`do_exit`, `do_group_exit`).

use super::{Context, Outcome, Table, add};
use crate::errno::Errno;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::process::{Exit, Life, Process, ProcessKey};
use crate::registers::Entry;
use crate::schedule::Stop;
use crate::signals::{AltStack, Pending, SIGCHLD};
use crate::slots::{NoRoom, Owned, zeros};
use crate::thread::{Run, Thread, ThreadEntry};
use crate::wait::{Progress, WaitFor};
use crate::world::World;

bitflags::bitflags! {
    /// Flags of clone (CLONE_); the low byte is the signal at the end.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct CloneFlags: u64 {
        const VM = 0x100;
        const FS = 0x200;
        const FILES = 0x400;
        const SIGHAND = 0x800;
        const VFORK = 0x4000;
        const PARENT = 0x8000;
        const THREAD = 0x1_0000;
        const SYSVSEM = 0x4_0000;
        const SETTLS = 0x8_0000;
        const PARENT_SETTID = 0x10_0000;
        const CHILD_CLEARTID = 0x20_0000;
        const DETACHED = 0x40_0000;
        const CHILD_SETTID = 0x100_0000;
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
struct NewTask {
    flags: CloneFlags,
    exit_signal: u8,
    /// Its stack pointer; 0 for the caller's.
    stack: u64,
    parent_tid: u64,
    child_tid: u64,
    tls: u64,
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

    /// Takes the arguments of clone from a structure that may be shorter or longer than the one that is known here.
    fn clone3(&mut self, from: u64, bytes: u64) -> Outcome {
        const FIRST_VERSION: u64 = 64;
        const KNOWN_WORDS: usize = 11;
        const SIGNAL: u64 = 0xff;
        if bytes > crate::user_memory::CHUNK as u64 {
            return Err(Errno::E2BIG.into());
        }
        if bytes < FIRST_VERSION {
            return Err(Errno::EINVAL.into());
        }
        let mut raw = zeros(bytes.next_multiple_of(8).max(8 * KNOWN_WORDS as u64) as usize)?;
        self.read(from, raw.get_mut(..bytes as usize).unwrap_or_default())?;
        let mut words =
            raw.chunks_exact(8).map(|word| word.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte)));
        let mut next = || words.next().unwrap_or(0);
        let [
            flags,
            _pidfd,
            child_tid,
            parent_tid,
            exit_signal,
            stack,
            stack_bytes,
            tls,
            _set_tid,
            set_tid_count,
            _cgroup,
        ] = core::array::from_fn::<u64, KNOWN_WORDS, _>(|_| next());
        if words.any(|word| word != 0) {
            return Err(Errno::E2BIG.into());
        }
        let is_part = (CloneFlags::THREAD | CloneFlags::PARENT).bits() & flags != 0;
        let is_wrong = flags & SIGNAL != 0
            || exit_signal > crate::signals::MAX_SIGNAL.into()
            || is_part && exit_signal != 0
            || (stack == 0) != (stack_bytes == 0)
            // Numbers are not chosen by the caller here.
            || set_tid_count != 0;
        if is_wrong {
            return Err(Errno::EINVAL.into());
        }
        self.clone_task(flags | exit_signal, stack.wrapping_add(stack_bytes), parent_tid, child_tid, tls)
    }

    fn clone_task(&mut self, flags: u64, stack: u64, parent_tid: u64, child_tid: u64, tls: u64) -> Outcome {
        if let Some((child, pid)) = self.thread.progress.child {
            return self.wait_for_vfork(child, pid);
        }
        let new = NewTask {
            flags: CloneFlags::from_bits(flags & !0xff).ok_or(Errno::EINVAL)?,
            exit_signal: flags as u8,
            stack,
            parent_tid,
            child_tid,
            tls,
        };
        if new.exit_signal > crate::signals::MAX_SIGNAL {
            return Err(Errno::EINVAL.into());
        }
        if new.flags.contains(CloneFlags::SETTLS) && tls >= crate::user_memory::PROGRAM_END {
            return Err(Errno::EPERM.into());
        }
        let shares = CloneFlags::VM | CloneFlags::FS | CloneFlags::FILES | CloneFlags::SIGHAND;
        if new.flags.contains(CloneFlags::THREAD) {
            // Threads share everything here; other mixtures do not exist.
            if !new.flags.contains(shares) || new.flags.contains(CloneFlags::VFORK) {
                return Err(Errno::EINVAL.into());
            }
            return self.new_thread(&new);
        }
        if new.flags.intersects(shares - CloneFlags::VM) || new.flags.contains(CloneFlags::PARENT) {
            return Err(Errno::EINVAL.into());
        }
        self.new_process(&new)
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
                .new_pid()
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
        let mut world = self.world();
        let own = world.threads.get(self.thread.key).and_then(|entry| entry.space.as_ref()).map(|space| space.number);
        let number = if shares == SharesMemory::Yes { own } else { None };
        let unplaced = world.share_space(part.key, mm, number);
        world.make_ready(part);
        drop(world);
        if let Some(unplaced) = unplaced {
            self.userland.memory().mmput(self.cpu, unplaced.mm);
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
        let added = self.world().add_process(self.thread, new.exit_signal, new.flags.contains(CloneFlags::VFORK));
        let (pid, process, key) = match added {
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

/// Makes the shared part of a task like `parent`.
fn entry_of<M: Memory>(parent: &Thread<M>, tid: u32, process: ProcessKey) -> ThreadEntry<M> {
    ThreadEntry {
        tid,
        process,
        // Until its private part is put into the run queue.
        run: Run::OnCpu(units::CpuId::ZERO),
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

    /// Makes a child of a thread's process, with a thread that is not ready yet.
    ///
    /// # Errors
    /// EAGAIN at a limit, ENOMEM.
    fn add_process(
        &mut self,
        parent: &Thread<M>,
        exit_signal: u8,
        borrows_memory: bool,
    ) -> Result<(u32, ProcessKey, crate::thread::ThreadKey<M>), Errno> {
        let limit = self.processes.get(parent.process).ok_or(Errno::ESRCH)?.other_limits.processes[0];
        if self.processes.len() as u64 >= limit {
            return Err(Errno::EAGAIN);
        }
        let pid = self.new_pid()?;
        let mut child = self.processes.get(parent.process).ok_or(Errno::ESRCH)?.fork(pid, self.nr_forks + 1)?;
        (child.exit_signal, child.borrows_memory) = (exit_signal, borrows_memory);
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
