//! Two threads at once on one allocator behind a lock.

use parking_lot::Mutex;

use super::FrameAllocator;
use crate::two_threads::run;

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
