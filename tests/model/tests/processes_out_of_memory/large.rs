//! Large pages: their fault, and calls that split them.

use address_space::{Advice, CommitRules, MapFlags, MmError, Prot, Settings};
use kernel_mm::MemoryManager;
use page_fault::AccessKind;
use sim::description::Machine;
use sim::{SimMachine, SimOptions};
use units::{CpuId, VirtAddr};

use crate::{ELSEWHERE, Leaves, PAGE, PROCESS, Subject, accounted, failures_after, request};

const LARGE_PAGES: u64 = 512;

fn elsewhere(page: u64) -> VirtAddr {
    VirtAddr::new(ELSEWHERE + page * PAGE)
}

fn map(subject: &Subject<'_, '_>) {
    subject.call().mmap(&request(ELSEWHERE, LARGE_PAGES, MapFlags::PRIVATE)).unwrap();
}

/// Maps a large page and writes to it.
fn map_and_write(subject: &Subject<'_, '_>) {
    map(subject);
    subject.manager.write_user(subject.cpu, &subject.mm, PROCESS, elsewhere(5), &[9]).unwrap();
    assert!(subject.manager.rss(&subject.mm).anon >= LARGE_PAGES);
}

fn check_written(subject: &Subject<'_, '_>) {
    let mut byte = [0];
    subject.manager.read_user(subject.cpu, &subject.mm, PROCESS, elsewhere(5), &mut byte).unwrap();
    assert_eq!(byte, [9]);
}

/// Returns how often a call on a written large page fails, whose contents stay.
fn split(call: impl Fn(&Subject<'_, '_>) -> Result<(), MmError>) -> u64 {
    failures_after(map_and_write, Leaves::Nothing, |subject| {
        let result = call(subject);
        check_written(subject);
        result
    })
}

#[test]
fn a_fault_without_a_large_page_takes_a_small_one_and_without_any_fails_whole() {
    let fault = |subject: &Subject<'_, '_>| subject.fault(elsewhere(3), AccessKind::Write);
    assert!(failures_after(map, Leaves::Nothing, fault) >= 2, "tables and a page");
    let fault = |subject: &Subject<'_, '_>| subject.fault(elsewhere(3), AccessKind::Read);
    assert!(failures_after(map, Leaves::Nothing, fault) >= 1, "tables");
}

#[test]
fn a_fault_that_misses_one_page_maps_a_large_page_or_a_small_one_and_loses_nothing() {
    let machine = SimMachine::boot(&Machine::ready("small").unwrap(), &SimOptions::default()).unwrap();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    machine.kernel().start_objects(&cpu).unwrap();
    let objects = machine.kernel().objects();
    let manager = MemoryManager::new(objects, &cpu, Settings::X86_64, CommitRules::for_ram(1 << 17)).unwrap();
    let before = accounted(&machine, &cpu);
    let mut outcomes = Vec::new();
    for after in 0..8 {
        let subject = Subject::new(&machine, &manager, &cpu);
        map(&subject);
        let (pages, tables) = (manager.rss(&subject.mm).anon, manager.tables(&cpu, &subject.mm).tables.nr_tables());
        subject.arm(after, 1);
        let result = subject.fault(elsewhere(3), AccessKind::Write);
        subject.arm(u64::MAX, 0);
        let tables = manager.tables(&cpu, &subject.mm).tables.nr_tables() - tables;
        outcomes.push((result, manager.rss(&subject.mm).anon - pages, tables));
        subject.end();
        assert_eq!(accounted(&machine, &cpu), before, "after {after} pages");
    }
    let [upper, large, small] = [(Err(MmError::NoMemory), 0, 0), (Ok(()), 512, 2), (Ok(()), 1, 2)];
    // A table for the entry, then the large page, then the table that waits.
    assert_eq!(outcomes, [upper, small, small, large, large, large, large, large]);
}

#[test]
fn a_large_page_is_split_whatever_memory_there_is() {
    let unmap = split(|subject| subject.call().munmap(elsewhere(100), PAGE));
    let protect = split(|subject| subject.call().mprotect(elsewhere(100), PAGE, Prot::READ));
    let advise = split(|subject| subject.call().madvise(elsewhere(100), PAGE, Advice::DontFork));
    let drop_part = split(|subject| subject.call().madvise(elsewhere(100), PAGE, Advice::DontNeed));
    assert_eq!([unmap, protect, advise, drop_part], [0; 4], "the table waits beside the large page");
}

#[test]
fn a_child_that_cannot_copy_its_part_of_a_large_page_still_has_it() {
    let fork = |subject: &Subject<'_, '_>| {
        let child = subject.manager.dup_mm(subject.cpu, &subject.mm, PROCESS)?;
        let written = subject.manager.write_user(subject.cpu, &child, PROCESS, elsewhere(5), &[8]);
        subject.manager.mmput(subject.cpu, child);
        written.map_err(|_| MmError::NoMemory)
    };
    assert!(split(fork) >= 5, "a root, tables and a copy");
}

#[test]
fn small_pages_are_gathered_into_a_large_one_or_stay() {
    let scatter = |subject: &Subject<'_, '_>| {
        map(subject);
        subject.call().madvise(elsewhere(0), LARGE_PAGES * PAGE, Advice::NoHugePage).unwrap();
        subject.manager.write_user(subject.cpu, &subject.mm, PROCESS, elsewhere(5), &[9]).unwrap();
        subject.call().madvise(elsewhere(0), LARGE_PAGES * PAGE, Advice::HugePage).unwrap();
    };
    let collapse = |subject: &Subject<'_, '_>| {
        let result = subject.call().madvise(elsewhere(0), LARGE_PAGES * PAGE, Advice::Collapse);
        check_written(subject);
        result
    };
    assert!(failures_after(scatter, Leaves::Nothing, collapse) >= 1, "a large page");
}
