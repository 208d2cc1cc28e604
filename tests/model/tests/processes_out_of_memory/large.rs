//! Large pages: their fault, and calls that split them.

use address_space::{Advice, MapFlags, MmError, Prot};
use page_fault::AccessKind;
use units::VirtAddr;

use crate::{ELSEWHERE, Leaves, PAGE, PROCESS, Subject, failures_after, request, with_fresh_subjects};

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

/// Returns what a fault comes to if the allocation after 0, 1, 2 ... others fails, and only that one: its result, whether a large page is mapped, anonymous pages
/// and tables. In the end nothing is lost.
fn faults_that_miss_one(access: AccessKind) -> Vec<(Result<(), MmError>, bool, u64, u64)> {
    let mut outcomes = Vec::new();
    with_fresh_subjects(0..5, |subject, after| {
        map(&subject);
        let view = subject.manager.tables(subject.cpu, &subject.mm);
        let (pages, tables) = (view.tables.rss().anon, view.tables.nr_tables());
        subject.arm(after, 1);
        let result = subject.fault(elsewhere(3), access);
        subject.arm(u64::MAX, 0);
        let (pages, tables) = (view.tables.rss().anon - pages, view.tables.nr_tables() - tables);
        outcomes.push((result, view.is_large(elsewhere(3)), pages, tables));
        subject.end();
        None::<()>
    });
    outcomes
}

#[test]
fn a_fault_that_misses_one_page_maps_a_large_page_or_a_small_one_and_loses_nothing() {
    // A table for the entry, then the large page, then the table that waits.
    let [none, large, small] =
        [(Err(MmError::NoMemory), false, 0, 0), (Ok(()), true, LARGE_PAGES, 2), (Ok(()), false, 1, 2)];
    assert_eq!(faults_that_miss_one(AccessKind::Write), [none, small, small, large, large]);
    // The large page of zeros is there.
    let [large, small] = [(Ok(()), true, 0, 2), (Ok(()), false, 0, 2)];
    assert_eq!(faults_that_miss_one(AccessKind::Read), [none, small, large, large, large]);
}

#[test]
fn a_write_to_large_zeros_without_a_large_page_copies_one_small_page_or_fails_whole() {
    let read = |subject: &Subject<'_, '_>| {
        map(subject);
        subject.fault(elsewhere(3), AccessKind::Read).unwrap();
        assert!(subject.manager.tables(subject.cpu, &subject.mm).is_large(elsewhere(3)));
    };
    let write = |subject: &Subject<'_, '_>| {
        subject.fault(elsewhere(5), AccessKind::Write)?;
        subject.manager.write_user(subject.cpu, &subject.mm, PROCESS, elsewhere(5), &[9]).unwrap();
        check_written(subject);
        Ok(())
    };
    assert_eq!(failures_after(read, Leaves::Nothing, write), 1, "one page, large or small");
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
