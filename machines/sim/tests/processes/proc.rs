//! The /proc files of processes, against values worked out by hand.

use std::fmt;

use address_space::{
    AreaName, Direction, FileId, MapFlags, MapRequest, MmRef, MmapLayout, Process, ProgramRanges, Prot, Vma,
};
use kernel_mm::{AreaNames, CacheNames, FileLabel, FrameNumbers, ProcMm};
use page_cache::Seals;
use proc_files::maps::Device;
use proc_files::pagemap::{PageBits, PageLocation, PagemapEntry};
use proc_files::parse::{Maps, NumaMaps, Smaps, Status};
use proc_files::statm::Statm;
use proc_files::status::Task;
use proc_files::{Config, Profile, Release};
use sync::Cpu;
use units::{CpuId, NodeId, VirtAddr, VirtRange, VmFlags};

use super::{Manager, machine, manager, map};

const PAGE: u64 = 4096;
const CODE: u64 = 0x40_0000;
const HEAP: u64 = 0x60_0000;
const STACK: u64 = 0x7fff_f000_0000;
const VDSO: u64 = 0x7fff_f100_0000;

const INIT: Task<'static> = Task { umask: Some(0o22), fd_size: 64, ..Task::first("init") };

/// An embedder with one file system, which `library` lies in, and a vDSO.
struct Embedder {
    library: Option<FileId>,
}

impl AreaNames for Embedder {
    fn with_file(&self, file: FileId, show: &mut dyn FnMut(&FileLabel<'_>) -> fmt::Result) -> Option<fmt::Result> {
        let label = FileLabel { device: Device { major: 8, minor: 1 }, inode: 77, name: "/lib/a b=c (deleted)" };
        (self.library == Some(file)).then(|| show(&label))
    }

    fn special(&self, vma: &Vma) -> Option<&str> {
        (vma.start() == VirtAddr::new(VDSO)).then_some("[vdso]")
    }

    fn with_anon_name(&self, _: AreaName, _: &mut dyn FnMut(&str) -> fmt::Result) -> Option<fmt::Result> {
        None
    }
}

fn view<'a, 'k>(
    manager: &'a Manager<'k>,
    cpu: &'a Cpu,
    mm: &'a MmRef<'k>,
    names: &'a dyn AreaNames,
) -> ProcMm<'a, 'k, mmkit_sim::SimPlatform, page_allocator::NoPressure> {
    ProcMm { manager, cpu, mm, names, profile: Profile::new(Release::V6_12, Config::X86_64) }
}

fn text(write: impl FnOnce(&mut dyn fmt::Write) -> fmt::Result) -> String {
    let mut text = String::new();
    write(&mut text).unwrap();
    text
}

fn smaps(proc: &ProcMm<'_, '_, mmkit_sim::SimPlatform, page_allocator::NoPressure>) -> Smaps {
    let text = text(|out| proc.write_smaps(out));
    let parsed = Smaps::parse(&text).unwrap();
    assert_eq!((parsed.to_string(), parsed.nr_verbatim()), (text, 0));
    parsed
}

/// Returns fields of the area that begins at `start`; all others of `PAGES` have to be 0.
fn assert_pages(smaps: &Smaps, start: VirtAddr, expected: &[(&str, u64)]) {
    const PAGES: [&str; 17] = [
        "Rss",
        "Pss",
        "Pss_Dirty",
        "Shared_Clean",
        "Shared_Dirty",
        "Private_Clean",
        "Private_Dirty",
        "Referenced",
        "Anonymous",
        "KSM",
        "LazyFree",
        "AnonHugePages",
        "ShmemPmdMapped",
        "FilePmdMapped",
        "Swap",
        "SwapPss",
        "Locked",
    ];
    let area = smaps.areas().find(|area| area.area.range.start == start).unwrap();
    for name in PAGES {
        let wanted = expected.iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| *value);
        assert_eq!(area.get(name), Some(wanted), "{name} of {start:?}");
    }
}

/// Makes an address space with a program: a vDSO, a stack, a heap to come.
fn program<'k>(manager: &Manager<'k>, cpu: &Cpu) -> MmRef<'k> {
    let layout = MmapLayout::new(manager.spaces().settings(), Direction::TopDown, 8 << 20);
    let addr = VirtAddr::new;
    let ranges = ProgramRanges {
        code: VirtRange::new(addr(CODE + 0x100), addr(CODE + 0x1234)),
        start_stack: addr(STACK + 2 * PAGE - 64),
        start_brk: addr(HEAP),
        brk: addr(HEAP),
        ..ProgramRanges::default()
    };
    let mm = manager.mm_alloc(cpu, layout, ranges).unwrap();
    let data = VmFlags::READ | VmFlags::WRITE | VmFlags::MAYREAD | VmFlags::MAYWRITE | VmFlags::ACCOUNT;
    let areas = [
        (CODE, 3, VmFlags::READ | VmFlags::EXEC | VmFlags::MAYREAD | VmFlags::MAYEXEC),
        (STACK, 2, data | VmFlags::GROWSDOWN),
        (VDSO, 1, VmFlags::READ | VmFlags::EXEC | VmFlags::MAYREAD | VmFlags::DONTEXPAND),
    ];
    for (start, pages, flags) in areas {
        let range = VirtRange::with_len(addr(start), pages * PAGE);
        let vma = Vma { range, flags, pgoff: start >> 12, file: None, anon: None, uffd: 0, name: None };
        manager.call(cpu, &mm, &Process::default()).insert_area(&vma).unwrap();
    }
    mm
}

fn write<'k>(manager: &Manager<'k>, cpu: &Cpu, mm: &MmRef<'k>, start: VirtAddr, pages: u64) {
    for page in 0..pages {
        let addr = start.saturating_add(page * PAGE);
        manager.write_user(cpu, mm, &Process::default(), addr, b"x").unwrap();
    }
}

fn read<'k>(manager: &Manager<'k>, cpu: &Cpu, mm: &MmRef<'k>, addr: VirtAddr) {
    manager.read_user(cpu, mm, &Process::default(), addr, &mut [0]).unwrap();
}

#[test]
fn maps_names_heap_stack_files_and_what_the_embedder_names() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let mm = program(&manager, &cpu);
    let process = Process::default();
    manager.call(&cpu, &mm, &process).brk(VirtAddr::new(HEAP + 100));
    let files = manager.files(&cpu, &process);
    let library = files.create_memfd(b"unused", Seals::SEAL).unwrap();
    let log = files.create_memfd(b"a\nlog", Seals::SEAL).unwrap();
    for (file, at, offset) in [(library, 0x1000_0000, PAGE), (log, 0x2000_0000, 0)] {
        files.write(file, 0, &[1; 3 * PAGE as usize]).unwrap();
        let (addr, flags) = (VirtAddr::new(at), MapFlags::PRIVATE | MapFlags::FIXED);
        let request = MapRequest { addr, len: 2 * PAGE, prot: Prot::READ, flags, file: Some(file), offset };
        manager.call(&cpu, &mm, &process).mmap(&request).unwrap();
    }
    let embedder = Embedder { library: Some(library) };
    let proc = view(&manager, &cpu, &mm, &embedder);
    let maps = text(|out| proc.write_maps(out));
    let expected = format!(
        "00400000-00403000 r-xp 00000000 00:00 0 \n\
         00600000-00601000 rw-p 00000000 00:00 0                                  [heap]\n\
         10000000-10002000 r--p 00001000 08:01 77                                 /lib/a b=c (deleted)\n\
         20000000-20002000 r--p 00000000 00:01 {:<34} /memfd:a\\012log (deleted)\n\
         7ffff0000000-7ffff0002000 rw-p 00000000 00:00 0                          [stack]\n\
         7ffff1000000-7ffff1001000 r-xp 00000000 00:00 0                          [vdso]\n",
        log.raw()
    );
    assert_eq!(maps, expected);
    assert_eq!(Maps::parse(&maps).unwrap().nr_verbatim(), 0);
    let mut parts = String::new();
    let mut from = VirtAddr::ZERO;
    while let Some(next) = proc.write_next_map(&mut parts, from).unwrap() {
        from = next;
    }
    assert_eq!(parts, maps);
    let numa = text(|out| proc.write_numa_maps(out));
    let numa = NumaMaps::parse(&numa).unwrap();
    assert_eq!(numa.areas().nth(2).unwrap().text("file"), Some("/lib/a\\040b\\075c\\040(deleted)"));
    assert!(numa.areas().nth(1).unwrap().is("heap") && numa.areas().nth(4).unwrap().is("stack"));
    manager.mmput(&cpu, mm);
}

#[test]
fn pages_count_in_full_in_rss_and_by_their_share_in_pss() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let parent = program(&manager, &cpu);
    let process = Process::default();
    let private = map(&manager, &cpu, &parent, 16 * PAGE, MapFlags::PRIVATE | MapFlags::ANONYMOUS).unwrap();
    let shared = map(&manager, &cpu, &parent, 4 * PAGE, MapFlags::SHARED | MapFlags::ANONYMOUS).unwrap();
    write(&manager, &cpu, &parent, private, 3);
    // The page of zeros is nobody's.
    read(&manager, &cpu, &parent, private.saturating_add(8 * PAGE));
    write(&manager, &cpu, &parent, shared, 2);
    let alone = smaps(&view(&manager, &cpu, &parent, &CacheNames));
    let anon =
        [("Rss", 12), ("Pss", 12), ("Pss_Dirty", 12), ("Private_Dirty", 12), ("Referenced", 12), ("Anonymous", 12)];
    assert_pages(&alone, private, &anon);
    assert_pages(&alone, shared, &[("Rss", 8), ("Pss", 8), ("Pss_Dirty", 8), ("Private_Dirty", 8), ("Referenced", 8)]);
    let area = alone.areas().find(|area| area.area.range.start == private).unwrap();
    assert_eq!((area.get("Size"), area.get("KernelPageSize"), area.get("THPeligible")), (Some(64), Some(4), Some(0)));

    let children = [0, 1].map(|_| manager.dup_mm(&cpu, &parent, &process).unwrap());
    let among_three = smaps(&view(&manager, &cpu, &parent, &CacheNames));
    // Three times a third of a page is a little less than a page.
    let shares =
        [("Rss", 12), ("Pss", 3), ("Pss_Dirty", 3), ("Shared_Dirty", 12), ("Referenced", 12), ("Anonymous", 12)];
    assert_pages(&among_three, private, &shares);
    write(&manager, &cpu, &children[0], private, 1);
    let child = smaps(&view(&manager, &cpu, &children[0], &CacheNames));
    let area = child.areas().find(|area| area.area.range.start == private).unwrap();
    // One page of its own, and thirds of two.
    assert_eq!((area.get("Pss"), area.get("Private_Dirty"), area.get("Anonymous")), (Some(6), Some(4), Some(12)));
    let [first, second] = children;
    manager.mmput(&cpu, first);
    manager.mmput(&cpu, second);
    assert_pages(&smaps(&view(&manager, &cpu, &parent, &CacheNames)), private, &anon);
    manager.mmput(&cpu, parent);
}

#[test]
fn a_rollup_is_the_sum_of_all_areas() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let mm = program(&manager, &cpu);
    let locked = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::LOCKED;
    map(&manager, &cpu, &mm, 5 * PAGE, locked).unwrap();
    write(&manager, &cpu, &mm, VirtAddr::new(STACK), 2);
    read(&manager, &cpu, &mm, VirtAddr::new(CODE));
    let proc = view(&manager, &cpu, &mm, &CacheNames);
    let (all, rollup) = (smaps(&proc), text(|out| proc.write_smaps_rollup(out)));
    let rollup = Smaps::parse(&rollup).unwrap();
    let sum = rollup.areas().next().unwrap();
    assert_eq!((sum.area.name.as_str(), sum.area.range.start), ("[rollup]", VirtAddr::new(CODE)));
    assert_eq!(sum.area.range.end, all.areas().last().unwrap().area.range.end);
    for (name, total) in [("Rss", 28), ("Anonymous", 28), ("Locked", 20), ("Pss_Anon", 28), ("Pss_File", 0)] {
        assert_eq!(sum.get(name), Some(total), "{name}");
        if !name.starts_with("Pss_") {
            assert_eq!(all.areas().filter_map(|area| area.get(name)).sum::<u64>(), total, "{name}");
        }
    }
    manager.mmput(&cpu, mm);
}

#[test]
fn status_and_statm_tell_sizes_and_their_peaks() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let mm = program(&manager, &cpu);
    let process = Process::default();
    let private = map(&manager, &cpu, &mm, 16 * PAGE, MapFlags::PRIVATE | MapFlags::ANONYMOUS).unwrap();
    let shared = map(&manager, &cpu, &mm, 4 * PAGE, MapFlags::SHARED | MapFlags::ANONYMOUS).unwrap();
    write(&manager, &cpu, &mm, private, 10);
    write(&manager, &cpu, &mm, shared, 2);
    manager.call(&cpu, &mm, &process).munmap(private, 8 * PAGE).unwrap();
    write(&manager, &cpu, &mm, VirtAddr::new(STACK), 1);
    let proc = view(&manager, &cpu, &mm, &CacheNames);
    let status = text(|out| proc.write_status(out, &INIT));
    let parsed = Status::parse(&status).unwrap();
    assert_eq!((parsed.to_string(), parsed.nr_verbatim()), (status, 0));
    // 3 pages of code, 2 of stack, 1 of the vDSO, 16 private and 4 shared; 8 of the private went.
    let expected = [
        ("VmPeak", 104),
        ("VmSize", 72),
        ("VmLck", 0),
        ("VmHWM", 48),
        ("VmRSS", 20),
        ("RssAnon", 12),
        ("RssFile", 0),
        ("RssShmem", 8),
        ("VmData", 32),
        ("VmStk", 8),
        ("VmExe", 8),
        ("VmLib", 8),
        ("VmSwap", 0),
    ];
    for (name, kb) in expected {
        assert_eq!(parsed.number(name), Some(kb), "{name}");
    }
    assert_eq!(parsed.number("VmPTE"), Some(mm.tables().nr_tables() * 4));
    let statm = Statm { size: 18, resident: 5, shared: 2, text: 2, data: 10 };
    assert_eq!(Statm::parse(&proc.statm().to_string()), Ok(statm));
    let child = manager.dup_mm(&cpu, &mm, &process).unwrap();
    let status = text(|out| view(&manager, &cpu, &child, &CacheNames).write_status(out, &INIT));
    let parsed = Status::parse(&status).unwrap();
    // The peaks of a child begin anew, and pages that faults bring back are not copied.
    assert_eq!(
        (parsed.number("VmPeak"), parsed.number("VmHWM"), parsed.number("RssAnon")),
        (Some(72), Some(12), Some(12))
    );
    manager.mmput(&cpu, child);
    manager.mmput(&cpu, mm);
}

#[test]
fn a_moved_area_is_no_peak() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let mm = program(&manager, &cpu);
    let process = Process::default();
    let addr = map(&manager, &cpu, &mm, 16 * PAGE, MapFlags::PRIVATE | MapFlags::ANONYMOUS).unwrap();
    let flags = address_space::RemapFlags::MAYMOVE | address_space::RemapFlags::FIXED;
    let (old_len, new_addr) = (16 * PAGE, VirtAddr::new(0x3000_0000));
    let request = address_space::RemapRequest { addr, old_len, new_len: old_len, flags, new_addr };
    manager.call(&cpu, &mm, &process).mremap(&request).unwrap();
    assert_eq!(mm.read(&cpu).counters().peak(), 22);
    manager.call(&cpu, &mm, &process).munmap(new_addr, old_len).unwrap();
    let counters = *mm.read(&cpu).counters();
    assert_eq!((counters.total, counters.peak()), (6, 22));
    manager.mmput(&cpu, mm);
}

#[test]
fn pagemap_and_numa_maps_say_where_pages_are() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let mm = program(&manager, &cpu);
    let private = map(&manager, &cpu, &mm, 4 * PAGE, MapFlags::PRIVATE | MapFlags::ANONYMOUS).unwrap();
    let shared = map(&manager, &cpu, &mm, 4 * PAGE, MapFlags::SHARED | MapFlags::ANONYMOUS).unwrap();
    assert_eq!(shared.saturating_add(4 * PAGE), private);
    write(&manager, &cpu, &mm, private, 1);
    read(&manager, &cpu, &mm, private.saturating_add(2 * PAGE));
    write(&manager, &cpu, &mm, shared.saturating_add(3 * PAGE), 1);
    let proc = view(&manager, &cpu, &mm, &CacheNames);
    let mut entries = [u64::MAX; 10];
    proc.pagemap(shared.saturating_add(2 * PAGE), &mut entries, FrameNumbers::Hidden);
    let page = |bits| PagemapEntry { location: PageLocation::Present(units::Pfn::new(0)), bits }.to_bits();
    // Areas that are new count as written to, as do the pages that are not there.
    let new = PageBits::SOFT_DIRTY;
    let absent = PagemapEntry { location: PageLocation::None, bits: new }.to_bits();
    let (file, own) = (new | PageBits::FILE | PageBits::EXCLUSIVE, new | PageBits::EXCLUSIVE);
    assert_eq!(entries, [absent, page(file), page(own), absent, page(new), absent, 0, 0, 0, 0]);
    proc.pagemap(private, &mut entries, FrameNumbers::Shown);
    let PageLocation::Present(pfn) = PagemapEntry::from_bits(entries[0]).location else { panic!("a page") };
    assert_eq!(machine.pages().map().frames.at(pfn).mapcount(), 1);
    let numa = text(|out| proc.write_numa_maps(out));
    let numa = NumaMaps::parse(&numa).unwrap();
    let area = numa.areas().find(|area| area.start == private).unwrap();
    assert_eq!((area.policy.as_str(), area.number("anon"), area.number("dirty")), ("default", Some(1), Some(1)));
    assert_eq!(area.nodes().collect::<Vec<_>>(), [(NodeId::ZERO, 1)]);
    manager.mmput(&cpu, mm);
}
