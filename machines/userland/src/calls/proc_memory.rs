//! Files of /proc/PID that are a process's memory or act on it: mem, pagemap, clear_refs, and its arguments and environment.
//!
//! mem, pagemap and environ are about the address space that the process had when they were opened, as long as somebody is in it; the others about what it
//! has now. Linux 6.12: fs/proc/base.c (`mem_rw`, `environ_read`, `get_mm_cmdline`), fs/proc/task_mmu.c (`pagemap_read`, `clear_refs_write`).

use alloc::vec::Vec;

use address_space::{BadClearRefs, ClearRefs, Process as Caller};
use kernel_mm::Reach;
use units::{VirtAddr, VirtRange};

use super::Context;
use crate::errno::Errno;
use crate::files::Subject;
use crate::machine::Machine;
use crate::memory::{Memory, SpaceCall};
use crate::process::ProcessKey;
use crate::slots::{extend, push};
use crate::thread::ThreadKey;
use crate::user_memory::{CHUNK, PROGRAM_END, UserBuffer};
use crate::world::World;

/// Bytes of an entry of pagemap.
const ENTRY: u64 = 8;

impl<M: Memory> World<M> {
    /// Returns a thread that is in an address space.
    pub(super) fn sharer(&self, space: u64) -> Option<ThreadKey<M>> {
        let is_in = |number: u64| number == space && number != 0;
        self.threads
            .iter()
            .find(|(_, thread)| thread.space.as_ref().is_some_and(|one| is_in(one.number)))
            .map(|it| it.0)
    }
}

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Calls `visit` with each part of a range that lies in one page, until it fails; returns how many bytes it did not fail for.
    fn each_page(start: u64, bytes: usize, mut visit: impl FnMut(VirtAddr, core::ops::Range<usize>) -> bool) -> usize {
        let mut at = 0;
        while at < bytes {
            let Some(addr) = start.checked_add(at as u64) else { break };
            let end = bytes.min(at + (CHUNK - (addr % CHUNK as u64) as usize));
            if !visit(VirtAddr::new(addr), at..end) {
                break;
            }
            at = end;
        }
        at
    }

    fn read_pages(&self, (mm, caller): (&M::Mm, &Caller), start: u64, to: &mut [u8]) -> usize {
        let memory = self.userland.memory();
        Self::each_page(start, to.len(), |addr, part| {
            to.get_mut(part)
                .is_some_and(|to| memory.read_remote(self.cpu, (mm, caller), addr, to, Reach::Forced).is_ok())
        })
    }

    /// Reads /proc/PID/mem, whose positions are addresses. What the process may not read itself now is shown too.
    ///
    /// # Errors
    /// EIO if nothing is there.
    pub(super) fn read_memory(&self, space: u64, addr: u64, to: &mut [u8]) -> Result<usize, Errno> {
        moved(self.with_memory_of(|world| world.sharer(space), |mm, caller| self.read_pages((mm, caller), addr, to)))
    }

    /// Writes /proc/PID/mem. What the process may not write itself is written if the area is private: a debugger's way.
    ///
    /// # Errors
    /// EIO if nothing is there.
    pub(super) fn write_memory(&self, space: u64, addr: u64, from: &[u8]) -> Result<usize, Errno> {
        let memory = self.userland.memory();
        let write = |mm: &M::Mm, caller: &Caller| {
            Self::each_page(addr, from.len(), |addr, part| {
                from.get(part)
                    .is_some_and(|from| memory.write_remote(self.cpu, (mm, caller), addr, from, Reach::Forced).is_ok())
            })
        };
        moved(self.with_memory_of(|world| world.sharer(space), write))
    }

    /// Reads whole entries, up to the end of the addresses that programs have.
    pub(super) fn read_pagemap(&self, subject: Subject, offset: u64, to: &mut [u8]) -> Result<usize, Errno> {
        let end = PROGRAM_END / CHUNK as u64 * ENTRY;
        let look = |mm: &M::Mm, _: &Caller| {
            if !offset.is_multiple_of(ENTRY) || !(to.len() as u64).is_multiple_of(ENTRY) {
                return Err(Errno::EINVAL);
            }
            let room = end.saturating_sub(offset).min(to.len() as u64) as usize;
            let to = to.get_mut(..room).unwrap_or_default();
            self.userland.memory().read_pagemap(self.cpu, mm, offset, to).map_err(Errno::from)
        };
        self.with_memory_of(|world| world.sharer(subject.space), look).unwrap_or(Ok(0))
    }

    /// Takes marks back from the pages of a process as a text says. Returns how many bytes of it were taken.
    pub(super) fn clear_refs(&self, (pid, subject): (u32, Subject), text: UserBuffer) -> Result<u64, Errno> {
        let mut bytes = [0; ClearRefs::TEXT_BYTES];
        let taken = text.bytes.min(bytes.len() as u64);
        let bytes = bytes.get_mut(..taken as usize).unwrap_or_default();
        self.read(text.addr, bytes)?;
        let what = ClearRefs::parse(bytes).map_err(|error| match error {
            BadClearRefs::Unknown => Errno::EINVAL,
            BadClearRefs::TooLarge => Errno::ERANGE,
        })?;
        let key = self.world().still(pid, subject)?;
        let clear = |mm: &M::Mm, caller: &Caller| {
            self.userland.memory().call(self.cpu, mm, caller, &SpaceCall::ClearRefs(what))
        };
        // One that has ended has no pages left.
        self.with_memory_of(|world| world.first_thread(key), clear).unwrap_or(Ok(0))?;
        Ok(taken)
    }

    /// Reads a range of a process, up to the first page that cannot be.
    fn read_range(&self, of: (&M::Mm, &Caller), range: VirtRange) -> Result<Vec<u8>, Errno> {
        let mut bytes = Vec::new();
        let mut page = [0; CHUNK];
        let mut at = range.start.raw();
        while at < range.end.raw() {
            let wanted = (range.end.raw() - at).min(CHUNK as u64) as usize;
            let count = self.read_pages(of, at, page.get_mut(..wanted).unwrap_or_default());
            extend(&mut bytes, page.get(..count).unwrap_or_default())?;
            if count < wanted {
                break;
            }
            at += count as u64;
        }
        Ok(bytes)
    }

    /// Reads arguments from where exec put them. A program that has written over their end has put a title there, which ends with its first zero.
    pub(super) fn command_line(&self, key: ProcessKey) -> Result<Vec<u8>, Errno> {
        let look = |mm: &M::Mm, caller: &Caller| {
            let program = self.userland.memory().program(self.cpu, mm);
            let line = self.read_range((mm, caller), program.args)?;
            if line.last().is_none_or(|&last| last == 0) {
                return Ok(line);
            }
            let end = program.env.end.min(VirtAddr::new(program.args.start.raw().saturating_add(CHUNK as u64)));
            let mut title =
                self.read_range((mm, caller), VirtRange::new(program.args.start, end.max(program.args.end)))?;
            if let Some(length) = title.iter().position(|&byte| byte == 0) {
                title.truncate(length);
                push(&mut title, 0)?;
            }
            Ok(title)
        };
        self.with_memory_of(|world| world.first_thread(key), look).unwrap_or_else(|| Ok(Vec::new()))
    }

    /// Reads the environment from where exec put it.
    pub(super) fn environment(&self, subject: Subject) -> Result<Vec<u8>, Errno> {
        let look = |mm: &M::Mm, caller: &Caller| {
            let program = self.userland.memory().program(self.cpu, mm);
            self.read_range((mm, caller), program.env)
        };
        self.with_memory_of(|world| world.sharer(subject.space), look).unwrap_or_else(|| Ok(Vec::new()))
    }
}

/// Returns how many bytes of a process's memory were moved; none of one that nobody is in any more.
///
/// # Errors
/// EIO if none could be.
const fn moved(bytes: Option<usize>) -> Result<usize, Errno> {
    match bytes {
        None => Ok(0),
        Some(0) => Err(Errno::EIO),
        Some(count) => Ok(count),
    }
}
