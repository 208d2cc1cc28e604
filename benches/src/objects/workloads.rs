//! What is timed, the same for every candidate. One thread: CPU time.
//!
//! Objects are not written to: the figures are those of the allocator, which some candidates make partly by using freed objects as list nodes.

use std::hint::black_box;

use fastrand::Rng;

use super::{Column, Objects};
use crate::clock::per_operation;

/// Objects of the columns with many of them.
pub(crate) const MILLION: u64 = 1_000_000;
/// Bytes of an object, where the column does not say otherwise.
pub(crate) const SIZE: usize = 64;
/// Objects that a bulk call takes.
const BULK: usize = 16;

/// Runs a column that one thread can run on an allocator whose memory is all free; `quick` divides the operations.
///
/// `None` if the candidate would take for ever, if memory ran out, or for columns of two threads.
pub(crate) fn on<O: Objects>(objects: &mut O, column: Column, quick: u64) -> Option<f64> {
    let quick = quick.max(1);
    match column {
        Column::Hot(size) => hot(objects, size, 4_000_000 / quick),
        Column::Bulk => bulk(objects, 300_000 / quick),
        Column::AllocMillion => {
            let (spent, live) = alloc_many(objects, MILLION / quick)?;
            give_back(objects, live);
            Some(spent)
        }
        Column::RandomFreeMillion => {
            if !O::FREES_AT_RANDOM {
                return None;
            }
            let (_, mut live) = alloc_many(objects, MILLION / quick)?;
            Rng::with_seed(7).shuffle(&mut live);
            let count = live.len() as u64;
            // SAFETY: allocated above, freed once.
            Some(per_operation(count, || live.into_iter().for_each(|object| unsafe { objects.free(object, SIZE) })))
        }
        Column::Churn => churn(objects, MILLION / quick, 2 * MILLION / quick),
        Column::HotOfTwo | Column::HandOver => None,
    }
}

/// Returns nanoseconds per alloc+free pair; `None` without memory.
pub(crate) fn hot<O: Objects>(objects: &mut O, size: usize, pairs: u64) -> Option<f64> {
    let mut failed = 0u64;
    let spent = per_operation(pairs, || {
        for _ in 0..pairs {
            let object = black_box(objects.alloc(size));
            failed += u64::from(object.is_null());
            // SAFETY: just allocated, freed once.
            unsafe { objects.free(object, size) };
        }
    });
    (failed == 0).then_some(spent)
}

/// Returns nanoseconds per object of a bulk allocation and the bulk free of the same objects.
fn bulk<O: Objects>(objects: &mut O, calls: u64) -> Option<f64> {
    let mut slots = [std::ptr::null_mut(); BULK];
    let mut failed = 0u64;
    let spent = per_operation(calls * BULK as u64, || {
        for _ in 0..calls {
            objects.alloc_bulk(SIZE, &mut slots);
            black_box(&mut slots);
            failed += u64::from(slots.iter().any(|object| object.is_null()));
            // SAFETY: just allocated, freed once.
            unsafe { objects.free_bulk(SIZE, &slots) };
        }
    });
    (failed == 0).then_some(spent)
}

pub(crate) fn alloc_many<O: Objects>(objects: &mut O, count: u64) -> Option<(f64, Vec<*mut u8>)> {
    let mut live = vec![std::ptr::null_mut(); count as usize];
    let spent = per_operation(count, || live.iter_mut().for_each(|slot| *slot = objects.alloc(SIZE)));
    live.iter().all(|object| !object.is_null()).then_some((spent, live))
}

/// Keeps `live` objects; each pair frees a random one and allocates another.
fn churn<O: Objects>(objects: &mut O, live: u64, pairs: u64) -> Option<f64> {
    let (_, mut slots) = alloc_many(objects, live)?;
    // The order of addresses is as random as if the program had run for long.
    Rng::with_seed(3).shuffle(&mut slots);
    let mut rng = Rng::with_seed(11);
    let spent = per_operation(pairs, || {
        for _ in 0..pairs {
            let slot = &mut slots[rng.usize(..live as usize)];
            // SAFETY: the slot's object is live, and the slot gets another one.
            unsafe { objects.free(*slot, SIZE) };
            *slot = objects.alloc(SIZE);
        }
    });
    let is_whole = slots.iter().all(|object| !object.is_null());
    give_back(objects, slots);
    is_whole.then_some(spent)
}

fn give_back<O: Objects>(objects: &mut O, live: Vec<*mut u8>) {
    if O::OUTLIVES_RUN {
        // SAFETY: the objects are live and the vector has each once.
        live.into_iter().for_each(|object| unsafe { objects.free(object, SIZE) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out numbers and remembers which are out.
    #[derive(Default)]
    struct Counting {
        next: usize,
        live: std::collections::HashSet<*mut u8>,
    }

    impl Objects for Counting {
        fn alloc(&mut self, _size: usize) -> *mut u8 {
            self.next += 1;
            let object = std::ptr::without_provenance_mut(self.next);
            self.live.insert(object);
            object
        }

        unsafe fn free(&mut self, object: *mut u8, _size: usize) {
            assert!(self.live.remove(&object));
        }
    }

    #[test]
    fn every_column_gives_back_what_it_took() {
        for column in Column::SMALL {
            let mut objects = Counting::default();
            let is_of_two = matches!(column, Column::HotOfTwo | Column::HandOver);
            assert_eq!(on(&mut objects, column, 1000).is_none(), is_of_two, "{column:?}");
            assert!(objects.live.is_empty(), "{column:?}");
            assert_eq!(objects.next == 0, is_of_two, "{column:?}");
        }
    }

    #[test]
    fn no_memory_is_no_figure() {
        struct Empty;
        impl Objects for Empty {
            fn alloc(&mut self, _size: usize) -> *mut u8 {
                std::ptr::null_mut()
            }
            unsafe fn free(&mut self, _object: *mut u8, _size: usize) {}
        }
        for column in Column::SMALL {
            assert_eq!(on(&mut Empty, column, 1000), None, "{column:?}");
        }
    }
}
