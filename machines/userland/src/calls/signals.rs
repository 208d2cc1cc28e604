//! Signals as calls: handlers, masks, sending, waiting, the alternate stack, going back.
//!
//! Linux 6.12: kernel/signal.c, arch/x86/kernel/signal_64.c.

use units::VirtAddr;

use super::{Context, Outcome, Table, add};
use crate::errno::Errno;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::registers::FX_BYTES;
use crate::schedule::Stop;
use crate::signals::{
    Action, ActionFlags, AltStack, Details, RESTORE_BYTES, SI_TKILL, SI_USER, SIGKILL, SIGSEGV, SIGSTOP, SS_AUTODISARM,
    SS_DISABLE, SignalInfo, SignalSet, info_words, restore, restore_floating_point, signal_number,
};
use crate::wait::{Wait, WaitFor};

/// Bytes of a signal set.
const SET_BYTES: u64 = 8;
/// Smallest alternate stack (MINSIGSTKSZ).
const MIN_STACK: u64 = 2048;

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Adds the calls of this file to the table.
    #[rustfmt::skip]
    pub(super) const fn signals_calls(table: Table<M, D>) -> Table<M, D> {
        add(table, [
            (13, "rt_sigaction", |cx, [signal, new, old, bytes, ..]| cx.sigaction(signal, new, old, bytes)),
            (14, "rt_sigprocmask", |cx, [how, new, old, bytes, ..]| cx.sigprocmask(how, new, old, bytes)),
            (15, "rt_sigreturn", |cx, _| cx.sigreturn()),
            (34, "pause", |cx, _| Err(Stop::Wait(cx.world().wait_for(WaitFor::Signal)))),
            (62, "kill", |cx, [pid, signal, ..]| cx.kill(pid, signal)),
            (127, "rt_sigpending", |cx, [to, bytes, ..]| cx.sigpending(to, bytes)),
            (128, "rt_sigtimedwait", |cx, [set, info, timeout, bytes, ..]| cx.sigtimedwait(set, info, timeout, bytes)),
            (130, "rt_sigsuspend", |cx, [mask, bytes, ..]| cx.sigsuspend(mask, bytes)),
            (131, "sigaltstack", |cx, [new, old, ..]| cx.sigaltstack(new, old)),
            (200, "tkill", |cx, [tid, signal, ..]| cx.tgkill(None, tid, signal)),
            (234, "tgkill", |cx, [pid, tid, signal, ..]| cx.tgkill(Some(pid as u32), tid, signal)),
        ])
    }

    fn sigaction(&mut self, signal: u64, new: u64, old: u64, bytes: u64) -> Outcome {
        let signal = signal_number(signal).ok_or(Errno::EINVAL)?;
        if bytes != SET_BYTES || new != 0 && matches!(signal, SIGKILL | SIGSTOP) {
            return Err(Errno::EINVAL.into());
        }
        let wanted = match new {
            0 => None,
            _ => {
                let [handler, flags, restorer, mask] = self.read_words(new)?;
                let mask = SignalSet(mask).without(SignalSet::UNBLOCKABLE);
                Some(Action { handler, flags: ActionFlags::from_bits_retain(flags), restorer, mask })
            }
        };
        let before = {
            let mut world = self.world();
            let process = world.processes.get_mut(self.thread.process).ok_or(Errno::ESRCH)?;
            let before = process.actions.get(signal);
            if let Some(action) = wanted {
                process.actions.set(signal, action);
                world.forget_ignored(self.thread.process, signal);
            }
            before
        };
        if old != 0 {
            self.write_words(old, &[before.handler, before.flags.bits(), before.restorer, before.mask.0])?;
        }
        Ok(0)
    }

    fn read_set(&self, addr: u64, bytes: u64) -> Result<SignalSet, Errno> {
        if bytes != SET_BYTES {
            return Err(Errno::EINVAL);
        }
        let [set] = self.read_words(addr)?;
        Ok(SignalSet(set).without(SignalSet::UNBLOCKABLE))
    }

    fn sigprocmask(&mut self, how: u64, new: u64, old: u64, bytes: u64) -> Outcome {
        const BLOCK: u64 = 0;
        const UNBLOCK: u64 = 1;
        const SETMASK: u64 = 2;
        if bytes != SET_BYTES {
            return Err(Errno::EINVAL.into());
        }
        let before = self.thread.blocked;
        if new != 0 {
            let set = self.read_set(new, bytes)?;
            let blocked = match how {
                BLOCK => SignalSet(before.0 | set.0),
                UNBLOCK => before.without(set),
                SETMASK => set,
                _ => return Err(Errno::EINVAL.into()),
            };
            self.userland.set_blocked(self.cpu, self.thread, blocked);
        }
        if old != 0 {
            self.write_words(old, &[before.0])?;
        }
        Ok(0)
    }

    /// Goes back to what a handler interrupted. A frame that cannot be read ends the process, as in Linux.
    fn sigreturn(&mut self) -> Outcome {
        // The return address was popped off the frame.
        let frame = self.thread.registers.rsp;
        let mut bytes = [0; RESTORE_BYTES];
        let taken = self.read(frame, &mut bytes).and_then(|()| {
            let restored = restore(&mut self.thread.registers, &bytes)?;
            if restored.floating_point != 0 {
                let mut state = [0; FX_BYTES];
                self.read(restored.floating_point, &mut state)?;
                restore_floating_point(&mut self.thread.registers, state);
            }
            Ok(restored)
        });
        match taken {
            Ok(restored) => {
                // What the frame says of the stack counts only if it is a stack, as in Linux.
                if let Ok(stack) = checked_stack(restored.alt_stack) {
                    self.thread.alt_stack = stack;
                }
                self.userland.set_blocked(self.cpu, self.thread, restored.blocked);
            }
            Err(_) => {
                let details = Details::Fault(VirtAddr::ZERO);
                let info = SignalInfo { details, ..SignalInfo::from_kernel(SIGSEGV) };
                self.world().force_signal(self.thread.key, info);
                self.userland.ask_attention(self.cpu.id());
            }
        }
        Err(Stop::RegistersSet)
    }

    fn sigpending(&mut self, to: u64, bytes: u64) -> Outcome {
        if bytes > SET_BYTES {
            return Err(Errno::EINVAL.into());
        }
        let pending = {
            let world = self.world();
            let own = world.threads.get(self.thread.key).map_or(0, |entry| entry.pending.set().0);
            let shared = world.processes.get(self.thread.process).map_or(0, |process| process.pending.set().0);
            (own | shared) & self.thread.blocked.0
        };
        self.write_words(to, &[pending])?;
        Ok(0)
    }

    fn sigtimedwait(&mut self, set: u64, to: u64, timeout: u64, bytes: u64) -> Outcome {
        let wanted = self.read_set(set, bytes)?;
        let timeout = self.read_optional_timespec(timeout)?;
        let now = self.userland.machine().now_ns();
        let deadline = self.thread.progress.deadline.or(timeout.map(|timeout| now.saturating_add(timeout)));
        self.thread.progress.deadline = deadline;
        let taken = {
            let mut world = self.world();
            let own = world.threads.get_mut(self.thread.key).and_then(|entry| entry.pending.take_wanted(wanted));
            own.or_else(|| world.processes.get_mut(self.thread.process)?.pending.take_wanted(wanted))
        };
        if let Some(info) = taken {
            if to != 0 {
                self.write_words(to, &info_words(&info))?;
            }
            return Ok(info.signal.into());
        }
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Errno::EAGAIN.into());
        }
        let wait = self.world().wait_for(WaitFor::Wanted(wanted));
        Err(Stop::Wait(Wait { deadline, ..wait }))
    }

    fn sigsuspend(&mut self, mask: u64, bytes: u64) -> Outcome {
        if !self.thread.in_call {
            let mask = self.read_set(mask, bytes)?;
            self.thread.blocked_before = Some(self.thread.blocked);
            self.userland.set_blocked(self.cpu, self.thread, mask);
        }
        Err(Stop::Wait(self.world().wait_for(WaitFor::Signal)))
    }

    fn sigaltstack(&mut self, new: u64, old: u64) -> Outcome {
        let (before, rsp) = (self.thread.alt_stack, self.thread.registers.rsp);
        if new != 0 {
            let [start, flags, bytes] = self.read_words(new)?;
            if before.contains(rsp) {
                return Err(Errno::EPERM.into());
            }
            self.thread.alt_stack = checked_stack(AltStack { start, bytes, flags: flags as u32 & !1 })?;
        }
        if old != 0 {
            self.write_words(old, &[before.start, before.shown_flags(rsp).into(), before.bytes])?;
        }
        Ok(0)
    }

    fn kill(&mut self, pid: u64, signal: u64) -> Outcome {
        let pid = pid as i32;
        let signal = optional_signal(signal)?;
        let own = self.thread.pid;
        let info = signal.map(|signal| SignalInfo { signal, code: SI_USER, details: Details::Sender(own) });
        let mut world = self.world();
        let group = world.processes.get(self.thread.process).ok_or(Errno::ESRCH)?.group;
        let found = match pid {
            0 => world.send_to_group(group, info),
            -1 => world.send_to_all(|process| process.pid != 1 && process.pid != own, info),
            pid if pid < 0 => world.send_to_group(pid.unsigned_abs(), info),
            pid => world.send_to_all(|process| process.pid == pid.unsigned_abs(), info),
        };
        if found { Ok(0) } else { Err(Errno::ESRCH.into()) }
    }

    fn tgkill(&mut self, pid: Option<u32>, tid: u64, signal: u64) -> Outcome {
        let is_number = |id: u32| id as i32 > 0;
        if !is_number(tid as u32) || pid.is_some_and(|pid| !is_number(pid)) {
            return Err(Errno::EINVAL.into());
        }
        let signal = optional_signal(signal)?;
        let own = self.thread.pid;
        let mut world = self.world();
        let key = world.thread_of(tid as u32).ok_or(Errno::ESRCH)?;
        let owner =
            world.threads.get(key).and_then(|entry| world.processes.get(entry.process)).ok_or(Errno::ESRCH)?.pid;
        if pid.is_some_and(|pid| pid != owner) {
            return Err(Errno::ESRCH.into());
        }
        if let Some(signal) = signal {
            world.send_to_thread(key, SignalInfo { signal, code: SI_TKILL, details: Details::Sender(own) });
        }
        Ok(0)
    }
}

/// Takes a signal's number, or 0 for the check alone.
fn optional_signal(raw: u64) -> Result<Option<u8>, Errno> {
    if raw as u32 == 0 { Ok(None) } else { signal_number(u64::from(raw as u32)).map(Some).ok_or(Errno::EINVAL) }
}

/// Checks an alternate stack.
///
/// # Errors
/// EINVAL for unknown flags, ENOMEM for one that is too small.
fn checked_stack(stack: AltStack) -> Result<AltStack, Errno> {
    match stack.flags & !SS_AUTODISARM {
        SS_DISABLE => Ok(AltStack { flags: stack.flags, ..AltStack::NONE }),
        0 if stack.bytes < MIN_STACK => Err(Errno::ENOMEM),
        0 => Ok(stack),
        _ => Err(Errno::EINVAL),
    }
}
