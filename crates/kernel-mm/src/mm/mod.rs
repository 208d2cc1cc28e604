//! The address spaces of a machine, with everything that is below them: page tables, faults, files in memory.
//!
//! [`MemoryManager`] is what a kernel with processes holds, beside its tasks and open files: one value, reached by `&self` from every CPU.
//! Lock order: a mmap_lock (`rank::MMAP_LOCK`), then a file, then what allocates; a fault on an area that is there takes neither of the first two
//! unless it needs the file. Linux 6.12: kernel/fork.c (`mm_alloc`, `dup_mm`, `mmput`), mm/memory.c, mm/util.c.

mod area_names;
mod fault;
mod files;
mod held;
mod huge_files;
mod khugepaged;
mod lifetime;
mod migrate;
mod pin;
mod proc;
mod remote;
mod reverse;
mod user_access;

use address_space::{AddressSpaces, Call, CommitRules, Mm, MmError, MmRef, Process, Settings};
use object_allocator::ObjectAllocator;
use object_allocator::mmu::{Mmu, MmuReady, Rss};
use page_allocator::Hooks;
use page_cache::{FileCall, Files};
use page_fault::MmPages;
use page_tables::Tables;
use platform::Platform;
use sync::Cpu;
use units::PhysAddr;

use area_names::NameTable;
pub use files::MappedFiles;
pub use held::HeldPage;
pub use huge_files::HugeFile;
pub use khugepaged::KhugepagedScan;
pub use migrate::MigrateError;
pub use pin::{Dirtied, PinnedPage};
pub use proc::{AreaNames, CacheNames, FileLabel, FrameNumbers, ProcMm, ScanStop};
pub use remote::Reach;
pub use reverse::{References, UnmapError};
pub use user_access::BadUserAddress;

/// All address spaces and files in memory of a machine.
#[derive(Debug)]
pub struct MemoryManager<'k, P: Platform, H: Hooks + Sync> {
    objects: &'k ObjectAllocator<P, H>,
    mmu: MmuReady<'k, P, H>,
    spaces: AddressSpaces<'k, P, H>,
    files: Files<'k, P, H>,
    names: NameTable<'k, P, H>,
}

/// A call on an address space of a [`MemoryManager`].
pub type MmCall<'a, 'k, P, H> = Call<'a, 'k, P, H, MmPages<'a, P, H, MappedFiles<'a, 'k, P, H>>>;

impl<'k, P: Platform, H: Hooks + Sync> MemoryManager<'k, P, H> {
    /// Makes what address spaces and files share (Linux: the last part of start_kernel).
    ///
    /// # Errors
    /// [`MmError::NoMemory`]; [`MmError::NotSupported`] on a machine that translates nothing, or whose pages are not those of the call surface.
    pub fn new(
        objects: &'k ObjectAllocator<P, H>,
        cpu: &Cpu,
        settings: Settings,
        commit: CommitRules,
    ) -> Result<Self, MmError> {
        let files = Files::new(objects, cpu)?;
        let mmu = objects.start_mmu(cpu).map_err(|error| match error {
            object_allocator::ObjectError::OutOfMemory => MmError::NoMemory,
            _ => MmError::NotSupported,
        })?;
        let spaces = AddressSpaces::new(objects, cpu, settings, commit)?;
        Ok(Self { objects, mmu, spaces, files, names: NameTable::new(objects, cpu)? })
    }

    /// Returns what address spaces share.
    pub const fn spaces(&self) -> &AddressSpaces<'k, P, H> {
        &self.spaces
    }

    /// Returns the allocator below.
    pub const fn objects(&self) -> &'k ObjectAllocator<P, H> {
        self.objects
    }

    /// Works on files in memory, for `process`.
    pub const fn files<'a>(&'a self, cpu: &'a Cpu, process: &'a Process) -> FileCall<'a, 'k, P, H> {
        FileCall { files: &self.files, cpu, commit: self.spaces.overcommit(), process, total_vm: 0 }
    }

    /// Locks an address space for writing, for calls on its areas (Linux: `mmap_write_lock`). It is open again when the result is dropped.
    pub fn call<'a>(&'a self, cpu: &'a Cpu, mm: &'a Mm<'k>, process: &'a Process) -> MmCall<'a, 'k, P, H> {
        let guard = mm.write(cpu);
        let backing = self.backing(cpu, mm, process, guard.counters().total);
        Call { mm: guard, spaces: &self.spaces, cpu, process, backing }
    }

    /// Returns the pages of an address space as calls see them.
    fn backing<'a>(
        &'a self,
        cpu: &'a Cpu,
        mm: &'a Mm<'k>,
        process: &'a Process,
        total_vm: u64,
    ) -> MmPages<'a, P, H, MappedFiles<'a, 'k, P, H>> {
        let call = FileCall { total_vm, ..self.files(cpu, process) };
        let files = MappedFiles { call, spaces: &self.spaces, mmu: &self.mmu, names: &self.names };
        MmPages::new(self.tables(cpu, mm), files, self.spaces.huge_rules(mm))
    }

    /// Returns the page tables of an address space, as `cpu` works on them.
    pub fn tables<'a>(&'a self, cpu: &'a Cpu, mm: &'a Mm<'k>) -> Tables<'a, P, H> {
        Tables { mmu: self.mmu(cpu), tables: mm.tables() }
    }

    fn mmu<'a>(&'a self, cpu: &'a Cpu) -> Mmu<'a, P, H> {
        self.mmu.on(cpu)
    }

    /// Returns the resident pages of an address space by kind.
    pub fn rss(&self, mm: &Mm<'k>) -> Rss {
        mm.tables().rss()
    }

    /// Returns where the root table of an address space is (CR3); `None` after its end.
    pub fn root(&self, mm: &MmRef<'k>) -> Option<PhysAddr> {
        mm.tables().root()
    }
}
