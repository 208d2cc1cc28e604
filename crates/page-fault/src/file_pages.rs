//! What faults need of files.

use address_space::{Access, FileId, MmError, Pager};
use frame_table::PageRef;

/// The pages of files, beside what calls on areas need of them. Implemented over the page cache; every method may wait.
pub trait FilePages: Pager {
    /// Returns the page at `index`, making or reading it if it is missing. For `Write` the file knows that it is written (Linux: `vm_ops->fault`, `page_mkwrite`).
    ///
    /// # Errors
    /// [`MmError::BadAddress`] behind the end of the file (SIGBUS), [`MmError::NoMemory`], [`MmError::Io`].
    fn page(&self, file: FileId, index: u64, access: Access) -> Result<PageRef, MmError>;

    /// Takes a reference to each page from index `first` on that is in memory; that of `first + n` goes to `found[n]`, which is empty before (Linux: `map_pages`).
    fn resident_pages(&self, file: FileId, first: u64, found: &mut [Option<PageRef>]);

    /// Writes 1 for each page in memory and 0 for each other from index `first` on (Linux: `mincore_page`).
    fn residency(&self, file: FileId, first: u64, resident: &mut [u8]);
}
