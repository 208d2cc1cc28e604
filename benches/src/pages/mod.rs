//! Page frames beside other allocators: the columns of the project's performance goals.
//!
//! hot = alloc+free pair of one order; mix = pair at random orders while many blocks are live; alloc and random free of a
//! million pages each. One thread: CPU time; two threads at once: wall time per pair.

mod mmkit;
mod peers;
mod two_threads;
mod workloads;

use clap::Args;

use crate::clock::median;
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
    /// Nanoseconds per pair with two threads at once, at order 0 and 9.
    pair_of_two: fn(u8, u64) -> f64,
    metadata_bytes_per_frame: fn() -> f64,
}

fn candidates() -> [Candidate; 4] {
    [
        Candidate {
            name: "mmkit",
            run: mmkit::run,
            pair_of_two: mmkit::pair_of_two,
            metadata_bytes_per_frame: mmkit::metadata_bytes_per_frame,
        },
        Candidate {
            name: "buddy_system_allocator",
            run: |workload, quick| workloads::run(workload, quick, peers::Buddy::new),
            pair_of_two: |order, quick| two_threads::pair(peers::Buddy::new(), order, quick),
            // Its sets allocate from the host heap; measured in the project's notes as 10.5 at worst.
            metadata_bytes_per_frame: || f64::NAN,
        },
        Candidate {
            name: "bitmap-allocator",
            run: |workload, quick| {
                peers::bitmap_can(workload).then(|| workloads::run(workload, quick, peers::Bitmap::new)).flatten()
            },
            pair_of_two: |order, quick| two_threads::pair(peers::Bitmap::new(), order, quick),
            metadata_bytes_per_frame: peers::Bitmap::metadata_bytes_per_frame,
        },
        Candidate {
            name: "free-list",
            run: |workload, quick| {
                peers::list_can(workload).then(|| workloads::run(workload, quick, peers::List::new)).flatten()
            },
            pair_of_two: |order, quick| two_threads::pair(peers::List::new(), order, quick),
            metadata_bytes_per_frame: || f64::NAN,
        },
    ]
}

/// Columns of one candidate: the workloads, then two threads at order 0 and 9.
const COLUMNS: usize = Workload::ALL.len() + 2;

/// Runs everything and prints the table.
pub(crate) fn run(options: &Options) {
    let wanted =
        |candidate: &Candidate| options.only.as_ref().is_none_or(|only| candidate.name.contains(only.as_str()));
    let candidates: Vec<Candidate> = candidates().into_iter().filter(wanted).collect();
    let mut samples = vec![vec![Vec::new(); COLUMNS]; candidates.len()];
    for round in 0..options.rounds {
        for (candidate, samples) in candidates.iter().zip(&mut samples) {
            eprintln!("round {} of {}: {}", round + 1, options.rounds, candidate.name);
            measure(candidate, options.quick, samples);
        }
    }
    print_table(&candidates, &mut samples);
}

fn measure(candidate: &Candidate, quick: u64, samples: &mut [Vec<f64>]) {
    for (column, &workload) in Workload::ALL.iter().enumerate() {
        samples[column].extend((candidate.run)(workload, quick));
    }
    for (column, order) in [(COLUMNS - 2, 0), (COLUMNS - 1, 9)] {
        samples[column].push((candidate.pair_of_two)(order, quick));
    }
}

fn print_table(candidates: &[Candidate], samples: &mut [Vec<Vec<f64>>]) {
    println!("ns per operation, median; one 16 GiB region; - = not run (minutes per round)");
    print!("{:<24}", "allocator");
    for name in
        Workload::ALL.iter().map(|workload| workload.name()).chain(["2 thr order 0", "2 thr order 9", "B/frame"])
    {
        print!(" {name:>17}");
    }
    println!();
    for (candidate, samples) in candidates.iter().zip(samples) {
        print!("{:<24}", candidate.name);
        for column in samples.iter_mut() {
            if column.is_empty() { print!(" {:>17}", "-") } else { print!(" {:>17.1}", median(column)) }
        }
        let metadata = (candidate.metadata_bytes_per_frame)();
        if metadata.is_nan() { println!(" {:>17}", "-") } else { println!(" {metadata:>17.2}") }
    }
}
