//! A file: its pages, its size, its users.
//!
//! Linux 6.12: `struct address_space`, `struct inode` and `struct shmem_inode_info`, as far as memory is concerned.

use core::fmt;
use core::ops::{Deref, DerefMut};

use address_space::{PAGE_SHIFT, PAGE_SIZE, Reserve};
use collections::XArray;
use collections::xarray::{Mark, Node, Spare};
use frame_table::PageRef;
use object_allocator::SlabBox;
use object_allocator::mmu::PageKind;

use crate::name::FileName;
use crate::seals::Seals;
use crate::source::PageSource;

/// PAGECACHE_TAG_DIRTY: differs from its source.
pub(crate) const DIRTY: Mark = Mark::First;
/// PAGECACHE_TAG_WRITEBACK: being written.
pub(crate) const WRITEBACK: Mark = Mark::Second;
/// PAGECACHE_TAG_TOWRITE: was dirty when the call began that writes it.
pub(crate) const TOWRITE: Mark = Mark::Third;

/// Bytes of the largest file (MAX_LFS_FILESIZE).
pub(crate) const MAX_BYTES: u64 = i64::MAX as u64;
/// Pages from here on cannot be in memory: a frame keeps 40 bits of the index.
pub(crate) const MAX_INDEX: u64 = 1 << 40;

/// What a file is.
#[derive(Clone, Copy, Debug)]
pub enum FileKind<'k> {
    /// tmpfs, memfd, shared anonymous memory: counted as committed, and in RSS as shmem.
    Shmem(Reserve),
    /// A file that lives in the page cache only (ramfs).
    Regular,
    /// A file whose pages are read from somewhere on first use.
    Backed(&'k dyn PageSource),
}

/// What is known of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileStat {
    /// Bytes.
    pub size: u64,
    /// Pages in memory.
    pub nr_pages: u64,
    /// What they are counted as.
    pub kind: PageKind,
    /// References that are no areas.
    pub references: u32,
    /// Areas that map it.
    pub mappings: u32,
    /// Shared ones that may be written.
    pub writable_mappings: u32,
    /// What is forbidden.
    pub seals: Seals,
}

/// A node of a file's pages.
pub(crate) type PageNode<'k> = Node<PageRef, NodeBox<'k>>;
/// Nodes outside trees.
pub(crate) type SpareNodes<'k> = Spare<NodeBox<'k>>;

/// Owner of a node in the slab cache.
#[derive(Debug)]
pub(crate) struct NodeBox<'k>(pub(crate) SlabBox<'k, PageNode<'k>>);

impl<'k> Deref for NodeBox<'k> {
    type Target = PageNode<'k>;

    fn deref(&self) -> &PageNode<'k> {
        &self.0
    }
}

impl<'k> DerefMut for NodeBox<'k> {
    fn deref_mut(&mut self) -> &mut PageNode<'k> {
        &mut self.0
    }
}

/// State of a file.
///
/// # Invariants
/// Each page of `pages` is a page with its frame's mapping set to this file and index. Marks stand only on pages of `Backed` files.
pub(crate) struct FileState<'k> {
    /// `None` for a number that is not in use.
    pub(crate) kind: Option<FileKind<'k>>,
    pub(crate) pages: XArray<PageRef, NodeBox<'k>>,
    pub(crate) size: u64,
    /// Bytes at the beginning that the source has; less than `size` once a file was cut and grew again.
    pub(crate) backed: u64,
    /// Pages that may lie in the file whatever its size (Linux: `fallocend`).
    pub(crate) kept: u64,
    /// Pages were set aside, so some may not be up to date.
    pub(crate) has_set_aside: bool,
    pub(crate) references: u32,
    pub(crate) mappings: u32,
    /// Shared areas that may be written.
    pub(crate) writable_mappings: u32,
    pub(crate) seals: Seals,
    /// Large mappings are placed for huge pages.
    pub(crate) huge_aligned: bool,
    pub(crate) name: Option<SlabBox<'k, FileName>>,
    /// Next number that is not in use, while this one is not.
    pub(crate) next_unused: u32,
}

impl FileState<'_> {
    pub(crate) const fn unused() -> Self {
        Self {
            kind: None,
            pages: XArray::new(),
            size: 0,
            backed: 0,
            kept: 0,
            has_set_aside: false,
            references: 0,
            mappings: 0,
            writable_mappings: 0,
            seals: Seals::SEAL,
            huge_aligned: false,
            name: None,
            next_unused: 0,
        }
    }

    pub(crate) const fn is_used(&self) -> bool {
        self.kind.is_some() && (self.references != 0 || self.mappings != 0)
    }

    pub(crate) const fn is_shmem(&self) -> bool {
        matches!(self.kind, Some(FileKind::Shmem(_)))
    }

    pub(crate) const fn page_kind(&self) -> PageKind {
        if self.is_shmem() { PageKind::Shmem } else { PageKind::File }
    }

    /// Returns the number behind the last page that may be there.
    pub(crate) fn end_of_pages(&self) -> u64 {
        pages_of(self.size).max(self.kept)
    }

    /// Pages that are promised because of the size.
    pub(crate) const fn reserved_for(&self, size: u64) -> u64 {
        if matches!(self.kind, Some(FileKind::Shmem(Reserve::Whole))) { pages_of(size) } else { 0 }
    }

    /// Pages that are promised with each page in memory.
    pub(crate) const fn charge_per_page(&self) -> u64 {
        matches!(self.kind, Some(FileKind::Shmem(Reserve::OnUse))) as u64
    }

    pub(crate) fn stat(&self) -> FileStat {
        FileStat {
            size: self.size,
            nr_pages: self.pages.len(),
            kind: self.page_kind(),
            references: self.references,
            mappings: self.mappings,
            writable_mappings: self.writable_mappings,
            seals: self.seals,
        }
    }
}

impl fmt::Debug for FileState<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileState").field("kind", &self.kind).field("stat", &self.stat()).finish_non_exhaustive()
    }
}

/// Returns the number of pages that `size` bytes touch.
pub(crate) const fn pages_of(size: u64) -> u64 {
    size.div_ceil(PAGE_SIZE)
}

/// Cuts an offset into the page's index and the offset in it.
pub(crate) const fn split(offset: u64) -> (u64, usize) {
    (offset >> PAGE_SHIFT, (offset % PAGE_SIZE) as usize)
}
