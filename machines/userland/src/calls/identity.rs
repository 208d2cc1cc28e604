//! Who one is: numbers of processes, users, groups and sessions, the machine's name, umask, random numbers.
//!
//! Linux 6.12: kernel/sys.c, kernel/groups.c. Everybody is root.

use super::{Context, Outcome, Table, add};
use crate::errno::Errno;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::slots::zeros;
use crate::user_memory::{CHUNK, UserBuffer};

/// Bytes of a field of struct utsname.
const UTS_FIELD: usize = 65;
/// System, node, release, version, machine, domain. The release is the one whose rules apply.
const UTS: [&str; 6] = ["Linux", "mmkit", "6.12.0-mmkit", "#1 SMP", "x86_64", "(none)"];

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Adds the calls of this file to the table.
    #[rustfmt::skip]
    pub(super) const fn identity_calls(table: Table<M, D>) -> Table<M, D> {
        add(table, [
            (39, "getpid", |cx, _| Ok(cx.thread.pid.into())),
            (63, "uname", |cx, [to, ..]| cx.uname(to)),
            (95, "umask", |cx, [mask, ..]| {
                    Ok(cx.with_process(|process| core::mem::replace(&mut process.umask, mask as u32 & 0o777))?.into())
                }),
            (102, "getuid", |_, _| Ok(0)),
            (104, "getgid", |_, _| Ok(0)),
            (105, "setuid", |_, [id, ..]| only_root(&[id])),
            (106, "setgid", |_, [id, ..]| only_root(&[id])),
            (107, "geteuid", |_, _| Ok(0)),
            (108, "getegid", |_, _| Ok(0)),
            (109, "setpgid", |cx, [pid, group, ..]| cx.setpgid(pid, group)),
            (110, "getppid", |cx, _| Ok(cx.thread.parent.into())),
            (111, "getpgrp", |cx, _| Ok(cx.with_process(|process| process.group)?.into())),
            (112, "setsid", |cx, _| cx.setsid()),
            (113, "setreuid", |_, [real, effective, ..]| only_root(&[real, effective])),
            (114, "setregid", |_, [real, effective, ..]| only_root(&[real, effective])),
            (115, "getgroups", |_, _| Ok(0)),
            (117, "setresuid", |_, [real, effective, saved, ..]| only_root(&[real, effective, saved])),
            (118, "getresuid", |cx, [real, effective, saved, ..]| cx.write_ids([real, effective, saved])),
            (119, "setresgid", |_, [real, effective, saved, ..]| only_root(&[real, effective, saved])),
            (120, "getresgid", |cx, [real, effective, saved, ..]| cx.write_ids([real, effective, saved])),
            (121, "getpgid", |cx, [pid, ..]| cx.of_process(pid, |process| process.group)),
            (124, "getsid", |cx, [pid, ..]| cx.of_process(pid, |process| process.session)),
            (186, "gettid", |cx, _| Ok(cx.thread.tid.into())),
            (318, "getrandom", |cx, [addr, bytes, flags, ..]| cx.getrandom(UserBuffer { addr, bytes }, flags)),
        ])
    }

    fn uname(&mut self, to: u64) -> Outcome {
        let mut text = [0; UTS_FIELD * UTS.len()];
        for (field, value) in text.chunks_exact_mut(UTS_FIELD).zip(UTS) {
            for (place, byte) in field.iter_mut().zip(value.bytes()) {
                *place = byte;
            }
        }
        self.write(to, &text)?;
        Ok(0)
    }

    fn write_ids(&mut self, places: [u64; 3]) -> Outcome {
        for place in places {
            self.write_u32(place, 0)?;
        }
        Ok(0)
    }

    /// Looks at a process by number; 0 is the caller's.
    fn of_process(&mut self, pid: u64, field: impl FnOnce(&crate::process::Process) -> u32) -> Outcome {
        let world = self.world();
        let key = match pid as u32 {
            0 => self.thread.process,
            pid => world.process_of(pid).ok_or(Errno::ESRCH)?,
        };
        Ok(world.processes.get(key).map(field).ok_or(Errno::ESRCH)?.into())
    }

    fn setpgid(&mut self, pid: u64, group: u64) -> Outcome {
        if (group as i32) < 0 {
            return Err(Errno::EINVAL.into());
        }
        let own = self.thread.pid;
        let mut world = self.world();
        let pid = if pid as u32 == 0 { own } else { pid as u32 };
        let group = if group as u32 == 0 { pid } else { group as u32 };
        let key = world.process_of(pid).ok_or(Errno::ESRCH)?;
        let session = world.processes.get(self.thread.process).ok_or(Errno::ESRCH)?.session;
        let has_group = group == pid
            || world.processes.iter().any(|(_, process)| process.group == group && process.session == session);
        let process = world.processes.get_mut(key).ok_or(Errno::ESRCH)?;
        if pid != own && process.parent != own {
            return Err(Errno::ESRCH.into());
        }
        if process.session != session || process.session == pid || !has_group {
            return Err(Errno::EPERM.into());
        }
        process.group = group;
        Ok(0)
    }

    fn setsid(&mut self) -> Outcome {
        let own = self.thread.pid;
        let mut world = self.world();
        if world.processes.iter().any(|(_, process)| process.group == own) {
            return Err(Errno::EPERM.into());
        }
        let process = world.processes.get_mut(self.thread.process).ok_or(Errno::ESRCH)?;
        (process.session, process.group) = (own, own);
        Ok(own.into())
    }

    fn getrandom(&mut self, buffer: UserBuffer, flags: u64) -> Outcome {
        if flags & !7 != 0 {
            return Err(Errno::EINVAL.into());
        }
        let mut chunk = zeros(buffer.bytes.min(CHUNK as u64) as usize)?;
        let bytes = buffer.bytes.min(i32::MAX as u64);
        let mut done = 0;
        while done < bytes {
            let count = (bytes - done).min(CHUNK as u64) as usize;
            let piece = chunk.get_mut(..count).unwrap_or_default();
            self.fill_randomly(piece);
            let at = buffer.addr.wrapping_add(done);
            match self.write(at, chunk.get(..count).unwrap_or_default()) {
                Ok(()) => done += count as u64,
                Err(error) if done == 0 => return Err(error.into()),
                Err(_) => break,
            }
        }
        Ok(done)
    }
}

/// Changing to root, which everybody is, works; to another user it does not. -1 leaves an id as it is.
fn only_root(ids: &[u64]) -> Outcome {
    if ids.iter().all(|&id| matches!(id as u32, 0 | u32::MAX)) { Ok(0) } else { Err(Errno::EINVAL.into()) }
}
