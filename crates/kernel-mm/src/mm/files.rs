//! Files that lose pages which processes map: truncation and holes.
//!
//! Pages leave all page tables first, then the file, then the page tables once more: a fault that was under way may have mapped a page in between.
//! Linux 6.12: mm/truncate.c (`truncate_pagecache`), mm/memory.c (`unmap_mapping_range`), mm/shmem.c (`shmem_fallocate`).

use core::ops::RangeInclusive;

use address_space::{
    Access, AddressSpaces, AreaName, FileFacts, FileId, MmError, PAGE_SHIFT, PAGE_SIZE, Pager, Process, Reserve,
};
use frame_table::PageRef;
use object_allocator::mmu::MmuReady;
use page_allocator::Hooks;
use page_cache::FileCall;
use page_fault::FilePages;
use page_tables::{Tables, ZapWhat};
use platform::Platform;
use sync::Cpu;

use super::MemoryManager;
use super::area_names::NameTable;

/// An operation on the files of a machine, by somebody who knows which processes map them.
#[derive(Debug)]
pub struct MappedFiles<'a, 'k, P: Platform, H: Hooks + Sync> {
    pub(super) call: FileCall<'a, 'k, P, H>,
    pub(super) spaces: &'a AddressSpaces<'k, P, H>,
    pub(super) mmu: &'a MmuReady<'k, P, H>,
    pub(super) names: &'a NameTable<'k, P, H>,
}

impl<'k, P: Platform, H: Hooks + Sync> MemoryManager<'k, P, H> {
    /// Works on files in memory, for `process`, and on what processes map of them.
    pub const fn mapped_files<'a>(&'a self, cpu: &'a Cpu, process: &'a Process) -> MappedFiles<'a, 'k, P, H> {
        MappedFiles { call: self.files(cpu, process), spaces: &self.spaces, mmu: &self.mmu, names: &self.names }
    }
}

impl<'a, 'k, P: Platform, H: Hooks + Sync> MappedFiles<'a, 'k, P, H> {
    /// Returns the operation on the files alone.
    pub const fn files(&self) -> &FileCall<'a, 'k, P, H> {
        &self.call
    }

    /// Sets the size of a file. What lies behind a nearer end goes, private copies of it too (Linux: `truncate_setsize`).
    ///
    /// # Errors
    /// As [`FileCall::set_size`].
    pub fn set_size(&self, file: FileId, size: u64) -> Result<(), MmError> {
        let is_cut = self.call.stat(file)?.size > size;
        let behind = size.div_ceil(PAGE_SIZE)..=u64::MAX;
        if is_cut {
            self.unmap(file, behind.clone(), ZapWhat::All);
        }
        self.call.set_size(file, size)?;
        if is_cut {
            self.unmap(file, behind, ZapWhat::All);
        }
        Ok(())
    }

    /// Frees `bytes` bytes of a file from `offset` on. Private copies stay.
    ///
    /// # Errors
    /// As [`FileCall::punch_hole`].
    pub fn punch_hole(&self, file: FileId, offset: u64, bytes: u64) -> Result<(), MmError> {
        let (first, past) = (offset.div_ceil(PAGE_SIZE), offset.saturating_add(bytes) >> PAGE_SHIFT);
        let whole = past.checked_sub(1).filter(|&last| first <= last).map(|last| first..=last);
        if let Some(whole) = whole.clone() {
            self.unmap(file, whole, ZapWhat::NotAnon);
        }
        self.call.punch_hole(file, offset, bytes)?;
        if let Some(whole) = whole {
            self.unmap(file, whole, ZapWhat::NotAnon);
        }
        Ok(())
    }

    /// Takes pages of a file out of every page table (Linux: unmap_mapping_range).
    fn unmap(&self, file: FileId, numbers: RangeInclusive<u64>, what: ZapWhat) {
        let cpu = self.call.cpu;
        self.spaces.for_each_file_area(cpu, file, numbers, |mapped| {
            let tables = Tables { mmu: self.mmu.on(cpu), tables: mapped.mm.tables() };
            tables.zap(&mut tables.gather(), mapped.range, what);
        });
    }
}

impl<P: Platform, H: Hooks + Sync> Pager for MappedFiles<'_, '_, P, H> {
    fn facts(&self, file: FileId) -> Result<FileFacts, MmError> {
        self.call.facts(file)
    }

    fn shared_anonymous(&mut self, bytes: u64, reserve: Reserve) -> Result<FileId, MmError> {
        self.call.shared_anonymous(bytes, reserve)
    }

    fn open(&mut self, file: FileId) {
        self.call.open(file);
    }

    fn close(&mut self, file: FileId) {
        self.call.close(file);
    }

    fn map_writable(&mut self, file: FileId) -> Result<(), MmError> {
        Pager::map_writable(&mut self.call, file)
    }

    fn copy_writable(&mut self, file: FileId) {
        self.call.copy_writable(file);
    }

    fn unmap_writable(&mut self, file: FileId) {
        Pager::unmap_writable(&mut self.call, file);
    }

    fn name_get(&mut self, name: AreaName) {
        self.names.get(self.call.cpu, name);
    }

    fn name_put(&mut self, name: AreaName) {
        self.names.put(self.call.cpu, name);
    }

    fn sync(&mut self, file: FileId, offset: u64, bytes: u64) -> Result<(), MmError> {
        self.call.sync(file, offset, bytes)
    }

    fn punch_hole(&mut self, file: FileId, offset: u64, bytes: u64) -> Result<(), MmError> {
        MappedFiles::punch_hole(self, file, offset, bytes)
    }
}

impl<P: Platform, H: Hooks + Sync> FilePages for MappedFiles<'_, '_, P, H> {
    #[inline]
    fn page(&self, file: FileId, index: u64, access: Access) -> Result<PageRef, MmError> {
        self.call.page(file, index, access)
    }

    #[inline]
    fn resident_pages(&self, file: FileId, first: u64, found: &mut [Option<PageRef>]) {
        FilePages::resident_pages(&self.call, file, first, found);
    }

    fn residency(&self, file: FileId, first: u64, resident: &mut [u8]) {
        FilePages::residency(&self.call, file, first, resident);
    }
}
