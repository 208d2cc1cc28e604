//! Descriptors that another thread closes while a call uses them.

use crate::abi::{
    CLONE, CLOSE, EPIPE, EXIT_GROUP, FORK, OPEN, PIPE, READ, RT_SIGACTION, SENDFILE, SIGPIPE, SIGUSR1, TGKILL, WAIT4,
    WRITE,
};
use crate::common::{DATA, Host, Task};

/// Flags of clone that make a thread.
const THREAD: u64 = 0x1_0f00;
const ENDS: u64 = DATA + 0x100;

fn ignore_broken_pipes(host: &Host<'_>, task: &mut Task) {
    let ignored = host.words(task, DATA, &[1, 0, 0, 0]);
    assert_eq!(host.call(task, RT_SIGACTION, &[SIGPIPE, ignored, 0, 8]), 0);
}

/// Boots with a pipe at 3 and 4, and a second thread.
fn two_threads() -> (Host<'static>, Task, Task) {
    let (host, mut task) = Host::boot();
    ignore_broken_pipes(&host, &mut task);
    assert_eq!(host.call(&mut task, PIPE, &[ENDS]), 0);
    assert_eq!(host.call(&mut task, CLONE, &[THREAD, DATA + 0x800, 0, 0, 0]), 2);
    let other = host.run();
    (host, task, other)
}

fn fill(host: &Host<'_>, task: &mut Task) {
    (0..16).for_each(|_| assert_eq!(host.call(task, WRITE, &[4, DATA, 4096]), 4096));
}

#[test]
fn a_read_that_waits_keeps_its_end_of_the_pipe_when_the_descriptor_is_closed() {
    let (host, task, mut other) = two_threads();
    host.leave(task, READ, &[3, DATA, 10]);
    assert_eq!(host.call(&mut other, CLOSE, &[3]), 0);
    assert!(host.try_run().is_none(), "it goes on waiting");
    host.text(&other, DATA + 64, "word");
    assert_eq!(host.call(&mut other, WRITE, &[4, DATA + 64, 4]), 4, "the pipe has its reader");
    let task = host.run();
    assert_eq!((task.registers.rax, host.peek(&task, DATA, 4)), (4, b"word".to_vec()));
    assert_eq!(host.call(&mut other, WRITE, &[4, DATA, 1]), EPIPE, "and none when the call is over");
}

#[test]
fn a_read_that_waits_does_not_take_from_a_pipe_that_was_made_meanwhile() {
    let (host, task, mut other) = two_threads();
    host.leave(task, READ, &[3, DATA, 10]);
    assert_eq!(host.call(&mut other, CLOSE, &[3]), 0);
    assert_eq!(host.call(&mut other, CLOSE, &[4]), 0);
    assert_eq!(host.call(&mut other, PIPE, &[ENDS]), 0);
    assert_eq!(host.peek_word(&other, ENDS), 3 | 4 << 32, "the same numbers");
    assert_eq!(host.call(&mut other, WRITE, &[4, DATA, 5]), 5);
    assert_eq!(host.run().registers.rax, 0, "its own pipe has ended");
    assert_eq!(host.call(&mut other, READ, &[3, DATA, 10]), 5);
}

#[test]
fn a_write_that_waits_goes_on_into_the_pipe_that_it_began_with() {
    let (host, mut task, mut other) = two_threads();
    fill(&host, &mut task);
    host.leave(task, WRITE, &[4, DATA, 100]);
    assert_eq!(host.call(&mut other, CLOSE, &[4]), 0);
    assert_eq!(host.call(&mut other, READ, &[3, DATA, 4096]), 4096);
    assert_eq!(host.run().registers.rax, 100);
    for _ in 0..15 {
        assert_eq!(host.call(&mut other, READ, &[3, DATA, 4096]), 4096);
    }
    assert_eq!(host.call(&mut other, READ, &[3, DATA, 4096]), 100);
    assert_eq!(host.call(&mut other, READ, &[3, DATA, 4096]), 0, "nobody holds the writing end");
}

#[test]
fn sendfile_that_waits_keeps_both_its_files() {
    let (host, mut task, mut other) = two_threads();
    let path = host.text(&task, DATA, "/etc/note");
    assert_eq!(host.call(&mut task, OPEN, &[path, 0]), 5);
    fill(&host, &mut task);
    host.leave(task, SENDFILE, &[4, 5, 0, 5]);
    assert_eq!(host.call(&mut other, CLOSE, &[4]), 0);
    assert_eq!(host.call(&mut other, CLOSE, &[5]), 0);
    assert_eq!(host.call(&mut other, READ, &[3, DATA, 4096]), 4096);
    assert_eq!(host.run().registers.rax, 5);
}

/// Lets the second process's first thread wait in a read whose descriptor is closed, so that it alone has the pipe's reading end.
fn waiting_alone() -> (Host<'static>, Task, Task) {
    let (host, mut task) = Host::boot();
    ignore_broken_pipes(&host, &mut task);
    assert_eq!(host.call(&mut task, PIPE, &[ENDS]), 0);
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    let mut child = host.run();
    assert_eq!(host.call(&mut task, CLOSE, &[3]), 0);
    let action = host.words(&child, DATA, &[0x40_1500, 0x0400_0000, 0x40_1600, 0]);
    assert_eq!(host.call(&mut child, RT_SIGACTION, &[SIGUSR1, action, 0, 8]), 0);
    assert_eq!(host.call(&mut child, CLONE, &[THREAD, DATA + 0x800, 0, 0, 0]), 3);
    let mut other = host.run();
    host.leave(child, READ, &[3, DATA, 10]);
    assert_eq!(host.call(&mut other, CLOSE, &[3]), 0);
    (host, task, other)
}

#[test]
fn a_signal_s_handler_ends_what_a_call_held() {
    let (host, mut task, _other) = waiting_alone();
    assert_eq!(host.call(&mut task, TGKILL, &[2, 2, SIGUSR1]), 0);
    assert_eq!(host.call(&mut task, WRITE, &[4, DATA, 1]), 1, "until it runs it has the reader");
    assert_eq!(host.run().registers.rdi, SIGUSR1);
    assert_eq!(host.call(&mut task, WRITE, &[4, DATA, 1]), EPIPE);
}

#[test]
fn the_end_of_a_thread_ends_what_its_call_held() {
    let (host, mut task, other) = waiting_alone();
    assert_eq!(host.call(&mut task, WRITE, &[4, DATA, 0]), 0);
    host.leave(other, EXIT_GROUP, &[0]);
    assert!(host.try_run().is_none());
    assert_eq!(host.call(&mut task, WRITE, &[4, DATA, 1]), EPIPE);
    assert_eq!(host.call(&mut task, WAIT4, &[2, 0, 0, 0]), 2);
}
