//! An address space of the replay: areas and pages, and the names that maps shows.

use std::collections::BTreeMap;
use std::fmt;

use address_space::{
    AreaName, Direction, FileId, MmError, MmRead, MmRef, MmapLayout, PAGE_SHIFT, PAGE_SIZE, Process, Vma,
};
use kernel_mm::{AreaNames, FileLabel, MemoryManager, MmCall, ProcMm};
use object_allocator::mmu::Rss;
use page_allocator::Hooks;
use page_fault::{AccessKind, FaultAction, FaultError};
use proc_files::maps::MapsLine;
use proc_files::{Config, Profile, Release};
use recordings::processes::ProcessState;
use sim::SimPlatform;
use sync::Cpu;
use units::{VirtAddr, VirtRange, VmFlags};

use super::catalogue::Catalogue;
use super::import::{self, Behind, VSYSCALL};
use super::opened::FileTable;

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
        self.call(host, process).insert_area(&vma)?;
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
    ) -> MmCall<'a, 'k, SimPlatform, H> {
        host.manager.call(host.cpu, &self.mm, process)
    }

    /// Handles a fault.
    pub(super) fn fault<H: Hooks + Sync>(
        &self,
        host: Host<'_, 'k, H>,
        process: &Process,
        addr: VirtAddr,
        access: AccessKind,
    ) -> Result<FaultAction, FaultError> {
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
    pub(super) fn maps<H: Hooks + Sync>(&self, host: Host<'_, 'k, H>, places: (&FileTable, &Catalogue)) -> String {
        let mut text = self.text(host, places, |proc, text| proc.write_maps(text));
        if let Some(line) = &self.vsyscall {
            text += &format!("{line}\n");
        }
        text
    }

    /// Returns /proc/PID/smaps, as the recorded kernel writes it. How many map a page counts the recorded processes only; others that ran shared the C library
    /// with them.
    pub(super) fn smaps<H: Hooks + Sync>(&self, host: Host<'_, 'k, H>, places: (&FileTable, &Catalogue)) -> String {
        self.text(host, places, |proc, text| proc.write_smaps(text))
    }

    fn text<H: Hooks + Sync>(
        &self,
        host: Host<'_, 'k, H>,
        (files, catalogue): (&FileTable, &Catalogue),
        write: impl FnOnce(&ProcMm<'_, 'k, SimPlatform, H>, &mut String) -> fmt::Result,
    ) -> String {
        let names = &Names { special: &self.names, files, catalogue };
        let profile = Profile::new(Release::V6_18, Config::default());
        let mut text = String::new();
        // A String takes everything.
        let _ = write(&ProcMm { manager: host.manager, cpu: host.cpu, mm: &self.mm, names, profile }, &mut text);
        text
    }
}

/// What the recording calls areas.
struct Names<'a> {
    special: &'a BTreeMap<u64, String>,
    files: &'a FileTable,
    catalogue: &'a Catalogue,
}

impl AreaNames for Names<'_> {
    fn with_file(&self, file: FileId, show: &mut dyn FnMut(&FileLabel<'_>) -> fmt::Result) -> Option<fmt::Result> {
        let name = self.files.name(file);
        let identity = self.catalogue.identity(name);
        Some(show(&FileLabel { device: identity.device, inode: identity.inode, name }))
    }

    fn special(&self, vma: &Vma) -> Option<&str> {
        self.special.get(&vma.start().raw()).map(String::as_str)
    }

    fn with_anon_name(&self, _: AreaName, _: &mut dyn FnMut(&str) -> fmt::Result) -> Option<fmt::Result> {
        None
    }
}
