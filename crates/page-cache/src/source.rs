//! Where the pages of a file come from that are not in memory yet.
//!
//! Linux 6.12: `read_folio` and `writepage` of `struct address_space_operations`.

use core::fmt;

use address_space::{MmError, PAGE_SHIFT};
use frame_table::PageBytes;
use sync::Cpu;

/// What is behind a file of kind [`FileKind::Backed`](crate::FileKind::Backed). Called without locks, perhaps by two CPUs for one page, of which the
/// slower one's copy is thrown away.
pub trait PageSource: Sync + fmt::Debug {
    /// Reads a page; `page` is zeroed before.
    ///
    /// # Errors
    /// [`MmError::Io`]; the page is then not used.
    fn read_page(&self, cpu: &Cpu, index: u64, page: &PageBytes<'_>) -> Result<(), MmError>;

    /// Writes a page back.
    ///
    /// # Errors
    /// [`MmError::Io`], also of what cannot be written; the page then stays dirty.
    fn write_page(&self, cpu: &Cpu, index: u64, page: &PageBytes<'_>) -> Result<(), MmError>;
}

/// Bytes that somebody keeps: an initrd image, a file of the embedder. Not written back to.
#[derive(Clone, Copy)]
pub struct BytesSource<'b>(pub &'b [u8]);

impl fmt::Debug for BytesSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BytesSource").field("len", &self.0.len()).finish()
    }
}

impl PageSource for BytesSource<'_> {
    fn read_page(&self, _: &Cpu, index: u64, page: &PageBytes<'_>) -> Result<(), MmError> {
        let start = index.checked_mul(1 << PAGE_SHIFT).and_then(|start| usize::try_from(start).ok());
        if let Some(bytes) = start.and_then(|start| self.0.get(start..)) {
            page.write(0, bytes);
        }
        Ok(())
    }

    fn write_page(&self, _: &Cpu, _: u64, _: &PageBytes<'_>) -> Result<(), MmError> {
        Err(MmError::Io)
    }
}
