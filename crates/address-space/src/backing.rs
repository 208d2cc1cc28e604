//! What lies below areas: page tables and files. The layers above implement both.
//!
//! Every method is called with the address space locked for writing, and says for which area it is called as the area is then.
//! Linux 6.12: mm/memory.c and mm/mprotect.c for [`PageTables`]; `struct file`, `struct vm_operations_struct` and mm/shmem.c for [`Pager`].

use units::{VirtAddr, VirtRange, VmFlags};

use crate::error::MmError;
use crate::limits::Release;
use crate::name::AreaName;
use crate::vma::{FileId, Vma};

/// What a call on areas has to do to the pages that are mapped there.
pub trait PageTables {
    /// Begins to unmap any number of areas: what goes before [`end_unmap`](Self::end_unmap) is one gather and needs one flush
    /// (Linux: `tlb_gather_mmu`).
    fn begin_unmap(&mut self);

    /// Forgets the pages of `range`, which lies in `vma` (Linux: `unmap_vmas`).
    fn unmap(&mut self, vma: &Vma, range: VirtRange);

    /// Lets the tables go that served `range`, an unmapped area that is in no tree and no reverse map any more, as far as they serve addresses of `freeable` only: that is
    /// from the end of the area before all that are unmapped (Linux: floor) to the start of the area behind this one (ceiling), from 0 and to `u64::MAX` if there is
    /// none. Called for one area after the other, ascending (Linux: `free_pgtables`).
    fn free_tables(&mut self, range: VirtRange, freeable: VirtRange);

    /// Ends what [`begin_unmap`](Self::begin_unmap) began (Linux: `tlb_finish_mmu`).
    fn end_unmap(&mut self);

    /// Copies the pages of `parent`, an area of the address space that is being copied, for `child`, its copy in this one, which has no pages yet
    /// (Linux: `copy_page_range`). Both address spaces are locked for writing.
    ///
    /// # Errors
    /// [`MmError::NoMemory`]; pages that were copied stay, and unmapping the child takes them back.
    fn copy(&mut self, parent: &Vma, child: &Vma) -> Result<(), MmError>;

    /// Splits a large page that is mapped across `at`, where an area is about to be split (Linux: `vma_adjust_trans_huge`).
    fn split_at(&mut self, at: VirtAddr) {
        let _ = at;
    }

    /// Gives the pages of `range` the permissions of `vma`, which are in force from now on (Linux: `change_protection`).
    fn protect(&mut self, vma: &Vma, range: VirtRange);

    /// Returns the flag of areas that are new since marks of writes were last taken back: [`VmFlags::SOFTDIRTY`], or none if entries keep no such marks (Linux:
    /// VM_SOFTDIRTY, which is VM_NONE without CONFIG_MEM_SOFT_DIRTY).
    fn soft_dirty(&self) -> VmFlags;

    /// Takes `mark` back from the pages of `areas`, which are locked for writing, with one flush for all (Linux: `clear_refs_pte_range`).
    fn clear_marks(&mut self, areas: &mut dyn Iterator<Item = Vma>, mark: PageMark);

    /// Moves the pages of `old` to `to` in `target` (Linux: `move_page_tables`). No area lies in the `room` bytes below either place.
    ///
    /// # Errors
    /// [`MmError::NoMemory`]; then all pages are where they were.
    fn relocate(&mut self, source: &Vma, old: VirtRange, target: &Vma, to: VirtAddr, room: u64) -> Result<(), MmError>;

    /// Does to the pages of `range` what advice says that does not change the area.
    ///
    /// # Errors
    /// What the advice is refused with.
    fn advise(&mut self, vma: &Vma, range: VirtRange, advice: PageAdvice) -> Result<(), MmError>;

    /// Makes the pages of `range` present; its permissions were checked (Linux: `populate_vma_page_range`).
    ///
    /// # Errors
    /// [`MmError::NoMemory`], or [`MmError::BadAddress`] behind the end of a file.
    fn populate(&mut self, vma: &Vma, range: VirtRange, access: Access) -> Result<(), MmError>;

    /// Writes for each page of `range` into `resident` whether it is in memory (Linux: `do_mincore`).
    fn residency(&mut self, vma: &Vma, range: VirtRange, resident: &mut [u8]);
}

/// How pages are made present.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// For reading.
    Read,
    /// For writing: a private page is the area's own afterwards.
    Write,
}

/// Advice on pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageAdvice {
    /// Contents are not needed: anonymous pages read as zeros afterwards.
    DontNeed,
    /// Neither are the page tables that are empty then. No fault is under way in the area.
    DontNeedTables,
    /// Contents may be dropped until they are written again.
    Free,
    /// Not needed soon.
    Cold,
    /// To be written out now.
    PageOut,
    /// Needed soon.
    WillNeed,
    /// To be put into huge pages, by the rules of a release.
    Collapse(Release),
}

/// A mark of pages that may be taken back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageMark {
    /// That they were used, in their entries and descriptors (Linux: young, referenced).
    Referenced,
    /// That they were written to. Their entries are read-only then, and the next write is a fault that marks them again.
    SoftDirty,
}

/// What of a file decides how it can be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileFacts {
    /// What the descriptor allows and the file system provides.
    pub traits: FileTraits,
    /// Bytes that offsets reach (Linux: `file_mmap_size_max`).
    pub max_bytes: u64,
}

bitflags::bitflags! {
    /// Properties of an open file.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct FileTraits: u32 {
        /// Opened for reading.
        const READ = 1;
        /// Opened for writing.
        const WRITE = 2;
        /// Only to be appended to.
        const APPEND = 4;
        /// On a file system without execution.
        const NOEXEC = 8;
        /// Can be mapped at all.
        const MMAP = 16;
        /// Its file system aligns large mappings for huge pages.
        const HUGE_ALIGNED = 32;
        /// Sealed against writing (memfd).
        const SEALED_WRITE = 64;
        /// Supports MAP_SYNC.
        const MMAP_SYNC = 128;
        /// In the page cache of shmem: no advice reads it ahead from a disk.
        const SHMEM = 256;
        /// Made for a shared anonymous mapping: may have a name as an area (Linux: `vma_is_anon_shmem`).
        const ANONYMOUS = 512;
    }
}

impl FileTraits {
    /// Returns what is left of a file's properties behind a descriptor with the access of `opened`.
    pub(crate) fn opened_for(self, opened: Self) -> Self {
        let access = Self::READ | Self::WRITE;
        self & (opened | !access)
    }
}

/// The files behind areas, by number.
pub trait Pager {
    /// Returns what is known of a file.
    ///
    /// # Errors
    /// [`MmError::BadFile`] if there is none.
    fn facts(&self, file: FileId) -> Result<FileFacts, MmError>;

    /// Makes the file behind a shared anonymous mapping; one user is counted (Linux: `shmem_zero_setup`).
    ///
    /// # Errors
    /// [`MmError::NoMemory`].
    fn shared_anonymous(&mut self, bytes: u64, reserve: Reserve) -> Result<FileId, MmError>;

    /// Counts another area as a user of the file.
    fn open(&mut self, file: FileId);

    /// One area less uses the file.
    fn close(&mut self, file: FileId);

    /// Counts a new shared area through which the file may be written (Linux: `mapping_map_writable`).
    ///
    /// # Errors
    /// [`MmError::NotPermitted`] if the file was sealed against that meanwhile.
    fn map_writable(&mut self, file: FileId) -> Result<(), MmError> {
        let _ = file;
        Ok(())
    }

    /// Counts one that was made of another: by a fork, a split or a move.
    fn copy_writable(&mut self, file: FileId) {
        let _ = file;
    }

    /// One less of them is there.
    fn unmap_writable(&mut self, file: FileId) {
        let _ = file;
    }

    /// Counts an area that has got a name.
    fn name_get(&mut self, name: AreaName) {
        let _ = name;
    }

    /// Counts an area less that has the name.
    fn name_put(&mut self, name: AreaName) {
        let _ = name;
    }

    /// Writes dirty pages of the bytes from `offset` back.
    ///
    /// # Errors
    /// [`MmError::Io`].
    fn sync(&mut self, file: FileId, offset: u64, bytes: u64) -> Result<(), MmError>;

    /// Frees the bytes from `offset`, which read as zeros afterwards (Linux: `vfs_fallocate` with FALLOC_FL_PUNCH_HOLE).
    ///
    /// # Errors
    /// What the file says.
    fn punch_hole(&mut self, file: FileId, offset: u64, bytes: u64) -> Result<(), MmError>;
}

/// Whether a shared mapping's memory is counted as committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reserve {
    /// All of it at once.
    Whole,
    /// Page by page, when it is used (VM_NORESERVE).
    OnUse,
}
