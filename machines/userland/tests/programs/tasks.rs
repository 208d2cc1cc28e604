//! /proc/PID/task: what each thread is and has used.

use std::sync::atomic::Ordering;

use units::CpuId;
use userland::{Leaving, ManagedMemory, Memory};

use crate::abi::{
    CLONE, CLOSE, EINVAL, ENOENT, ESRCH, EXIT, EXIT_GROUP, FORK, GETDENTS64, OPEN, PIDFD_OPEN, PIDFD_SEND_SIGNAL, POLL,
    PROCESS_MRELEASE, READ, RT_SIGACTION, SIGUSR1, WAIT4, WRITE,
};
use crate::common::{DATA, Host, Task, machine};

/// Flags of clone that make a thread.
const THREAD: u64 = 0x1_0f00;
const PRCTL: u64 = 157;
const TEXT: u64 = DATA + 0x1000;
const TICK: u64 = 10_000_000;

fn open<M: Memory>(host: &Host<'_, M>, task: &mut Task<M>, path: &str, flags: u64) -> i64 {
    let path = host.text(task, DATA, path);
    host.call(task, OPEN, &[path, flags])
}

fn file<M: Memory>(host: &Host<'_, M>, task: &mut Task<M>, path: &str) -> String {
    let fd = open(host, task, path, 0) as u64;
    let count = host.call(task, READ, &[fd, TEXT, 0xf00]);
    assert_eq!(host.call(task, CLOSE, &[fd]), 0, "{path}");
    String::from_utf8(host.peek(task, TEXT, count as usize)).unwrap()
}

/// Returns fields of stat by their numbers in proc(5).
fn stat<const N: usize>(host: &Host<'_>, task: &mut Task, path: &str, fields: [usize; N]) -> [i64; N] {
    let text = file(host, task, path);
    fields.map(|field| text.trim_end().split(' ').nth(field - 1).unwrap().parse().unwrap())
}

fn advance(host: &Host<'_>, ticks: u64) {
    host.userland.machine().clock.fetch_add(ticks * TICK, Ordering::Relaxed);
}

/// Lets another thread run; returns it.
fn turn(host: &Host<'_>, task: Task) -> Task {
    host.userland.put_back(host.cpu, task, Leaving::Yields);
    host.run()
}

#[test]
fn each_thread_has_a_directory_with_its_own_name_and_state() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    assert_eq!(host.call(&mut task, CLONE, &[THREAD, DATA + 0x800, 0, 0, 0]), 2);
    let mut other = host.run();
    let name = host.text(&other, DATA, "worker");
    assert_eq!(host.call(&mut other, PRCTL, &[15, name]), 0);
    assert_eq!(file(&host, &mut task, "/proc/self/comm"), "init\n");
    assert_eq!(file(&host, &mut task, "/proc/self/task/2/comm"), "worker\n");
    let status = file(&host, &mut task, "/proc/1/task/2/status");
    assert!(status.starts_with("Name:\tworker\n") && status.contains("\nTgid:\t1\n"), "{status}");
    assert!(
        status.contains("\nPid:\t2\n") && status.contains("\nThreads:\t2\n") && status.contains("\nVmRSS:"),
        "{status}"
    );
    let maps = file(&host, &mut task, "/proc/1/task/2/maps");
    assert!(maps == file(&host, &mut task, "/proc/1/maps") && maps.contains("[stack]"), "{maps}");
    assert!(file(&host, &mut task, "/proc/1/task/2/smaps").contains("\nRss:"));
    let fd = open(&host, &mut task, "/proc/1/task/2/comm", 1) as u64;
    let text = host.text(&task, TEXT, "renamed");
    assert_eq!(host.call(&mut task, WRITE, &[fd, text, 7]), 7, "by another thread of its process");
    assert_eq!(file(&host, &mut other, "/proc/1/task/2/comm"), "renamed\n");
}

#[test]
fn threads_are_listed_while_they_live() {
    let (host, mut task) = Host::boot();
    assert_eq!(host.call(&mut task, CLONE, &[THREAD, DATA + 0x800, 0, 0, 0]), 2);
    let other = host.run();
    let list = |task: &mut Task| {
        let fd = open(&host, task, "/proc/self/task", 0) as u64;
        let count = host.call(task, GETDENTS64, &[fd, TEXT, 0xf00]) as usize;
        assert_eq!(host.call(task, CLOSE, &[fd]), 0);
        String::from_utf8_lossy(&host.peek(task, TEXT, count))
            .chars()
            .filter(|c| c.is_ascii_graphic())
            .collect::<String>()
    };
    let fd = open(&host, &mut task, "/proc/1/task/2/stat", 0) as u64;
    let both = list(&mut task);
    assert!(both.contains('1') && both.contains('2'), "{both}");
    host.leave(other, EXIT, &[0]);
    let one = list(&mut task);
    assert!(one.contains('1') && !one.contains('2'), "{one}");
    assert_eq!(open(&host, &mut task, "/proc/1/task/2", 0), ENOENT);
    assert_eq!(host.call(&mut task, READ, &[fd, TEXT, 100]), ESRCH);
    assert_eq!(host.call(&mut task, FORK, &[]), 3);
    assert_eq!(open(&host, &mut task, "/proc/1/task/3", 0), ENOENT, "of another process");
    let fd = open(&host, &mut task, "/proc/3/task/3/comm", 1) as u64;
    assert_eq!(host.call(&mut task, WRITE, &[fd, DATA, 1]), EINVAL);
}

#[test]
fn times_count_while_a_thread_has_a_cpu_and_stay_with_its_process() {
    let (host, mut task) = Host::boot();
    advance(&host, 7);
    assert_eq!(host.call(&mut task, CLONE, &[THREAD, DATA + 0x800, 0, 0, 0]), 2);
    let other = turn(&host, task);
    advance(&host, 5);
    let mut task = turn(&host, other);
    advance(&host, 2);
    // utime, stime and starttime; of a thread that is not the first the signal at its end is -1.
    assert_eq!(stat(&host, &mut task, "/proc/1/stat", [14, 15, 22, 38]), [14, 0, 0, 0]);
    assert_eq!(stat(&host, &mut task, "/proc/1/task/1/stat", [1, 14, 15, 22]), [1, 9, 0, 0]);
    assert_eq!(stat(&host, &mut task, "/proc/1/task/2/stat", [1, 14, 15, 22, 38]), [2, 5, 0, 7, -1]);
    let other = turn(&host, task);
    advance(&host, 1);
    host.leave(other, EXIT, &[0]);
    let mut task = host.run();
    assert_eq!(stat(&host, &mut task, "/proc/1/stat", [14]), [15]);
    assert_eq!(host.call(&mut task, FORK, &[]), 3);
    let child = turn(&host, task);
    advance(&host, 4);
    host.leave(child, EXIT_GROUP, &[0]);
    let mut task = host.run();
    assert_eq!(stat(&host, &mut task, "/proc/3/stat", [14, 22]), [4, 15]);
    assert_eq!(host.call(&mut task, WAIT4, &[3, 0, 0, 0]), 3);
    assert_eq!(stat(&host, &mut task, "/proc/1/stat", [14, 16]), [15, 4]);
}

#[test]
fn a_thread_is_opened_by_its_number_signalled_alone_and_told_when_it_ends() {
    const PIDFD_THREAD: u64 = 0o200;
    let (host, mut task) = Host::boot();
    assert_eq!(host.call(&mut task, CLONE, &[THREAD, DATA + 0x800, 0, 0, 0]), 2);
    let other = host.run();
    assert_eq!(host.call(&mut task, PIDFD_OPEN, &[2, 0]), EINVAL, "no process");
    assert_eq!(host.call(&mut task, PIDFD_OPEN, &[9, PIDFD_THREAD]), ESRCH);
    let [first, second] = [1, 2].map(|tid| host.call(&mut task, PIDFD_OPEN, &[tid, PIDFD_THREAD]) as u64);
    let action = host.words(&task, DATA, &[0x40_1500, 0x0400_0000, 0x40_1600, 0]);
    assert_eq!(host.call(&mut task, RT_SIGACTION, &[SIGUSR1, action, 0, 8]), 0);
    let rip = task.registers.rip;
    assert_eq!(host.call(&mut task, PIDFD_SEND_SIGNAL, &[second, SIGUSR1, 0, 0]), 0);
    assert_eq!(task.registers.rip, rip, "not for this one");
    assert_eq!(host.call(&mut task, PIDFD_SEND_SIGNAL, &[second, SIGUSR1, 0, 4]), ESRCH, "nobody's group");
    let other = turn(&host, other);
    assert_eq!(other.registers.rip, 0x40_1500);
    assert_eq!(host.call(&mut task, PROCESS_MRELEASE, &[second, 0]), ESRCH);
    let list = host.words(&task, DATA, &[first | 1 << 32, second | 1 << 32]);
    assert_eq!(host.call(&mut task, POLL, &[list, 2, 0]), 0);
    host.leave(task, POLL, &[list, 2, u64::MAX]);
    host.leave(other, EXIT, &[0]);
    let mut task = host.run();
    assert_eq!((task.registers.rax, host.peek_word(&task, list + 8) >> 48), (1, 1 | 16));
    assert_eq!(host.call(&mut task, PIDFD_SEND_SIGNAL, &[second, 0, 0, 0]), ESRCH);
    assert_eq!(host.call(&mut task, PIDFD_SEND_SIGNAL, &[first, SIGUSR1, 0, 0]), 0);
    assert_eq!(task.registers.rip, 0x40_1500);
}
