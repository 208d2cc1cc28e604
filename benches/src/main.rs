//! Benchmarks beside peers: prints tables, never fails for being slow.
//!
//! Candidates run interleaved, round after round, and the table shows the median of the rounds: absolute times mean little on a
//! shared machine, ratios within one run do.

mod clock;
mod machine;
mod memblock;
mod objects;
mod pages;
mod two_threads;
mod vma;
mod vmalloc;

use clap::{Parser, Subcommand};

/// Benchmarks of mmkit beside its peers.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// The boot allocator with 10,000 regions.
    Memblock(memblock::Options),
    /// Kernel objects: kmalloc and a slab cache, one and two threads.
    Objects(objects::Options),
    /// Page frames: alloc and free of blocks, one and two threads.
    Pages(pages::Options),
    /// Areas of vmalloc: alloc and free with few and many alive.
    Vmalloc(vmalloc::Options),
    /// Address-space bookkeeping: stores of up to 65,000 areas.
    Vma(vma::Options),
}

fn main() {
    match Arguments::parse().bench {
        Bench::Memblock(options) => memblock::run(&options),
        Bench::Objects(options) => objects::run(&options),
        Bench::Pages(options) => pages::run(&options),
        Bench::Vmalloc(options) => vmalloc::run(&options),
        Bench::Vma(options) => vma::run(&options),
    }
}
