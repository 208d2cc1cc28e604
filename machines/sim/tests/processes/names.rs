//! Names of anonymous areas: kept as long as an area has them, shown in maps.

use address_space::{MapFlags, MmError, MmRef, Process};
use kernel_mm::{CacheNames, ProcMm};
use proc_files::{Config, Profile, Release};
use sync::Cpu;
use units::{CpuId, VirtAddr};

use crate::{Manager, machine, manager, map, mm};

const PAGE: u64 = 4096;

fn maps<'k>(manager: &Manager<'k>, cpu: &Cpu, mm: &MmRef<'k>) -> Vec<String> {
    let profile = Profile::new(Release::V6_12, Config::X86_64);
    let mut text = String::new();
    ProcMm { manager, cpu, mm, names: &CacheNames, profile }.write_maps(&mut text).unwrap();
    text.lines().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect()
}

fn name<'k>(
    manager: &Manager<'k>,
    cpu: &Cpu,
    mm: &MmRef<'k>,
    (start, pages): (VirtAddr, u64),
    text: Option<&str>,
) -> Result<(), MmError> {
    manager.name_areas(cpu, mm, &Process::default(), (start, pages * PAGE), text.map(str::as_bytes))
}

/// Returns the number of the name of the area at an address.
fn number<'k>(cpu: &Cpu, mm: &MmRef<'k>, at: VirtAddr) -> Option<u64> {
    mm.read(cpu).lookup(at)?.name.map(|name| name.raw())
}

#[test]
fn a_name_is_shown_shared_and_gone_with_its_last_area() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let process = Process::default();
    let first = mm(&manager, &cpu);
    let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS;
    let area = map(&manager, &cpu, &first, 8 * PAGE, flags).unwrap();
    name(&manager, &cpu, &first, (area, 4), Some("heap")).unwrap();
    name(&manager, &cpu, &first, (area.saturating_add(6 * PAGE), 2), Some("heap")).unwrap();
    assert_eq!(maps(&manager, &cpu, &first), ["[anon:heap]", "", "[anon:heap]"]);
    let given = number(&cpu, &first, area).unwrap();
    assert_eq!(number(&cpu, &first, area.saturating_add(7 * PAGE)), Some(given));
    // A child has it too, also when all of the parent's areas are gone; a hole in the middle makes two users of one.
    let child = manager.dup_mm(&cpu, &first, &process).unwrap();
    manager.call(&cpu, &child, &process).munmap(area.saturating_add(PAGE), PAGE).unwrap();
    manager.call(&cpu, &first, &process).munmap(area, 8 * PAGE).unwrap();
    assert_eq!(maps(&manager, &cpu, &child).iter().filter(|line| *line == "[anon:heap]").count(), 3);
    let again = map(&manager, &cpu, &first, PAGE, flags).unwrap();
    name(&manager, &cpu, &first, (again, 1), Some("heap")).unwrap();
    assert_eq!(number(&cpu, &first, again), Some(given));
    // Taken by one, joined by the other; then nobody has it, and the same text is another name.
    name(&manager, &cpu, &first, (again, 1), None).unwrap();
    name(&manager, &cpu, &child, (area.saturating_add(2 * PAGE), 4), Some("other")).unwrap();
    manager.mmput(&cpu, child);
    name(&manager, &cpu, &first, (again, 1), Some("heap")).unwrap();
    assert_ne!(number(&cpu, &first, again), Some(given));
    manager.mmput(&cpu, first);
}

#[test]
fn what_is_no_name_or_has_no_memory_changes_nothing() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let first = mm(&manager, &cpu);
    let area = map(&manager, &cpu, &first, PAGE, MapFlags::PRIVATE | MapFlags::ANONYMOUS).unwrap();
    for bad in ["a]b", "tab\t", &"x".repeat(80)] {
        assert_eq!(name(&manager, &cpu, &first, (area, 1), Some(bad)), Err(MmError::Invalid));
    }
    machine.pages().arm_faults(0, u64::MAX);
    assert_eq!(name(&manager, &cpu, &first, (area, 1), Some("first of its cache")), Err(MmError::NoMemory));
    machine.pages().arm_faults(u64::MAX, 0);
    assert_eq!(number(&cpu, &first, area), None);
    // Every text of one byte, so that chains have more than one name.
    for text in (b'!'..=b'~').filter(|byte| !b"\\`$[]".contains(byte)) {
        let text = String::from_utf8(vec![text; 3]).unwrap();
        name(&manager, &cpu, &first, (area, 1), Some(&text)).unwrap();
        assert!(maps(&manager, &cpu, &first)[0].ends_with(&format!("{text}]")));
    }
    manager.mmput(&cpu, first);
}
