//! Descriptors: open, close, dup, pipe, fcntl with the seals of memfds, ioctl, memfd_create; files without a name.
//!
//! Linux 6.12: fs/open.c, fs/file.c, fs/pipe.c, fs/fcntl.c, mm/memfd.c.

use alloc::vec::Vec;

use address_space::FileId;
use page_cache::Seals;

use super::open_files::{Hold, Stream};
use super::page_scan::PAGEMAP_SCAN;
use super::{Context, Outcome, Table, add};
use crate::errno::Errno;
use crate::files::{
    Descriptor, Descriptors, Found, InodeKey, Kind, LastLink, OpenFlags, Pipe, PipeKey, Place, ProcessFile, S_IFDIR,
    S_IFLNK, S_IFMT, Target,
};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::schedule::Stop;
use crate::user_memory::open_flags;
use crate::wait::WaitFor;
use crate::world::World;

/// The caller's working directory as a directory descriptor.
pub(super) const AT_FDCWD: u64 = -100_i32 as u32 as u64;
pub(super) const AT_EMPTY_PATH: u64 = 0x1000;
/// Longest name of a memfd.
const MEMFD_NAME_MAX: usize = 249;

impl<M: Memory> World<M> {
    /// Takes one user from an open file; who waits for its pipe looks again.
    pub(crate) fn put_open(&mut self, file: crate::files::OpenKey) {
        for pipe in self.files.put(file).into_iter().flatten() {
            self.wake_files(WaitFor::Pipe(pipe));
        }
    }

    /// Closes every descriptor of a table.
    pub(crate) fn close_all(&mut self, descriptors: Descriptors) {
        for (_, descriptor) in descriptors.iter() {
            self.put_open(descriptor.file);
        }
    }
}

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Adds the calls of this file to the table.
    #[rustfmt::skip]
    pub(super) const fn descriptors_calls(table: Table<M, D>) -> Table<M, D> {
        add(table, [
            (2, "open", |cx, [path, flags, mode, ..]| cx.open_at(AT_FDCWD, path, flags, mode)),
            (3, "close", |cx, [fd, ..]| cx.close(fd)),
            (16, "ioctl", |cx, [fd, request, argument, ..]| cx.ioctl(fd, request, argument)),
            (22, "pipe", |cx, [ends, ..]| cx.pipe(ends, 0)),
            (32, "dup", |cx, [fd, ..]| cx.dup_from(fd, 0, false)),
            (33, "dup2", |cx, [old, new, ..]| cx.dup2(old, new)),
            (72, "fcntl", |cx, [fd, command, argument, ..]| cx.fcntl(fd, command, argument)),
            (85, "creat", |cx, [path, mode, ..]| {
                    let flags = OpenFlags::WRONLY | OpenFlags::CREAT | OpenFlags::TRUNC;
                    cx.open_at(AT_FDCWD, path, flags.bits().into(), mode)
                }),
            (257, "openat", |cx, [directory, path, flags, mode, ..]| cx.open_at(directory, path, flags, mode)),
            (292, "dup3", |cx, [old, new, flags, ..]| cx.dup3(old, new, flags)),
            (293, "pipe2", |cx, [ends, flags, ..]| cx.pipe(ends, flags)),
            (319, "memfd_create", |cx, [name, flags, ..]| cx.memfd_create(name, flags)),
            (436, "close_range", |cx, [first, last, flags, ..]| cx.close_range(first, last, flags)),
        ])
    }

    /// Returns the place that paths of a call begin at.
    ///
    /// # Errors
    /// EBADF, ENOTDIR.
    pub(super) fn start_of(&self, world: &World<M>, directory: u64) -> Result<Place, Errno> {
        let process = world.processes.get(self.thread.process).ok_or(Errno::ESRCH)?;
        if directory as u32 == AT_FDCWD as u32 {
            return Ok(process.directory);
        }
        let file = process.descriptors.get(directory)?.file;
        let open = world.files.open.get(file).ok_or(Errno::EBADF)?;
        let place = match open.target {
            Target::Inode(key) => Place::Inode(key),
            // The number may be another process's by now.
            Target::Proc(node) if node.process().is_some_and(|pid| !world.is_still(pid, open.subject)) => {
                return Err(Errno::ESRCH);
            }
            Target::Proc(node) => Place::Proc(node),
            _ => return Err(Errno::ENOTDIR),
        };
        Ok(place)
    }

    /// Walks a path of the program.
    pub(super) fn find(&self, world: &World<M>, directory: u64, path: &[u8], last: LastLink) -> Result<Found, Errno> {
        let start =
            if path.first() == Some(&b'/') { world.files.root_place()? } else { self.start_of(world, directory)? };
        world.walk(self.thread.process, start, path, last)
    }

    fn open_at(&mut self, directory: u64, path: u64, flags: u64, mode: u64) -> Outcome {
        let mut flags = open_flags(flags);
        if flags.contains(OpenFlags::PATH) {
            // The others do not count for what is not opened.
            flags &= OpenFlags::PATH | OpenFlags::CLOEXEC | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW;
        }
        let path = self.read_path(path)?;
        if flags.contains(OpenFlags::TMPFILE) {
            return self.open_tmpfile(directory, &path, flags, mode);
        }
        let (mut contents, mut made) = (None, false);
        let opened = loop {
            match self.try_open(directory, &path, (flags, mode), &mut contents) {
                // A file has to be made: its contents first, outside the lock, and then another look.
                Err(Stop::Failed(Errno::ENOENT)) if flags.contains(OpenFlags::CREAT) && contents.is_none() => {
                    let found = self.find(&self.world(), directory, &path, LastLink::Follow)?;
                    contents = Some(self.new_contents(found.directory)?);
                    made = true;
                }
                opened => break opened,
            }
        };
        if let Some(unused) = contents {
            self.userland.memory().file_put(self.cpu, unused);
        }
        let (fd, place) = opened?;
        if flags.contains(OpenFlags::CREAT) && made {
            self.name_contents(place);
        }
        if flags.contains(OpenFlags::TRUNC) {
            self.truncate_place(place, 0)?;
        }
        Ok(fd)
    }

    /// Makes a file without a name in a directory, which only says on which file system (Linux: `do_tmpfile`).
    fn open_tmpfile(&mut self, directory: u64, path: &[u8], flags: OpenFlags, mode: u64) -> Outcome {
        let is_odd = !flags.contains(OpenFlags::DIRECTORY) || flags.contains(OpenFlags::CREAT);
        if is_odd || !flags.writes() {
            return Err(Errno::EINVAL.into());
        }
        let (place, umask) = {
            let world = self.world();
            let place = self.find(&world, directory, path, LastLink::Follow)?.existing()?;
            match place {
                _ if !world.is_directory(place) => return Err(Errno::ENOTDIR.into()),
                Place::Proc(_) => return Err(Errno::EOPNOTSUPP.into()),
                Place::Inode(_) => (place, world.processes.get(self.thread.process).map_or(0, |process| process.umask)),
            }
        };
        let contents = self.new_contents(place)?;
        Ok(self.open_nameless(contents, (mode as u32 & !umask, None), flags)?)
    }

    /// Makes the contents of a file in a directory: in /dev/shm they are of tmpfs, elsewhere of ramfs.
    fn new_contents(&self, directory: Place) -> Result<FileId, Errno> {
        let is_tmpfs = {
            let world = self.world();
            let shm = world.walk(self.thread.process, world.files.root_place()?, b"/dev/shm", LastLink::Keep)?;
            shm.place == Some(directory)
        };
        // Of the same kind as a memfd that has no seals of its own.
        let as_memfd = is_tmpfs.then_some((&b""[..], Seals::SEAL));
        Ok(self.userland.memory().file_create(self.cpu, as_memfd)?)
    }

    /// Opens contents that no directory names, a memfd's if they have a name of their own; they are put if that fails.
    fn open_nameless(
        &self,
        contents: FileId,
        (permissions, memfd_name): (u32, Option<Vec<u8>>),
        flags: OpenFlags,
    ) -> Result<u64, Errno> {
        let now = self.now_ns();
        let mut world = self.world();
        let inode = match world.files.new_inode(Kind::Regular(contents), permissions, now) {
            Ok(inode) => inode,
            Err(error) => {
                drop(world);
                self.userland.memory().file_put(self.cpu, contents);
                return Err(error);
            }
        };
        let is_memfd = memfd_name.is_some();
        if let Some(inode) = world.files.inodes.get_mut(inode) {
            inode.memfd_name = memfd_name;
        }
        let fd = self.open_target(&mut world, Target::Inode(inode), flags);
        let process = world.processes.get(self.thread.process);
        let made = fd.ok().and_then(|fd| process?.descriptors.get(fd).ok());
        if let (true, Some(made)) = (is_memfd, made) {
            world.files.forget_writer(made.file);
        }
        world.files.drop_unused(inode);
        fd
    }

    /// Opens what a path names, or makes it out of `contents`, which are then taken.
    ///
    /// # Errors
    /// ENOENT also if a file has to be made and there are no contents for it.
    fn try_open(
        &self,
        directory: u64,
        path: &[u8],
        (flags, mode): (OpenFlags, u64),
        contents: &mut Option<FileId>,
    ) -> Result<(u64, Place), Stop> {
        let is_exclusive = flags.contains(OpenFlags::CREAT | OpenFlags::EXCL);
        let keeps_link = is_exclusive || flags.contains(OpenFlags::NOFOLLOW);
        let last = if keeps_link { LastLink::Keep } else { LastLink::Follow };
        let now = self.now_ns();
        let mut world = self.world();
        let found = self.find(&world, directory, path, last)?;
        let place = match found.place {
            Some(_) if is_exclusive => return Err(Errno::EEXIST.into()),
            Some(place) => place,
            None if found.wants_directory && flags.contains(OpenFlags::CREAT) => return Err(Errno::EISDIR.into()),
            None => {
                let file = contents.ok_or(Errno::ENOENT)?;
                let umask = world.processes.get(self.thread.process).map_or(0, |process| process.umask);
                let kind = Kind::Regular(file);
                let inode = world.files.create(found.parent()?, &found.name, kind, mode as u32 & !umask, now)?;
                let place = Place::Inode(inode);
                *contents = None;
                let opened = self.open_place(&mut world, place, flags);
                if opened.is_err() {
                    // The file goes again, and its contents with it.
                    world.files.unlink(found.parent()?, &found.name, now)?;
                }
                return Ok((opened?, place));
            }
        };
        Ok((self.open_place(&mut world, place, flags)?, place))
    }

    /// Tells the memory manager the path of a file, for maps. Without memory for it the file goes without.
    pub(super) fn name_contents(&self, place: Place) {
        let Place::Inode(key) = place else { return };
        let name = self.world().name_of(key);
        if let (Ok(name), Ok(Some(contents))) = (name, self.contents_of(key)) {
            let _ = self.userland.memory().file_set_name(self.cpu, contents, &name);
        }
    }

    /// Opens a place and gives it a descriptor.
    fn open_place(&self, world: &mut World<M>, place: Place, flags: OpenFlags) -> Result<u64, Errno> {
        let is_directory = world.is_directory(place);
        if flags.contains(OpenFlags::DIRECTORY) && !is_directory {
            return Err(Errno::ENOTDIR);
        }
        if is_directory && (flags.writes() || flags.intersects(OpenFlags::CREAT | OpenFlags::TRUNC)) {
            return Err(Errno::EISDIR);
        }
        if let Place::Inode(key) = place
            && flags.contains(OpenFlags::TRUNC)
        {
            world.files.check_not_run(key)?;
        }
        let is_link = match place {
            Place::Inode(key) => world.files.inodes.get(key).is_some_and(|inode| matches!(inode.kind, Kind::Link(_))),
            Place::Proc(node) => node.mode() & S_IFMT == S_IFLNK,
        };
        if is_link && !flags.contains(OpenFlags::PATH) {
            return Err(Errno::ELOOP);
        }
        let target = match place {
            Place::Inode(key) => Target::Inode(key),
            Place::Proc(node) => Target::Proc(node),
        };
        self.open_target(world, target, flags)
    }

    /// Makes an open file with a descriptor.
    pub(super) fn open_target(&self, world: &mut World<M>, target: Target, flags: OpenFlags) -> Result<u64, Errno> {
        let (subject, text) = world.subject(target)?;
        let file = world.files.open(target, flags & OpenFlags::STATUS)?;
        if let Some(open) = world.files.open.get_mut(file) {
            (open.subject, open.text) = (subject, text);
        }
        let descriptor = Descriptor { file, closes_on_exec: flags.contains(OpenFlags::CLOEXEC) };
        let process = world.processes.get_mut(self.thread.process).ok_or(Errno::ESRCH)?;
        let limit = process.other_limits.descriptors[0];
        process.descriptors.add(descriptor, 0, limit).inspect_err(|_| world.put_open(file))
    }

    /// Sets the size of a regular file.
    pub(super) fn truncate_place(&self, place: Place, size: u64) -> Outcome {
        let contents = match place {
            Place::Inode(key) => {
                let contents = self.contents_of(key)?;
                self.world().files.check_not_run(key)?;
                contents
            }
            Place::Proc(node) if node.mode() & S_IFMT == S_IFDIR => return Err(Errno::EISDIR.into()),
            // What has no size of its own does not mind.
            Place::Proc(_) => None,
        };
        if let Some(contents) = contents {
            self.userland.memory().file_truncate(self.cpu, contents, size)?;
        }
        Ok(0)
    }

    /// Returns the contents of a regular file; none of a device.
    pub(super) fn contents_of(&self, key: InodeKey) -> Result<Option<FileId>, Errno> {
        match self.world().files.inodes.get(key).map(|inode| &inode.kind) {
            Some(Kind::Regular(contents)) => Ok(Some(*contents)),
            Some(Kind::Device(_)) => Ok(None),
            Some(Kind::Directory { .. }) => Err(Errno::EISDIR),
            Some(Kind::Link(_)) | None => Err(Errno::EINVAL),
        }
    }

    pub(super) fn close(&mut self, fd: u64) -> Outcome {
        let mut world = self.world();
        let process = world.processes.get_mut(self.thread.process).ok_or(Errno::ESRCH)?;
        let file = process.descriptors.remove(fd)?.file;
        world.put_open(file);
        Ok(0)
    }

    fn close_range(&mut self, first: u64, last: u64, flags: u64) -> Outcome {
        const UNSHARE: u64 = 2;
        const CLOEXEC: u64 = 4;
        let (first, last) = (u64::from(first as u32), u64::from(last as u32));
        if first > last || flags & !(UNSHARE | CLOEXEC) != 0 {
            return Err(Errno::EINVAL.into());
        }
        let end = self.with_process(|process| process.descriptors.len())?;
        for fd in first..last.saturating_add(1).min(end) {
            if flags & CLOEXEC != 0 {
                // Numbers without a file are passed over.
                let _ =
                    self.with_process(|process| process.descriptors.get_mut(fd).map(|one| one.closes_on_exec = true));
            } else {
                let _ = self.close(fd);
            }
        }
        Ok(0)
    }

    fn dup_from(&mut self, fd: u64, from: usize, closes_on_exec: bool) -> Outcome {
        let mut world = self.world();
        let process = world.processes.get_mut(self.thread.process).ok_or(Errno::ESRCH)?;
        let file = process.descriptors.get(fd)?.file;
        let limit = process.other_limits.descriptors[0];
        let new = process.descriptors.add(Descriptor { file, closes_on_exec }, from, limit)?;
        world.files.get(file);
        Ok(new)
    }

    fn dup2(&mut self, old: u64, new: u64) -> Outcome {
        if old as u32 == new as u32 {
            self.descriptor(old)?;
            return Ok(new);
        }
        self.dup3(old, new, 0)
    }

    fn dup3(&mut self, old: u64, new: u64, flags: u64) -> Outcome {
        let flags = open_flags(flags);
        if old as u32 == new as u32 || !OpenFlags::CLOEXEC.contains(flags) {
            return Err(Errno::EINVAL.into());
        }
        let mut world = self.world();
        let process = world.processes.get_mut(self.thread.process).ok_or(Errno::ESRCH)?;
        let file = process.descriptors.get(old)?.file;
        let limit = process.other_limits.descriptors[0];
        if u64::from(new as u32) >= limit {
            return Err(Errno::EBADF.into());
        }
        let descriptor = Descriptor { file, closes_on_exec: flags.contains(OpenFlags::CLOEXEC) };
        let replaced = process.descriptors.set(new as u32 as usize, Some(descriptor), limit)?;
        world.files.get(file);
        if let Some(replaced) = replaced {
            world.put_open(replaced.file);
        }
        Ok(new)
    }

    fn pipe(&mut self, ends: u64, flags: u64) -> Outcome {
        let flags = open_flags(flags);
        if !(OpenFlags::CLOEXEC | OpenFlags::NONBLOCK).contains(flags) {
            return Err(Errno::EINVAL.into());
        }
        let pipe: PipeKey = self.world().files.pipes.insert(Pipe::default())?;
        let [reader, writer] =
            [(Target::PipeReader(pipe), flags), (Target::PipeWriter(pipe), flags | OpenFlags::WRONLY)];
        self.open_ends(&[pipe], [reader, writer], ends)
    }

    /// Opens both ends of new pipes and writes their descriptors to `to`. Nothing is left of them if that fails.
    pub(super) fn open_ends(&mut self, pipes: &[PipeKey], ends: [(Target, OpenFlags); 2], to: u64) -> Outcome {
        let [(first, first_flags), (second, second_flags)] = ends;
        let mut world = self.world();
        let first = match self.open_target(&mut world, first, first_flags) {
            Ok(first) => first,
            Err(error) => {
                pipes.iter().for_each(|&pipe| drop(world.files.pipes.remove(pipe)));
                return Err(error.into());
            }
        };
        let second = self.open_target(&mut world, second, second_flags);
        drop(world);
        let second = match second {
            Ok(second) => second,
            Err(error) => {
                self.close(first)?;
                return Err(error.into());
            }
        };
        if let Err(error) = self.write_words(to, &[first | second << 32]) {
            self.close(first)?;
            self.close(second)?;
            return Err(error.into());
        }
        Ok(0)
    }

    fn fcntl(&mut self, fd: u64, command: u64, argument: u64) -> Outcome {
        const DUPFD: u64 = 0;
        const GETFD: u64 = 1;
        const SETFD: u64 = 2;
        const GETFL: u64 = 3;
        const SETFL: u64 = 4;
        const DUPFD_CLOEXEC: u64 = 1030;
        const GETPIPE_SZ: u64 = 1032;
        const ADD_SEALS: u64 = 1033;
        const GET_SEALS: u64 = 1034;
        match command {
            DUPFD | DUPFD_CLOEXEC => {
                let limit = self.with_process(|process| process.other_limits.descriptors[0])?;
                if argument >= limit {
                    return Err(Errno::EINVAL.into());
                }
                self.dup_from(fd, argument as usize, command == DUPFD_CLOEXEC)
            }
            GETFD => Ok(self.descriptor(fd)?.closes_on_exec.into()),
            SETFD => {
                let closes = argument & 1 != 0;
                self.with_process(|process| process.descriptors.get_mut(fd).map(|one| one.closes_on_exec = closes))??;
                Ok(0)
            }
            GETFL => Ok(self.with_open(fd, |open| open.flags.bits())?.into()),
            SETFL => {
                let settable = OpenFlags::APPEND | OpenFlags::NONBLOCK;
                let wanted = open_flags(argument) & settable;
                self.with_open(fd, |open| open.flags = (open.flags - settable) | wanted)?;
                Ok(0)
            }
            GETPIPE_SZ => match self.with_open(fd, |open| open.target)? {
                Target::PipeReader(_) | Target::PipeWriter(_) => Ok(crate::files::PIPE_CAPACITY),
                _ => Err(Errno::EBADF.into()),
            },
            ADD_SEALS => self.add_seals(fd, argument),
            GET_SEALS => {
                let file = self.sealable(fd)?;
                Ok(self.userland.memory().file_seals(self.cpu, file)?.bits().into())
            }
            _ => {
                self.descriptor(fd)?;
                Err(Errno::EINVAL.into())
            }
        }
    }

    /// Returns the contents of a descriptor that may have seals.
    fn sealable(&mut self, fd: u64) -> Result<FileId, Errno> {
        match self.source(fd)?.stream {
            Stream::Contents(file) => Ok(file),
            _ => Err(Errno::EINVAL),
        }
    }

    fn add_seals(&mut self, fd: u64, seals: u64) -> Outcome {
        let file = self.sealable(fd)?;
        if !self.source(fd)?.flags.writes() {
            return Err(Errno::EPERM.into());
        }
        let seals = u32::try_from(seals).ok().and_then(Seals::from_bits).ok_or(Errno::EINVAL)?;
        self.userland.memory().file_add_seals(self.cpu, file, seals)?;
        Ok(0)
    }

    /// No file here is a terminal; pipes tell how much they hold, and pagemap looks for pages.
    fn ioctl(&mut self, fd: u64, request: u64, argument: u64) -> Outcome {
        const FIONREAD: u64 = 0x541b;
        let file = self.hold(fd, Hold::First)?;
        let (target, subject) = self.with_file(file, |open| (open.target, open.subject))?;
        match (request, target) {
            (_, Target::Proc(node)) if node.file().is_some_and(|(_, file)| file == ProcessFile::Pagemap) => {
                match request {
                    PAGEMAP_SCAN => self.page_scan(subject, argument),
                    _ => Err(Errno::EINVAL.into()),
                }
            }
            (FIONREAD, Target::PipeReader(pipe) | Target::PipeWriter(pipe) | Target::Socket(pipe, _)) => {
                let length = self.world().files.pipes.get(pipe).map_or(0, Pipe::len);
                self.write_u32(argument, length as u32)?;
                Ok(0)
            }
            _ => Err(Errno::ENOTTY.into()),
        }
    }

    fn memfd_create(&mut self, name: u64, flags: u64) -> Outcome {
        const CLOEXEC: u64 = 1;
        const ALLOW_SEALING: u64 = 2;
        const NOEXEC_SEAL: u64 = 8;
        const EXEC: u64 = 16;
        if flags & !(CLOEXEC | ALLOW_SEALING | NOEXEC_SEAL | EXEC) != 0 {
            return Err(Errno::EINVAL.into());
        }
        let name = self.read_string(name, MEMFD_NAME_MAX + 1, Errno::EINVAL)?;
        let mut seals = if flags & (ALLOW_SEALING | NOEXEC_SEAL) != 0 { Seals::empty() } else { Seals::SEAL };
        let is_executable = flags & NOEXEC_SEAL == 0;
        seals.set(Seals::EXEC, !is_executable);
        let contents = self.userland.memory().file_create(self.cpu, Some((&name, seals)))?;
        let mut open = OpenFlags::RDWR;
        open.set(OpenFlags::CLOEXEC, flags & CLOEXEC != 0);
        let permissions = if is_executable { 0o777 } else { 0o666 };
        Ok(self.open_nameless(contents, (permissions, Some(name)), open)?)
    }
}
