//! A page wherever it is mapped.

use address_space::{Access, FileId, LockWhen, MapFlags, MapRequest, MmRef, Process, Prot, Reserve};
use frame_table::{PageFlags, PageRef};
use kernel_mm::UnmapError;
use mmkit_sim::SimMachine;
use page_cache::FileKind;
use sync::Cpu;
use units::{CpuId, Pfn, VirtAddr, VirtRange, VmFlags};

use super::{Manager, machine, manager, map, map_request, mm, read};

const PAGE: u64 = 4096;

/// Returns the frame that an address is mapped to, and what the mapping allows.
pub(crate) fn mapped<'k>(
    manager: &Manager<'k>,
    cpu: &Cpu,
    mm: &MmRef<'k>,
    addr: VirtAddr,
) -> Option<(Pfn, platform::Prot)> {
    let mut found = None;
    manager.tables(cpu, mm).for_each_mapped(VirtRange::with_len(addr, PAGE), |page| {
        found = Some((page.pfn, page.attributes.prot));
    });
    found
}

/// Returns the frame that an address is mapped to, which it is.
pub(crate) fn frame<'k>(manager: &Manager<'k>, cpu: &Cpu, mm: &MmRef<'k>, addr: VirtAddr) -> Pfn {
    mapped(manager, cpu, mm, addr).unwrap().0
}

pub(crate) fn hold(machine: &SimMachine, pfn: Pfn) -> PageRef {
    PageRef::try_get(&machine.pages().map().frames, pfn).unwrap()
}

/// Maps a page of a file in a process.
pub(crate) fn map_file<'k>(
    manager: &Manager<'k>,
    cpu: &Cpu,
    mm: &MmRef<'k>,
    file: FileId,
    flags: MapFlags,
) -> VirtAddr {
    let prot = Prot::READ | Prot::WRITE;
    map_request(
        manager,
        cpu,
        mm,
        &MapRequest { addr: VirtAddr::ZERO, len: PAGE, prot, flags, file: Some(file), offset: 0 },
    )
}

#[test]
fn use_of_an_anonymous_page_is_told_once_for_all_of_its_family() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let (parent, process) = (mm(&manager, &cpu), Process::default());
    let at = map(&manager, &cpu, &parent, 2 * PAGE, MapFlags::PRIVATE | MapFlags::ANONYMOUS).unwrap();
    manager.write_user(&cpu, &parent, &process, at, b"parent").unwrap();
    let child = manager.dup_mm(&cpu, &parent, &process).unwrap();
    read(&manager, &cpu, &child, at).unwrap();
    let page = hold(&machine, mapped(&manager, &cpu, &parent, at).unwrap().0);
    assert_eq!(mapped(&manager, &cpu, &child, at).unwrap().0, page.pfn());
    assert!(manager.referenced(&cpu, &page).entries >= 1);
    assert_eq!(manager.referenced(&cpu, &page).entries, 0);
    // The child's copy is another page; the parent's is shared no longer, and not used.
    manager.write_user(&cpu, &child, &process, at, b"child!").unwrap();
    assert_eq!(manager.referenced(&cpu, &page).entries, 0);
    let copy = hold(&machine, mapped(&manager, &cpu, &child, at).unwrap().0);
    manager.call(&cpu, &child, &process).mlock(at, PAGE, LockWhen::Now).unwrap();
    let references = manager.referenced(&cpu, &copy);
    assert_eq!((references.entries, references.flags.contains(VmFlags::LOCKED)), (1, true));
    assert_eq!(manager.referenced(&cpu, &copy).flags, VmFlags::LOCKED);
    assert_eq!(manager.try_to_unmap(&cpu, &copy), Err(UnmapError::Anonymous));
    machine.pages().put(&cpu, page);
    machine.pages().put(&cpu, copy);
    manager.mmput(&cpu, parent);
    manager.mmput(&cpu, child);
}

#[test]
fn a_clean_page_of_a_file_faults_at_the_next_write_in_every_shared_mapping() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let (process, writers) = (Process::default(), [mm(&manager, &cpu), mm(&manager, &cpu)]);
    let files = manager.files(&cpu, &process);
    let file = files.create(FileKind::Shmem(Reserve::OnUse), PAGE).unwrap();
    let shared = writers.each_ref().map(|mm| map_file(&manager, &cpu, mm, file, MapFlags::SHARED));
    let private = map_file(&manager, &cpu, &writers[0], file, MapFlags::PRIVATE);
    for (mm, &at) in writers.iter().zip(&shared) {
        manager.write_user(&cpu, mm, &process, at, b"shared").unwrap();
    }
    assert_eq!(read(&manager, &cpu, &writers[0], private), Ok(*b"shared"));
    let page = files.page(file, 0, Access::Read).unwrap();
    assert_eq!(manager.make_clean(&cpu, &page), 2);
    for (mm, &at) in writers.iter().zip(&shared) {
        let (pfn, prot) = mapped(&manager, &cpu, mm, at).unwrap();
        assert_eq!(
            (pfn, prot & (platform::Prot::WRITE | platform::Prot::DIRTY)),
            (page.pfn(), platform::Prot::empty())
        );
    }
    assert_eq!(manager.make_clean(&cpu, &page), 0);
    manager.write_user(&cpu, &writers[1], &process, shared[1], b"again!").unwrap();
    assert_eq!(read(&manager, &cpu, &writers[0], shared[0]), Ok(*b"again!"));
    assert_eq!(manager.make_clean(&cpu, &page), 1);
    machine.pages().put(&cpu, page);
    writers.into_iter().for_each(|mm| manager.mmput(&cpu, mm));
    files.put(file).unwrap();
}

#[test]
fn a_page_of_a_file_leaves_all_tables_but_those_of_locked_areas() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let (process, [first, second]) = (Process::default(), [mm(&manager, &cpu), mm(&manager, &cpu)]);
    let files = manager.files(&cpu, &process);
    let file = files.create(FileKind::Shmem(Reserve::OnUse), PAGE).unwrap();
    let shared = map_file(&manager, &cpu, &first, file, MapFlags::SHARED);
    let private = map_file(&manager, &cpu, &second, file, MapFlags::PRIVATE);
    manager.write_user(&cpu, &first, &process, shared, b"shared").unwrap();
    read(&manager, &cpu, &second, private).unwrap();
    let page = files.page(file, 0, Access::Read).unwrap();
    manager.call(&cpu, &second, &process).mlock(private, PAGE, LockWhen::Now).unwrap();
    // mlock wrote to the private mapping for the process: it has a copy of its own, which is another page.
    let copy = mapped(&manager, &cpu, &second, private).unwrap().0;
    assert_ne!(copy, page.pfn());
    assert_eq!(manager.try_to_unmap(&cpu, &page), Ok(()));
    assert_eq!((manager.rss(&first).shmem, manager.rss(&second).anon), (0, 1));
    assert_eq!(mapped(&manager, &cpu, &second, private).unwrap().0, copy);
    let frame = machine.pages().map().frames.at(page.pfn());
    assert_eq!((frame.mapcount(), frame.flags().contains(PageFlags::DIRTY)), (0, true));
    assert_eq!(read(&manager, &cpu, &first, shared), Ok(*b"shared"));
    manager.call(&cpu, &first, &process).mlock(shared, PAGE, LockWhen::Now).unwrap();
    assert_eq!(manager.try_to_unmap(&cpu, &page), Err(UnmapError::Locked));
    assert_eq!(manager.rss(&first).shmem, 1);
    machine.pages().put(&cpu, page);
    manager.mmput(&cpu, first);
    manager.mmput(&cpu, second);
    files.put(file).unwrap();
}
