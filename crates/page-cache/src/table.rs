//! Files by number: rows of files that are allocated as they are needed and stay.
//!
//! Finding a file takes no lock. Locking: `rank::FILE_NUMBERS` for which numbers are in use, a file's lock inside it.
//! Linux has pointers in their place; a number fits the frame's descriptor and finds the file from there.

use address_space::MmError;
use object_allocator::{KmemCache, ObjectAllocator, SlabBox};
use page_allocator::Hooks;
use platform::Platform;
use sync::{Cpu, SetOnce, SpinLock, rank};
use units::Gfp;

use crate::file::FileState;

const FILES_PER_ROW: usize = 16;
const ROWS_PER_SHELF: usize = 128;
const SHELVES: usize = 64;

/// A file with its lock.
pub(crate) type File<'k> = SpinLock<{ rank::FILE }, FileState<'k>>;

#[derive(Debug)]
struct Row<'k> {
    files: [File<'k>; FILES_PER_ROW],
}

#[derive(Debug)]
struct Shelf<'k> {
    rows: [SetOnce<SlabBox<'k, Row<'k>>>; ROWS_PER_SHELF],
}

/// Which numbers are in use. Numbers begin with 1.
#[derive(Debug)]
struct Numbers {
    /// First number of the chain of unused ones below `fresh`; 0 ends it.
    unused: u32,
    /// Lowest number that was never used.
    fresh: u32,
    /// Rows that exist.
    rows: usize,
}

/// All files of a machine.
#[derive(Debug)]
pub(crate) struct FileTable<'k, P: Platform, H: Hooks> {
    shelves: [SetOnce<SlabBox<'k, Shelf<'k>>>; SHELVES],
    numbers: SpinLock<{ rank::FILE_NUMBERS }, Numbers>,
    shelf_cache: KmemCache<'k, Shelf<'k>, P, H>,
    row_cache: KmemCache<'k, Row<'k>, P, H>,
}

impl<'k, P: Platform, H: Hooks + Sync> FileTable<'k, P, H> {
    pub(crate) fn new(objects: &'k ObjectAllocator<P, H>, cpu: &Cpu) -> Result<Self, MmError> {
        Ok(Self {
            shelves: [const { SetOnce::new() }; SHELVES],
            numbers: SpinLock::new(Numbers { unused: 0, fresh: 1, rows: 0 }),
            shelf_cache: KmemCache::create(objects, cpu, "file_shelf", object_allocator::CacheFlags::empty())?,
            row_cache: KmemCache::create(objects, cpu, "shmem_inode_cache", object_allocator::CacheFlags::empty())?,
        })
    }

    /// Returns the file with a number, in use or not.
    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&File<'k>> {
        let index = (number as usize).checked_sub(1)?;
        let row = index / FILES_PER_ROW;
        let shelf = self.shelves.get(row / ROWS_PER_SHELF)?.get()?;
        shelf.rows.get(row % ROWS_PER_SHELF)?.get()?.files.get(index % FILES_PER_ROW)
    }

    /// Takes a number whose file is unused.
    pub(crate) fn take(&self, cpu: &Cpu) -> Result<u32, MmError> {
        loop {
            let rows = {
                let mut numbers = self.numbers.lock(cpu);
                if let Some(file) = self.get(numbers.unused) {
                    let number = numbers.unused;
                    numbers.unused = file.lock(cpu).next_unused;
                    return Ok(number);
                }
                if self.get(numbers.fresh).is_some() {
                    numbers.fresh += 1;
                    return Ok(numbers.fresh - 1);
                }
                numbers.rows
            };
            self.add_row(cpu, rows)?;
        }
    }

    /// Gives a number back whose file is unused again.
    pub(crate) fn give_back(&self, cpu: &Cpu, number: u32) {
        let mut numbers = self.numbers.lock(cpu);
        if let Some(file) = self.get(number) {
            file.lock(cpu).next_unused = numbers.unused;
            numbers.unused = number;
        }
    }

    /// Makes the row after the first `rows`, unless another CPU has.
    fn add_row(&self, cpu: &Cpu, rows: usize) -> Result<(), MmError> {
        let shelf = self.shelves.get(rows / ROWS_PER_SHELF).ok_or(MmError::NoMemory)?;
        if shelf.get().is_none() {
            let made = Shelf { rows: [const { SetOnce::new() }; ROWS_PER_SHELF] };
            // Another CPU may have been faster; its shelf is as good.
            if let Err(made) = shelf.set(self.shelf_cache.alloc(cpu, Gfp::KERNEL, made)?) {
                self.shelf_cache.free(cpu, made);
            }
        }
        let row = Row { files: [const { SpinLock::new(FileState::unused()) }; FILES_PER_ROW] };
        let row = self.row_cache.alloc(cpu, Gfp::KERNEL, row)?;
        let mut numbers = self.numbers.lock(cpu);
        let place = shelf.get().and_then(|shelf| shelf.rows.get(rows % ROWS_PER_SHELF));
        let refused = match place {
            Some(place) if numbers.rows == rows => place.set(row).err(),
            _ => Some(row),
        };
        if refused.is_none() {
            numbers.rows += 1;
        }
        drop(numbers);
        if let Some(row) = refused {
            self.row_cache.free(cpu, row);
        }
        Ok(())
    }
}
