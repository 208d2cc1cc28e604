//! Pairs of sockets: what one writes the other reads, in a row or message by message, until one of them is shut or closed.

use crate::abi::{
    CLOSE, EAFNOSUPPORT, EAGAIN, ECONNRESET, EFAULT, EINVAL, EISCONN, EMSGSIZE, ENOTSOCK, EOPNOTSUPP, EPIPE,
    EPROTONOSUPPORT, ESOCKTNOSUPPORT, ESPIPE, EXIT_GROUP, FORK, FSTAT, LSEEK, O_CLOEXEC, O_NONBLOCK, POLL, READ, READV,
    RECVFROM, SENDTO, SHUTDOWN, SOCKETPAIR, WAIT4, WRITE, WRITEV,
};
use crate::common::{DATA, Host, Task};

const AF_UNIX: u64 = 1;
const SOCK_STREAM: u64 = 1;
const SOCK_SEQPACKET: u64 = 5;
const MSG_DONTWAIT: u64 = 0x40;
const MSG_NOSIGNAL: u64 = 0x4000;
const IN: u64 = DATA + 0x800;

/// Boots a program with a pair of sockets at 3 and 4.
fn pair(kind: u64) -> (Host<'static>, Task) {
    let (host, mut task) = Host::boot();
    assert_eq!(host.call(&mut task, SOCKETPAIR, &[AF_UNIX, kind, 0, DATA]), 0);
    assert_eq!(host.peek(&task, DATA, 8), [3, 0, 0, 0, 4, 0, 0, 0]);
    (host, task)
}

fn send(host: &Host<'_>, task: &mut Task, fd: u64, text: &str) -> i64 {
    let at = host.text(task, DATA + 0x400, text);
    host.call(task, SENDTO, &[fd, at, text.len() as u64, MSG_NOSIGNAL, 0, 0])
}

/// Reads up to `room` bytes, or returns the error.
fn receive(host: &Host<'_>, task: &mut Task, fd: u64, room: u64) -> Result<Vec<u8>, i64> {
    let count = host.call(task, RECVFROM, &[fd, IN, room, MSG_DONTWAIT, 0, 0]);
    if count < 0 { Err(count) } else { Ok(host.peek(task, IN, count as usize)) }
}

fn ready(host: &Host<'_>, task: &mut Task, fd: u64) -> u64 {
    host.words(task, IN, &[fd | 0xffff << 32]);
    host.call(task, POLL, &[IN, 1, 0]);
    host.peek_word(task, IN) >> 48
}

#[test]
fn what_one_writes_the_other_reads_both_ways() {
    let (host, mut task) = pair(SOCK_STREAM);
    assert_eq!((send(&host, &mut task, 3, "there"), send(&host, &mut task, 4, "back")), (5, 4));
    assert_eq!(send(&host, &mut task, 3, "fore"), 4);
    assert_eq!(receive(&host, &mut task, 4, 7).unwrap(), b"therefo");
    assert_eq!(host.call(&mut task, READ, &[3, IN, 100]), 4);
    assert_eq!(receive(&host, &mut task, 4, 7).unwrap(), b"re");
    assert_eq!(receive(&host, &mut task, 4, 7), Err(EAGAIN));
    assert_eq!((ready(&host, &mut task, 3), send(&host, &mut task, 4, "x"), ready(&host, &mut task, 3)), (4, 1, 5));
    assert_eq!(host.call(&mut task, LSEEK, &[3, 0, 0]), ESPIPE);
    assert_eq!(host.call(&mut task, FSTAT, &[3, IN]), 0);
    assert_eq!(host.peek_word(&task, IN + 24) as u32 & 0o170_000, 0o140_000, "a socket");
}

#[test]
fn messages_keep_their_borders_whatever_parts_they_are_read_into() {
    let (host, mut task) = pair(SOCK_SEQPACKET | O_NONBLOCK | O_CLOEXEC);
    let text = host.text(&task, DATA + 0x400, "of two parts");
    let parts = host.words(&task, DATA + 0x100, &[text, 6, text + 6, 6]);
    assert_eq!(host.call(&mut task, WRITEV, &[3, parts, 2]), 12);
    assert_eq!((send(&host, &mut task, 3, "second"), send(&host, &mut task, 3, "third")), (6, 5));
    let into = host.words(&task, DATA + 0x140, &[IN, 2, IN + 0x10, 50]);
    assert_eq!(host.call(&mut task, READV, &[4, into, 2]), 12);
    assert_eq!((host.peek(&task, IN, 2), host.peek(&task, IN + 0x10, 10)), (b"of".to_vec(), b" two parts".to_vec()));
    assert_eq!(receive(&host, &mut task, 4, 3).unwrap(), b"sec", "and the rest is lost");
    assert_eq!(receive(&host, &mut task, 4, 100).unwrap(), b"third");
    assert_eq!(host.call(&mut task, READ, &[4, IN, 9]), EAGAIN);
    assert_eq!(host.call(&mut task, WRITE, &[3, DATA, 1 << 20]), EMSGSIZE);
}

#[test]
fn a_shut_way_gives_what_it_holds_and_then_its_end() {
    let (host, mut task) = pair(SOCK_STREAM);
    assert_eq!(send(&host, &mut task, 3, "last"), 4);
    assert_eq!(host.call(&mut task, SHUTDOWN, &[3, 1]), 0);
    assert_eq!(send(&host, &mut task, 3, "x"), EPIPE);
    assert_eq!(ready(&host, &mut task, 4), 0x2005);
    assert_eq!(receive(&host, &mut task, 4, 9).unwrap(), b"last");
    assert_eq!(receive(&host, &mut task, 4, 9).unwrap(), b"");
    assert_eq!(send(&host, &mut task, 4, "back"), 4, "the other way is open");
    assert_eq!(host.call(&mut task, SHUTDOWN, &[3, 2]), 0);
    assert_eq!(ready(&host, &mut task, 4), 0x2015);
    assert_eq!(host.call(&mut task, SHUTDOWN, &[3, 3]), EINVAL);
}

#[test]
fn who_is_left_alone_finds_the_end_or_that_it_was_not_heard() {
    let (host, mut task) = pair(SOCK_STREAM);
    assert_eq!((send(&host, &mut task, 3, "heard"), send(&host, &mut task, 4, "unheard")), (5, 7));
    assert_eq!(host.call(&mut task, CLOSE, &[3]), 0);
    assert_eq!(receive(&host, &mut task, 4, 9).unwrap(), b"heard");
    assert_eq!(receive(&host, &mut task, 4, 9), Err(ECONNRESET));
    assert_eq!(receive(&host, &mut task, 4, 9).unwrap(), b"");
    assert_eq!(send(&host, &mut task, 4, "x"), EPIPE);
}

#[test]
fn a_reader_waits_for_what_a_child_writes() {
    let (host, mut task) = pair(SOCK_SEQPACKET);
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    host.leave(task, READ, &[3, IN, 100]);
    let mut child = host.run();
    assert_eq!(send(&host, &mut child, 4, "hello"), 5);
    host.leave(child, EXIT_GROUP, &[0]);
    let mut task = host.run();
    assert_eq!((task.tid(), host.peek(&task, IN, 5)), (1, b"hello".to_vec()));
    assert_eq!(host.call(&mut task, WAIT4, &[2, 0, 0, 0]), 2);
}

#[test]
fn what_no_pair_can_be_made_of_is_refused() {
    let (host, mut task) = Host::boot();
    let mut make = |family, kind, protocol, at| host.call(&mut task, SOCKETPAIR, &[family, kind, protocol, at]);
    assert_eq!(make(2, 1, 0, DATA), EAFNOSUPPORT);
    assert_eq!(make(AF_UNIX, 2, 0, DATA), ESOCKTNOSUPPORT, "datagrams are not here");
    assert_eq!(make(AF_UNIX, 1, 6, DATA), EPROTONOSUPPORT);
    assert_eq!(make(AF_UNIX, 11, 0, DATA), EINVAL);
    assert_eq!(make(AF_UNIX, 1 | 0x10, 0, DATA), EINVAL);
    assert_eq!(make(AF_UNIX, 1, 0, 8), EFAULT);
    assert_eq!(make(AF_UNIX, 1, 1, DATA), 0);
    assert_eq!(host.peek(&task, DATA, 8), [3, 0, 0, 0, 4, 0, 0, 0], "what failed before took no number");
    assert_eq!(host.call(&mut task, SENDTO, &[1, DATA, 1, 0, 0, 0]), ENOTSOCK);
    assert_eq!(host.call(&mut task, SHUTDOWN, &[1, 2]), ENOTSOCK);
    assert_eq!(host.call(&mut task, SENDTO, &[3, DATA, 1, 0, DATA, 2]), EISCONN);
    assert_eq!(host.call(&mut task, RECVFROM, &[3, DATA, 1, 2, 0, 0]), EOPNOTSUPP, "no peeking here");
}
