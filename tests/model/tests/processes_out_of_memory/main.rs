//! Memory that runs out at every page that a call, a fork or a fault takes: it fails as Linux's does, what was mapped stays, nothing is lost, and it works when
//! there is memory again.

mod anonymous;
mod files;
mod large;

use std::ops::Range;

use address_space::{
    CommitRules, Direction, FileId, Limits, MapFlags, MapRequest, MmError, MmRef, MmapLayout, NO_LIMIT, Process,
    ProgramRanges, Prot, Rights, Settings,
};
use kernel_mm::MemoryManager;
use page_allocator::NoPressure;
use page_cache::Seals;
use page_fault::{AccessKind, FaultError};
use sim::description::Machine;
use sim::{SimMachine, SimOptions, SimPlatform};
use sync::Cpu;
use units::{CpuId, NodeMask, VirtAddr, VirtRange, VmFlags};

type Manager<'k> = MemoryManager<'k, SimPlatform, NoPressure>;

const PAGE: u64 = 4096;
const BASE: u64 = 0x7000_0000_0000;
/// Pages of the private area, each of which is written.
const PAGES: u64 = 8;
const SHARED: u64 = BASE + (1 << 30);
const ELSEWHERE: u64 = BASE + (2 << 30);
const HEAP: u64 = 0x1000_0000;
const FILE_PAGES: u64 = 4;
/// No call here takes so many pages.
const MOST: u64 = 60;

fn at(page: u64) -> VirtAddr {
    VirtAddr::new(BASE + page * PAGE)
}

/// Pages that are free or in slabs.
fn accounted(machine: &SimMachine, cpu: &Cpu) -> u64 {
    let (pages, objects) = (machine.pages(), machine.kernel().objects());
    pages.drain_all_pages(cpu, NodeMask::ALL);
    let slab = |node| objects.node_stats(node).slab_reclaimable() + objects.node_stats(node).slab_unreclaimable();
    pages.check_invariants(cpu).unwrap() + pages.nodes().iter().map(slab).sum::<u64>()
}

/// A process with a written private area, a shared one, a child that has both, and a memfd of four pages, none of which is in memory.
struct Subject<'a, 'k> {
    machine: &'a SimMachine,
    manager: &'a Manager<'k>,
    cpu: &'a Cpu,
    mm: MmRef<'k>,
    child: MmRef<'k>,
    file: FileId,
}

impl<'a, 'k> Subject<'a, 'k> {
    fn new(machine: &'a SimMachine, manager: &'a Manager<'k>, cpu: &'a Cpu) -> Self {
        let layout = MmapLayout::new(manager.spaces().settings(), Direction::TopDown, 8 << 20);
        let heap = VirtAddr::new(HEAP);
        let program = ProgramRanges { start_brk: heap, brk: heap, ..ProgramRanges::default() };
        let mm = manager.mm_alloc(cpu, layout, program).unwrap();
        let map = |addr, flags| {
            manager.call(cpu, &mm, PROCESS).mmap(&request(addr, PAGES, flags)).unwrap();
        };
        map(BASE, MapFlags::PRIVATE);
        map(SHARED, MapFlags::SHARED);
        for page in 0..PAGES {
            manager.write_user(cpu, &mm, PROCESS, at(page), &[page as u8 + 1]).unwrap();
        }
        let child = manager.dup_mm(cpu, &mm, PROCESS).unwrap();
        let file = manager.files(cpu, PROCESS).create_memfd(b"file", Seals::empty()).unwrap();
        manager.files(cpu, PROCESS).set_size(file, FILE_PAGES * PAGE).unwrap();
        Self { machine, manager, cpu, mm, child, file }
    }

    fn call(&self) -> kernel_mm::MmCall<'_, 'k, SimPlatform, NoPressure> {
        self.manager.call(self.cpu, &self.mm, PROCESS)
    }

    fn fault(&self, addr: VirtAddr, access: AccessKind) -> Result<(), MmError> {
        match self.manager.fault(self.cpu, &self.mm, PROCESS, addr, access) {
            Ok(_) => Ok(()),
            Err(FaultError::NoMemory) => Err(MmError::NoMemory),
            Err(error) => panic!("{error}"),
        }
    }

    /// Returns runs of like pages: whether they lie in one area or several, a program cannot see.
    fn areas(&self) -> Vec<(VirtRange, VmFlags)> {
        let mut runs: Vec<(VirtRange, VmFlags)> = Vec::new();
        for vma in self.mm.read(self.cpu).areas() {
            match runs.last_mut() {
                Some((range, flags)) if (range.end, *flags) == (vma.start(), vma.flags) => range.end = vma.end(),
                _ => runs.push((vma.range, vma.flags)),
            }
        }
        runs
    }

    fn check_contents(&self) {
        for (page, mm) in (0..PAGES).flat_map(|page| [(page, &self.mm), (page, &self.child)]) {
            let mut byte = [0];
            self.manager.read_user(self.cpu, mm, PROCESS, at(page), &mut byte).unwrap();
            assert_eq!(byte, [page as u8 + 1]);
        }
    }

    fn arm(&self, after: u64, times: u64) {
        self.machine.pages().arm_faults(after, times);
    }

    fn end(self) {
        self.manager.mmput(self.cpu, self.child);
        self.manager.mmput(self.cpu, self.mm);
        self.manager.files(self.cpu, PROCESS).put(self.file).unwrap();
    }
}

const PROCESS: &Process = &Process {
    rights: Rights::empty(),
    limits: Limits { address_space: NO_LIMIT, data: NO_LIMIT, data_max: NO_LIMIT, stack: 8 << 20, locked: 8 << 20 },
};

/// What a call that failed leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    /// Everything as it was.
    Nothing,
    /// Other areas, as in Linux.
    Areas,
}

fn request(addr: u64, pages: u64, flags: MapFlags) -> MapRequest {
    let flags = flags | MapFlags::ANONYMOUS | MapFlags::FIXED;
    MapRequest {
        addr: VirtAddr::new(addr),
        len: pages * PAGE,
        prot: Prot::READ | Prot::WRITE,
        flags,
        file: None,
        offset: 0,
    }
}

/// Runs `call` with memory that ends after 0, 1, 2 ... pages, until it succeeds; returns how often it failed.
fn failures(call: impl Fn(&Subject<'_, '_>) -> Result<(), MmError>) -> u64 {
    failures_after(|_| (), Leaves::Nothing, call)
}

/// Runs `test` with a fresh subject of one machine and each number, until it returns something. The test ends its subject, after which nothing may be lost.
fn with_fresh_subjects<R>(numbers: Range<u64>, mut test: impl FnMut(Subject<'_, '_>, u64) -> Option<R>) -> Option<R> {
    let machine = SimMachine::boot(&Machine::ready("small").unwrap(), &SimOptions::default()).unwrap();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    machine.kernel().start_objects(&cpu).unwrap();
    let objects = machine.kernel().objects();
    let manager = MemoryManager::new(objects, &cpu, Settings::X86_64, CommitRules::for_ram(1 << 17)).unwrap();
    // It stays once it is there.
    objects.start_mmu(&cpu).unwrap().on(&cpu).huge_zero_page().unwrap();
    let before = accounted(&machine, &cpu);
    for number in numbers {
        let result = test(Subject::new(&machine, &manager, &cpu), number);
        assert_eq!(accounted(&machine, &cpu), before, "after {number} pages");
        if result.is_some() {
            return result;
        }
    }
    None
}

/// As [`failures`]; `prepare` comes first and has memory.
fn failures_after(
    prepare: impl Fn(&Subject<'_, '_>),
    leaves: Leaves,
    call: impl Fn(&Subject<'_, '_>) -> Result<(), MmError>,
) -> u64 {
    with_fresh_subjects(0..MOST, |subject, after| {
        prepare(&subject);
        let areas = subject.areas();
        subject.arm(after, u64::MAX);
        let result = call(&subject);
        subject.arm(u64::MAX, 0);
        if let Err(error) = result {
            assert!(matches!(error, MmError::NoMemory | MmError::TryAgain), "{error}");
            assert!(leaves == Leaves::Areas || subject.areas() == areas, "after {after} pages");
            subject.check_contents();
            call(&subject).unwrap();
        }
        subject.end();
        result.is_ok().then_some(after)
    })
    .expect("the call succeeds once enough is allocated")
}
