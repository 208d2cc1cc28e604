//! Two threads at once on one allocator: wall nanoseconds per pair.

use std::sync::Barrier;
use std::time::Instant;

use parking_lot::Mutex;

use super::FrameAllocator;

/// Runs hot pairs on two threads behind one lock, as users of the peers have to.
pub(crate) fn pair<A: FrameAllocator + Send>(allocator: A, order: u8, quick: u64) -> f64 {
    let allocator = Mutex::new(allocator);
    let pairs = 500_000 / quick.max(1);
    run(pairs, |_| {
        for _ in 0..pairs {
            let block = allocator.lock().alloc(order);
            if let Some(block) = block {
                allocator.lock().free(block, order);
            }
        }
    })
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
