//! Processes by descriptor and by chosen number. Results are those of the same calls on Linux.

use crate::abi::{
    CLONE, CLONE_CLEAR_SIGHAND, CLONE_DETACHED, CLONE_INTO_CGROUP, CLONE_PARENT_SETTID, CLONE_PIDFD, CLONE3, CLOSE,
    E2BIG, EAGAIN, EBADF, ECHILD, EEXIST, EFAULT, EINVAL, EMFILE, EPERM, ESPIPE, ESRCH, EXIT_GROUP, FCNTL, FORK, LSEEK,
    OPEN, PIDFD_OPEN, PIDFD_SEND_SIGNAL, POLL, READ, RT_SIGACTION, SCHED_YIELD, SETRLIMIT, SIGCHLD, SIGUSR1, WAITID,
};
use crate::common::{DATA, Host, Task};

/// Where the descriptor's number goes.
const FD: u64 = DATA + 0x400;
/// Where chosen numbers lie.
const TIDS: u64 = DATA + 0x500;

/// clone3 with fields by their place in the structure, and SIGCHLD at the end.
fn clone3(host: &Host<'_>, task: &mut Task, fields: &[(usize, u64)]) -> i64 {
    let mut arguments = [0; 11];
    arguments[4] = SIGCHLD;
    fields.iter().for_each(|&(place, value)| arguments[place] = value);
    let at = host.words(task, DATA, &arguments);
    host.call(task, CLONE3, &[at, 88])
}

fn poll(host: &Host<'_>, task: &mut Task, fd: u64) -> u64 {
    let list = host.words(task, DATA, &[fd | 1 << 32]);
    host.call(task, POLL, &[list, 1, 0]);
    host.peek_word(task, DATA) >> 48
}

#[test]
fn clone_gives_its_caller_alone_a_descriptor_of_the_child() {
    let (host, mut task) = Host::boot();
    assert_eq!(clone3(&host, &mut task, &[(0, CLONE_PIDFD), (1, FD)]), 2);
    let fd = host.peek_word(&task, FD) & 0xffff_ffff;
    assert_eq!((fd, host.call(&mut task, FCNTL, &[fd, 1, 0])), (3, 1), "closes on exec");
    assert_eq!(poll(&host, &mut task, fd), 0);
    host.leave(task, WAITID, &[3, fd, DATA, 4 | 0x0100_0000, 0]);
    let mut child = host.run();
    assert_eq!(host.call(&mut child, FCNTL, &[fd, 1, 0]), EBADF);
    host.leave(child, EXIT_GROUP, &[6]);
    let mut task = host.run();
    assert_eq!(host.peek(&task, DATA + 16, 12), [2, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0]);
    assert_eq!(poll(&host, &mut task, fd), 1);
    assert_eq!(host.call(&mut task, PIDFD_SEND_SIGNAL, &[fd, 0, 0, 0]), 0, "it is still known");
    assert_eq!(host.call(&mut task, WAITID, &[3, fd, DATA, 4, 0]), 0);
    assert_eq!(host.call(&mut task, WAITID, &[3, fd, DATA, 4, 0]), ECHILD);
    assert_eq!(poll(&host, &mut task, fd), 1 | 16);
    assert_eq!(host.call(&mut task, PIDFD_SEND_SIGNAL, &[fd, 0, 0, 0]), ESRCH);
    // The old call writes it where the parent's number would go.
    assert_eq!(host.call(&mut task, CLONE, &[CLONE_PIDFD | SIGCHLD, 0, FD]), 3);
    assert_eq!(host.peek_word(&task, FD) & 0xffff_ffff, 4);
    for wrong in [CLONE_PARENT_SETTID, CLONE_DETACHED] {
        assert_eq!(host.call(&mut task, CLONE, &[CLONE_PIDFD | wrong | SIGCHLD, 0, FD]), EINVAL);
    }
    assert_eq!(host.call(&mut task, CLONE, &[CLONE_DETACHED | SIGCHLD, 0, FD]), 4);
    assert_eq!(host.call(&mut task, CLONE, &[200, 0, 0]), 5, "any signal of eight bits");
}

#[test]
fn a_child_whose_descriptor_cannot_be_made_does_not_begin() {
    let (host, mut task) = Host::boot();
    let nothing_is_left = |task: &mut Task| {
        assert_eq!(host.call(task, WAITID, &[0, 0, 0, 4 | 1, 0]), ECHILD);
        assert_eq!(host.call(task, FCNTL, &[3, 1, 0]), EBADF);
    };
    assert_eq!(clone3(&host, &mut task, &[(0, CLONE_PIDFD), (1, 8)]), EFAULT);
    nothing_is_left(&mut task);
    host.poke(&task, TIDS, &1u32.to_le_bytes());
    assert_eq!(clone3(&host, &mut task, &[(0, CLONE_PIDFD), (1, FD), (8, TIDS), (9, 1)]), EEXIST);
    nothing_is_left(&mut task);
    let limit = host.words(&task, DATA, &[3, 4096]);
    assert_eq!(host.call(&mut task, SETRLIMIT, &[7, limit]), 0);
    assert_eq!(clone3(&host, &mut task, &[(0, CLONE_PIDFD), (1, FD)]), EMFILE);
    nothing_is_left(&mut task);
    assert_eq!(host.userland.memory().counts().0, 1);
}

#[test]
fn a_number_can_be_chosen_if_nobody_has_it() {
    let (host, mut task) = Host::boot();
    for (number, wanted) in [(4000, 4000), (4000, EEXIST), (1, EEXIST), (0, EINVAL), (-1, EINVAL), (32768, EINVAL)] {
        host.poke(&task, TIDS, &i32::to_le_bytes(number));
        assert_eq!(clone3(&host, &mut task, &[(8, TIDS), (9, 1)]), wanted, "{number}");
    }
    assert_eq!(clone3(&host, &mut task, &[]), 2, "others go on where they were");
    for (tids, count) in [(0, 1), (TIDS, 0), (TIDS, 2), (TIDS, 33), (0, 33)] {
        assert_eq!(clone3(&host, &mut task, &[(8, tids), (9, count)]), EINVAL);
    }
    assert_eq!(clone3(&host, &mut task, &[(8, 8), (9, 1)]), EFAULT);
}

#[test]
fn arguments_of_clone3_are_checked_as_linux_does() {
    let (host, mut task) = Host::boot();
    for fields in [
        &[(4, 65)][..],
        &[(0, CLONE_DETACHED)],
        &[(0, 1)],
        &[(0, CLONE_CLEAR_SIGHAND | 0x800 | 0x100)],
        &[(0, 0x4_0000_0000)],
        &[(5, 4096)],
        &[(6, 4096)],
        &[(5, -8192_i64 as u64), (6, 4096)],
        &[(0, CLONE_PIDFD | CLONE_PARENT_SETTID), (1, FD), (3, FD)],
        &[(0, CLONE_INTO_CGROUP), (10, 1 << 31)],
    ] {
        assert_eq!(clone3(&host, &mut task, fields), EINVAL, "{fields:?}");
    }
    assert_eq!(clone3(&host, &mut task, &[(0, CLONE_INTO_CGROUP)]), EBADF);
    let at = host.words(&task, DATA, &[0; 12]);
    host.poke(&task, at + 88, &[1]);
    for (bytes, wanted) in [(63, EINVAL), (96, E2BIG), (4097, E2BIG)] {
        assert_eq!(host.call(&mut task, CLONE3, &[at, bytes]), wanted);
    }
    assert_eq!(host.call(&mut task, CLONE3, &[8, 64]), EFAULT);
    // A child without its parent's handlers.
    let action = host.words(&task, DATA, &[0x40_1500, 0x0400_0000, 0x40_1600, 0]);
    assert_eq!(host.call(&mut task, RT_SIGACTION, &[SIGUSR1, action, 0, 8]), 0);
    for (flags, handler) in [(CLONE_CLEAR_SIGHAND, 0), (0, 0x40_1500)] {
        assert!(clone3(&host, &mut task, &[(0, flags)]) > 1);
        host.leave(task, SCHED_YIELD, &[]);
        let mut child = host.run();
        assert_eq!(host.call(&mut child, RT_SIGACTION, &[SIGUSR1, 0, DATA, 8]), 0);
        assert_eq!(host.peek_word(&child, DATA), handler);
        host.leave(child, EXIT_GROUP, &[0]);
        task = host.run();
    }
}

#[test]
fn a_signal_by_descriptor_is_checked_in_linux_s_order() {
    let (host, mut task) = Host::boot();
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    let fd = host.call(&mut task, PIDFD_OPEN, &[2, 0]) as u64;
    let mut send = |arguments: [u64; 4]| host.call(&mut task, PIDFD_SEND_SIGNAL, &arguments);
    assert_eq!(send([99, 65, 8, 8]), EINVAL);
    assert_eq!((send([fd, 0, 0, 3]), send([99, 65, 8, 0]), send([1, 0, 0, 0])), (EINVAL, EBADF, EBADF));
    assert_eq!((send([fd, 0, 8, 0]), send([fd, 65, 0, 0])), (EFAULT, EINVAL));
    assert_eq!((send([fd, 0, 0, 1]), send([fd, 0, 0, 2]), send([fd, 0, 0, 4])), (0, 0, ESRCH));
    let own = host.call(&mut task, PIDFD_OPEN, &[1, 0]) as u64;
    for (to, signal, info, wanted) in [
        (fd, 12, (10, -1), EINVAL),
        (fd, 12, (12, 0), EPERM),
        (fd, 12, (12, -6), EPERM),
        (fd, 12, (12, 1), EPERM),
        (fd, 0, (0, -1), 0),
        (own, SIGCHLD, (SIGCHLD, 0), 0),
    ] {
        let (number, code): (u64, i64) = info;
        let info = host.words(&task, DATA, &[number, code as u32 as u64, 7, 8]);
        assert_eq!(host.call(&mut task, PIDFD_SEND_SIGNAL, &[to, signal, info, 0]), wanted);
    }
}

#[test]
fn a_signal_by_descriptor_carries_what_its_sender_put_there() {
    let (host, mut task) = Host::boot();
    let action = host.words(&task, DATA, &[0x40_1500, 0x0400_0004, 0x40_1600, 0]);
    assert_eq!(host.call(&mut task, RT_SIGACTION, &[SIGUSR1, action, 0, 8]), 0);
    let directory = host.text(&task, DATA, "/proc/self");
    let fd = host.call(&mut task, OPEN, &[directory, 0o20_0000, 0]) as u64;
    let path_only = host.call(&mut task, OPEN, &[directory, 0o1020_0000, 0]) as u64;
    assert_eq!(host.call(&mut task, PIDFD_SEND_SIGNAL, &[path_only, 0, 0, 0]), EBADF);
    host.words(&task, DATA, &[SIGUSR1, -1_i32 as u32 as u64, 5, 77]);
    assert_eq!(host.call(&mut task, PIDFD_SEND_SIGNAL, &[fd, SIGUSR1, DATA, 0]), 0);
    assert_eq!((task.registers.rip, task.registers.rdi), (0x40_1500, SIGUSR1));
    let info = task.registers.rsi;
    assert_eq!([0, 8, 16, 24].map(|offset| host.peek_word(&task, info + offset)), [SIGUSR1, 0xffff_ffff, 5, 77]);
}

#[test]
fn a_descriptor_of_a_process_is_opened_waited_on_and_not_read() {
    let (host, mut task) = Host::boot();
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    let flags = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000;
    assert_eq!(host.call(&mut task, CLONE, &[flags, DATA + 0x1000]), 3);
    for (pid, flags, wanted) in [(0, 0, EINVAL), (99, 1, EINVAL), (99, 0, ESRCH), (3, 0, EINVAL)] {
        assert_eq!(host.call(&mut task, PIDFD_OPEN, &[pid, flags]), wanted);
    }
    let fd = host.call(&mut task, PIDFD_OPEN, &[2, 0o4000]) as u64;
    assert_eq!(host.call(&mut task, WAITID, &[3, fd, DATA, 4, 0]), EAGAIN);
    assert_eq!(host.call(&mut task, WAITID, &[3, fd, DATA, 4 | 1, 0]), 0);
    for (which, wanted) in [(u64::MAX, EINVAL), (99, EBADF), (1, EBADF)] {
        assert_eq!(host.call(&mut task, WAITID, &[3, which, DATA, 4, 0]), wanted);
    }
    assert_eq!(host.call(&mut task, READ, &[fd, DATA, 1]), EINVAL);
    assert_eq!(host.call(&mut task, LSEEK, &[fd, 0, 0]), ESPIPE);
    assert_eq!(host.call(&mut task, CLOSE, &[fd]), 0);
}
