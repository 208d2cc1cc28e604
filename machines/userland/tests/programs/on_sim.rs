//! Programs on the hosted machine: its page tables, its page cache, its faults. No instruction of a program runs; its calls and accesses do.

use address_space::Access;
use sim::description::Machine;
use sim::{SimMachine, SimOptions};
use units::{CpuId, VirtAddr};
use userland::{ManagedMemory, Memory, Step, Trap};

use crate::common::{DATA, Host, Task};
use crate::hostile;

const READ: u64 = 0;
const OPEN: u64 = 2;
const MMAP: u64 = 9;
const MPROTECT: u64 = 10;
const MUNMAP: u64 = 11;
const WRITE: u64 = 1;
const FORK: u64 = 57;
const EXIT_GROUP: u64 = 231;
const EFAULT: i64 = -14;
/// Seeds of random calls.
const RUNS: u64 = 20;

fn machine() -> SimMachine {
    let machine = SimMachine::boot(&Machine::ready("small").unwrap(), &SimOptions::default()).unwrap();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    machine.kernel().start_objects(&cpu).unwrap();
    drop(cpu);
    machine
}

/// Reaches for an address as the program would; true if it can go on.
fn touch<M: Memory>(host: &Host<'_, M>, task: &mut Task<M>, addr: u64, access: Access) -> bool {
    let trap = Trap::PageFault { addr: VirtAddr::new(addr), access, is_fetch: false, is_present: false };
    matches!(host.userland.trap(host.cpu, task, trap), Step::Run)
}

#[test]
fn a_program_maps_touches_protects_and_unmaps() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let area = host.call(&mut task, MMAP, &[0, 0x4000, 3, 0x22, u64::MAX, 0]) as u64;
    assert!(touch(&host, &mut task, area, Access::Write));
    host.poke(&task, area + 0x1ffe, b"across");
    assert_eq!(host.peek(&task, area + 0x1ffe, 6), b"across");
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    host.poke(&task, area, b"parent");
    let child = host.run();
    assert_eq!(host.peek(&child, area, 6), [0; 6]);
    host.leave(child, EXIT_GROUP, &[0]);
    assert_eq!(host.call(&mut task, MPROTECT, &[area, 0x1000, 1]), 0);
    let path = host.text(&task, DATA, "/etc/note");
    let fd = host.call(&mut task, OPEN, &[path, 0]) as u64;
    assert_eq!(host.call(&mut task, READ, &[fd, area, 5]), EFAULT);
    // The position stays where it was.
    assert_eq!(host.call(&mut task, READ, &[fd, area + 0x1000, 5]), 5);
    assert_eq!(host.call(&mut task, MUNMAP, &[area, 0x4000]), 0);
    assert_eq!(host.call(&mut task, WRITE, &[1, area, 1]), EFAULT);
    let maps = host.text(&task, DATA, "/proc/self/maps");
    let fd = host.call(&mut task, OPEN, &[maps, 0]) as u64;
    let count = host.call(&mut task, READ, &[fd, DATA + 0x100, 0xf00]);
    let text = String::from_utf8(host.peek(&task, DATA + 0x100, count as usize)).unwrap();
    assert!(text.starts_with("00401000-00402000 r-xp") && text.contains("[stack]"), "{text}");
    assert!(!touch(&host, &mut task, area, Access::Read), "nothing handles the signal");
}

#[test]
fn no_call_with_any_arguments_ends_the_machine() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    for seed in 1..=RUNS {
        let (host, task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
        hostile::run(&host, task, seed);
        machine.pages().check_invariants(&cpu).unwrap();
    }
}
