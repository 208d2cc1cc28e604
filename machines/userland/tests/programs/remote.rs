//! What one process does to another's memory. Numbers and their order are those of the same calls on Linux.

use units::CpuId;
use userland::{ManagedMemory, Memory};

use crate::abi::{
    CLOSE, EBADF, EFAULT, EINVAL, EIO, ENOMEM, ESRCH, EXIT_GROUP, FORK, KILL, MADV_COLD, MADV_DONTNEED, MMAP, MPROTECT,
    MUNMAP, OPEN, PIDFD_OPEN, PREAD64, PROCESS_MADVISE, PROCESS_MRELEASE, PROCESS_VM_READV, PROCESS_VM_WRITEV,
    PWRITE64, READ, READV, SCHED_YIELD, SIGKILL, WAIT4,
};
use crate::common::{DATA, Host, Task, machine};

const PAGE: u64 = 0x1000;

/// Lets the others run; returns when it is this one's turn again.
pub(crate) fn yield_to_child<M: Memory>(host: &Host<'_, M>, task: Task<M>) -> (Task<M>, Task<M>) {
    host.leave(task, SCHED_YIELD, &[]);
    let child = host.run();
    host.leave(child, SCHED_YIELD, &[]);
    let task = host.run();
    let child = host.run();
    assert_eq!((task.tid(), child.tid()), (1, 2));
    (task, child)
}

#[test]
fn advice_to_another_process_is_checked_in_linux_s_order() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let area = host.call(&mut task, MMAP, &[0, 4 * PAGE, 3, 0x22, u64::MAX, 0]) as u64;
    host.poke(&task, area, b"kept");
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    let pidfd = host.call(&mut task, PIDFD_OPEN, &[2, 0]) as u64;
    let (whole, unmapped) = ([area, PAGE], [0x1000, PAGE]);
    let (odd, far, negative) = ([area + 1, PAGE], [u64::MAX - 4095, PAGE], [area, u64::MAX]);
    let mut advise = |pidfd: u64, parts: &[[u64; 2]], advice: u64, flags: u64| {
        let at = host.words(&task, DATA, parts.as_flattened());
        host.call(&mut task, PROCESS_MADVISE, &[pidfd, at, parts.len() as u64, advice, flags])
    };
    assert_eq!(advise(pidfd, &[whole], MADV_COLD, 1), EINVAL);
    assert_eq!(advise(99, &[negative], 9999, 0), EINVAL);
    assert_eq!(advise(99, &[far], 9999, 0), EFAULT, "parts come before the descriptor");
    assert_eq!(advise(99, &[whole], 9999, 0), EBADF, "the descriptor before the advice");
    assert_eq!(advise(1, &[whole], 9999, 0), EBADF);
    for advice in [9999, MADV_DONTNEED, 0, 8, 14] {
        assert_eq!(advise(pidfd, &[whole], advice, 0), EINVAL);
        assert_eq!(advise(pidfd, &[], advice, 0), EINVAL, "also without a range");
    }
    assert_eq!(advise(pidfd, &[], MADV_COLD, 0), 0);
    for advice in [MADV_COLD, 21, 3] {
        assert_eq!(advise(pidfd, &[whole, [area + PAGE, 2 * PAGE]], advice, 0), 3 * PAGE as i64);
    }
    assert_eq!(advise(pidfd, &[odd], MADV_COLD, 0), EINVAL);
    assert_eq!(advise(pidfd, &[unmapped], MADV_COLD, 0), ENOMEM);
    assert_eq!(advise(pidfd, &[whole, unmapped], MADV_COLD, 0), PAGE as i64);
    assert_eq!(host.peek(&task, area, 4), b"kept");
    // The child's areas count, not the caller's.
    assert_eq!(host.call(&mut task, MUNMAP, &[area, 4 * PAGE]), 0);
    host.words(&task, DATA, &whole);
    assert_eq!(host.call(&mut task, PROCESS_MADVISE, &[pidfd, DATA, 1, MADV_COLD, 0]), PAGE as i64);
}

#[test]
fn a_process_that_ended_has_no_memory_to_advise_on() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    let pidfd = host.call(&mut task, PIDFD_OPEN, &[2, 0]) as u64;
    let parts = host.words(&task, DATA, &[DATA & !(PAGE - 1), PAGE]);
    host.leave(task, SCHED_YIELD, &[]);
    host.leave(host.run(), EXIT_GROUP, &[0]);
    let mut task = host.run();
    assert_eq!(host.call(&mut task, PROCESS_MADVISE, &[pidfd, parts, 1, MADV_COLD, 0]), ESRCH);
    assert_eq!(host.call(&mut task, PROCESS_MADVISE, &[pidfd, parts, 1, 9999, 0]), EINVAL);
    assert_eq!(host.call(&mut task, PROCESS_VM_READV, &[2, parts, 1, parts, 1, 0]), ESRCH);
    assert_eq!(host.call(&mut task, WAIT4, &[2, 0, 0, 0]), 2);
    assert_eq!(host.call(&mut task, PROCESS_MADVISE, &[pidfd, parts, 1, 9999, 0]), ESRCH);
}

#[test]
fn bytes_move_between_processes_up_to_the_first_that_cannot_be_reached() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let area = host.call(&mut task, MMAP, &[0, 3 * PAGE, 3, 0x22, u64::MAX, 0]) as u64;
    assert_eq!(host.call(&mut task, MUNMAP, &[area + 2 * PAGE, PAGE]), 0);
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    let (mut task, child) = yield_to_child(&host, task);
    let across = area + PAGE - 3;
    host.poke(&child, across, b"of the child");
    let mut read = |call: u64, own: &[[u64; 2]], other: &[[u64; 2]]| {
        let (from, to) =
            (host.words(&task, DATA, own.as_flattened()), host.words(&task, DATA + 0x100, other.as_flattened()));
        host.call(&mut task, call, &[2, from, own.len() as u64, to, other.len() as u64, 0])
    };
    let here = DATA + 0x400;
    assert_eq!(read(PROCESS_VM_READV, &[[here, 5], [here + 8, 7]], &[[across, 2], [0, 0], [across + 2, 90]]), 12);
    assert_eq!(read(PROCESS_VM_READV, &[[here + 0x80, 8]], &[[area + 2 * PAGE - 4, 8]]), 4);
    assert_eq!(read(PROCESS_VM_READV, &[[area + 2 * PAGE - 4, 8]], &[[across, 8]]), 4);
    assert_eq!(read(PROCESS_VM_READV, &[[here + 0x80, 8]], &[[area + 2 * PAGE, 8]]), EFAULT);
    assert_eq!(read(PROCESS_VM_WRITEV, &[[here, 5]], &[[0x40_1000, 5]]), EFAULT, "code is not written");
    assert_eq!(read(PROCESS_VM_READV, &[[here, 5]], &[[0x40_1000, 5]]), 5);
    assert_eq!(read(PROCESS_VM_WRITEV, &[[here + 8, 7]], &[[across + 20, 7]]), 7);
    assert_eq!(host.peek(&task, here + 8, 7), b"e child");
    assert_eq!(host.peek(&child, across + 20, 7), b"e child");
    assert_eq!(host.peek(&task, across + 20, 7), [0; 7], "the caller's own copy is another");
}

#[test]
fn a_copy_between_processes_is_checked_in_linux_s_order() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let good = host.words(&task, DATA, &[DATA + 0x400, 2]);
    let empty = host.words(&task, DATA + 16, &[DATA, 0]);
    let negative = host.words(&task, DATA + 32, &[DATA, u64::MAX]);
    let far = host.words(&task, DATA + 48, &[u64::MAX - 4095, 2]);
    let mut copy = |arguments: [u64; 6]| host.call(&mut task, PROCESS_VM_READV, &arguments);
    assert_eq!(copy([99, 0, 1025, 0, 1025, 1]), EINVAL);
    assert_eq!(copy([99, good, 1025, good, 1, 0]), EINVAL);
    assert_eq!(copy([99, negative, 1, good, 1, 0]), EINVAL);
    assert_eq!(copy([99, far, 1, good, 1, 0]), EFAULT);
    assert_eq!(copy([99, empty, 1, 0, 1, 0]), 0, "nothing to copy: nobody looks at the other list");
    assert_eq!(copy([99, good, 1, negative, 1, 0]), EINVAL);
    assert_eq!(copy([99, good, 1, 0, 1, 0]), EFAULT);
    assert_eq!(copy([99, good, 1, empty, 1, 0]), 0, "nor for the process");
    for pid in [99, 0, u64::MAX] {
        assert_eq!(copy([pid, good, 1, good, 1, 0]), ESRCH);
    }
    assert_eq!(copy([1, good, 1, far, 1, 0]), EFAULT);
    assert_eq!(copy([1, good, 1, good, 1, 0]), 2);
}

#[test]
fn the_parts_of_a_vectored_read_must_be_a_program_s() {
    let (host, mut task) = Host::boot();
    let path = host.text(&task, DATA, "/etc/note");
    let fd = host.call(&mut task, OPEN, &[path, 0]) as u64;
    let parts = host.words(&task, DATA + 0x100, &[DATA + 0x400, 3, 0x7fff_ffff_f000, 0]);
    assert_eq!(host.call(&mut task, READV, &[fd, parts, 2]), 3);
    let parts = host.words(&task, DATA + 0x100, &[DATA + 0x400, 3, 0x7fff_ffff_f000, 1]);
    assert_eq!(host.call(&mut task, READV, &[fd, parts, 2]), EFAULT);
    assert_eq!(host.call(&mut task, READ, &[fd, DATA, 9]), 2, "nothing of the second try was read");
    assert_eq!(host.call(&mut task, CLOSE, &[fd]), 0);
}

#[test]
fn a_debugger_reaches_what_the_process_itself_may_not() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let path = host.text(&task, DATA, "/proc/self/mem");
    let fd = host.call(&mut task, OPEN, &[path, 2]) as u64;
    let private = host.call(&mut task, MMAP, &[0, 3 * PAGE, 3, 0x22, u64::MAX, 0]) as u64;
    let shared = host.call(&mut task, MMAP, &[0, PAGE, 3, 0x21, u64::MAX, 0]) as u64;
    host.poke(&task, private, b"mine");
    for (area, prot) in [(private, 1), (private + PAGE, 0), (private + 2 * PAGE, 2), (shared, 1)] {
        assert_eq!(host.call(&mut task, MPROTECT, &[area, PAGE, prot]), 0);
    }
    let new = host.text(&task, DATA + 0x100, "news");
    let mut force = |call: u64, at: u64| host.call(&mut task, call, &[fd, new, 4, at]);
    assert_eq!(force(PWRITE64, private), 4);
    assert_eq!(force(PWRITE64, private + PAGE), 4, "a page that was not there");
    assert_eq!(force(PWRITE64, shared), EIO, "others would see it");
    assert_eq!(force(PREAD64, private + PAGE), 4, "what nobody may read");
    assert_eq!(host.peek(&task, private, 4), b"news");
    let own = host.words(&task, DATA + 0x200, &[DATA + 0x300, 4]);
    let mut copy = |call: u64, at: u64| {
        let other = host.words(&task, DATA + 0x280, &[at, 4]);
        host.call(&mut task, call, &[1, own, 1, other, 1, 0])
    };
    assert_eq!(copy(PROCESS_VM_WRITEV, private), EFAULT, "the area allows writing no more than before");
    assert_eq!(copy(PROCESS_VM_READV, private), 4);
    assert_eq!(copy(PROCESS_VM_READV, private + PAGE), EFAULT);
    assert_eq!(copy(PROCESS_VM_READV, private + 2 * PAGE), EFAULT, "no right to read, whatever a processor does");
    assert_eq!(copy(PROCESS_VM_WRITEV, private + 2 * PAGE), 4);
}

#[test]
fn the_memory_of_a_process_is_taken_once_it_is_ended() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let private = host.call(&mut task, MMAP, &[0, 8 * PAGE, 3, 0x22, u64::MAX, 0]) as u64;
    let shared = host.call(&mut task, MMAP, &[0, PAGE, 3, 0x21, u64::MAX, 0]) as u64;
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    let (mut task, child) = yield_to_child(&host, task);
    for page in 0..8 {
        host.poke(&child, private + page * PAGE, b"own");
    }
    host.poke(&child, shared, b"all");
    let rss = || host.userland.memory().manager().rss(child.mm());
    let pidfd = host.call(&mut task, PIDFD_OPEN, &[2, 0]) as u64;
    assert_eq!(host.call(&mut task, PROCESS_MRELEASE, &[pidfd, u64::MAX]), EINVAL);
    assert_eq!(host.call(&mut task, PROCESS_MRELEASE, &[99, 0]), EBADF);
    assert_eq!(host.call(&mut task, PROCESS_MRELEASE, &[1, 0]), EBADF, "the console is no process");
    assert_eq!(host.call(&mut task, PROCESS_MRELEASE, &[pidfd, 0]), EINVAL, "it goes on");
    let before = rss();
    assert!(before.anon > 8 && before.shmem == 1);
    assert_eq!(host.call(&mut task, KILL, &[2, SIGKILL]), 0);
    assert_eq!(host.call(&mut task, PROCESS_MRELEASE, &[pidfd, 0]), 0);
    assert_eq!((rss().anon, rss().shmem), (0, 1));
    host.leave(child, SCHED_YIELD, &[]);
    host.leave(task, SCHED_YIELD, &[]);
    assert!(host.try_run().is_some_and(|task| task.tid() == 1), "the child is gone");
}
