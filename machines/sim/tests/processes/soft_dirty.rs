//! Which pages were written to since clear_refs: what /proc/PID/pagemap and smaps tell, and that each costs one fault.

use address_space::{Access, Advice, ClearRefs, MapFlags, MmRef, Process, RemapFlags, RemapRequest};
use kernel_mm::{CacheNames, Dirtied, FrameNumbers, ProcMm};
use object_allocator::vmstat::VmEvent;
use proc_files::pagemap::{PageBits, PagemapEntry};
use proc_files::{Config, Profile, Release};
use sync::Cpu;
use units::{CpuId, VirtAddr};

use super::huge::{HUGE, START, map_large};
use super::{Manager, machine, manager, map, mm, read};

const PAGE: u64 = 4096;
const PRIVATE: MapFlags = MapFlags::PRIVATE.union(MapFlags::ANONYMOUS);
const SHARED: MapFlags = MapFlags::SHARED.union(MapFlags::ANONYMOUS);

/// A process, and the calls that these tests make on it.
struct Program<'a, 'k> {
    manager: &'a Manager<'k>,
    cpu: &'a Cpu,
    mm: MmRef<'k>,
}

impl<'a, 'k> Program<'a, 'k> {
    fn new(manager: &'a Manager<'k>, cpu: &'a Cpu) -> Self {
        Self { manager, cpu, mm: mm(manager, cpu) }
    }

    fn map(&self, pages: u64, flags: MapFlags) -> VirtAddr {
        map(self.manager, self.cpu, &self.mm, pages * PAGE, flags).unwrap()
    }

    fn clear(&self, what: ClearRefs) {
        self.manager.call(self.cpu, &self.mm, &Process::default()).clear_refs(what);
    }

    /// Writes to a page; returns how many faults that took.
    fn write(&self, at: VirtAddr, page: u64) -> u64 {
        let faults = || self.manager.objects().vmstat().events(VmEvent::Pgfault);
        let before = faults();
        let at = at.saturating_add(page * PAGE);
        self.manager.write_user(self.cpu, &self.mm, &Process::default(), at, b"wrote!").unwrap();
        faults() - before
    }

    fn write_all(&self, at: VirtAddr, pages: u64) {
        for page in 0..pages {
            self.write(at, page);
        }
    }

    fn read(&self, at: VirtAddr, page: u64) {
        read(self.manager, self.cpu, &self.mm, at.saturating_add(page * PAGE)).unwrap();
    }

    fn proc(&self) -> ProcMm<'_, 'k, mmkit_sim::SimPlatform, page_allocator::NoPressure> {
        let profile = Profile::new(Release::V6_12, Config::X86_64);
        ProcMm { manager: self.manager, cpu: self.cpu, mm: &self.mm, names: &CacheNames, profile }
    }

    /// Returns the numbers of the pages from `at` on that count as written to.
    fn written(&self, at: VirtAddr, pages: usize) -> Vec<usize> {
        let mut entries = vec![0; pages];
        self.proc().pagemap(at, &mut entries, FrameNumbers::Hidden);
        let is_written = |entry: u64| PagemapEntry::from_bits(entry).bits.contains(PageBits::SOFT_DIRTY);
        (0..pages).filter(|&page| is_written(entries[page])).collect()
    }

    /// Returns the texts of maps, and the number of areas with `sd` in smaps.
    fn maps(&self) -> (String, usize) {
        let (mut maps, mut smaps) = (String::new(), String::new());
        self.proc().write_maps(&mut maps).unwrap();
        self.proc().write_smaps(&mut smaps).unwrap();
        let is_new = |line: &&str| line.starts_with("VmFlags:") && line.split(' ').any(|flag| flag == "sd");
        (maps, smaps.lines().filter(is_new).count())
    }

    fn end(self) {
        self.manager.mmput(self.cpu, self.mm);
    }
}

fn with_program(test: impl FnOnce(&Program<'_, '_>)) {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let program = Program::new(&manager, &cpu);
    test(&program);
    program.end();
}

#[test]
fn pages_that_are_written_after_the_clearing_are_found_and_no_others() {
    for flags in [PRIVATE, SHARED] {
        with_program(|program| {
            let at = program.map(16, flags);
            program.write_all(at, 8);
            (8..12).for_each(|page| program.read(at, page));
            assert_eq!(program.written(at, 16), (0..16).collect::<Vec<_>>());
            let (maps, new) = program.maps();
            assert_eq!(new, 1);
            program.clear(ClearRefs::SoftDirty);
            assert_eq!(program.maps(), (maps.clone(), 0));
            assert_eq!(program.written(at, 16), []);
            (0..16).for_each(|page| program.read(at, page));
            assert_eq!(program.written(at, 16), [], "reading marks nothing");
            for page in [0, 3, 9, 14] {
                assert_eq!((program.write(at, page), program.write(at, page)), (1, 0));
            }
            assert_eq!(program.written(at, 16), [0, 3, 9, 14]);
            assert_eq!(program.maps(), (maps, 0));
        });
    }
}

#[test]
fn a_child_and_a_moved_page_tell_of_writes_before() {
    with_program(|program| {
        let at = program.map(16, PRIVATE);
        program.write_all(at, 16);
        program.clear(ClearRefs::SoftDirty);
        program.write(at, 2);
        let mm = program.manager.dup_mm(program.cpu, &program.mm, &Process::default()).unwrap();
        let child = Program { mm, ..*program };
        assert_eq!(child.written(at, 16), [2]);
        child.write(at, 5);
        assert_eq!((child.written(at, 16), program.written(at, 16)), (vec![2, 5], vec![2]));
        child.end();
        let new_addr = VirtAddr::new(0x3000_0000);
        let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
        let request = RemapRequest { addr: at, old_len: 4 * PAGE, new_len: 4 * PAGE, flags, new_addr };
        program.manager.call(program.cpu, &program.mm, &Process::default()).mremap(&request).unwrap();
        assert_eq!(program.written(new_addr, 4), [0, 1, 2, 3]);
    });
}

#[test]
fn a_large_page_is_one_page_until_it_is_split() {
    with_program(|program| {
        map_large(program.manager, program.cpu, &program.mm, HUGE, 1);
        program.clear(ClearRefs::SoftDirty);
        assert_eq!(program.written(START, 512), []);
        assert_eq!(program.write(START, 7), 1);
        assert_eq!(program.written(START, 512).len(), 512);
        program.clear(ClearRefs::SoftDirty);
        let process = Process::default();
        let call = || program.manager.call(program.cpu, &program.mm, &process);
        call().madvise(START, PAGE, Advice::DontNeed).unwrap();
        assert_eq!(program.written(START, 512), (1..512).collect::<Vec<_>>(), "its parts are dirty");
    });
}

#[test]
fn the_mark_of_a_pinned_page_stays() {
    with_program(|program| {
        let at = program.map(2, PRIVATE);
        program.write(at, 0);
        program.write(at, 1);
        let mut pages = [None];
        let (manager, cpu, process) = (program.manager, program.cpu, Process::default());
        assert_eq!(manager.pin_user_pages(cpu, &program.mm, &process, at, Access::Write, &mut pages), Ok(1));
        program.clear(ClearRefs::SoftDirty);
        assert_eq!(program.written(at, 2), [0]);
        pages.into_iter().flatten().for_each(|page| manager.unpin_user_page(cpu, page, Dirtied::Yes));
        program.clear(ClearRefs::SoftDirty);
        assert_eq!(program.written(at, 2), []);
    });
}

#[test]
fn marks_of_use_and_the_peak_are_taken_back_by_their_own_numbers() {
    with_program(|program| {
        let (own, shared) = (program.map(4, PRIVATE), program.map(4, SHARED));
        program.write_all(own, 4);
        program.write_all(shared, 4);
        let referenced = || {
            let mut text = String::new();
            program.proc().write_smaps_rollup(&mut text).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("Referenced:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        assert_eq!(referenced(), 32);
        program.clear(ClearRefs::Anon);
        assert_eq!(referenced(), 16);
        program.clear(ClearRefs::Mapped);
        assert_eq!(referenced(), 0);
        program.read(own, 0);
        program.clear(ClearRefs::All);
        assert_eq!((referenced(), program.written(own, 4)), (0, vec![0, 1, 2, 3]));
        let process = Process::default();
        let call = || program.manager.call(program.cpu, &program.mm, &process);
        call().munmap(own, 4 * PAGE).unwrap();
        assert_eq!(program.mm.tables().peak_rss(), 8);
        program.clear(ClearRefs::MmHiwaterRss);
        assert_eq!(program.mm.tables().peak_rss(), 4);
    });
}
