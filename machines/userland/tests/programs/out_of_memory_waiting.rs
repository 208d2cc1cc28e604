//! Calls that wait and run out of the kernel's own memory, before or after the wait: ENOMEM, all is as before, and made again they do what they would have done.

use std::sync::atomic::Ordering;

use crate::abi::{
    CLOCK_NANOSLEEP, CLONE, ENOMEM, EXECVE, EXIT, EXIT_GROUP, FORK, FUTEX, KILL, NANOSLEEP, OPEN, PIPE, POLL, READ,
    READV, RECVFROM, RT_SIGACTION, RT_SIGPROCMASK, RT_SIGSUSPEND, RT_SIGTIMEDWAIT, SELECT, SENDFILE, SENDTO, SIGUSR1,
    SOCKETPAIR, VFORK, WAIT4, WAITID, WRITE,
};
use crate::common::{DATA, Host, Task};
use crate::failing::{Exempt, Fails, with_failures};
use crate::out_of_memory::state;

/// Flags of clone that make a thread.
const THREAD: u64 = 0x1_0f00;
/// Where a call's words lie, and where its results go.
const WORDS: u64 = DATA + 0x100;
const RESULT: u64 = DATA + 0x400;
const NO: u64 = 0;
const SECOND: u64 = 1_000_000_000;

/// What there is before the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Begin {
    /// A child.
    Child,
    /// A child, and a pipe at 3 and 4.
    Pipe,
    /// A child, and a full pipe.
    FullPipe,
    /// A child, a full pipe, and /etc/note at 5.
    FullPipeAndNote,
    /// A child, and a pair of sockets of this type at 3 and 4.
    Sockets(u64),
    /// A child, and a pair of sockets that holds as many messages as it may.
    FullSockets,
    /// A thread.
    Thread,
    /// Nothing else.
    Alone,
}

/// What ends the wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wake {
    /// The other ends.
    Ends,
    /// It writes four bytes to 4.
    Writes,
    /// It reads from 3.
    Reads,
    /// It sends SIGUSR1.
    Signals,
    /// It wakes whoever waits for the word.
    Futex,
    /// The time is over.
    Time,
    /// What the call has made runs, and ends.
    NewChildEnds,
    /// The other is told to end, and is gone also if the call fails afterwards.
    Leaves,
}

/// What is left of a call that failed after its wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum After {
    /// Nothing.
    Nothing,
    /// The number that its task would have had is not given again.
    TakesNumber,
}

type Call = (&'static str, u64, [u64; 6], &'static [u64], Begin, Wake, After);

use After::{Nothing, TakesNumber};

#[rustfmt::skip]
const CALLS: [Call; 25] = [
    ("wait4", WAIT4, [u64::MAX, RESULT, 0, 0, NO, NO], &[], Begin::Child, Wake::Ends, Nothing),
    ("waitid", WAITID, [1, 2, RESULT, 4, 0, NO], &[], Begin::Child, Wake::Ends, Nothing),
    ("read", READ, [3, RESULT, 10, NO, NO, NO], &[], Begin::Pipe, Wake::Writes, Nothing),
    ("readv", READV, [3, WORDS, 2, NO, NO, NO], &[RESULT, 2, RESULT + 8, 9], Begin::Pipe, Wake::Writes, Nothing),
    ("write", WRITE, [4, RESULT, 100, NO, NO, NO], &[], Begin::FullPipe, Wake::Reads, Nothing),
    ("write more than fits", WRITE, [4, RESULT, 5000, NO, NO, NO], &[], Begin::FullPipe, Wake::Reads, Nothing),
    ("sendfile", SENDFILE, [4, 5, 0, 5, NO, NO], &[], Begin::FullPipeAndNote, Wake::Reads, Nothing),
    ("read bytes from a socket", READ, [3, RESULT, 10, NO, NO, NO], &[], Begin::Sockets(1), Wake::Writes, Nothing),
    ("read a message", READ, [3, RESULT, 10, NO, NO, NO], &[], Begin::Sockets(5), Wake::Writes, Nothing),
    ("recvfrom", RECVFROM, [3, RESULT, 10, 0, 0, 0], &[], Begin::Sockets(5), Wake::Writes, Nothing),
    ("sendto", SENDTO, [4, RESULT, 10, 0, 0, 0], &[], Begin::FullSockets, Wake::Reads, Nothing),
    ("poll", POLL, [WORDS, 1, u64::MAX, NO, NO, NO], &[3 | 1 << 32], Begin::Pipe, Wake::Writes, Nothing),
    ("poll for a while", POLL, [WORDS, 1, 1000, NO, NO, NO], &[3 | 1 << 32], Begin::Pipe, Wake::Time, Nothing),
    ("ppoll", 271, [WORDS, 1, WORDS + 16, 0, NO, NO], &[3 | 1 << 32, 0, 1, 0], Begin::Pipe, Wake::Time, Nothing),
    ("select", SELECT, [5, WORDS, 0, 0, 0, NO], &[1 << 3], Begin::Pipe, Wake::Writes, Nothing),
    ("pselect6", 270, [5, WORDS, 0, 0, WORDS + 16, 0], &[1 << 3, 0, 1, 0], Begin::Pipe, Wake::Time, Nothing),
    ("futex", FUTEX, [RESULT, 128, 0, 0, 0, 0], &[], Begin::Thread, Wake::Futex, Nothing),
    ("futex for a while", FUTEX, [RESULT, 128, 0, WORDS, 0, 0], &[1, 0], Begin::Alone, Wake::Time, Nothing),
    ("nanosleep", NANOSLEEP, [WORDS, 0, NO, NO, NO, NO], &[1, 0], Begin::Alone, Wake::Time, Nothing),
    ("clock_nanosleep", CLOCK_NANOSLEEP, [1, 0, WORDS, 0, NO, NO], &[1, 0], Begin::Alone, Wake::Time, Nothing),
    ("rt_sigsuspend", RT_SIGSUSPEND, [WORDS, 8, NO, NO, NO, NO], &[0], Begin::Child, Wake::Signals, Nothing),
    ("pause", 34, [NO; 6], &[], Begin::Child, Wake::Signals, Nothing),
    ("rt_sigtimedwait", RT_SIGTIMEDWAIT, [WORDS, RESULT, 0, 8, NO, NO], &[1 << 9], Begin::Child, Wake::Signals, Nothing),
    ("vfork", VFORK, [NO; 6], &[], Begin::Alone, Wake::NewChildEnds, TakesNumber),
    ("execve among threads", EXECVE, [DATA, 0, 0, NO, NO, NO], &[], Begin::Thread, Wake::Leaves, Nothing),
];

/// Machine, caller and other of a case.
struct Case {
    host: Host<'static>,
    task: Option<Task>,
    other: Option<Task>,
    is_woken: bool,
}

impl Case {
    fn begin(call: &Call) -> Self {
        let (_, number, _, words, begin, ..) = *call;
        let (host, mut task) = Host::boot();
        host.text(&task, DATA, "/bin/init");
        match begin {
            Begin::Pipe => assert_eq!(host.call(&mut task, PIPE, &[RESULT]), 0),
            Begin::FullPipe | Begin::FullPipeAndNote => {
                assert_eq!(host.call(&mut task, PIPE, &[RESULT]), 0);
                (0..16).for_each(|_| assert_eq!(host.call(&mut task, WRITE, &[4, DATA, 4096]), 4096));
            }
            Begin::Sockets(kind) => assert_eq!(host.call(&mut task, SOCKETPAIR, &[1, kind, 0, RESULT]), 0),
            Begin::FullSockets => {
                assert_eq!(host.call(&mut task, SOCKETPAIR, &[1, 5, 0, RESULT]), 0);
                (0..256).for_each(|_| assert_eq!(host.call(&mut task, WRITE, &[4, DATA, 1]), 1));
            }
            Begin::Child | Begin::Thread | Begin::Alone => {}
        }
        if begin == Begin::FullPipeAndNote {
            let note = host.text(&task, RESULT, "/etc/note");
            assert_eq!(host.call(&mut task, OPEN, &[note, 0]), 5);
        }
        let action = host.words(&task, RESULT, &[0x40_1500, 0x0400_0000, 0x40_1600, 0]);
        assert_eq!(host.call(&mut task, RT_SIGACTION, &[SIGUSR1, action, 0, 8]), 0);
        if number != 34 {
            let blocked = host.words(&task, RESULT, &[1 << 9]);
            assert_eq!(host.call(&mut task, RT_SIGPROCMASK, &[0, blocked, 0, 8]), 0);
        }
        host.words(&task, RESULT, &[0]);
        words.iter().zip(0..).for_each(|(word, index)| host.poke(&task, WORDS + 8 * index, &word.to_le_bytes()));
        let made = match begin {
            Begin::Alone => 0,
            Begin::Thread => host.call(&mut task, CLONE, &[THREAD, DATA + 0x800, 0, 0, 0]),
            _ => host.call(&mut task, FORK, &[]),
        };
        let other = (made != 0).then(|| host.run());
        Self { host, task: Some(task), other, is_woken: false }
    }

    /// Does what ends the call's wait.
    fn wake(&mut self, how: Wake) {
        let _always_has_memory = Exempt::begin();
        self.is_woken = true;
        let host = &self.host;
        let call = |other: &mut Option<Task>, number, arguments: &[u64]| {
            other.as_mut().map(|other| host.call(other, number, arguments))
        };
        match how {
            Wake::Ends | Wake::NewChildEnds => host.leave(self.other.take().unwrap(), EXIT_GROUP, &[3]),
            Wake::Writes => assert_eq!(call(&mut self.other, WRITE, &[4, DATA, 4]), Some(4)),
            Wake::Reads => assert!(call(&mut self.other, READ, &[3, DATA, 8192]) > Some(0)),
            Wake::Signals => assert_eq!(call(&mut self.other, KILL, &[1, SIGUSR1]), Some(0)),
            Wake::Futex => assert_eq!(call(&mut self.other, FUTEX, &[RESULT, 129, 1, 0, 0, 0]), Some(1)),
            Wake::Time => drop(host.userland.machine().clock.fetch_add(SECOND, Ordering::Relaxed)),
            Wake::Leaves => host.leave(self.other.take().unwrap(), EXIT, &[0]),
        }
    }

    /// Makes a call, and ends its waits; returns its result, and where the program goes on. The part of waking is never short of memory.
    fn drive(&mut self, call: &Call) -> (i64, u64) {
        let (_, number, arguments, _, _, wake, _) = *call;
        let mut task = self.task.take().unwrap();
        let task = match self.host.step(&mut task, number, &arguments) {
            Ok(_) => task,
            Err(leaving) => {
                self.host.userland.put_back(self.host.cpu, task, leaving);
                match self.host.try_run() {
                    Some(ready) if ready.tid() == 1 => ready,
                    ready => {
                        self.other = ready.or(self.other.take());
                        self.wake(wake);
                        self.host.run()
                    }
                }
            }
        };
        let result = (task.registers.rax as i64, task.registers.rip);
        self.task = Some(task);
        result
    }

    fn state(&mut self) -> Vec<Vec<u8>> {
        state(&self.host, self.task.as_mut().unwrap())
    }
}

/// Makes a call at every number of its allocations; returns how many there are.
fn try_all(call: &Call) -> u64 {
    let (name, .., wake, after) = *call;
    let mut case = Case::begin(call);
    let (wanted, allocations) = with_failures(Fails::Only(0), || case.drive(call));
    assert!(wanted.0 != ENOMEM && case.is_woken, "{name}: {wanted:?}");
    for number in 1..=allocations {
        for plan in [Fails::Only(number), Fails::From(number)] {
            let mut case = Case::begin(call);
            let (outcome, _) = with_failures(plan, || case.drive(call));
            let what = format!("{name}, {plan:?} of {allocations}");
            assert_eq!(outcome.0, ENOMEM, "{what}");
            let mut before = Case::begin(call);
            if case.is_woken {
                before.wake(wake);
                assert!(before.host.try_run().is_none());
            }
            assert!(case.state() == before.state(), "{what}: something changed");
            let again = case.drive(call);
            let is_alike = again == wanted || after == TakesNumber && again.0 > wanted.0;
            assert!(is_alike, "{what}, made again: {again:?}, not {wanted:?}");
        }
    }
    allocations
}

#[test]
fn a_call_that_waits_fails_without_memory_leaves_all_as_it_was_and_works_when_made_again() {
    let allocations: Vec<_> = CALLS.iter().map(|call| (call.0, try_all(call))).collect();
    let needing: Vec<_> = allocations.iter().filter(|(_, count)| *count > 0).map(|(name, _)| *name).collect();
    // The others wait, wake and return without asking for memory, so they cannot fail for the lack of it.
    let wanted =
        ["readv", "read a message", "recvfrom", "sendto", "select", "pselect6", "vfork", "execve among threads"];
    assert_eq!(needing, wanted);
}
