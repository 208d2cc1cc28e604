//! What is forbidden for good on a file of shared memory.
//!
//! Linux 6.12: mm/memfd.c (`memfd_add_seals`, `memfd_get_seals`), include/linux/fs.h (`mapping_map_writable`, `mapping_deny_writable`).

use address_space::{FileId, MmError};
use page_allocator::Hooks;
use platform::Platform;

use crate::files::FileCall;

bitflags::bitflags! {
    /// Seals, with Linux's bits.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Seals: u32 {
        /// F_SEAL_SEAL: no more seals.
        const SEAL = 1;
        /// F_SEAL_SHRINK: the size does not get smaller.
        const SHRINK = 2;
        /// F_SEAL_GROW: the size does not get larger.
        const GROW = 4;
        /// F_SEAL_WRITE: contents do not change.
        const WRITE = 8;
        /// F_SEAL_FUTURE_WRITE: contents change through areas only that exist.
        const FUTURE_WRITE = 16;
        /// F_SEAL_EXEC: the mode's execute bits do not change; for the file system to obey.
        const EXEC = 32;
    }
}

impl<P: Platform, H: Hooks + Sync> FileCall<'_, '_, P, H> {
    /// Adds seals (Linux: F_ADD_SEALS).
    ///
    /// # Errors
    /// [`MmError::Invalid`] for files that are not shmem or unknown seals, [`MmError::NotPermitted`] after [`Seals::SEAL`], [`MmError::Busy`] for [`Seals::WRITE`] while a shared
    /// area may be written, [`MmError::BadFile`].
    pub fn add_seals(&self, file: FileId, seals: Seals) -> Result<(), MmError> {
        let mut state = self.lock(file)?;
        if !state.is_shmem() || !Seals::all().contains(seals) {
            return Err(MmError::Invalid);
        }
        if state.seals.contains(Seals::SEAL) {
            return Err(MmError::NotPermitted);
        }
        if seals.contains(Seals::WRITE) && !state.seals.contains(Seals::WRITE) && state.writable_mappings != 0 {
            return Err(MmError::Busy);
        }
        state.seals |= seals;
        Ok(())
    }

    /// Returns the seals (Linux: F_GET_SEALS).
    ///
    /// # Errors
    /// [`MmError::Invalid`] for files that are not shmem, [`MmError::BadFile`].
    pub fn seals(&self, file: FileId) -> Result<Seals, MmError> {
        let state = self.lock(file)?;
        if state.is_shmem() { Ok(state.seals) } else { Err(MmError::Invalid) }
    }

    /// Counts a shared area that may be written, which [`Seals::WRITE`] has to wait for (Linux: `mapping_map_writable`).
    ///
    /// # Errors
    /// [`MmError::NotPermitted`] for a file that is sealed against writing, [`MmError::BadFile`].
    pub fn map_writable(&self, file: FileId) -> Result<(), MmError> {
        let mut state = self.lock(file)?;
        if state.seals.intersects(Seals::WRITE | Seals::FUTURE_WRITE) {
            return Err(MmError::NotPermitted);
        }
        state.writable_mappings = state.writable_mappings.saturating_add(1);
        Ok(())
    }

    /// Counts another area that was made of a counted one, whatever is sealed by now.
    ///
    /// # Errors
    /// [`MmError::BadFile`].
    pub(crate) fn add_writable(&self, file: FileId) -> Result<(), MmError> {
        let mut state = self.lock(file)?;
        state.writable_mappings = state.writable_mappings.saturating_add(1);
        Ok(())
    }

    /// One shared area less may be written (Linux: `mapping_unmap_writable`).
    ///
    /// # Errors
    /// [`MmError::BadFile`]; [`MmError::Invalid`] if none is counted.
    pub fn unmap_writable(&self, file: FileId) -> Result<(), MmError> {
        let mut state = self.lock(file)?;
        state.writable_mappings = state.writable_mappings.checked_sub(1).ok_or(MmError::Invalid)?;
        Ok(())
    }
}
