//! /proc/sys/vm: what is set there counts for the next call, and what is out of range changes nothing.

use page_allocator::{Watermark, Zone};
use units::CpuId;
use userland::{ManagedMemory, Memory};

use crate::abi::{EINVAL, ENOMEM, LSEEK, MMAP, OPEN, PREAD64, WRITE};
use crate::common::{DATA, Host, Task, machine};

/// Opens a setting for reading and writing.
fn open<M: Memory>(host: &Host<'_, M>, task: &mut Task<M>, name: &str) -> u64 {
    let path = host.text(task, DATA, &format!("/proc/sys/vm/{name}"));
    let fd = host.call(task, OPEN, &[path, 2]);
    assert!(fd > 2, "{name}: {fd}");
    fd as u64
}

fn tell<M: Memory>(host: &Host<'_, M>, task: &mut Task<M>, fd: u64) -> String {
    let count = host.call(task, PREAD64, &[fd, DATA + 0x100, 100, 0]);
    String::from_utf8(host.peek(task, DATA + 0x100, count as usize)).unwrap()
}

/// Writes at the beginning.
fn set<M: Memory>(host: &Host<'_, M>, task: &mut Task<M>, fd: u64, text: &str) -> i64 {
    assert_eq!(host.call(task, LSEEK, &[fd, 0, 0]), 0);
    let at = host.text(task, DATA + 0x200, text);
    host.call(task, WRITE, &[fd, at, text.len() as u64])
}

/// Maps a page at an address, or anywhere at 0, so that the areas do not merge.
fn map<M: Memory>(host: &Host<'_, M>, task: &mut Task<M>, addr: u64, len: u64) -> i64 {
    let fixed = if addr == 0 { 0 } else { 0x10 };
    host.call(task, MMAP, &[addr, len, 3, 0x22 | fixed, u64::MAX, 0])
}

#[test]
fn settings_show_linux_s_defaults_and_refuse_what_is_out_of_range() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let cases = [
        ("max_map_count", "65530\n", "-1", "100000"),
        ("mmap_min_addr", "65536\n", "-4096", "4096"),
        ("overcommit_kbytes", "0\n", "x", "4000"),
        ("overcommit_memory", "0\n", "3", "1"),
        ("overcommit_ratio", "0\n", "4294967296", "-7"),
        ("percpu_pagelist_high_fraction", "0\n", "7", "8"),
        ("watermark_boost_factor", "15000\n", "-1", "0"),
        ("watermark_scale_factor", "10\n", "3001", "3000"),
    ];
    for (name, default, bad, good) in cases {
        let fd = open(&host, &mut task, name);
        assert_eq!(tell(&host, &mut task, fd), default, "{name}");
        assert_eq!(set(&host, &mut task, fd, bad), EINVAL, "{name}");
        assert_eq!(tell(&host, &mut task, fd), default, "{name}");
        assert_eq!(set(&host, &mut task, fd, good), good.len() as i64, "{name}");
        assert_eq!(tell(&host, &mut task, fd), format!("{good}\n"), "{name}");
    }
    let ratios = open(&host, &mut task, "lowmem_reserve_ratio");
    let before = tell(&host, &mut task, ratios);
    assert!(before.starts_with("256\t"), "{before}");
    assert_eq!(set(&host, &mut task, ratios, "128 nothing"), 11);
    assert_eq!(tell(&host, &mut task, ratios), before.replacen("256", "128", 1));
}

#[test]
fn a_write_behind_the_beginning_counts_for_nothing() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let fd = open(&host, &mut task, "max_map_count");
    assert_eq!(set(&host, &mut task, fd, "77 88\n"), 3, "up to the second number");
    let text = host.text(&task, DATA + 0x200, "99");
    assert_eq!(host.call(&mut task, WRITE, &[fd, text, 2]), 2);
    assert_eq!(tell(&host, &mut task, fd), "77\n");
}

#[test]
fn limits_of_areas_addresses_and_promises_count_from_then_on() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let [areas, lowest, mode, kbytes] = ["max_map_count", "mmap_min_addr", "overcommit_memory", "overcommit_kbytes"]
        .map(|name| open(&host, &mut task, name));
    let far = 0x1000_0000_0000;
    assert_eq!(map(&host, &mut task, far, 4096) as u64, far);
    assert_eq!(set(&host, &mut task, areas, "2"), 1);
    assert_eq!(map(&host, &mut task, far + 0x10000, 4096), ENOMEM);
    assert_eq!(set(&host, &mut task, areas, "65530"), 5);
    assert_eq!(map(&host, &mut task, far + 0x10000, 4096) as u64, far + 0x10000);
    // Who may map below it does, and a hint is lifted no more than to it.
    assert_eq!(set(&host, &mut task, lowest, "0x40000"), 7);
    assert_eq!(host.call(&mut task, MMAP, &[0x11000, 4096, 3, 0x22, u64::MAX, 0]), 0x40000);
    assert_eq!(set(&host, &mut task, kbytes, "64"), 2);
    assert_eq!(set(&host, &mut task, mode, "2"), 1);
    assert_eq!(map(&host, &mut task, 0, 1 << 20), ENOMEM);
    assert_eq!(set(&host, &mut task, mode, "1"), 1);
    assert!(map(&host, &mut task, 0, 1 << 40) > 0);
}

#[test]
fn watermarks_follow_what_is_set() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let (host, mut task) = Host::with(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let sum = |mark| machine.kernel().pages().zones().iter().map(|zone: &Zone| zone.watermark(mark)).sum::<u64>();
    let free = open(&host, &mut task, "min_free_kbytes");
    let shown: u64 = tell(&host, &mut task, free).trim().parse().unwrap();
    assert!(
        (sum(Watermark::Min)..sum(Watermark::Min) + 8).contains(&(shown / 4)),
        "{shown} kB, {}",
        sum(Watermark::Min)
    );
    assert_eq!(set(&host, &mut task, free, "4000\n"), 5);
    assert_eq!((tell(&host, &mut task, free), sum(Watermark::Min).abs_diff(1000) < 8), ("4000\n".to_owned(), true));
    let scale = open(&host, &mut task, "watermark_scale_factor");
    let gap = sum(Watermark::Low) - sum(Watermark::Min);
    assert_eq!(set(&host, &mut task, scale, "1000"), 4);
    assert!(sum(Watermark::Low) - sum(Watermark::Min) > 2 * gap);
    assert_eq!(tell(&host, &mut task, free), "4000\n");
}
