//! The files of a machine, and an operation on one.

use address_space::{FileId, MmError, Overcommit, PAGE_SHIFT, Process};
use frame_table::{FrameTable, PageRef};
use object_allocator::mmu::PageKind;
use object_allocator::vmstat::NodeItem;
use object_allocator::{CacheFlags, KmemCache, ObjectAllocator};
use page_allocator::Hooks;
use platform::Platform;
use sync::{Cpu, SpinGuard, rank};
use units::{Gfp, Pfn};

use crate::file::{FileState, NodeBox, PageNode, SpareNodes};
use crate::name::FileName;
use crate::table::FileTable;

/// All files of a machine whose pages live in memory. Dropping it leaks the pages of files that exist.
#[derive(Debug)]
pub struct Files<'k, P: Platform, H: Hooks> {
    pub(crate) objects: &'k ObjectAllocator<P, H>,
    pub(crate) table: FileTable<'k, P, H>,
    pub(crate) nodes: KmemCache<'k, PageNode<'k>, P, H>,
    pub(crate) names: KmemCache<'k, FileName, P, H>,
}

/// An operation on files: where it runs, and whose promise of memory it takes.
#[derive(Debug)]
pub struct FileCall<'a, 'k, P: Platform, H: Hooks> {
    /// The files.
    pub files: &'a Files<'k, P, H>,
    /// The CPU that it runs on.
    pub cpu: &'a Cpu,
    /// The sum of promised memory.
    pub commit: &'a Overcommit,
    /// Who calls.
    pub process: &'a Process,
    /// Pages of the caller's address space, of which vm.overcommit_memory=2 leaves a share.
    pub total_vm: u64,
}

/// A file's state, locked.
pub(crate) type Locked<'a, 'k> = SpinGuard<'a, { rank::FILE }, FileState<'k>>;

impl<'k, P: Platform, H: Hooks + Sync> Files<'k, P, H> {
    /// Makes the slab caches; there is no file.
    ///
    /// # Errors
    /// [`MmError::NoMemory`], and [`MmError::NotSupported`] on a machine whose pages are not those of address spaces.
    pub fn new(objects: &'k ObjectAllocator<P, H>, cpu: &Cpu) -> Result<Self, MmError> {
        if objects.pages().map().geometry.page_shift != PAGE_SHIFT {
            return Err(MmError::NotSupported);
        }
        Ok(Self {
            objects,
            table: FileTable::new(objects, cpu)?,
            nodes: KmemCache::create(objects, cpu, "radix_tree_node", CacheFlags::RECLAIM_ACCOUNT)?,
            names: KmemCache::create(objects, cpu, "file_name", CacheFlags::empty())?,
        })
    }

    /// Returns what allocates the files' pages.
    pub const fn objects(&self) -> &'k ObjectAllocator<P, H> {
        self.objects
    }

    /// Returns the file and index that a page belongs to; `None` if its frame's mapping is no file's number.
    ///
    /// Numbers of files are below [`PageKind::ANON_MAPPING`]. Linux: `folio_mapping`.
    pub fn file_of(&self, pfn: Pfn) -> Option<(FileId, u64)> {
        let (number, index) = self.frames().get(pfn)?.mapping();
        self.table.get(number)?;
        Some((FileId::new(number.into())?, index))
    }

    pub(crate) const fn frames(&self) -> &'k FrameTable {
        &self.objects.pages().map().frames
    }
}

impl<'a, 'k, P: Platform, H: Hooks + Sync> FileCall<'a, 'k, P, H> {
    /// Locks a file that somebody uses.
    pub(crate) fn lock(&self, file: FileId) -> Result<Locked<'a, 'k>, MmError> {
        let state = self.lock_any(Self::number(file)).ok_or(MmError::BadFile)?;
        if state.is_used() { Ok(state) } else { Err(MmError::BadFile) }
    }

    pub(crate) fn lock_any(&self, number: u32) -> Option<Locked<'a, 'k>> {
        Some(self.files.table.get(number)?.lock(self.cpu))
    }

    /// Returns the table's number; 0, which is no file's, for one that no table gave out.
    pub(crate) fn number(file: FileId) -> u32 {
        u32::try_from(file.raw()).unwrap_or(0)
    }

    pub(crate) const fn frames(&self) -> &'k FrameTable {
        self.files.frames()
    }

    /// Gives a reference to a page back (Linux: `folio_put`). Not under a file's lock.
    pub fn put_page(&self, page: PageRef) {
        self.files.objects.pages().put(self.cpu, page);
    }

    /// Fills up to `count` spare nodes.
    pub(crate) fn supply(&self, spare: &mut SpareNodes<'k>, count: u32) -> Result<(), MmError> {
        while spare.len() < count {
            let node = self.files.nodes.alloc(self.cpu, Gfp::KERNEL, PageNode::new())?;
            spare.give(NodeBox(node));
        }
        Ok(())
    }

    /// Frees nodes.
    pub(crate) fn free_nodes(&self, mut spare: SpareNodes<'k>) {
        while let Some(node) = spare.pop() {
            self.files.nodes.free(self.cpu, node.0);
        }
    }

    /// Counts a page that enters a file, or leaves it if `delta` is negative.
    pub(crate) fn count(&self, pfn: Pfn, kind: PageKind, delta: i64) {
        let node = self.frames().at(pfn).place().node();
        let vmstat = self.files.objects.vmstat();
        vmstat.mod_node(self.cpu, node, NodeItem::NrFilePages, delta);
        if kind == PageKind::Shmem {
            vmstat.mod_node(self.cpu, node, NodeItem::NrShmem, delta);
        }
    }

    /// Adds to a counter of a page's node.
    pub(crate) fn count_item(&self, pfn: Pfn, item: NodeItem, delta: i64) {
        self.files.objects.vmstat().mod_node(self.cpu, self.frames().at(pfn).place().node(), item, delta);
    }
}
