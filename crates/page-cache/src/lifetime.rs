//! How files begin and end.
//!
//! A file lives as long as somebody refers to it: a directory entry, an open descriptor, an area.
//! Linux 6.12: mm/shmem.c (`__shmem_file_setup`, `shmem_evict_inode`), `ihold`, `iput`, `get_file`, `fput`.

use address_space::{FileFacts, FileId, FileTraits, MmError, Reserve};
use object_allocator::SlabBox;
use page_allocator::Hooks;
use platform::Platform;
use units::Gfp;

use crate::file::{FileKind, FileStat, FileState, MAX_BYTES};
use crate::files::FileCall;
use crate::name::FileName;
use crate::seals::Seals;

/// Who holds a file at first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Holder {
    Reference,
    Area,
}

impl<'k, P: Platform, H: Hooks + Sync> FileCall<'_, 'k, P, H> {
    /// Makes a file of `size` bytes; the caller has the only reference.
    ///
    /// # Errors
    /// [`MmError::NoMemory`], also if the size may not be promised; [`MmError::TooLarge`].
    pub fn create(&self, kind: FileKind<'k>, size: u64) -> Result<FileId, MmError> {
        self.create_for(Holder::Reference, kind, size, Seals::SEAL, &[])
    }

    /// Makes an empty memfd; `seals` is empty if it may be sealed, else [`Seals::SEAL`] (Linux: `memfd_create`).
    ///
    /// # Errors
    /// [`MmError::NoMemory`]; [`MmError::Invalid`] for a name above 249 bytes.
    pub fn create_memfd(&self, name: &[u8], seals: Seals) -> Result<FileId, MmError> {
        let kind = FileKind::Shmem(Reserve::OnUse);
        self.create_for(Holder::Reference, kind, 0, seals, &[b"memfd:", name])
    }

    /// Makes the file behind a shared anonymous area, which is its only user (Linux: `shmem_zero_setup`).
    ///
    /// # Errors
    /// [`MmError::NoMemory`], [`MmError::TooLarge`].
    pub fn create_shared_anonymous(&self, size: u64, reserve: Reserve) -> Result<FileId, MmError> {
        self.create_for(Holder::Area, FileKind::Shmem(reserve), size, Seals::SEAL, &[b"dev/zero"])
    }

    fn create_for(
        &self,
        holder: Holder,
        kind: FileKind<'k>,
        size: u64,
        seals: Seals,
        name: &[&[u8]],
    ) -> Result<FileId, MmError> {
        if size > MAX_BYTES {
            return Err(MmError::TooLarge);
        }
        let fresh = FileState {
            kind: Some(kind),
            size,
            backed: if matches!(kind, FileKind::Backed(_)) { size } else { 0 },
            references: u32::from(holder == Holder::Reference),
            mappings: u32::from(holder == Holder::Area),
            seals,
            ..FileState::unused()
        };
        let reserved = fresh.reserved_for(size);
        self.commit.charge(reserved, self.process, self.total_vm)?;
        let number = self.enter_file(fresh, name).inspect_err(|_| self.commit.uncharge(reserved))?;
        FileId::new(number.into()).ok_or(MmError::BadFile)
    }

    /// Gives a file a name and a number.
    fn enter_file(&self, fresh: FileState<'k>, name: &[&[u8]]) -> Result<u32, MmError> {
        let number = self.files.table.take(self.cpu)?;
        let name = if name.is_empty() { Ok(None) } else { self.allocate_name(name).map(Some) };
        let name = name.inspect_err(|_| self.files.table.give_back(self.cpu, number))?;
        let mut state = self.lock_any(number).ok_or(MmError::BadFile)?;
        *state = FileState { name, ..fresh };
        Ok(number)
    }

    fn allocate_name(&self, parts: &[&[u8]]) -> Result<SlabBox<'k, FileName>, MmError> {
        Ok(self.files.names.alloc(self.cpu, Gfp::KERNEL, FileName::new(parts)?)?)
    }

    /// Takes another reference (Linux: `ihold`, `get_file`).
    ///
    /// # Errors
    /// [`MmError::BadFile`]; [`MmError::NoMemory`] after 2^32 of them.
    pub fn get(&self, file: FileId) -> Result<(), MmError> {
        let mut state = self.lock(file)?;
        state.references = state.references.checked_add(1).ok_or(MmError::NoMemory)?;
        Ok(())
    }

    /// Gives a reference back; with the last user the file goes, and its pages with it (Linux: `iput`).
    ///
    /// # Errors
    /// [`MmError::BadFile`] if there is no such reference.
    pub fn put(&self, file: FileId) -> Result<(), MmError> {
        let mut state = self.lock(file)?;
        state.references = state.references.checked_sub(1).ok_or(MmError::BadFile)?;
        let is_last = !state.is_used();
        drop(state);
        if is_last {
            self.evict(Self::number(file));
        }
        Ok(())
    }

    /// Counts another area that maps the file.
    ///
    /// # Errors
    /// As [`FileCall::get`].
    pub fn open_mapping(&self, file: FileId) -> Result<(), MmError> {
        let mut state = self.lock(file)?;
        state.mappings = state.mappings.checked_add(1).ok_or(MmError::NoMemory)?;
        Ok(())
    }

    /// One area less maps the file; with the last user it goes.
    ///
    /// # Errors
    /// [`MmError::BadFile`] if no area is counted.
    pub fn close_mapping(&self, file: FileId) -> Result<(), MmError> {
        let mut state = self.lock(file)?;
        state.mappings = state.mappings.checked_sub(1).ok_or(MmError::BadFile)?;
        let is_last = !state.is_used();
        drop(state);
        if is_last {
            self.evict(Self::number(file));
        }
        Ok(())
    }

    /// Frees a file that nobody uses. Nobody finds it any more (`lock` refuses), so this is the only call on it.
    fn evict(&self, number: u32) {
        self.drop_pages(number, 0..=u64::MAX);
        let Some(mut state) = self.lock_any(number) else { return };
        let reserved = state.reserved_for(state.size);
        let last = core::mem::replace(&mut *state, FileState::unused());
        drop(state);
        self.commit.uncharge(reserved);
        if let Some(name) = last.name {
            self.files.names.free(self.cpu, name);
        }
        self.files.table.give_back(self.cpu, number);
    }

    /// Returns what is known of a file.
    ///
    /// # Errors
    /// [`MmError::BadFile`].
    pub fn stat(&self, file: FileId) -> Result<FileStat, MmError> {
        Ok(self.lock(file)?.stat())
    }

    /// Names a file for /proc/PID/maps.
    ///
    /// # Errors
    /// [`MmError::Invalid`] above 255 bytes, [`MmError::NoMemory`], [`MmError::BadFile`]; the name is as before then.
    pub fn set_name(&self, file: FileId, name: &[u8]) -> Result<(), MmError> {
        let name = self.allocate_name(&[name])?;
        let old = match self.lock(file) {
            Ok(mut state) => Ok(state.name.replace(name)),
            Err(error) => Err((error, name)),
        };
        let (result, unused) = match old {
            Ok(old) => (Ok(()), old),
            Err((error, name)) => (Err(error), Some(name)),
        };
        if let Some(name) = unused {
            self.files.names.free(self.cpu, name);
        }
        result
    }

    /// Returns the name of a file; `None` if it was given none.
    ///
    /// # Errors
    /// [`MmError::BadFile`].
    pub fn name(&self, file: FileId) -> Result<Option<FileName>, MmError> {
        Ok(self.lock(file)?.name.as_deref().copied())
    }

    /// Has large mappings of a file placed for huge pages, as its file system wants it (Linux: `thp_get_unmapped_area`).
    ///
    /// # Errors
    /// [`MmError::BadFile`].
    pub fn align_for_huge_pages(&self, file: FileId) -> Result<(), MmError> {
        self.lock(file)?.huge_aligned = true;
        Ok(())
    }

    /// Returns how a file can be mapped, as far as the file itself decides: what its descriptor was not opened for, the caller takes away.
    ///
    /// # Errors
    /// [`MmError::BadFile`].
    pub fn facts(&self, file: FileId) -> Result<FileFacts, MmError> {
        let state = self.lock(file)?;
        let mut traits = FileTraits::READ | FileTraits::WRITE | FileTraits::MMAP;
        traits.set(FileTraits::SHMEM, state.is_shmem());
        traits.set(FileTraits::HUGE_ALIGNED, state.huge_aligned);
        traits.set(FileTraits::SEALED_WRITE, state.seals.intersects(Seals::WRITE | Seals::FUTURE_WRITE));
        Ok(FileFacts { traits, max_bytes: MAX_BYTES })
    }
}
