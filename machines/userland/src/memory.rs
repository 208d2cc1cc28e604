//! What programs need of the memory manager: address spaces, accesses to them by address, and the contents of files.

use core::fmt;

use address_space::{
    Access, Advice, ClearRefs, FileId, FileTraits, LockAllFlags, LockWhen, MapFlags, MapRequest, MmError, MmFlags,
    Process as Caller, ProgramRanges, Prot, RemapRequest, SyncFlags, Vma, Whose,
};
use kernel_mm::{HugeFile, KhugepagedScan, Reach, ScanStop, VmFile};
use page_cache::{EndRule, Seals};
use page_fault::KhugepagedLimits;
use proc_files::page_scan::PageScan;
use proc_files::statm::Statm;
use sync::Cpu;
use units::{VirtAddr, VirtRange};

/// How a fault ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The access can be made again.
    Resolved,
    /// The program gets a signal.
    Signal {
        /// SIGSEGV or SIGBUS.
        signo: u8,
        /// Why (si_code).
        code: i32,
    },
    /// There is no memory.
    OutOfMemory,
}

/// A call on an address space, with its arguments as checked values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are those of the calls and of their arguments")]
pub enum SpaceCall {
    /// With what the descriptor allows.
    Mmap(MapRequest, FileTraits),
    Munmap {
        start: VirtAddr,
        len: u64,
    },
    Brk(VirtAddr),
    Mprotect {
        start: VirtAddr,
        len: u64,
        prot: Prot,
    },
    Mremap(RemapRequest),
    Madvise {
        start: VirtAddr,
        len: u64,
        advice: Advice,
    },
    Msync {
        start: VirtAddr,
        len: u64,
        flags: SyncFlags,
    },
    Mlock {
        start: VirtAddr,
        len: u64,
        when: LockWhen,
    },
    Munlock {
        start: VirtAddr,
        len: u64,
    },
    Mlockall(LockAllFlags),
    Munlockall,
    Mseal {
        start: VirtAddr,
        len: u64,
        flags: u64,
    },
    RemapFilePages {
        start: VirtAddr,
        len: u64,
        prot: Prot,
        pgoff: u64,
        flags: MapFlags,
    },
    /// What process_mrelease takes.
    Reap,
    /// A write to /proc/PID/clear_refs.
    ClearRefs(ClearRefs),
    /// PR_SET_MDWE.
    SetMdwe(MmFlags),
    /// PR_SET_THP_DISABLE.
    ForbidHugePages(bool),
}

/// The memory of programs.
pub trait Memory {
    /// A counted reference to an address space.
    type Mm: Send;

    /// A page of a program's that is held.
    type Page: Send;

    /// Makes an address space without areas, with one user, for a process that has chosen `chosen` for the one before.
    ///
    /// # Errors
    /// [`MmError::NoMemory`].
    fn mm_alloc(
        &self,
        cpu: &Cpu,
        caller: &Caller,
        program: ProgramRanges,
        chosen: MmFlags,
    ) -> Result<Self::Mm, MmError>;

    /// Returns what a process has chosen for an address space.
    fn mm_flags(&self, mm: &Self::Mm) -> MmFlags;

    /// Copies an address space for a child.
    ///
    /// # Errors
    /// [`MmError::NoMemory`].
    fn dup_mm(&self, cpu: &Cpu, parent: &Self::Mm, caller: &Caller) -> Result<Self::Mm, MmError>;

    /// Counts one more user.
    fn mmget(&self, mm: &Self::Mm) -> Self::Mm;

    /// Counts one user less; the last takes everything out.
    fn mmput(&self, cpu: &Cpu, mm: Self::Mm);

    /// Returns a number that no other address space has meanwhile.
    fn identity(&self, mm: &Self::Mm) -> u64;

    /// Brings a page in for a program that reached for it.
    fn fault(&self, cpu: &Cpu, mm: &Self::Mm, caller: &Caller, at: (VirtAddr, Access), is_fetch: bool) -> Fault;

    /// Makes a call on an address space; returns its result.
    ///
    /// # Errors
    /// What the call's manual page says.
    fn call(&self, cpu: &Cpu, mm: &Self::Mm, caller: &Caller, call: &SpaceCall) -> Result<u64, MmError>;

    /// Gives advice on ranges of an address space, which need not be the caller's; returns how many bytes of them it was taken on.
    ///
    /// # Errors
    /// What process_madvise(2) says of advice, of rights, and of the first range.
    fn process_madvise(
        &self,
        cpu: &Cpu,
        of: (&Self::Mm, &Caller),
        ranges: &mut dyn Iterator<Item = (VirtAddr, u64)>,
        advice: (Advice, Whose),
    ) -> Result<u64, MmError>;

    /// Names the anonymous areas of a range, or takes their names.
    ///
    /// # Errors
    /// What PR_SET_VMA says.
    fn name_areas(
        &self,
        cpu: &Cpu,
        of: (&Self::Mm, &Caller),
        range: (VirtAddr, u64),
        name: Option<&[u8]>,
    ) -> Result<(), MmError>;

    /// Tells for each page from `start` whether it is in memory (mincore).
    ///
    /// # Errors
    /// What mincore(2) says.
    fn mincore(
        &self,
        cpu: &Cpu,
        mm: &Self::Mm,
        caller: &Caller,
        start: VirtAddr,
        resident: &mut [u8],
    ) -> Result<(), MmError>;

    /// Enters an area as it is.
    ///
    /// # Errors
    /// [`MmError::NoMemory`].
    fn insert_area(&self, cpu: &Cpu, mm: &Self::Mm, caller: &Caller, vma: &Vma) -> Result<(), MmError>;

    /// Reads as the program would.
    ///
    /// # Errors
    /// [`MmError::BadAddress`]; then some of the buffer may have been filled.
    fn read_user(&self, cpu: &Cpu, of: (&Self::Mm, &Caller), addr: VirtAddr, to: &mut [u8]) -> Result<(), MmError>;

    /// Writes as the program would.
    ///
    /// # Errors
    /// [`MmError::BadAddress`]; then some of the bytes may have been written.
    fn write_user(&self, cpu: &Cpu, of: (&Self::Mm, &Caller), addr: VirtAddr, from: &[u8]) -> Result<(), MmError>;

    /// Reads another process.
    ///
    /// # Errors
    /// [`MmError::BadAddress`]; then some of the buffer may have been filled.
    fn read_remote(
        &self,
        cpu: &Cpu,
        of: (&Self::Mm, &Caller),
        addr: VirtAddr,
        to: &mut [u8],
        reach: Reach,
    ) -> Result<(), MmError>;

    /// Writes to another process.
    ///
    /// # Errors
    /// [`MmError::BadAddress`]; then some of the bytes may have been written.
    fn write_remote(
        &self,
        cpu: &Cpu,
        of: (&Self::Mm, &Caller),
        addr: VirtAddr,
        from: &[u8],
        reach: Reach,
    ) -> Result<(), MmError>;

    /// Takes hold of the page at an address, to read it later.
    ///
    /// # Errors
    /// [`MmError::BadAddress`].
    fn hold_page(&self, cpu: &Cpu, of: (&Self::Mm, &Caller), addr: VirtAddr) -> Result<Self::Page, MmError>;

    /// Copies what is at `offset` of a held page on, up to its end.
    fn read_page(&self, page: &Self::Page, offset: usize, to: &mut [u8]);

    /// Gives a held page back.
    fn put_page(&self, cpu: &Cpu, page: Self::Page);

    /// Returns the most KiB that an address space has had in memory.
    fn peak_rss_kib(&self, mm: &Self::Mm) -> u64;

    /// Returns the bytes of memory that the machine has and those that are free.
    fn ram_bytes(&self, cpu: &Cpu) -> [u64; 2];

    /// Returns what exec and brk set.
    fn program(&self, cpu: &Cpu, mm: &Self::Mm) -> ProgramRanges;

    /// Returns the file and the offset in it of an address in a shared mapping; `None` elsewhere, where nobody else sees what is written.
    fn shared_place(&self, cpu: &Cpu, mm: &Self::Mm, addr: VirtAddr) -> Option<(FileId, u64)>;

    /// Makes every CPU that runs a program pass a barrier.
    fn barrier(&self, cpu: &Cpu);

    /// Writes /proc/PID/status of a task with the figures of its memory.
    ///
    /// # Errors
    /// What `out` returns.
    fn write_status(
        &self,
        cpu: &Cpu,
        mm: &Self::Mm,
        task: &proc_files::status::Task<'_>,
        out: &mut dyn fmt::Write,
    ) -> fmt::Result;

    /// Writes /proc/PID/maps, smaps, smaps_rollup or numa_maps.
    ///
    /// # Errors
    /// What `out` returns.
    fn write_process_file(&self, cpu: &Cpu, mm: &Self::Mm, file: &str, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Returns /proc/PID/statm.
    fn statm(&self, cpu: &Cpu, mm: &Self::Mm) -> Statm;

    /// Writes a file of /proc about the machine's memory.
    ///
    /// # Errors
    /// What `out` returns.
    fn write_machine_file(&self, cpu: &Cpu, file: &str, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Looks at up to `blocks` places for large pages from `from` on, and puts small pages into large ones where `limits` permit it.
    fn khugepaged_scan(
        &self,
        cpu: &Cpu,
        mm: &Self::Mm,
        from: VirtAddr,
        blocks: u64,
        limits: KhugepagedLimits,
    ) -> KhugepagedScan;

    /// Writes the text of a file about huge pages.
    ///
    /// # Errors
    /// What `out` returns.
    fn write_huge_file(&self, file: HugeFile, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Takes what was written to a file about huge pages.
    ///
    /// # Errors
    /// [`MmError::Invalid`], [`MmError::NotSupported`], [`MmError::Io`] for one that is only read.
    fn set_huge_file(&self, file: HugeFile, text: &[u8]) -> Result<(), MmError>;

    /// Writes the text of a file of /proc/sys/vm.
    ///
    /// # Errors
    /// What `out` returns.
    fn write_vm_file(&self, cpu: &Cpu, file: VmFile, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Takes what was written to a file of /proc/sys/vm; returns how many bytes of it were taken.
    ///
    /// # Errors
    /// [`MmError::Invalid`], [`MmError::NotPermitted`].
    fn set_vm_file(&self, cpu: &Cpu, caller: &Caller, file: VmFile, text: &[u8]) -> Result<usize, MmError>;

    /// Reads /proc/PID/pagemap.
    ///
    /// # Errors
    /// [`MmError::Invalid`] between entries.
    fn read_pagemap(&self, cpu: &Cpu, mm: &Self::Mm, offset: u64, to: &mut [u8]) -> Result<usize, MmError>;

    /// Returns true if an area lies in the range.
    fn has_areas(&self, cpu: &Cpu, mm: &Self::Mm, range: VirtRange) -> bool;

    /// Tells a scan of the pages of a range, up to its end or for a while.
    fn scan_pages(&self, cpu: &Cpu, mm: &Self::Mm, range: VirtRange, scan: &mut PageScan<'_>) -> ScanStop;

    /// Makes an empty file with one user; a memfd with its seals if it has a name.
    ///
    /// # Errors
    /// [`MmError::NoMemory`].
    fn file_create(&self, cpu: &Cpu, memfd: Option<(&[u8], Seals)>) -> Result<FileId, MmError>;

    /// Returns the seals of a memfd.
    ///
    /// # Errors
    /// [`MmError::Invalid`] for another file.
    fn file_seals(&self, cpu: &Cpu, file: FileId) -> Result<Seals, MmError>;

    /// Adds seals to a memfd.
    ///
    /// # Errors
    /// [`MmError::Invalid`] for another file, [`MmError::NotPermitted`], [`MmError::Busy`].
    fn file_add_seals(&self, cpu: &Cpu, file: FileId, seals: Seals) -> Result<(), MmError>;

    /// Puts pages into a part of a file, from an offset on so many bytes.
    ///
    /// # Errors
    /// [`MmError::NotSupported`] for files that have no such thing, [`MmError::NoMemory`], [`MmError::NotPermitted`].
    fn file_allocate(&self, cpu: &Cpu, file: FileId, part: (u64, u64), end_rule: EndRule) -> Result<(), MmError>;

    /// Takes the pages out of a part of a file, from an offset on so many bytes.
    ///
    /// # Errors
    /// As [`Memory::file_allocate`].
    fn file_punch_hole(&self, cpu: &Cpu, file: FileId, part: (u64, u64)) -> Result<(), MmError>;

    /// Says what /proc/PID/maps calls a file.
    ///
    /// # Errors
    /// [`MmError::NoMemory`], [`MmError::Invalid`] for a long name; then it is called as before.
    fn file_set_name(&self, cpu: &Cpu, file: FileId, name: &[u8]) -> Result<(), MmError>;

    /// Counts one more user of a file.
    fn file_get(&self, cpu: &Cpu, file: FileId);

    /// Counts one user less; with the last the file goes.
    fn file_put(&self, cpu: &Cpu, file: FileId);

    /// Returns the size in bytes.
    fn file_size(&self, cpu: &Cpu, file: FileId) -> u64;

    /// Returns true if a shared mapping may write to it.
    fn file_is_mapped_writable(&self, cpu: &Cpu, file: FileId) -> bool;

    /// Sets the size.
    ///
    /// # Errors
    /// [`MmError::NoMemory`].
    fn file_truncate(&self, cpu: &Cpu, file: FileId, size: u64) -> Result<(), MmError>;

    /// Reads up to the end of the file; returns how much.
    ///
    /// # Errors
    /// [`MmError::NoMemory`].
    fn file_read(&self, cpu: &Cpu, file: FileId, offset: u64, to: &mut [u8]) -> Result<usize, MmError>;

    /// Writes all bytes, growing the file.
    ///
    /// # Errors
    /// [`MmError::NoMemory`].
    fn file_write(&self, cpu: &Cpu, file: FileId, offset: u64, from: &[u8]) -> Result<(), MmError>;
}
