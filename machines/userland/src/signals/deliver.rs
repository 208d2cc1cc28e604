//! Taking a pending signal when a thread is about to run its program: entering the handler, or the default.
//!
//! Linux 6.12: kernel/signal.c (`get_signal`), arch/x86/kernel/signal.c (`arch_do_signal_or_restart`, `handle_signal`).

use sync::Cpu;

use super::frame::{AltStack, Frame, SS_AUTODISARM};
use super::{Action, ActionFlags, DEFAULT, Details, IGNORE, SIGSEGV, SignalInfo, SignalSet};
use crate::calls::restarts;
use crate::errno::Errno;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::process::{Exit, Life};
use crate::registers::Entry;
use crate::thread::Thread;
use crate::userland::Userland;
use crate::world::World;

/// What to do about a thread's signals.
enum Taken {
    /// There is none.
    Nothing,
    /// The thread is to end.
    End,
    /// A handler is to be entered.
    Handle(SignalInfo, Action),
}

/// Whether a thread goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Delivered {
    /// It runs on.
    GoesOn,
    /// It is to end.
    Ends,
}

impl<M: Memory> World<M> {
    /// Takes signals until one has a handler; the default of most ends the process.
    fn take_signal(&mut self, thread: &mut Thread<M>) -> Taken {
        let Some(entry) = self.threads.get_mut(thread.key) else { return Taken::End };
        let Some(process) = self.processes.get_mut(thread.process) else { return Taken::End };
        if entry.killed || process.life != Life::Runs {
            return Taken::End;
        }
        thread.caller = process.caller();
        thread.parent = process.parent;
        thread.blocked = entry.blocked;
        loop {
            let taken = entry.pending.take(entry.blocked).or_else(|| process.pending.take(entry.blocked));
            let Some(info) = taken else { return Taken::Nothing };
            let action = process.actions.get(info.signal);
            if action.handler == IGNORE || process.actions.ignores(info.signal) {
                continue;
            }
            if action.handler == DEFAULT {
                // No terminal stops anything here; a stop that comes anyway is not obeyed. Nor is what somebody sends to init.
                let is_sent = matches!(info.details, Details::Sender(_) | Details::Said(..));
                if is_job_control(info.signal) || process.pid == 1 && is_sent {
                    continue;
                }
                self.end_process(thread.process, Exit::Signal(info.signal));
                return Taken::End;
            }
            if action.flags.contains(ActionFlags::RESETHAND) {
                process.actions.set(info.signal, Action { handler: DEFAULT, ..action });
            }
            return Taken::Handle(info, action);
        }
    }
}

const fn is_job_control(signal: u8) -> bool {
    matches!(signal, super::SIGSTOP | super::SIGTSTP | super::SIGTTIN | super::SIGTTOU)
}

impl<M: Memory, D: Machine> Userland<M, D> {
    /// Delivers everything that is pending for a thread; the program's next instruction is then the last handler's.
    pub(crate) fn deliver_signals(&self, cpu: &Cpu, thread: &mut Thread<M>) -> Delivered {
        loop {
            let taken = self.world(cpu).take_signal(thread);
            match taken {
                Taken::Nothing => return Delivered::GoesOn,
                Taken::End => return Delivered::Ends,
                Taken::Handle(info, action) => {
                    leave_call(thread, &action);
                    self.put_held(cpu, thread);
                    if self.enter_handler(cpu, thread, &info, &action).is_err() {
                        self.world(cpu).end_process(thread.process, Exit::Signal(SIGSEGV));
                        return Delivered::Ends;
                    }
                }
            }
        }
    }

    /// Writes the handler's frame and points the registers at it.
    ///
    /// # Errors
    /// EFAULT if the frame does not fit where the stack is, or the program has not said how its handler returns.
    fn enter_handler(
        &self,
        cpu: &Cpu,
        thread: &mut Thread<M>,
        info: &SignalInfo,
        action: &Action,
    ) -> Result<(), Errno> {
        if !action.flags.contains(ActionFlags::RESTORER) {
            return Err(Errno::EFAULT);
        }
        let alt = thread.alt_stack;
        let changes_stack =
            action.flags.contains(ActionFlags::ONSTACK) && alt.bytes != 0 && !alt.contains(thread.registers.rsp);
        let top = changes_stack.then(|| alt.start.saturating_add(alt.bytes));
        let blocked = thread.blocked_before.take().unwrap_or(thread.blocked);
        let frame = Frame::build(&thread.registers, info, (&alt, top), (blocked, action.restorer));
        if changes_stack && frame.at.raw() <= alt.start {
            return Err(Errno::EFAULT);
        }
        let state = *thread.registers.floating_point.bytes();
        self.memory.write_user(cpu, thread.memory(), frame.floating_point, &state)?;
        self.memory.write_user(cpu, thread.memory(), frame.at, &frame.bytes)?;
        if alt.flags & SS_AUTODISARM != 0 {
            thread.alt_stack = AltStack::NONE;
        }
        let registers = &mut thread.registers;
        (registers.rax, registers.rdi) = (0, info.signal.into());
        (registers.rsi, registers.rdx) = (frame.info(), frame.context());
        (registers.rip, registers.rsp) = (action.handler, frame.at.raw());
        // The direction flag and single steps are the interrupted code's.
        registers.set_flags(registers.flags() & !(1 << 8 | 1 << 10));
        registers.entry = Entry::Whole;
        let mut blocked = SignalSet(thread.blocked.0 | action.mask.0);
        if !action.flags.contains(ActionFlags::NODEFER) {
            blocked = blocked.with(info.signal);
        }
        self.set_blocked(cpu, thread, blocked);
        Ok(())
    }

    /// Sets what a thread blocks, in both its parts.
    pub(crate) fn set_blocked(&self, cpu: &Cpu, thread: &mut Thread<M>, blocked: SignalSet) {
        thread.blocked = blocked.without(SignalSet::UNBLOCKABLE);
        let mut world = self.world(cpu);
        if let Some(entry) = world.threads.get_mut(thread.key) {
            entry.blocked = thread.blocked;
        }
        if world.has_signal(thread) {
            self.ask_attention(cpu.id());
        }
    }
}

/// Ends the system call that the signal interrupts: it is made again after the handler, or fails with EINTR.
fn leave_call<M: Memory>(thread: &mut Thread<M>, action: &Action) {
    if !core::mem::take(&mut thread.in_call) {
        return;
    }
    let registers = &mut thread.registers;
    let may_restart = action.flags.contains(ActionFlags::RESTART) && restarts(registers.rax, &thread.progress);
    if may_restart {
        // Back to the two bytes of the syscall instruction; rax still has the number.
        registers.rip = registers.rip.wrapping_sub(2);
    } else {
        registers.rax = match thread.progress.done {
            0 => Errno::EINTR.result(),
            done => done,
        };
    }
    thread.progress = crate::wait::Progress::default();
}
