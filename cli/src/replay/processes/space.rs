//! An address space of the replay: areas and pages, and the names that maps shows.

use std::collections::BTreeMap;

use address_space::{
    Call, Direction, MmError, MmRead, MmRef, MmapLayout, PAGE_SHIFT, PAGE_SIZE, Process, ProgramRanges, Vma,
};
use kernel_mm::MemoryManager;
use object_allocator::mmu::Rss;
use page_allocator::Hooks;
use page_fault::{AccessKind, FaultError, Faulted, MmPages};
use proc_files::maps::{MapsLine, Permissions};
use recordings::processes::ProcessState;
use sim::SimPlatform;
use sync::Cpu;
use units::{VirtAddr, VirtRange, VmFlags};

use super::catalogue::Catalogue;
use super::import::{self, Behind, VSYSCALL};
use super::opened::{FileTable, OpenFiles};

/// The machine that address spaces live on.
pub(super) struct Host<'a, 'k, H: Hooks + Sync> {
    pub(super) manager: &'a MemoryManager<'k, SimPlatform, H>,
    pub(super) cpu: &'a Cpu,
}

// Derived, these would ask the same of `H`.
impl<H: Hooks + Sync> Clone for Host<'_, '_, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H: Hooks + Sync> Copy for Host<'_, '_, H> {}

/// A call on an address space, with the files of the recording.
pub(super) type SpaceCall<'a, 'k, H> = Call<'a, 'k, SimPlatform, H, MmPages<'a, SimPlatform, H, OpenFiles<'a, 'k, H>>>;

/// An address space.
pub(super) struct Space<'k> {
    pub(super) mm: MmRef<'k>,
    /// Names of the kernel's areas that are no files, by address.
    names: BTreeMap<u64, String>,
    /// The line of maps that is no area.
    vsyscall: Option<MapsLine<String>>,
    /// Tasks that run in it.
    pub(super) users: u32,
}

/// Why an address space cannot be made.
#[derive(Debug)]
pub(super) enum ImportError {
    /// The recorded state lacks a count of this name.
    Missing(&'static str),
    /// The machine has no memory for an area.
    Memory(MmError),
}

impl From<MmError> for ImportError {
    fn from(error: MmError) -> Self {
        Self::Memory(error)
    }
}

impl<'k> Space<'k> {
    /// Makes the address space that an execve left; `argument_pages` of its stack hold what it copied there.
    pub(super) fn import<H: Hooks + Sync>(
        host: Host<'_, 'k, H>,
        process: &Process,
        state: &ProcessState,
        argument_pages: u64,
        places: (&mut FileTable, &Catalogue),
    ) -> Result<Self, ImportError> {
        let (files, catalogue) = places;
        let layout = MmapLayout::new(host.manager.spaces().settings(), Direction::TopDown, process.limits.stack);
        let program = import::program(&state.counts).map_err(ImportError::Missing)?;
        let mm = host.manager.mm_alloc(host.cpu, layout, program)?;
        let mut space = Self { mm, names: BTreeMap::new(), vsyscall: None, users: 1 };
        for line in state.maps.areas() {
            if line.name == VSYSCALL {
                space.vsyscall = Some(line.clone());
                continue;
            }
            let mut imported = space.import_area(host, process, line, (files, catalogue));
            if imported.is_ok_and(|flags| flags.contains(VmFlags::GROWSDOWN)) {
                imported = space.copy_arguments(host, process, line.range, argument_pages);
            }
            if let Err(error) = imported {
                space.end(host);
                return Err(error.into());
            }
        }
        Ok(space)
    }

    fn import_area<H: Hooks + Sync>(
        &mut self,
        host: Host<'_, 'k, H>,
        process: &Process,
        line: &MapsLine<String>,
        places: (&mut FileTable, &Catalogue),
    ) -> Result<VmFlags, MmError> {
        let (files, catalogue) = places;
        let (flags, behind) = import::area(line);
        let file = match behind {
            // Where a program or a library ends is not recorded at an exec; no area of it reaches beyond.
            Behind::File => Some(files.file(host, process, &line.name, None, catalogue)?),
            Behind::KernelPages => Some(files.private(host, process, &line.name, catalogue)?),
            Behind::KernelFrames => {
                self.names.insert(line.range.start.raw(), line.name.clone());
                None
            }
            Behind::Nothing => None,
        };
        let pgoff = if file.is_some() { line.offset } else { line.range.start.raw() } >> PAGE_SHIFT;
        let vma = Vma { range: line.range, flags, pgoff, file, anon: None, uffd: 0, name: None };
        self.call(host, process, files).insert_area(&vma)?;
        Ok(flags)
    }

    /// Makes the uppermost pages of a stack present, which execve wrote its arguments to (Linux: get_arg_page).
    fn copy_arguments<H: Hooks + Sync>(
        &self,
        host: Host<'_, 'k, H>,
        process: &Process,
        stack: VirtRange,
        nr_pages: u64,
    ) -> Result<VmFlags, MmError> {
        for number in 1..=nr_pages.min(stack.len() >> PAGE_SHIFT) {
            let addr = VirtAddr::new(stack.end.raw() - number * PAGE_SIZE);
            self.fault(host, process, addr, AccessKind::Write).map_err(|_| MmError::NoMemory)?;
        }
        Ok(VmFlags::empty())
    }

    /// Makes a call on the address space.
    pub(super) fn call<'a, H: Hooks + Sync>(
        &'a self,
        host: Host<'a, 'k, H>,
        process: &'a Process,
        table: &'a FileTable,
    ) -> SpaceCall<'a, 'k, H> {
        let mm = self.mm.write(host.cpu);
        let mut files = host.manager.files(host.cpu, process);
        files.total_vm = mm.counters().total;
        let spaces = host.manager.spaces();
        let tables = host.manager.tables(host.cpu, &self.mm);
        let backing = MmPages::new(tables, OpenFiles { files, table }, spaces.settings().huge);
        Call { mm, spaces, cpu: host.cpu, process, backing }
    }

    /// Handles a fault.
    pub(super) fn fault<H: Hooks + Sync>(
        &self,
        host: Host<'_, 'k, H>,
        process: &Process,
        addr: VirtAddr,
        access: AccessKind,
    ) -> Result<Faulted, FaultError> {
        host.manager.fault(host.cpu, &self.mm, process, addr, access)
    }

    /// Makes a child's copy.
    pub(super) fn fork<H: Hooks + Sync>(&self, host: Host<'_, 'k, H>, process: &Process) -> Result<Self, MmError> {
        let mm = host.manager.dup_mm(host.cpu, &self.mm, process)?;
        Ok(Self { mm, names: self.names.clone(), vsyscall: self.vsyscall.clone(), users: 1 })
    }

    /// Empties the address space.
    pub(super) fn end<H: Hooks + Sync>(self, host: Host<'_, 'k, H>) {
        host.manager.mmput(host.cpu, self.mm);
    }

    /// Returns the areas, where the heap begins and how large each kind of area is.
    pub(super) fn read<'a>(&'a self, cpu: &'a Cpu) -> MmRead<'a, 'k> {
        self.mm.read(cpu)
    }

    /// Returns the resident pages by kind.
    pub(super) fn rss(&self) -> Rss {
        self.mm.tables().rss()
    }

    /// Returns /proc/PID/maps.
    pub(super) fn maps(&self, cpu: &Cpu, files: &FileTable, catalogue: &Catalogue) -> Vec<MapsLine<String>> {
        let mm = self.mm.read(cpu);
        let lines = mm.areas().map(|vma| {
            let name = self.name(mm.program(), &vma, files);
            line(&vma, name, catalogue)
        });
        lines.chain(self.vsyscall.clone()).collect()
    }

    /// Returns what maps calls an area (Linux: `get_vma_name`).
    fn name<'a>(&'a self, program: &ProgramRanges, vma: &Vma, files: &'a FileTable) -> &'a str {
        match vma.file {
            Some(file) => files.name(file),
            None if vma.start() < program.brk && vma.end() > program.start_brk => "[heap]",
            None if vma.start() <= program.start_stack && vma.end() >= program.start_stack => "[stack]",
            None => self.names.get(&vma.start().raw()).map_or("", String::as_str),
        }
    }
}

/// Returns an area's line of maps.
fn line(vma: &Vma, name: &str, catalogue: &Catalogue) -> MapsLine<String> {
    let mut permissions = Permissions::empty();
    for (flag, permission) in [
        (VmFlags::READ, Permissions::READ),
        (VmFlags::WRITE, Permissions::WRITE),
        (VmFlags::EXEC, Permissions::EXEC),
        (VmFlags::MAYSHARE, Permissions::SHARED),
    ] {
        permissions.set(permission, vma.flags.contains(flag));
    }
    let identity = catalogue.identity(name);
    MapsLine {
        range: vma.range,
        permissions,
        offset: if vma.file.is_some() { vma.pgoff << PAGE_SHIFT } else { 0 },
        device: identity.device,
        inode: identity.inode,
        name: name.to_owned(),
    }
}
