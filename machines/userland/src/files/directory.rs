//! Directories: adding, finding, removing and renaming names.
//!
//! A name keeps its place while it exists, so that a program which removes what it lists misses nothing. Linux 6.12: fs/libfs.c, fs/namei.c.

use alloc::vec::Vec;

use super::{FileTables, Inode, InodeKey, Kind, Place};
use crate::errno::Errno;
use crate::slots::{copy_of, push};

/// Most bytes of a name (NAME_MAX).
const NAME_MAX: usize = 255;

/// A name in a directory; an empty one is a free place.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) inode: InodeKey,
}

impl FileTables {
    /// Returns the root directory, which is made at the first call.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn root(&mut self, now: u64) -> Result<InodeKey, Errno> {
        if let Some(root) = self.root {
            return Ok(root);
        }
        // A directory names its parent, so its own key has to be known: it is put in afterwards.
        let root = self.new_inode(Kind::Link(Vec::new()), 0o755, now)?;
        if let Some(inode) = self.inodes.get_mut(root) {
            inode.kind = Kind::Directory { entries: Vec::new(), parent: root };
            inode.nr_links = 2;
        }
        self.root = Some(root);
        Ok(root)
    }

    /// Returns the root directory of a machine that has one.
    pub(crate) fn root_place(&self) -> Result<Place, Errno> {
        self.root.map(Place::Inode).ok_or(Errno::ENOENT)
    }

    fn entries(&self, directory: InodeKey) -> Result<&Vec<Entry>, Errno> {
        match self.inodes.get(directory) {
            Some(Inode { kind: Kind::Directory { entries, .. }, .. }) => Ok(entries),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn entries_mut(&mut self, directory: InodeKey) -> Result<&mut Vec<Entry>, Errno> {
        match self.inodes.get_mut(directory) {
            Some(Inode { kind: Kind::Directory { entries, .. }, .. }) => Ok(entries),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Returns what a directory has under a name.
    pub(crate) fn find(&self, directory: InodeKey, name: &[u8]) -> Option<InodeKey> {
        let entry = self.entries(directory).ok()?.iter().find(|entry| entry.name == name && !name.is_empty())?;
        Some(entry.inode)
    }

    /// Gives an inode a name.
    ///
    /// # Errors
    /// EEXIST, ENOENT for a name that is empty or in a directory that was removed, ENAMETOOLONG, ENOMEM.
    pub(crate) fn link(&mut self, directory: InodeKey, name: &[u8], inode: InodeKey, now: u64) -> Result<(), Errno> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let is_removed = self.inodes.get(directory).is_none_or(|inode| inode.nr_links == 0);
        if name.is_empty() || is_removed {
            return Err(Errno::ENOENT);
        }
        if matches!(name, b"." | b"..") || self.find(directory, name).is_some() {
            return Err(Errno::EEXIST);
        }
        self.enter_name(directory, copy_of(name)?, inode, now)
    }

    /// Enters a name that was checked; does not fail while the directory has a free place.
    fn enter_name(&mut self, directory: InodeKey, name: Vec<u8>, inode: InodeKey, now: u64) -> Result<(), Errno> {
        let entries = self.entries_mut(directory)?;
        match entries.iter_mut().find(|entry| entry.name.is_empty()) {
            Some(free) => *free = Entry { name, inode },
            None => push(entries, Entry { name, inode })?,
        }
        self.count_link(directory, inode, now);
        Ok(())
    }

    /// Counts a name, and what `..` of a directory adds to its parent.
    fn count_link(&mut self, directory: InodeKey, inode: InodeKey, now: u64) {
        let mut is_directory = false;
        if let Some(inode) = self.inodes.get_mut(inode) {
            inode.nr_links += 1;
            if let Kind::Directory { parent, .. } = &mut inode.kind {
                *parent = directory;
                inode.nr_links += 1;
                is_directory = true;
            }
        }
        if let Some(directory) = self.inodes.get_mut(directory) {
            directory.modified_ns = now;
            directory.nr_links += u32::from(is_directory);
        }
    }

    /// Takes a name away; the inode goes if it was the last and nobody uses it.
    ///
    /// # Errors
    /// ENOENT.
    pub(crate) fn unlink(&mut self, directory: InodeKey, name: &[u8], now: u64) -> Result<(), Errno> {
        let inode = self.find(directory, name).ok_or(Errno::ENOENT)?;
        if let Some(entry) = self.entries_mut(directory)?.iter_mut().find(|entry| entry.name == name) {
            entry.name = Vec::new();
        }
        let mut is_directory = false;
        if let Some(inode) = self.inodes.get_mut(inode) {
            is_directory = matches!(inode.kind, Kind::Directory { .. });
            inode.nr_links = inode.nr_links.saturating_sub(1 + u32::from(is_directory));
        }
        if let Some(directory) = self.inodes.get_mut(directory) {
            directory.modified_ns = now;
            directory.nr_links = directory.nr_links.saturating_sub(u32::from(is_directory));
        }
        self.drop_unused(inode);
        Ok(())
    }

    /// Makes an inode with a name.
    ///
    /// # Errors
    /// As [`Self::link`]; then the contents of a regular file stay the caller's.
    pub(crate) fn create(
        &mut self,
        directory: InodeKey,
        name: &[u8],
        kind: Kind,
        permissions: u32,
        now: u64,
    ) -> Result<InodeKey, Errno> {
        let inode = self.new_inode(kind, permissions, now)?;
        match self.link(directory, name, inode, now) {
            Ok(()) => Ok(inode),
            Err(error) => {
                self.inodes.remove(inode);
                Err(error)
            }
        }
    }

    pub(crate) fn is_directory(&self, inode: InodeKey) -> bool {
        self.entries(inode).is_ok()
    }

    pub(crate) fn is_empty(&self, directory: InodeKey) -> bool {
        self.entries(directory).is_ok_and(|entries| entries.iter().all(|entry| entry.name.is_empty()))
    }

    /// Returns true if `inner` is `outer` or below it.
    fn is_below(&self, inner: InodeKey, outer: InodeKey) -> bool {
        let mut at = inner;
        loop {
            if at == outer {
                return true;
            }
            match self.inodes.get(at).map(|inode| &inode.kind) {
                Some(Kind::Directory { parent, .. }) if *parent != at => at = *parent,
                _ => return false,
            }
        }
    }

    /// Moves a name; what has the new name goes.
    ///
    /// # Errors
    /// ENOENT, EISDIR, ENOTDIR, ENOTEMPTY, EINVAL for a directory into itself, ENOMEM; then nothing has changed.
    pub(crate) fn rename(
        &mut self,
        (from, old): (InodeKey, &[u8]),
        (to, new): (InodeKey, &[u8]),
        now: u64,
    ) -> Result<(), Errno> {
        let moved = self.find(from, old).ok_or(Errno::ENOENT)?;
        if self.is_directory(moved) && self.is_below(to, moved) {
            return Err(Errno::EINVAL);
        }
        if let Some(replaced) = self.find(to, new) {
            if replaced == moved {
                return Ok(());
            }
            match (self.is_directory(moved), self.is_directory(replaced)) {
                (true, false) => return Err(Errno::ENOTDIR),
                (false, true) => return Err(Errno::EISDIR),
                (true, true) if !self.is_empty(replaced) => return Err(Errno::ENOTEMPTY),
                _ => {}
            }
            // The place that becomes free is the new name's, which so cannot fail.
            let name = copy_of(new)?;
            self.unlink(to, new, now)?;
            self.enter_name(to, name, moved, now)?;
        } else {
            // The new name first, so that the inode never is without one.
            self.link(to, new, moved, now)?;
        }
        self.unlink(from, old, now)?;
        if let Some(Inode { kind: Kind::Directory { parent, .. }, .. }) = self.inodes.get_mut(moved) {
            *parent = to;
        }
        Ok(())
    }

    /// Writes the path of a directory from the root.
    ///
    /// # Errors
    /// ENOENT if it was removed, ENOMEM.
    pub(crate) fn path_of(&self, directory: InodeKey) -> Result<Vec<u8>, Errno> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut at = directory;
        while Some(at) != self.root {
            let Some(Inode { kind: Kind::Directory { parent, .. }, .. }) = self.inodes.get(at) else {
                return Err(Errno::ENOENT);
            };
            let entry = self.entries(*parent)?.iter().find(|entry| entry.inode == at && !entry.name.is_empty());
            push(&mut names, &entry.ok_or(Errno::ENOENT)?.name)?;
            at = *parent;
        }
        let mut path = Vec::new();
        if names.is_empty() {
            push(&mut path, b'/')?;
        }
        for name in names.iter().rev() {
            push(&mut path, b'/')?;
            crate::slots::extend(&mut path, name)?;
        }
        Ok(path)
    }

    /// Returns the first name of a directory at or behind a place, with that place.
    pub(crate) fn entry_from(&self, directory: InodeKey, place: usize) -> Option<(usize, &Entry)> {
        let entries = self.entries(directory).ok()?;
        (place..).zip(entries.get(place..)?).find(|(_, entry)| !entry.name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Device;

    fn tree() -> (FileTables, InodeKey) {
        let mut files = FileTables::new();
        let root = files.root(0).unwrap();
        (files, root)
    }

    fn directory(files: &mut FileTables, parent: InodeKey, name: &[u8]) -> InodeKey {
        files.create(parent, name, Kind::Directory { entries: Vec::new(), parent }, 0o755, 0).unwrap()
    }

    fn device(files: &mut FileTables, parent: InodeKey, name: &[u8]) -> InodeKey {
        files.create(parent, name, Kind::Device(Device::Null), 0o666, 0).unwrap()
    }

    #[test]
    fn a_directory_counts_itself_and_the_directories_in_it() {
        let (mut files, root) = tree();
        let inner = directory(&mut files, root, b"a");
        directory(&mut files, inner, b"b");
        assert_eq!((files.inodes.get(root).unwrap().nr_links, files.inodes.get(inner).unwrap().nr_links), (3, 3));
        files.unlink(inner, b"b", 0).unwrap();
        assert_eq!(files.inodes.get(inner).unwrap().nr_links, 2);
        assert_eq!(files.inodes.len(), 2);
    }

    #[test]
    fn a_file_lives_until_its_last_name_and_user_are_gone() {
        let (mut files, root) = tree();
        let file = device(&mut files, root, b"x");
        files.link(root, b"y", file, 0).unwrap();
        files.get_place(Place::Inode(file));
        files.unlink(root, b"x", 0).unwrap();
        files.unlink(root, b"y", 0).unwrap();
        assert!(files.inodes.get(file).is_some());
        files.put_place(Place::Inode(file));
        assert!(files.inodes.get(file).is_none());
    }

    #[test]
    fn a_directory_is_not_moved_into_itself_nor_over_a_full_one() {
        let (mut files, root) = tree();
        let (a, b) = (directory(&mut files, root, b"a"), directory(&mut files, root, b"b"));
        let inner = directory(&mut files, a, b"inner");
        assert_eq!(files.rename((root, b"a"), (inner, b"x"), 0), Err(Errno::EINVAL));
        assert_eq!(files.rename((root, b"b"), (root, b"a"), 0), Err(Errno::ENOTEMPTY));
        device(&mut files, root, b"file");
        assert_eq!(files.rename((root, b"file"), (root, b"a"), 0), Err(Errno::EISDIR));
        assert_eq!(files.rename((root, b"a"), (root, b"file"), 0), Err(Errno::ENOTDIR));
        files.rename((a, b"inner"), (b, b"moved"), 0).unwrap();
        assert_eq!(files.path_of(inner).unwrap(), b"/b/moved");
    }

    #[test]
    fn listing_while_removing_misses_nothing() {
        let (mut files, root) = tree();
        for name in [b"a", b"b", b"c", b"d"] {
            device(&mut files, root, name);
        }
        let (mut place, mut seen) = (0, Vec::new());
        while let Some((at, entry)) = files.entry_from(root, place) {
            seen.push(entry.name.clone());
            let name = entry.name.clone();
            files.unlink(root, &name, 0).unwrap();
            place = at + 1;
        }
        assert_eq!(seen.concat(), b"abcd");
        assert!(files.is_empty(root));
    }

    #[test]
    fn nothing_is_made_in_a_directory_that_was_removed() {
        let (mut files, root) = tree();
        let gone = directory(&mut files, root, b"gone");
        files.get_place(Place::Inode(gone));
        files.unlink(root, b"gone", 0).unwrap();
        let made = files.create(gone, b"x", Kind::Link(Vec::new()), 0o777, 0);
        assert_eq!(made.err(), Some(Errno::ENOENT));
        assert_eq!(files.path_of(gone), Err(Errno::ENOENT));
        assert_eq!(files.inodes.len(), 2);
    }
}
