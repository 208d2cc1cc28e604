//! Stores of address ranges side by side: the columns of the project's goals for address-space bookkeeping.
//!
//! Areas of four pages with a hole of one page between them. find, insert, erase and split are measured at the given number of areas, give or
//! take a half; the gap search looks for eight pages below the last area and finds them below the first.
//! Linux's row is what its maple tree, built in user space with RCU on, took on the machine of the project's first
//! measurements; it is printed, not measured, so compare it on a machine of that kind only. With `--linux` it is measured in turn with the others.

mod areas;
mod calls;
mod faults;
mod linux;
mod map_stores;
mod processes;
mod tree_store;

use std::path::PathBuf;

use clap::Args;

use crate::clock::median;
use areas::{Areas, COLUMNS, Column};
use linux::Linux;

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Rounds; the table shows medians.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Runs only stores whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Runs only the columns whose heading contains this; `calls` is the table of calls, `faults` that of page faults.
    #[arg(long)]
    column: Option<String>,
    /// Runs only the pairs of calls whose name contains this.
    #[arg(long, default_value = "")]
    pair: String,
    /// Runs only this number of areas.
    #[arg(long)]
    areas: Option<u64>,
    /// Measures Linux's own code too, built in user space from this source tree of Linux 6.12; needs a C compiler and liburcu.
    #[arg(long, value_name = "DIRECTORY")]
    linux: Option<PathBuf>,
}

/// A store of disjoint ranges of bytes, each with a value.
pub(crate) trait AreaStore: Default {
    /// Returns the value of the area that holds `addr`.
    fn find(&self, addr: u64) -> Option<u64>;

    /// Adds an area unless it overlaps another one; returns true if it was added.
    fn insert(&mut self, start: u64, end: u64, value: u64) -> bool;

    /// Removes the area that begins at `start`; returns true if there was one.
    fn erase(&mut self, start: u64, end: u64) -> bool;

    /// Splits the area `[start, end)` at `at` and gives its upper part `upper`.
    fn split(&mut self, start: u64, at: u64, end: u64, upper: u64) -> bool;

    /// Makes one area with `value` of the two that [`split`](Self::split) left.
    fn restore(&mut self, start: u64, at: u64, end: u64, value: u64) -> bool;

    /// Returns the highest place for `len` bytes between `low` and `high`.
    fn highest_gap(&self, low: u64, high: u64, len: u64) -> Option<u64>;
}

/// A store of the table.
struct Candidate {
    name: &'static str,
    run: fn(Column, &Areas) -> f64,
}

const CANDIDATES: [Candidate; 3] = [
    Candidate { name: "mmkit RangeTree", run: areas::run::<tree_store::Tree> },
    Candidate { name: "std BTreeMap", run: areas::run::<map_stores::Map> },
    Candidate { name: "rangemap RangeMap", run: areas::run::<map_stores::Ranges> },
];

/// Linux's nanoseconds by number of areas, in the order of [`COLUMNS`].
const LINUX: [(u64, [f64; COLUMNS.len()]); 4] = [
    (100, [31.0, 275.0, 266.0, 105.0, 49.0]),
    (1_000, [44.0, 344.0, 394.0, 128.0, 67.0]),
    (10_000, [65.0, 424.0, 567.0, 170.0, 100.0]),
    (65_000, [109.0, 807.0, 1081.0, 243.0, 145.0]),
];

/// Measures everything and prints one table per number of areas.
pub(crate) fn run(options: &Options) {
    let peer = options.linux.as_ref().map(|tree| Linux::build(tree).unwrap_or_else(|error| error.exit()));
    let peer = peer.as_ref();
    println!("ns per operation, median; Linux: {}", linux::source(peer));
    for (count, linux) in LINUX.iter().filter(|(count, _)| options.areas.is_none_or(|only| only == *count)) {
        let areas = Areas::new(*count);
        let mut samples = vec![vec![Vec::new(); COLUMNS.len()]; CANDIDATES.len()];
        let mut rounds = linux::Rounds::of(*linux);
        for _ in 0..options.rounds {
            measure(&areas, options, &mut samples);
            rounds.extend(peer.map(|peer| peer.stores(*count)));
        }
        print_table(*count, &rounds.medians(), &mut samples);
    }
    if is_wanted(options.column.as_ref(), "calls") && options.only.is_none() {
        calls::run(options.rounds, options.areas, &options.pair, peer);
    }
    if is_wanted(options.column.as_ref(), "faults") && options.areas.is_none() && options.only.is_none() {
        faults::run(options.rounds);
    }
}

fn is_wanted(only: Option<&String>, name: &str) -> bool {
    only.is_none_or(|only| name.contains(only.as_str()))
}

fn measure(areas: &Areas, options: &Options, samples: &mut [Vec<Vec<f64>>]) {
    for (column_index, column) in COLUMNS.into_iter().enumerate() {
        for (candidate, samples) in CANDIDATES.iter().zip(samples.iter_mut()) {
            if is_wanted(options.only.as_ref(), candidate.name) && is_wanted(options.column.as_ref(), column.name()) {
                samples[column_index].push((candidate.run)(column, areas));
            }
        }
    }
}

fn print_table(count: u64, linux: &[f64], samples: &mut [Vec<Vec<f64>>]) {
    print!("\n{:<24}", format!("{count} areas"));
    COLUMNS.into_iter().for_each(|column| print!(" {:>15}", column.name()));
    print!("\n{:<24}", "Linux maple tree");
    linux.iter().for_each(|value| print!(" {value:>15.0}"));
    println!();
    for (candidate, samples) in CANDIDATES.iter().zip(samples) {
        print!("{:<24}", candidate.name);
        for column in samples.iter_mut() {
            if column.is_empty() { print!(" {:>15}", "-") } else { print!(" {:>15.1}", median(column)) }
        }
        println!();
    }
}
