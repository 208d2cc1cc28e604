//! The tree of names: getcwd, chdir, mkdir, rmdir, unlink, rename, link, symlink, readlink, getdents64, mknod.
//!
//! Linux 6.12: fs/namei.c, fs/open.c, fs/readdir.c, fs/d_path.c.

use alloc::vec::Vec;

use super::descriptors::AT_FDCWD;
use super::open_files::Hold;
use super::{Context, Outcome, Table, add};
use crate::errno::Errno;
use crate::files::{Device, Found, Inode, Kind, LastLink, Place, ProcNode, S_IFCHR, S_IFMT, S_IFREG, Target};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::slots::{Text, extend, push};
use crate::user_memory::UserBuffer;
use crate::world::World;

const AT_REMOVEDIR: u64 = 0x200;
const AT_SYMLINK_FOLLOW: u64 = 0x400;
/// Bytes of a directory entry before its name.
const HEADER: usize = 19;

/// Types of directory entries.
const DT_UNKNOWN: u8 = 0;
const DT_DIR: u8 = 4;

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Adds the calls of this file to the table.
    #[rustfmt::skip]
    pub(super) const fn directories_calls(table: Table<M, D>) -> Table<M, D> {
        add(table, [
            (79, "getcwd", |cx, [buffer, bytes, ..]| cx.getcwd(UserBuffer { addr: buffer, bytes })),
            (80, "chdir", |cx, [path, ..]| cx.chdir(path)),
            (81, "fchdir", |cx, [fd, ..]| cx.fchdir(fd)),
            (82, "rename", |cx, [old, new, ..]| cx.rename_at(AT_FDCWD, old, AT_FDCWD, new, 0)),
            (83, "mkdir", |cx, [path, mode, ..]| cx.mkdir_at(AT_FDCWD, path, mode)),
            (84, "rmdir", |cx, [path, ..]| cx.unlink_at(AT_FDCWD, path, AT_REMOVEDIR)),
            (86, "link", |cx, [old, new, ..]| cx.link_at(AT_FDCWD, old, AT_FDCWD, new, 0)),
            (87, "unlink", |cx, [path, ..]| cx.unlink_at(AT_FDCWD, path, 0)),
            (88, "symlink", |cx, [target, path, ..]| cx.symlink_at(target, AT_FDCWD, path)),
            (89, "readlink", |cx, [path, buffer, bytes, ..]| { cx.readlink_at(AT_FDCWD, path, UserBuffer { addr: buffer, bytes }) }),
            (133, "mknod", |cx, [path, mode, device, ..]| cx.mknod_at(AT_FDCWD, path, mode, device)),
            (217, "getdents64", |cx, [fd, buffer, bytes, ..]| {
                    cx.getdents64(fd, UserBuffer { addr: buffer, bytes: bytes as u32 as u64 })
                }),
            (258, "mkdirat", |cx, [directory, path, mode, ..]| cx.mkdir_at(directory, path, mode)),
            (259, "mknodat", |cx, [directory, path, mode, device, ..]| cx.mknod_at(directory, path, mode, device)),
            (263, "unlinkat", |cx, [directory, path, flags, ..]| cx.unlink_at(directory, path, flags)),
            (264, "renameat", |cx, [from, old, to, new, ..]| cx.rename_at(from, old, to, new, 0)),
            (265, "linkat", |cx, [from, old, to, new, flags, _]| cx.link_at(from, old, to, new, flags)),
            (266, "symlinkat", |cx, [target, directory, path, ..]| cx.symlink_at(target, directory, path)),
            (267, "readlinkat", |cx, [directory, path, buffer, bytes, ..]| {
                    cx.readlink_at(directory, path, UserBuffer { addr: buffer, bytes })
                }),
            (316, "renameat2", |cx, [from, old, to, new, flags, _]| cx.rename_at(from, old, to, new, flags)),
        ])
    }

    fn getcwd(&mut self, buffer: UserBuffer) -> Outcome {
        let mut path = {
            let world = self.world();
            let process = world.processes.get(self.thread.process).ok_or(Errno::ESRCH)?;
            world.path_of(process.directory)?
        };
        push(&mut path, 0)?;
        if path.len() as u64 > buffer.bytes {
            return Err(Errno::ERANGE.into());
        }
        Ok(self.write_cut(buffer, &path)?)
    }

    fn chdir(&mut self, path: u64) -> Outcome {
        let path = self.read_path(path)?;
        let mut world = self.world();
        let place = self.find(&world, AT_FDCWD, &path, LastLink::Follow)?.existing()?;
        Ok(self.change_directory(&mut world, place)?)
    }

    fn fchdir(&mut self, fd: u64) -> Outcome {
        let mut world = self.world();
        let place = self.start_of(&world, fd)?;
        Ok(self.change_directory(&mut world, place)?)
    }

    fn change_directory(&self, world: &mut World<M>, place: Place) -> Result<u64, Errno> {
        if !world.is_directory(place) {
            return Err(Errno::ENOTDIR);
        }
        world.files.get_place(place);
        let process = world.processes.get_mut(self.thread.process).ok_or(Errno::ESRCH)?;
        let old = core::mem::replace(&mut process.directory, place);
        world.files.put_place(old);
        Ok(0)
    }

    /// Looks for a name that is to be made; a link that has it counts as there.
    fn find_new(&self, world: &World<M>, directory: u64, path: &[u8]) -> Result<Found, Errno> {
        let found = self.find(world, directory, path, LastLink::Keep)?;
        if found.place.is_some() { Err(Errno::EEXIST) } else { Ok(found) }
    }

    /// Makes a name for something that is no regular file.
    fn make(&self, directory: u64, path: &[u8], kind: Kind, mode: u64) -> Outcome {
        let now = self.now_ns();
        let mut world = self.world();
        let found = self.find_new(&world, directory, path)?;
        let is_directory = matches!(kind, Kind::Directory { .. });
        if found.wants_directory && !is_directory {
            return Err(Errno::ENOENT.into());
        }
        let umask = match kind {
            Kind::Link(_) => 0,
            _ => world.processes.get(self.thread.process).map_or(0, |process| process.umask),
        };
        world.files.create(found.parent()?, &found.name, kind, mode as u32 & 0o7777 & !umask, now)?;
        Ok(0)
    }

    fn mkdir_at(&mut self, directory: u64, path: u64, mode: u64) -> Outcome {
        let path = self.read_path(path)?;
        let parent = {
            let world = self.world();
            self.find_new(&world, directory, &path)?.parent()?
        };
        self.make(directory, &path, Kind::Directory { entries: Vec::new(), parent }, mode)
    }

    fn mknod_at(&mut self, directory: u64, path: u64, mode: u64, device: u64) -> Outcome {
        let path = self.read_path(path)?;
        match mode as u32 & S_IFMT {
            S_IFCHR => {
                let (major, minor) = ((device >> 8 & 0xfff) as u32, (device & 0xff | device >> 12 & 0xfff00) as u32);
                let device = Device::of_numbers(major, minor).ok_or(Errno::ENODEV)?;
                self.make(directory, &path, Kind::Device(device), mode)
            }
            0 | S_IFREG => {
                let contents = self.userland.memory().file_create(self.cpu, None)?;
                let made = self.make(directory, &path, Kind::Regular(contents), mode);
                if made.is_err() {
                    self.userland.memory().file_put(self.cpu, contents);
                }
                made
            }
            // Named pipes, sockets and block devices are not here.
            _ => Err(Errno::EINVAL.into()),
        }
    }

    fn symlink_at(&mut self, target: u64, directory: u64, path: u64) -> Outcome {
        let target = self.read_path(target)?;
        if target.is_empty() {
            return Err(Errno::ENOENT.into());
        }
        let path = self.read_path(path)?;
        self.make(directory, &path, Kind::Link(target), 0o777)
    }

    fn unlink_at(&mut self, directory: u64, path: u64, flags: u64) -> Outcome {
        let path = self.read_path(path)?;
        let now = self.now_ns();
        let mut world = self.world();
        let found = self.find(&world, directory, &path, LastLink::Keep)?;
        let place = found.existing()?;
        let removes_directory = flags & AT_REMOVEDIR != 0;
        let Place::Inode(key) = place else { return Err(Errno::EPERM.into()) };
        if removes_directory {
            if matches!(found.name.as_slice(), b"." | b"") {
                return Err(Errno::EINVAL.into());
            }
            if !world.files.is_directory(key) {
                return Err(Errno::ENOTDIR.into());
            }
            if !world.files.is_empty(key) {
                return Err(Errno::ENOTEMPTY.into());
            }
        } else if world.files.is_directory(key) {
            return Err(Errno::EISDIR.into());
        }
        world.files.unlink(found.parent()?, &found.name, now)?;
        Ok(0)
    }

    fn rename_at(&mut self, from: u64, old: u64, to: u64, new: u64, flags: u64) -> Outcome {
        const NOREPLACE: u64 = 1;
        if flags & !NOREPLACE != 0 {
            return Err(Errno::EINVAL.into());
        }
        let (old, new) = (self.read_path(old)?, self.read_path(new)?);
        let now = self.now_ns();
        let mut world = self.world();
        let source = self.find(&world, from, &old, LastLink::Keep)?;
        source.existing()?;
        let target = self.find(&world, to, &new, LastLink::Keep)?;
        if flags & NOREPLACE != 0 && target.place.is_some() {
            return Err(Errno::EEXIST.into());
        }
        world.files.rename((source.parent()?, &source.name), (target.parent()?, &target.name), now)?;
        drop(world);
        if let Some(place) = source.place {
            self.name_contents(place);
        }
        Ok(0)
    }

    fn link_at(&mut self, from: u64, old: u64, to: u64, new: u64, flags: u64) -> Outcome {
        let (old, new) = (self.read_path(old)?, self.read_path(new)?);
        let last = if flags & AT_SYMLINK_FOLLOW != 0 { LastLink::Follow } else { LastLink::Keep };
        let now = self.now_ns();
        let mut world = self.world();
        let source = self.find(&world, from, &old, last)?.existing()?;
        let found = self.find_new(&world, to, &new)?;
        match source {
            Place::Proc(_) => Err(Errno::EXDEV.into()),
            Place::Inode(key) if world.files.is_directory(key) => Err(Errno::EPERM.into()),
            Place::Inode(key) => {
                world.files.link(found.parent()?, &found.name, key, now)?;
                Ok(0)
            }
        }
    }

    fn readlink_at(&mut self, directory: u64, path: u64, buffer: UserBuffer) -> Outcome {
        let path = self.read_path(path)?;
        if buffer.bytes as i32 <= 0 {
            return Err(Errno::EINVAL.into());
        }
        let target = {
            let world = self.world();
            let place = self.find(&world, directory, &path, LastLink::Keep)?.existing()?;
            world.read_link(self.thread.process, place)?
        };
        Ok(self.write_cut(buffer, &target)?)
    }

    fn getdents64(&mut self, fd: u64, buffer: UserBuffer) -> Outcome {
        let file = self.hold(fd, Hold::First)?;
        let (target, mut place) = self.with_file(file, |open| (open.target, open.offset))?;
        let mut listed = Vec::new();
        let room = buffer.bytes.min(32768) as usize;
        loop {
            let entry = self.world().directory_entry(target, place)?;
            let Some(entry) = entry else { break };
            let length = (HEADER + entry.name.len() + 1).next_multiple_of(8);
            if listed.len() + length > room {
                if listed.is_empty() {
                    return Err(Errno::EINVAL.into());
                }
                break;
            }
            extend(&mut listed, &entry.number.to_le_bytes())?;
            extend(&mut listed, &entry.next.to_le_bytes())?;
            extend(&mut listed, &(length as u16).to_le_bytes())?;
            push(&mut listed, entry.kind)?;
            extend(&mut listed, &entry.name)?;
            let end = listed.len() + length - HEADER - entry.name.len();
            listed.try_reserve(length).map_err(|_| Errno::ENOMEM)?;
            listed.resize(end, 0);
            place = entry.next;
        }
        self.write(buffer.addr, &listed)?;
        self.with_file(file, |open| open.offset = place)?;
        Ok(listed.len() as u64)
    }
}

/// A name as getdents64 lists it.
struct Listed {
    number: u64,
    /// Place of the next name.
    next: u64,
    kind: u8,
    name: Vec<u8>,
}

impl<M: Memory> World<M> {
    /// Returns the name at or behind a place: 0 and 1 are `.` and `..`.
    fn directory_entry(&self, directory: Target, place: u64) -> Result<Option<Listed>, Errno> {
        let dots = match place {
            0 => Some(&b"."[..]),
            1 => Some(&b".."[..]),
            _ => None,
        };
        if let Target::Proc(node) = directory
            && self.is_of_nobody(node)
        {
            return Err(Errno::ENOENT);
        }
        match directory {
            Target::Inode(key) => {
                if !self.files.is_directory(key) {
                    return Err(Errno::ENOTDIR);
                }
                if let Some(name) = dots {
                    return listed(name, key.raw().into(), DT_DIR, place + 1).map(Some);
                }
                let at = usize::try_from(place - 2).unwrap_or(usize::MAX);
                let Some((at, entry)) = self.files.entry_from(key, at) else { return Ok(None) };
                let kind = self.files.inodes.get(entry.inode).map_or(DT_UNKNOWN, Inode::listed_kind);
                listed(&entry.name, entry.inode.raw().into(), kind, at as u64 + 3).map(Some)
            }
            Target::Proc(node) if node.mode() & S_IFMT == crate::files::S_IFDIR => match dots {
                Some(name) => listed(name, node.number(), DT_DIR, place + 1).map(Some),
                None => self.proc_entry(node, place),
            },
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Lists a directory of /proc: fixed names first, then numbers in their order.
    fn proc_entry(&self, node: ProcNode, place: u64) -> Result<Option<Listed>, Errno> {
        /// Place of number 0.
        const NUMBERS: u64 = 1 << 32;
        let at = usize::try_from(place - 2).unwrap_or(usize::MAX);
        if place < NUMBERS
            && let Some(name) = node.fixed_name(at)
        {
            let child = node.child(name.as_bytes());
            let (number, mode) = child.map_or((0, 0), |child| (child.number(), child.mode()));
            return listed(name.as_bytes(), number, (mode >> 12) as u8, place + 1).map(Some);
        }
        let from = place.saturating_sub(NUMBERS);
        let next = match node {
            ProcNode::Root => {
                self.processes.iter().map(|(_, process)| process.pid.into()).filter(|&pid| pid >= from).min()
            }
            ProcNode::Tasks(pid) => {
                let key = self.process_of(pid).ok_or(Errno::ENOENT)?;
                let own = self.threads.iter().filter(|(_, thread)| thread.process == key);
                own.map(|(_, thread)| u64::from(thread.tid)).chain([pid.into()]).filter(|&tid| tid >= from).min()
            }
            ProcNode::Descriptors(pid) => {
                let process = self.process_of(pid).and_then(|key| self.processes.get(key)).ok_or(Errno::ENOENT)?;
                process.descriptors.iter().map(|(number, _)| number).find(|&number| number >= from)
            }
            _ => None,
        };
        let Some(number) = next else { return Ok(None) };
        let mut name = Text::default();
        core::fmt::Write::write_fmt(&mut name, format_args!("{number}")).map_err(|_| Errno::ENOMEM)?;
        let child = node.child(&name.0);
        let (inode, mode) = child.map_or((0, 0), |child| (child.number(), child.mode()));
        listed(&name.0, inode, (mode >> 12) as u8, NUMBERS + number + 1).map(Some)
    }
}

fn listed(name: &[u8], number: u64, kind: u8, next: u64) -> Result<Listed, Errno> {
    Ok(Listed { number, next, kind, name: crate::slots::copy_of(name)? })
}

impl Inode {
    /// Returns the type of a directory entry, which is the mode's.
    const fn listed_kind(&self) -> u8 {
        (self.mode() >> 12) as u8
    }
}
