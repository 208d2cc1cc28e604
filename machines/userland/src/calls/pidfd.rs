//! Processes by descriptor: pidfd_open, pidfd_send_signal, process_mrelease, and the descriptor that clone makes with the process.
//!
//! Linux 6.12: kernel/pid.c, kernel/signal.c (`pidfd_send_signal`), kernel/fork.c (`pidfd_prepare`), mm/oom_kill.c.

use super::{Context, Outcome, Table, add};
use crate::errno::Errno;
use crate::files::{Descriptor, NOBODY, OpenFlags, OpenKey, ProcNode, Target};
use crate::machine::Machine;
use crate::memory::{Memory, SpaceCall};
use crate::process::{Life, ProcessKey};
use crate::signals::{Details, SI_TKILL, SI_USER, SignalInfo, signal_number};
use crate::thread::ThreadKey;
use crate::user_memory::open_flags;
use crate::world::World;

/// Who gets a signal that is sent by descriptor (PIDFD_SIGNAL_).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Receiver {
    Thread,
    Process,
    Group,
}

/// Who a descriptor says is to get a signal: a process, and a thread, if the descriptor is of one.
type Addressee<M> = (Option<ProcessKey>, Option<Option<ThreadKey<M>>>);

/// Asks pidfd_open for a thread.
const PIDFD_THREAD: OpenFlags = OpenFlags::EXCL;

/// A descriptor of a process that is about to be made: nobody's until then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reserved {
    pub(super) fd: u64,
    /// Has a user beside the descriptor until the process is there.
    pub(super) file: OpenKey,
}

impl<M: Memory> World<M> {
    /// Returns the process that has a serial number.
    pub(super) fn by_serial(&self, serial: u64) -> Option<ProcessKey> {
        self.processes.iter().find(|(_, process)| process.serial == serial).map(|(key, _)| key)
    }

    /// Returns the thread that has a serial number.
    pub(super) fn thread_by_serial(&self, serial: u64) -> Option<ThreadKey<M>> {
        self.threads.iter().find(|(_, thread)| thread.serial == serial).map(|(key, _)| key)
    }

    /// Returns what a descriptor of a thread is of.
    fn thread_target(&self, key: ThreadKey<M>) -> Result<Target, Errno> {
        let thread = self.threads.get(key).ok_or(Errno::ESRCH)?;
        let process = self.processes.get(thread.process).ok_or(Errno::ESRCH)?;
        Ok(Target::Thread(thread.serial, if process.pid == thread.tid { process.serial } else { NOBODY }))
    }
}

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Adds the calls of this file to the table.
    #[rustfmt::skip]
    pub(super) const fn pidfd_calls(table: Table<M, D>) -> Table<M, D> {
        add(table, [
            (424, "pidfd_send_signal", |cx, [pidfd, signal, info, flags, ..]| cx.pidfd_send_signal(pidfd, signal, info, flags)),
            (434, "pidfd_open", |cx, [pid, flags, ..]| cx.pidfd_open(pid, flags)),
            (448, "process_mrelease", |cx, [pidfd, flags, ..]| cx.process_mrelease(pidfd, flags)),
        ])
    }

    /// Opens a process by its number, or a single thread with PIDFD_THREAD. A first thread that has ended before its process cannot be opened by itself.
    fn pidfd_open(&mut self, pid: u64, flags: u64) -> Outcome {
        let known = OpenFlags::NONBLOCK | PIDFD_THREAD;
        if !known.contains(open_flags(flags)) || (pid as i32) <= 0 {
            return Err(Errno::EINVAL.into());
        }
        let mut world = self.world();
        if open_flags(flags).contains(PIDFD_THREAD) {
            let key = world.thread_of(pid as u32).ok_or(Errno::ESRCH)?;
            let target = world.thread_target(key)?;
            let flags = open_flags(flags) | OpenFlags::RDWR | OpenFlags::CLOEXEC;
            return Ok(self.open_target(&mut world, target, flags)?);
        }
        let Some(key) = world.process_of(pid as u32) else {
            // A thread that is not its process's first.
            let is_thread = world.thread_of(pid as u32).is_some();
            return Err(if is_thread { Errno::EINVAL } else { Errno::ESRCH }.into());
        };
        let serial = world.processes.get(key).ok_or(Errno::ESRCH)?.serial;
        let flags = open_flags(flags) | OpenFlags::RDWR | OpenFlags::CLOEXEC;
        Ok(self.open_target(&mut world, Target::Process(serial), flags)?)
    }

    /// Takes the memory of a process that is ended, if all who share it are.
    fn process_mrelease(&mut self, pidfd: u64, flags: u64) -> Outcome {
        if flags as u32 != 0 {
            return Err(Errno::EINVAL.into());
        }
        let process = self.process_behind(pidfd)?;
        let space = self.ending_space(process)?;
        let memory = self.userland.memory();
        let reaped = self.with_memory_of(
            |world| world.sharer(space),
            |mm, caller| memory.call(self.cpu, mm, caller, &SpaceCall::Reap),
        );
        // One that has ended meanwhile has given it back itself.
        Ok(reaped.unwrap_or(Ok(0))?)
    }

    /// Returns the number of the address space of a process that is ended.
    ///
    /// # Errors
    /// ESRCH if it has none any more, EINVAL while somebody who is in it goes on (Linux: `task_will_free_mem`).
    fn ending_space(&self, process: ProcessKey) -> Result<u64, Errno> {
        let world = self.world();
        let owned = world.threads.iter().filter(|(_, thread)| thread.process == process);
        let mut spaces = owned.filter_map(|(_, thread)| thread.space.as_ref());
        let space = spaces.next().ok_or(Errno::ESRCH)?.number;
        let mut sharers = world.threads.iter().filter(|(_, thread)| {
            let number = thread.space.as_ref().map(|other| other.number);
            number == Some(space)
        });
        let ends = |process| world.processes.get(process).is_none_or(|process| process.life != Life::Runs);
        if sharers.all(|(_, thread)| ends(thread.process)) { Ok(space) } else { Err(Errno::EINVAL) }
    }

    /// Returns the process that a descriptor is of.
    ///
    /// # Errors
    /// EBADF for a descriptor of something else, ESRCH if the process is gone.
    pub(super) fn process_behind(&self, pidfd: u64) -> Result<ProcessKey, Errno> {
        let serial = match self.with_open(pidfd, |open| open.target)? {
            // Of another thread than the first there is no process.
            Target::Process(serial) | Target::Thread(_, serial) => serial,
            _ => return Err(Errno::EBADF),
        };
        self.world().by_serial(serial).ok_or(Errno::ESRCH)
    }

    /// Returns the number of the process that a descriptor is of.
    ///
    /// # Errors
    /// As [`Self::process_behind`].
    pub(super) fn pid_of(&self, pidfd: u64) -> Result<u32, Errno> {
        let key = self.process_behind(pidfd)?;
        self.world().processes.get(key).map(|process| process.pid).ok_or(Errno::ESRCH)
    }

    /// Makes the descriptor of a process that does not exist yet, and writes its number.
    ///
    /// # Errors
    /// EFAULT, EMFILE, ENFILE, ENOMEM; then there is none.
    pub(super) fn reserve_pidfd(&mut self, to: u64) -> Result<Reserved, Errno> {
        let reserved = {
            let mut world = self.world();
            let flags = OpenFlags::RDWR | OpenFlags::CLOEXEC;
            let fd = self.open_target(&mut world, Target::Process(NOBODY), flags)?;
            let Descriptor { file, .. } =
                world.processes.get(self.thread.process).ok_or(Errno::ESRCH)?.descriptors.get(fd)?;
            world.files.get(file);
            Reserved { fd, file }
        };
        match self.write_u32(to, reserved.fd as u32) {
            Ok(()) => Ok(reserved),
            Err(error) => {
                self.release_pidfd(reserved);
                Err(error)
            }
        }
    }

    /// Makes a reserved descriptor that of a process.
    pub(super) fn fill_pidfd(&self, reserved: Reserved, process: ProcessKey) {
        let mut world = self.world();
        let serial = world.processes.get(process).map_or(NOBODY, |process| process.serial);
        if let Some(open) = world.files.open.get_mut(reserved.file) {
            open.target = Target::Process(serial);
        }
        world.put_open(reserved.file);
    }

    /// Closes a reserved descriptor, unless another thread has put something else in its place.
    pub(super) fn release_pidfd(&self, reserved: Reserved) {
        let mut world = self.world();
        let closed = world.processes.get_mut(self.thread.process).and_then(|process| {
            let is_still = process.descriptors.get(reserved.fd).is_ok_and(|now| now.file == reserved.file);
            is_still.then(|| process.descriptors.remove(reserved.fd).ok())?
        });
        if closed.is_some() {
            world.put_open(reserved.file);
        }
        world.put_open(reserved.file);
    }

    /// Returns the process that a signal to a descriptor is for, and its thread of a descriptor of that: a pidfd, or an open directory /proc/PID.
    fn addressee(&self, pidfd: u64) -> Result<Addressee<M>, Errno> {
        let (target, flags, subject) = self.with_open(pidfd, |open| (open.target, open.flags, open.subject))?;
        let serial = match target {
            Target::Thread(serial, _) => {
                let world = self.world();
                let key = world.thread_by_serial(serial);
                return Ok((key.and_then(|key| Some(world.threads.get(key)?.process)), Some(key)));
            }
            Target::Process(serial) => serial,
            Target::Proc(ProcNode::Process(_)) if !flags.contains(OpenFlags::PATH) => subject.process,
            _ => return Err(Errno::EBADF),
        };
        Ok((self.world().by_serial(serial), None))
    }

    /// Sends a signal with what the caller says of it, or as kill does. Nobody can say of a signal to others that the kernel or kill sent it.
    fn pidfd_send_signal(&mut self, pidfd: u64, signal: u64, info: u64, flags: u64) -> Outcome {
        let receiver = match flags as u32 {
            0 | 2 => Receiver::Process,
            1 => Receiver::Thread,
            4 => Receiver::Group,
            _ => return Err(Errno::EINVAL.into()),
        };
        let (to, thread) = self.addressee(pidfd)?;
        let receiver = if thread.is_some() && flags as u32 == 0 { Receiver::Thread } else { receiver };
        let said = match info {
            0 => None,
            _ => Some(self.read_words::<4>(info)?),
        };
        let code = match said {
            None if receiver == Receiver::Thread => SI_TKILL,
            None => SI_USER,
            Some([number, code, ..]) => {
                if number as u32 != signal as u32 {
                    return Err(Errno::EINVAL.into());
                }
                let code = code as i32;
                let is_callers = thread.is_none_or(|thread| thread == Some(self.thread.key));
                let is_own = to == Some(self.thread.process) && is_callers && receiver != Receiver::Group;
                if !is_own && (code >= 0 || code == SI_TKILL) {
                    return Err(Errno::EPERM.into());
                }
                code
            }
        };
        let details =
            said.map_or(Details::Sender(self.thread.pid), |[_, _, first, second]| Details::Said(first, second));
        let to = to.ok_or(Errno::ESRCH)?;
        let signal = match signal as u32 {
            0 => None,
            signal => Some(signal_number(signal.into()).ok_or(Errno::EINVAL)?),
        };
        let info = signal.map(|signal| SignalInfo { signal, code, details });
        self.send_to((to, thread.flatten()), receiver, info)
    }

    /// Sends a signal, or looks whether anybody is there.
    fn send_to(
        &self,
        (to, thread): (ProcessKey, Option<ThreadKey<M>>),
        receiver: Receiver,
        info: Option<SignalInfo>,
    ) -> Outcome {
        let mut world = self.world();
        match receiver {
            Receiver::Process => {
                if let Some(info) = info {
                    world.send_to_process(to, info);
                }
                Ok(0)
            }
            Receiver::Thread => {
                // Also once it has ended, as long as the process is known.
                if let (Some(info), Some(thread)) = (info, thread.or_else(|| world.first_thread(to))) {
                    world.send_to_thread(thread, info);
                }
                Ok(0)
            }
            Receiver::Group => {
                let tid = thread.and_then(|thread| world.threads.get(thread)).map(|thread| thread.tid);
                let group = tid.unwrap_or(world.processes.get(to).ok_or(Errno::ESRCH)?.pid);
                if world.send_to_group(group, info) { Ok(0) } else { Err(Errno::ESRCH.into()) }
            }
        }
    }
}
