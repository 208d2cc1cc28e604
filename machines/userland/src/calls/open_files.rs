//! The open file behind a descriptor, as calls see it and for as long as they need it.
//!
//! Another thread may close the descriptor while a call runs or waits, and its number and its pipe's may be given again. So a call holds the open file to its end. A process with
//! one thread holds nothing: nobody else has its descriptors. Linux 6.12: fs/file.c (`__fget_light`, `fdput`).

use address_space::FileId;
use sync::Cpu;

use super::Context;
use crate::errno::Errno;
use crate::files::{Device, FileTables, Kind, OpenFile, OpenFlags, OpenKey, PipeKey, ProcNode, ProcessFile, Target};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::thread::Thread;
use crate::userland::Userland;

/// What an open file's bytes come from or go to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stream {
    Contents(FileId),
    Device(Device),
    Reader(PipeKey),
    Writer(PipeKey),
    /// One of a pair of sockets: what it reads from and what it writes to.
    Socket(PipeKey, PipeKey),
    Proc(ProcNode),
    /// /proc/PID/mem, by the number of the address space.
    Memory(u64),
    Directory,
    /// By its serial number.
    Process(u64),
    /// As [`Target::Thread`].
    Thread(u64, u64),
}

/// An open file as a transfer sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Source {
    pub(super) file: OpenKey,
    pub(super) stream: Stream,
    pub(super) flags: OpenFlags,
    pub(super) offset: u64,
}

/// Which of the two open files that one call may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hold {
    First,
    Second,
}

impl Stream {
    /// Returns the pipe that bytes come out of.
    pub(super) const fn reads_pipe(self) -> Option<PipeKey> {
        match self {
            Self::Reader(pipe) | Self::Socket(pipe, _) => Some(pipe),
            _ => None,
        }
    }
}

impl FileTables {
    /// Returns what an open file reads from or writes to.
    pub(super) fn source(&self, file: OpenKey) -> Result<Source, Errno> {
        let open = self.open.get(file).ok_or(Errno::EBADF)?;
        let stream = match open.target {
            Target::PipeReader(pipe) => Stream::Reader(pipe),
            Target::PipeWriter(pipe) => Stream::Writer(pipe),
            Target::Socket(from, to) => Stream::Socket(from, to),
            Target::Proc(node) if node.mode() & crate::files::S_IFMT == crate::files::S_IFDIR => Stream::Directory,
            Target::Proc(node) if node.file().is_some_and(|(_, file)| file == ProcessFile::Mem) => {
                Stream::Memory(open.subject.space)
            }
            Target::Proc(node) => Stream::Proc(node),
            Target::Process(serial) => Stream::Process(serial),
            Target::Thread(serial, first_of) => Stream::Thread(serial, first_of),
            Target::Inode(key) => match self.inodes.get(key).map(|inode| &inode.kind) {
                Some(Kind::Regular(file)) => Stream::Contents(*file),
                Some(Kind::Device(device)) => Stream::Device(*device),
                Some(Kind::Directory { .. }) => Stream::Directory,
                Some(Kind::Link(_)) | None => return Err(Errno::EBADF),
            },
        };
        Ok(Source { file, stream, flags: open.flags, offset: open.offset })
    }
}

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Returns the open file of a descriptor, and holds it to the end of the call. A call that is made again after a wait gets the same one.
    ///
    /// # Errors
    /// EBADF.
    pub(super) fn hold(&mut self, fd: u64, which: Hold) -> Result<OpenKey, Errno> {
        let place = match (&mut self.thread.held, which) {
            ([first, _], Hold::First) => first,
            ([_, second], Hold::Second) => second,
        };
        if let Some(held) = *place {
            return Ok(held);
        }
        let mut world = self.userland.world(self.cpu);
        let process = world.processes.get(self.thread.process).ok_or(Errno::ESRCH)?;
        let file = process.descriptors.get(fd)?.file;
        if process.nr_threads > 1 {
            world.files.get(file);
            *place = Some(file);
        }
        Ok(file)
    }

    /// Returns what a descriptor reads from or writes to, and holds its open file.
    ///
    /// # Errors
    /// EBADF.
    pub(super) fn source(&mut self, fd: u64) -> Result<Source, Errno> {
        let file = self.hold(fd, Hold::First)?;
        self.world().files.source(file)
    }

    /// Returns what a descriptor is of, and holds its open file.
    ///
    /// # Errors
    /// EBADF.
    pub(super) fn target(&mut self, fd: u64) -> Result<Target, Errno> {
        let file = self.hold(fd, Hold::First)?;
        self.with_file(file, |open| open.target)
    }

    /// Looks at an open file that the call holds.
    ///
    /// # Errors
    /// EBADF.
    pub(super) fn with_file<R>(&self, file: OpenKey, look: impl FnOnce(&mut OpenFile) -> R) -> Result<R, Errno> {
        self.world().files.open.get_mut(file).map(look).ok_or(Errno::EBADF)
    }
}

impl<M: Memory, D: Machine> Userland<M, D> {
    /// Gives up what a thread's call held.
    #[inline]
    pub(crate) fn put_held(&self, cpu: &Cpu, thread: &mut Thread<M>) {
        if thread.held != [None; 2] {
            self.put_each_held(cpu, thread);
        }
    }

    #[cold]
    fn put_each_held(&self, cpu: &Cpu, thread: &mut Thread<M>) {
        let mut world = self.world(cpu);
        for file in core::mem::take(&mut thread.held).into_iter().flatten() {
            world.put_open(file);
        }
    }
}
