//! From a path to a place, through links and /proc. Linux 6.12: fs/namei.c.

use alloc::vec::Vec;

use super::{Inode, Kind, Place, ProcNode, SysNode, Target};
use crate::errno::Errno;
use crate::memory::Memory;
use crate::process::{Life, Process, ProcessKey};
use crate::slots::{Text, copy_of, extend, push};
use crate::world::World;

/// Most links on one path (MAXSYMLINKS).
const MAX_LINKS: u32 = 40;
/// Most bytes of a path with its end (PATH_MAX).
pub(crate) const PATH_MAX: usize = 4096;

/// What to do with a link at the end of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LastLink {
    Follow,
    Keep,
}

/// Where a path leads.
#[derive(Debug)]
pub(crate) struct Found {
    /// The directory of the last name; where the path ends in `.` or is `/` the place itself.
    pub(crate) directory: Place,
    /// The last name.
    pub(crate) name: Vec<u8>,
    /// What has the name.
    pub(crate) place: Option<Place>,
    /// The path ends with a slash: only a directory can be meant.
    pub(crate) wants_directory: bool,
}

impl Found {
    /// Returns what is there.
    ///
    /// # Errors
    /// ENOENT.
    pub(crate) fn existing(&self) -> Result<Place, Errno> {
        self.place.ok_or(Errno::ENOENT)
    }

    /// Returns the directory to make or remove a name in.
    ///
    /// # Errors
    /// EPERM in /proc, whose names come and go by themselves.
    pub(crate) const fn parent(&self) -> Result<super::InodeKey, Errno> {
        match self.directory {
            Place::Inode(directory) => Ok(directory),
            Place::Proc(_) => Err(Errno::EPERM),
        }
    }
}

/// Where a link leads.
enum LinkTarget {
    /// To this path.
    Path(Vec<u8>),
    /// To this place, whatever its path.
    Place(Place),
}

/// A walk under way.
struct Walk {
    at: Place,
    /// What is still to be walked, from `from` on.
    path: Vec<u8>,
    from: usize,
    nr_links: u32,
}

impl Walk {
    /// Takes the next name; returns its bytes and whether nothing but slashes follows.
    fn next(&mut self) -> Option<(usize, usize, bool)> {
        let rest = self.path.get(self.from..)?;
        let start = self.from + rest.iter().position(|&byte| byte != b'/')?;
        let length = self.path.get(start..)?.iter().position(|&byte| byte == b'/');
        let end = length.map_or(self.path.len(), |length| start + length);
        let is_last = self.path.get(end..)?.iter().all(|&byte| byte == b'/');
        self.from = end;
        Some((start, end, is_last))
    }

    /// Goes on at a link's path.
    fn follow(&mut self, target: &[u8], root: Place) -> Result<(), Errno> {
        self.nr_links += 1;
        if self.nr_links > MAX_LINKS {
            return Err(Errno::ELOOP);
        }
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        if target.first() == Some(&b'/') {
            self.at = root;
        }
        let mut path = copy_of(target)?;
        extend(&mut path, self.path.get(self.from..).unwrap_or_default())?;
        if path.len() > PATH_MAX * 2 {
            return Err(Errno::ENAMETOOLONG);
        }
        (self.path, self.from) = (path, 0);
        Ok(())
    }
}

impl<M: Memory> World<M> {
    /// Walks a path from `start`, or from the root if it begins with a slash.
    ///
    /// # Errors
    /// ENOENT for an empty path or one whose directory is missing, ENOTDIR, ELOOP, ENAMETOOLONG, ENOMEM.
    pub(crate) fn walk(&self, caller: ProcessKey, start: Place, path: &[u8], last: LastLink) -> Result<Found, Errno> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        let root = self.files.root_place()?;
        let at = if path.first() == Some(&b'/') { root } else { start };
        let mut walk = Walk { at, path: copy_of(path)?, from: 0, nr_links: 0 };
        while let Some((start, end, is_last)) = walk.next() {
            let name = walk.path.get(start..end).unwrap_or_default();
            let has_slash = end < walk.path.len();
            let child = self.child(walk.at, name)?;
            if let Some(child) = child
                && self.is_link(child)
                && (!is_last || has_slash || last == LastLink::Follow)
            {
                match self.link_target(caller, child)? {
                    LinkTarget::Path(target) => {
                        walk.follow(&target, root)?;
                        continue;
                    }
                    LinkTarget::Place(place) if is_last => return self.found(&walk, (start, end), Some(place)),
                    LinkTarget::Place(place) => walk.at = place,
                }
                continue;
            }
            if is_last {
                return self.found(&walk, (start, end), child);
            }
            walk.at = child.ok_or(Errno::ENOENT)?;
        }
        Ok(Found { directory: walk.at, name: Vec::new(), place: Some(walk.at), wants_directory: true })
    }

    fn found(&self, walk: &Walk, (start, end): (usize, usize), place: Option<Place>) -> Result<Found, Errno> {
        let wants_directory = end < walk.path.len();
        if wants_directory && place.is_some_and(|place| !self.is_directory(place)) {
            return Err(Errno::ENOTDIR);
        }
        let name = copy_of(walk.path.get(start..end).unwrap_or_default())?;
        Ok(Found { directory: walk.at, name, place, wants_directory })
    }

    /// Returns what a directory has under a name, `.` and `..` included.
    ///
    /// # Errors
    /// ENOTDIR, ESRCH in the directory of a process that is gone.
    fn child(&self, directory: Place, name: &[u8]) -> Result<Option<Place>, Errno> {
        if !self.is_directory(directory) {
            return Err(Errno::ENOTDIR);
        }
        if let Place::Proc(node) = directory
            && self.is_of_nobody(node)
        {
            return Err(Errno::ESRCH);
        }
        if name == b"." {
            return Ok(Some(directory));
        }
        match directory {
            Place::Inode(key) if name == b".." => match self.files.inodes.get(key) {
                Some(Inode { kind: Kind::Directory { parent, .. }, .. }) => Ok(Some(Place::Inode(*parent))),
                _ => Err(Errno::ENOTDIR),
            },
            Place::Inode(key) => {
                let is_root = self.files.root_place() == Ok(directory);
                let found = self.files.find(key, name).map(Place::Inode);
                // /proc and /sys are mounted on the directories of these names.
                Ok(match name {
                    b"proc" if is_root => Some(Place::Proc(ProcNode::Root)),
                    b"sys" if is_root => Some(Place::Proc(ProcNode::Sys(SysNode::Root))),
                    _ => found,
                })
            }
            Place::Proc(node) if name == b".." => {
                node.parent().map_or_else(|| self.files.root_place().map(Some), |parent| Ok(Some(Place::Proc(parent))))
            }
            Place::Proc(node) => Ok(node.child(name).filter(|&child| self.exists(child)).map(Place::Proc)),
        }
    }

    /// Returns true if a node's process and descriptor exist.
    pub(crate) fn exists(&self, node: ProcNode) -> bool {
        match node {
            ProcNode::Process(pid) => self.process_of(pid).is_some(),
            // The first counts as long as its process is known.
            ProcNode::Task(pid, tid) => {
                self.process_of(pid).is_some_and(|key| pid == tid || self.thread_in(key, tid).is_some())
            }
            ProcNode::Descriptor(pid, descriptor) => {
                let process = self.process_of(pid).and_then(|key| self.processes.get(key));
                process.is_some_and(|process| process.descriptors.get(descriptor.into()).is_ok())
            }
            _ => true,
        }
    }

    pub(crate) fn is_directory(&self, place: Place) -> bool {
        match place {
            Place::Inode(key) => self.files.is_directory(key),
            Place::Proc(node) => node.mode() & super::S_IFMT == super::S_IFDIR,
        }
    }

    fn is_link(&self, place: Place) -> bool {
        match place {
            Place::Inode(key) => self.files.inodes.get(key).is_some_and(|inode| matches!(inode.kind, Kind::Link(_))),
            Place::Proc(node) => node.mode() & super::S_IFMT == super::S_IFLNK,
        }
    }

    /// Returns a process that has not ended: one that has has neither program nor directory.
    ///
    /// # Errors
    /// ENOENT.
    fn living(&self, pid: u32) -> Result<&Process, Errno> {
        let process = self.process_of(pid).and_then(|key| self.processes.get(key));
        process.filter(|process| !matches!(process.life, Life::Zombie(_))).ok_or(Errno::ENOENT)
    }

    /// Returns true of what belongs to a process that is gone.
    pub(crate) fn is_of_nobody(&self, node: ProcNode) -> bool {
        node.process().is_some_and(|pid| self.process_of(pid).is_none())
    }

    /// Returns where a link leads when it is followed.
    fn link_target(&self, caller: ProcessKey, link: Place) -> Result<LinkTarget, Errno> {
        match link {
            Place::Proc(ProcNode::Directory(pid)) => Ok(LinkTarget::Place(self.living(pid)?.directory)),
            Place::Proc(ProcNode::Descriptor(pid, descriptor)) => {
                match self.open_target(pid, descriptor).ok_or(Errno::ENOENT)? {
                    Target::Inode(key) => Ok(LinkTarget::Place(Place::Inode(key))),
                    Target::Proc(node) => Ok(LinkTarget::Place(Place::Proc(node))),
                    // What has no name cannot be opened again here.
                    Target::PipeReader(_)
                    | Target::PipeWriter(_)
                    | Target::Socket(..)
                    | Target::Process(_)
                    | Target::Thread(..) => Err(Errno::EACCES),
                }
            }
            _ => self.read_link(caller, link).map(LinkTarget::Path),
        }
    }

    fn open_target(&self, pid: u32, descriptor: u32) -> Option<Target> {
        let process = self.processes.get(self.process_of(pid)?)?;
        let descriptor = process.descriptors.get(descriptor.into()).ok()?;
        Some(self.files.open.get(descriptor.file)?.target)
    }

    /// Returns the text of a link.
    ///
    /// # Errors
    /// EINVAL for something else, ENOENT if its process is gone, ENOMEM.
    pub(crate) fn read_link(&self, caller: ProcessKey, link: Place) -> Result<Vec<u8>, Errno> {
        let node = match link {
            Place::Inode(key) => match self.files.inodes.get(key).map(|inode| &inode.kind) {
                Some(Kind::Link(target)) => return copy_of(target),
                _ => return Err(Errno::EINVAL),
            },
            Place::Proc(node) => node,
        };
        match node {
            ProcNode::SelfLink => {
                let own = self.processes.get(caller).ok_or(Errno::ESRCH)?;
                text(format_args!("{}", own.pid))
            }
            ProcNode::Exe(pid) => copy_of(&self.living(pid)?.executable),
            ProcNode::Directory(pid) => self.path_of(self.living(pid)?.directory),
            ProcNode::Descriptor(pid, descriptor) => {
                self.target_name(self.open_target(pid, descriptor).ok_or(Errno::ENOENT)?)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// Returns the name that /proc shows of an open file.
    fn target_name(&self, target: Target) -> Result<Vec<u8>, Errno> {
        match target {
            Target::PipeReader(pipe) | Target::PipeWriter(pipe) => text(format_args!("pipe:[{}]", pipe.raw())),
            Target::Socket(from, _) => text(format_args!("socket:[{}]", from.raw())),
            Target::Process(_) | Target::Thread(..) => text(format_args!("anon_inode:[pidfd]")),
            Target::Proc(node) => self.path_of(Place::Proc(node)),
            Target::Inode(key) => self.name_of(key),
        }
    }

    /// Returns a path of an inode, looked for in the whole tree; a memfd's or removed file's name as Linux shows it.
    pub(crate) fn name_of(&self, key: super::InodeKey) -> Result<Vec<u8>, Errno> {
        let inode = self.files.inodes.get(key).ok_or(Errno::ENOENT)?;
        if let Some(name) = &inode.memfd_name {
            let mut path = copy_of(b"/memfd:")?;
            extend(&mut path, name)?;
            extend(&mut path, b" (deleted)")?;
            return Ok(path);
        }
        if self.files.is_directory(key) {
            return self.files.path_of(key);
        }
        for (directory, _) in self.files.inodes.iter() {
            let mut place = 0;
            while let Some((at, entry)) = self.files.entry_from(directory, place) {
                if entry.inode == key {
                    let mut path = self.files.path_of(directory)?;
                    if path != b"/" {
                        push(&mut path, b'/')?;
                    }
                    extend(&mut path, &entry.name)?;
                    return Ok(path);
                }
                place = at + 1;
            }
        }
        copy_of(b" (deleted)")
    }

    /// Returns the path of a directory.
    ///
    /// # Errors
    /// ENOENT if it was removed, ENOMEM.
    pub(crate) fn path_of(&self, directory: Place) -> Result<Vec<u8>, Errno> {
        match directory {
            Place::Inode(key) => self.files.path_of(key),
            Place::Proc(ProcNode::Root) => copy_of(b"/proc"),
            Place::Proc(ProcNode::Process(pid)) => text(format_args!("/proc/{pid}")),
            Place::Proc(ProcNode::Tasks(pid)) => text(format_args!("/proc/{pid}/task")),
            Place::Proc(ProcNode::Task(pid, tid)) => text(format_args!("/proc/{pid}/task/{tid}")),
            Place::Proc(ProcNode::TaskFile(pid, tid, file)) => {
                text(format_args!("/proc/{pid}/task/{tid}/{}", file.name()))
            }
            Place::Proc(ProcNode::Descriptors(pid)) => text(format_args!("/proc/{pid}/fd")),
            Place::Proc(ProcNode::ProcessFile(pid, file)) => text(format_args!("/proc/{pid}/{}", file.name())),
            Place::Proc(ProcNode::Global(file)) => text(format_args!("/proc/{}", file.name())),
            Place::Proc(ProcNode::Sys(node)) => path_text(node.path()),
            Place::Proc(ProcNode::Sysctl(node)) => path_text(node.path()),
            Place::Proc(_) => copy_of(b"/proc"),
        }
    }
}

fn path_text((directory, name): (&str, Option<&str>)) -> Result<Vec<u8>, Errno> {
    match name {
        None => copy_of(directory.as_bytes()),
        Some(name) => text(format_args!("{directory}/{name}")),
    }
}

fn text(arguments: core::fmt::Arguments<'_>) -> Result<Vec<u8>, Errno> {
    let mut text = Text::default();
    core::fmt::Write::write_fmt(&mut text, arguments).map_err(|_| Errno::ENOMEM)?;
    Ok(text.0)
}
