//! Our side: operations as calls on an address space of a simulated machine.

use std::collections::BTreeMap;

use address_space::{
    Access, AddressSpaces, AnonVma, AnonVmaId, Call, Direction, FileId, LockWhen, MapRequest, MmError, MmRef,
    MmapLayout, PAGE_SHIFT, Process, ProgramRanges, RemapRequest, Vma,
};
use page_allocator::Hooks;
use sim::SimPlatform;
use sync::Cpu;
use units::{VirtAddr, VirtRange, VmFlags};

use super::maps::{MapLine, Smap};
use super::operation::{FILE_PAGES, FILES, Operation, Slots};
use crate::backing::Backing;
use crate::failure::Failure;

/// An address space with what is below it.
pub(super) struct Ours<'a, 'k, H: Hooks> {
    spaces: &'a AddressSpaces<'k, SimPlatform, H>,
    cpu: &'a Cpu,
    process: Process,
    mm: MmRef<'k>,
    backing: Backing,
    /// Names of areas that were there from the start and are no files that calls map.
    names: BTreeMap<u64, String>,
    files: Vec<FileId>,
}

impl<'a, 'k, H: Hooks> Ours<'a, 'k, H> {
    /// Makes an address space like that of the process: `areas` as smaps tells of them, `program` where heap and stack began.
    pub(super) fn like(
        spaces: &'a AddressSpaces<'k, SimPlatform, H>,
        cpu: &'a Cpu,
        process: Process,
        areas: &[Smap],
        program: (u64, u64),
    ) -> Result<Self, Failure> {
        let layout = MmapLayout::new(spaces.settings(), Direction::TopDown, process.limits.stack);
        let start_brk = VirtAddr::new(program.0);
        let start_stack = VirtAddr::new(program.1);
        let program = ProgramRanges { start_brk, brk: start_brk, start_stack, ..ProgramRanges::default() };
        let mut backing = Backing::default();
        let files = (0..FILES)
            .filter_map(|file| backing.add_file(&format!("file {file}"), FILE_PAGES, Backing::MEMORY_FILE))
            .collect();
        let mm = spaces.mm_alloc(cpu, layout, program).map_err(|error| Failure::Machine(error.to_string()))?;
        let mut ours = Self { spaces, cpu, process, mm, backing, names: BTreeMap::new(), files };
        for (number, area) in areas.iter().enumerate() {
            ours.import(area, number as u64)?;
        }
        Ok(ours)
    }

    fn import(&mut self, area: &Smap, number: u64) -> Result<(), Failure> {
        let line = &area.line;
        let range = VirtRange::new(VirtAddr::new(line.start), VirtAddr::new(line.end));
        let is_special = line.what.starts_with('[');
        let file = if is_special {
            None
        } else {
            self.backing.add_file(&line.what, u64::MAX >> PAGE_SHIFT, Backing::MEMORY_FILE)
        };
        let links = 1;
        // Identities of the process's own areas are far from those that are given out.
        let anon =
            AnonVmaId::new(u64::MAX - number).filter(|_| area.has_anon).map(|id| AnonVma { id, root: id, links });
        let pgoff = if is_special { line.start } else { line.offset } >> PAGE_SHIFT;
        let vma = Vma { range, flags: area.flags, pgoff, file, anon, uffd: 0, name: None };
        if is_special {
            self.names.insert(line.start, line.what.clone());
        }
        self.call().insert_area(&vma).map_err(|error| Failure::Machine(format!("the area {line}: {error}")))
    }

    fn call(&mut self) -> Call<'_, 'k, SimPlatform, H, &mut Backing> {
        Call {
            mm: self.mm.write(self.cpu),
            spaces: self.spaces,
            cpu: self.cpu,
            process: &self.process,
            backing: &mut self.backing,
        }
    }

    /// Makes the call; `None` if it is on a slot that holds nothing.
    pub(super) fn make(&mut self, operation: &Operation, slots: &Slots) -> Option<i64> {
        Some(match self.result(operation, slots)? {
            Ok(value) => value as i64,
            Err(error) => -i64::from(kernel_mm::errno(error)),
        })
    }

    fn result(&mut self, operation: &Operation, slots: &Slots) -> Option<Result<u64, MmError>> {
        let at = |place, len| slots.resolve(place, len).map(VirtAddr::new);
        match *operation {
            Operation::Write { at: place, byte } => return Some(self.write(at(place, 1)?, byte).map(|()| 1)),
            Operation::Read { at: place } => return Some(self.read(at(place, 1)?).map(u64::from)),
            _ => {}
        }
        let mut call = Call {
            mm: self.mm.write(self.cpu),
            spaces: self.spaces,
            cpu: self.cpu,
            process: &self.process,
            backing: &mut self.backing,
        };
        let unit = |result: Result<(), MmError>| result.map(|()| 0);
        Some(match *operation {
            Operation::Mmap { at: place, len, prot, flags, file, offset, .. } => {
                let file = file.and_then(|file| self.files.get(file as usize).copied());
                let addr = at(place, len)?;
                call.mmap(&MapRequest { addr, len, prot, flags, file, offset }).map(VirtAddr::raw)
            }
            Operation::Munmap { at: place, len } => unit(call.munmap(at(place, len)?, len)),
            Operation::Mprotect { at: place, len, prot } => unit(call.mprotect(at(place, len)?, len, prot)),
            Operation::Mremap { at: place, old_len, new_len, flags, to, .. } => {
                let (addr, new_addr) = (at(place, old_len)?, at(to, 0)?);
                call.mremap(&RemapRequest { addr, old_len, new_len, flags, new_addr }).map(VirtAddr::raw)
            }
            Operation::Madvise { at: place, len, advice } => unit(call.madvise(at(place, len)?, len, advice)),
            Operation::Mlock { at: place, len } => unit(call.mlock(at(place, len)?, len, LockWhen::Now)),
            Operation::MlockOnFault { at: place, len } => unit(call.mlock(at(place, len)?, len, LockWhen::OnFault)),
            Operation::Munlock { at: place, len } => unit(call.munlock(at(place, len)?, len)),
            Operation::Mlockall { flags } => unit(call.mlockall(flags)),
            Operation::Munlockall => {
                call.munlockall();
                Ok(0)
            }
            Operation::Brk { bytes } => {
                let brk = call.mm.program().start_brk.saturating_add(bytes);
                Ok(call.brk(brk).raw())
            }
            Operation::Msync { at: place, len, flags } => unit(call.msync(at(place, len)?, len, flags)),
            Operation::Mseal { at: place, len } => unit(call.mseal(at(place, len)?, len, 0)),
            Operation::RemapFilePages { at: place, len, prot, pgoff, flags } => {
                unit(call.remap_file_pages(at(place, len)?, len, prot, pgoff, flags))
            }
            Operation::Write { .. } | Operation::Read { .. } => return None,
        })
    }

    /// Writes as the kernel does for a process: any failure is a bad address.
    fn write(&mut self, addr: VirtAddr, byte: u8) -> Result<(), MmError> {
        let vma = self.call().area_for_access(addr, Access::Write).map_err(|_| MmError::BadAddress)?;
        self.backing.write(&vma, addr, byte)
    }

    fn read(&mut self, addr: VirtAddr) -> Result<u8, MmError> {
        let vma = self.call().area_for_access(addr, Access::Read).map_err(|_| MmError::BadAddress)?;
        self.backing.read(&vma, addr)
    }

    /// Returns what /proc/PID/maps says.
    pub(super) fn maps(&self) -> Vec<MapLine> {
        let mm = self.mm.read(self.cpu);
        mm.areas().map(|vma| self.line(mm.program(), &vma)).collect()
    }

    /// Returns the flags of all areas that smaps shows, lowest first.
    pub(super) fn flags(&self) -> Vec<VmFlags> {
        self.mm.read(self.cpu).areas().map(|vma| vma.flags - VmFlags::PKEY_BIT0).collect()
    }

    fn line(&self, program: &ProgramRanges, vma: &Vma) -> MapLine {
        let letter = |flag, letter| if vma.flags.contains(flag) { letter } else { '-' };
        let sharing = if vma.flags.contains(VmFlags::MAYSHARE) { 's' } else { 'p' };
        let perms = [letter(VmFlags::READ, 'r'), letter(VmFlags::WRITE, 'w'), letter(VmFlags::EXEC, 'x'), sharing];

        let what = match vma.file {
            Some(file) => self.backing.name(file).to_owned(),
            None if vma.start() < program.brk && vma.end() > program.start_brk => "[heap]".to_owned(),
            None if vma.start() <= program.start_stack && vma.end() >= program.start_stack => "[stack]".to_owned(),
            None => self.names.get(&vma.start().raw()).cloned().unwrap_or_default(),
        };
        let offset = if vma.file.is_some() { vma.pgoff << PAGE_SHIFT } else { 0 };
        MapLine { start: vma.start().raw(), end: vma.end().raw(), perms: perms.iter().collect(), offset, what }
    }

    /// Empties the address space.
    pub(super) fn end(mut self) {
        let backing = &mut self.backing;
        self.spaces.mmput(self.cpu, self.mm, |_| backing, |_| ());
    }
}
