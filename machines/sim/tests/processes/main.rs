//! Address spaces on the hosted machine: areas, page tables, faults, files and fork together.

mod huge;
mod kernel_writes;
mod migrate;
mod names;
mod pins;
mod proc;
mod remote;
mod reverse;
mod soft_dirty;

use address_space::{
    CommitRules, Direction, MapFlags, MapRequest, MmError, MmRef, MmapLayout, Process, ProgramRanges, Prot, Reserve,
    Settings,
};
use kernel_mm::{BadUserAddress, MemoryManager};
use mmkit_sim::description::{Arch, Machine};
use mmkit_sim::{SimMachine, SimOptions, SimPlatform};
use page_allocator::NoPressure;
use page_cache::FileKind;
use sync::Cpu;
use units::{CpuId, VirtAddr};

pub(crate) type Manager<'k> = MemoryManager<'k, SimPlatform, NoPressure>;

pub(crate) fn machine() -> SimMachine {
    booted("small")
}

/// Boots a machine with room for processes, one of the ready ones.
pub(crate) fn booted(name: &str) -> SimMachine {
    boot(&Machine::ready(name).unwrap())
}

fn boot(description: &Machine) -> SimMachine {
    let machine = SimMachine::boot(description, &SimOptions::default()).unwrap();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    machine.kernel().start_objects(&cpu).unwrap();
    drop(cpu);
    machine
}

pub(crate) fn manager<'k>(machine: &'k SimMachine, cpu: &Cpu) -> Manager<'k> {
    MemoryManager::new(machine.kernel().objects(), cpu, Settings::X86_64, CommitRules::for_ram(1 << 17)).unwrap()
}

fn mm<'k>(manager: &Manager<'k>, cpu: &Cpu) -> MmRef<'k> {
    let layout = MmapLayout::new(manager.spaces().settings(), Direction::TopDown, 8 << 20);
    manager.mm_alloc(cpu, layout, ProgramRanges::default()).unwrap()
}

pub(crate) fn map<'k>(
    manager: &Manager<'k>,
    cpu: &Cpu,
    mm: &MmRef<'k>,
    len: u64,
    flags: MapFlags,
) -> Result<VirtAddr, MmError> {
    let process = Process::default();
    let prot = Prot::READ | Prot::WRITE;
    let request = MapRequest { addr: VirtAddr::ZERO, len, prot, flags, file: None, offset: 0 };
    manager.call(cpu, mm, &process).mmap(&request)
}

fn read<'k>(manager: &Manager<'k>, cpu: &Cpu, mm: &MmRef<'k>, addr: VirtAddr) -> Result<[u8; 6], BadUserAddress> {
    let mut bytes = [0; 6];
    manager.read_user(cpu, mm, &Process::default(), addr, &mut bytes).map(|()| bytes)
}

fn map_request<'k>(manager: &Manager<'k>, cpu: &Cpu, mm: &MmRef<'k>, request: &MapRequest) -> VirtAddr {
    manager.call(cpu, mm, &Process::default()).mmap(request).unwrap()
}

#[test]
fn five_levels_give_addresses_above_the_window_to_who_asks_and_count_tables_as_four_do() {
    let machine = boot(&Machine { arch: Arch::X86_64La57, ..Machine::ready("small").unwrap() });
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let commit = CommitRules::for_ram(1 << 17);
    let manager = MemoryManager::new(machine.kernel().objects(), &cpu, Settings::X86_64_LA57, commit).unwrap();
    let parent = mm(&manager, &cpu);
    let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS;
    let mut nr_tables = 0;
    for (addr, is_above) in [(VirtAddr::ZERO, false), (VirtAddr::new(1 << 50), true)] {
        let request = MapRequest { addr, len: 4096, prot: Prot::READ | Prot::WRITE, flags, file: None, offset: 0 };
        let at = map_request(&manager, &cpu, &parent, &request);
        assert_eq!(at.raw() >= 1 << 47, is_above);
        manager.write_user(&cpu, &parent, &Process::default(), at, b"5level").unwrap();
        assert_eq!(read(&manager, &cpu, &parent, at), Ok(*b"5level"));
        nr_tables += 3;
        assert_eq!(parent.tables().nr_tables(), nr_tables, "PUD, PMD and PTE entries");
    }
    let child = manager.dup_mm(&cpu, &parent, &Process::default()).unwrap();
    manager.mmput(&cpu, parent);
    assert_eq!(read(&manager, &cpu, &child, VirtAddr::new(1 << 50)), Ok(*b"5level"));
    assert_eq!(child.tables().nr_tables(), nr_tables);
    manager.mmput(&cpu, child);
    machine.pages().check_invariants(&cpu).unwrap();
}

#[test]
fn what_a_process_writes_it_reads_and_its_child_keeps_its_own() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let before = machine.pages().check_invariants(&cpu).unwrap();
    let parent = mm(&manager, &cpu);
    let process = Process::default();
    let private = map(&manager, &cpu, &parent, 1 << 20, MapFlags::PRIVATE | MapFlags::ANONYMOUS).unwrap();
    let shared = map(&manager, &cpu, &parent, 1 << 16, MapFlags::SHARED | MapFlags::ANONYMOUS).unwrap();
    let across = private.saturating_add(4096 - 3);
    manager.write_user(&cpu, &parent, &process, across, b"parent").unwrap();
    manager.write_user(&cpu, &parent, &process, shared, b"shared").unwrap();
    assert_eq!(read(&manager, &cpu, &parent, across), Ok(*b"parent"));
    let rss = manager.rss(&parent);
    assert_eq!((rss.anon, rss.shmem, rss.file), (2, 1, 0));
    let child = manager.dup_mm(&cpu, &parent, &process).unwrap();
    manager.write_user(&cpu, &child, &process, across, b"child!").unwrap();
    manager.write_user(&cpu, &child, &process, shared, b"both!!").unwrap();
    assert_eq!(
        (read(&manager, &cpu, &parent, across), read(&manager, &cpu, &child, across)),
        (Ok(*b"parent"), Ok(*b"child!"))
    );
    assert_eq!(read(&manager, &cpu, &parent, shared), Ok(*b"both!!"));
    manager.call(&cpu, &parent, &process).munmap(private, 1 << 20).unwrap();
    assert!(read(&manager, &cpu, &parent, across).is_err());
    assert_eq!(read(&manager, &cpu, &child, across), Ok(*b"child!"));
    manager.mmput(&cpu, parent);
    manager.mmput(&cpu, child);
    machine.pages().drain_local_pages(&cpu);
    let slack = 80;
    let after = machine.pages().check_invariants(&cpu).unwrap();
    assert!(before - after < slack, "{before} free pages before, {after} after: slabs stay, pages do not");
}

#[test]
fn pages_behind_the_end_of_a_truncated_file_leave_every_process() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let process = Process::default();
    let files = manager.mapped_files(&cpu, &process);
    let file = files.files().create(FileKind::Shmem(Reserve::OnUse), 4 << 12).unwrap();
    let (first, second) = (mm(&manager, &cpu), mm(&manager, &cpu));
    let request = |flags| {
        let prot = Prot::READ | Prot::WRITE;
        MapRequest { addr: VirtAddr::ZERO, len: 4 << 12, prot, flags, file: Some(file), offset: 0 }
    };
    let shared = map_request(&manager, &cpu, &first, &request(MapFlags::SHARED));
    let private = map_request(&manager, &cpu, &second, &request(MapFlags::PRIVATE));
    for page in 0..4 {
        manager.write_user(&cpu, &first, &process, shared.saturating_add(page << 12), b"shared").unwrap();
    }
    manager.write_user(&cpu, &second, &process, private.saturating_add(3 << 12), b"secret").unwrap();
    read(&manager, &cpu, &second, private.saturating_add(2 << 12)).unwrap();
    files.set_size(file, (2 << 12) + 3).unwrap();
    assert_eq!((manager.rss(&first).shmem, manager.rss(&second).anon), (3, 0));
    assert_eq!(read(&manager, &cpu, &first, shared.saturating_add(2 << 12)), Ok(*b"sha\0\0\0"));
    assert!(read(&manager, &cpu, &first, shared.saturating_add(3 << 12)).is_err());
    assert!(read(&manager, &cpu, &second, private.saturating_add(3 << 12)).is_err());
    files.punch_hole(file, 0, 1 << 12).unwrap();
    assert_eq!(read(&manager, &cpu, &first, shared), Ok([0; 6]));
    manager.mmput(&cpu, first);
    manager.mmput(&cpu, second);
    files.files().put(file).unwrap();
}
