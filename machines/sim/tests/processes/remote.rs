//! Memory of a process that is reached by force: what becomes of its pages and their entries.

use address_space::{ClearRefs, MapFlags, MapRequest, Process, Prot};
use kernel_mm::{BadUserAddress, Reach};
use page_cache::FileKind;
use units::{CpuId, VirtAddr};

use super::huge::{HUGE, START, map_large};
use super::{machine, manager, map, map_request, mm, read};

const PRIVATE: MapFlags = MapFlags::PRIVATE.union(MapFlags::ANONYMOUS);

#[test]
fn a_page_written_by_force_is_the_process_s_own_and_no_more_writable_than_before() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let (parent, process) = (mm(&manager, &cpu), Process::default());
    let at = map(&manager, &cpu, &parent, 4096, PRIVATE).unwrap();
    manager.write_user(&cpu, &parent, &process, at, b"before").unwrap();
    manager.call(&cpu, &parent, &process).mprotect(at, 4096, Prot::READ).unwrap();
    let child = manager.dup_mm(&cpu, &parent, &process).unwrap();
    manager.write_remote(&cpu, (&parent, &process), at, b"forced", Reach::Forced).unwrap();
    assert_eq!(read(&manager, &cpu, &parent, at), Ok(*b"forced"));
    assert_eq!(read(&manager, &cpu, &child, at), Ok(*b"before"), "the child has a page of its own");
    let refused = Err(BadUserAddress { done: 0 });
    assert_eq!(manager.write_user(&cpu, &parent, &process, at, b"refuse"), refused);
    assert_eq!(manager.write_remote(&cpu, (&parent, &process), at, b"refuse", Reach::Allowed), refused);
    manager.mmput(&cpu, parent);
    manager.mmput(&cpu, child);
}

#[test]
fn writing_a_file_s_private_page_by_force_leaves_the_file_alone() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let (mm, process) = (mm(&manager, &cpu), Process::default());
    let file = manager.files(&cpu, &process).create(FileKind::Regular, 4096).unwrap();
    manager.files(&cpu, &process).write(file, 0, b"before").unwrap();
    let map = |flags| {
        let (len, prot) = (4096, Prot::READ);
        map_request(
            &manager,
            &cpu,
            &mm,
            &MapRequest { addr: VirtAddr::ZERO, len, prot, flags, file: Some(file), offset: 0 },
        )
    };
    let (private, shared) = (map(MapFlags::PRIVATE), map(MapFlags::SHARED));
    assert_eq!(read(&manager, &cpu, &mm, private), Ok(*b"before"));
    manager.write_remote(&cpu, (&mm, &process), private, b"forced", Reach::Forced).unwrap();
    let refused = manager.write_remote(&cpu, (&mm, &process), shared, b"forced", Reach::Forced);
    assert_eq!(refused, Err(BadUserAddress { done: 0 }));
    assert_eq!(read(&manager, &cpu, &mm, private), Ok(*b"forced"));
    assert_eq!(read(&manager, &cpu, &mm, shared), Ok(*b"before"));
    assert_eq!((manager.rss(&mm).anon, manager.rss(&mm).file), (1, 1));
    manager.mmput(&cpu, mm);
}

#[test]
fn force_reaches_into_a_large_page_without_splitting_it() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let (mm, process) = (mm(&manager, &cpu), Process::default());
    map_large(&manager, &cpu, &mm, HUGE, 1);
    manager.call(&cpu, &mm, &process).mprotect(START, HUGE, Prot::empty()).unwrap();
    manager.call(&cpu, &mm, &process).clear_refs(ClearRefs::SoftDirty);
    let inside = START.saturating_add(5 * 4096 + 4090);
    manager.write_remote(&cpu, (&mm, &process), inside, b"across the border", Reach::Forced).unwrap();
    let mut bytes = [0; 17];
    manager.read_remote(&cpu, (&mm, &process), inside, &mut bytes, Reach::Forced).unwrap();
    assert_eq!(&bytes, b"across the border");
    assert_eq!(read(&manager, &cpu, &mm, inside), Err(BadUserAddress { done: 0 }));
    let (mut entries, mut all_large) = (0, true);
    manager.tables(&cpu, &mm).for_each_mapped(units::VirtRange::with_len(START, HUGE), |mapped| {
        (entries, all_large) = (entries + 1, all_large && mapped.order.raw() == 9);
    });
    assert_eq!((entries, all_large), (1, true));
    manager.mmput(&cpu, mm);
}
