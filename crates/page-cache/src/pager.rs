//! Files as the calls on address spaces see them.

use address_space::{FileFacts, FileId, MmError, Pager, Reserve};
use page_allocator::Hooks;
use platform::Platform;

use crate::files::FileCall;

/// Counts and bytes only: who implements `PageTables` beside it unmaps pages before it punches a hole.
impl<P: Platform, H: Hooks + Sync> Pager for FileCall<'_, '_, P, H> {
    fn facts(&self, file: FileId) -> Result<FileFacts, MmError> {
        Self::facts(self, file)
    }

    fn shared_anonymous(&mut self, bytes: u64, reserve: Reserve) -> Result<FileId, MmError> {
        self.create_shared_anonymous(bytes, reserve)
    }

    fn open(&mut self, file: FileId) {
        let opened = self.open_mapping(file);
        debug_assert!(opened.is_ok(), "an area is counted for a file that is in use");
    }

    fn close(&mut self, file: FileId) {
        let closed = self.close_mapping(file);
        debug_assert!(closed.is_ok(), "an area that was counted is counted no longer");
    }

    fn map_writable(&mut self, file: FileId) -> Result<(), MmError> {
        Self::map_writable(self, file)
    }

    fn copy_writable(&mut self, file: FileId) {
        let counted = self.add_writable(file);
        debug_assert!(counted.is_ok(), "an area is counted for a file that is in use");
    }

    fn unmap_writable(&mut self, file: FileId) {
        let counted = Self::unmap_writable(self, file);
        debug_assert!(counted.is_ok(), "an area that was counted is counted no longer");
    }

    fn sync(&mut self, file: FileId, offset: u64, bytes: u64) -> Result<(), MmError> {
        self.sync_range(file, offset, bytes)
    }

    fn punch_hole(&mut self, file: FileId, offset: u64, bytes: u64) -> Result<(), MmError> {
        Self::punch_hole(self, file, offset, bytes)
    }
}
