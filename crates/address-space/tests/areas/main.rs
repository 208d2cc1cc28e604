//! Small machines with one address space, and tests of the calls on it.
#![cfg(not(loom))]

mod calls;
mod clear_refs;
mod failures;
mod model;
mod rare_calls;
mod reverse_map;
mod sharing;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use fixture::{Built, Fixture, Shape, ZoneShape};
use frame_table::HeapMemory;
use object_allocator::ObjectAllocator;
use page_allocator::{DebugOptions, Geometry, NoPressure, PcpLimits};
use sync::{Cpu, IrqControl};
use units::{CpuId, NodeId, Pfn, PfnRange, VirtAddr, VirtRange, VmFlags, ZoneType};

use mmkit_address_space::*;

pub(crate) type Objects = Built<ObjectAllocator<HeapMemory>>;
pub(crate) type Spaces<'k> = AddressSpaces<'k, HeapMemory, NoPressure>;

/// Makes an object allocator with `nr_pages` pages and one CPU.
pub(crate) fn objects(nr_pages: u64) -> (Objects, Cpu) {
    let (objects, [cpu]) = objects_for(nr_pages);
    (objects, cpu)
}

/// Makes an object allocator with `nr_pages` pages and `N` CPUs.
pub(crate) fn objects_for<const N: usize>(nr_pages: u64) -> (Objects, [Cpu; N]) {
    static NEXT: AtomicU32 = AtomicU32::new(30_000);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let span = PfnRange::with_len(Pfn::new(1024), nr_pages);
    let node = NodeId::ZERO;
    let shape = Shape {
        geometry: Geometry::FOUR_KIB,
        zones: [ZoneShape { node, kind: ZoneType::Normal, span }].into(),
        nr_cpus: N,
        settings: Shape::keeping(PcpLimits { high_min: 64, high_max: 64, batch: 16 }),
    };
    let memory = HeapMemory::new(shape.span().phys(12)).unwrap();
    let fixture = Fixture::new(memory, number, shape, DebugOptions::default());
    let token = |id: usize| {
        // SAFETY: machine numbers are used once, and each CPU's token is made once.
        unsafe { Cpu::new(number, CpuId::try_new(id as u64).unwrap(), IrqControl::NONE) }
    };
    let cpus: [Cpu; N] = std::array::from_fn(token);
    fixture.start(&cpus[0]);
    let objects = fixture.build(ObjectAllocator::new);
    objects.start(&cpus[0]).unwrap();
    (objects, cpus)
}

/// Counts users of files; has no pages, but remembers what it was told of them.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) users: BTreeMap<u64, i64>,
    /// Ranges that were unmapped in each gather, and what their tables could serve to be freed.
    pub(crate) gathers: Vec<(Vec<VirtRange>, Vec<VirtRange>)>,
    is_gathering: bool,
    /// Areas whose pages were copied, by start.
    pub(crate) copied: Vec<VirtAddr>,
    /// Bytes below both places of each move.
    pub(crate) rooms: Vec<u64>,
    /// Advice on pages.
    pub(crate) advised: Vec<PageAdvice>,
    /// Areas that marks were taken back from, by start.
    pub(crate) cleared: Vec<(PageMark, VirtAddr)>,
}

impl PageTables for &mut Files {
    fn begin_unmap(&mut self) {
        assert!(!std::mem::replace(&mut self.is_gathering, true));
        self.gathers.push((Vec::new(), Vec::new()));
    }
    fn unmap(&mut self, _: &Vma, range: VirtRange) {
        assert!(self.is_gathering);
        self.gathers.last_mut().unwrap().0.push(range);
    }
    fn free_tables(&mut self, range: VirtRange, freeable: VirtRange) {
        let (unmapped, freed) = self.gathers.last_mut().unwrap();
        assert_eq!(unmapped[freed.len()], range, "one area after the other");
        freed.push(freeable);
    }
    fn end_unmap(&mut self) {
        assert!(std::mem::replace(&mut self.is_gathering, false));
    }
    fn copy(&mut self, parent: &Vma, child: &Vma) -> Result<(), MmError> {
        assert_eq!(parent.range, child.range);
        self.copied.push(child.start());
        Ok(())
    }
    fn protect(&mut self, _: &Vma, _: VirtRange) {}
    fn soft_dirty(&self) -> VmFlags {
        VmFlags::SOFTDIRTY
    }
    fn clear_marks(&mut self, areas: &mut dyn Iterator<Item = Vma>, mark: PageMark) {
        self.cleared.extend(areas.map(|vma| (mark, vma.start())));
    }
    fn relocate(&mut self, _: &Vma, _: VirtRange, _: &Vma, _: VirtAddr, room: u64) -> Result<(), MmError> {
        self.rooms.push(room);
        Ok(())
    }
    fn advise(&mut self, _: &Vma, _: VirtRange, advice: PageAdvice) -> Result<(), MmError> {
        self.advised.push(advice);
        Ok(())
    }
    fn populate(&mut self, _: &Vma, _: VirtRange, _: Access) -> Result<(), MmError> {
        Ok(())
    }
    fn residency(&mut self, _: &Vma, _: VirtRange, resident: &mut [u8]) {
        resident.fill(0);
    }
}

impl Pager for &mut Files {
    fn facts(&self, _: FileId) -> Result<FileFacts, MmError> {
        let traits = FileTraits::READ | FileTraits::WRITE | FileTraits::MMAP;
        Ok(FileFacts { traits, max_bytes: i64::MAX as u64 })
    }
    fn shared_anonymous(&mut self, _: u64, _: Reserve) -> Result<FileId, MmError> {
        let file = FileId::new(100 + self.users.len() as u64).unwrap();
        self.open(file);
        Ok(file)
    }
    fn open(&mut self, file: FileId) {
        *self.users.entry(file.raw()).or_default() += 1;
    }
    fn close(&mut self, file: FileId) {
        *self.users.entry(file.raw()).or_default() -= 1;
    }
    fn sync(&mut self, _: FileId, _: u64, _: u64) -> Result<(), MmError> {
        Ok(())
    }
    fn punch_hole(&mut self, _: FileId, _: u64, _: u64) -> Result<(), MmError> {
        Ok(())
    }
}

/// An address space with all that a call needs.
pub(crate) struct Space<'a, 'k> {
    pub(crate) spaces: &'a Spaces<'k>,
    pub(crate) cpu: &'a Cpu,
    pub(crate) mm: MmRef<'k>,
    pub(crate) process: Process,
    pub(crate) files: Files,
}

impl<'a, 'k> Space<'a, 'k> {
    pub(crate) fn new(spaces: &'a Spaces<'k>, cpu: &'a Cpu) -> Self {
        let layout = MmapLayout::new(spaces.settings(), Direction::TopDown, 8 << 20);
        let brk = VirtAddr::new(0x1000_0000);
        let program = ProgramRanges { start_brk: brk, brk, ..ProgramRanges::default() };
        let mm = spaces.mm_alloc(cpu, layout, program).unwrap();
        Self { spaces, cpu, mm, process: Process::default(), files: Files::default() }
    }

    pub(crate) fn call(&mut self) -> Call<'_, 'k, HeapMemory, NoPressure, &mut Files> {
        let backing = &mut self.files;
        Call { mm: self.mm.write(self.cpu), spaces: self.spaces, cpu: self.cpu, process: &self.process, backing }
    }

    /// Fills this address space as fork does.
    pub(crate) fn copy_of(&mut self, parent: &Space<'_, 'k>) -> Result<(), MmError> {
        let parent = parent.mm.write(self.cpu);
        let (mm, backing) = (self.mm.write_nested(self.cpu), &mut self.files);
        let mut call = Call { mm, spaces: self.spaces, cpu: self.cpu, process: &self.process, backing };
        call.duplicate_areas(&parent)
    }

    pub(crate) fn read(&self) -> MmRead<'_, 'k> {
        self.mm.read(self.cpu)
    }

    /// Checks what holds between any two calls: the tree, the counters, the promise, the users of files.
    pub(crate) fn check(&self) {
        let mm = self.read();
        mm.check_invariants().unwrap();
        let mut counters = VmCounters::default();
        let mut users = BTreeMap::new();
        let mut promised = 0;
        for vma in mm.areas() {
            counters.total += vma.nr_pages();
            counters.exec += if vma.flags.is_exec_mapping() { vma.nr_pages() } else { 0 };
            counters.data += if vma.flags.is_data_mapping() { vma.nr_pages() } else { 0 };
            counters.stack += if vma.flags.is_stack_mapping() { vma.nr_pages() } else { 0 };
            counters.locked += if vma.flags.contains(VmFlags::LOCKED) { vma.nr_pages() } else { 0 };
            promised += if vma.flags.contains(VmFlags::ACCOUNT) { vma.nr_pages() } else { 0 };
            if let Some(file) = vma.file {
                *users.entry(file.raw()).or_insert(0) += 1;
            }
        }
        counters.hiwater = mm.counters().hiwater;
        assert_eq!(*mm.counters(), counters);
        assert_eq!(self.spaces.overcommit().committed(), promised);
        let in_use: BTreeMap<u64, i64> =
            self.files.users.iter().filter(|(_, n)| **n != 0).map(|(f, n)| (*f, *n)).collect();
        assert_eq!(in_use, users);
    }
}

/// Private anonymous memory at a fixed place.
pub(crate) fn fixed(addr: u64, len: u64, prot: Prot) -> MapRequest {
    let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED;
    MapRequest { addr: VirtAddr::new(addr), len, prot, flags, file: None, offset: 0 }
}

/// Runs `test` on an address space of a machine with `settings`, then ends it; nothing may be left.
pub(crate) fn with_settings(settings: Settings, test: impl FnOnce(&mut Space<'_, '_>)) {
    let (objects, cpu) = objects(2048);
    let spaces = Spaces::new(&objects, &cpu, settings, CommitRules::for_ram(1 << 20)).unwrap();
    let mut space = Space::new(&spaces, &cpu);
    test(&mut space);
    space.check();
    space.call().exit();
    space.check();
    assert_eq!(space.read().nr_areas(), 0);
}

pub(crate) fn with_space(test: impl FnOnce(&mut Space<'_, '_>)) {
    with_settings(Settings::X86_64, test);
}
