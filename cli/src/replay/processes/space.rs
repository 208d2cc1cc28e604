//! An address space of the replay: areas, what is below them, and the names that maps shows.

use std::collections::BTreeMap;

use address_space::{
    Access, AddressSpaces, Call, Direction, FileId, FileTraits, MmError, MmRead, MmRef, MmapLayout, PAGE_SHIFT,
    Process, ProgramRanges, Vma,
};
use page_allocator::Hooks;
use proc_files::maps::{MapsLine, Permissions};
use recordings::processes::{FaultError, MappedFile, ProcessState};
use sim::SimPlatform;
use sync::Cpu;
use units::{VirtAddr, VirtRange, VmFlags};

use super::catalogue::Catalogue;
use super::import::{self, Behind, VSYSCALL};
use crate::backing::Backing;

/// The machine that address spaces live on.
pub(super) struct Host<'a, 'k, H: Hooks> {
    pub(super) spaces: &'a AddressSpaces<'k, SimPlatform, H>,
    pub(super) cpu: &'a Cpu,
}

// Derived, these would ask the same of `H`.
impl<H: Hooks> Clone for Host<'_, '_, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H: Hooks> Copy for Host<'_, '_, H> {}

/// An address space.
pub(super) struct Space<'k> {
    mm: MmRef<'k>,
    backing: Backing,
    /// Files by path, with those that the kernel provides by name.
    files: BTreeMap<Box<str>, FileId>,
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
    /// Makes the address space that an execve left.
    pub(super) fn import<H: Hooks>(
        host: Host<'_, 'k, H>,
        process: &Process,
        state: &ProcessState,
        catalogue: &Catalogue,
    ) -> Result<Self, ImportError> {
        let layout = MmapLayout::new(host.spaces.settings(), Direction::TopDown, process.limits.stack);
        let program = import::program(&state.counts).map_err(ImportError::Missing)?;
        let mut space = Self {
            mm: host.spaces.mm_alloc(host.cpu, layout, program)?,
            backing: Backing::default(),
            files: BTreeMap::new(),
            vsyscall: None,
            users: 1,
        };
        for line in state.maps.areas() {
            if line.name == VSYSCALL {
                space.vsyscall = Some(line.clone());
                continue;
            }
            let imported = space.import_area(host, process, line, catalogue);
            if let Err(error) = imported {
                space.end(host);
                return Err(error.into());
            }
        }
        Ok(space)
    }

    fn import_area<H: Hooks>(
        &mut self,
        host: Host<'_, 'k, H>,
        process: &Process,
        line: &MapsLine<String>,
        catalogue: &Catalogue,
    ) -> Result<(), MmError> {
        let (flags, behind) = import::area(line);
        let file = match behind {
            // Where a program or a library ends is not recorded at an exec; no area of it reaches beyond.
            Behind::Named => Some(self.file(&line.name, u64::MAX, catalogue)?),
            Behind::Nothing => None,
        };
        let pgoff = if file.is_some() { line.offset } else { line.range.start.raw() } >> PAGE_SHIFT;
        let vma = Vma { range: line.range, flags, pgoff, file, anon: None, uffd: 0, name: None };
        let mut call = self.call(host, process);
        call.insert_area(&vma)?;
        if flags.contains(VmFlags::GROWSDOWN) {
            // The arguments were written to it.
            call.anon_vma_prepare(&vma)?;
        }
        Ok(())
    }

    /// Returns the file at a path, which is entered if it is new here.
    fn file(&mut self, path: &str, bytes: u64, catalogue: &Catalogue) -> Result<FileId, MmError> {
        if let Some(file) = self.files.get(path) {
            return Ok(*file);
        }
        let mut traits = FileTraits::READ | FileTraits::MMAP;
        // File systems on block devices align large mappings for huge pages; devices without a number of their own (shmem, overlays) do not.
        traits.set(FileTraits::HUGE_ALIGNED, catalogue.identity(path).device.major != 0);
        let file = self.backing.add_file(path, bytes.div_ceil(1 << PAGE_SHIFT), traits).ok_or(MmError::NoMemory)?;
        self.files.insert(path.into(), file);
        Ok(file)
    }

    /// Returns the file that an mmap mapped, opened with at least `traits`.
    pub(super) fn mapped_file(
        &mut self,
        file: &MappedFile,
        traits: FileTraits,
        catalogue: &Catalogue,
    ) -> Result<FileId, MmError> {
        let id = self.file(&file.path, file.size, catalogue)?;
        self.backing.set_open(id, traits);
        Ok(id)
    }

    /// Makes a call on the address space.
    pub(super) fn call<'a, H: Hooks>(
        &'a mut self,
        host: Host<'a, 'k, H>,
        process: &'a Process,
    ) -> Call<'a, 'k, SimPlatform, H, &'a mut Backing> {
        Call { mm: self.mm.write(host.cpu), spaces: host.spaces, cpu: host.cpu, process, backing: &mut self.backing }
    }

    /// Does to the areas what a fault does.
    pub(super) fn fault<H: Hooks>(
        &mut self,
        host: Host<'_, 'k, H>,
        process: &Process,
        addr: VirtAddr,
        error: FaultError,
    ) -> Result<(), MmError> {
        let access = if error.is_write() { Access::Write } else { Access::Read };
        let vma = self.call(host, process).area_for_access(addr, access)?;
        if error.is_fetch() && !vma.flags.contains(VmFlags::EXEC) {
            return Err(MmError::AccessDenied);
        }
        Ok(())
    }

    /// Makes a child's copy.
    pub(super) fn fork<H: Hooks>(&self, host: Host<'_, 'k, H>, process: &Process) -> Result<Self, MmError> {
        let parent = self.mm.write(host.cpu);
        let mut child = Self {
            mm: host.spaces.mm_alloc(host.cpu, *parent.layout(), *parent.program())?,
            backing: self.backing.fork(),
            files: self.files.clone(),
            vsyscall: self.vsyscall.clone(),
            users: 1,
        };
        let (mm, backing) = (child.mm.write_nested(host.cpu), &mut child.backing);
        let duplicated = Call { mm, spaces: host.spaces, cpu: host.cpu, process, backing }.duplicate_areas(&parent);
        drop(parent);
        if let Err(error) = duplicated {
            child.end(host);
            return Err(error);
        }
        Ok(child)
    }

    /// Empties the address space.
    pub(super) fn end<H: Hooks>(mut self, host: Host<'_, 'k, H>) {
        let backing = &mut self.backing;
        host.spaces.mmput(host.cpu, self.mm, |_| backing, |_| ());
    }

    /// Returns the areas, where the heap begins and how large each kind of area is.
    pub(super) fn read<'a>(&'a self, cpu: &'a Cpu) -> MmRead<'a, 'k> {
        self.mm.read(cpu)
    }

    /// Returns /proc/PID/maps.
    pub(super) fn maps(&self, cpu: &Cpu, catalogue: &Catalogue) -> Vec<MapsLine<String>> {
        let mm = self.mm.read(cpu);
        let lines = mm.areas().map(|vma| self.line(mm.program(), &vma, catalogue));
        lines.chain(self.vsyscall.clone()).collect()
    }

    fn line(&self, program: &ProgramRanges, vma: &Vma, catalogue: &Catalogue) -> MapsLine<String> {
        let mut permissions = Permissions::empty();
        for (flag, permission) in [
            (VmFlags::READ, Permissions::READ),
            (VmFlags::WRITE, Permissions::WRITE),
            (VmFlags::EXEC, Permissions::EXEC),
            (VmFlags::MAYSHARE, Permissions::SHARED),
        ] {
            permissions.set(permission, vma.flags.contains(flag));
        }
        let name = self.name(program, vma);
        let identity = catalogue.identity(name);
        MapsLine {
            range: VirtRange::new(vma.start(), vma.end()),
            permissions,
            offset: if vma.file.is_some() { vma.pgoff << PAGE_SHIFT } else { 0 },
            device: identity.device,
            inode: identity.inode,
            name: name.to_owned(),
        }
    }

    /// Returns what maps calls an area (Linux: `get_vma_name`).
    fn name(&self, program: &ProgramRanges, vma: &Vma) -> &str {
        match vma.file {
            Some(file) => self.backing.name(file),
            None if vma.start() < program.brk && vma.end() > program.start_brk => "[heap]",
            None if vma.start() <= program.start_stack && vma.end() >= program.start_stack => "[stack]",
            None => "",
        }
    }
}
