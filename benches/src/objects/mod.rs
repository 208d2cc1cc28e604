//! Kernel objects beside other allocators: the columns of the project's performance goals for small objects, and sizes 8 to 8192.
//!
//! hot = alloc+free pair; bulk = 16 objects at a time, per object (in a loop where there is no bulk call); churn = a pair of a random free and
//! an alloc while a million objects are live; hand over = one thread allocates, the other frees. One thread: CPU time; two threads
//! at once: wall time. Peers without a lock of their own have none on one thread and one on two.

mod global;
mod mmkit;
mod regions;
mod two_threads;
mod workloads;

use std::io::{self, Write};

use clap::Args;

use crate::clock::{self, median};

/// Memory of each candidate that wants a region, and of mmkit's machine, which keeps its tables there.
const REGION_BYTES: usize = 640 << 20;

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Rounds; the tables show medians.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Divides the operations of every workload, for a quick look.
    #[arg(long, default_value_t = 1)]
    quick: u64,
    /// Runs only candidates whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Runs only the columns whose heading contains this.
    #[arg(long)]
    column: Option<String>,
    /// Shows the least of the rounds instead of the median: what the machine does when nothing else disturbs it.
    #[arg(long)]
    least: bool,
    /// Prints the bytes that an object of this allocator takes beside its own, as measured in this process alone.
    #[arg(long, hide = true)]
    overhead_of: Option<String>,
}

/// What one thread allocates with.
pub(crate) trait Objects {
    /// True if objects have to be freed because the allocator stays when the run ends.
    const OUTLIVES_RUN: bool = true;
    /// False if freeing many objects in random order takes minutes.
    const FREES_AT_RANDOM: bool = true;

    /// Allocates `size` bytes; null if there are none.
    fn alloc(&mut self, size: usize) -> *mut u8;

    /// Frees an object.
    ///
    /// # Safety
    /// `object` is null or was allocated with this size and is used no more.
    unsafe fn free(&mut self, object: *mut u8, size: usize);

    /// Fills `objects`, with null where there is no memory.
    fn alloc_bulk(&mut self, size: usize, objects: &mut [*mut u8]) {
        objects.iter_mut().for_each(|slot| *slot = self.alloc(size));
    }

    /// Frees objects.
    ///
    /// # Safety
    /// As [`Objects::free`], for each.
    unsafe fn free_bulk(&mut self, size: usize, objects: &[*mut u8]) {
        // SAFETY: the caller's contract.
        objects.iter().for_each(|&object| unsafe { self.free(object, size) });
    }
}

/// A column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Column {
    /// Pairs of one size.
    Hot(usize),
    /// 16 objects at a time.
    Bulk,
    /// A million objects in a row.
    AllocMillion,
    /// The same million freed in random order.
    RandomFreeMillion,
    /// Pairs with a million live.
    Churn,
    /// Pairs on two threads at once.
    HotOfTwo,
    /// Objects that one thread allocates and the other frees.
    HandOver,
}

impl Column {
    /// Columns of objects of 64 bytes.
    const SMALL: [Self; 7] = [
        Self::Hot(workloads::SIZE),
        Self::Bulk,
        Self::AllocMillion,
        Self::RandomFreeMillion,
        Self::Churn,
        Self::HotOfTwo,
        Self::HandOver,
    ];

    fn name(self) -> String {
        match self {
            Self::Hot(size) => format!("hot {size}"),
            Self::Bulk => "bulk of 16".into(),
            Self::AllocMillion => "alloc 1M".into(),
            Self::RandomFreeMillion => "random free".into(),
            Self::Churn => "churn 1M".into(),
            Self::HotOfTwo => "2 thr hot".into(),
            Self::HandOver => "2 thr hand over".into(),
        }
    }

    /// Bytes of its objects.
    const fn size(self) -> usize {
        match self {
            Self::Hot(size) => size,
            _ => workloads::SIZE,
        }
    }

    const fn is_of_two(self) -> bool {
        matches!(self, Self::HotOfTwo | Self::HandOver)
    }
}

/// Sizes of the second table.
const SIZES: [usize; 11] = [8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192];

/// A candidate of the tables.
pub(crate) struct Candidate {
    name: &'static str,
    /// Nanoseconds per operation of a column, if the candidate can run it; the second argument divides the operations.
    run: fn(Column, u64) -> Option<f64>,
    /// Bytes that an object of 64 bytes takes beside its own.
    overhead: fn() -> Option<f64>,
}

fn candidates() -> impl Iterator<Item = &'static Candidate> {
    const OURS: [Candidate; 2] = [
        Candidate { name: "mmkit kmalloc", run: mmkit::kmalloc, overhead: mmkit::overhead },
        Candidate { name: "mmkit cache", run: mmkit::cache, overhead: mmkit::overhead },
    ];
    const { &OURS }.iter().chain(global::CANDIDATES).chain(const { &regions::CANDIDATES })
}

/// Runs everything and prints the tables.
pub(crate) fn run(options: &Options) {
    if let Some(name) = &options.overhead_of {
        if let Some(overhead) = global::resident_overhead(name) {
            println!("{overhead}");
        }
        return;
    }
    if !cfg!(feature = "native-peers") {
        eprintln!("mimalloc and snmalloc are left out: they need a C and a C++ compiler and feature `native-peers`");
    }
    let is_wanted = |only: &Option<String>, name: &str| only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let candidates: Vec<&Candidate> = candidates().filter(|one| is_wanted(&options.only, one.name)).collect();
    for columns in [Column::SMALL.to_vec(), SIZES.map(Column::Hot).to_vec()] {
        let with_overhead = columns.contains(&Column::Bulk) && options.column.is_none();
        let columns: Vec<Column> =
            columns.into_iter().filter(|column| is_wanted(&options.column, &column.name())).collect();
        if columns.is_empty() {
            continue;
        }
        let samples = measure(&candidates, &columns, options);
        let overheads: Option<Vec<_>> = with_overhead.then(|| candidates.iter().map(|one| (one.overhead)()).collect());
        let printed = print_table(&mut io::stdout().lock(), &candidates, &columns, samples, overheads, options.least);
        if let Err(error) = printed {
            eprintln!("error: cannot print the table: {error}");
        }
    }
}

/// Nanoseconds by candidate, column and round.
type Samples = Vec<Vec<Vec<f64>>>;

/// Runs the candidates in turn, column by column and round by round.
fn measure(candidates: &[&Candidate], columns: &[Column], options: &Options) -> Samples {
    let mut samples = vec![vec![Vec::new(); columns.len()]; candidates.len()];
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        for (index, &column) in columns.iter().enumerate() {
            for (candidate, samples) in candidates.iter().zip(&mut samples) {
                samples[index].extend((candidate.run)(column, options.quick));
            }
        }
    }
    samples
}

fn print_table(
    out: &mut impl Write,
    candidates: &[&Candidate],
    columns: &[Column],
    samples: Samples,
    overheads: Option<Vec<Option<f64>>>,
    least: bool,
) -> io::Result<()> {
    let of_rounds = if least { "least" } else { "median" };
    write!(out, "\nns per operation, {of_rounds} of the rounds; - = not run (minutes per round)\n{:<24}", "allocator")?;
    for column in columns {
        write!(out, " {:>15}", column.name())?;
    }
    writeln!(out, "{}", if overheads.is_some() { "  B/object beside its own" } else { "" })?;
    for (index, (candidate, samples)) in candidates.iter().zip(samples).enumerate() {
        write!(out, "{:<24}", candidate.name)?;
        for mut rounds in samples {
            if rounds.is_empty() {
                write!(out, " {:>15}", "-")?;
            } else {
                let figure = if least { clock::least(&mut rounds) } else { median(&mut rounds) };
                write!(out, " {figure:>15.1}")?;
            }
        }
        match overheads.as_ref().and_then(|overheads| overheads.get(index)) {
            Some(Some(overhead)) => writeln!(out, " {overhead:>24.2}")?,
            Some(None) => writeln!(out, " {:>24}", "-")?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}
