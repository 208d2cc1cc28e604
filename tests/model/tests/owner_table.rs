//! Two CPUs at once, all orders, interrupts in between: no frame has two owners, and none is lost.
//!
//! Every frame has an entry that says who owns it, and its first bytes say the same: whoever allocates a frame must find the entry
//! empty, whoever frees it must find both as it left them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Instant;

use frame_table::OwnedBlock;
use model_tests::{Machine, machine, on_interrupt, shape, stress_time};
use page_allocator::{Checks, DebugOptions};
use sim::{InterruptRate, Rng};
use sync::Cpu;
use units::{Gfp, NodeMask, Order, Pfn};

const FREE: u64 = 0;
const NR_CPUS: usize = 2;

/// Blocks that a CPU holds before it frees as often as it allocates.
const HELD: usize = 400;

/// Owner of each frame, by frame number.
struct Owners(Vec<AtomicU64>);

impl Owners {
    fn new(machine: &Machine) -> Self {
        Self((0..machine.shape().span().end.raw()).map(|_| AtomicU64::new(FREE)).collect())
    }

    fn entry(&self, pfn: Pfn) -> &AtomicU64 {
        &self.0[pfn.raw() as usize]
    }

    /// Enters the block as owned under `tag`, in the table and in the frames themselves.
    fn claim(&self, machine: &Machine, block: &OwnedBlock, tag: u64) {
        for pfn in block.frames().iter() {
            let before = self.entry(pfn).swap(tag, Ordering::Relaxed);
            assert_eq!(before, FREE, "{pfn:?} of {block:?} belongs to {before:#x}");
            stamp(machine, pfn, tag ^ pfn.raw());
        }
    }

    /// Strikes the block out; everything must be as `claim` left it.
    fn release(&self, machine: &Machine, block: &OwnedBlock, tag: u64) {
        for pfn in block.frames().iter() {
            assert_eq!(read_stamp(machine, pfn), tag ^ pfn.raw(), "{pfn:?} of {block:?} was written by another");
            let before = self.entry(pfn).swap(FREE, Ordering::Relaxed);
            assert_eq!(before, tag, "{pfn:?} of {block:?} belongs to {before:#x}");
        }
    }
}

fn first_word(machine: &Machine, pfn: Pfn) -> *mut u64 {
    use platform::PhysMemory;
    let range = units::PfnRange::with_len(pfn, 1).phys(machine.shape().geometry.page_shift);
    machine.pages().platform().direct_map(range).unwrap().cast().as_ptr()
}

fn stamp(machine: &Machine, pfn: Pfn, value: u64) {
    // SAFETY: the caller owns the frame, as far as the allocator is right; volatile, since this test doubts just that.
    unsafe { first_word(machine, pfn).write_volatile(value) };
}

fn read_stamp(machine: &Machine, pfn: Pfn) -> u64 {
    // SAFETY: as for `stamp`.
    unsafe { first_word(machine, pfn).read_volatile() }
}

/// What everyone shares: the table, and blocks that change hands between CPUs.
struct Stress<'m> {
    machine: &'m Machine,
    owners: &'m Owners,
    handed_over: Mutex<VecDeque<(OwnedBlock, u64)>>,
    tags: AtomicU64,
}

/// What one CPU holds.
#[derive(Default)]
struct Holder {
    blocks: Vec<(OwnedBlock, u64)>,
    steps: u64,
    failures: u64,
}

impl Stress<'_> {
    fn take(&self, block: OwnedBlock) -> (OwnedBlock, u64) {
        // Relaxed: only uniqueness matters.
        let tag = self.tags.fetch_add(1, Ordering::Relaxed);
        self.owners.claim(self.machine, &block, tag);
        (block, tag)
    }

    fn give(&self, cpu: &Cpu, rng: &mut Rng, (block, tag): (OwnedBlock, u64)) {
        let (pages, frames) = (self.machine.pages(), &self.machine.pages().map().frames);
        self.owners.release(self.machine, &block, tag);
        match rng.below(8) {
            0 => {
                let order = block.order();
                let pfn = block.into_raw(frames);
                pages.free_raw(cpu, pfn, order).unwrap();
            }
            1 => {
                let counted = block.into_counted(frames);
                let reference = counted.get(frames);
                pages.free_counted(cpu, counted);
                pages.put(cpu, reference);
            }
            2 => block.split_pages(frames).for_each(|page| pages.free(cpu, page)),
            _ => pages.free(cpu, block),
        }
    }

    fn alloc(&self, cpu: &Cpu, rng: &mut Rng, holder: &mut Holder) {
        let gfp =
            [Gfp::KERNEL, Gfp::HIGHUSER_MOVABLE, Gfp::KERNEL | Gfp::RECLAIMABLE, Gfp::ATOMIC, Gfp::DMA32 | Gfp::KERNEL];
        // Half of the requests for one page, half of the rest for two, and so on up to the largest block.
        let order = Order::new_truncate(rng.next_u64().trailing_zeros().min(10) as u8);
        match self.machine.pages().alloc(cpu, gfp[rng.index(gfp.len())], order) {
            Ok(block) => holder.blocks.push(self.take(block)),
            Err(_) => holder.failures += 1,
        }
    }

    fn step(&self, cpu: &Cpu, rng: &mut Rng, holder: &mut Holder) {
        holder.steps += 1;
        let pages = self.machine.pages();
        match rng.below(1000) {
            0 => pages.drain_all_pages(cpu, NodeMask::ALL),
            1 => {
                pages.decay_pcp_high(cpu);
            }
            2 => pages.drain_local_pages(cpu),
            3 => self.isolate_and_back(cpu, rng),
            4..30 => {
                let wanted = rng.below(40);
                let mut blocks = Vec::new();
                pages.alloc_bulk(cpu, Gfp::KERNEL, wanted, |block| blocks.push(block));
                holder.blocks.extend(blocks.into_iter().map(|block| self.take(block)));
            }
            30..150 => self.swap_hands(rng, holder),
            _ if rng.index(2 * HELD) < holder.blocks.len() => {
                let block = holder.blocks.swap_remove(rng.index(holder.blocks.len()));
                self.give(cpu, rng, block);
            }
            _ => self.alloc(cpu, rng, holder),
        }
    }

    fn isolate_and_back(&self, cpu: &Cpu, rng: &mut Rng) {
        let span = self.machine.shape().span();
        let pfn = span.start.add(rng.below(span.nr_pages()));
        if let Ok(before) = self.machine.pages().isolate_pageblock(cpu, pfn) {
            self.machine.pages().unisolate_pageblock(cpu, pfn, before).unwrap();
        }
    }

    /// Leaves a block for the other CPU, or takes one that it left.
    fn swap_hands(&self, rng: &mut Rng, holder: &mut Holder) {
        let mut queue = self.handed_over.lock().unwrap();
        if queue.len() > 50 {
            holder.blocks.extend(queue.pop_front());
        } else if !holder.blocks.is_empty() {
            let block = holder.blocks.swap_remove(rng.index(holder.blocks.len()));
            queue.push_back(block);
        }
    }
}

fn run(rate: Option<InterruptRate>, checks: Checks) {
    let machine = Arc::new(machine(shape(4, NR_CPUS), rate, DebugOptions::with_checks(checks)).unwrap());
    let owners = Arc::new(Owners::new(&machine));
    let stash = hold_in_interrupts(&machine, &owners);
    let stress =
        Stress { machine: &machine, owners: &owners, handed_over: Mutex::default(), tags: AtomicU64::new(FREE + 1) };
    let end = Instant::now() + stress_time();
    let holders = machine.pages().platform().run_on_cpus(NR_CPUS, |cpu| {
        let (mut rng, mut holder) = (Rng::for_part(7, u64::from(cpu.id().raw())), Holder::default());
        while Instant::now() < end {
            (0..200).for_each(|_| stress.step(cpu, &mut rng, &mut holder));
        }
        holder
    });
    let holders = holders.unwrap();
    assert!(holders.iter().all(|holder| holder.steps > holder.failures * 2), "most requests are served");
    let cpu = machine.pages().platform().cpu(units::CpuId::ZERO).unwrap();
    let interrupts = machine.pages().platform().interrupts_delivered();
    on_interrupt(&machine, Arc::new(|_, _| ()));
    let mut rng = Rng::new(1);
    let between = std::mem::take(&mut *stress.handed_over.lock().unwrap());
    let left = holders.into_iter().flat_map(|holder| holder.blocks).chain(between);
    left.for_each(|block| stress.give(&cpu, &mut rng, block));
    let stashed = std::mem::take(&mut *stash.lock().unwrap());
    stashed.into_iter().for_each(|block| stress.give(&cpu, &mut rng, block));
    machine.pages().drain_all_pages(&cpu, NodeMask::ALL);
    machine.check(&cpu, 0);
    assert!(owners.0.iter().all(|owner| owner.load(Ordering::Relaxed) == FREE));
    assert_eq!(machine.pages().debug().bad_pages(), 0);
    // The windows inside per-CPU sections exist in debug builds only, but locks open in every build.
    assert_eq!(interrupts > 0, rate.is_some());
}

type Stash = Arc<Mutex<Vec<(OwnedBlock, u64)>>>;

/// Lets every interrupt allocate, free or do nothing, with what is left in the result.
fn hold_in_interrupts(machine: &Arc<Machine>, owners: &Arc<Owners>) -> Stash {
    let stash = Stash::default();
    let (weak, owners, blocks) = (Arc::downgrade(machine), Arc::clone(owners), Arc::clone(&stash));
    let tags = AtomicU64::new(1 << 62);
    let handler = move |cpu: &Cpu, rng: &mut Rng| {
        // The interrupted code may hold the stash on this very CPU.
        let held = match blocks.try_lock() {
            Ok(held) => held,
            Err(TryLockError::WouldBlock) => return,
            Err(TryLockError::Poisoned(_)) => panic!("another interrupt failed"),
        };
        let (Some(machine), mut held) = (weak.upgrade(), held) else { return };
        if held.len() > 64 || !held.is_empty() && rng.one_in(3) {
            let which = rng.index(held.len());
            let (block, tag) = held.swap_remove(which);
            owners.release(&machine, &block, tag);
            machine.pages().free(cpu, block);
        } else if let Ok(block) = machine.pages().alloc(cpu, Gfp::ATOMIC, Order::new_truncate(rng.below(4) as u8)) {
            let tag = tags.fetch_add(1, Ordering::Relaxed);
            owners.claim(&machine, &block, tag);
            held.push((block, tag));
        }
    };
    on_interrupt(machine, Arc::new(handler));
    stash
}

#[test]
fn no_frame_has_two_owners() {
    run(None, Checks::empty());
}

#[test]
fn no_frame_has_two_owners_with_interrupts_in_between() {
    run(Some(InterruptRate { one_in: 7, seed: 11 }), Checks::empty());
}

#[test]
fn nobody_writes_to_freed_memory() {
    run(Some(InterruptRate { one_in: 50, seed: 12 }), Checks::POISON | Checks::BAD_PAGE);
}
