//! vmsplice: pipes that hold pages of programs.

use units::CpuId;
use userland::{ManagedMemory, Memory};

use crate::abi::{
    CLOSE, EAGAIN, EBADF, EFAULT, EINVAL, EPIPE, EXIT_GROUP, FORK, MMAP, MUNMAP, OPEN, PIPE, READ, READV, RT_SIGACTION,
    SIGPIPE, SOCKETPAIR, VMSPLICE, WAIT4, WRITE,
};
use crate::common::{DATA, Host, Task, machine};

const ENDS: u64 = DATA + 0x1800;
const PARTS: u64 = DATA + 0x1900;
const TO: u64 = DATA + 0x1a00;
const NONBLOCK: u64 = 2;

fn splice<M: Memory>(host: &Host<'_, M>, task: &mut Task<M>, fd: u64, parts: &[u64], flags: u64) -> i64 {
    let at = host.words(task, PARTS, parts);
    host.call(task, VMSPLICE, &[fd, at, parts.len() as u64 / 2, flags])
}

#[test]
fn a_pipe_gives_the_bytes_of_pages_in_their_order_and_gives_the_pages_back() {
    let (host, mut task) = Host::boot();
    assert_eq!(host.call(&mut task, PIPE, &[ENDS]), 0);
    host.text(&task, DATA + 0xffe, "abcdef");
    assert_eq!(host.call(&mut task, WRITE, &[4, DATA + 0xffe, 1]), 1);
    assert_eq!(splice(&host, &mut task, 4, &[DATA + 0xffe, 4, DATA + 0x1001, 1], 0), 5);
    assert_eq!(host.userland.memory().nr_held(), 3, "two of the first part, one of the second");
    assert_eq!(host.call(&mut task, WRITE, &[4, DATA + 0x1003, 1]), 1);
    let parts = host.words(&task, PARTS, &[TO, 2, TO + 2, 3]);
    assert_eq!(host.call(&mut task, READV, &[3, parts, 2]), 5);
    assert_eq!((host.peek(&task, TO, 5), host.userland.memory().nr_held()), (b"aabcd".to_vec(), 1));
    assert_eq!(splice(&host, &mut task, 3, &[TO, 1, TO + 1, 9], 0), 2, "the other way");
    assert_eq!((host.peek(&task, TO, 2), host.userland.memory().nr_held()), (b"df".to_vec(), 0));
}

#[test]
fn pages_that_nobody_reads_go_with_the_pipe() {
    let (host, mut task) = Host::boot();
    assert_eq!(host.call(&mut task, PIPE, &[ENDS]), 0);
    assert_eq!(splice(&host, &mut task, 4, &[DATA, 0x1000], 0), 0x1000);
    assert_eq!(host.call(&mut task, CLOSE, &[3]), 0);
    assert_eq!(host.userland.memory().nr_held(), 1);
    assert_eq!(host.call(&mut task, CLOSE, &[4]), 0);
    assert_eq!(host.userland.memory().nr_held(), 0);
}

#[test]
fn a_pipe_takes_sixteen_pages_and_only_the_first_waits_for_room() {
    let (host, mut task) = Host::boot();
    assert_eq!(host.call(&mut task, PIPE, &[ENDS]), 0);
    let twenty: Vec<u64> = (0..20).flat_map(|part| [DATA + part, 1]).collect();
    assert_eq!(splice(&host, &mut task, 4, &twenty, 0), 16);
    assert_eq!(splice(&host, &mut task, 4, &[DATA, 1], NONBLOCK), EAGAIN);
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    let mut child = host.run();
    host.leave(task, VMSPLICE, &[4, PARTS, 1, 0]);
    assert_eq!(host.call(&mut child, READ, &[3, TO, 3]), 3);
    assert_eq!((host.run().registers.rax, host.userland.memory().nr_held()), (1, 14));
}

#[test]
fn what_vmsplice_is_asked_is_checked_as_linux_does() {
    let (host, mut task) = Host::boot();
    let ignored = host.words(&task, DATA, &[1, 0, 0, 0]);
    assert_eq!(host.call(&mut task, RT_SIGACTION, &[SIGPIPE, ignored, 0, 8]), 0);
    assert_eq!(host.call(&mut task, PIPE, &[ENDS]), 0);
    assert_eq!(host.call(&mut task, SOCKETPAIR, &[1, 1, 0, ENDS]), 0);
    let path = host.text(&task, DATA, "/etc/note");
    assert_eq!(host.call(&mut task, OPEN, &[path, 0]), 7);
    assert_eq!(splice(&host, &mut task, 99, &[DATA, 1], 16), EINVAL);
    for fd in [99, 5, 7] {
        assert_eq!(splice(&host, &mut task, fd, &[DATA, 1], 0), EBADF, "{fd}");
    }
    assert_eq!(splice(&host, &mut task, 7, &[DATA, 0], 0), 0, "nothing is asked of it");
    assert_eq!(splice(&host, &mut task, 4, &[8, 1], 0), EFAULT);
    assert_eq!(splice(&host, &mut task, 4, &[DATA, 1, 8, 1], 0), 1);
    assert_eq!(splice(&host, &mut task, 3, &[8, 1], 0), EFAULT);
    assert_eq!(host.call(&mut task, READ, &[3, TO, 1]), 1, "what could not be given is still there");
    assert_eq!(splice(&host, &mut task, 3, &[DATA, 1], NONBLOCK), EAGAIN);
    assert_eq!(host.call(&mut task, CLOSE, &[3]), 0);
    assert_eq!(splice(&host, &mut task, 4, &[DATA, 1], 0), EPIPE);
    assert_eq!(host.userland.memory().nr_held(), 0);
}

#[test]
fn a_pipe_shows_a_page_as_its_giver_has_it_until_somebody_else_has_it_too() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    assert_eq!(host.call(&mut task, PIPE, &[ENDS]), 0);
    let area = host.call(&mut task, MMAP, &[0, 4096, 3, 0x22, u64::MAX, 0]) as u64;
    host.text(&task, area, "first");
    for wanted in ["given", "alone"] {
        assert_eq!(splice(&host, &mut task, 4, &[area, 5], 0), 5);
        host.text(&task, area, wanted);
        assert_eq!(host.call(&mut task, READ, &[3, TO, 5]), 5);
        assert_eq!(host.peek(&task, TO, 5), wanted.as_bytes());
    }
    assert_eq!(splice(&host, &mut task, 4, &[area, 5], 0), 5);
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    host.leave(host.run(), EXIT_GROUP, &[0]);
    assert_eq!(host.call(&mut task, WAIT4, &[2, 0, 0, 0]), 2);
    host.text(&task, area, "later");
    assert_eq!(host.call(&mut task, MUNMAP, &[area, 4096]), 0);
    assert_eq!(host.call(&mut task, READ, &[3, TO, 5]), 5);
    assert_eq!(host.peek(&task, TO, 5), b"alone");
}
