//! Two threads at once, and one beside them, timed by the wall.

use std::sync::Barrier;
use std::time::Instant;

/// Runs `work` on this thread; returns the wall nanoseconds per pair.
pub(crate) fn alone(pairs: u64, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / pairs as f64
}

/// Runs `work` on two threads that start together; returns the wall nanoseconds per pair of one thread.
pub(crate) fn run(pairs: u64, work: impl Fn(usize) + Sync) -> f64 {
    let barrier = Barrier::new(2);
    let timed = |thread: usize| {
        barrier.wait();
        let start = Instant::now();
        work(thread);
        start.elapsed().as_nanos() as f64
    };
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(|| timed(1));
        (timed(0), other.join().unwrap_or(f64::NAN))
    });
    first.max(second) / pairs as f64
}
