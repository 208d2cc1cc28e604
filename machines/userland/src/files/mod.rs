//! Files: a tree of inodes in memory, open files, pipes, and the nodes of /proc.
//!
//! Contents of regular files lie in the memory manager's files and are reached by number. An inode lives while a directory names it
//! or somebody uses it. Linux 6.12: fs/inode.c, fs/file_table.c, fs/ramfs, fs/pipe.c, fs/proc.

mod descriptors;
mod directory;
mod path;
mod pipe;
mod proc_nodes;
mod sys_nodes;
mod sysctl_nodes;

use alloc::vec::Vec;

use address_space::FileId;

use crate::errno::Errno;
use crate::slots::{Key, Slots};

pub(crate) use descriptors::{Descriptor, Descriptors};
pub(crate) use directory::Entry;
pub(crate) use path::{Found, LastLink, PATH_MAX};
pub(crate) use pipe::{PageSlot, Pipe, PipeError, PipeKey};

/// Bytes that a pipe holds.
pub(crate) const PIPE_CAPACITY: u64 = pipe::CAPACITY as u64;
pub(crate) use proc_nodes::{GlobalFile, ProcNode, ProcessFile};
pub(crate) use sys_nodes::SysNode;
pub(crate) use sysctl_nodes::SysctlNode;

pub(crate) type InodeKey = Key<Inode>;
pub(crate) type OpenKey = Key<OpenFile>;

/// Type bits of a mode.
pub(crate) const S_IFMT: u32 = 0o170_000;
pub(crate) const S_IFIFO: u32 = 0o010_000;
pub(crate) const S_IFCHR: u32 = 0o020_000;
pub(crate) const S_IFDIR: u32 = 0o040_000;
pub(crate) const S_IFREG: u32 = 0o100_000;
pub(crate) const S_IFLNK: u32 = 0o120_000;
pub(crate) const S_IFSOCK: u32 = 0o140_000;

/// Most open files of the machine.
const MAX_OPEN: usize = 16384;

/// Devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Device {
    /// /dev/null.
    Null,
    /// /dev/zero.
    Zero,
    /// /dev/full.
    Full,
    /// /dev/random and /dev/urandom.
    Random,
    /// /dev/console and /dev/tty: the serial port.
    Console,
}

impl Device {
    /// Returns major and minor number.
    pub(crate) const fn numbers(self) -> (u32, u32) {
        match self {
            Self::Null => (1, 3),
            Self::Zero => (1, 5),
            Self::Full => (1, 7),
            Self::Random => (1, 9),
            Self::Console => (5, 1),
        }
    }

    /// Returns the device with these numbers.
    pub(crate) const fn of_numbers(major: u32, minor: u32) -> Option<Self> {
        match (major, minor) {
            (1, 3) => Some(Self::Null),
            (1, 5) => Some(Self::Zero),
            (1, 7) => Some(Self::Full),
            (1, 8 | 9) => Some(Self::Random),
            (5, 0 | 1) => Some(Self::Console),
            _ => None,
        }
    }
}

/// What an inode is.
#[derive(Debug)]
pub(crate) enum Kind {
    Directory { entries: Vec<Entry>, parent: InodeKey },
    Regular(FileId),
    Link(Vec<u8>),
    Device(Device),
}

/// A file, directory, link or device.
#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) kind: Kind,
    /// Permission bits.
    pub(crate) permissions: u32,
    /// Names, as stat counts them.
    pub(crate) nr_links: u32,
    /// Open files, working directories, running programs.
    nr_users: u32,
    /// Open files that may write to it.
    nr_writers: u32,
    /// Threads that run it, or are about to.
    nr_programs: u32,
    /// Nanoseconds since 1970.
    pub(crate) modified_ns: u64,
    /// Name of a memfd, which no directory has.
    pub(crate) memfd_name: Option<Vec<u8>>,
}

impl Inode {
    /// Returns type and permissions.
    pub(crate) const fn mode(&self) -> u32 {
        let kind = match self.kind {
            Kind::Directory { .. } => S_IFDIR,
            Kind::Regular(_) => S_IFREG,
            Kind::Link(_) => S_IFLNK,
            Kind::Device(_) => S_IFCHR,
        };
        kind | self.permissions
    }
}

/// A place in the tree that a process holds: an inode or a node of /proc.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Inode(InodeKey),
    Proc(ProcNode),
}

/// What an open file is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    Inode(InodeKey),
    Proc(ProcNode),
    PipeReader(PipeKey),
    PipeWriter(PipeKey),
    /// One of a pair of sockets: what it reads from and what it writes to.
    Socket(PipeKey, PipeKey),
    /// A process, by the number that no other has ever had.
    Process(u64),
    /// A thread, by such a number (PIDFD_THREAD), and the process that it is the first of; [`NOBODY`] for another.
    Thread(u64, u64),
}

bitflags::bitflags! {
    /// Flags of open (O_).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub(crate) struct OpenFlags: u32 {
        const WRONLY = 1;
        const RDWR = 2;
        const CREAT = 0o100;
        const EXCL = 0o200;
        const TRUNC = 0o1000;
        const APPEND = 0o2000;
        const NONBLOCK = 0o4000;
        const DIRECTORY = 0o20_0000;
        const NOFOLLOW = 0o40_0000;
        const CLOEXEC = 0o200_0000;
        const PATH = 0o1000_0000;
        /// A file without a name; comes with DIRECTORY.
        const TMPFILE = 0o2000_0000;
        const _ = !0;
    }
}

impl OpenFlags {
    pub(crate) const fn reads(self) -> bool {
        self.bits() & 3 != Self::WRONLY.bits() && !self.contains(Self::PATH)
    }

    pub(crate) const fn writes(self) -> bool {
        matches!(self.bits() & 3, 1 | 2) && !self.contains(Self::PATH)
    }

    /// Flags that fcntl shows and partly sets.
    pub(crate) const STATUS: Self =
        Self::APPEND.union(Self::NONBLOCK).union(Self::from_bits_retain(3)).union(Self::PATH);
}

/// An open file, which several descriptors of several processes may share.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) target: Target,
    pub(crate) flags: OpenFlags,
    pub(crate) offset: u64,
    nr_users: u32,
    /// It counts among the writers of its inode.
    is_writer: bool,
    /// Text of a file of /proc, as of the last read from its start.
    pub(crate) text: Vec<u8>,
    /// Whom a file of /proc/PID is about, as of when it was opened.
    pub(crate) subject: Subject,
}

impl OpenFile {
    /// Returns true if nobody waits for it.
    pub(crate) fn is_nonblocking(&mut self) -> bool {
        self.flags.contains(OpenFlags::NONBLOCK)
    }
}

/// A process and the address space that it had at some time, by numbers that no other has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Subject {
    pub(crate) process: u64,
    /// 0 for none.
    pub(crate) space: u64,
}

impl Default for Subject {
    /// Nobody.
    fn default() -> Self {
        Self { process: NOBODY, space: 0 }
    }
}

/// Serial number that no process has.
pub(crate) const NOBODY: u64 = u64::MAX;

/// All files of a machine.
#[derive(Debug)]
pub(crate) struct FileTables {
    pub(crate) inodes: Slots<Inode>,
    pub(crate) open: Slots<OpenFile>,
    pub(crate) pipes: Slots<Pipe>,
    root: Option<InodeKey>,
    /// Contents that nothing names any more; has room for those of every inode.
    released: Vec<FileId>,
    /// Pages that no pipe holds any more; has room for all.
    released_pages: Vec<PageSlot>,
}

impl FileTables {
    pub(crate) const fn new() -> Self {
        Self {
            inodes: Slots::new(),
            open: Slots::new(),
            pipes: Slots::new(),
            root: None,
            released: Vec::new(),
            released_pages: Vec::new(),
        }
    }

    /// Makes an inode that nobody names or uses yet.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn new_inode(&mut self, kind: Kind, permissions: u32, now: u64) -> Result<InodeKey, Errno> {
        let wanted = self.inodes.len() + 1;
        self.released.try_reserve(wanted).map_err(|_| Errno::ENOMEM)?;
        let permissions = permissions & 0o7777;
        self.inodes.insert(Inode {
            kind,
            permissions,
            nr_links: 0,
            nr_users: 0,
            nr_writers: 0,
            nr_programs: 0,
            modified_ns: now,
            memfd_name: None,
        })
    }

    /// Takes what no inode holds any more.
    pub(crate) fn take_released(&mut self) -> Option<FileId> {
        self.released.pop()
    }

    /// Takes a page that no pipe holds any more.
    pub(crate) fn take_released_page(&mut self) -> Option<PageSlot> {
        self.released_pages.pop()
    }

    /// Makes room for pages to be released, when there are to be as many.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn expect_pages(&mut self, count: usize) -> Result<(), Errno> {
        self.released_pages.try_reserve(count).map_err(|_| Errno::ENOMEM)
    }

    /// Reads from a pipe; pages that are empty then are released.
    ///
    /// # Errors
    /// [`PipeError`]; [`PipeError::Broken`] for one that is gone.
    pub(crate) fn read_pipe(
        &mut self,
        key: PipeKey,
        to: &mut [u8],
        read_page: impl FnMut(PageSlot, usize, &mut [u8]),
    ) -> Result<usize, PipeError> {
        let pipe = self.pipes.get_mut(key).ok_or(PipeError::Broken)?;
        pipe.read(to, read_page, &mut self.released_pages)
    }

    /// Removes an inode that has neither name nor user.
    pub(crate) fn drop_unused(&mut self, key: InodeKey) {
        let is_used = self.inodes.get(key).is_none_or(|inode| inode.nr_links > 0 || inode.nr_users > 0);
        if is_used || self.root == Some(key) {
            return;
        }
        if let Some(Inode { kind: Kind::Regular(file), .. }) = self.inodes.remove(key) {
            // `new_inode` made room.
            self.released.push(file);
        }
    }

    /// Counts a user of a place.
    pub(crate) fn get_place(&mut self, place: Place) {
        if let Place::Inode(key) = place
            && let Some(inode) = self.inodes.get_mut(key)
        {
            inode.nr_users += 1;
        }
    }

    /// Counts a user of a place no longer.
    pub(crate) fn put_place(&mut self, place: Place) {
        if let Place::Inode(key) = place {
            if let Some(inode) = self.inodes.get_mut(key) {
                inode.nr_users = inode.nr_users.saturating_sub(1);
            }
            self.drop_unused(key);
        }
    }

    /// Lets a thread run a file as its program: nobody may write to it until [`Self::leave_program`].
    ///
    /// # Errors
    /// ETXTBSY while it is open for writing.
    pub(crate) fn run_program(&mut self, key: InodeKey) -> Result<(), Errno> {
        let inode = self.inodes.get_mut(key).ok_or(Errno::ENOENT)?;
        if inode.nr_writers > 0 {
            return Err(Errno::ETXTBSY);
        }
        inode.nr_programs += 1;
        inode.nr_users += 1;
        Ok(())
    }

    /// Counts a thread less that runs a file.
    pub(crate) fn leave_program(&mut self, key: InodeKey) {
        if let Some(inode) = self.inodes.get_mut(key) {
            inode.nr_programs = inode.nr_programs.saturating_sub(1);
        }
        self.put_place(Place::Inode(key));
    }

    /// Checks that nobody runs a file that is to be written to or cut.
    ///
    /// # Errors
    /// ETXTBSY.
    pub(crate) fn check_not_run(&self, key: InodeKey) -> Result<(), Errno> {
        let is_run = self.inodes.get(key).is_some_and(|inode| inode.nr_programs > 0);
        if is_run { Err(Errno::ETXTBSY) } else { Ok(()) }
    }

    /// Counts a writer of a file no longer: it was opened as a memfd is made, which does not keep anybody from running it.
    pub(crate) fn forget_writer(&mut self, key: OpenKey) {
        let Some(open) = self.open.get_mut(key) else { return };
        if let (true, Target::Inode(inode)) = (core::mem::take(&mut open.is_writer), open.target)
            && let Some(inode) = self.inodes.get_mut(inode)
        {
            inode.nr_writers = inode.nr_writers.saturating_sub(1);
        }
    }

    /// Makes an open file with one user.
    ///
    /// # Errors
    /// ETXTBSY to write to a program that runs, ENFILE, ENOMEM; a pipe's end is not counted then.
    pub(crate) fn open(&mut self, target: Target, flags: OpenFlags) -> Result<OpenKey, Errno> {
        if self.open.len() >= MAX_OPEN {
            return Err(Errno::ENFILE);
        }
        let is_writer = flags.writes();
        if let (true, Target::Inode(inode)) = (is_writer, target) {
            self.check_not_run(inode)?;
        }
        let key = self.open.insert(OpenFile {
            target,
            flags,
            offset: 0,
            nr_users: 1,
            is_writer,
            text: Vec::new(),
            subject: Subject::default(),
        })?;
        match target {
            Target::Inode(key) => {
                self.get_place(Place::Inode(key));
                if let Some(inode) = self.inodes.get_mut(key) {
                    inode.nr_writers += u32::from(is_writer);
                }
            }
            Target::Proc(_) | Target::Process(_) | Target::Thread(..) => {}
            Target::PipeReader(pipe) => self.change_pipe(pipe, |pipe| pipe.nr_readers += 1),
            Target::PipeWriter(pipe) => self.change_pipe(pipe, |pipe| pipe.nr_writers += 1),
            Target::Socket(from, to) => {
                self.change_pipe(from, |pipe| pipe.nr_readers += 1);
                self.change_pipe(to, |pipe| pipe.nr_writers += 1);
            }
        }
        Ok(key)
    }

    /// Counts one more user of an open file.
    pub(crate) fn get(&mut self, key: OpenKey) {
        if let Some(open) = self.open.get_mut(key) {
            open.nr_users += 1;
        }
    }

    /// Counts one user less; with the last the file is closed. Returns the pipes that lose an end thereby.
    pub(crate) fn put(&mut self, key: OpenKey) -> [Option<PipeKey>; 2] {
        let Some(open) = self.open.get_mut(key) else { return [None; 2] };
        open.nr_users -= 1;
        if open.nr_users > 0 {
            return [None; 2];
        }
        self.forget_writer(key);
        let Some(OpenFile { target, .. }) = self.open.remove(key) else { return [None; 2] };
        match target {
            Target::Inode(inode) => {
                self.put_place(Place::Inode(inode));
                [None; 2]
            }
            Target::Proc(_) | Target::Process(_) | Target::Thread(..) => [None; 2],
            Target::PipeReader(pipe) => {
                self.put_reader(pipe);
                [Some(pipe), None]
            }
            Target::PipeWriter(pipe) => {
                self.put_writer(pipe);
                [Some(pipe), None]
            }
            Target::Socket(from, to) => {
                let is_unread = self.pipes.get(from).is_some_and(|pipe| !pipe.is_empty());
                if let (true, Some(other)) = (is_unread, self.pipes.get_mut(to)) {
                    other.reset();
                }
                self.put_reader(from);
                self.put_writer(to);
                [Some(from), Some(to)]
            }
        }
    }

    fn put_reader(&mut self, pipe: PipeKey) {
        self.change_pipe(pipe, |pipe| pipe.nr_readers = pipe.nr_readers.saturating_sub(1));
    }

    fn put_writer(&mut self, pipe: PipeKey) {
        self.change_pipe(pipe, |pipe| pipe.nr_writers = pipe.nr_writers.saturating_sub(1));
    }

    fn change_pipe(&mut self, key: PipeKey, change: impl FnOnce(&mut Pipe)) {
        let Some(pipe) = self.pipes.get_mut(key) else { return };
        change(pipe);
        if pipe.nr_readers == 0 && pipe.nr_writers == 0 {
            self.released_pages.extend(pipe.pages());
            self.pipes.remove(key);
        }
    }
}
