//! Faults on the files of the page cache.

use address_space::{Access, FileId, MmError};
use frame_table::PageRef;
use page_allocator::Hooks;
use page_cache::FileCall;
use platform::Platform;

use crate::file_pages::FilePages;

impl<P: Platform, H: Hooks + Sync> FilePages for FileCall<'_, '_, P, H> {
    fn page(&self, file: FileId, index: u64, access: Access) -> Result<PageRef, MmError> {
        Self::page(self, file, index, access)
    }

    fn resident_pages(&self, file: FileId, first: u64, found: &mut [Option<PageRef>]) {
        // A file that is gone has no pages.
        let _ = Self::resident_pages(self, file, first, found);
    }

    fn residency(&self, file: FileId, first: u64, resident: &mut [u8]) {
        let known = Self::residency(self, file, first, resident);
        debug_assert!(known.is_ok(), "an area's file is in use");
    }
}
