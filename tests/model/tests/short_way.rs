//! The short way of an allocation or a free against the general one: same pages, same counts.

use frame_table::{OwnedBlock, PageBytes};
use model_tests::{Machine, machine, shape};
use page_allocator::{AllocRequest, Checks, DebugOptions, ZoneEvents};
use proptest::prelude::*;
use sim::CpuGuard;
use units::{CpuId, Gfp, Order, Pfn};

/// One step on a machine with two CPUs on two nodes.
#[derive(Clone, Copy, Debug)]
enum Step {
    Alloc { cpu: usize, order: u8, gfp: Gfp },
    Free { cpu: usize, which: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kinds = [Gfp::KERNEL, Gfp::HIGHUSER_MOVABLE, Gfp::KERNEL | Gfp::RECLAIMABLE, Gfp::ATOMIC];
    let gfp = prop::sample::select(kinds.iter().flat_map(|&gfp| [gfp, gfp | Gfp::ZERO]).collect::<Vec<_>>());
    // Small orders are the common ones; order 9 has lists of its own.
    let order = prop_oneof![4 => 0u8..=3, 1 => Just(9u8), 1 => 4u8..=10];
    let alloc = (0..2usize, order, gfp).prop_map(|(cpu, order, gfp)| Step::Alloc { cpu, order, gfp });
    let free = (0..2usize, any::<usize>()).prop_map(|(cpu, which)| Step::Free { cpu, which });
    prop::collection::vec(prop_oneof![alloc, free], 1..400)
}

/// A machine with two CPUs; if its blocks are checked one by one, it takes the general way only.
fn two_nodes(checks: Checks) -> Machine {
    machine(shape(1, 2), None, DebugOptions::with_checks(checks)).unwrap()
}

/// What was done, by the caller's own count.
#[derive(Default, PartialEq, Debug)]
struct Done {
    allocations: u64,
    pages_allocated: u64,
    pages_freed: u64,
}

struct Run<'a> {
    machine: &'a Machine,
    cpus: Vec<CpuGuard<'a>>,
    held: Vec<OwnedBlock>,
    done: Done,
}

impl<'a> Run<'a> {
    fn new(machine: &'a Machine) -> Self {
        let cpus = (0..2).filter_map(|id| machine.pages().platform().cpu(CpuId::try_new(id)?)).collect();
        Self { machine, cpus, held: Vec::new(), done: Done::default() }
    }

    /// Does a step; returns the block that it was about.
    fn step(&mut self, step: Step) -> Option<(Pfn, Order)> {
        let pages = self.machine.pages();
        match step {
            Step::Alloc { cpu, order, gfp } => {
                let block = pages.alloc(&self.cpus[cpu], gfp | Gfp::NOWARN, Order::new_truncate(order)).ok()?;
                self.use_bytes(&block, gfp);
                self.done.allocations += 1;
                self.done.pages_allocated += block.order().nr_pages();
                let taken = (block.pfn(), block.order());
                self.held.push(block);
                Some(taken)
            }
            Step::Free { cpu, which } => {
                let at = which.checked_rem(self.held.len())?;
                let block = self.held.swap_remove(at);
                self.done.pages_freed += block.order().nr_pages();
                let freed = (block.pfn(), block.order());
                pages.free(&self.cpus[cpu], block);
                Some(freed)
            }
        }
    }

    /// Writes to each page of a block, which holds zeros if they were asked for.
    fn use_bytes(&self, block: &OwnedBlock, gfp: Gfp) {
        let bytes = PageBytes::new(self.machine.pages().platform(), block, 12).unwrap();
        assert!(!gfp.contains(Gfp::ZERO) || bytes.is_zero(), "zeros were asked for");
        (0..bytes.len()).step_by(4096).for_each(|at| _ = bytes.write(at + 8, b"used"));
    }

    /// Sums the event counts of all zones.
    fn events(&self) -> ZoneEvents {
        let mut sum = ZoneEvents::default();
        let pages = self.machine.pages();
        pages.zones().iter().for_each(|zone| sum.add(&pages.zone_events(&self.cpus[0], zone)));
        sum
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_short_way_takes_the_pages_that_the_general_way_takes(steps in steps()) {
        let machines = [Checks::empty(), Checks::BAD_PAGE].map(two_nodes);
        let [mut short, mut general] = machines.each_ref().map(Run::new);
        for step in steps {
            prop_assert_eq!(short.step(step), general.step(step), "{:?}", step);
        }
        prop_assert_eq!(short.events(), general.events());
    }

    #[test]
    fn event_counts_are_what_was_done(steps in steps()) {
        let machine = two_nodes(Checks::empty());
        let mut run = Run::new(&machine);
        for step in steps {
            run.step(step);
            let events = run.events();
            let seen = Done {
                allocations: events.numa_hit + events.numa_miss,
                pages_allocated: events.allocated,
                pages_freed: events.freed,
            };
            prop_assert_eq!(&seen, &run.done);
            prop_assert_eq!(events.numa_local + events.numa_other, run.done.allocations);
            prop_assert_eq!(events.numa_foreign, events.numa_miss);
        }
        let held = run.done.pages_allocated - run.done.pages_freed;
        machine.check(&run.cpus[0], held);
    }
}

#[test]
fn an_injected_failure_reaches_the_next_request_however_common() {
    let machine = two_nodes(Checks::empty());
    let pages = machine.pages();
    let cpu = &pages.platform().cpu(CpuId::ZERO).unwrap();
    let warm = pages.alloc(cpu, Gfp::KERNEL, Order::ZERO).unwrap();
    pages.free(cpu, warm);
    pages.arm_faults(0, 1);
    assert!(pages.alloc(cpu, Gfp::KERNEL, Order::ZERO).is_err());
    let next = pages.alloc(cpu, Gfp::KERNEL, Order::ZERO).unwrap();
    pages.free(cpu, next);
}

#[test]
fn a_request_without_a_cpu_of_its_node_counts_as_other() {
    let machine = two_nodes(Checks::empty());
    let pages = machine.pages();
    let cpu = &pages.platform().cpu(CpuId::ZERO).unwrap();
    let there = pages.zones()[2].node();
    let block = pages.alloc_request(cpu, &AllocRequest::new(Gfp::KERNEL, Order::ZERO).on_node(there)).unwrap();
    let events = pages.zone_events(cpu, &pages.zones()[2]);
    assert_eq!((events.numa_hit, events.numa_local, events.numa_other), (1, 0, 1));
    pages.free(cpu, block);
}
