//! khugepaged's turns: when a CPU is idle and its time has come, pages that were touched one by one become large ones.

use std::sync::atomic::Ordering;

use units::CpuId;
use userland::{ManagedMemory, Memory};

use crate::abi::{CLOSE, EINVAL, EIO, FORK, MMAP, NANOSLEEP, OPEN, READ, WRITE};
use crate::common::{DATA, Host, Task, machine};

const LARGE: u64 = 2 << 20;
const SECOND: u64 = 1_000_000_000;
const START: u64 = 0x20_0000_0000;

fn open<M: Memory>(host: &Host<'_, M>, task: &mut Task<M>, name: &str) -> u64 {
    let path = host.text(task, DATA, &format!("/sys/kernel/mm/transparent_hugepage/{name}"));
    host.call(task, OPEN, &[path, 2]) as u64
}

fn set<M: Memory>(host: &Host<'_, M>, task: &mut Task<M>, name: &str, text: &str) -> i64 {
    let fd = open(host, task, name);
    let at = host.text(task, DATA + 0x200, text);
    let result = host.call(task, WRITE, &[fd, at, text.len() as u64]);
    host.call(task, CLOSE, &[fd]);
    result
}

fn get<M: Memory>(host: &Host<'_, M>, task: &mut Task<M>, name: &str) -> String {
    let fd = open(host, task, name);
    let count = host.call(task, READ, &[fd, DATA + 0x100, 100]);
    host.call(task, CLOSE, &[fd]);
    String::from_utf8(host.peek(task, DATA + 0x100, count as usize)).unwrap()
}

/// Lets the task sleep so many seconds, one by one, and what is to happen meanwhile happen.
fn sleep<M: Memory>(host: &Host<'_, M>, task: Task<M>, seconds: u64) -> Task<M> {
    let time = host.words(&task, DATA, &[seconds, 0]);
    host.leave(task, NANOSLEEP, &[time, 0]);
    let next = || {
        host.userland.machine().clock.fetch_add(SECOND, Ordering::Relaxed);
        host.try_run()
    };
    host.try_run().unwrap_or_else(|| std::iter::repeat_with(next).flatten().next().expect("the time passes"))
}

/// Maps a large page's addresses, and touches one page.
fn touch<M: Memory>(host: &Host<'_, M>, task: &mut Task<M>) {
    assert_eq!(host.call(task, MMAP, &[START, LARGE, 3, 0x32, u64::MAX, 0]), START as i64);
    host.poke(task, START, &[1]);
}

#[test]
fn pages_touched_one_by_one_are_gathered_while_the_program_sleeps() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    assert_eq!(set(&host, &mut task, "enabled", "never"), 5);
    assert_eq!(host.call(&mut task, MMAP, &[START, 4 * LARGE, 3, 0x32, u64::MAX, 0]), START as i64);
    // One page of each place but the last: up to 511 may be missing.
    (0..3).for_each(|place| host.poke(&task, START + place * LARGE + 5, &[7 + place as u8]));
    let mut task = sleep(&host, task, 21);
    assert_eq!(get(&host, &mut task, "khugepaged/pages_collapsed"), "0\n", "the policy forbids it");
    assert_eq!(set(&host, &mut task, "enabled", "always"), 6);
    assert_eq!(set(&host, &mut task, "khugepaged/pages_to_scan", "512"), 3);
    let mut task = sleep(&host, task, 31);
    assert_eq!(get(&host, &mut task, "khugepaged/pages_collapsed"), "3\n");
    assert_eq!(
        [0, 1, 2].map(|place| host.peek(&task, START + place * LARGE + 5, 1)[0]),
        [7, 8, 9],
        "their contents are as before"
    );
    assert_eq!(host.peek(&task, START + 6, 1)[0], 0);
}

#[test]
fn settings_of_khugepaged_are_numbers_in_linux_s_ranges() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let cases = [
        ("pages_to_scan", "4096\n", "0", "8"),
        ("scan_sleep_millisecs", "10000\n", "-1", "0"),
        ("max_ptes_none", "511\n", "512", "0"),
        ("max_ptes_shared", "256\n", "x", "511"),
    ];
    for (name, default, bad, good) in cases {
        let name = format!("khugepaged/{name}");
        assert_eq!(get(&host, &mut task, &name), default, "{name}");
        assert_eq!(set(&host, &mut task, &name, bad), EINVAL, "{name}");
        assert_eq!(set(&host, &mut task, &name, good), good.len() as i64, "{name}");
        assert_eq!(get(&host, &mut task, &name), format!("{good}\n"), "{name}");
    }
    assert_eq!(set(&host, &mut task, "khugepaged/full_scans", "1"), EIO);
}

#[test]
fn a_turn_goes_on_in_the_next_address_space() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    assert_eq!(set(&host, &mut task, "enabled", "never"), 5);
    assert_eq!(host.call(&mut task, FORK, &[]), 2);
    touch(&host, &mut task);
    // The child is ready, so no time passes before it runs.
    let mut child = sleep(&host, task, 25);
    touch(&host, &mut child);
    assert_eq!(set(&host, &mut child, "enabled", "always"), 6);
    let mut task = sleep(&host, child, 26);
    assert_eq!(get(&host, &mut task, "khugepaged/pages_collapsed"), "2\n");
    assert_ne!(get(&host, &mut task, "khugepaged/full_scans"), "0\n");
}
