//! vmsplice: a pipe takes a program's pages instead of bytes, or gives what it has to a program's memory.
//!
//! Linux 6.12: fs/splice.c (`vmsplice_to_pipe`, `iter_to_pipe`, `vmsplice_to_user`).

use units::VirtAddr;

use super::open_files::{Source, Stream};
use super::{Context, Outcome, Table, add};
use crate::errno::Errno;
use crate::files::{OpenFlags, PageSlot, Pipe, PipeError, PipeKey};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::schedule::Stop;
use crate::signals::{SIGPIPE, SignalInfo};
use crate::user_memory::{CHUNK, UserBuffer};
use crate::wait::WaitFor;

const SPLICE_F_NONBLOCK: u64 = 2;
const SPLICE_F_ALL: u64 = 15;

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Adds the calls of this file to the table.
    #[rustfmt::skip]
    pub(super) const fn splice_calls(table: Table<M, D>) -> Table<M, D> {
        add(table, [
            (278, "vmsplice", |cx, [fd, parts, count, flags, ..]| cx.vmsplice(fd, (parts, count), flags)),
        ])
    }

    /// Only a pipe's end is taken. What is asked of it is its own way: its writer takes pages, its reader gives bytes.
    fn vmsplice(&mut self, fd: u64, (parts, count): (u64, u64), flags: u64) -> Outcome {
        let flags = u64::from(flags as u32);
        if flags & !SPLICE_F_ALL != 0 {
            return Err(Errno::EINVAL.into());
        }
        let source = self.source(fd)?;
        if !source.flags.reads() && !source.flags.writes() {
            return Err(Errno::EBADF.into());
        }
        let parts = self.read_parts(parts, count)?;
        if parts.iter().all(|part| part.bytes == 0) {
            return Ok(0);
        }
        // The descriptor's own O_NONBLOCK does not count.
        let mut open = source.flags;
        open.set(OpenFlags::NONBLOCK, flags & SPLICE_F_NONBLOCK != 0);
        match source.stream {
            Stream::Writer(pipe) => self.give_pages(pipe, open, &parts),
            Stream::Reader(_) => self.read_from(Source { flags: open, ..source }, &parts, None),
            _ => Err(Errno::EBADF.into()),
        }
    }

    /// Gives a pipe as many pages as it has room for, and waits only for the first.
    fn give_pages(&mut self, pipe: PipeKey, flags: OpenFlags, parts: &[UserBuffer]) -> Outcome {
        self.wait_for_room(pipe, flags)?;
        let mut done = 0;
        for part in parts {
            let mut given = 0;
            while given < part.bytes {
                let addr = part.addr.wrapping_add(given);
                let offset = addr % CHUNK as u64;
                let bytes = (part.bytes - given).min(CHUNK as u64 - offset);
                match self.give_page(pipe, addr, (offset as usize, bytes as usize)) {
                    Ok(()) => given += bytes,
                    Err(error) if done + given == 0 => return Err(error.into()),
                    Err(_) => return Ok(done + given),
                }
            }
            done += given;
        }
        Ok(done)
    }

    fn wait_for_room(&self, key: PipeKey, flags: OpenFlags) -> Result<(), Stop> {
        let mut world = self.world();
        let pipe = world.files.pipes.get(key).ok_or(Errno::EBADF)?;
        if Pipe::is_broken(pipe) {
            world.send_to_thread(self.thread.key, SignalInfo::from_kernel(SIGPIPE));
            return Err(Errno::EPIPE.into());
        }
        match pipe.has_room() {
            true => Ok(()),
            false if flags.contains(OpenFlags::NONBLOCK) => Err(Errno::EAGAIN.into()),
            false => Err(Stop::Wait(world.wait_for(WaitFor::Pipe(key)))),
        }
    }

    /// Gives a pipe a page.
    ///
    /// # Errors
    /// EFAULT, EPIPE with its signal, EAGAIN for a pipe that is full, ENOMEM.
    fn give_page(&self, key: PipeKey, addr: u64, (offset, bytes): (usize, usize)) -> Result<(), Errno> {
        let memory = self.userland.memory();
        let page = memory.hold_page(self.cpu, self.thread.memory(), VirtAddr::new(addr))?;
        let mut world = self.world();
        let count = world.pages.len() + 1;
        if let Err(error) = world.files.expect_pages(count) {
            drop(world);
            memory.put_page(self.cpu, page);
            return Err(error);
        }
        let slot = match world.pages.insert_or_return(page) {
            Ok(slot) => slot,
            Err(page) => {
                drop(world);
                memory.put_page(self.cpu, page);
                return Err(Errno::ENOMEM);
            }
        };
        let pipe = world.files.pipes.get_mut(key).ok_or(Errno::EBADF);
        let added = pipe.and_then(|pipe| pipe.add_page(PageSlot(slot.raw()), offset, bytes).map_err(errno_of));
        match added {
            Ok(()) => world.wake_files(WaitFor::Pipe(key)),
            Err(error) => {
                if error == Errno::EPIPE {
                    world.send_to_thread(self.thread.key, SignalInfo::from_kernel(SIGPIPE));
                }
                let unused = world.pages.remove(slot);
                drop(world);
                if let Some(page) = unused {
                    memory.put_page(self.cpu, page);
                }
            }
        }
        added
    }
}

const fn errno_of(error: PipeError) -> Errno {
    match error {
        PipeError::WouldBlock => Errno::EAGAIN,
        PipeError::Broken => Errno::EPIPE,
        PipeError::NoMemory => Errno::ENOMEM,
        PipeError::Reset => Errno::ECONNRESET,
    }
}
