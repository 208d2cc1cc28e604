//! What is timed, the same for every candidate.

use std::hint::black_box;

use fastrand::Rng;

use super::FrameAllocator;
use crate::clock::per_operation;

/// A column of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Workload {
    /// Alloc+free pairs of order 0.
    HotOrder0,
    /// A million pages in a row.
    AllocMillion,
    /// The same million freed in random order.
    RandomFreeMillion,
    /// Free+alloc pairs with 100,000 blocks live, orders with halving probability.
    MixGeometric,
    /// Free+alloc pairs with 10,000 blocks live, orders 0 to 10 alike.
    MixUniform,
    /// Alloc+free pairs of order 9.
    HotOrder9,
}

impl Workload {
    pub(crate) const ALL: [Self; 6] = [
        Self::HotOrder0,
        Self::AllocMillion,
        Self::RandomFreeMillion,
        Self::MixGeometric,
        Self::MixUniform,
        Self::HotOrder9,
    ];

    /// Heading of the column.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::HotOrder0 => "hot order 0",
            Self::AllocMillion => "alloc 1M",
            Self::RandomFreeMillion => "random free 1M",
            Self::MixGeometric => "mix geom 100k",
            Self::MixUniform => "mix uniform 10k",
            Self::HotOrder9 => "hot order 9",
        }
    }

    /// Returns true if blocks of different orders come and go.
    pub(crate) const fn mixes_orders(self) -> bool {
        matches!(self, Self::MixGeometric | Self::MixUniform)
    }
}

/// Runs a workload on a fresh allocator; `quick` divides the operations. `None` if memory ran out, which no workload should meet.
pub(crate) fn run<A: FrameAllocator>(workload: Workload, quick: u64, make: impl FnOnce() -> A) -> Option<f64> {
    on(&mut make(), workload, quick)
}

/// Runs a workload on an allocator whose memory is all free.
pub(crate) fn on<A: FrameAllocator>(allocator: &mut A, workload: Workload, quick: u64) -> Option<f64> {
    let quick = quick.max(1);
    match workload {
        Workload::HotOrder0 => Some(hot::<A, 0>(allocator, 2_000_000 / quick)),
        Workload::HotOrder9 => Some(hot::<A, 9>(allocator, 1_000_000 / quick)),
        Workload::AllocMillion => {
            let (spent, pages) = alloc_many(allocator, 1_000_000 / quick);
            pages.into_iter().for_each(|page| allocator.free(page, 0));
            Some(spent)
        }
        Workload::RandomFreeMillion => {
            let (_, mut pages) = alloc_many(allocator, 1_000_000 / quick);
            Rng::with_seed(7).shuffle(&mut pages);
            let count = pages.len() as u64;
            Some(per_operation(count, || pages.into_iter().for_each(|page| allocator.free(page, 0))))
        }
        Workload::MixGeometric => {
            mix(allocator, 100_000, 1_000_000 / quick, |rng| (rng.u16(..) | 1 << 10).trailing_zeros() as u8)
        }
        Workload::MixUniform => mix(allocator, 10_000, 500_000 / quick, |rng| rng.u8(0..=10)),
    }
}

/// Returns nanoseconds per pair. The order is a constant, as in most callers of a kernel.
pub(crate) fn hot<A: FrameAllocator, const ORDER: u8>(allocator: &mut A, pairs: u64) -> f64 {
    per_operation(pairs, || {
        for _ in 0..pairs {
            if let Some(block) = allocator.alloc(ORDER) {
                allocator.free(black_box(block), ORDER);
            }
        }
    })
}

/// As [`hot`], for one of the orders of the columns with two threads.
pub(crate) fn hot_of_order<A: FrameAllocator>(allocator: &mut A, order: u8, pairs: u64) -> f64 {
    if order == 0 { hot::<A, 0>(allocator, pairs) } else { hot::<A, 9>(allocator, pairs) }
}

fn alloc_many<A: FrameAllocator>(allocator: &mut A, count: u64) -> (f64, Vec<A::Block>) {
    let mut pages = Vec::with_capacity(count as usize);
    let spent = per_operation(count, || pages.extend((0..count).map_while(|_| allocator.alloc(0))));
    (spent, pages)
}

/// Keeps `live` blocks; each pair frees a random one and allocates another. At most half of the region is live on average.
fn mix<A: FrameAllocator>(allocator: &mut A, live: usize, pairs: u64, order: impl Fn(&mut Rng) -> u8) -> Option<f64> {
    let mut rng = Rng::with_seed(11);
    let mut blocks = Vec::with_capacity(live);
    for _ in 0..live {
        let order = order(&mut rng);
        blocks.push(Some((allocator.alloc(order)?, order)));
    }
    let spent = per_operation(pairs, || {
        for _ in 0..pairs {
            let slot = &mut blocks[rng.usize(..live)];
            if let Some((block, order)) = slot.take() {
                allocator.free(block, order);
            }
            let order = order(&mut rng);
            *slot = allocator.alloc(order).map(|block| (block, order));
        }
    });
    blocks.into_iter().flatten().for_each(|(block, order)| allocator.free(block, order));
    Some(spent)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out numbers and remembers which are out.
    #[derive(Default)]
    struct Counting {
        next: u64,
        live: std::collections::HashSet<u64>,
    }

    impl FrameAllocator for Counting {
        type Block = u64;

        fn alloc(&mut self, _order: u8) -> Option<u64> {
            self.next += 1;
            self.live.insert(self.next);
            Some(self.next)
        }

        fn free(&mut self, block: u64, _order: u8) {
            assert!(self.live.remove(&block));
        }
    }

    #[test]
    fn every_workload_gives_back_what_it_took() {
        for workload in Workload::ALL {
            let mut allocator = Counting::default();
            assert!(on(&mut allocator, workload, 1000).is_some());
            assert!(allocator.next > 0 && allocator.live.is_empty(), "{workload:?}");
        }
    }
}
