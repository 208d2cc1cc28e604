//! Calls that run out of the kernel's own memory: at every allocation the call fails with ENOMEM, all is as before, and made again it does what it would have done.

use crate::abi::{CLOSE, ENOMEM, GETDENTS64, OPEN, PIPE, READ, SOCKETPAIR};
use crate::common::{DATA, Host, Task};
use crate::failing::{Fails, with_failures};

/// Where a call's paths and structures lie.
const FIRST: u64 = DATA;
const SECOND: u64 = DATA + 0x80;
const WORDS: u64 = DATA + 0x100;
/// Where a call's results go, and those of looks at the state.
const RESULT: u64 = DATA + 0x400;
const LOOK: u64 = DATA + 0x1000;

/// What a call may do when memory for a part of it is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Without {
    /// It fails.
    Fails,
    /// It fails; the number that its task would have had is not given again, as in Linux.
    TakesNumber,
    /// It fails, or goes without something that nobody depends on: a file's name in maps.
    MayGoOn,
}

/// A call: its name, number and arguments, the paths that it takes, words in memory, and what it may do.
type Call = (&'static str, u64, [u64; 6], [&'static str; 2], &'static [u64], Without);

/// An empty place in the list of arguments.
const NO: u64 = 0;
use Without::{Fails as F, MayGoOn as M, TakesNumber as N};

#[rustfmt::skip]
const CALLS: [Call; 44] = [
    ("open", OPEN, [FIRST, 0, NO, NO, NO, NO], ["/etc/note", ""], &[], F),
    ("open a directory", OPEN, [FIRST, 0o20_0000, NO, NO, NO, NO], ["/tmp", ""], &[], F),
    ("create", OPEN, [FIRST, 0o102, 0o644, NO, NO, NO], ["/tmp/new", ""], &[], M),
    ("open through a link", OPEN, [FIRST, 0, NO, NO, NO, NO], ["/link", ""], &[], F),
    ("open a file of /proc", OPEN, [FIRST, 0, NO, NO, NO, NO], ["/proc/self/auxv", ""], &[], F),
    ("stat", 4, [FIRST, RESULT, NO, NO, NO, NO], ["/proc/self/exe", ""], &[], F),
    ("read a text", READ, [3, RESULT, 0x800, NO, NO, NO], ["/proc/self/maps", "open"], &[], F),
    ("read a status", READ, [3, RESULT, 0x800, NO, NO, NO], ["/proc/self/status", "open"], &[], F),
    ("read stat", READ, [3, RESULT, 0x800, NO, NO, NO], ["/proc/self/stat", "open"], &[], F),
    ("read limits", READ, [3, RESULT, 0x800, NO, NO, NO], ["/proc/self/limits", "open"], &[], F),
    ("read arguments", READ, [3, RESULT, 0x800, NO, NO, NO], ["/proc/self/cmdline", "open"], &[], F),
    ("read a name", READ, [3, RESULT, 0x800, NO, NO, NO], ["/proc/self/comm", "open"], &[], F),
    ("list a directory", GETDENTS64, [3, RESULT, 0x800, NO, NO, NO], ["/dev", "open"], &[], F),
    ("list /proc", GETDENTS64, [3, RESULT, 0x800, NO, NO, NO], ["/proc", "open"], &[], F),
    ("mkdir", 83, [FIRST, 0o755, NO, NO, NO, NO], ["/tmp/directory", ""], &[], F),
    ("rmdir", 84, [FIRST, NO, NO, NO, NO, NO], ["/tmp/old", ""], &[], F),
    ("symlink", 88, [FIRST, SECOND, NO, NO, NO, NO], ["/etc/note", "/tmp/soft"], &[], F),
    ("link", 86, [FIRST, SECOND, NO, NO, NO, NO], ["/etc/note", "/tmp/hard"], &[], F),
    ("unlink", 87, [FIRST, NO, NO, NO, NO, NO], ["/link", ""], &[], F),
    ("rename", 82, [FIRST, SECOND, NO, NO, NO, NO], ["/etc/note", "/tmp/moved"], &[], M),
    ("rename over another", 82, [FIRST, SECOND, NO, NO, NO, NO], ["/etc/note", "/link"], &[], M),
    ("mknod of a file", 133, [FIRST, 0o10_0644, NO, NO, NO, NO], ["/tmp/node", ""], &[], F),
    ("mknod of a device", 133, [FIRST, 0o2_0644, 0x103, NO, NO, NO], ["/tmp/null", ""], &[], F),
    ("chdir", 80, [FIRST, NO, NO, NO, NO, NO], ["/tmp", ""], &[], F),
    ("getcwd", 79, [RESULT, 100, NO, NO, NO, NO], ["", ""], &[], F),
    ("readlink", 89, [FIRST, RESULT, 100, NO, NO, NO], ["/proc/self/fd/1", ""], &[], F),
    ("truncate", 76, [FIRST, 3, NO, NO, NO, NO], ["/etc/note", ""], &[], F),
    ("pipe", PIPE, [RESULT, NO, NO, NO, NO, NO], ["", ""], &[], F),
    ("socketpair", SOCKETPAIR, [1, 5, 0, RESULT, NO, NO], ["", ""], &[], F),
    ("dup2", 33, [1, 700, NO, NO, NO, NO], ["", ""], &[], F),
    ("fcntl", 72, [1, 0, 600, NO, NO, NO], ["", ""], &[], F),
    ("memfd_create", 319, [FIRST, 0, NO, NO, NO, NO], ["name", ""], &[], F),
    ("pidfd_open", 434, [1, 0, NO, NO, NO, NO], ["", ""], &[], F),
    ("write to a pipe", 1, [4, RESULT, 0x900, NO, NO, NO], ["", "pipe"], &[], F),
    ("fork", 57, [NO; 6], ["", ""], &[], N),
    ("clone a thread", 56, [0x1_0f00, DATA + 0x1ff0, NO, NO, NO, NO], ["", ""], &[], N),
    ("clone3 with a descriptor", 435, [WORDS, 64, NO, NO, NO, NO], ["", ""], &[0x1000, RESULT, 0, 0, 17, 0, 0, 0], N),
    ("execve", 59, [FIRST, NO, NO, NO, NO, NO], ["/bin/init", ""], &[], F),
    ("execve of a script", 59, [FIRST, WORDS, WORDS, NO, NO, NO], ["/bin/script", "x"], &[SECOND, SECOND, 0], F),
    ("readv", 19, [3, WORDS, 2, NO, NO, NO], ["/etc/note", "open"], &[RESULT, 2, RESULT, 9], F),
    ("process_vm_readv", 310, [1, WORDS, 2, WORDS, 2, 0], ["", ""], &[RESULT, 2, RESULT, 9], F),
    ("select", 23, [5, WORDS, WORDS + 8, NO, WORDS + 16, NO], ["", "pipe"], &[1 << 3, 1 << 4, 0, 0], F),
    ("vmsplice", 278, [4, WORDS, 1, 0, NO, NO], ["", "pipe"], &[RESULT, 5], F),
    ("getrandom", 318, [RESULT, 100, 0, NO, NO, NO], ["", ""], &[], F),
];

/// How a call ended: its result, or none where the thread left its CPU.
type Outcome = Option<i64>;

/// Boots, with `nr_open` more open files, so that one table or another is full.
fn begin(call: &Call, nr_open: usize) -> (Host<'static>, Task) {
    let (_, _, _, paths, words, _) = call;
    let (host, mut task) = Host::boot();
    for (place, path) in [FIRST, SECOND].into_iter().zip(paths) {
        host.text(&task, place, path);
    }
    host.text(&task, RESULT, "/tmp/old");
    assert_eq!(host.call(&mut task, 83, &[RESULT, 0o755]), 0);
    match paths[1] {
        "open" => assert_eq!(host.call(&mut task, OPEN, &[FIRST, 0]), 3),
        "pipe" => assert_eq!(host.call(&mut task, PIPE, &[RESULT]), 0),
        _ => {}
    }
    let note = host.text(&task, LOOK, "/etc/note");
    (0..nr_open).for_each(|_| assert!(host.call(&mut task, OPEN, &[note, 0]) > 2));
    words.iter().zip(0..).for_each(|(word, index)| host.poke(&task, WORDS + 8 * index, &word.to_le_bytes()));
    (host, task)
}

fn step(host: &Host<'_>, task: &mut Task, call: &Call) -> Outcome {
    host.step(task, call.1, &call.2).ok()
}

/// Reads a file or lists a directory.
fn look(host: &Host<'_>, task: &mut Task, path: &str, call: u64) -> Vec<u8> {
    let path = host.text(task, LOOK, path);
    let fd = host.call(task, OPEN, &[path, 0]) as u64;
    let count = host.call(task, call, &[fd, LOOK + 0x100, 0xd00]);
    assert_eq!(host.call(task, CLOSE, &[fd]), 0);
    host.peek(task, LOOK + 0x100, usize::try_from(count).unwrap())
}

/// What programs see of the tables: names, descriptors, processes and threads, address spaces and files, the caller's limits and directory.
pub(crate) fn state(host: &Host<'_>, task: &mut Task) -> Vec<Vec<u8>> {
    let lists = ["/", "/tmp", "/etc", "/proc", "/proc/self/fd"];
    let mut all: Vec<_> = lists.iter().map(|path| look(host, task, path, GETDENTS64)).collect();
    all.extend(["/proc/loadavg", "/proc/self/comm"].iter().map(|path| look(host, task, path, READ)));
    // But for how long it has run, which is the test's doing.
    let stat = look(host, task, "/proc/self/stat", READ);
    all.extend(
        stat.split(|&byte| byte == b' ').enumerate().filter(|(at, _)| *at != 13).map(|(_, field)| field.to_vec()),
    );
    all.push(format!("{:?} {}", host.userland.memory().counts(), host.userland.memory().nr_held()).into_bytes());
    all
}

/// Makes a call at every number of its allocations; returns how many there are.
fn try_all(call: &Call, nr_open: usize) -> u64 {
    let (name, .., without) = call;
    let (host, mut task) = begin(call, nr_open);
    let (wanted, allocations) = with_failures(Fails::Only(0), || step(&host, &mut task, call));
    assert!(wanted.is_none_or(|result| result >= 0), "{name}: {wanted:?}");
    // Looked at on a machine of its own: a look fills tables that the call is to find as they were.
    let (other, mut look) = begin(call, nr_open);
    let before = state(&other, &mut look);
    for number in 1..=allocations {
        for plan in [Fails::Only(number), Fails::From(number)] {
            let (host, mut task) = begin(call, nr_open);
            let (outcome, _) = with_failures(plan, || step(&host, &mut task, call));
            if outcome == wanted && *without == M {
                continue;
            }
            let case = format!("{name}, {plan:?} of {allocations}, {nr_open} more open files");
            assert_eq!(outcome, Some(ENOMEM), "{case}");
            assert!(state(&host, &mut task) == before, "{case}: something changed");
            let again = step(&host, &mut task, call);
            let is_alike = again == wanted || *without == N && again > wanted;
            assert!(is_alike, "{case}, made again: {again:?}, not {wanted:?}");
        }
    }
    allocations
}

#[test]
fn a_call_without_memory_fails_leaves_all_as_it_was_and_works_when_made_again() {
    for call in &CALLS {
        let allocations: u64 = (0..6).map(|nr_open| try_all(call, nr_open)).sum();
        assert!(allocations > 0, "{}: nothing to fail", call.0);
    }
}
