//! Runs one target until its time is over. Called by `main` in a process that `driver` started.
//!
//! Inputs whose outcome was not seen before join the pool that later inputs are made from: error classes stand in for the code
//! coverage that the stable toolchain does not report.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::corpus;
use crate::mutate::Mutator;
use crate::targets::Target;

/// Address space of a worker: an input that makes a parser ask for more ends it.
const MEMORY_LIMIT: u64 = 1 << 30;
/// No input of at most `corpus::INPUT_LIMIT` bytes may take more CPU time.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// Inputs kept beside the seeds.
const POOL_LIMIT: usize = 512;

/// Limits the memory of this process, the worker.
///
/// # Errors
/// The system refuses.
pub(crate) fn limit_memory() -> Result<()> {
    let limit = Rlimit { current: Some(MEMORY_LIMIT), ..getrlimit(Resource::As) };
    setrlimit(Resource::As, limit).context("cannot limit the memory of the worker")
}

/// Runs `target` for `seconds`, writing each input to `current` first. Returns whether every input went well.
///
/// # Errors
/// A seed or the file `current` cannot be used.
pub(crate) fn run(target: &Target, seconds: u64, seed: u64, current: &Path) -> Result<bool> {
    let file = File::create(current).with_context(|| format!("cannot make {}", current.display()))?;
    let mut fuzzer = Fuzzer::new(target, seed)?;
    let start = Instant::now();
    let mut inputs = 0_u64;
    while start.elapsed() < Duration::from_secs(seconds) {
        let input = fuzzer.next_input();
        write_current(&file, &input)?;
        let began = cpu_time();
        if catch_unwind(AssertUnwindSafe(|| fuzzer.try_input(input))).is_err() {
            return Ok(false);
        }
        let taken = cpu_time().saturating_sub(began);
        if taken > TIME_LIMIT {
            eprintln!("an input took {:.1} s of CPU time", taken.as_secs_f64());
            return Ok(false);
        }
        inputs += 1;
    }
    println!("{}: {inputs} inputs, {} kinds of outcome", target.name, fuzzer.outcomes.len());
    Ok(true)
}

/// CPU time of this process so far: unlike the clock it does not run while another process does.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The pool of one target and the outcomes that it has shown.
pub(crate) struct Fuzzer<'t> {
    target: &'t Target,
    mutator: Mutator,
    seeds_left: std::ops::Range<usize>,
    pool: Vec<Vec<u8>>,
    outcomes: HashSet<String>,
}

impl<'t> Fuzzer<'t> {
    /// Loads the seeds of `target`; they are the first inputs as they are.
    ///
    /// # Errors
    /// A seed cannot be read, or there is none.
    pub(crate) fn new(target: &'t Target, seed: u64) -> Result<Self> {
        let pool = corpus::load(target)?;
        let mutator = Mutator::new(seed, target.tokens);
        Ok(Self { target, mutator, seeds_left: 0..pool.len(), pool, outcomes: HashSet::new() })
    }

    /// Makes the next input.
    pub(crate) fn next_input(&mut self) -> Vec<u8> {
        match self.seeds_left.next().and_then(|index| self.pool.get(index)) {
            Some(seed) => seed.clone(),
            None => self.mutator.damage(&self.pool),
        }
    }

    /// Runs the target on `input` and keeps it if its outcome is of a kind not seen before.
    pub(crate) fn try_input(&mut self, input: Vec<u8>) {
        let outcome = class_of(&(self.target.run)(&input));
        if self.outcomes.insert(outcome) && self.pool.len() < POOL_LIMIT {
            self.pool.push(input);
        }
    }
}

/// Leaves out numbers and what is quoted from the input, so that the same message about another place is the same outcome.
///
/// What is quoted may hold quotes itself, so all between the first and the last goes.
fn class_of(outcome: &str) -> String {
    const QUOTES: [char; 2] = ['"', '`'];
    let before = outcome.split(QUOTES).next().unwrap_or_default();
    let after = outcome.rsplit(QUOTES).next().filter(|_| before.len() < outcome.len()).unwrap_or_default();
    before.chars().chain(after.chars()).filter(|one| !one.is_ascii_hexdigit()).collect()
}

fn write_current(file: &File, input: &[u8]) -> Result<()> {
    let length = (input.len() as u64).to_le_bytes();
    file.write_all_at(&length, 0).and_then(|()| file.write_all_at(input, 8)).context("cannot write the worker's file")
}

/// Reads the input that a worker wrote last.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn read_current(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    Ok(rest.get(..length).unwrap_or(rest).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Seed;
    use crate::targets::TARGETS;

    #[test]
    fn every_target_survives_its_seeds_and_some_damage() {
        for target in TARGETS {
            let mut fuzzer = Fuzzer::new(target, 7).unwrap();
            for _ in 0..300 {
                let input = fuzzer.next_input();
                fuzzer.try_input(input);
            }
            assert!(fuzzer.outcomes.len() > 1, "{}: every input has the same outcome", target.name);
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_inputs() {
        let inputs = |seed| {
            let mut fuzzer = Fuzzer::new(TARGETS[0], seed).unwrap();
            let make = |_| {
                let input = fuzzer.next_input();
                fuzzer.try_input(input.clone());
                input
            };
            (0..200).map(make).collect::<Vec<_>>()
        };
        assert_eq!(inputs(3), inputs(3));
        assert_ne!(inputs(3), inputs(4));
    }

    #[test]
    fn the_last_written_input_is_read_back() {
        let path = std::env::temp_dir().join(format!("mmkit-fuzz-{}.current", std::process::id()));
        let file = File::create(&path).unwrap();
        write_current(&file, b"a long input").unwrap();
        write_current(&file, b"short").unwrap();
        let read = read_current(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read, b"short");
    }

    #[test]
    fn a_panic_ends_the_run_and_leaves_its_input_behind() {
        let run = |input: &[u8]| if input.contains(&b'!') { panic!("found it") } else { String::new() };
        let target = Target { name: "panics", seeds: &[Seed::Text("fine"), Seed::Text("bad!")], tokens: &[], run };
        let path = std::env::temp_dir().join(format!("mmkit-fuzz-{}.panics", std::process::id()));
        let passed = super::run(&target, 60, 1, &path).unwrap();
        let input = read_current(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!passed);
        assert_eq!(input, b"bad!");
    }

    #[test]
    fn outcomes_that_differ_in_numbers_and_quotations_are_of_one_kind() {
        assert_eq!(class_of("line 12: `x` is no number"), class_of("line 7: `y` is no number"));
        assert_ne!(class_of("line 12: no number"), class_of("line 12: no word"));
    }
}
