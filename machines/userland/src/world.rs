//! All processes, threads and files of a machine: one value behind one lock.
//!
//! Methods here look up and change tables; none touches a program's memory. Linux 6.12: kernel/fork.c, kernel/exit.c, kernel/sched/core.c.

use alloc::collections::VecDeque;

use units::CpuId;

use crate::errno::Errno;
use crate::files::{FileTables, InodeKey};
use crate::khugepaged::Khugepaged;
use crate::memory::Memory;
use crate::process::{Exit, Life, NAME_BYTES, Process, ProcessKey, task_name};
use crate::signals::{Details, SIGCHLD, SIGKILL, SignalInfo, SignalSet};
use crate::slots::{Owned, Slots};
use crate::thread::{Run, Space, Thread, ThreadEntry, ThreadKey};
use crate::wait::{Wait, WaitFor};

/// Numbers of processes start again here after the last.
const FIRST_PID_AGAIN: u32 = 300;
/// One above the highest number (Linux: PID_MAX_DEFAULT).
const PID_END: u32 = 32768;
/// Most threads of the machine.
const MAX_THREADS: usize = 4096;

/// Everything that processes share.
pub(crate) struct World<M: Memory> {
    pub(crate) processes: Slots<Process>,
    pub(crate) threads: Slots<ThreadEntry<M>>,
    pub(crate) files: FileTables,
    /// Pages that pipes were given.
    pub(crate) pages: Slots<M::Page>,
    /// Threads to run, first come first served; has room for all threads.
    ready: VecDeque<ThreadKey<M>>,
    /// Things that happened for which somebody may have waited.
    pub(crate) events: u64,
    last_pid: u32,
    /// Number of the address space that was made last.
    last_space: u64,
    /// Serial number of the thread that was made last.
    last_serial: u64,
    /// How init ended.
    pub(crate) finished: Option<Exit>,
    /// CPUs that have nothing to run, a bit each.
    pub(crate) idle: u64,
    /// CPUs to be interrupted once the lock is open, a bit each.
    pub(crate) to_kick: u64,
    pub(crate) nr_forks: u64,
    pub(crate) khugepaged: Khugepaged,
}

impl<M: Memory> World<M> {
    pub(crate) const fn new() -> Self {
        Self {
            processes: Slots::new(),
            threads: Slots::new(),
            files: FileTables::new(),
            pages: Slots::new(),
            ready: VecDeque::new(),
            events: 0,
            last_pid: 0,
            last_space: 0,
            last_serial: 0,
            finished: None,
            idle: 0,
            to_kick: 0,
            nr_forks: 0,
            khugepaged: Khugepaged::new(),
        }
    }

    /// Returns a number that no process or thread has.
    ///
    /// # Errors
    /// EAGAIN if all are in use.
    pub(crate) fn new_pid(&mut self) -> Result<u32, Errno> {
        for _ in 0..PID_END {
            self.last_pid = if self.last_pid + 1 >= PID_END { FIRST_PID_AGAIN } else { self.last_pid + 1 };
            let pid = self.last_pid;
            if !self.is_used(pid) {
                return Ok(pid);
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Returns a chosen number, if no process or thread has it.
    ///
    /// # Errors
    /// EINVAL for no number of a process, EEXIST.
    pub(crate) fn chosen_pid(&self, pid: u32) -> Result<u32, Errno> {
        match pid {
            pid if !(1..PID_END).contains(&pid) => Err(Errno::EINVAL),
            pid if self.is_used(pid) => Err(Errno::EEXIST),
            pid => Ok(pid),
        }
    }

    fn is_used(&self, pid: u32) -> bool {
        self.threads.iter().any(|(_, thread)| thread.tid == pid)
            || self.processes.iter().any(|(_, process)| process.pid == pid || process.group == pid)
    }

    /// Returns the key that the next process will have.
    pub(crate) fn next_process_key(&self) -> ProcessKey {
        self.processes.next_key()
    }

    /// Returns the key that the next thread will have.
    pub(crate) fn next_thread_key(&self) -> ThreadKey<M> {
        self.threads.next_key()
    }

    /// Returns the process with a number.
    pub(crate) fn process_of(&self, pid: u32) -> Option<ProcessKey> {
        self.processes.iter().find(|(_, process)| process.pid == pid).map(|(key, _)| key)
    }

    /// Returns the thread with a number.
    pub(crate) fn thread_of(&self, tid: u32) -> Option<ThreadKey<M>> {
        self.threads.iter().find(|(_, thread)| thread.tid == tid).map(|(key, _)| key)
    }

    /// Makes a place for a thread, with room in the run queue.
    ///
    /// # Errors
    /// EAGAIN above the machine's limit, ENOMEM.
    pub(crate) fn add_thread(&mut self, mut entry: ThreadEntry<M>) -> Result<ThreadKey<M>, Errno> {
        if self.threads.len() >= MAX_THREADS {
            return Err(Errno::EAGAIN);
        }
        let missing = (self.threads.len() + 1).saturating_sub(self.ready.len());
        self.ready.try_reserve(missing).map_err(|_| Errno::ENOMEM)?;
        let process = entry.process;
        entry.serial = self.last_serial + 1;
        let key = self.threads.insert(entry)?;
        self.last_serial += 1;
        if let Some(process) = self.processes.get_mut(process) {
            process.nr_threads += 1;
        }
        Ok(key)
    }

    /// Lets others find the address space of a thread, made from a file that is a program already; `number` is that of a thread which shares it. Returns the
    /// user that was for others before, for the caller to give up.
    pub(crate) fn share_space(
        &mut self,
        key: ThreadKey<M>,
        (mm, program): (M::Mm, Option<InodeKey>),
        number: Option<u64>,
    ) -> Option<M::Mm> {
        let before = self.take_space(key);
        let number = number.unwrap_or_else(|| {
            self.last_space += 1;
            self.last_space
        });
        let Some(entry) = self.threads.get_mut(key) else { return Some(mm) };
        let program = program.filter(|&program| self.files.run_program(program).is_ok());
        entry.space = Some(Space { mm, number, program });
        before
    }

    /// Hides the address space of a thread from others. Returns the user that was for them, for the caller to give up.
    pub(crate) fn take_space(&mut self, key: ThreadKey<M>) -> Option<M::Mm> {
        let space = self.threads.get_mut(key)?.space.take()?;
        if let Some(program) = space.program {
            self.files.leave_program(program);
        }
        Some(space.mm)
    }

    /// Puts a thread at the end of the run queue and wakes a CPU that has nothing to do.
    pub(crate) fn make_ready(&mut self, thread: Owned<Thread<M>>) {
        let key = thread.key;
        let Some(entry) = self.threads.get_mut(key) else { return };
        entry.run = Run::Ready(thread);
        self.ready.push_back(key);
        self.to_kick |= self.idle & self.idle.wrapping_neg();
    }

    /// Takes the next thread to run on `cpu`.
    pub(crate) fn take_ready(&mut self, cpu: CpuId, now: u64) -> Option<Owned<Thread<M>>> {
        while let Some(key) = self.ready.pop_front() {
            let Some(entry) = self.threads.get_mut(key) else { continue };
            match core::mem::replace(&mut entry.run, Run::OnCpu(cpu)) {
                Run::Ready(thread) => {
                    entry.since = now;
                    return Some(thread);
                }
                other => entry.run = other,
            }
        }
        None
    }

    /// Counts the time that a thread has run for until now.
    pub(crate) fn charge(&mut self, key: ThreadKey<M>, now: u64) {
        if let Some(entry) = self.threads.get_mut(key) {
            entry.run_ns += now.saturating_sub(entry.since);
            entry.since = now;
        }
    }

    /// Returns how long a thread has run, or with all others of its process, as of now (Linux: `thread_group_cputime`).
    pub(crate) fn run_time(&self, process: ProcessKey, tid: Option<u32>, now: u64) -> u64 {
        let is_meant = |thread: &&ThreadEntry<M>| thread.process == process && tid.is_none_or(|tid| thread.tid == tid);
        let run = |thread: &ThreadEntry<M>| match thread.run {
            Run::OnCpu(_) => thread.run_ns + now.saturating_sub(thread.since),
            Run::Ready(_) | Run::Waits(..) => thread.run_ns,
        };
        let ended = self.processes.get(process).filter(|_| tid.is_none()).map_or(0, |process| process.ended_ns);
        ended + self.threads.iter().map(|(_, thread)| thread).filter(is_meant).map(run).sum::<u64>()
    }

    /// Returns the name of a thread of a process, which is the process's if it is the first.
    ///
    /// # Errors
    /// ESRCH.
    pub(crate) fn name_of_task(&self, process: ProcessKey, tid: u32) -> Result<[u8; NAME_BYTES], Errno> {
        let owner = self.processes.get(process).ok_or(Errno::ESRCH)?;
        if owner.pid == tid {
            return Ok(owner.name);
        }
        self.thread_in(process, tid).and_then(|key| self.threads.get(key)).map(|thread| thread.name).ok_or(Errno::ESRCH)
    }

    /// Names a thread of a process.
    ///
    /// # Errors
    /// ESRCH.
    pub(crate) fn set_name_of_task(&mut self, process: ProcessKey, tid: u32, name: &[u8]) -> Result<(), Errno> {
        let key = self.thread_in(process, tid);
        let owner = self.processes.get_mut(process).ok_or(Errno::ESRCH)?;
        if owner.pid == tid {
            owner.name = task_name(name);
            return Ok(());
        }
        self.threads.get_mut(key.ok_or(Errno::ESRCH)?).ok_or(Errno::ESRCH)?.name = task_name(name);
        Ok(())
    }

    /// Returns the thread of a process that has a number.
    pub(crate) fn thread_in(&self, process: ProcessKey, tid: u32) -> Option<ThreadKey<M>> {
        let is_meant = |thread: &ThreadEntry<M>| thread.process == process && thread.tid == tid;
        self.threads.iter().find(|(_, thread)| is_meant(thread)).map(|(key, _)| key)
    }

    /// Returns true if another thread is ready to run.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Begins a wait; the caller has just looked at the state under this lock.
    pub(crate) const fn wait_for(&self, what: WaitFor) -> Wait {
        Wait { what, bits: u32::MAX, deadline: None, events: self.events }
    }

    /// Puts a thread aside, unless what it waits for may have happened since it looked.
    pub(crate) fn put_aside(&mut self, thread: Owned<Thread<M>>, wait: Wait) {
        if wait.events != self.events || self.has_signal(&thread) || self.is_ending(&thread) {
            return self.make_ready(thread);
        }
        if let Some(entry) = self.threads.get_mut(thread.key) {
            entry.run = Run::Waits(thread, wait);
        }
    }

    /// Returns true if the thread is to end.
    pub(crate) fn is_ending(&self, thread: &Thread<M>) -> bool {
        let is_killed = self.threads.get(thread.key).is_none_or(|entry| entry.killed);
        is_killed || self.processes.get(thread.process).is_none_or(|process| process.life != Life::Runs)
    }

    /// Returns true if a signal is to be delivered to the thread.
    pub(crate) fn has_signal(&self, thread: &Thread<M>) -> bool {
        let pending = |set: SignalSet| set.without(thread.blocked) != SignalSet::EMPTY;
        self.threads.get(thread.key).is_some_and(|entry| pending(entry.pending.set()))
            || self.processes.get(thread.process).is_some_and(|process| pending(process.pending.set()))
    }

    /// Makes every thread ready that waits for `what`.
    pub(crate) fn wake(&mut self, what: WaitFor) {
        self.wake_up_to(usize::MAX, |wait| wait.what == what);
    }

    /// Makes every thread ready that waits for a pipe or for files at all.
    pub(crate) fn wake_files(&mut self, what: WaitFor) {
        self.wake_up_to(usize::MAX, |wait| wait.what == what || wait.what == WaitFor::Files);
    }

    /// Makes up to `count` waiting threads ready; returns how many.
    pub(crate) fn wake_up_to(&mut self, count: usize, chosen: impl Fn(&Wait) -> bool) -> usize {
        self.events += 1;
        let mut woken = 0;
        while woken < count {
            let next = self.threads.iter().find(|(_, entry)| matches!(&entry.run, Run::Waits(_, wait) if chosen(wait)));
            let Some((key, _)) = next else { break };
            self.wake_thread(key, true);
            woken += 1;
        }
        woken
    }

    /// Makes a waiting thread ready.
    fn wake_thread(&mut self, key: ThreadKey<M>, is_answer: bool) {
        let Some(entry) = self.threads.get_mut(key) else { return };
        let here = CpuId::ZERO;
        match core::mem::replace(&mut entry.run, Run::OnCpu(here)) {
            Run::Waits(mut thread, wait) => {
                thread.progress.woken = is_answer && matches!(wait.what, WaitFor::Futex(_));
                self.make_ready(thread);
            }
            other => entry.run = other,
        }
    }

    /// Makes every thread ready whose time is over.
    pub(crate) fn wake_expired(&mut self, now: u64) {
        loop {
            let is_over = |wait: &Wait| wait.deadline.is_some_and(|deadline| deadline <= now);
            let next =
                self.threads.iter().find(|(_, entry)| matches!(&entry.run, Run::Waits(_, wait) if is_over(wait)));
            let Some((key, _)) = next else { return };
            self.wake_thread(key, false);
        }
    }

    /// Makes a thread look at its signals: from a wait, or on the CPU that runs it.
    pub(crate) fn interrupt(&mut self, key: ThreadKey<M>) {
        self.events += 1;
        match self.threads.get(key).map(|entry| &entry.run) {
            Some(Run::OnCpu(cpu)) => self.to_kick |= 1 << cpu.index(),
            Some(Run::Waits(..)) => self.wake_thread(key, false),
            Some(Run::Ready(_)) | None => {}
        }
    }

    /// Ends a process: all its threads, each when it next looks.
    pub(crate) fn end_process(&mut self, key: ProcessKey, exit: Exit) {
        let Some(process) = self.processes.get_mut(key) else { return };
        if process.life == Life::Runs {
            process.life = Life::Ends(exit);
        }
        self.interrupt_all(key, None);
    }

    /// Ends every thread of a process but one.
    pub(crate) fn end_other_threads(&mut self, key: ProcessKey, but: ThreadKey<M>) {
        for (other, entry) in self.threads.iter_mut() {
            if entry.process == key && other != but {
                entry.killed = true;
            }
        }
        self.interrupt_all(key, Some(but));
    }

    fn interrupt_all(&mut self, process: ProcessKey, but: Option<ThreadKey<M>>) {
        self.events += 1;
        loop {
            let is_meant = |key, entry: &ThreadEntry<M>| entry.process == process && Some(key) != but;
            let waiting = |entry: &ThreadEntry<M>| matches!(entry.run, Run::Waits(..));
            let next = self.threads.iter().find(|&(key, entry)| is_meant(key, entry) && waiting(entry));
            let Some((key, _)) = next else { break };
            self.wake_thread(key, false);
        }
        for (key, entry) in self.threads.iter() {
            if entry.process == process
                && Some(key) != but
                && let Run::OnCpu(cpu) = &entry.run
            {
                self.to_kick |= 1 << cpu.index();
            }
        }
    }

    /// Takes a thread out that has ended; the last one's process becomes a zombie, of which its parent hears.
    pub(crate) fn remove_thread(&mut self, key: ThreadKey<M>) {
        let Some(entry) = self.threads.remove(key) else { return };
        let Some(process) = self.processes.get_mut(entry.process) else { return };
        process.nr_threads -= 1;
        process.ended_ns += entry.run_ns;
        match process.nr_threads {
            0 => self.process_ended(entry.process),
            // A descriptor of the thread tells it too.
            _ => self.wake_files(WaitFor::OtherThreads(entry.process)),
        }
    }

    /// Makes a process without threads a zombie, or takes it out if nobody waits for it.
    pub(crate) fn process_ended(&mut self, key: ProcessKey) {
        let Some(process) = self.processes.get_mut(key) else { return };
        let exit = match process.life {
            Life::Ends(exit) | Life::Zombie(exit) => exit,
            Life::Runs => Exit::Code(0),
        };
        process.life = Life::Zombie(exit);
        process.executable = alloc::vec::Vec::new();
        let (pid, parent, signal) = (process.pid, process.parent, process.exit_signal);
        let descriptors = core::mem::take(&mut process.descriptors);
        let directory = process.directory;
        self.close_all(descriptors);
        self.files.put_place(directory);
        self.give_back_memory(key);
        self.wake(WaitFor::Files);
        self.adopt_children(pid);
        if pid == 1 {
            self.finished = Some(exit);
            self.kill_all();
            return;
        }
        self.tell_parent(key, parent, (pid, signal, exit));
    }

    /// Ends the wait of a vfork's parent.
    pub(crate) fn give_back_memory(&mut self, key: ProcessKey) {
        if let Some(process) = self.processes.get_mut(key)
            && core::mem::take(&mut process.borrows_memory)
        {
            self.wake(WaitFor::Vfork(key));
        }
    }

    /// Gives the children of a process that ended to init.
    fn adopt_children(&mut self, parent: u32) {
        let mut has_zombie = false;
        for (key, child) in self.processes.iter_mut().filter(|(_, child)| child.parent == parent) {
            (child.parent, child.exit_signal) = (1, SIGCHLD);
            has_zombie |= matches!(child.life, Life::Zombie(_));
            // Its threads look at it again: each has a copy of the number.
            let cpus =
                self.threads.iter().filter(|(_, thread)| thread.process == key).map(|(_, thread)| thread.cpu_bit());
            self.to_kick |= cpus.fold(0, |all, cpu| all | cpu);
        }
        if has_zombie && let Some(init) = self.process_of(1) {
            self.wake(WaitFor::Child(init));
        }
    }

    fn tell_parent(&mut self, key: ProcessKey, parent: u32, (pid, signal, exit): (u32, u8, Exit)) {
        let Some(parent) = self.process_of(parent) else {
            self.processes.remove(key);
            return;
        };
        let reaps_itself = signal == SIGCHLD && self.processes.get(parent).is_some_and(Process::ignores_children);
        if reaps_itself {
            self.processes.remove(key);
        }
        // clone takes any number of eight bits.
        if (1..=crate::signals::MAX_SIGNAL).contains(&signal) {
            let (code, status) = match exit {
                Exit::Code(code) => (1, code.into()),
                Exit::Signal(signal) => (2, signal.into()),
            };
            self.send_to_process(parent, SignalInfo { signal, code, details: Details::Child { pid, status } });
        }
        self.wake(WaitFor::Child(parent));
    }

    /// Sends SIGKILL to everything but init, which ends the machine's programs.
    pub(crate) fn kill_all(&mut self) {
        loop {
            let next = self.processes.iter().find(|(_, process)| process.pid != 1 && process.life == Life::Runs);
            let Some((key, _)) = next else { return };
            self.end_process(key, Exit::Signal(SIGKILL));
        }
    }
}

impl Process {
    /// Returns true if children that end are not to be waited for (SIGCHLD ignored, or SA_NOCLDWAIT).
    fn ignores_children(&self) -> bool {
        let action = self.actions.get(SIGCHLD);
        action.handler == crate::signals::IGNORE || action.flags.contains(crate::signals::ActionFlags::NOCLDWAIT)
    }
}
