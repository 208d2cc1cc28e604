//! Page frames beside other allocators: the columns of the project's performance goals.
//!
//! hot = alloc+free pair of one order; mix = pair at random orders while many blocks are live; alloc and random free of a
//! million pages each. One thread: CPU time; two threads at once: wall time per pair. Frees of high orders may empty a CPU's lists, by a rule of the
//! kernel's release that shows in the mixes: two rows have other rules than 6.12's. The last two rows are no allocators for a kernel: the plain one,
//! beside which the goals were set, and the workloads' own loops.

mod mmkit;
mod peers;
mod plain;
mod two_threads;
mod workloads;

use clap::Args;
use page_allocator::FreeHighRule;

use crate::clock::{least, median};
use workloads::Workload;

/// Frames of the region that every candidate manages: 16 GiB of 4 KiB pages.
const FRAMES: u64 = 1 << 22;

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Rounds; the table shows medians.
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
}

/// An allocator of page frames.
pub(crate) trait FrameAllocator {
    /// What stands for an allocated block.
    type Block;

    /// Allocates `1 << order` contiguous frames, aligned to their number.
    fn alloc(&mut self, order: u8) -> Option<Self::Block>;

    /// Frees a block.
    fn free(&mut self, block: Self::Block, order: u8);
}

/// A candidate of the table: runs one workload and returns nanoseconds per operation, or `None` if it would take for ever.
struct Candidate {
    name: &'static str,
    run: fn(Workload, u64) -> Option<f64>,
    /// Nanoseconds per pair with two threads at once, at order 0 and 9; `None` where another row has them.
    pair_of_two: Option<fn(u8, u64) -> f64>,
    metadata_bytes_per_frame: fn() -> f64,
}

fn candidates() -> [Candidate; 8] {
    [
        Candidate {
            name: "mmkit",
            run: |workload, quick| mmkit::run(workload, quick, FreeHighRule::Batch),
            pair_of_two: Some(mmkit::pair_of_two),
            metadata_bytes_per_frame: mmkit::metadata_bytes_per_frame,
        },
        Candidate {
            name: "mmkit, 6.16's free_high",
            run: |workload, quick| mmkit::run_mixing(workload, quick, FreeHighRule::BatchAndHalfOfHighMin),
            pair_of_two: None,
            metadata_bytes_per_frame: mmkit::metadata_bytes_per_frame,
        },
        Candidate {
            name: "mmkit, no free_high",
            run: |workload, quick| mmkit::run_mixing(workload, quick, FreeHighRule::Never),
            pair_of_two: None,
            metadata_bytes_per_frame: mmkit::metadata_bytes_per_frame,
        },
        Candidate {
            name: "buddy_system_allocator",
            run: |workload, quick| workloads::run(workload, quick, peers::Buddy::new),
            pair_of_two: Some(|order, quick| two_threads::pair(peers::Buddy::new(), order, quick)),
            // Its sets allocate from the host's heap, as much as free memory is in pieces.
            metadata_bytes_per_frame: || f64::NAN,
        },
        Candidate {
            name: "bitmap-allocator",
            run: |workload, quick| {
                peers::bitmap_can(workload).then(|| workloads::run(workload, quick, peers::Bitmap::new)).flatten()
            },
            pair_of_two: Some(|order, quick| two_threads::pair(peers::Bitmap::new(), order, quick)),
            metadata_bytes_per_frame: peers::Bitmap::metadata_bytes_per_frame,
        },
        Candidate {
            name: "free-list",
            run: |workload, quick| {
                peers::list_can(workload).then(|| workloads::run(workload, quick, peers::List::new)).flatten()
            },
            pair_of_two: Some(|order, quick| two_threads::pair(peers::List::new(), order, quick)),
            metadata_bytes_per_frame: || f64::NAN,
        },
        Candidate {
            name: "plain list and buddy",
            run: plain::run,
            pair_of_two: Some(plain::pair_of_two),
            metadata_bytes_per_frame: plain::metadata_bytes_per_frame,
        },
        Candidate {
            name: "the loop alone",
            run: |workload, quick| workloads::run(workload, quick, plain::Loop::default),
            pair_of_two: Some(plain::loop_of_two),
            metadata_bytes_per_frame: || 0.0,
        },
    ]
}

/// Headings and orders of the columns with two threads.
const TWO_THREADS: [(&str, u8); 2] = [("2 thr order 0", 0), ("2 thr order 9", 9)];

/// Columns of one candidate: the workloads, then those with two threads.
const COLUMNS: usize = Workload::ALL.len() + TWO_THREADS.len();

/// Runs everything and prints the table.
pub(crate) fn run(options: &Options) {
    let wanted =
        |candidate: &Candidate| options.only.as_ref().is_none_or(|only| candidate.name.contains(only.as_str()));
    let candidates: Vec<Candidate> = candidates().into_iter().filter(wanted).collect();
    let mut samples = vec![vec![Vec::new(); COLUMNS]; candidates.len()];
    for round in 0..options.rounds {
        for (candidate, samples) in candidates.iter().zip(&mut samples) {
            eprintln!("round {} of {}: {}", round + 1, options.rounds, candidate.name);
            measure(candidate, options, samples);
        }
    }
    println!("ns per operation, median of the rounds; one 16 GiB region; - = not run (minutes per round)");
    print_table(&candidates, &samples, median);
    println!("\nfastest round, where others on the machine disturbed least");
    print_table(&candidates, &samples, least);
}

fn measure(candidate: &Candidate, options: &Options, samples: &mut [Vec<f64>]) {
    let wanted = |heading: &str| options.column.as_ref().is_none_or(|column| heading.contains(column.as_str()));
    for (column, &workload) in Workload::ALL.iter().enumerate().filter(|(_, workload)| wanted(workload.name())) {
        samples[column].extend((candidate.run)(workload, options.quick));
    }
    for (column, order) in TWO_THREADS.into_iter().enumerate().filter(|(_, (heading, _))| wanted(heading)) {
        samples[Workload::ALL.len() + column].extend(candidate.pair_of_two.map(|pair| pair(order.1, options.quick)));
    }
}

fn headings() -> impl Iterator<Item = &'static str> {
    Workload::ALL.iter().map(|workload| workload.name()).chain(TWO_THREADS.map(|(heading, _)| heading))
}

fn print_table(candidates: &[Candidate], samples: &[Vec<Vec<f64>>], of_rounds: fn(&mut [f64]) -> f64) {
    print!("{:<24}", "allocator");
    for name in headings().chain(["B/frame"]) {
        print!(" {name:>17}");
    }
    println!();
    for (candidate, samples) in candidates.iter().zip(samples) {
        print!("{:<24}", candidate.name);
        for column in samples {
            if column.is_empty() { print!(" {:>17}", "-") } else { print!(" {:>17.1}", of_rounds(&mut column.clone())) }
        }
        let metadata = (candidate.metadata_bytes_per_frame)();
        if metadata.is_nan() { println!(" {:>17}", "-") } else { println!(" {metadata:>17.2}") }
    }
}
