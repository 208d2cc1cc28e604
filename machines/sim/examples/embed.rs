//! A machine with two nodes in one process: boots it, takes pages on two CPUs at once, gives them back, and shows /proc/buddyinfo.
//!
//! `cargo run --example embed -p mmkit-sim`

use std::error::Error;

use mmkit_sim::description::Machine;
use mmkit_sim::{SimMachine, SimOptions};
use sync::Cpu;
use units::{CpuId, Gfp, Order};

const DESCRIPTION: &str = r#"
    arch = "x86-64"
    nodes = [
      { cpus = 1, memory = ["0+1G"] },
      { cpus = 1, memory = ["1G+1G"] },
    ]
"#;

fn main() -> Result<(), Box<dyn Error>> {
    let description = Machine::parse("two-nodes.toml", DESCRIPTION)?;
    let machine = SimMachine::boot(&description, &SimOptions::default())?;
    show(&machine, "after boot")?;

    let taken = machine.run_on_cpus(2, |cpu| take_and_write(&machine, cpu, 1000))?;
    show(&machine, "with 1,000 blocks of two pages taken on each CPU")?;

    let cpu = machine.cpu(CpuId::ZERO).ok_or("CPU 0 is in use")?;
    machine.pages().free_bulk(&cpu, taken.into_iter().flatten());
    machine.pages().drain_all_pages(&cpu, machine.pages().nodes());
    drop(cpu);
    show(&machine, "with everything free again")
}

/// Takes blocks of two zeroed pages; what is missing at the end did not fit.
fn take_and_write(machine: &SimMachine, cpu: &Cpu, blocks: usize) -> Vec<frame_table::OwnedBlock> {
    let two_pages = Order::new_truncate(1);
    (0..blocks).map_while(|_| machine.pages().alloc(cpu, Gfp::KERNEL | Gfp::ZERO, two_pages).ok()).collect()
}

fn show(machine: &SimMachine, when: &str) -> Result<(), Box<dyn Error>> {
    let cpu = machine.cpu(CpuId::ZERO).ok_or("CPU 0 is in use")?;
    let mut text = String::new();
    machine.proc(&cpu).write_buddyinfo(&mut text)?;
    println!("{when}:\n{text}");
    Ok(())
}
