//! One seed is one run: the scheduler and the interrupts are drawn from it, and nothing else decides.

use std::fmt::Write;

use sim::description::Machine;
use sim::{InterruptRate, Rng, RunEnd, Scheduler, SimMachine, SimOptions, Step};
use sync::Cpu;
use units::{CpuId, Gfp, Order};

/// Runs four CPUs for a while; returns everything that can be seen of the outcome.
fn run(seed: u64) -> String {
    let interrupts = Some(InterruptRate { one_in: 9, seed });
    let description = Machine::ready("server-2node").unwrap();
    let machine = SimMachine::boot(&description, &SimOptions { interrupts, ..SimOptions::default() }).unwrap();
    machine.on_interrupt(|kernel, cpu, rng| {
        if let Ok(block) = kernel.pages().alloc(cpu, Gfp::ATOMIC, Order::new_truncate(rng.below(3) as u8)) {
            kernel.pages().free(cpu, block);
        }
    });
    let mut scheduler = Scheduler::new(machine.platform(), seed);
    for id in 0..4 {
        let (pages, mut held, mut left) = (machine.pages(), Vec::new(), 2000);
        let step = move |cpu: &Cpu, rng: &mut Rng| {
            left -= 1;
            if rng.below(100) < held.len() as u64 || left < held.len() {
                let which = rng.index(held.len());
                pages.free(cpu, held.swap_remove(which));
            } else {
                held.extend(pages.alloc(cpu, Gfp::HIGHUSER_MOVABLE, Order::new_truncate(rng.below(6) as u8)));
            }
            if left == 0 { Step::Done } else { Step::Progress }
        };
        scheduler.spawn(CpuId::try_new(id).unwrap(), step).unwrap();
    }
    assert_eq!(scheduler.run(u64::MAX), RunEnd::AllDone);
    let mut outcome = format!("{} {}\n", scheduler.digest(), machine.platform().interrupts_delivered());
    drop(scheduler);
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let proc = machine.proc(&cpu);
    proc.write_buddyinfo(&mut outcome).unwrap();
    proc.write_zoneinfo(&mut outcome).unwrap();
    proc.write_vmstat(&mut outcome).unwrap();
    writeln!(outcome, "{:?}", machine.pages().check_invariants(&cpu)).unwrap();
    outcome
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}
