//! Models of the page allocator: no frame has two owners and none is lost, whatever two CPUs do at once.
//!
//! The per-CPU path, its bulk refill, remote draining, the zone's lists with splitting and merging, isolation, and freeing by number
//! and by reference. Preemptions are bounded at [`PREEMPTIONS`] a run, or at LOOM_MAX_PREEMPTIONS.
#![cfg(loom)]

mod machine;

use std::sync::Arc;

use frame_table::OwnedBlock;
use loom::thread;
use page_allocator::PcpLimits;
use sync::Cpu;
use units::{Gfp, MigrateType, Order, Pfn};

use machine::{Machine, SPAN};

/// Most preemptions of one run. Three find every bug whose smallest schedule switches CPUs against their will three times.
const PREEMPTIONS: usize = 3;

/// CPUs that keep up to four pages and move two at a time.
const KEEPING: PcpLimits = PcpLimits { high_min: 4, high_max: 4, batch: 2 };
/// CPUs that keep nothing: every request goes to the zone.
const PASSING: PcpLimits = PcpLimits::BOOT;

const ONE: Order = Order::ZERO;
const TWO: Order = Order::new_truncate(1);
const FOUR: Order = Order::new_truncate(2);

/// Runs `main` as CPU 0 and `other` as CPU 1 in every interleaving, then checks that all frames but those in the results are free.
fn two_cpus<A, B>(
    pcp: PcpLimits,
    main: impl Fn(&Machine, &Cpu) -> A + Sync + Send + 'static,
    other: impl Fn(&Machine, &Cpu) -> B + Sync + Send + Copy + 'static,
) where
    A: IntoIterator<Item = OwnedBlock>,
    B: IntoIterator<Item = OwnedBlock> + Send + 'static,
{
    let mut model = loom::model::Builder::new();
    model.max_branches = 20_000;
    model.preemption_bound.get_or_insert(PREEMPTIONS);
    model.check(move || {
        let machine = Arc::new(Machine::new(pcp));
        let second = Arc::clone(&machine);
        let thread = thread::spawn(move || {
            let cpu = second.cpu(1);
            other(&second, &cpu)
        });
        let cpu = machine.cpu(0);
        let mut held: Vec<OwnedBlock> = main(&machine, &cpu).into_iter().collect();
        held.extend(thread.join().unwrap());
        no_two_overlap(&held);
        machine.check(&cpu, held.iter().map(|block| block.order().nr_pages()).sum());
        held.into_iter().for_each(|block| machine.pages().free(&cpu, block));
        machine.pages().drain_all_pages(&cpu, machine.pages().nodes());
        machine.check(&cpu, 0);
        let counts = machine.pages().free_counts(&cpu, &machine.pages().zones()[0]);
        let largest: u32 = counts[FOUR.index()].iter().sum();
        assert_eq!(
            u64::from(largest) * FOUR.nr_pages(),
            SPAN.nr_pages(),
            "with everything free, everything has merged"
        );
    });
}

fn no_two_overlap(blocks: &[OwnedBlock]) {
    for (index, block) in blocks.iter().enumerate() {
        let clash = blocks.iter().skip(index + 1).find(|other| !block.frames().intersection(other.frames()).is_empty());
        assert_eq!(clash, None, "{block:?} has two owners");
    }
}

fn alloc(machine: &Machine, cpu: &Cpu, order: Order) -> OwnedBlock {
    machine.pages().alloc(cpu, Gfp::HIGHUSER_MOVABLE, order).unwrap()
}

fn free(machine: &Machine, cpu: &Cpu, block: OwnedBlock) {
    machine.pages().free(cpu, block);
}

fn pair(machine: &Machine, cpu: &Cpu, order: Order) -> Option<OwnedBlock> {
    free(machine, cpu, alloc(machine, cpu, order));
    None
}

#[test]
fn two_cpus_refill_their_lists_at_once() {
    let refill = |m: &Machine, cpu: &Cpu| [alloc(m, cpu, ONE), alloc(m, cpu, ONE), alloc(m, cpu, ONE)];
    two_cpus(KEEPING, refill, refill);
}

#[test]
fn two_cpus_drain_each_other() {
    let drain = |m: &Machine, cpu: &Cpu| {
        let block = alloc(m, cpu, ONE);
        m.pages().drain_all_pages(cpu, m.pages().nodes());
        [block]
    };
    two_cpus(KEEPING, drain, drain);
}

#[test]
fn a_remote_drain_meets_an_allocation() {
    let drain = |m: &Machine, cpu: &Cpu| {
        m.pages().drain_zone(cpu, &m.pages().zones()[0]);
        None
    };
    two_cpus(KEEPING, |m, cpu| [alloc(m, cpu, ONE), alloc(m, cpu, ONE)], drain);
}

#[test]
fn a_remote_drain_meets_a_free() {
    let drain = |m: &Machine, cpu: &Cpu| {
        m.pages().drain_zone(cpu, &m.pages().zones()[0]);
        None
    };
    two_cpus(KEEPING, |m, cpu| pair(m, cpu, ONE), drain);
}

#[test]
fn a_block_is_split_while_its_buddy_is_freed() {
    two_cpus(PASSING, |m, cpu| pair(m, cpu, TWO), |m, cpu| [alloc(m, cpu, TWO), alloc(m, cpu, ONE)]);
}

#[test]
fn two_cpus_free_buddies_at_once() {
    let freeing = |m: &Machine, cpu: &Cpu| pair(m, cpu, TWO);
    two_cpus(PASSING, freeing, freeing);
}

#[test]
fn a_bulk_request_meets_a_larger_one() {
    let bulk = |m: &Machine, cpu: &Cpu| {
        let mut blocks = Vec::new();
        m.pages().alloc_bulk(cpu, Gfp::HIGHUSER_MOVABLE, 2, |block| blocks.push(block));
        blocks
    };
    let larger = |m: &Machine, cpu: &Cpu| {
        pair(m, cpu, ONE);
        m.pages().alloc(cpu, Gfp::HIGHUSER_MOVABLE, FOUR).ok()
    };
    two_cpus(KEEPING, bulk, larger);
}

#[test]
fn a_pageblock_is_isolated_while_its_pages_move() {
    let isolate = |m: &Machine, cpu: &Cpu| {
        let pfn = SPAN.start;
        let before = m.pages().isolate_pageblock(cpu, pfn).unwrap();
        assert_eq!(before, MigrateType::Movable);
        m.pages().unisolate_pageblock(cpu, pfn, before).unwrap();
        None
    };
    two_cpus(KEEPING, |m, cpu| pair(m, cpu, ONE), isolate);
}

#[test]
fn of_two_frees_of_one_block_one_is_refused() {
    let mut model = loom::model::Builder::new();
    model.max_branches = 20_000;
    model.preemption_bound.get_or_insert(PREEMPTIONS);
    model.check(|| {
        let machine = Arc::new(Machine::new(KEEPING));
        let cpu = machine.cpu(0);
        let pfn: Pfn = alloc(&machine, &cpu, TWO).into_raw(&machine.pages().map().frames);
        let second = Arc::clone(&machine);
        let thread = thread::spawn(move || second.pages().free_raw(&second.cpu(1), pfn, TWO).is_ok());
        let mine = machine.pages().free_raw(&cpu, pfn, TWO).is_ok();
        assert!(mine ^ thread.join().unwrap());
        machine.check(&cpu, 0);
    });
}

#[test]
fn the_last_of_two_references_frees_the_block() {
    let mut model = loom::model::Builder::new();
    model.max_branches = 20_000;
    model.preemption_bound.get_or_insert(PREEMPTIONS);
    model.check(|| {
        let machine = Arc::new(Machine::new(KEEPING));
        let cpu = machine.cpu(0);
        let frames = &machine.pages().map().frames;
        let block = alloc(&machine, &cpu, TWO).into_counted(frames);
        let reference = block.get(frames);
        let second = Arc::clone(&machine);
        let thread = thread::spawn(move || second.pages().put(&second.cpu(1), reference));
        machine.pages().free_counted(&cpu, block);
        thread.join().unwrap();
        machine.check(&cpu, 0);
    });
}
