//! Files as the recorded processes had opened them: those of the page cache, with what the descriptor and the file system add.

use std::collections::BTreeMap;

use address_space::{Access, AreaName, FileFacts, FileId, FileTraits, MmError, PAGE_SHIFT, Pager, Process, Reserve};
use frame_table::PageRef;
use kernel_mm::MappedFiles;
use page_allocator::Hooks;
use page_cache::{FileCall, FileKind};
use page_fault::FilePages;
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
    /// What descriptors allow and the file system provides.
    traits: FileTraits,
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
        let mut traits = FileTraits::READ | FileTraits::MMAP;
        // File systems on block devices align large mappings for huge pages; devices without a number of their own (shmem, overlays) do not.
        traits.set(FileTraits::HUGE_ALIGNED, catalogue.identity(name).device.major != 0);
        self.known.insert(file.raw(), Known { name: name.into(), traits });
        Ok(file)
    }

    /// Opens a file for more than it was.
    pub(super) fn set_open(&mut self, file: FileId, traits: FileTraits) {
        if let Some(known) = self.known.get_mut(&file.raw()) {
            known.traits |= traits;
        }
    }

    /// Returns what maps calls a file. What no path was recorded for is shared anonymous memory.
    pub(super) fn name(&self, file: FileId) -> &str {
        self.known.get(&file.raw()).map_or(SHARED_ANONYMOUS, |known| &known.name)
    }
}

/// The files, for a call on an address space.
pub(super) struct OpenFiles<'a, 'k, H: Hooks + Sync> {
    pub(super) files: MappedFiles<'a, 'k, SimPlatform, H>,
    pub(super) table: &'a FileTable,
}

impl<H: Hooks + Sync> Pager for OpenFiles<'_, '_, H> {
    fn facts(&self, file: FileId) -> Result<FileFacts, MmError> {
        let facts = self.files.facts(file)?;
        let traits = match self.table.known.get(&file.raw()) {
            Some(known) => (facts.traits - FileTraits::WRITE) | known.traits,
            None => facts.traits,
        };
        Ok(FileFacts { traits, ..facts })
    }

    fn shared_anonymous(&mut self, bytes: u64, reserve: Reserve) -> Result<FileId, MmError> {
        self.files.shared_anonymous(bytes, reserve)
    }

    fn open(&mut self, file: FileId) {
        Pager::open(&mut self.files, file);
    }

    fn close(&mut self, file: FileId) {
        Pager::close(&mut self.files, file);
    }

    fn map_writable(&mut self, file: FileId) -> Result<(), MmError> {
        self.files.map_writable(file)
    }

    fn copy_writable(&mut self, file: FileId) {
        self.files.copy_writable(file);
    }

    fn unmap_writable(&mut self, file: FileId) {
        self.files.unmap_writable(file);
    }

    fn name_get(&mut self, name: AreaName) {
        self.files.name_get(name);
    }

    fn name_put(&mut self, name: AreaName) {
        self.files.name_put(name);
    }

    fn sync(&mut self, file: FileId, offset: u64, bytes: u64) -> Result<(), MmError> {
        Pager::sync(&mut self.files, file, offset, bytes)
    }

    fn punch_hole(&mut self, file: FileId, offset: u64, bytes: u64) -> Result<(), MmError> {
        Pager::punch_hole(&mut self.files, file, offset, bytes)
    }
}

impl<H: Hooks + Sync> FilePages for OpenFiles<'_, '_, H> {
    fn page(&self, file: FileId, index: u64, access: Access) -> Result<PageRef, MmError> {
        self.files.page(file, index, access)
    }

    fn resident_pages(&self, file: FileId, first: u64, found: &mut [Option<PageRef>]) {
        self.files.resident_pages(file, first, found);
    }

    fn residency(&self, file: FileId, first: u64, resident: &mut [u8]) {
        self.files.residency(file, first, resident);
    }
}
