//! Programs of which the test is the processor: what they do is said by it. On a machine without page tables programs' memory is a map of pages, files are vectors.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use address_space::{Access, Advice, FileId, MmError, MmFlags, Process, ProgramRanges, Vma, Whose};
use kernel_mm::{HugeFile, KhugepagedScan, Reach, ScanStop, VmFile};
use page_cache::{EndRule, Seals};
use page_fault::KhugepagedLimits;
use proc_files::page_scan::PageScan;
use proc_files::statm::Statm;
use proc_files::status::Task as Status;
use sim::description::Machine as Description;
use sim::{SimMachine, SimOptions};
use sync::{Cpu, IrqControl};
use units::{CpuId, VirtAddr, VirtRange};
use userland::{Fault, Leaving, Machine, Memory, Next, Owned, Program, SpaceCall, Step, Thread, Trap, Userland};

use crate::failing::Exempt;

const PAGE: u64 = 4096;

#[derive(Clone, Default)]
struct Space {
    users: u32,
    pages: BTreeMap<u64, Vec<u8>>,
    program: ProgramRanges,
    next_map: u64,
}

#[derive(Default)]
struct State {
    spaces: BTreeMap<u64, Space>,
    files: BTreeMap<u64, (u32, Vec<u8>)>,
    next: u64,
    nr_held: u64,
}

/// Memory of programs as maps of pages.
#[derive(Default)]
pub(crate) struct Pages(Mutex<State>);

/// The machine's side of the tests, which always has memory.
struct Locked<'a> {
    state: MutexGuard<'a, State>,
    #[expect(dead_code, reason = "lives as long as the lock is held")]
    exempt: Exempt,
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn space(&mut self, mm: u64) -> Result<&mut Space, MmError> {
        self.spaces.get_mut(&mm).ok_or(MmError::BadAddress)
    }
}

impl Space {
    fn map(&mut self, start: u64, len: u64, contents: &[u8]) {
        for (index, page) in (start / PAGE..(start + len).div_ceil(PAGE)).enumerate() {
            let mut bytes =
                contents.iter().skip(index * PAGE as usize).take(PAGE as usize).copied().collect::<Vec<_>>();
            bytes.resize(PAGE as usize, 0);
            self.pages.insert(page, bytes);
        }
    }

    fn byte(&mut self, addr: u64) -> Result<&mut u8, MmError> {
        let page = self.pages.get_mut(&(addr / PAGE)).ok_or(MmError::BadAddress)?;
        Ok(&mut page[(addr % PAGE) as usize])
    }
}

impl Pages {
    fn state(&self) -> Locked<'_> {
        Locked { exempt: Exempt::begin(), state: self.0.lock().unwrap() }
    }

    /// Returns the number of pages that pipes hold.
    pub(crate) fn nr_held(&self) -> u64 {
        self.state().nr_held
    }

    /// Returns the number of address spaces and files that live.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.spaces.len(), state.files.len())
    }
}

impl Memory for Pages {
    type Mm = u64;
    type Page = Vec<u8>;

    fn mm_flags(&self, _: &u64) -> MmFlags {
        MmFlags::empty()
    }

    fn mm_alloc(&self, _: &Cpu, _: &Process, program: ProgramRanges, _: MmFlags) -> Result<u64, MmError> {
        let mut state = self.state();
        let mm = state.number();
        state.spaces.insert(mm, Space { users: 1, program, next_map: 0x7000_0000, ..Space::default() });
        Ok(mm)
    }

    fn dup_mm(&self, _: &Cpu, parent: &u64, _: &Process) -> Result<u64, MmError> {
        let mut state = self.state();
        let copy = Space { users: 1, ..state.space(*parent)?.clone() };
        let mm = state.number();
        state.spaces.insert(mm, copy);
        Ok(mm)
    }

    fn mmget(&self, mm: &u64) -> u64 {
        self.state().space(*mm).unwrap().users += 1;
        *mm
    }

    fn mmput(&self, _: &Cpu, mm: u64) {
        let mut state = self.state();
        let space = state.space(mm).unwrap();
        space.users -= 1;
        if space.users == 0 {
            state.spaces.remove(&mm);
        }
    }

    fn identity(&self, mm: &u64) -> u64 {
        *mm
    }

    fn fault(&self, _: &Cpu, _: &u64, _: &Process, (addr, _): (VirtAddr, Access), _: bool) -> Fault {
        match addr.raw() {
            0 => Fault::Signal { signo: 11, code: 1 },
            _ => Fault::OutOfMemory,
        }
    }

    fn call(&self, _: &Cpu, mm: &u64, _: &Process, call: &SpaceCall) -> Result<u64, MmError> {
        let mut state = self.state();
        match call {
            SpaceCall::Mmap(request, _) => {
                let contents = match request.file {
                    Some(file) => state.files.get(&file.raw()).ok_or(MmError::BadFile)?.1.clone(),
                    None => Vec::new(),
                };
                if request.len == 0 || request.len > 1 << 30 {
                    return Err(MmError::Invalid);
                }
                let space = state.space(*mm)?;
                let start = match request.addr.raw() {
                    0 => {
                        space.next_map += request.len.next_multiple_of(PAGE);
                        space.next_map - request.len.next_multiple_of(PAGE)
                    }
                    addr => addr,
                };
                space.map(start, request.len, contents.get(request.offset as usize..).unwrap_or_default());
                Ok(start)
            }
            SpaceCall::Brk(brk) => {
                let space = state.space(*mm)?;
                if *brk >= space.program.start_brk && brk.since(space.program.start_brk) < 1 << 20 {
                    let start = space.program.start_brk.raw();
                    space.map(start, brk.raw() - start, &[]);
                    space.program.brk = *brk;
                }
                Ok(space.program.brk.raw())
            }
            _ => Err(MmError::NotSupported),
        }
    }

    fn process_madvise(
        &self,
        _: &Cpu,
        _: (&u64, &Process),
        ranges: &mut dyn Iterator<Item = (VirtAddr, u64)>,
        _: (Advice, Whose),
    ) -> Result<u64, MmError> {
        Ok(ranges.map(|(_, len)| len).sum())
    }

    fn name_areas(&self, _: &Cpu, _: (&u64, &Process), _: (VirtAddr, u64), _: Option<&[u8]>) -> Result<(), MmError> {
        Err(MmError::Invalid)
    }

    fn mincore(&self, _: &Cpu, mm: &u64, _: &Process, at: VirtAddr, to: &mut [u8]) -> Result<(), MmError> {
        let mut state = self.state();
        let space = state.space(*mm)?;
        for (page, place) in (at.raw() / PAGE..).zip(to) {
            *place = space.pages.contains_key(&page).into();
        }
        Ok(())
    }

    fn insert_area(&self, _: &Cpu, mm: &u64, _: &Process, vma: &Vma) -> Result<(), MmError> {
        self.state().space(*mm)?.map(vma.start().raw(), vma.range.len(), &[]);
        Ok(())
    }

    fn read_user(&self, _: &Cpu, (mm, _): (&u64, &Process), addr: VirtAddr, to: &mut [u8]) -> Result<(), MmError> {
        let mut state = self.state();
        let space = state.space(*mm)?;
        for (index, place) in (0..).zip(to) {
            *place = *space.byte(addr.raw().wrapping_add(index))?;
        }
        Ok(())
    }

    fn write_user(&self, _: &Cpu, (mm, _): (&u64, &Process), addr: VirtAddr, from: &[u8]) -> Result<(), MmError> {
        let mut state = self.state();
        let space = state.space(*mm)?;
        for (index, byte) in (0..).zip(from) {
            *space.byte(addr.raw().wrapping_add(index))? = *byte;
        }
        Ok(())
    }

    fn read_remote(
        &self,
        cpu: &Cpu,
        of: (&u64, &Process),
        addr: VirtAddr,
        to: &mut [u8],
        _: Reach,
    ) -> Result<(), MmError> {
        self.read_user(cpu, of, addr, to)
    }

    fn write_remote(
        &self,
        cpu: &Cpu,
        of: (&u64, &Process),
        addr: VirtAddr,
        from: &[u8],
        _: Reach,
    ) -> Result<(), MmError> {
        self.write_user(cpu, of, addr, from)
    }

    fn hold_page(&self, _: &Cpu, (mm, _): (&u64, &Process), addr: VirtAddr) -> Result<Vec<u8>, MmError> {
        let mut state = self.state();
        let page = state.space(*mm)?.pages.get(&(addr.raw() / PAGE)).ok_or(MmError::BadAddress)?.clone();
        state.nr_held += 1;
        Ok(page)
    }

    fn read_page(&self, page: &Vec<u8>, offset: usize, to: &mut [u8]) {
        to.copy_from_slice(&page[offset..offset + to.len()]);
    }

    fn put_page(&self, _: &Cpu, _page: Vec<u8>) {
        self.state().nr_held -= 1;
    }

    fn peak_rss_kib(&self, mm: &u64) -> u64 {
        self.state().space(*mm).unwrap().pages.len() as u64 * 4
    }

    fn ram_bytes(&self, _: &Cpu) -> [u64; 2] {
        [1 << 30, 1 << 29]
    }

    fn program(&self, _: &Cpu, mm: &u64) -> ProgramRanges {
        self.state().space(*mm).unwrap().program
    }

    fn shared_place(&self, _: &Cpu, _: &u64, _: VirtAddr) -> Option<(FileId, u64)> {
        None
    }

    fn barrier(&self, _: &Cpu) {}

    fn write_status(&self, _: &Cpu, _: &u64, task: &Status<'_>, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "Name:\t{}", task.name)
    }

    fn write_process_file(&self, _: &Cpu, mm: &u64, file: &str, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{file} of {mm}")
    }

    fn statm(&self, _: &Cpu, mm: &u64) -> Statm {
        Statm { size: self.state().space(*mm).unwrap().pages.len() as u64, ..Statm::default() }
    }

    fn write_machine_file(&self, _: &Cpu, file: &str, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{file}")
    }

    fn khugepaged_scan(&self, _: &Cpu, _: &u64, _: VirtAddr, _: u64, _: KhugepagedLimits) -> KhugepagedScan {
        KhugepagedScan { next: None, blocks: 0, gathered: 0 }
    }

    fn write_huge_file(&self, _: HugeFile, _: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }

    fn set_huge_file(&self, _: HugeFile, _: &[u8]) -> Result<(), MmError> {
        Err(MmError::NotSupported)
    }

    fn write_vm_file(&self, _: &Cpu, _: VmFile, _: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }

    fn set_vm_file(&self, _: &Cpu, _: &Process, _: VmFile, _: &[u8]) -> Result<usize, MmError> {
        Err(MmError::NotSupported)
    }

    fn read_pagemap(&self, _: &Cpu, _: &u64, _: u64, _: &mut [u8]) -> Result<usize, MmError> {
        Err(MmError::Invalid)
    }

    fn file_set_name(&self, _: &Cpu, _: FileId, _: &[u8]) -> Result<(), MmError> {
        Ok(())
    }

    fn file_seals(&self, _: &Cpu, _: FileId) -> Result<Seals, MmError> {
        Err(MmError::Invalid)
    }

    fn file_add_seals(&self, _: &Cpu, _: FileId, _: Seals) -> Result<(), MmError> {
        Err(MmError::Invalid)
    }

    fn file_allocate(&self, _: &Cpu, _: FileId, _: (u64, u64), _: EndRule) -> Result<(), MmError> {
        Err(MmError::NotSupported)
    }

    fn file_punch_hole(&self, _: &Cpu, _: FileId, _: (u64, u64)) -> Result<(), MmError> {
        Err(MmError::NotSupported)
    }

    fn has_areas(&self, _: &Cpu, _: &u64, _: VirtRange) -> bool {
        false
    }

    fn scan_pages(&self, _: &Cpu, _: &u64, range: VirtRange, _: &mut PageScan<'_>) -> ScanStop {
        ScanStop::Reached(range.end)
    }

    fn file_create(&self, _: &Cpu, _: Option<(&[u8], Seals)>) -> Result<FileId, MmError> {
        let mut state = self.state();
        let number = state.number();
        state.files.insert(number, (1, Vec::new()));
        FileId::new(number).ok_or(MmError::NoMemory)
    }

    fn file_get(&self, _: &Cpu, file: FileId) {
        self.state().files.get_mut(&file.raw()).unwrap().0 += 1;
    }

    fn file_put(&self, _: &Cpu, file: FileId) {
        let mut state = self.state();
        let users = &mut state.files.get_mut(&file.raw()).unwrap().0;
        *users -= 1;
        if *users == 0 {
            state.files.remove(&file.raw());
        }
    }

    fn file_size(&self, _: &Cpu, file: FileId) -> u64 {
        self.state().files[&file.raw()].1.len() as u64
    }

    fn file_is_mapped_writable(&self, _: &Cpu, _: FileId) -> bool {
        false
    }

    fn file_truncate(&self, _: &Cpu, file: FileId, size: u64) -> Result<(), MmError> {
        if size > 1 << 24 {
            return Err(MmError::NoMemory);
        }
        self.state().files.get_mut(&file.raw()).unwrap().1.resize(size as usize, 0);
        Ok(())
    }

    fn file_read(&self, _: &Cpu, file: FileId, offset: u64, to: &mut [u8]) -> Result<usize, MmError> {
        let state = self.state();
        let rest = state.files[&file.raw()].1.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(to.len());
        to[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn file_write(&self, _: &Cpu, file: FileId, offset: u64, from: &[u8]) -> Result<(), MmError> {
        let mut state = self.state();
        let bytes = &mut state.files.get_mut(&file.raw()).unwrap().1;
        let end = offset as usize + from.len();
        if end > 1 << 24 {
            return Err(MmError::NoMemory);
        }
        bytes.resize(bytes.len().max(end), 0);
        bytes[offset as usize..end].copy_from_slice(from);
        Ok(())
    }
}

/// The machine: a clock that the test moves, and what was printed.
#[derive(Default)]
pub(crate) struct Bench {
    pub(crate) clock: AtomicU64,
    pub(crate) console: Mutex<Vec<u8>>,
    random: AtomicU64,
}

impl Machine for Bench {
    fn console_write(&self, bytes: &[u8]) {
        let _always_has_memory = Exempt::begin();
        self.console.lock().unwrap().extend(bytes);
    }

    fn now_ns(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    fn boot_time_ns(&self) -> u64 {
        1_000_000_000_000_000_000
    }

    fn random(&self) -> u64 {
        self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }

    fn processor_features(&self) -> u64 {
        0
    }

    fn nr_cpus(&self) -> usize {
        1
    }

    fn kick(&self, _: CpuId) {}
}

/// Boots a machine with page tables.
pub(crate) fn machine() -> SimMachine {
    let machine = SimMachine::boot(&Description::ready("small").unwrap(), &SimOptions::default()).unwrap();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    machine.kernel().start_objects(&cpu).unwrap();
    drop(cpu);
    machine
}

/// A thread in the test's hands.
pub(crate) type Task<M = Pages> = Owned<Thread<M>>;

/// A machine with programs, of which the test is the processor.
pub(crate) struct Host<'c, M: Memory = Pages> {
    pub(crate) userland: Userland<M, Bench>,
    pub(crate) cpu: &'c Cpu,
}

/// Where a program may write: the page of its data.
pub(crate) const DATA: u64 = 0x40_2000;

/// Adds a member to an archive of cpio's newc format.
pub(crate) fn member(archive: &mut Vec<u8>, path: &str, mode: u32, contents: &[u8]) {
    let fields = [0, mode, 0, 0, 1, 0, contents.len() as u32, 0, 0, 0, 0, path.len() as u32 + 1, 0];
    archive.extend(b"070701");
    fields.iter().for_each(|field| archive.extend(format!("{field:08x}").bytes()));
    archive.extend(path.bytes().chain([0]));
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(contents);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// A program with a page of code, which nobody runs, and two of data.
pub(crate) fn program() -> Vec<u8> {
    let mut elf = vec![0; 64];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[16..20].copy_from_slice(&[2, 0, 62, 0]);
    elf[24..32].copy_from_slice(&0x40_1000u64.to_le_bytes());
    elf[32] = 64;
    (elf[54], elf[56]) = (56, 2);
    for (flags, addr, file_bytes, memory_bytes) in [(5u32, 0x40_1000u64, 0x1000u64, 0x1000u64), (6, DATA, 0, 0x2000)] {
        elf.extend(1u32.to_le_bytes());
        elf.extend(flags.to_le_bytes());
        [0, addr, addr, file_bytes, memory_bytes, PAGE].iter().for_each(|field| elf.extend(field.to_le_bytes()));
    }
    elf.resize(0x1000, 0);
    elf
}

impl Host<'static> {
    /// Boots a machine without page tables.
    pub(crate) fn boot() -> (Self, Task) {
        // SAFETY: each test makes one machine on its own thread, whose only CPU this is.
        let cpu = Box::leak(Box::new(unsafe { Cpu::new(9, CpuId::ZERO, IrqControl::NONE) }));
        Self::with(Pages::default(), cpu)
    }
}

impl<'c, M: Memory> Host<'c, M> {
    /// Boots with init's program, a script that it interprets, and a note.
    pub(crate) fn with(memory: M, cpu: &'c Cpu) -> (Self, Task<M>) {
        let mut archive = Vec::new();
        member(&mut archive, "bin/init", 0o100_755, &program());
        member(&mut archive, "bin/script", 0o100_755, b"#!/bin/init -x\n");
        member(&mut archive, "etc/note", 0o100_644, b"hello");
        member(&mut archive, "link", 0o120_777, b"etc/note");
        member(&mut archive, "TRAILER!!!", 0, b"");
        let host = Self { userland: Userland::new(memory, Bench::default()), cpu };
        host.userland.unpack(cpu, &archive).unwrap();
        let init = Program { path: b"/bin/init", arguments: &[b"init", b"one"], environment: &[b"A=1"] };
        host.userland.start_init(cpu, &init).unwrap();
        let task = host.run();
        (host, task)
    }

    /// Takes the next thread, which must be ready to run its program.
    pub(crate) fn run(&self) -> Task<M> {
        self.try_run().expect("a thread is ready")
    }

    /// Takes the next thread that runs its program; threads that wait again or end are put away.
    pub(crate) fn try_run(&self) -> Option<Task<M>> {
        loop {
            let Next::Run(mut task) = self.userland.next(self.cpu) else { return None };
            match self.userland.resume(self.cpu, &mut task) {
                Step::Run => return Some(task),
                Step::Leave(leaving) => self.userland.put_back(self.cpu, task, leaving),
            }
        }
    }

    /// Makes a system call; `Err` says how the thread leaves.
    pub(crate) fn step(&self, task: &mut Task<M>, number: u64, arguments: &[u64]) -> Result<i64, Leaving> {
        let mut six = [0; 6];
        six[..arguments.len()].copy_from_slice(arguments);
        let registers = &mut task.registers;
        registers.rax = number;
        [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9] = six;
        match self.userland.trap(self.cpu, task, Trap::SystemCall) {
            Step::Run => Ok(task.registers.rax as i64),
            Step::Leave(leaving) => Err(leaving),
        }
    }

    /// Makes a system call that returns.
    pub(crate) fn call(&self, task: &mut Task<M>, number: u64, arguments: &[u64]) -> i64 {
        self.step(task, number, arguments).unwrap_or_else(|leaving| panic!("call {number} leaves: {leaving:?}"))
    }

    /// Makes a system call that leaves, and puts the thread away.
    pub(crate) fn leave(&self, mut task: Task<M>, number: u64, arguments: &[u64]) {
        let leaving = self.step(&mut task, number, arguments).expect_err("the call leaves");
        self.userland.put_back(self.cpu, task, leaving);
    }

    /// Puts bytes into a program's memory.
    pub(crate) fn poke(&self, task: &Task<M>, addr: u64, bytes: &[u8]) {
        self.userland
            .memory()
            .write_user(self.cpu, (task.mm(), &Process::default()), VirtAddr::new(addr), bytes)
            .unwrap();
    }

    /// Puts a string with its end into a program's memory; returns its address.
    pub(crate) fn text(&self, task: &Task<M>, addr: u64, text: &str) -> u64 {
        self.poke(task, addr, &[text.as_bytes(), &[0]].concat());
        addr
    }

    /// Puts words into a program's memory; returns their address.
    pub(crate) fn words(&self, task: &Task<M>, addr: u64, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.poke(task, addr, &bytes);
        addr
    }

    /// Takes bytes out of a program's memory.
    pub(crate) fn peek(&self, task: &Task<M>, addr: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.userland
            .memory()
            .read_user(self.cpu, (task.mm(), &Process::default()), VirtAddr::new(addr), &mut bytes)
            .unwrap();
        bytes
    }

    pub(crate) fn peek_word(&self, task: &Task<M>, addr: u64) -> u64 {
        u64::from_le_bytes(self.peek(task, addr, 8).try_into().unwrap())
    }
}
