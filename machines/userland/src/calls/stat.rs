//! What files are: stat, statx and relatives, access, chmod, truncate, fallocate, utimensat, statfs, sync.
//!
//! Linux 6.12: fs/stat.c, fs/open.c, fs/statfs.c, fs/utimes.c. There is one user, root, who may do everything; so permissions are kept and shown, and
//! only execution asks for one.

use page_cache::EndRule;

use super::descriptors::{AT_EMPTY_PATH, AT_FDCWD};
use super::open_files::{Hold, Stream};
use super::{Context, Outcome, Table, add};
use crate::errno::Errno;
use crate::files::{Kind, LastLink, Place, S_IFIFO, S_IFSOCK, Target};
use crate::machine::Machine;
use crate::memory::Memory;

const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
const BLOCK: u64 = 4096;

/// What stat tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Facts {
    device: u64,
    number: u64,
    mode: u32,
    nr_links: u32,
    /// Numbers of a device.
    special: (u32, u32),
    size: u64,
    modified_ns: u64,
}

impl Facts {
    /// Returns struct stat of x86-64.
    const fn words(&self) -> [u64; 18] {
        let (seconds, nanos) = (self.modified_ns / 1_000_000_000, self.modified_ns % 1_000_000_000);
        let special = (self.special.0 as u64) << 8 | self.special.1 as u64;
        let blocks = self.size.div_ceil(BLOCK) * (BLOCK / 512);
        [
            self.device,
            self.number,
            self.nr_links as u64,
            self.mode as u64,
            0,
            special,
            self.size,
            BLOCK,
            blocks,
            seconds,
            nanos,
            seconds,
            nanos,
            seconds,
            nanos,
            0,
            0,
            0,
        ]
    }
}

impl Facts {
    /// Returns struct statx, with the fields of stat.
    const fn extended_words(&self) -> [u64; 32] {
        const BASIC_STATS: u64 = 0x7ff;
        let (seconds, nanos) = (self.modified_ns / 1_000_000_000, self.modified_ns % 1_000_000_000);
        let mut words = [0; 32];
        words[0] = BASIC_STATS | BLOCK << 32;
        words[2] = self.nr_links as u64;
        words[3] = (self.mode as u64) << 32;
        words[4] = self.number;
        words[5] = self.size;
        words[6] = self.size.div_ceil(BLOCK) * (BLOCK / 512);
        (words[8], words[9]) = (seconds, nanos);
        // The time of birth, at 10 and 11, is not kept.
        (words[12], words[13]) = (seconds, nanos);
        (words[14], words[15]) = (seconds, nanos);
        words[16] = self.special.0 as u64 | (self.special.1 as u64) << 32;
        words[17] = self.device << 32;
        words
    }
}

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Adds the calls of this file to the table.
    #[rustfmt::skip]
    pub(super) const fn stat_calls(table: Table<M, D>) -> Table<M, D> {
        add(table, [
            (4, "stat", |cx, [path, to, ..]| cx.stat_at(AT_FDCWD, path, to, 0)),
            (5, "fstat", |cx, [fd, to, ..]| cx.fstat(fd, to)),
            (6, "lstat", |cx, [path, to, ..]| cx.stat_at(AT_FDCWD, path, to, AT_SYMLINK_NOFOLLOW)),
            (21, "access", |cx, [path, mode, ..]| cx.access_at(AT_FDCWD, path, mode, 0)),
            (76, "truncate", |cx, [path, size, ..]| cx.truncate(path, size)),
            (77, "ftruncate", |cx, [fd, size, ..]| cx.ftruncate(fd, size)),
            (90, "chmod", |cx, [path, mode, ..]| cx.chmod_at(AT_FDCWD, path, mode)),
            (91, "fchmod", |cx, [fd, mode, ..]| cx.fchmod(fd, mode)),
            (92, "chown", |cx, [path, user, group, ..]| cx.chown_at(AT_FDCWD, path, (user, group), 0)),
            (93, "fchown", |cx, [fd, user, group, ..]| { cx.descriptor(fd)?; cx.chown(user, group) }),
            (94, "lchown", |cx, [path, user, group, ..]| cx.chown_at(AT_FDCWD, path, (user, group), AT_SYMLINK_NOFOLLOW)),
            (137, "statfs", |cx, [path, to, ..]| cx.statfs(path, to)),
            (138, "fstatfs", |cx, [fd, to, ..]| {
                    let is_proc = cx.with_open(fd, |open| matches!(open.target, Target::Proc(_)))?;
                    cx.write_statfs(is_proc, to)
                }),
            // Files are nowhere but in memory: what was written is as safe as it gets.
            (162, "sync", |_, _| Ok(0)),
            (74, "fsync", |cx, [fd, ..]| cx.fsync(fd)),
            (75, "fdatasync", |cx, [fd, ..]| cx.fsync(fd)),
            (260, "fchownat", |cx, [directory, path, user, group, flags, _]| cx.chown_at(directory, path, (user, group), flags)),
            (262, "newfstatat", |cx, [directory, path, to, flags, ..]| cx.stat_at(directory, path, to, flags)),
            (268, "fchmodat", |cx, [directory, path, mode, ..]| cx.chmod_at(directory, path, mode)),
            (269, "faccessat", |cx, [directory, path, mode, ..]| cx.access_at(directory, path, mode, 0)),
            (280, "utimensat", |cx, [directory, path, times, flags, ..]| cx.utimens_at(directory, path, times, flags)),
            (285, "fallocate", |cx, [fd, mode, offset, bytes, ..]| cx.fallocate(fd, mode, offset, bytes)),
            (332, "statx", |cx, [directory, path, flags, mask, to, _]| cx.statx(directory, path, flags, (mask, to))),
            (439, "faccessat2", |cx, [directory, path, mode, flags, ..]| cx.access_at(directory, path, mode, flags)),
        ])
    }

    /// Returns what a path with the flags of an `at` call names.
    fn place_at(&mut self, directory: u64, path: u64, flags: u64) -> Result<Target, Errno> {
        let path = self.read_path(path)?;
        if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
            if directory as u32 == AT_FDCWD as u32 {
                let world = self.world();
                return Ok(as_target(self.start_of(&world, directory)?));
            }
            return self.target(directory);
        }
        let last = if flags & AT_SYMLINK_NOFOLLOW != 0 { LastLink::Keep } else { LastLink::Follow };
        let world = self.world();
        Ok(as_target(self.find(&world, directory, &path, last)?.existing()?))
    }

    fn stat_at(&mut self, directory: u64, path: u64, to: u64, flags: u64) -> Outcome {
        let target = self.place_at(directory, path, flags)?;
        self.write_facts(target, to)
    }

    fn statx(&mut self, directory: u64, path: u64, flags: u64, (mask, to): (u64, u64)) -> Outcome {
        const SYNC_TYPE: u64 = 0x6000;
        const NO_AUTOMOUNT: u64 = 0x800;
        const RESERVED: u64 = 1 << 31;
        let known = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | SYNC_TYPE | NO_AUTOMOUNT;
        if mask & RESERVED != 0 || flags & !known != 0 || flags & SYNC_TYPE == SYNC_TYPE {
            return Err(Errno::EINVAL.into());
        }
        let target = self.place_at(directory, path, flags)?;
        let facts = self.facts(target)?;
        self.write_words(to, &facts.extended_words())?;
        Ok(0)
    }

    /// Puts pages into a memfd or takes them out; other files have no such thing, as in Linux's ramfs.
    fn fallocate(&mut self, fd: u64, mode: u64, offset: u64, bytes: u64) -> Outcome {
        const KEEP_SIZE: u64 = 1;
        const PUNCH_HOLE: u64 = 2;
        let source = self.source(fd)?;
        if (offset as i64) < 0 || (bytes as i64) <= 0 {
            return Err(Errno::EINVAL.into());
        }
        let mode = u64::from(mode as u32);
        if !matches!(mode, 0 | KEEP_SIZE) && mode != PUNCH_HOLE | KEEP_SIZE {
            return Err(Errno::EOPNOTSUPP.into());
        }
        if !source.flags.writes() {
            return Err(Errno::EBADF.into());
        }
        let file = match source.stream {
            Stream::Contents(file) => file,
            Stream::Reader(_) | Stream::Writer(_) => return Err(Errno::ESPIPE.into()),
            Stream::Directory => return Err(Errno::EISDIR.into()),
            _ => return Err(Errno::ENODEV.into()),
        };
        let end = offset.checked_add(bytes).filter(|&end| end <= i64::MAX as u64).ok_or(Errno::EFBIG)?;
        let limit = self.with_process(|process| process.other_limits.file_size[0])?;
        // Also for an end that stays, as in Linux.
        if mode != PUNCH_HOLE | KEEP_SIZE && end > limit {
            return Err(Errno::EFBIG.into());
        }
        let memory = self.userland.memory();
        match mode {
            0 => memory.file_allocate(self.cpu, file, (offset, bytes), EndRule::Moves)?,
            KEEP_SIZE => memory.file_allocate(self.cpu, file, (offset, bytes), EndRule::Stays)?,
            _ => memory.file_punch_hole(self.cpu, file, (offset, bytes))?,
        }
        Ok(0)
    }

    fn fstat(&mut self, fd: u64, to: u64) -> Outcome {
        let target = self.target(fd)?;
        self.write_facts(target, to)
    }

    fn write_facts(&self, target: Target, to: u64) -> Outcome {
        let facts = self.facts(target)?;
        self.write_words(to, &facts.words())?;
        Ok(0)
    }

    fn facts(&self, target: Target) -> Result<Facts, Errno> {
        let nothing = Facts {
            device: 1,
            number: 0,
            mode: 0,
            nr_links: 1,
            special: (0, 0),
            size: 0,
            modified_ns: self.userland.machine().boot_time_ns(),
        };
        let key = match target {
            Target::PipeReader(pipe) | Target::PipeWriter(pipe) => {
                return Ok(Facts { device: 3, number: pipe.raw().into(), mode: S_IFIFO | 0o600, ..nothing });
            }
            Target::Socket(from, _) => {
                return Ok(Facts { device: 5, number: from.raw().into(), mode: S_IFSOCK | 0o777, ..nothing });
            }
            Target::Thread(serial, _) => return Ok(Facts { device: 6, number: serial, mode: 0o700, ..nothing }),
            Target::Process(serial) => return Ok(Facts { device: 4, number: serial, mode: 0o700, ..nothing }),
            Target::Proc(node) => return Ok(Facts { device: 2, number: node.number(), mode: node.mode(), ..nothing }),
            Target::Inode(key) => key,
        };
        let world = self.world();
        let inode = world.files.inodes.get(key).ok_or(Errno::ENOENT)?;
        let (number, mode, nr_links) = (key.raw().into(), inode.mode(), inode.nr_links);
        let facts = Facts { number, mode, nr_links, modified_ns: inode.modified_ns, ..nothing };
        match &inode.kind {
            Kind::Regular(file) => {
                let file = *file;
                drop(world);
                Ok(Facts { size: self.userland.memory().file_size(self.cpu, file), ..facts })
            }
            Kind::Directory { .. } => Ok(Facts { size: BLOCK, ..facts }),
            Kind::Link(target) => Ok(Facts { size: target.len() as u64, ..facts }),
            Kind::Device(device) => Ok(Facts { special: device.numbers(), ..facts }),
        }
    }

    fn access_at(&mut self, directory: u64, path: u64, mode: u64, flags: u64) -> Outcome {
        const EXECUTE: u64 = 1;
        if mode & !7 != 0 {
            return Err(Errno::EINVAL.into());
        }
        let target = self.place_at(directory, path, flags)?;
        let facts = self.facts(target)?;
        let is_directory = facts.mode & crate::files::S_IFMT == crate::files::S_IFDIR;
        if mode & EXECUTE != 0 && !is_directory && facts.mode & 0o111 == 0 {
            return Err(Errno::EACCES.into());
        }
        Ok(0)
    }

    fn truncate(&mut self, path: u64, size: u64) -> Outcome {
        let target = self.place_at(AT_FDCWD, path, 0)?;
        self.truncate_target(target, size)
    }

    fn ftruncate(&mut self, fd: u64, size: u64) -> Outcome {
        let file = self.hold(fd, Hold::First)?;
        let (target, flags) = self.with_file(file, |open| (open.target, open.flags))?;
        if !flags.writes() {
            return Err(Errno::EINVAL.into());
        }
        self.truncate_target(target, size)
    }

    fn truncate_target(&self, target: Target, size: u64) -> Outcome {
        if size > i64::MAX as u64 {
            return Err(Errno::EINVAL.into());
        }
        let Target::Inode(key) = target else { return Err(Errno::EINVAL.into()) };
        if self.contents_of(key)?.is_none() {
            return Err(Errno::EINVAL.into());
        }
        let limit = self.with_process(|process| process.other_limits.file_size[0])?;
        if size > limit {
            return Err(Errno::EFBIG.into());
        }
        self.truncate_place(Place::Inode(key), size)
    }

    fn change_inode(&self, target: Target, change: impl FnOnce(&mut crate::files::Inode)) -> Outcome {
        match target {
            Target::Inode(key) => {
                let mut world = self.world();
                world.files.inodes.get_mut(key).map(change).ok_or(Errno::ENOENT)?;
                Ok(0)
            }
            _ => Err(Errno::EPERM.into()),
        }
    }

    fn chmod_at(&mut self, directory: u64, path: u64, mode: u64) -> Outcome {
        let target = self.place_at(directory, path, 0)?;
        self.change_inode(target, |inode| inode.permissions = mode as u32 & 0o7777)
    }

    fn fchmod(&mut self, fd: u64, mode: u64) -> Outcome {
        let target = self.target(fd)?;
        self.change_inode(target, |inode| inode.permissions = mode as u32 & 0o7777)
    }

    fn chown_at(&mut self, directory: u64, path: u64, (user, group): (u64, u64), flags: u64) -> Outcome {
        self.place_at(directory, path, flags)?;
        self.chown(user, group)
    }

    /// Everything belongs to root and can belong to nobody else.
    fn chown(&self, user: u64, group: u64) -> Outcome {
        let is_root = |id: u64| id as u32 == 0 || id as u32 == u32::MAX;
        if is_root(user) && is_root(group) { Ok(0) } else { Err(Errno::EINVAL.into()) }
    }

    fn utimens_at(&mut self, directory: u64, path: u64, times: u64, flags: u64) -> Outcome {
        const NOW: u64 = 0x3fff_ffff;
        const OMIT: u64 = 0x3fff_fffe;
        let target = match path {
            0 => self.target(directory)?,
            _ => self.place_at(directory, path, flags)?,
        };
        let [_, _, seconds, nanos] = match times {
            0 => [0, NOW, 0, NOW],
            _ => self.read_words(times)?,
        };
        let modified = match nanos {
            NOW => self.now_ns(),
            OMIT => return Ok(0),
            0..1_000_000_000 => seconds.saturating_mul(1_000_000_000).saturating_add(nanos),
            _ => return Err(Errno::EINVAL.into()),
        };
        self.change_inode(target, |inode| inode.modified_ns = modified)
    }

    fn fsync(&mut self, fd: u64) -> Outcome {
        match self.target(fd)? {
            Target::Inode(_) => Ok(0),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    fn statfs(&mut self, path: u64, to: u64) -> Outcome {
        let target = self.place_at(AT_FDCWD, path, 0)?;
        self.write_statfs(matches!(target, Target::Proc(_)), to)
    }

    /// Sizes are not kept for a file system in memory: zeros, as Linux's ramfs has.
    fn write_statfs(&self, is_proc: bool, to: u64) -> Outcome {
        const RAMFS: u64 = 0x8584_58f6;
        const PROC: u64 = 0x9fa0;
        let kind = if is_proc { PROC } else { RAMFS };
        self.write_words(to, &[kind, BLOCK, 0, 0, 0, 0, 0, 0, 255, BLOCK, 0, 0, 0, 0, 0])?;
        Ok(0)
    }
}

const fn as_target(place: Place) -> Target {
    match place {
        Place::Inode(key) => Target::Inode(key),
        Place::Proc(node) => Target::Proc(node),
    }
}
