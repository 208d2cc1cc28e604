//! Two threads at once, timed by the wall.

use std::sync::Barrier;
use std::time::Instant;

/// Runs `work` on two threads that start together; returns the wall nanoseconds per pair of one thread.
pub(crate) fn run(pairs: u64, work: impl Fn(usize) + Sync) -> f64 {
    let [first, second] = both(|thread| {
        let start = Instant::now();
        work(thread);
        start.elapsed().as_nanos() as f64
    });
    first.max(second) / pairs as f64
}

/// Runs `work` on two threads that start together; returns what each returned.
pub(crate) fn both<T: Send>(work: impl Fn(usize) -> T + Sync) -> [T; 2] {
    let barrier = Barrier::new(2);
    let started = |thread: usize| {
        barrier.wait();
        work(thread)
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| started(1));
        let first = started(0);
        let second = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        [first, second]
    })
}
