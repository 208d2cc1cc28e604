//! What the columns cost without what a kernel asks of an allocator: a list per CPU before a buddy behind a lock, and the loops alone.
//!
//! Neither zones, migratetypes, watermarks, counters nor checks. The project's first marks were set beside such an allocator, so on another machine
//! the distance to it says more than the nanoseconds.

use std::sync::Arc;

use parking_lot::Mutex;

use super::workloads::{self, Workload};
use super::{FRAMES, FrameAllocator};
use crate::two_threads;

const ORDERS: usize = 11;
/// The end of a list.
const NONE: u32 = u32::MAX;
/// Pages that go to a CPU or back at once.
const BATCH: usize = 63;
/// Pages that a CPU keeps at most.
const HIGH: usize = 8 * BATCH;

/// A frame's links, and its order while it is the head of a free block.
#[derive(Clone, Copy)]
struct Frame {
    next: u32,
    prev: u32,
    free_order: u32,
}

impl Frame {
    const IN_USE: Self = Self { next: NONE, prev: NONE, free_order: NONE };
}

/// Free blocks on a list an order.
struct Lists {
    frames: Vec<Frame>,
    heads: [u32; ORDERS],
}

impl Lists {
    fn new() -> Self {
        let mut lists = Self { frames: vec![Frame::IN_USE; FRAMES as usize], heads: [NONE; ORDERS] };
        let largest = ORDERS - 1;
        (0..FRAMES as u32).step_by(1 << largest).for_each(|block| lists.push(block, largest));
        lists
    }

    fn push(&mut self, block: u32, order: usize) {
        let next = self.heads[order];
        self.frames[block as usize] = Frame { next, prev: NONE, free_order: order as u32 };
        if next != NONE {
            self.frames[next as usize].prev = block;
        }
        self.heads[order] = block;
    }

    fn unlink(&mut self, block: u32, order: usize) {
        let Frame { next, prev, .. } = self.frames[block as usize];
        if prev == NONE {
            self.heads[order] = next
        } else {
            self.frames[prev as usize].next = next
        }
        if next != NONE {
            self.frames[next as usize].prev = prev;
        }
        self.frames[block as usize].free_order = NONE;
    }

    fn alloc(&mut self, order: usize) -> Option<u32> {
        let from = (order..ORDERS).find(|&from| self.heads[from] != NONE)?;
        let block = self.heads[from];
        self.unlink(block, from);
        (order..from).rev().for_each(|half| self.push(block + (1 << half), half));
        Some(block)
    }

    fn free(&mut self, mut block: u32, mut order: usize) {
        while order + 1 < ORDERS {
            let buddy = block ^ (1 << order);
            if self.frames[buddy as usize].free_order != order as u32 {
                break;
            }
            self.unlink(buddy, order);
            block &= buddy;
            order += 1;
        }
        self.push(block, order);
    }
}

/// One CPU's list and the lists that all share.
struct OnCpu {
    pages: Vec<u32>,
    lists: Arc<Mutex<Lists>>,
}

impl OnCpu {
    fn new(lists: &Arc<Mutex<Lists>>) -> Self {
        Self { pages: Vec::with_capacity(HIGH + 1), lists: Arc::clone(lists) }
    }

    #[cold]
    #[inline(never)]
    fn refill(&mut self) -> Option<u32> {
        let mut lists = self.lists.lock();
        self.pages.extend((0..BATCH).map_while(|_| lists.alloc(0)));
        self.pages.pop()
    }

    #[cold]
    #[inline(never)]
    fn drain(&mut self) {
        let mut lists = self.lists.lock();
        self.pages.drain(..BATCH).for_each(|page| lists.free(page, 0));
    }
}

impl FrameAllocator for OnCpu {
    type Block = u32;

    #[inline]
    fn alloc(&mut self, order: u8) -> Option<u32> {
        if order == 0 { self.pages.pop().or_else(|| self.refill()) } else { self.lists.lock().alloc(order.into()) }
    }

    #[inline]
    fn free(&mut self, block: u32, order: u8) {
        if order != 0 {
            return self.lists.lock().free(block, order.into());
        }
        self.pages.push(block);
        if self.pages.len() > HIGH {
            self.drain();
        }
    }
}

/// Runs a workload on one CPU.
pub(crate) fn run(workload: Workload, quick: u64) -> Option<f64> {
    workloads::run(workload, quick, || OnCpu::new(&Arc::new(Mutex::new(Lists::new()))))
}

/// Runs hot pairs on two CPUs at once.
pub(crate) fn pair_of_two(order: u8, quick: u64) -> f64 {
    of_two(quick, order, || {
        let lists = Arc::new(Mutex::new(Lists::new()));
        move || OnCpu::new(&lists)
    })
}

/// Bytes of a frame's links and tag.
pub(crate) const fn metadata_bytes_per_frame() -> f64 {
    size_of::<Frame>() as f64
}

/// Hands out numbers and remembers nothing: what it takes is the workload's own.
#[derive(Default)]
pub(crate) struct Loop(u32);

impl FrameAllocator for Loop {
    type Block = u32;

    #[inline]
    fn alloc(&mut self, _order: u8) -> Option<u32> {
        self.0 = self.0.wrapping_add(1);
        Some(self.0)
    }

    #[inline]
    fn free(&mut self, _block: u32, _order: u8) {}
}

/// Runs the loop of hot pairs on two CPUs at once.
pub(crate) fn loop_of_two(order: u8, quick: u64) -> f64 {
    of_two(quick, order, || Loop::default)
}

fn of_two<A: FrameAllocator, F: Fn() -> A + Sync>(quick: u64, order: u8, make: impl FnOnce() -> F) -> f64 {
    let (pairs, handle) = (1_000_000 / quick.max(1), make());
    two_threads::run(pairs, |_| {
        workloads::hot_of_order(&mut handle(), order, pairs);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_disjoint_and_merge_again() {
        let lists = Arc::new(Mutex::new(Lists::new()));
        let mut cpu = OnCpu::new(&lists);
        let mut taken = Vec::new();
        let mut frames = std::collections::HashSet::new();
        for order in (0..ORDERS as u8).cycle().take(3000) {
            let block = cpu.alloc(order).expect("there is room");
            assert_eq!(block % (1 << order), 0);
            assert!((block..block + (1 << order)).all(|frame| frames.insert(frame)), "block {block} of order {order}");
            taken.push((block, order));
        }
        taken.into_iter().for_each(|(block, order)| cpu.free(block, order));
        cpu.pages.drain(..).for_each(|page| lists.lock().free(page, 0));
        let lists = lists.lock();
        assert!(lists.heads[..ORDERS - 1].iter().all(|&head| head == NONE));
        assert_eq!(lists.frames.iter().filter(|frame| frame.free_order == 10).count() as u64, FRAMES >> 10);
    }

    #[test]
    fn two_threads_get_pages_each() {
        assert!(pair_of_two(0, 1000) > 0.0 && pair_of_two(9, 1000) > 0.0 && loop_of_two(0, 1000) > 0.0);
    }
}
