//! [`Memory`] by the memory manager: what runs on every machine.

use core::fmt;

use address_space::{
    Access, Advice, AreaName, CommitRules, Direction, FileId, MmError, MmFlags, MmRef, MmapLayout, Process as Caller,
    ProgramRanges, Settings, Vma, Whose,
};
use kernel_mm::{
    AreaNames, FileLabel, FrameNumbers, HeldPage, HugeFile, Kernel, KhugepagedScan, MemoryManager, ProcMm, Reach,
    ScanStop, VmFile, VmSettings,
};
use page_allocator::Hooks;
use page_cache::{EndRule, FileKind, Seals};
use page_fault::{AccessKind, KhugepagedLimits};
use platform::Platform;
use proc_files::maps::Device;
use proc_files::page_scan::PageScan;
use proc_files::statm::Statm;
use proc_files::{Config, Profile, Release};
use sync::Cpu;
use units::{PhysAddr, VirtAddr, VirtRange, VmFlags};

use crate::memory::{Fault, Memory, SpaceCall};
use crate::signals::{SIGBUS, SIGSEGV};

/// Bytes of a page, as a shift.
const PAGE_SHIFT: u32 = 12;
const KIB_PER_PAGE: u64 = 4;
/// Device of the tree of files.
const ROOT_DEVICE: Device = Device { major: 0, minor: 1 };

/// The memory of programs on a machine.
#[derive(Debug)]
pub struct ManagedMemory<'k, P: Platform, H: Hooks + Sync> {
    kernel: &'k Kernel<P, H>,
    manager: MemoryManager<'k, P, H>,
}

impl<'k, P: Platform, H: Hooks + Sync> ManagedMemory<'k, P, H> {
    /// Makes what address spaces and files share, on a kernel whose objects were started.
    ///
    /// # Errors
    /// [`MmError::NoMemory`].
    pub fn new(cpu: &Cpu, kernel: &'k Kernel<P, H>) -> Result<Self, MmError> {
        let ram = kernel.pages().zones().iter().map(|zone| zone.managed()).sum();
        let manager = MemoryManager::new(kernel.objects(), cpu, Settings::X86_64, CommitRules::for_ram(ram))?;
        Ok(Self { kernel, manager })
    }

    /// Returns the memory manager.
    pub const fn manager(&self) -> &MemoryManager<'k, P, H> {
        &self.manager
    }

    const fn settings<'a>(&'a self, cpu: &'a Cpu) -> VmSettings<'a, 'k, P, H> {
        VmSettings { kernel: self.kernel, manager: &self.manager, cpu }
    }

    /// Returns the root table of an address space.
    pub fn root(&self, mm: &MmRef<'k>) -> Option<PhysAddr> {
        self.manager.root(mm)
    }

    /// Looks at an address space as its files of /proc do.
    fn proc<'a>(&'a self, names: &'a TreeNames<'a, 'k, P, H>, mm: &'a MmRef<'k>) -> ProcMm<'a, 'k, P, H> {
        let profile = Profile::new(Release::V6_12, Config::X86_64);
        ProcMm { manager: &self.manager, cpu: names.cpu, mm, names, profile }
    }
}

/// Names of areas: paths of files in the tree, which the page cache keeps for it. What is not in the tree has the page cache's own name.
struct TreeNames<'a, 'k, P: Platform, H: Hooks + Sync> {
    manager: &'a MemoryManager<'k, P, H>,
    cpu: &'a Cpu,
}

impl<P: Platform, H: Hooks + Sync> AreaNames for TreeNames<'_, '_, P, H> {
    fn with_file(&self, file: FileId, show: &mut dyn FnMut(&FileLabel<'_>) -> fmt::Result) -> Option<fmt::Result> {
        let name = self.manager.files(self.cpu, &Caller::default()).name(file).ok()??;
        let path = core::str::from_utf8(name.as_bytes()).ok().filter(|path| path.starts_with('/'))?;
        Some(show(&FileLabel { device: ROOT_DEVICE, inode: file.raw(), name: path }))
    }

    fn special(&self, _: &Vma) -> Option<&str> {
        None
    }

    fn with_anon_name(&self, _: AreaName, _: &mut dyn FnMut(&str) -> fmt::Result) -> Option<fmt::Result> {
        None
    }
}

impl<'k, P: Platform, H: Hooks + Sync> Memory for ManagedMemory<'k, P, H> {
    type Mm = MmRef<'k>;
    type Page = HeldPage;

    fn mm_alloc(
        &self,
        cpu: &Cpu,
        caller: &Caller,
        program: ProgramRanges,
        chosen: MmFlags,
    ) -> Result<Self::Mm, MmError> {
        let layout = MmapLayout::new(self.manager.spaces().settings(), Direction::TopDown, caller.limits.stack);
        let mm = self.manager.mm_alloc(cpu, layout, program)?;
        mm.inherit_flags(chosen);
        Ok(mm)
    }

    fn mm_flags(&self, mm: &Self::Mm) -> MmFlags {
        mm.flags()
    }

    fn dup_mm(&self, cpu: &Cpu, parent: &Self::Mm, caller: &Caller) -> Result<Self::Mm, MmError> {
        self.manager.dup_mm(cpu, parent, caller)
    }

    fn mmget(&self, mm: &Self::Mm) -> Self::Mm {
        mm.get()
    }

    fn mmput(&self, cpu: &Cpu, mm: Self::Mm) {
        self.manager.mmput(cpu, mm);
    }

    fn identity(&self, mm: &Self::Mm) -> u64 {
        self.manager.root(mm).map_or(0, PhysAddr::raw)
    }

    fn fault(
        &self,
        cpu: &Cpu,
        mm: &Self::Mm,
        caller: &Caller,
        (addr, access): (VirtAddr, Access),
        is_fetch: bool,
    ) -> Fault {
        let kind = match access {
            Access::Write => AccessKind::Write,
            Access::Read if is_fetch => AccessKind::Fetch,
            Access::Read => AccessKind::Read,
        };
        match self.manager.fault(cpu, mm, caller, addr, kind) {
            Ok(_) => Fault::Resolved,
            Err(error) => match error.signal() {
                None => Fault::OutOfMemory,
                Some(told) => {
                    let signo = if told.signal == page_fault::Signal::Bus { SIGBUS } else { SIGSEGV };
                    Fault::Signal { signo, code: told.code }
                }
            },
        }
    }

    fn call(&self, cpu: &Cpu, mm: &Self::Mm, caller: &Caller, call: &SpaceCall) -> Result<u64, MmError> {
        let mut space = self.manager.call(cpu, mm, caller);
        let done = match *call {
            SpaceCall::Mmap(request, opened) => return space.mmap_opened(&request, opened).map(VirtAddr::raw),
            SpaceCall::RemapFilePages { start, len, prot, pgoff, flags } => {
                space.remap_file_pages(start, len, prot, pgoff, flags)
            }
            SpaceCall::Brk(brk) => return Ok(space.brk(brk).raw()),
            SpaceCall::Mremap(request) => return space.mremap(&request).map(VirtAddr::raw),
            SpaceCall::Munmap { start, len } => space.munmap(start, len),
            SpaceCall::Mprotect { start, len, prot } => space.mprotect(start, len, prot),
            SpaceCall::Madvise { start, len, advice } => space.madvise(start, len, advice),
            SpaceCall::Msync { start, len, flags } => space.msync(start, len, flags),
            SpaceCall::Mlock { start, len, when } => space.mlock(start, len, when),
            SpaceCall::Munlock { start, len } => space.munlock(start, len),
            SpaceCall::Mlockall(flags) => space.mlockall(flags),
            SpaceCall::Mseal { start, len, flags } => space.mseal(start, len, flags),
            SpaceCall::SetMdwe(wanted) => mm.set_mdwe(wanted),
            SpaceCall::ForbidHugePages(is_forbidden) => {
                mm.forbid_huge_pages(is_forbidden);
                Ok(())
            }
            SpaceCall::ClearRefs(what) => {
                space.clear_refs(what);
                Ok(())
            }
            SpaceCall::Reap => space.reap(),
            SpaceCall::Munlockall => {
                space.munlockall();
                Ok(())
            }
        };
        done.map(|()| 0)
    }

    fn process_madvise(
        &self,
        cpu: &Cpu,
        (mm, caller): (&Self::Mm, &Caller),
        ranges: &mut dyn Iterator<Item = (VirtAddr, u64)>,
        (advice, whose): (Advice, Whose),
    ) -> Result<u64, MmError> {
        self.manager.call(cpu, mm, caller).process_madvise(ranges, advice, whose)
    }

    fn name_areas(
        &self,
        cpu: &Cpu,
        (mm, caller): (&Self::Mm, &Caller),
        range: (VirtAddr, u64),
        name: Option<&[u8]>,
    ) -> Result<(), MmError> {
        self.manager.name_areas(cpu, mm, caller, range, name)
    }

    fn mincore(
        &self,
        cpu: &Cpu,
        mm: &Self::Mm,
        caller: &Caller,
        start: VirtAddr,
        resident: &mut [u8],
    ) -> Result<(), MmError> {
        let len = (resident.len() as u64) << PAGE_SHIFT;
        self.manager.call(cpu, mm, caller).mincore(start, len, resident)
    }

    fn insert_area(&self, cpu: &Cpu, mm: &Self::Mm, caller: &Caller, vma: &Vma) -> Result<(), MmError> {
        self.manager.call(cpu, mm, caller).insert_area(vma)
    }

    fn read_user(
        &self,
        cpu: &Cpu,
        (mm, caller): (&Self::Mm, &Caller),
        addr: VirtAddr,
        to: &mut [u8],
    ) -> Result<(), MmError> {
        self.manager.read_user(cpu, mm, caller, addr, to).map_err(|_| MmError::BadAddress)
    }

    fn write_user(
        &self,
        cpu: &Cpu,
        (mm, caller): (&Self::Mm, &Caller),
        addr: VirtAddr,
        from: &[u8],
    ) -> Result<(), MmError> {
        self.manager.write_user(cpu, mm, caller, addr, from).map_err(|_| MmError::BadAddress)
    }

    fn read_remote(
        &self,
        cpu: &Cpu,
        of: (&Self::Mm, &Caller),
        addr: VirtAddr,
        to: &mut [u8],
        reach: Reach,
    ) -> Result<(), MmError> {
        self.manager.read_remote(cpu, (of.0, of.1), addr, to, reach).map_err(|_| MmError::BadAddress)
    }

    fn write_remote(
        &self,
        cpu: &Cpu,
        of: (&Self::Mm, &Caller),
        addr: VirtAddr,
        from: &[u8],
        reach: Reach,
    ) -> Result<(), MmError> {
        self.manager.write_remote(cpu, (of.0, of.1), addr, from, reach).map_err(|_| MmError::BadAddress)
    }

    fn hold_page(&self, cpu: &Cpu, (mm, caller): (&Self::Mm, &Caller), addr: VirtAddr) -> Result<HeldPage, MmError> {
        self.manager.hold_page(cpu, mm, caller, addr).map_err(|_| MmError::BadAddress)
    }

    fn read_page(&self, page: &HeldPage, offset: usize, to: &mut [u8]) {
        self.manager.read_held_page(page, offset, to);
    }

    fn put_page(&self, cpu: &Cpu, page: HeldPage) {
        self.manager.put_held_page(cpu, page);
    }

    fn peak_rss_kib(&self, mm: &Self::Mm) -> u64 {
        let rss = self.manager.rss(mm);
        KIB_PER_PAGE * (rss.file + rss.anon + rss.shmem)
    }

    fn ram_bytes(&self, _cpu: &Cpu) -> [u64; 2] {
        let zones = self.kernel.pages().zones();
        let managed: u64 = zones.iter().map(|zone| zone.managed()).sum();
        let free: u64 = zones.iter().map(|zone| zone.free_pages()).sum();
        [managed << PAGE_SHIFT, free << PAGE_SHIFT]
    }

    fn program(&self, cpu: &Cpu, mm: &Self::Mm) -> ProgramRanges {
        *mm.read(cpu).program()
    }

    fn shared_place(&self, cpu: &Cpu, mm: &Self::Mm, addr: VirtAddr) -> Option<(FileId, u64)> {
        let vma = mm.read(cpu).lookup(addr).filter(|vma| vma.flags.contains(VmFlags::MAYSHARE))?;
        Some((vma.file?, (vma.pgoff << PAGE_SHIFT) + addr.since(vma.start())))
    }

    fn barrier(&self, _cpu: &Cpu) {
        self.kernel.pages().platform().fence_other_cpus();
    }

    fn write_status(
        &self,
        cpu: &Cpu,
        mm: &Self::Mm,
        task: &proc_files::status::Task<'_>,
        out: &mut dyn fmt::Write,
    ) -> fmt::Result {
        self.proc(&TreeNames { manager: &self.manager, cpu }, mm).write_status(out, task)
    }

    fn write_process_file(&self, cpu: &Cpu, mm: &Self::Mm, file: &str, out: &mut dyn fmt::Write) -> fmt::Result {
        let names = TreeNames { manager: &self.manager, cpu };
        match file {
            "maps" => self.proc(&names, mm).write_maps(out),
            "smaps" => self.proc(&names, mm).write_smaps(out),
            "smaps_rollup" => self.proc(&names, mm).write_smaps_rollup(out),
            "numa_maps" => self.proc(&names, mm).write_numa_maps(out),
            _ => Err(fmt::Error),
        }
    }

    fn statm(&self, cpu: &Cpu, mm: &Self::Mm) -> Statm {
        self.proc(&TreeNames { manager: &self.manager, cpu }, mm).statm()
    }

    fn write_machine_file(&self, cpu: &Cpu, file: &str, out: &mut dyn fmt::Write) -> fmt::Result {
        let view = self.kernel.proc(cpu, Profile::new(Release::V6_12, Config::X86_64));
        match file {
            "meminfo" => view.write_meminfo(out),
            "buddyinfo" => view.write_buddyinfo(out),
            "pagetypeinfo" => view.write_pagetypeinfo(out),
            "vmstat" => view.write_vmstat(out),
            "zoneinfo" => view.write_zoneinfo(out),
            "slabinfo" => view.write_slabinfo(out),
            "vmallocinfo" => view.write_vmallocinfo(out),
            _ => Err(fmt::Error),
        }
    }

    fn khugepaged_scan(
        &self,
        cpu: &Cpu,
        mm: &Self::Mm,
        from: VirtAddr,
        blocks: u64,
        limits: KhugepagedLimits,
    ) -> KhugepagedScan {
        self.manager.khugepaged_scan(cpu, mm, from, blocks, limits)
    }

    fn write_huge_file(&self, file: HugeFile, out: &mut dyn fmt::Write) -> fmt::Result {
        self.manager.write_huge_file(file, out)
    }

    fn set_huge_file(&self, file: HugeFile, text: &[u8]) -> Result<(), MmError> {
        self.manager.set_huge_file(file, text)
    }

    fn write_vm_file(&self, cpu: &Cpu, file: VmFile, out: &mut dyn fmt::Write) -> fmt::Result {
        self.settings(cpu).write(file, out)
    }

    fn set_vm_file(&self, cpu: &Cpu, caller: &Caller, file: VmFile, text: &[u8]) -> Result<usize, MmError> {
        self.settings(cpu).set(file, text, caller.rights)
    }

    fn read_pagemap(&self, cpu: &Cpu, mm: &Self::Mm, offset: u64, to: &mut [u8]) -> Result<usize, MmError> {
        const ENTRY: u64 = 8;
        if !offset.is_multiple_of(ENTRY) || !to.len().is_multiple_of(ENTRY as usize) {
            return Err(MmError::Invalid);
        }
        let names = TreeNames { manager: &self.manager, cpu };
        let mut entries = [0; 64];
        let mut page = offset / ENTRY;
        for chunk in to.chunks_mut(entries.len() * ENTRY as usize) {
            self.proc(&names, mm).pagemap(VirtAddr::new(page << PAGE_SHIFT), &mut entries, FrameNumbers::Shown);
            for (place, entry) in chunk.chunks_exact_mut(ENTRY as usize).zip(&entries) {
                place.copy_from_slice(&entry.to_le_bytes());
            }
            page += entries.len() as u64;
        }
        Ok(to.len())
    }

    fn has_areas(&self, cpu: &Cpu, mm: &Self::Mm, range: VirtRange) -> bool {
        self.proc(&TreeNames { manager: &self.manager, cpu }, mm).has_areas(range)
    }

    fn scan_pages(&self, cpu: &Cpu, mm: &Self::Mm, range: VirtRange, scan: &mut PageScan<'_>) -> ScanStop {
        self.proc(&TreeNames { manager: &self.manager, cpu }, mm).scan_pages(range, scan)
    }

    fn file_create(&self, cpu: &Cpu, memfd: Option<(&[u8], Seals)>) -> Result<FileId, MmError> {
        let caller = Caller::default();
        let files = self.manager.files(cpu, &caller);
        match memfd {
            Some((name, seals)) => files.create_memfd(name, seals),
            None => files.create(FileKind::Regular, 0),
        }
    }

    fn file_seals(&self, cpu: &Cpu, file: FileId) -> Result<Seals, MmError> {
        self.manager.files(cpu, &Caller::default()).seals(file)
    }

    fn file_add_seals(&self, cpu: &Cpu, file: FileId, seals: Seals) -> Result<(), MmError> {
        self.manager.files(cpu, &Caller::default()).add_seals(file, seals)
    }

    fn file_allocate(
        &self,
        cpu: &Cpu,
        file: FileId,
        (offset, bytes): (u64, u64),
        end_rule: EndRule,
    ) -> Result<(), MmError> {
        self.manager.files(cpu, &Caller::default()).allocate(file, offset, bytes, end_rule)
    }

    fn file_punch_hole(&self, cpu: &Cpu, file: FileId, (offset, bytes): (u64, u64)) -> Result<(), MmError> {
        self.manager.mapped_files(cpu, &Caller::default()).punch_hole(file, offset, bytes)
    }

    fn file_set_name(&self, cpu: &Cpu, file: FileId, name: &[u8]) -> Result<(), MmError> {
        self.manager.files(cpu, &Caller::default()).set_name(file, name)
    }

    fn file_get(&self, cpu: &Cpu, file: FileId) {
        let counted = self.manager.files(cpu, &Caller::default()).get(file);
        debug_assert!(counted.is_ok(), "the caller has a user of the file");
    }

    fn file_put(&self, cpu: &Cpu, file: FileId) {
        let counted = self.manager.files(cpu, &Caller::default()).put(file);
        debug_assert!(counted.is_ok(), "the caller has a user of the file");
    }

    fn file_size(&self, cpu: &Cpu, file: FileId) -> u64 {
        self.manager.files(cpu, &Caller::default()).stat(file).map_or(0, |stat| stat.size)
    }

    fn file_is_mapped_writable(&self, cpu: &Cpu, file: FileId) -> bool {
        self.manager.files(cpu, &Caller::default()).stat(file).is_ok_and(|stat| stat.writable_mappings > 0)
    }

    fn file_truncate(&self, cpu: &Cpu, file: FileId, size: u64) -> Result<(), MmError> {
        self.manager.mapped_files(cpu, &Caller::default()).set_size(file, size)
    }

    fn file_read(&self, cpu: &Cpu, file: FileId, offset: u64, to: &mut [u8]) -> Result<usize, MmError> {
        self.manager.files(cpu, &Caller::default()).read(file, offset, to)
    }

    fn file_write(&self, cpu: &Cpu, file: FileId, offset: u64, from: &[u8]) -> Result<(), MmError> {
        let written = self.manager.files(cpu, &Caller::default()).write(file, offset, from)?;
        if written == from.len() { Ok(()) } else { Err(MmError::NoMemory) }
    }
}
