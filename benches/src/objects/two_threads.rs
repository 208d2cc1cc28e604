//! Two threads at once: pairs on each, or objects that one allocates and the other frees. Wall time.

use std::hint::spin_loop;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use super::workloads::{SIZE, hot};
use super::{Column, Objects};
use crate::two_threads;

/// Runs a column of two threads; `front` makes what a thread allocates with, on that thread. `None` for other columns.
pub(crate) fn on<O: Objects>(column: Column, quick: u64, front: impl Fn(usize) -> O + Sync) -> Option<f64> {
    let count = 1_000_000 / quick.max(1);
    let failed = AtomicBool::new(false);
    let spent = match column {
        Column::HotOfTwo => two_threads::run(count, |thread| {
            if hot(&mut front(thread), SIZE, count).is_none() {
                // Relaxed: read after the threads have ended.
                failed.store(true, Ordering::Relaxed);
            }
        }),
        Column::HandOver => {
            let ring = Ring::new();
            two_threads::run(count, |thread| {
                let objects = &mut front(thread);
                if thread == 1 {
                    free_all(objects, &ring, count as usize);
                } else if !alloc_all(objects, &ring, count as usize) {
                    // Relaxed: as above.
                    failed.store(true, Ordering::Relaxed);
                }
            })
        }
        _ => return None,
    };
    (!failed.into_inner()).then_some(spent)
}

/// Stands for an object for which there was no memory, so that the other thread does not wait for it.
const MISSING: *mut u8 = ptr::dangling_mut();

fn alloc_all<O: Objects>(objects: &mut O, ring: &Ring, count: usize) -> bool {
    let mut is_whole = true;
    for number in 0..count {
        let object = objects.alloc(SIZE);
        is_whole &= !object.is_null();
        ring.put(number, if object.is_null() { MISSING } else { object });
    }
    is_whole
}

fn free_all<O: Objects>(objects: &mut O, ring: &Ring, count: usize) {
    for number in 0..count {
        let object = ring.take(number);
        if object != MISSING {
            // SAFETY: the other thread allocated it and gave it away.
            unsafe { objects.free(object, SIZE) };
        }
    }
}

/// Objects on their way from one thread to another; an empty place is null.
struct Ring(Vec<AtomicPtr<u8>>);

/// Enough that the two threads seldom touch the same cache line.
const PLACES: usize = 1024;

impl Ring {
    fn new() -> Self {
        Self((0..PLACES).map(|_| AtomicPtr::new(ptr::null_mut())).collect())
    }

    fn put(&self, number: usize, object: *mut u8) {
        let place = &self.0[number % PLACES];
        // Acquire: pairs with the Release in `take`.
        wait_until(|| place.load(Ordering::Acquire).is_null());
        // Release: pairs with the Acquire in `take`; the object's contents go with it.
        place.store(object, Ordering::Release);
    }

    fn take(&self, number: usize) -> *mut u8 {
        let place = &self.0[number % PLACES];
        // Acquire: pairs with the Release in `put`.
        wait_until(|| !place.load(Ordering::Acquire).is_null());
        // Relaxed: this thread is the only one that empties places.
        let object = place.load(Ordering::Relaxed);
        // Release: pairs with the Acquire in `put`.
        place.store(ptr::null_mut(), Ordering::Release);
        object
    }
}

/// Spins, and lets others run if that takes long.
fn wait_until(mut is_ready: impl FnMut() -> bool) {
    let mut spins = 0u32;
    while !is_ready() {
        spins = spins.wrapping_add(1);
        if spins.is_multiple_of(1 << 10) { std::thread::yield_now() } else { spin_loop() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_arrive_in_order_and_once() {
        let ring = Ring::new();
        std::thread::scope(|scope| {
            scope.spawn(|| (1..=5000).for_each(|number| ring.put(number, ptr::without_provenance_mut(number))));
            (1..=5000).for_each(|number| assert_eq!(ring.take(number).addr(), number));
        });
    }
}
