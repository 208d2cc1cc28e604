//! One CPU's random allocations and frees, with every page stamped while it is held.
//!
//! Owns the blocks in its slots. Blocks change hands between CPUs through the exchange, so that many are freed elsewhere than
//! they were allocated.

use frame_table::OwnedBlock;
use object_allocator::VmallocError;
use page_allocator::{Hooks, PageAllocator};
use platform::Platform;
use sync::{Cpu, SpinLock, rank};
use units::{Gfp, NodeMask, Order, Pfn, VirtAddr};

use super::rng::Rng;
use super::stamp::Bytes;

/// Blocks that a worker holds at most.
const SLOTS: usize = 64;
/// Blocks that wait for another CPU at most.
const EXCHANGE: usize = 16;
/// One of so many frees goes through the exchange.
const EXCHANGED: u64 = 4;
/// One of so many steps first drains the lists of all CPUs, which needs barriers on them.
const DRAIN: u64 = 1000;
/// One of so many requests has any order; the others are small.
const ANY_ORDER: u64 = 16;

/// Requests that take turns: what tasks, drivers and user pages ask for.
const REQUESTS: [Gfp; 10] = [
    Gfp::KERNEL,
    Gfp::ATOMIC,
    Gfp::HIGHUSER_MOVABLE,
    Gfp::KERNEL.union(Gfp::ZERO),
    Gfp::KERNEL.union(Gfp::RECLAIMABLE),
    Gfp::KERNEL.union(Gfp::COMP),
    Gfp::NOWAIT,
    Gfp::KERNEL.union(Gfp::DMA32),
    Gfp::NOFS.union(Gfp::DMA),
    Gfp::TRANSHUGE,
];

/// A block that is held, with the stamp in its pages.
#[derive(Debug)]
pub(crate) struct Held {
    block: OwnedBlock,
    stamp: u64,
}

#[cfg(test)]
impl Held {
    /// Returns the first frame of the block.
    pub(crate) fn pfn(&self) -> Pfn {
        self.block.pfn()
    }
}

/// Blocks on their way to another CPU.
pub(crate) type Exchange = [SpinLock<{ rank::LEAF }, Option<Held>>; EXCHANGE];

/// Makes an exchange without blocks.
pub(crate) const fn new_exchange() -> Exchange {
    [const { SpinLock::new(None) }; EXCHANGE]
}

/// What was found wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// A held page does not bear its holder's stamp: somebody else writes to it.
    TwoOwners {
        /// The page.
        pfn: Pfn,
        /// The stamp that it should bear.
        stamp: u64,
    },
    /// Zeroed memory was asked for and was not zero.
    NotZero(Pfn),
    /// The machine does not map a block that it handed out.
    NotMapped(Pfn),
    /// A held object does not bear its holder's stamp at both ends.
    SharedObject {
        /// Where it starts.
        address: VirtAddr,
        /// Its bytes.
        size: usize,
        /// The stamp that it should bear.
        stamp: u64,
    },
    /// A zeroed object of this size was asked for and was not zero.
    ObjectNotZero(VirtAddr, usize),
    /// An object of this size is not aligned as promised.
    WrongObject(VirtAddr, usize),
    /// A block is not aligned to its size, or of another order than was asked for.
    WrongBlock(Pfn, Order),
    /// An area that could be had was refused.
    NoArea(VmallocError),
    /// A word of an area is not what its holder wrote; carries what it is.
    WrongArea(VirtAddr, u64),
    /// A CPU still sees what was mapped before; carries the word that it reads.
    Stale(VirtAddr, u64),
}

/// What a worker did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) allocated: u64,
    pub(crate) freed: u64,
    pub(crate) failed: u64,
}

/// One CPU's work.
pub(crate) struct Worker<'a, P: Platform, H: Hooks> {
    pages: &'a PageAllocator<P, H>,
    exchange: &'a Exchange,
    rng: Rng,
    /// Stamp of the next block: the CPU in the upper half, a count in the lower.
    next_stamp: u64,
    slots: [Option<Held>; SLOTS],
    pub(crate) counts: Counts,
}

impl<'a, P: Platform, H: Hooks> Worker<'a, P, H> {
    /// Makes the worker number `number`; no two that run together may have the same.
    pub(crate) fn new(pages: &'a PageAllocator<P, H>, exchange: &'a Exchange, number: u64) -> Self {
        Self {
            pages,
            exchange,
            rng: Rng::new(number + 1),
            next_stamp: (number + 1) << 32,
            slots: [const { None }; SLOTS],
            counts: Counts::default(),
        }
    }

    /// Frees what a random slot holds, or fills it; now and then drains all per-CPU lists before.
    pub(crate) fn step(&mut self, cpu: &Cpu) -> Result<(), Fault> {
        if self.rng.below(DRAIN) == 0 {
            self.pages.drain_all_pages(cpu, NodeMask::ALL);
        }
        let slot = self.rng.below(SLOTS as u64) as usize;
        match self.slots.get_mut(slot).and_then(Option::take) {
            Some(held) if self.rng.below(EXCHANGED) == 0 => {
                let place = self.rng.below(EXCHANGE as u64) as usize;
                let Some(place) = self.exchange.get(place) else { return self.free(cpu, held) };
                let other = place.lock(cpu).replace(held);
                other.map_or(Ok(()), |other| self.free(cpu, other))
            }
            Some(held) => self.free(cpu, held),
            None => {
                let held = self.allocate(cpu)?;
                self.slots[slot] = held;
                Ok(())
            }
        }
    }

    /// Frees every slot and what waits in the exchange.
    pub(crate) fn finish(&mut self, cpu: &Cpu) -> Result<(), Fault> {
        for slot in 0..SLOTS {
            if let Some(held) = self.slots[slot].take() {
                self.free(cpu, held)?;
            }
        }
        for place in self.exchange {
            let waiting = place.lock(cpu).take();
            if let Some(held) = waiting {
                self.free(cpu, held)?;
            }
        }
        Ok(())
    }

    fn allocate(&mut self, cpu: &Cpu) -> Result<Option<Held>, Fault> {
        let gfp = REQUESTS[self.rng.below(REQUESTS.len() as u64) as usize];
        let order = self.random_order();
        self.allocate_as(cpu, gfp, order)
    }

    /// Allocates a block, checks it and stamps it; `None` if there is no memory.
    pub(crate) fn allocate_as(&mut self, cpu: &Cpu, gfp: Gfp, order: Order) -> Result<Option<Held>, Fault> {
        let Ok(block) = self.pages.alloc(cpu, gfp | Gfp::NOWARN, order) else {
            self.counts.failed += 1;
            return Ok(None);
        };
        self.counts.allocated += 1;
        if block.order() != order || !block.pfn().is_aligned(order) {
            return Err(Fault::WrongBlock(block.pfn(), block.order()));
        }
        let bytes = self.bytes(&block)?;
        if gfp.contains(Gfp::ZERO) && !bytes.is_zero() {
            return Err(Fault::NotZero(block.pfn()));
        }
        let stamp = self.next_stamp;
        self.next_stamp += 1;
        bytes.stamp(stamp);
        Ok(Some(Held { block, stamp }))
    }

    /// Checks the stamps of a block and frees it.
    pub(crate) fn free(&mut self, cpu: &Cpu, held: Held) -> Result<(), Fault> {
        let Held { block, stamp } = held;
        if let Some(page) = self.bytes(&block)?.first_unstamped(stamp) {
            return Err(Fault::TwoOwners { pfn: block.pfn().add(page as u64), stamp });
        }
        self.pages.free(cpu, block);
        self.counts.freed += 1;
        Ok(())
    }

    fn bytes(&self, block: &OwnedBlock) -> Result<Bytes, Fault> {
        let start = self.pages.address(block).ok_or(Fault::NotMapped(block.pfn()))?;
        // SAFETY: the direct map shows the whole block, and owning it means that nobody else uses it.
        Ok(unsafe { Bytes::new(start, 1 << block.order().raw()) })
    }

    fn random_order(&mut self) -> Order {
        let largest = self.pages.map().geometry.max_order;
        let raw = if self.rng.below(ANY_ORDER) == 0 {
            self.rng.below(u64::from(largest.raw()) + 1) as u8
        } else {
            // Each order half as likely as the one below.
            self.rng.next().trailing_ones() as u8
        };
        Order::new_truncate(raw).min(largest)
    }
}
