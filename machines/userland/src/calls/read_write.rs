//! Moving bytes: read, write, their vectored and positioned forms, lseek, sendfile, poll and select.
//!
//! Bytes go through a buffer of the kernel, a page at a time, since no lock is held over a program's memory. Linux 6.12: fs/read_write.c,
//! fs/pipe.c, fs/splice.c, fs/select.c, drivers/char/mem.c.

use super::open_files::{Hold, Source, Stream};
use super::{Context, Outcome, Table, add};
use crate::errno::Errno;
use crate::files::{Device, OpenFlags, OpenKey, PageSlot, Pipe, PipeError, PipeKey, Target};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::schedule::Stop;
use crate::signals::{SIGPIPE, SignalInfo};
use crate::slots::Key;
use crate::user_memory::{CHUNK, MAX_TRANSFER, UserBuffer};
use crate::wait::WaitFor;
use crate::world::World;

const SEEK_SET: u64 = 0;
const SEEK_CUR: u64 = 1;
const SEEK_END: u64 = 2;

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Adds the calls of this file to the table.
    #[rustfmt::skip]
    pub(super) const fn read_write_calls(table: Table<M, D>) -> Table<M, D> {
        add(table, [
            (0, "read", |cx, [fd, addr, bytes, ..]| cx.read_call(fd, &[UserBuffer { addr, bytes }], None)),
            (1, "write", |cx, [fd, addr, bytes, ..]| cx.write_call(fd, &[UserBuffer { addr, bytes }], None)),
            (8, "lseek", |cx, [fd, offset, whence, ..]| cx.lseek(fd, offset, whence)),
            (17, "pread64", |cx, [fd, addr, bytes, offset, ..]| { cx.read_call(fd, &[UserBuffer { addr, bytes }], Some(offset)) }),
            (18, "pwrite64", |cx, [fd, addr, bytes, offset, ..]| { cx.write_call(fd, &[UserBuffer { addr, bytes }], Some(offset)) }),
            (19, "readv", |cx, [fd, parts, count, ..]| { let parts = cx.read_parts(parts, count)?; cx.read_call(fd, &parts, None) }),
            (20, "writev", |cx, [fd, parts, count, ..]| { let parts = cx.read_parts(parts, count)?; cx.write_call(fd, &parts, None) }),
            (40, "sendfile", |cx, [out, input, offset, count, ..]| cx.sendfile(out, input, offset, count)),
        ])
    }

    fn read_call(&mut self, fd: u64, parts: &[UserBuffer], at: Option<u64>) -> Outcome {
        let source = self.source(fd)?;
        self.read_from(source, parts, at)
    }

    pub(super) fn read_from(&mut self, source: Source, parts: &[UserBuffer], at: Option<u64>) -> Outcome {
        if !source.flags.reads() {
            return Err(Errno::EBADF.into());
        }
        check_position(&source, at)?;
        if let Some(pipe) = self.pipe_of_messages(source.stream) {
            return self.read_message(pipe, source.flags, parts);
        }
        let (mut done, mut offset) = (0, at.unwrap_or(source.offset));
        for &part in parts {
            let part = UserBuffer { bytes: part.bytes.min(MAX_TRANSFER - done), ..part };
            match self.read_part(&source, part, offset) {
                Ok(count) => {
                    (done, offset) = (done + count, offset.saturating_add(count));
                    // A pipe gives what it has; a file that gives less is at its end.
                    let is_drained = || source.stream.reads_pipe().is_some_and(|pipe| self.is_drained(pipe));
                    if count < part.bytes || done > 0 && is_drained() {
                        break;
                    }
                }
                Err(stop) if done == 0 => return Err(stop),
                Err(_) => break,
            }
        }
        if at.is_none() && done > 0 {
            self.with_file(source.file, |open| open.offset = offset)?;
        }
        Ok(done)
    }

    fn is_drained(&self, pipe: PipeKey) -> bool {
        self.world().files.pipes.get(pipe).is_none_or(Pipe::is_empty)
    }

    /// Reads into one part; returns less than its length at the end.
    fn read_part(&self, source: &Source, part: UserBuffer, offset: u64) -> Outcome {
        let mut buffer = [0; CHUNK];
        let mut done = 0;
        while done < part.bytes {
            let wanted = (part.bytes - done).min(CHUNK as u64) as usize;
            let chunk = buffer.get_mut(..wanted).unwrap_or_default();
            let count = match self.read_chunk(source, chunk, offset.saturating_add(done)) {
                Ok(count) => count,
                Err(stop) if done == 0 => return Err(stop),
                Err(_) => break,
            };
            let read = buffer.get(..count).unwrap_or_default();
            let to = part.addr.wrapping_add(done);
            if let Err(error) = self.write(to, read) {
                if let Some(pipe) = source.stream.reads_pipe() {
                    self.put_back_bytes(pipe, read);
                }
                return if done == 0 { Err(error.into()) } else { Ok(done) };
            }
            done += count as u64;
            if count < wanted {
                break;
            }
        }
        Ok(done)
    }

    pub(super) fn read_chunk(&self, source: &Source, to: &mut [u8], offset: u64) -> Result<usize, Stop> {
        match source.stream {
            Stream::Contents(file) => Ok(self.userland.memory().file_read(self.cpu, file, offset, to)?),
            Stream::Device(Device::Null | Device::Console) => Ok(0),
            Stream::Device(Device::Zero | Device::Full) => {
                to.fill(0);
                Ok(to.len())
            }
            Stream::Device(Device::Random) => {
                self.fill_randomly(to);
                Ok(to.len())
            }
            Stream::Reader(pipe) | Stream::Socket(pipe, _) => self.read_pipe(pipe, source.flags, to),
            Stream::Proc(_) => Ok(self.read_proc(source.file, offset, to)?),
            Stream::Memory(space) => Ok(self.read_memory(space, offset, to)?),
            Stream::Directory => Err(Errno::EISDIR.into()),
            Stream::Writer(_) => Err(Errno::EBADF.into()),
            Stream::Process(_) | Stream::Thread(..) => Err(Errno::EINVAL.into()),
        }
    }

    pub(super) fn fill_randomly(&self, to: &mut [u8]) {
        for chunk in to.chunks_mut(8) {
            let random = self.userland.machine().random().to_le_bytes();
            for (place, byte) in chunk.iter_mut().zip(random) {
                *place = byte;
            }
        }
    }

    pub(super) fn read_pipe(&self, key: PipeKey, flags: OpenFlags, to: &mut [u8]) -> Result<usize, Stop> {
        let mut world = self.world();
        let World { files, pages, .. } = &mut *world;
        let memory = self.userland.memory();
        let read_page = |slot: PageSlot, offset, to: &mut [u8]| {
            if let Some(page) = pages.get(Key::new(slot.0)) {
                memory.read_page(page, offset, to);
            }
        };
        match files.read_pipe(key, to, read_page) {
            Ok(count) => {
                if count > 0 {
                    world.wake_files(WaitFor::Pipe(key));
                }
                Ok(count)
            }
            Err(PipeError::Reset) => Err(Errno::ECONNRESET.into()),
            Err(PipeError::Broken) => Err(Errno::EBADF.into()),
            Err(_) if flags.contains(OpenFlags::NONBLOCK) => Err(Errno::EAGAIN.into()),
            Err(_) => Err(Stop::Wait(world.wait_for(WaitFor::Pipe(key)))),
        }
    }

    /// Puts bytes back that did not reach the program, in front of the others.
    fn put_back_bytes(&self, key: PipeKey, bytes: &[u8]) {
        let mut world = self.world();
        if let Some(pipe) = world.files.pipes.get_mut(key) {
            pipe.put_back(bytes);
            world.wake_files(WaitFor::Pipe(key));
        }
    }

    fn write_call(&mut self, fd: u64, parts: &[UserBuffer], at: Option<u64>) -> Outcome {
        let source = self.source(fd)?;
        self.write_to(source, parts, at)
    }

    pub(super) fn write_to(&mut self, mut source: Source, parts: &[UserBuffer], at: Option<u64>) -> Outcome {
        if !source.flags.writes() {
            return Err(Errno::EBADF.into());
        }
        check_position(&source, at)?;
        if let Stream::Proc(node) = source.stream {
            return self.write_proc(source.file, node, parts, at.unwrap_or(source.offset));
        }
        if let (Stream::Socket(_, to), Some(_)) = (source.stream, self.pipe_of_messages(source.stream)) {
            return self.write_message(to, source.flags, parts);
        }
        if let Stream::Contents(file) = source.stream
            && source.flags.contains(OpenFlags::APPEND)
        {
            source.offset = self.userland.memory().file_size(self.cpu, file);
        }
        let start = at.unwrap_or(source.offset);
        let (mut done, mut skip) = (0, self.thread.progress.done);
        for &part in parts {
            // What an earlier try of this call has moved is passed over.
            let skipped = skip.min(part.bytes);
            skip -= skipped;
            let bytes = (part.bytes - skipped).min(MAX_TRANSFER - done);
            let part = UserBuffer { addr: part.addr.wrapping_add(skipped), bytes };
            match self.write_part(&source, part, start.saturating_add(done), &mut done) {
                Ok(()) => {}
                Err(Stop::Wait(wait)) => {
                    self.thread.progress.done += done;
                    return Err(Stop::Wait(wait));
                }
                Err(stop) if done == 0 && self.thread.progress.done == 0 => return Err(stop),
                Err(_) => break,
            }
        }
        if at.is_none() && done > 0 && matches!(source.stream, Stream::Contents(_) | Stream::Memory(_)) {
            self.with_file(source.file, |open| open.offset = start.saturating_add(done))?;
            self.touch(source.file)?;
        }
        Ok(self.thread.progress.done + done)
    }

    fn write_part(&self, source: &Source, part: UserBuffer, offset: u64, done: &mut u64) -> Result<(), Stop> {
        let mut buffer = [0; CHUNK];
        let mut moved = 0;
        while moved < part.bytes {
            let wanted = (part.bytes - moved).min(CHUNK as u64) as usize;
            let chunk = buffer.get_mut(..wanted).unwrap_or_default();
            self.read(part.addr.wrapping_add(moved), chunk)?;
            let count = self.write_chunk(source, chunk, offset.saturating_add(moved))?;
            moved += count as u64;
            *done += count as u64;
            if count < wanted && source.flags.contains(OpenFlags::NONBLOCK) {
                return Err(Errno::EAGAIN.into());
            }
        }
        Ok(())
    }

    fn write_chunk(&self, source: &Source, from: &[u8], offset: u64) -> Result<usize, Stop> {
        match source.stream {
            Stream::Contents(file) => {
                let limit = self.with_process(|process| process.other_limits.file_size[0])?;
                if offset.saturating_add(from.len() as u64) > limit.min(i64::MAX as u64) {
                    return Err(Errno::EFBIG.into());
                }
                self.userland.memory().file_write(self.cpu, file, offset, from)?;
                Ok(from.len())
            }
            Stream::Device(Device::Full) => Err(Errno::ENOSPC.into()),
            Stream::Device(Device::Console) => {
                self.userland.machine().console_write(from);
                Ok(from.len())
            }
            Stream::Device(Device::Null | Device::Zero | Device::Random) => Ok(from.len()),
            Stream::Writer(pipe) | Stream::Socket(_, pipe) => self.write_pipe(pipe, source.flags, from),
            Stream::Memory(space) => Ok(self.write_memory(space, offset, from)?),
            Stream::Reader(_) | Stream::Directory => Err(Errno::EBADF.into()),
            // What files of /proc take comes whole, by `write_proc`.
            Stream::Proc(_) => Err(Errno::EINVAL.into()),
            Stream::Process(_) | Stream::Thread(..) => Err(Errno::EINVAL.into()),
        }
    }

    pub(super) fn write_pipe(&self, key: PipeKey, flags: OpenFlags, from: &[u8]) -> Result<usize, Stop> {
        let mut world = self.world();
        let pipe = world.files.pipes.get_mut(key).ok_or(Errno::EBADF)?;
        match pipe.write(from) {
            Ok(count) => {
                world.wake_files(WaitFor::Pipe(key));
                Ok(count)
            }
            Err(PipeError::Broken) => {
                world.send_to_thread(self.thread.key, SignalInfo::from_kernel(SIGPIPE));
                Err(Errno::EPIPE.into())
            }
            Err(PipeError::NoMemory) => Err(Errno::ENOMEM.into()),
            Err(_) if flags.contains(OpenFlags::NONBLOCK) => Err(Errno::EAGAIN.into()),
            Err(_) => Err(Stop::Wait(world.wait_for(WaitFor::Pipe(key)))),
        }
    }

    /// Notes that a file was written.
    fn touch(&self, file: OpenKey) -> Result<(), Errno> {
        let now = self.now_ns();
        if let Target::Inode(key) = self.with_file(file, |open| open.target)?
            && let Some(inode) = self.world().files.inodes.get_mut(key)
        {
            inode.modified_ns = now;
        }
        Ok(())
    }

    fn lseek(&mut self, fd: u64, offset: u64, whence: u64) -> Outcome {
        let source = self.source(fd)?;
        let base = match (source.stream, whence) {
            // Every address is a position.
            (Stream::Memory(_), SEEK_SET | SEEK_CUR) => {
                let base = if whence == SEEK_SET { 0 } else { source.offset };
                let to = base.wrapping_add(offset);
                self.with_file(source.file, |open| open.offset = to)?;
                return Ok(to);
            }
            (Stream::Memory(_) | Stream::Proc(_), SEEK_END) => return Err(Errno::EINVAL.into()),
            (
                Stream::Reader(_)
                | Stream::Writer(_)
                | Stream::Socket(..)
                | Stream::Process(_)
                | Stream::Thread(..)
                | Stream::Device(Device::Console),
                _,
            ) => {
                return Err(Errno::ESPIPE.into());
            }
            (_, SEEK_SET) => 0,
            (_, SEEK_CUR) => source.offset,
            (Stream::Contents(file), SEEK_END) => self.userland.memory().file_size(self.cpu, file),
            (_, SEEK_END) => 0,
            _ => return Err(Errno::EINVAL.into()),
        };
        let to = base.checked_add_signed(offset as i64).filter(|&to| to <= i64::MAX as u64).ok_or(Errno::EINVAL)?;
        self.with_file(source.file, |open| open.offset = to)?;
        Ok(to)
    }

    fn sendfile(&mut self, out: u64, input: u64, offset: u64, count: u64) -> Outcome {
        let from = self.source(input)?;
        let to = self.hold(out, Hold::Second)?;
        let to = self.world().files.source(to)?;
        if !from.flags.reads() || !to.flags.writes() {
            return Err(Errno::EBADF.into());
        }
        if !matches!(from.stream, Stream::Contents(_)) {
            return Err(Errno::EINVAL.into());
        }
        let start = match offset {
            0 => from.offset,
            _ => self.read_words::<1>(offset)?[0],
        };
        let mut buffer = [0; CHUNK];
        let (mut done, count) = (0, count.min(MAX_TRANSFER));
        while done < count {
            let wanted = (count - done).min(CHUNK as u64) as usize;
            let chunk = buffer.get_mut(..wanted).unwrap_or_default();
            let got = self.read_chunk(&from, chunk, start.saturating_add(done))?;
            if got == 0 {
                break;
            }
            let piece = buffer.get(..got).unwrap_or_default();
            match self.write_chunk(&to, piece, to.offset.saturating_add(done)) {
                Ok(moved) => {
                    done += moved as u64;
                    if moved < got {
                        break;
                    }
                }
                Err(stop) if done == 0 => return Err(stop),
                Err(_) => break,
            }
        }
        match offset {
            0 => self.with_file(from.file, |open| open.offset = start.saturating_add(done))?,
            _ => self.write_words(offset, &[start.saturating_add(done)])?,
        }
        if matches!(to.stream, Stream::Contents(_)) {
            self.with_file(to.file, |open| open.offset = to.offset.saturating_add(done))?;
        }
        Ok(done)
    }
}

/// Checks that a positioned call is on a file that has positions.
fn check_position(source: &Source, at: Option<u64>) -> Result<(), Errno> {
    match (at, source.stream) {
        (Some(_), Stream::Reader(_) | Stream::Writer(_) | Stream::Socket(..)) => Err(Errno::ESPIPE),
        (Some(at), _) if at > i64::MAX as u64 => Err(Errno::EINVAL),
        _ => Ok(()),
    }
}
