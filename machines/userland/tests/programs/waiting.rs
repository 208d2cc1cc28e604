//! Signals, times and waits: who wakes whom, with what result.

use std::sync::atomic::Ordering;

use crate::abi::{
    CLOCK_GETTIME, CLOCK_NANOSLEEP, CLONE, CLONE3, CLOSE, EAGAIN, ECHILD, EINTR, EINVAL, ENOMEM, ESRCH, ETIMEDOUT,
    EXECVE, EXIT_GROUP, FORK, FUTEX, GETPID, GETPPID, KILL, PIDFD_OPEN, PIPE, POLL, READ, RT_SIGACTION, RT_SIGPENDING,
    RT_SIGPROCMASK, RT_SIGSUSPEND, RT_SIGTIMEDWAIT, SCHED_YIELD, SELECT, SETPGID, SIGALTSTACK, SIGCHLD, SIGKILL,
    SIGUSR1, SIGUSR2, TGKILL, WAIT4, WAITID, WRITE,
};
use crate::common::{DATA, Host, Task};

/// Flags of clone that make a thread.
const THREAD: u64 = 0x1_0f00;
const SECOND: u64 = 1_000_000_000;
const HANDLER: u64 = 0x40_1500;

/// Sets a handler, with a restorer and further flags.
fn handle(host: &Host<'_>, task: &mut Task, signal: u64, handler: u64, flags: u64) {
    let action = host.words(task, DATA + 0xf00, &[handler, 0x0400_0000 | flags, 0x40_1600, 0]);
    assert_eq!(host.call(task, RT_SIGACTION, &[signal, action, 0, 8]), 0);
}

fn mask(host: &Host<'_>, task: &mut Task, how: u64, signals: &[u64]) {
    let set = signals.iter().fold(0, |set, signal| set | 1 << (signal - 1));
    let set = host.words(task, DATA + 0xf00, &[set]);
    assert_eq!(host.call(task, RT_SIGPROCMASK, &[how, set, 0, 8]), 0);
}

fn advance(host: &Host<'_>, nanos: u64) {
    host.userland.machine().clock.fetch_add(nanos, Ordering::Relaxed);
}

#[test]
fn a_blocked_signal_waits_and_is_shown_as_pending() {
    let (host, mut task) = Host::boot();
    handle(&host, &mut task, SIGUSR1, HANDLER, 0);
    mask(&host, &mut task, 0, &[SIGUSR1]);
    assert_eq!(host.call(&mut task, KILL, &[1, SIGUSR1]), 0);
    assert_ne!(task.registers.rip, HANDLER);
    assert_eq!(host.call(&mut task, RT_SIGPENDING, &[DATA, 8]), 0);
    assert_eq!(host.peek_word(&task, DATA), 1 << (SIGUSR1 - 1));
    let set = host.words(&task, DATA, &[0]);
    assert_eq!(host.call(&mut task, RT_SIGPROCMASK, &[2, set, 0, 8]), 0);
    assert_eq!((task.registers.rip, task.registers.rdi), (HANDLER, SIGUSR1));
}

#[test]
fn a_handler_blocks_its_own_signal_unless_it_asks_not_to() {
    for (flags, blocked) in [(0, 1 << (SIGUSR1 - 1)), (0x4000_0000, 0)] {
        let (host, mut task) = Host::boot();
        handle(&host, &mut task, SIGUSR1, HANDLER, flags);
        assert_eq!(host.call(&mut task, KILL, &[1, SIGUSR1]), 0);
        assert_eq!(host.call(&mut task, RT_SIGPROCMASK, &[0, 0, DATA, 8]), 0);
        assert_eq!(host.peek_word(&task, DATA), blocked);
    }
}

#[test]
fn sigsuspend_waits_with_another_mask_and_restores_the_old_one() {
    let (host, mut task) = Host::boot();
    handle(&host, &mut task, SIGUSR1, HANDLER, 0);
    mask(&host, &mut task, 0, &[SIGUSR1]);
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    let none = host.words(&task, DATA, &[0]);
    host.leave(task, RT_SIGSUSPEND, &[none, 8]);
    let mut child = host.run();
    assert_eq!(host.call(&mut child, KILL, &[1, SIGUSR1]), 0);
    host.leave(child, EXIT_GROUP, &[0]);
    let task = host.run();
    assert_eq!(task.registers.rip, HANDLER);
    // The mask that the handler goes back to, and the call's result, in the frame's context.
    let context = task.registers.rdx;
    assert_eq!(host.peek_word(&task, context + 296), 1 << (SIGUSR1 - 1));
    assert_eq!(host.peek_word(&task, context + 40 + 8 * 13) as i64, EINTR);
}

#[test]
fn a_read_is_made_again_after_a_handler_that_asks_for_it() {
    const SA_RESTART: u64 = 0x1000_0000;
    for (flags, restarts) in [(SA_RESTART, true), (0, false)] {
        let (host, mut task) = Host::boot();
        handle(&host, &mut task, SIGUSR1, HANDLER, flags);
        assert_eq!(host.call(&mut task, PIPE, &[DATA]), 0);
        assert_eq!(host.call(&mut task, FORK, &[]), 2);
        let rip = task.registers.rip;
        host.leave(task, READ, &[3, DATA, 10]);
        let mut child = host.run();
        assert_eq!(host.call(&mut child, KILL, &[1, SIGUSR1]), 0);
        host.leave(child, EXIT_GROUP, &[0]);
        let task = host.run();
        let context = task.registers.rdx;
        let (saved_rax, saved_rip) = (host.peek_word(&task, context + 144), host.peek_word(&task, context + 168));
        if restarts {
            assert_eq!((saved_rax, saved_rip), (READ, rip - 2));
        } else {
            assert_eq!((saved_rax as i64, saved_rip), (EINTR, rip));
        }
    }
}

#[test]
fn a_wanted_signal_is_taken_without_a_handler() {
    let (host, mut task) = Host::boot();
    mask(&host, &mut task, 0, &[SIGUSR1, SIGUSR2]);
    assert_eq!(host.call(&mut task, KILL, &[1, SIGUSR2]), 0);
    let set = host.words(&task, DATA, &[1 << (SIGUSR2 - 1)]);
    assert_eq!(host.call(&mut task, RT_SIGTIMEDWAIT, &[set, DATA + 64, 0, 8]), SIGUSR2 as i64);
    assert_eq!(host.peek_word(&task, DATA + 64), SIGUSR2);
    let nothing = host.words(&task, DATA + 16, &[0, 0]);
    assert_eq!(host.call(&mut task, RT_SIGTIMEDWAIT, &[set, 0, nothing, 8]), EAGAIN);
    let second = host.words(&task, DATA + 16, &[1, 0]);
    host.leave(task, RT_SIGTIMEDWAIT, &[set, 0, second, 8]);
    assert!(host.try_run().is_none());
    advance(&host, SECOND);
    assert_eq!(host.run().registers.rax as i64, EAGAIN);
}

#[test]
fn a_wanted_signal_wakes_who_waits_for_it_even_if_it_is_ignored_otherwise() {
    let (host, mut task) = Host::boot();
    mask(&host, &mut task, 0, &[SIGCHLD]);
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    let set = host.words(&task, DATA, &[1 << (SIGCHLD - 1)]);
    host.leave(task, RT_SIGTIMEDWAIT, &[set, DATA + 64, 0, 8]);
    host.leave(host.run(), EXIT_GROUP, &[7]);
    let task = host.run();
    assert_eq!((task.registers.rax, host.peek_word(&task, DATA + 64)), (SIGCHLD, SIGCHLD));
    assert_eq!(host.peek(&task, DATA + 64 + 16, 4), 2u32.to_le_bytes(), "the child's number");
}

#[test]
fn an_alternate_stack_is_checked_and_used() {
    let (host, mut task) = Host::boot();
    let small = host.words(&task, DATA, &[DATA + 0x1000, 0, 100]);
    assert_eq!(host.call(&mut task, SIGALTSTACK, &[small, 0]), ENOMEM);
    let odd = host.words(&task, DATA, &[DATA + 0x1000, 8, 0x1000]);
    assert_eq!(host.call(&mut task, SIGALTSTACK, &[odd, 0]), EINVAL);
    let stack = host.words(&task, DATA, &[DATA + 0x1000, 0, 0x1000]);
    assert_eq!(host.call(&mut task, SIGALTSTACK, &[stack, DATA + 64]), 0);
    assert_eq!(host.peek(&task, DATA + 72, 4), 2u32.to_le_bytes());
    handle(&host, &mut task, SIGUSR1, HANDLER, 0x0800_0000);
    assert_eq!(host.call(&mut task, KILL, &[1, SIGUSR1]), 0);
    assert!((DATA + 0x1000..DATA + 0x2000).contains(&task.registers.rsp));
    // Not while it is in use.
    assert_eq!(host.call(&mut task, SIGALTSTACK, &[stack, 0]), -1);
}

#[test]
fn signals_go_to_processes_groups_and_threads() {
    let (host, mut task) = Host::boot();
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    assert_eq!(host.call(&mut task, SETPGID, &[2, 2]), 0);
    assert_eq!(host.call(&mut task, KILL, &[-2_i64 as u64, 0]), 0);
    assert_eq!(host.call(&mut task, KILL, &[77, 0]), ESRCH);
    assert_eq!(host.call(&mut task, KILL, &[2, 65]), EINVAL);
    assert_eq!(host.call(&mut task, TGKILL, &[1, 2, 9]), ESRCH);
    assert_eq!(host.call(&mut task, TGKILL, &[0, 2, 9]), EINVAL);
    assert_eq!(host.call(&mut task, KILL, &[-2_i64 as u64, 9]), 0);
    host.leave(task, WAIT4, &[2, DATA, 0, 0]);
    let task = host.run();
    assert_eq!((task.registers.rax, host.peek(&task, DATA, 4)), (2, 9u32.to_le_bytes().to_vec()));
}

#[test]
fn nobody_ends_init_by_a_signal_that_it_does_not_handle() {
    let (host, mut task) = Host::boot();
    for signal in [SIGUSR1, 9, 15] {
        assert_eq!(host.call(&mut task, KILL, &[1, signal]), 0);
        assert_eq!(host.call(&mut task, TGKILL, &[1, 1, signal]), 0);
    }
    handle(&host, &mut task, SIGUSR1, HANDLER, 0);
    assert_eq!(host.call(&mut task, KILL, &[1, SIGUSR1]), 0);
    assert_eq!(task.registers.rip, HANDLER);
}

#[test]
fn a_child_can_be_looked_at_by_descriptor_before_it_is_taken() {
    let (host, mut task) = Host::boot();
    // clone3 with SIGCHLD at its end.
    let arguments = host.words(&task, DATA, &[0, 0, 0, 0, 17, 0, 0, 0]);
    assert_eq!(host.call(&mut task, CLONE3, &[arguments, 64]), 2);
    assert_eq!(host.call(&mut task, CLONE3, &[arguments, 56]), EINVAL);
    let pidfd = host.call(&mut task, PIDFD_OPEN, &[2, 0]) as u64;
    assert_eq!(host.call(&mut task, WAITID, &[3, pidfd, DATA, 4 | 1, 0]), 0);
    assert_eq!(host.peek_word(&task, DATA), 0, "it lives");
    host.leave(task, WAITID, &[3, pidfd, DATA, 4 | 0x0100_0000, 0]);
    host.leave(host.run(), EXIT_GROUP, &[6]);
    let mut task = host.run();
    assert_eq!((task.registers.rax, host.peek_word(&task, DATA)), (0, SIGCHLD));
    assert_eq!(host.peek(&task, DATA + 16, 12), [2, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0]);
    assert_eq!(host.call(&mut task, WAITID, &[0, 0, 0, 4, 0]), 0);
    assert_eq!(host.call(&mut task, WAITID, &[3, pidfd, 0, 4, 0]), ECHILD);
    assert_eq!(host.call(&mut task, WAITID, &[0, 0, 0, 0, 0]), EINVAL);
}

#[test]
fn children_that_nobody_wants_to_hear_of_vanish() {
    let (host, mut task) = Host::boot();
    handle(&host, &mut task, SIGCHLD, 1, 0);
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    host.leave(task, WAIT4, &[u64::MAX, 0, 0, 0]);
    host.leave(host.run(), EXIT_GROUP, &[0]);
    assert_eq!(host.run().registers.rax as i64, ECHILD);
}

#[test]
fn an_orphan_becomes_init_s_child() {
    let (host, mut task) = Host::boot();
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    host.leave(task, WAIT4, &[2, 0, 0, 0]);
    let mut child = host.run();
    assert_eq!(host.call(&mut child, FORK, &[]), 3);
    host.leave(child, EXIT_GROUP, &[0]);
    let (mut one, mut two) = (host.run(), host.run());
    if one.tid() == 1 {
        core::mem::swap(&mut one, &mut two);
    }
    let (mut grandchild, mut task) = (one, two);
    assert_eq!(host.call(&mut grandchild, GETPPID, &[]), 1);
    assert_eq!(host.call(&mut task, WAIT4, &[3, 0, 1, 0]), 0);
    host.leave(grandchild, EXIT_GROUP, &[4]);
    assert_eq!(host.call(&mut task, WAIT4, &[3, DATA, 0, 0]), 3);
    assert_eq!(host.peek(&task, DATA, 4), (4u32 << 8).to_le_bytes());
}

#[test]
fn clocks_show_the_machine_s_time() {
    let (host, mut task) = Host::boot();
    advance(&host, 3 * SECOND + 7);
    assert_eq!(host.call(&mut task, CLOCK_GETTIME, &[1, DATA]), 0);
    assert_eq!((host.peek_word(&task, DATA), host.peek_word(&task, DATA + 8)), (3, 7));
    assert_eq!(host.call(&mut task, CLOCK_GETTIME, &[0, DATA]), 0);
    assert_eq!(host.peek_word(&task, DATA), 1_000_000_003);
    assert_eq!(host.call(&mut task, CLOCK_GETTIME, &[99, DATA]), EINVAL);
    let bad = host.words(&task, DATA, &[0, SECOND]);
    assert_eq!(host.call(&mut task, CLOCK_NANOSLEEP, &[1, 0, bad, 0]), EINVAL);
    let past = host.words(&task, DATA, &[2, 0]);
    assert_eq!(host.call(&mut task, CLOCK_NANOSLEEP, &[1, 1, past, 0]), 0);
    let future = host.words(&task, DATA, &[5, 0]);
    host.leave(task, CLOCK_NANOSLEEP, &[1, 1, future, 0]);
    assert!(host.try_run().is_none());
    advance(&host, 2 * SECOND);
    assert_eq!(host.run().registers.rax, 0);
}

#[test]
fn poll_and_select_tell_what_is_ready_and_end_with_their_time() {
    let (host, mut task) = Host::boot();
    assert_eq!(host.call(&mut task, PIPE, &[DATA]), 0);
    let list = host.words(&task, DATA, &[3 | 1 << 32, 4 | 4 << 32, 99 | 1 << 32]);
    assert_eq!(host.call(&mut task, POLL, &[list, 3, 0]), 2);
    let ready = [0, 8, 16].map(|offset| host.peek_word(&task, DATA + offset) >> 48);
    assert_eq!(ready, [0, 4, 32]);
    host.leave(task, POLL, &[list, 1, 1000]);
    assert!(host.try_run().is_none());
    advance(&host, SECOND);
    let mut task = host.run();
    assert_eq!(task.registers.rax, 0);
    assert_eq!(host.call(&mut task, WRITE, &[4, DATA, 1]), 1);
    let set = host.words(&task, DATA, &[1 << 3]);
    let (write, none) = (host.words(&task, DATA + 8, &[1 << 4]), host.words(&task, DATA + 16, &[0, 0]));
    assert_eq!(host.call(&mut task, SELECT, &[5, set, write, 0, none]), 2);
    assert_eq!((host.peek_word(&task, set), host.peek_word(&task, write)), (1 << 3, 1 << 4));
    assert_eq!(host.call(&mut task, CLOSE, &[4]), 0);
    let reader = host.words(&task, DATA, &[3 | 1 << 32]);
    assert_eq!(host.call(&mut task, POLL, &[reader, 1, 0]), 1);
    assert_eq!(host.peek_word(&task, DATA) >> 48, 1 | 16);
}

#[test]
fn a_futex_wait_ends_with_its_time_and_spares_who_waits_for_other_bits() {
    let (host, task) = Host::boot();
    let second = host.words(&task, DATA + 64, &[1, 0]);
    host.leave(task, FUTEX, &[DATA, 128, 0, second, 0, 0]);
    assert!(host.try_run().is_none());
    advance(&host, SECOND);
    let mut task = host.run();
    assert_eq!(task.registers.rax as i64, ETIMEDOUT);
    assert_eq!(host.call(&mut task, FUTEX, &[DATA + 1, 128, 0, 0, 0, 0]), EINVAL);
    let flags = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000;
    assert_eq!(host.call(&mut task, CLONE, &[flags, DATA + 0x1000]), 2);
    host.leave(task, FUTEX, &[DATA, 9 | 128, 0, 0, 0, 2]);
    let mut other = host.run();
    assert_eq!(host.call(&mut other, FUTEX, &[DATA, 10 | 128, 1, 0, 0, 4]), 0);
    assert_eq!(host.call(&mut other, FUTEX, &[DATA, 10 | 128, 1, 0, 0, 6]), 1);
    assert_eq!(host.call(&mut other, GETPID, &[]), 1);
    assert_eq!(host.run().registers.rax, 0);
}

#[test]
fn exit_group_ends_threads_that_wait() {
    let (host, mut task) = Host::boot();
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    host.leave(task, WAIT4, &[2, DATA, 0, 0]);
    let mut child = host.run();
    let flags = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000;
    assert_eq!(host.call(&mut child, CLONE, &[flags, DATA + 0x1000]), 3);
    host.leave(child, FUTEX, &[DATA + 8, 128, 0, 0, 0, 0]);
    let other = host.run();
    assert_eq!(other.tid(), 3);
    host.leave(other, EXIT_GROUP, &[6]);
    let task = host.run();
    assert_eq!((task.tid(), task.registers.rax, host.peek(&task, DATA, 4)), (1, 2, (6u32 << 8).to_le_bytes().to_vec()));
    assert_eq!(host.userland.memory().counts().0, 1);
}

#[test]
fn who_was_ended_makes_no_child_that_the_end_does_not_reach() {
    let (host, mut task) = Host::boot();
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    // Both run, as on two CPUs.
    let mut child = host.run();
    assert_eq!(host.call(&mut task, KILL, &[2, SIGKILL]), 0);
    assert_eq!(host.call(&mut child, FORK, &[]), EINTR);
    host.leave(child, SCHED_YIELD, &[]);
    assert!(host.try_run().is_none());
    assert_eq!(host.call(&mut task, WAIT4, &[u64::MAX, DATA, 0, 0]), 2);
    assert_eq!(host.call(&mut task, WAIT4, &[u64::MAX, DATA, 0, 0]), ECHILD);
    assert_eq!(host.call(&mut task, KILL, &[3, 0]), ESRCH);
}

#[test]
fn a_thread_that_leaves_for_another_s_program_makes_no_thread_that_stays() {
    let (host, mut task) = Host::boot();
    assert_eq!(host.call(&mut task, CLONE, &[THREAD, DATA + 0x800, 0, 0, 0]), 2);
    let mut other = host.run();
    let path = host.text(&task, DATA, "/bin/init");
    let waiting = host.step(&mut task, EXECVE, &[path, 0, 0]).unwrap_err();
    host.userland.put_back(host.cpu, task, waiting);
    let leaving = host.step(&mut other, CLONE, &[THREAD, DATA + 0x800, 0, 0, 0]).unwrap_err();
    host.userland.put_back(host.cpu, other, leaving);
    let mut task = host.run();
    assert_eq!((task.tid(), host.call(&mut task, TGKILL, &[1, 3, 0])), (1, ESRCH));
    assert!(host.try_run().is_none());
}
