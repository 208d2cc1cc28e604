//! Programs that call anything with anything: the machine must go on, and everything must be gone when they have ended.

use std::sync::atomic::Ordering;

use userland::Memory;

use crate::abi::{EXIT, EXIT_GROUP, GETPID};
use crate::common::{DATA, Host, Task};

/// Runs of programs, each with a seed of its own.
const RUNS: u64 = 300;
/// Calls of a run.
const CALLS: u64 = 300;
const NR_CALLS: u64 = 470;

/// Numbers as xorshift gives them.
pub(crate) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A value that a call may take for an address, a size, a descriptor, a set of flags.
    fn argument(&mut self) -> u64 {
        match self.below(9) {
            0 => self.below(8),
            1 => self.below(0x1000),
            2 => DATA + self.below(0x2000),
            3 => DATA + 8 * self.below(0x400),
            4 => u64::MAX - self.below(0x1000),
            5 => 1 << self.below(64),
            6 => 0x7fff_ffff_f000 - self.below(0x2000),
            7 => self.next(),
            _ => 0,
        }
    }
}

/// Fills a program's data with paths, small numbers and addresses.
pub(crate) fn scatter<M: Memory>(host: &Host<'_, M>, task: &Task<M>, random: &mut Random) {
    for (slot, path) in
        ["/tmp/a", "/tmp/b", "..", "/proc/self/fd", "/proc/self/status", "/bin/script", "/dev/zero", "a/b"]
            .iter()
            .enumerate()
    {
        host.text(task, DATA + 64 * slot as u64, path);
    }
    for _ in 0..40 {
        let value = random.argument();
        host.poke(task, DATA + 0x800 + 8 * random.below(0x100), &value.to_le_bytes());
    }
}

/// Makes random calls on a machine that has just booted, and ends every program.
pub(crate) fn run<M: Memory>(host: &Host<'_, M>, first: Task<M>, seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    scatter(host, &first, &mut random);
    let mut current = Some(first);
    for _ in 0..CALLS {
        host.userland.machine().clock.fetch_add(1_000_000, Ordering::Relaxed);
        let Some(mut task) = current.take().or_else(|| host.try_run()) else { continue };
        let number = random.below(NR_CALLS);
        let arguments = [(); 6].map(|()| random.argument());
        let exits = matches!(number, EXIT | EXIT_GROUP) && task.tid() == 1;
        match host.step(&mut task, if exits { GETPID } else { number }, &arguments) {
            Ok(_) => current = Some(task),
            Err(leaving) => host.userland.put_back(host.cpu, task, leaving),
        }
    }
    end(host, current);
}

/// Ends the programs that can still run; what waits for a signal that nobody sends is left.
fn end<M: Memory>(host: &Host<'_, M>, current: Option<Task<M>>) {
    let mut current = current;
    for _ in 0..10_000 {
        host.userland.machine().clock.fetch_add(1 << 40, Ordering::Relaxed);
        let Some(mut task) = current.take().or_else(|| host.try_run()) else { return };
        match host.step(&mut task, EXIT_GROUP, &[0]) {
            Ok(value) => panic!("exit_group returned {value}"),
            Err(leaving) => host.userland.put_back(host.cpu, task, leaving),
        }
    }
    panic!("programs do not end");
}

#[test]
fn no_call_with_any_arguments_ends_the_machine() {
    for seed in 1..=RUNS {
        let (host, first) = Host::boot();
        run(&host, first, seed);
    }
}
