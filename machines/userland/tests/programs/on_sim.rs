//! Programs on the hosted machine: its page tables, its page cache, its faults. No instruction of a program runs; its calls and accesses do.

use address_space::Access;
use units::{CpuId, VirtAddr};
use userland::{ManagedMemory, Memory, Step, Trap};

use crate::abi::{
    EACCES, EBADF, EBUSY, EFAULT, EFBIG, EINVAL, EOPNOTSUPP, EPERM, ERANGE, EXIT_GROUP, F_ADD_SEALS, F_GET_SEALS,
    FALLOCATE, FCNTL, FORK, FTRUNCATE, FUTEX, MEMBARRIER, MEMFD_CREATE, MMAP, MPROTECT, MUNMAP, OPEN, PREAD64, READ,
    SCHED_YIELD, WRITE,
};
use crate::common::{DATA, Host, Task, machine};
use crate::hostile;

/// Seeds of random calls.
const RUNS: u64 = 20;

/// Reaches for an address as the program would; true if it can go on.
fn touch<M: Memory>(host: &Host<'_, M>, task: &mut Task<M>, addr: u64, access: Access) -> bool {
    let trap = Trap::PageFault { addr: VirtAddr::new(addr), access, is_fetch: false, is_present: false };
    matches!(host.userland.trap(host.cpu, task, trap), Step::Run)
}

#[test]
fn a_program_maps_touches_protects_and_unmaps() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let area = host.call(&mut task, MMAP, &[0, 0x4000, 3, 0x22, u64::MAX, 0]) as u64;
    assert!(touch(&host, &mut task, area, Access::Write));
    host.poke(&task, area + 0x1ffe, b"across");
    assert_eq!(host.peek(&task, area + 0x1ffe, 6), b"across");
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    host.poke(&task, area, b"parent");
    let child = host.run();
    assert_eq!(host.peek(&child, area, 6), [0; 6]);
    host.leave(child, EXIT_GROUP, &[0]);
    assert_eq!(host.call(&mut task, MPROTECT, &[area, 0x1000, 1]), 0);
    let path = host.text(&task, DATA, "/etc/note");
    let fd = host.call(&mut task, OPEN, &[path, 0]) as u64;
    assert_eq!(host.call(&mut task, READ, &[fd, area, 5]), EFAULT);
    // The position stays where it was.
    assert_eq!(host.call(&mut task, READ, &[fd, area + 0x1000, 5]), 5);
    assert_eq!(host.call(&mut task, MUNMAP, &[area, 0x4000]), 0);
    assert_eq!(host.call(&mut task, WRITE, &[1, area, 1]), EFAULT);
    let maps = host.text(&task, DATA, "/proc/self/maps");
    let fd = host.call(&mut task, OPEN, &[maps, 0]) as u64;
    let count = host.call(&mut task, READ, &[fd, DATA + 0x100, 0xf00]);
    let text = String::from_utf8(host.peek(&task, DATA + 0x100, count as usize)).unwrap();
    assert!(text.starts_with("00401000-00402000 r-xp") && text.contains("[stack]"), "{text}");
    assert!(!touch(&host, &mut task, area, Access::Read), "nothing handles the signal");
}

#[test]
fn no_call_with_any_arguments_ends_the_machine() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    for seed in 1..=RUNS {
        let (host, task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
        hostile::run(&host, task, seed);
        machine.pages().check_invariants(&cpu).unwrap();
    }
}

#[test]
fn a_file_opened_for_reading_is_never_written_through_a_shared_mapping() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let path = host.text(&task, DATA, "/etc/note");
    let fd = host.call(&mut task, OPEN, &[path, 0]) as u64;
    assert_eq!(host.call(&mut task, MMAP, &[0, 0x1000, 2, 1, fd, 0]), EACCES);
    let shared = host.call(&mut task, MMAP, &[0, 0x1000, 1, 1, fd, 0]) as u64;
    assert_eq!(host.call(&mut task, MPROTECT, &[shared, 0x1000, 3]), EACCES);
    let private = host.call(&mut task, MMAP, &[0, 0x1000, 1, 2, fd, 0]) as u64;
    assert_eq!(host.call(&mut task, MPROTECT, &[private, 0x1000, 3]), 0);
}

#[test]
fn a_program_finds_the_pages_that_it_wrote_since_it_asked() {
    const MARK: u64 = 1 << 55;
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let area = host.call(&mut task, MMAP, &[0, 0x8000, 3, 0x22, u64::MAX, 0]) as u64;
    for page in 0..6 {
        host.poke(&task, area + page * 0x1000, b"before");
    }
    let text = |host: &Host<'_, _>, task: &mut Task<_>, path| {
        let path = host.text(task, DATA, path);
        let fd = host.call(task, OPEN, &[path, 0]) as u64;
        let count = host.call(task, READ, &[fd, DATA + 0x100, 0xe00]);
        host.peek(task, DATA + 0x100, count as usize)
    };
    let maps = text(&host, &mut task, "/proc/self/maps");
    let path = host.text(&task, DATA, "/proc/self/pagemap");
    let pagemap = host.call(&mut task, OPEN, &[path, 0]) as u64;
    let path = host.text(&task, DATA, "/proc/self/clear_refs");
    let both = host.call(&mut task, OPEN, &[path, 2]) as u64;
    assert_eq!(host.call(&mut task, READ, &[both, DATA, 1]), EINVAL);
    let clear = host.call(&mut task, OPEN, &[path, 1]) as u64;
    let written = |task: &mut Task<_>| {
        let at = DATA + 0x800;
        assert_eq!(host.call(task, PREAD64, &[pagemap, at, 64, area / 0x1000 * 8]), 64);
        let entries = host.peek(task, at, 64);
        let entry = |page: usize| u64::from_le_bytes(entries[page * 8..][..8].try_into().unwrap());
        (0..8).filter(|&page| entry(page) & MARK != 0).collect::<Vec<_>>()
    };
    assert_eq!(written(&mut task), [0, 1, 2, 3, 4, 5, 6, 7]);
    for (bytes, expected) in [("4", 1), ("7", EINVAL), ("99999999999", ERANGE), ("4 and much more", EINVAL)] {
        let from = host.text(&task, DATA, bytes);
        assert_eq!(host.call(&mut task, WRITE, &[clear, from, bytes.len() as u64]), expected, "{bytes}");
    }
    assert_eq!(written(&mut task), [] as [usize; 0]);
    host.poke(&task, area + 0x1ffe, b"across");
    assert!(touch(&host, &mut task, area + 0x7000, Access::Write));
    assert_eq!(host.peek(&task, area + 0x4000, 6), b"before");
    assert_eq!(written(&mut task), [1, 2, 7]);
    assert_eq!(text(&host, &mut task, "/proc/self/maps"), maps);
}

#[test]
fn a_word_in_a_shared_mapping_is_one_word_to_all_who_see_it() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let word = host.call(&mut task, MMAP, &[0, 0x1000, 3, 0x21, u64::MAX, 0]) as u64 + 8;
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    host.leave(task, FUTEX, &[word, 0, 0, 0, 0, 0]);
    let mut child = host.run();
    // As a private word it is another.
    assert_eq!(host.call(&mut child, FUTEX, &[word, 0x81, 1, 0, 0, 0]), 0);
    assert_eq!(host.call(&mut child, FUTEX, &[word, 1, 1, 0, 0, 0]), 1);
    host.leave(child, EXIT_GROUP, &[0]);
    assert_eq!(host.run().registers.rax, 0);
}

#[test]
fn a_memfd_has_pages_behind_its_end_until_the_end_is_set() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let name = host.text(&task, DATA, "long");
    let fd = host.call(&mut task, MEMFD_CREATE, &[name, 0]) as u64;
    assert_eq!(host.call(&mut task, WRITE, &[fd, name, 3]), 3);
    let pages = || {
        let mut text = String::new();
        host.userland.memory().write_machine_file(&cpu, "vmstat", &mut text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("nr_shmem ")).unwrap();
        line.parse::<u64>().unwrap()
    };
    let before = pages();
    assert_eq!(host.call(&mut task, FALLOCATE, &[fd, 1, 0, 0x100_0000]), 0);
    assert_eq!(pages() - before, 0xfff, "the pages are there");
    assert_eq!(host.call(&mut task, PREAD64, &[fd, DATA + 0x100, 9, 0]), 3);
    for (mode, offset, bytes, wanted) in [
        (1, u64::MAX >> 1, 2, EFBIG),
        (2, 0, 1, EOPNOTSUPP),
        (1 << 30, 0, 1, EOPNOTSUPP),
        (1 << 30, 0, 0, EINVAL),
        (0, u64::MAX, 1, EINVAL),
    ] {
        assert_eq!(host.call(&mut task, FALLOCATE, &[fd, mode, offset, bytes]), wanted);
    }
    assert_eq!(host.call(&mut task, FALLOCATE, &[99, 0, 0, 0]), EBADF);
    assert_eq!(host.call(&mut task, FTRUNCATE, &[fd, 3]), 0);
    assert_eq!(pages(), before, "they went with the end, set anew");
}

#[test]
fn barriers_are_registered_before_they_are_made_and_there_are_none_for_sequences() {
    let (host, mut task) = Host::boot();
    let mut barrier = |command: u64, flags: u64| host.call(&mut task, MEMBARRIER, &[command, flags, 0]);
    assert_eq!((barrier(0, 0), barrier(0, 1), barrier(512, 0), barrier(512, 1)), (0x21f, EINVAL, 0, EINVAL));
    assert_eq!((barrier(1, 0), barrier(2, 0), barrier(8, 0)), (0, 0, EPERM));
    assert_eq!((barrier(16, 0), barrier(8, 0), barrier(512, 0)), (0, 0, 16));
    assert_eq!((barrier(4, 0), barrier(512, 0)), (0, 20));
    for command in [32, 64, 128, 256, 1024, 3] {
        assert_eq!((barrier(command, 0), barrier(command, 1)), (EINVAL, EINVAL), "{command}");
    }
}

#[test]
fn a_memfd_is_sealed_once_nobody_can_write_through_a_mapping() {
    const WRITE_SEAL: u64 = 8;
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let name = host.text(&task, DATA, "sealed");
    let fd = host.call(&mut task, MEMFD_CREATE, &[name, 2]) as u64;
    assert_eq!(host.call(&mut task, FALLOCATE, &[fd, 0, 0, 0x3000]), 0);
    let area = host.call(&mut task, MMAP, &[0, 0x3000, 3, 1, fd, 0]) as u64;
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    assert_eq!(host.call(&mut task, MUNMAP, &[area + 0x1000, 0x1000]), 0);
    assert_eq!(host.call(&mut task, FCNTL, &[fd, F_ADD_SEALS, WRITE_SEAL]), EBUSY);
    assert_eq!(host.call(&mut task, MUNMAP, &[area, 0x3000]), 0);
    assert_eq!(host.call(&mut task, FCNTL, &[fd, F_ADD_SEALS, WRITE_SEAL]), EBUSY, "the child maps it");
    host.leave(task, SCHED_YIELD, &[]);
    host.leave(host.run(), EXIT_GROUP, &[0]);
    let mut task = host.run();
    assert_eq!(host.call(&mut task, FCNTL, &[fd, F_ADD_SEALS, WRITE_SEAL]), 0);
    assert_eq!(host.call(&mut task, FCNTL, &[fd, F_GET_SEALS, 0]), WRITE_SEAL as i64);
    assert_eq!(host.call(&mut task, WRITE, &[fd, DATA, 1]), EPERM);
    assert_eq!(host.call(&mut task, MMAP, &[0, 0x1000, 3, 1, fd, 0]), EPERM);
}
