//! Files as the recorded processes had opened them: those of the page cache, by path, and what descriptors allowed.

use std::collections::BTreeMap;

use address_space::{FileId, FileTraits, MmError, PAGE_SHIFT, Process, Reserve};
use page_allocator::Hooks;
use page_cache::{FileCall, FileKind};
use sim::SimPlatform;

use super::catalogue::Catalogue;
use super::space::Host;

/// Name of the file behind shared anonymous memory.
pub(super) const SHARED_ANONYMOUS: &str = "/dev/zero (deleted)";
/// Bytes of a file whose size is not recorded: more than any area reaches.
const UNKNOWN_SIZE: u64 = 1 << (40 + PAGE_SHIFT);
/// Beginnings of the paths of files that live in memory only.
const IN_MEMORY: [&str; 4] = ["/memfd:", "/dev/shm/", "/SYSV", SHARED_ANONYMOUS];

/// What is known of a file.
#[derive(Debug)]
struct Known {
    name: Box<str>,
    /// What descriptors allow.
    opened: FileTraits,
}

/// The files of a recording.
#[derive(Debug, Default)]
pub(super) struct FileTable {
    by_path: BTreeMap<Box<str>, FileId>,
    /// System V segments by number.
    segments: BTreeMap<u64, FileId>,
    known: BTreeMap<u64, Known>,
}

impl FileTable {
    /// Returns the file at a path, made if it is new; `bytes` is its size, if that is recorded.
    pub(super) fn file<H: Hooks + Sync>(
        &mut self,
        host: Host<'_, '_, H>,
        process: &Process,
        path: &str,
        bytes: Option<u64>,
        catalogue: &Catalogue,
    ) -> Result<FileId, MmError> {
        let files = host.manager.files(host.cpu, process);
        if let Some(file) = self.by_path.get(path) {
            if let Some(bytes) = bytes {
                files.set_size(*file, bytes)?;
            }
            return Ok(*file);
        }
        let file = self.make(&files, path, bytes.unwrap_or(UNKNOWN_SIZE), catalogue)?;
        self.by_path.insert(path.into(), file);
        Ok(file)
    }

    /// Makes a file that no path leads to again: one of the kernel's for a single address space.
    pub(super) fn private<H: Hooks + Sync>(
        &mut self,
        host: Host<'_, '_, H>,
        process: &Process,
        name: &str,
        catalogue: &Catalogue,
    ) -> Result<FileId, MmError> {
        self.make(&host.manager.files(host.cpu, process), name, UNKNOWN_SIZE, catalogue)
    }

    /// Returns the file behind a System V segment and its size, made of `bytes` bytes if it is new.
    pub(super) fn segment<H: Hooks + Sync>(
        &mut self,
        host: Host<'_, '_, H>,
        process: &Process,
        segment: u64,
        bytes: u64,
        catalogue: &Catalogue,
    ) -> Result<(FileId, u64), MmError> {
        let files = host.manager.files(host.cpu, process);
        if let Some(&file) = self.segments.get(&segment) {
            return Ok((file, files.stat(file)?.size));
        }
        let file = self.make(&files, catalogue.segment(segment), bytes, catalogue)?;
        self.segments.insert(segment, file);
        Ok((file, bytes))
    }

    /// Returns true if the file is a System V segment.
    pub(super) fn is_segment(&self, file: FileId) -> bool {
        self.segments.values().any(|segment| *segment == file)
    }

    fn make<H: Hooks + Sync>(
        &mut self,
        files: &FileCall<'_, '_, SimPlatform, H>,
        name: &str,
        bytes: u64,
        catalogue: &Catalogue,
    ) -> Result<FileId, MmError> {
        let is_in_memory = IN_MEMORY.iter().any(|start| name.starts_with(start));
        let kind = if is_in_memory { FileKind::Shmem(Reserve::OnUse) } else { FileKind::Regular };
        let file = files.create(kind, bytes)?;
        // File systems on block devices align large mappings for huge pages; devices without a number of their own (shmem, overlays) do not.
        if catalogue.identity(name).device.major != 0 {
            files.align_for_huge_pages(file)?;
        }
        self.known.insert(file.raw(), Known { name: name.into(), opened: FileTraits::READ });
        Ok(file)
    }

    /// Opens a file for writing too.
    pub(super) fn open_for_writing(&mut self, file: FileId) {
        if let Some(known) = self.known.get_mut(&file.raw()) {
            known.opened |= FileTraits::WRITE;
        }
    }

    /// Returns what the descriptor allows by which a file is mapped; everything without one.
    pub(super) fn opened(&self, file: Option<FileId>) -> FileTraits {
        let known = file.and_then(|file| self.known.get(&file.raw()));
        known.map_or(FileTraits::all(), |known| known.opened)
    }

    /// Returns what maps calls a file. What no path was recorded for is shared anonymous memory.
    pub(super) fn name(&self, file: FileId) -> &str {
        self.known.get(&file.raw()).map_or(SHARED_ANONYMOUS, |known| &known.name)
    }
}
