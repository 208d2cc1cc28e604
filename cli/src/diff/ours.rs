//! Our side: operations as calls on a process of a simulated machine, with page tables, faults and files in memory.

use std::collections::BTreeMap;
use std::fmt;

use address_space::{
    AnonVma, AnonVmaId, AreaName, ClearRefs, Direction, FileId, Limits, LockWhen, MapRequest, MmError, MmRef,
    MmapLayout, PAGE_SHIFT, PAGE_SIZE, Process, ProgramRanges, RemapRequest, Vma, Whose,
};
use kernel_mm::{AreaNames, FileLabel, FrameNumbers, MemoryManager, ProcMm};
use page_allocator::Hooks;
use page_cache::Seals;
use page_fault::{AccessKind, FaultError, Signal, SignalCode};
use proc_files::parse::Status;
use proc_files::status::Task;
use proc_files::{Config, Profile, Release};
use sim::SimPlatform;
use sync::Cpu;
use units::{VirtAddr, VirtRange, VmFlags};

use super::agent::PAYLOAD;
use super::contents::{PageContents, hash};
use super::host::Program;
use super::maps::{self, MapLine, Smap};
use super::operation::{FILE_PAGES, FILES, MOST_CHILDREN, Operation, Slots};
use super::outcome::Outcome;
use crate::failure::Failure;

const SIGBUS: u32 = 7;
const SIGSEGV: u32 = 11;

/// Who /proc/PID/status is of; only its memory is compared.
const TASK: Task<'static> = Task::first("ours");

/// A process with those that it was forked from, and files.
pub(super) struct Ours<'a, 'k, H: Hooks + Sync> {
    manager: &'a MemoryManager<'k, SimPlatform, H>,
    cpu: &'a Cpu,
    process: Process,
    first: MmRef<'k>,
    /// Its child, and that one's: the last one makes the calls.
    family: Vec<MmRef<'k>>,
    /// Those that calls map, and behind them those that were mapped from the start.
    files: Vec<FileId>,
    /// What files are called in the comparison, by number.
    labels: BTreeMap<u64, String>,
    special: Special,
    /// Pages that a process touches by running.
    touched: Vec<VirtAddr>,
}

/// Names of areas that were there from the start and have no file, by start.
#[derive(Default)]
struct Special(BTreeMap<u64, String>);

impl AreaNames for Special {
    fn with_file(&self, _: FileId, _: &mut dyn FnMut(&FileLabel<'_>) -> fmt::Result) -> Option<fmt::Result> {
        None
    }

    fn special(&self, vma: &Vma) -> Option<&str> {
        self.0.get(&vma.start().raw()).map(String::as_str)
    }

    fn with_anon_name(&self, _: AreaName, _: &mut dyn FnMut(&str) -> fmt::Result) -> Option<fmt::Result> {
        None
    }
}

fn returned(result: Result<u64, MmError>) -> Outcome {
    Outcome::Returned(match result {
        Ok(value) => value as i64,
        Err(error) => -i64::from(kernel_mm::errno(error)),
    })
}

fn failed(error: impl fmt::Display) -> Failure {
    Failure::Machine(error.to_string())
}

impl<'a, 'k, H: Hooks + Sync> Ours<'a, 'k, H> {
    /// Makes a process like the host's: `areas` as smaps tells of them.
    pub(super) fn like(
        manager: &'a MemoryManager<'k, SimPlatform, H>,
        cpu: &'a Cpu,
        process: Process,
        areas: &[Smap],
        program: &Program,
    ) -> Result<Self, Failure> {
        let layout = MmapLayout::new(manager.spaces().settings(), Direction::TopDown, process.limits.stack);
        let range = |(start, end)| VirtRange::new(VirtAddr::new(start), VirtAddr::new(end));
        let start_brk = VirtAddr::new(program.start_brk);
        let ranges = ProgramRanges {
            code: range(program.code),
            data: range(program.data),
            start_brk,
            brk: start_brk,
            start_stack: VirtAddr::new(program.start_stack),
            ..ProgramRanges::default()
        };
        let mm = manager.mm_alloc(cpu, layout, ranges).map_err(failed)?;
        let mut ours = Self {
            manager,
            cpu,
            process,
            first: mm,
            family: Vec::new(),
            files: Vec::new(),
            labels: BTreeMap::new(),
            special: Special::default(),
            touched: Vec::new(),
        };
        for file in 0..FILES {
            ours.add_file(&format!("file {file}"), FILE_PAGES * PAGE_SIZE)?;
        }
        for (number, area) in areas.iter().enumerate() {
            ours.import(area, number as u64)?;
        }
        ours.touched.push(VirtAddr::new(program.start_stack));
        ours.run();
        Ok(ours)
    }

    fn add_file(&mut self, label: &str, bytes: u64) -> Result<FileId, Failure> {
        let files = self.manager.files(self.cpu, &self.process);
        let file = files.create_memfd(b"mmkit", Seals::SEAL).map_err(failed)?;
        files.set_size(file, bytes).map_err(failed)?;
        self.labels.insert(file.raw(), label.to_owned());
        self.files.push(file);
        Ok(file)
    }

    fn import(&mut self, area: &Smap, number: u64) -> Result<(), Failure> {
        let line = &area.line;
        let range = VirtRange::new(VirtAddr::new(line.start), VirtAddr::new(line.end));
        let is_special = line.what.starts_with('[');
        let file =
            if is_special { None } else { Some(self.add_file(&line.what, line.offset + line.end - line.start)?) };
        let links = 1;
        // Identities of the process's own areas are far from those that are given out.
        let id = AnonVmaId::new(u64::MAX - number).filter(|_| area.anonymous > 0);
        let anon = id.map(|id| AnonVma { id, root: id, links });
        let pgoff = if is_special { line.start } else { line.offset } >> PAGE_SHIFT;
        let vma = Vma { range, flags: area.flags, pgoff, file, anon, uffd: 0, name: None };
        if is_special && line.what != "[stack]" {
            self.special.0.insert(line.start, line.what.clone());
        }
        if !is_special && area.resident > 0 {
            self.touched.push(range.start);
        }
        let inserted = self.manager.call(self.cpu, self.mm(), &self.process).insert_area(&vma);
        inserted.map_err(|error| Failure::Machine(format!("the area {line}: {error}")))
    }

    /// Returns the address space of the process that makes the calls.
    fn mm(&self) -> &MmRef<'k> {
        self.family.last().unwrap_or(&self.first)
    }

    /// Has from now on other limits.
    pub(super) const fn set_limits(&mut self, limits: Limits) {
        self.process.limits = limits;
    }

    /// Touches what a process of the host touches by running: its code and its stack.
    fn run(&self) {
        for &addr in &self.touched {
            // Which is there, or the next comparison of page tables fails.
            let _ = self.read(addr);
        }
    }

    /// Makes the call; `None` if it is on a slot that holds nothing, or there is no process for it.
    pub(super) fn make(&mut self, operation: &Operation, slots: &Slots) -> Option<Outcome> {
        let addr = |at| slots.resolve(at, 1).map(VirtAddr::new);
        let result = match *operation {
            Operation::Fork => self.fork()?,
            Operation::Exit => self.exit()?,
            Operation::Write { at, byte } => {
                let written = self.manager.write_user(self.cpu, self.mm(), &self.process, addr(at)?, &[byte]);
                written.map(|()| 1).map_err(|_| MmError::BadAddress)
            }
            Operation::Read { at } => self.read(addr(at)?).map(u64::from),
            Operation::Load { at } => return Some(self.access(addr(at)?, AccessKind::Read, 0)),
            Operation::Store { at, byte } => return Some(self.access(addr(at)?, AccessKind::Write, byte)),
            Operation::Fetch { at } => return Some(self.access(addr(at)?, AccessKind::Fetch, 0)),
            Operation::Mincore { at, len } => return self.mincore(slots.resolve(at, len)?, len),
            Operation::Truncate { file, bytes } => self.truncate(file, bytes)?,
            _ => self.call(operation, slots)?,
        };
        Some(returned(result))
    }

    /// Accesses memory as the process itself does.
    fn access(&self, addr: VirtAddr, kind: AccessKind, byte: u8) -> Outcome {
        let done = match kind {
            AccessKind::Read => self.read(addr).ok().map(i64::from),
            AccessKind::Write => {
                self.manager.write_user(self.cpu, self.mm(), &self.process, addr, &[byte]).ok().map(|()| 0)
            }
            _ => None,
        };
        if let Some(value) = done {
            return Outcome::Returned(value);
        }
        let fault = || self.manager.fault(self.cpu, self.mm(), &self.process, addr, kind);
        // Where a page had to be brought in, the processor tries again.
        let refused = fault().and_then(|_| fault()).err();
        match refused.and_then(FaultError::signal) {
            Some(SignalCode { signal, code }) => {
                let signal = if signal == Signal::Bus { SIGBUS } else { SIGSEGV };
                Outcome::Signal { signal, code, addr: addr.raw() }
            }
            None => returned(Err(MmError::BadAddress)),
        }
    }

    /// Returns true if what lies at `addr`, or grows down to it, can be executed.
    pub(super) fn may_execute(&self, operation: &Operation, slots: &Slots) -> bool {
        let Operation::Fetch { at } = *operation else { return false };
        let addr = slots.resolve(at, 1).map(VirtAddr::new);
        let area = addr.and_then(|addr| self.mm().read(self.cpu).find(addr));
        area.is_some_and(|vma| vma.flags.contains(VmFlags::EXEC))
    }

    fn mincore(&self, addr: u64, len: u64) -> Option<Outcome> {
        let mut resident = vec![0; PAYLOAD];
        let mut call = self.manager.call(self.cpu, self.mm(), &self.process);
        let result = call.mincore(VirtAddr::new(addr), len, &mut resident).map(|()| 0);
        match returned(result) {
            Outcome::Returned(value) => Some(Outcome::Wrote(value, resident)),
            other => Some(other),
        }
    }

    fn truncate(&self, file: u64, bytes: u64) -> Option<Result<u64, MmError>> {
        let file = *self.files.get(file as usize)?;
        Some(self.manager.mapped_files(self.cpu, &self.process).set_size(file, bytes).map(|()| 0))
    }

    fn call(&self, operation: &Operation, slots: &Slots) -> Option<Result<u64, MmError>> {
        let at = |place, len| slots.resolve(place, len).map(VirtAddr::new);
        let mut call = self.manager.call(self.cpu, self.mm(), &self.process);
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
            Operation::ClearMarks => {
                call.clear_refs(ClearRefs::SoftDirty);
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
            Operation::ProcessMadvise { ranges, advice } => {
                let [(first, len), (second, more)] = ranges;
                let ranges = [(at(first, len)?, len), (at(second, more)?, more)];
                call.process_madvise(ranges, advice, Whose::Own)
            }
            Operation::Write { .. }
            | Operation::Read { .. }
            | Operation::Load { .. }
            | Operation::Store { .. }
            | Operation::Fetch { .. }
            | Operation::Mincore { .. }
            | Operation::Truncate { .. }
            | Operation::Fork
            | Operation::Exit => return None,
        })
    }

    fn fork(&mut self) -> Option<Result<u64, MmError>> {
        if self.family.len() >= MOST_CHILDREN {
            return None;
        }
        let child = match self.manager.dup_mm(self.cpu, self.mm(), &self.process) {
            Ok(child) => child,
            Err(error) => return Some(Err(error)),
        };
        self.family.push(child);
        self.run();
        Some(Ok(0))
    }

    fn exit(&mut self) -> Option<Result<u64, MmError>> {
        let child = self.family.pop()?;
        self.manager.mmput(self.cpu, child);
        Some(Ok(0))
    }

    fn read(&self, addr: VirtAddr) -> Result<u8, MmError> {
        let mut byte = [0];
        let read = self.manager.read_user(self.cpu, self.mm(), &self.process, addr, &mut byte);
        read.map(|()| byte[0]).map_err(|_| MmError::BadAddress)
    }

    /// Returns what the pages at `pages` hold.
    pub(super) fn contents(&self, pages: &[u64]) -> Vec<PageContents> {
        let mut bytes = [0; PAGE_SIZE as usize];
        let mut one = |&page: &u64| {
            let read = self.manager.read_user(self.cpu, self.mm(), &self.process, VirtAddr::new(page), &mut bytes);
            PageContents { page, hash: read.ok().map(|()| hash(&bytes)) }
        };
        pages.iter().map(&mut one).collect()
    }

    fn proc(&self) -> ProcMm<'_, 'k, SimPlatform, H> {
        let profile = Profile::new(Release::V6_12, Config::X86_64);
        ProcMm { manager: self.manager, cpu: self.cpu, mm: self.mm(), names: &self.special, profile }
    }

    /// Returns what /proc/PID/maps says.
    pub(super) fn maps(&self) -> Result<Vec<MapLine>, Failure> {
        let mut text = String::new();
        self.proc().write_maps(&mut text).map_err(failed)?;
        maps::parse(&text, &self.labels)
    }

    /// Returns what /proc/PID/smaps says.
    pub(super) fn smaps(&self) -> Result<Vec<Smap>, Failure> {
        let mut text = String::new();
        self.proc().write_smaps(&mut text).map_err(failed)?;
        maps::parse_smaps(&text, &self.labels)
    }

    /// Returns what /proc/PID/pagemap says of the pages of an area.
    pub(super) fn pagemap(&self, area: &Smap) -> Vec<u64> {
        let mut entries = vec![0; ((area.line.end - area.line.start) / PAGE_SIZE) as usize];
        self.proc().pagemap(VirtAddr::new(area.line.start), &mut entries, FrameNumbers::Hidden);
        entries
    }

    /// Returns what /proc/PID/status says.
    pub(super) fn status(&self) -> Result<Status, Failure> {
        let mut text = String::new();
        self.proc().write_status(&mut text, &TASK).map_err(failed)?;
        Status::parse(&text).map_err(failed)
    }

    /// Ends the processes and their files.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        while let Some(mm) = self.family.pop() {
            self.manager.mmput(self.cpu, mm);
        }
        self.manager.mmput(self.cpu, self.first);
        let files = self.manager.files(self.cpu, &self.process);
        self.files.iter().try_for_each(|&file| files.put(file)).map_err(failed)
    }
}
