//! What lies below an address space here: the first byte of every page that was written, and files of them.

use std::collections::BTreeMap;

use address_space::{
    Access, FileFacts, FileId, FileTraits, MmError, PAGE_SHIFT, PageAdvice, PageTables, Pager, Reserve, Vma,
};
use units::{VirtAddr, VirtRange, VmFlags};

/// Name of the file behind shared anonymous memory.
pub(crate) const SHARED_ANONYMOUS: &str = "/dev/zero (deleted)";

/// A file: its name in the comparison, its size, its pages that are not zero.
#[derive(Clone, Debug)]
struct MemoryFile {
    name: String,
    nr_pages: u64,
    traits: FileTraits,
    pages: BTreeMap<u64, u8>,
    /// Areas that map it.
    users: u64,
}

/// Pages of one process, and files.
#[derive(Debug, Default)]
pub(crate) struct Backing {
    files: Vec<MemoryFile>,
    /// Pages that belong to their area, by page number.
    own: BTreeMap<u64, u8>,
}

impl Backing {
    /// What can be done with a file of memfd_create.
    pub(crate) const MEMORY_FILE: FileTraits =
        FileTraits::READ.union(FileTraits::WRITE).union(FileTraits::MMAP).union(FileTraits::SHMEM);

    /// Makes a file that stays.
    pub(crate) fn add_file(&mut self, name: &str, nr_pages: u64, traits: FileTraits) -> Option<FileId> {
        self.files.push(MemoryFile { name: name.to_owned(), nr_pages, traits, pages: BTreeMap::new(), users: 0 });
        FileId::new(self.files.len() as u64)
    }

    fn file(&self, file: FileId) -> Option<&MemoryFile> {
        self.files.get(file.raw() as usize - 1)
    }

    fn file_mut(&mut self, file: FileId) -> Option<&mut MemoryFile> {
        self.files.get_mut(file.raw() as usize - 1)
    }

    /// Returns what a file is called in maps.
    pub(crate) fn name(&self, file: FileId) -> &str {
        self.file(file).map_or("", |file| &file.name)
    }

    /// Returns the byte at `addr`.
    pub(crate) fn read(&self, vma: &Vma, addr: VirtAddr) -> Result<u8, MmError> {
        if let Some(byte) = self.own.get(&page(addr)) {
            return Ok(*byte);
        }
        let Some(file) = vma.file.and_then(|file| self.file(file)) else { return Ok(0) };
        let offset = vma.pgoff_at(addr);
        if offset >= file.nr_pages {
            return Err(MmError::BadAddress);
        }
        Ok(file.pages.get(&offset).copied().unwrap_or(0))
    }

    /// Writes the byte at `addr`.
    pub(crate) fn write(&mut self, vma: &Vma, addr: VirtAddr, byte: u8) -> Result<(), MmError> {
        self.read(vma, addr)?;
        match vma.file.filter(|_| vma.flags.contains(VmFlags::SHARED)).and_then(|file| self.file_mut(file)) {
            Some(file) => file.pages.insert(vma.pgoff_at(addr), byte),
            None => self.own.insert(page(addr), byte),
        };
        Ok(())
    }

    fn drop_own(&mut self, range: VirtRange) {
        self.take_own(range);
    }

    fn take_own(&mut self, range: VirtRange) -> BTreeMap<u64, u8> {
        let mut taken = self.own.split_off(&page(range.start));
        self.own.append(&mut taken.split_off(&page(range.end)));
        taken
    }
}

const fn page(addr: VirtAddr) -> u64 {
    addr.raw() >> PAGE_SHIFT
}

impl PageTables for &mut Backing {
    fn begin_unmap(&mut self) {}

    fn unmap(&mut self, _: &Vma, range: VirtRange) {
        self.drop_own(range);
    }

    // There are no tables to free.
    fn end_unmap(&mut self, _: VirtRange) {}

    // No operation of the comparison forks.
    fn copy(&mut self, _: &Vma, _: &Vma) -> Result<(), MmError> {
        Err(MmError::NotSupported)
    }

    // Permissions are the area's; there are no tables that repeat them.
    fn protect(&mut self, _: &Vma, _: VirtRange) {}

    fn relocate(&mut self, _: &Vma, old: VirtRange, _: &Vma, to: VirtAddr) -> Result<(), MmError> {
        let moved = self.take_own(old);
        self.own.extend(moved.into_iter().map(|(at, byte)| (at - page(old.start) + page(to), byte)));
        Ok(())
    }

    fn advise(&mut self, _: &Vma, range: VirtRange, advice: PageAdvice) -> Result<(), MmError> {
        match advice {
            PageAdvice::DontNeed => self.drop_own(range),
            // Nothing reclaims memory here, so pages stay, as they do on a host with free memory and no swap.
            PageAdvice::Free | PageAdvice::Cold | PageAdvice::PageOut | PageAdvice::WillNeed => {}
            PageAdvice::Collapse => return Err(MmError::Invalid),
        }
        Ok(())
    }

    fn populate(&mut self, vma: &Vma, range: VirtRange, access: Access) -> Result<(), MmError> {
        for at in page(range.start)..page(range.end) {
            let addr = VirtAddr::new(at << PAGE_SHIFT);
            let byte = self.read(vma, addr)?;
            if access == Access::Write && !vma.flags.contains(VmFlags::SHARED) {
                self.own.insert(at, byte);
            }
        }
        Ok(())
    }

    fn residency(&mut self, vma: &Vma, range: VirtRange, resident: &mut [u8]) {
        let file = vma.file.and_then(|file| self.file(file));
        for (at, resident) in (page(range.start)..page(range.end)).zip(resident) {
            let offset = vma.pgoff_at(VirtAddr::new(at << PAGE_SHIFT));
            let is_in_file = file.is_some_and(|file| file.pages.contains_key(&offset));
            *resident = u8::from(self.own.contains_key(&at) || is_in_file);
        }
    }
}

impl Pager for &mut Backing {
    fn facts(&self, file: FileId) -> Result<FileFacts, MmError> {
        let traits = self.file(file).ok_or(MmError::BadFile)?.traits;
        Ok(FileFacts { traits, max_bytes: i64::MAX as u64 })
    }

    fn shared_anonymous(&mut self, bytes: u64, _: Reserve) -> Result<FileId, MmError> {
        let file =
            self.add_file(SHARED_ANONYMOUS, bytes >> PAGE_SHIFT, Backing::MEMORY_FILE).ok_or(MmError::NoMemory)?;
        self.open(file);
        Ok(file)
    }

    fn open(&mut self, file: FileId) {
        if let Some(file) = self.file_mut(file) {
            file.users += 1;
        }
    }

    fn close(&mut self, file: FileId) {
        if let Some(file) = self.file_mut(file) {
            debug_assert!(file.users > 0, "a file is closed as often as it was opened");
            file.users -= 1;
        }
    }

    fn sync(&mut self, _: FileId, _: u64, _: u64) -> Result<(), MmError> {
        Ok(())
    }

    fn punch_hole(&mut self, file: FileId, offset: u64, bytes: u64) -> Result<(), MmError> {
        let holes = offset >> PAGE_SHIFT..(offset + bytes) >> PAGE_SHIFT;
        if let Some(file) = self.file_mut(file) {
            file.pages.retain(|at, _| !holes.contains(at));
        }
        Ok(())
    }
}
