//! Tests of `SimMachine`: every ready machine boots, large ones cheaply, impossible ones are refused.

use units::{Gfp, NodeMask, Order, ZoneType};

use super::*;
use crate::description::READY_MACHINES;

fn boot(name: &str, options: &SimOptions) -> Result<SimMachine, MachineError> {
    SimMachine::boot(&Machine::ready(name).unwrap(), options)
}

#[test]
fn every_ready_machine_boots_and_serves_pages_from_each_node() {
    for ready in READY_MACHINES {
        let machine = boot(ready.name, &SimOptions::default()).unwrap();
        let (cpu, pages) = (machine.cpu(CpuId::ZERO).unwrap(), machine.pages());
        let managed = pages.zones().iter().map(|zone| zone.managed()).sum();
        assert_eq!(pages.check_invariants(&cpu), Ok(managed), "{}", ready.name);
        for node in pages.nodes().iter() {
            let block = pages.alloc_on_node(&cpu, Gfp::HIGHUSER_MOVABLE, Order::ZERO, node).unwrap();
            assert_eq!(pages.zone_of(block.pfn()).unwrap().node(), node, "{}", ready.name);
            pages.free(&cpu, block);
        }
        assert!(machine.boot_log().iter().any(|line| line == "Zone ranges:"), "{}", ready.name);
    }
}

#[test]
fn the_largest_machine_boots_in_little_host_memory() {
    let description = Machine::ready("huge-16t").unwrap();
    assert!(description.usable_bytes() > 15 << 40 && description.nodes.len() == 64);
    let start = std::time::Instant::now();
    let machine = SimMachine::boot(&description, &SimOptions::default()).unwrap();
    let (time, used) = (start.elapsed(), machine.host_use().unwrap());
    println!("16 TiB, 64 nodes: booted in {time:?} with {} KiB of host memory", (used.ram + used.memmap) >> 10);
    assert!(used.ram + used.memmap < 1 << 30, "{used:?}");
}

#[test]
fn options_reach_the_kernel() {
    let options = SimOptions { append: "mem=256M movablecore=64M".into(), ..SimOptions::default() };
    let machine = boot("small", &options).unwrap();
    let zone = machine.pages().zone(NodeId::ZERO, ZoneType::Movable).unwrap();
    assert_eq!(zone.span().end.raw(), (256 << 20) >> 12);
    let refused = boot("small", &SimOptions { append: "mem=lots".into(), ..SimOptions::default() });
    assert!(matches!(refused, Err(MachineError::CommandLine(_))));
}

#[test]
fn less_memory_is_refused_or_works_but_never_panics() {
    let mut booted = 0;
    for pages in (1..64).chain((64..2048).step_by(61)).chain([4096, 16384]) {
        let append = format!("memmap=exactmap memmap={}K@1M", pages * 4);
        match boot("small", &SimOptions { append, ..SimOptions::default() }) {
            Ok(machine) => {
                booted += 1;
                let cpu = machine.cpu(CpuId::ZERO).unwrap();
                let managed = machine.pages().zones().iter().map(|zone| zone.managed()).sum();
                assert_eq!(machine.pages().check_invariants(&cpu), Ok(managed), "{pages} pages");
            }
            Err(MachineError::Kernel(_) | MachineError::Memblock(_)) => {}
            Err(other) => panic!("{pages} pages: {other}"),
        }
    }
    assert!(booted > 2);
}

#[test]
fn high_memory_is_handed_out_unmapped() {
    let machine = boot("i386-highmem", &SimOptions::default()).unwrap();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let block = machine.pages().alloc(&cpu, Gfp::HIGHUSER, Order::ZERO).unwrap();
    assert_eq!(machine.pages().zone_of(block.pfn()).unwrap().kind(), ZoneType::HighMem);
    assert_eq!(machine.pages().address(&block), None);
    machine.pages().free(&cpu, block);
}

#[test]
fn zeroed_pages_are_zero_after_they_were_written() {
    let machine = boot("small", &SimOptions { checks: Checks::POISON, ..SimOptions::default() }).unwrap();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    for _ in 0..4 {
        let block = machine.pages().alloc(&cpu, Gfp::KERNEL | Gfp::ZERO, Order::ZERO).unwrap();
        let start = machine.pages().address(&block).unwrap();
        // SAFETY: the block is owned, mapped and 4096 bytes long.
        let bytes = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), 4096) };
        assert!(bytes.iter().all(|&byte| byte == 0));
        bytes.fill(0x5a);
        machine.pages().free(&cpu, block);
    }
}

#[test]
fn interrupts_allocate_from_the_kernel_that_they_interrupt() {
    let rate = Some(InterruptRate { one_in: 3, seed: 5 });
    let machine = boot("small", &SimOptions { interrupts: rate, ..SimOptions::default() }).unwrap();
    machine.on_interrupt(|kernel, cpu, _| {
        let block = kernel.pages().alloc(cpu, Gfp::ATOMIC, Order::ZERO).unwrap();
        kernel.pages().free(cpu, block);
    });
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    for order in (0..=10).cycle().take(500) {
        let block = machine.pages().alloc(&cpu, Gfp::KERNEL, Order::new_truncate(order)).unwrap();
        machine.pages().free(&cpu, block);
    }
    assert!(machine.platform().interrupts_delivered() > 10);
    machine.pages().drain_all_pages(&cpu, NodeMask::ALL);
    let managed = machine.pages().zones().iter().map(|zone| zone.managed()).sum();
    assert_eq!(machine.pages().check_invariants(&cpu), Ok(managed));
}

#[test]
fn two_machines_share_nothing() {
    let (first, second) =
        (boot("small", &SimOptions::default()).unwrap(), boot("small", &SimOptions::default()).unwrap());
    let (one, two) = (first.cpu(CpuId::ZERO).unwrap(), second.cpu(CpuId::ZERO).unwrap());
    let before = second.pages().check_invariants(&two);
    let block = first.pages().alloc(&one, Gfp::KERNEL, Order::new_truncate(10)).unwrap();
    assert_eq!(second.pages().check_invariants(&two), before);
    first.pages().free(&one, block);
}

#[test]
fn a_released_block_costs_no_host_memory_and_reads_as_zeros() {
    let machine = boot("small", &SimOptions::default()).unwrap();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let mut block = machine.pages().alloc(&cpu, Gfp::KERNEL, Order::new_truncate(4)).unwrap();
    let start = machine.pages().address(&block).unwrap();
    // SAFETY: the block is owned, mapped and 16 pages long.
    unsafe { start.write_bytes(7, 16 << 12) };
    let before = machine.host_use().unwrap();
    assert_eq!(machine.release(&mut block).unwrap(), 16 << 12);
    assert_eq!(before.ram - machine.host_use().unwrap().ram, 16 << 12);
    // SAFETY: as for the write.
    assert_eq!(unsafe { start.read() }, 0);
    machine.pages().free(&cpu, block);
}
