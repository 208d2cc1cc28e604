//! Making a signal pending, and waking who is to take it.
//!
//! Linux 6.12: kernel/signal.c (`__send_signal_locked`, `complete_signal`, `prepare_signal`).

use super::{DEFAULT, Details, SI_KERNEL, SIGKILL, SignalInfo};
use crate::memory::Memory;
use crate::process::{Exit, Life, Process, ProcessKey};
use crate::thread::{ThreadEntry, ThreadKey};
use crate::wait::WaitFor;
use crate::world::World;

impl<M: Memory> World<M> {
    /// Sends a signal to a process: any of its threads that does not block it takes it.
    pub(crate) fn send_to_process(&mut self, to: ProcessKey, info: SignalInfo) {
        let Some(process) = self.processes.get_mut(to) else { return };
        let is_open = |thread: &ThreadEntry<M>| thread.process == to && !thread.blocked.contains(info.signal);
        let is_blocked = !self.threads.iter().any(|(_, thread)| is_open(thread));
        // What is blocked is not ignored: somebody may ask for it.
        if process.life != Life::Runs
            || !is_blocked && process.actions.ignores(info.signal)
            || process.is_spared(info.signal, is_blocked)
        {
            return;
        }
        if info.signal == SIGKILL {
            return self.end_process(to, Exit::Signal(SIGKILL));
        }
        process.pending.add(info);
        let taker = self.threads.iter().find(|(_, thread)| is_open(thread)).map(|(key, _)| key);
        if let Some(taker) = taker {
            self.interrupt(taker);
        }
        self.wake_wanting(info.signal);
    }

    /// Wakes threads that wait for a signal which they block.
    fn wake_wanting(&mut self, signal: u8) {
        self.wake_up_to(usize::MAX, |wait| matches!(wait.what, WaitFor::Wanted(set) if set.contains(signal)));
    }

    /// Sends a signal to every process of a group; returns false if there is none.
    pub(crate) fn send_to_group(&mut self, group: u32, info: Option<SignalInfo>) -> bool {
        self.send_to_all(|process| process.group == group, info)
    }

    /// Sends a signal to all chosen processes in the order of their numbers, or only looks whether there are any; returns false if not.
    pub(crate) fn send_to_all(&mut self, is_meant: impl Fn(&Process) -> bool, info: Option<SignalInfo>) -> bool {
        let (mut next_pid, mut found) = (0, false);
        // One at a time, since sending changes the tables.
        loop {
            let candidates = self.processes.iter().filter(|(_, process)| process.pid >= next_pid && is_meant(process));
            let next = candidates.map(|(key, process)| (key, process.pid)).min_by_key(|&(_, pid)| pid);
            let Some((key, pid)) = next else { return found };
            (found, next_pid) = (true, pid + 1);
            if let Some(info) = info {
                self.send_to_process(key, info);
            }
        }
    }

    /// Sends a signal to one thread.
    pub(crate) fn send_to_thread(&mut self, to: ThreadKey<M>, info: SignalInfo) {
        let Some(thread) = self.threads.get_mut(to) else { return };
        let process = thread.process;
        let Some(owner) = self.processes.get(process) else { return };
        if owner.is_spared(info.signal, thread.blocked.contains(info.signal)) {
            return;
        }
        if info.signal == SIGKILL {
            return self.end_process(process, Exit::Signal(SIGKILL));
        }
        let is_blocked = thread.blocked.contains(info.signal);
        if is_blocked || !owner.actions.ignores(info.signal) {
            thread.pending.add(info);
            if !is_blocked {
                self.interrupt(to);
            }
            self.wake_wanting(info.signal);
        }
    }

    /// Sends a signal that the thread's own instruction raised: it cannot be put off (Linux: `force_sig_info`).
    ///
    /// Where it is blocked or ignored it has its default effect.
    pub(crate) fn force_signal(&mut self, to: ThreadKey<M>, info: SignalInfo) {
        let Some(thread) = self.threads.get_mut(to) else { return };
        let Some(process) = self.processes.get_mut(thread.process) else { return };
        let is_put_off = thread.blocked.contains(info.signal) || process.actions.ignores(info.signal);
        if is_put_off {
            let action = super::Action { handler: DEFAULT, ..process.actions.get(info.signal) };
            process.actions.set(info.signal, action);
            thread.blocked = thread.blocked.without(super::SignalSet::of(info.signal));
        }
        thread.pending.add(info);
    }

    /// Forgets what is pending of a signal that a process ignores from now on.
    pub(crate) fn forget_ignored(&mut self, process: ProcessKey, signal: u8) {
        let Some(owner) = self.processes.get_mut(process) else { return };
        if !owner.actions.ignores(signal) {
            return;
        }
        owner.pending.forget(signal);
        for (_, thread) in self.threads.iter_mut().filter(|(_, thread)| thread.process == process) {
            thread.pending.forget(signal);
        }
    }
}

impl Process {
    /// Returns true if nobody may end the process by this signal: init gets only what it handles or blocks (Linux: SIGNAL_UNKILLABLE).
    fn is_spared(&self, signal: u8, is_blocked: bool) -> bool {
        self.pid == 1 && !is_blocked && self.actions.get(signal).handler == DEFAULT
    }
}

impl SignalInfo {
    /// A signal that the kernel sends on its own.
    pub(crate) const fn from_kernel(signal: u8) -> Self {
        Self { signal, code: SI_KERNEL, details: Details::None }
    }
}
