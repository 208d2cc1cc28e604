//! Waiting for children: wait4 and waitid.
//!
//! Linux 6.12: kernel/exit.c (`kernel_wait4`, `kernel_waitid`, `do_wait`).

use super::{Context, Outcome, Table, add};
use crate::errno::Errno;
use crate::files::OpenFile;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::process::{Exit, Life, Process};
use crate::schedule::Stop;
use crate::signals::{Details, SIGCHLD, SignalInfo, info_words};
use crate::wait::WaitFor;

const WNOHANG: u64 = 1;
const WUNTRACED: u64 = 2;
const WEXITED: u64 = 4;
const WCONTINUED: u64 = 8;
const WNOWAIT: u64 = 0x0100_0000;
/// __WALL, __WCLONE, __WNOTHREAD: all children are waited for alike.
const WAIT_KINDS: u64 = 0xe000_0000;

/// Children that are waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Children {
    Any,
    OwnGroup,
    Group(u32),
    Pid(u32),
}

/// A child that was found: its number, and how it ended.
type Ended = (u32, Exit);

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Adds the calls of this file to the table.
    #[rustfmt::skip]
    pub(super) const fn waiting_calls(table: Table<M, D>) -> Table<M, D> {
        add(table, [
            (61, "wait4", |cx, [pid, status, options, usage, ..]| cx.wait4(pid, status, options, usage)),
            (247, "waitid", |cx, [kind, id, info, options, usage, _]| cx.waitid((kind, id), info, options, usage)),
        ])
    }

    fn wait4(&mut self, pid: u64, status: u64, options: u64, usage: u64) -> Outcome {
        if options & !(WNOHANG | WUNTRACED | WCONTINUED | WAIT_KINDS) != 0 {
            return Err(Errno::EINVAL.into());
        }
        let meant = match pid as i32 {
            -1 => Children::Any,
            0 => Children::OwnGroup,
            group if group < 0 => Children::Group(group.unsigned_abs()),
            pid => Children::Pid(pid.unsigned_abs()),
        };
        let Some((child, exit)) = self.ended_child(meant, options | WEXITED)? else { return Ok(0) };
        if status != 0 {
            self.write_u32(status, exit.status())?;
        }
        self.write_usage(usage)?;
        Ok(child.into())
    }

    fn waitid(&mut self, (kind, id): (u64, u64), info: u64, options: u64, usage: u64) -> Outcome {
        const P_ALL: u64 = 0;
        const P_PID: u64 = 1;
        const P_PGID: u64 = 2;
        const P_PIDFD: u64 = 3;
        let whats = WEXITED | WUNTRACED | WCONTINUED;
        if options & !(whats | WNOHANG | WNOWAIT | WAIT_KINDS) != 0 || options & whats == 0 {
            return Err(Errno::EINVAL.into());
        }
        let mut options = options;
        let mut is_nonblocking = false;
        let meant = match (kind, id as i32) {
            (P_ALL, _) => Children::Any,
            (P_PID, pid) if pid > 0 => Children::Pid(pid.unsigned_abs()),
            (P_PGID, 0) => Children::OwnGroup,
            (P_PGID, group) if group > 0 => Children::Group(group.unsigned_abs()),
            // A process that is gone is nobody's child.
            (P_PIDFD, fd) if fd >= 0 => {
                let pid = match self.pid_of(id) {
                    Err(Errno::ESRCH) => return Err(Errno::ECHILD.into()),
                    pid => pid?,
                };
                is_nonblocking = options & WNOHANG == 0 && self.with_open(id, OpenFile::is_nonblocking)?;
                Children::Pid(pid)
            }
            _ => return Err(Errno::EINVAL.into()),
        };
        if is_nonblocking {
            options |= WNOHANG;
        }
        let words = match self.ended_child(meant, options)? {
            None if is_nonblocking => return Err(Errno::EAGAIN.into()),
            None => [0; 16],
            Some((pid, exit)) => {
                let (code, status) = match exit {
                    Exit::Code(code) => (1, code.into()),
                    Exit::Signal(signal) => (2, signal.into()),
                };
                info_words(&SignalInfo { signal: SIGCHLD, code, details: Details::Child { pid, status } })
            }
        };
        self.write_usage(usage)?;
        if info != 0 {
            self.write_words(info, &words)?;
        }
        Ok(0)
    }

    /// Times are not kept.
    fn write_usage(&self, usage: u64) -> Result<(), Errno> {
        if usage == 0 { Ok(()) } else { self.write_words(usage, &[0; 18]) }
    }

    /// Finds a child that has ended, and takes it out unless it is only looked at; `None` with WNOHANG if there is none yet.
    fn ended_child(&self, meant: Children, options: u64) -> Result<Option<Ended>, Stop> {
        let own = self.thread.process;
        let mut world = self.world();
        let group = world.processes.get(own).ok_or(Errno::ESRCH)?.group;
        let is_meant = |child: &Process| match meant {
            Children::Any => true,
            Children::OwnGroup => child.group == group,
            Children::Group(group) => child.group == group,
            Children::Pid(pid) => child.pid == pid,
        };
        let mut children = world.children(self.thread.pid).filter(|(_, child)| is_meant(child)).peekable();
        if children.peek().is_none() {
            return Err(Errno::ECHILD.into());
        }
        let ended = children.find_map(|(key, child)| match child.life {
            Life::Zombie(exit) if options & WEXITED != 0 => Some((key, child.pid, exit)),
            _ => None,
        });
        drop(children);
        match ended {
            Some((key, child, exit)) => {
                if options & WNOWAIT == 0 {
                    let run = world.processes.remove(key).map_or(0, |child| child.ended_ns + child.children_ns);
                    if let Some(parent) = world.processes.get_mut(own) {
                        parent.children_ns += run;
                    }
                    // A descriptor of it says so.
                    world.wake(WaitFor::Files);
                }
                Ok(Some((child, exit)))
            }
            None if options & WNOHANG != 0 => Ok(None),
            None => Err(Stop::Wait(world.wait_for(WaitFor::Child(own)))),
        }
    }
}
