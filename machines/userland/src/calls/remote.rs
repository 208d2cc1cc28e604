//! The memory of other processes: process_madvise, process_vm_readv and process_vm_writev, and how all calls and files reach it.
//!
//! A process's address space is found through its first thread, as Linux's is through the task of that number; it has one more user while somebody works on it.
//! Linux 6.12: mm/madvise.c, mm/process_vm_access.c, kernel/fork.c (`mm_access`).

use address_space::{Advice, Process as Caller, Whose};
use kernel_mm::Reach;
use units::VirtAddr;

use super::{Context, Outcome, Table, add};
use crate::errno::Errno;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::process::ProcessKey;
use crate::thread::ThreadKey;
use crate::user_memory::{CHUNK, UserBuffer};
use crate::world::World;

/// Which way bytes go between the caller and another process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    FromOther,
    ToOther,
}

/// What is left of a list of parts of memory.
struct Rest<'a> {
    parts: &'a [UserBuffer],
    /// Bytes of the first part that were taken.
    taken: u64,
}

impl Rest<'_> {
    /// Returns the place of the next byte, and how many follow in its part up to the end of its page.
    fn next(&mut self) -> Option<(u64, u64)> {
        while let Some((first, rest)) = self.parts.split_first() {
            if self.taken < first.bytes {
                let addr = first.addr.wrapping_add(self.taken);
                return Some((addr, (first.bytes - self.taken).min(CHUNK as u64 - addr % CHUNK as u64)));
            }
            (self.parts, self.taken) = (rest, 0);
        }
        None
    }
}

impl<M: Memory> World<M> {
    /// Returns the thread that has its process's number, whose address space is the process's for others.
    pub(crate) fn first_thread(&self, process: ProcessKey) -> Option<ThreadKey<M>> {
        let key = self.thread_of(self.processes.get(process)?.pid)?;
        self.threads.get(key).filter(|thread| thread.process == process).map(|_| key)
    }
}

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Adds the calls of this file to the table.
    #[rustfmt::skip]
    pub(super) const fn remote_calls(table: Table<M, D>) -> Table<M, D> {
        add(table, [
            (310, "process_vm_readv", |cx, arguments| cx.process_vm(arguments, Direction::FromOther)),
            (311, "process_vm_writev", |cx, arguments| cx.process_vm(arguments, Direction::ToOther)),
            (440, "process_madvise", |cx, [pidfd, parts, count, advice, flags, _]| {
                    cx.process_madvise(pidfd, (parts, count), advice, flags)
                }),
        ])
    }

    /// Looks at the address space of a thread, for who it is there; `None` if there is no such thread or it has none any more.
    pub(super) fn with_memory_of<R>(
        &self,
        find: impl FnOnce(&World<M>) -> Option<ThreadKey<M>>,
        look: impl FnOnce(&M::Mm, &Caller) -> R,
    ) -> Option<R> {
        let memory = self.userland.memory();
        let (mm, caller) = {
            let world = self.world();
            let thread = world.threads.get(find(&world)?)?;
            let caller = world.processes.get(thread.process)?.caller();
            (memory.mmget(&thread.space.as_ref()?.mm), caller)
        };
        let result = look(&mm, &caller);
        memory.mmput(self.cpu, mm);
        Some(result)
    }

    /// Advises on the ranges one by one; an error after the first counts what was done.
    fn process_madvise(&mut self, pidfd: u64, (parts, count): (u64, u64), advice: u64, flags: u64) -> Outcome {
        if flags != 0 {
            return Err(Errno::EINVAL.into());
        }
        let parts = self.read_parts(parts, count)?;
        let process = self.process_behind(pidfd)?;
        let advice = Advice::try_new(advice as u32).ok().filter(|advice| advice.is_hint()).ok_or(Errno::EINVAL)?;
        let memory = self.userland.memory();
        let own = memory.identity(&self.thread.mm);
        let advised = self.with_memory_of(
            |world| world.first_thread(process),
            |mm, _| {
                let whose = if memory.identity(mm) == own { Whose::Own } else { Whose::Other };
                let mut ranges = parts.iter().map(|part| (VirtAddr::new(part.addr), part.bytes));
                memory.process_madvise(self.cpu, (mm, &self.thread.caller), &mut ranges, (advice, whose))
            },
        );
        Ok(advised.ok_or(Errno::ESRCH)??)
    }

    fn process_vm(&mut self, arguments: [u64; 6], direction: Direction) -> Outcome {
        let [tid, own, nr_own, other, nr_other, flags] = arguments;
        if flags != 0 {
            return Err(Errno::EINVAL.into());
        }
        let own = self.read_parts(own, nr_own)?;
        if own.iter().all(|part| part.bytes == 0) {
            return Ok(0);
        }
        let other = self.read_remote_parts(other, nr_other)?;
        if other.iter().all(|part| part.bytes == 0) {
            return Ok(0);
        }
        let moved = self.with_memory_of(
            |world| world.thread_of(tid as u32),
            |mm, caller| self.move_bytes(&own, (mm, caller, &other), direction),
        );
        Ok(moved.ok_or(Errno::ESRCH)??)
    }

    /// Moves bytes page by page, up to the end of either list or the first that cannot be reached; an error only if there were none before.
    fn move_bytes(
        &self,
        own: &[UserBuffer],
        (mm, caller, other): (&M::Mm, &Caller, &[UserBuffer]),
        direction: Direction,
    ) -> Result<u64, Errno> {
        let mut own = Rest { parts: own, taken: 0 };
        let mut other = Rest { parts: other, taken: 0 };
        let memory = self.userland.memory();
        let mut buffer = [0; CHUNK];
        let mut done = 0;
        while let (Some((here, here_bytes)), Some((there, there_bytes))) = (own.next(), other.next()) {
            let count = here_bytes.min(there_bytes);
            let chunk = buffer.get_mut(..count as usize).unwrap_or_default();
            let at = VirtAddr::new(there);
            let moved = match direction {
                Direction::FromOther => memory
                    .read_remote(self.cpu, (mm, caller), at, chunk, Reach::Allowed)
                    .map_err(Errno::from)
                    .and_then(|()| self.write(here, chunk)),
                Direction::ToOther => self.read(here, chunk).and_then(|()| {
                    memory.write_remote(self.cpu, (mm, caller), at, chunk, Reach::Allowed).map_err(Errno::from)
                }),
            };
            match moved {
                Ok(()) => done += count,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
            own.taken += count;
            other.taken += count;
        }
        Ok(done)
    }
}
