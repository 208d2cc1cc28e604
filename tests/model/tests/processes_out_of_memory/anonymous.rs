//! Calls and faults on memory without files.

use address_space::{Advice, LockWhen, MapFlags, MmError, Prot, RemapFlags, RemapRequest, Vma, Whose};
use page_fault::AccessKind;
use units::{VirtAddr, VirtRange, VmFlags};

use crate::{ELSEWHERE, HEAP, Leaves, PAGE, PAGES, PROCESS, SHARED, Subject, at, failures, failures_after, request};

#[test]
fn every_kind_of_fault_fails_whole() {
    // The page of zeros needs tables only; what they hang under is there.
    let fresh = VirtAddr::new(ELSEWHERE);
    let in_fresh_area = |access| {
        move |subject: &Subject<'_, '_>| {
            if subject.mm.read(subject.cpu).lookup(fresh).is_none() {
                subject.call().mmap(&request(ELSEWHERE, 1, MapFlags::PRIVATE)).unwrap();
            }
            let result = subject.fault(fresh, access);
            if result.is_err() {
                subject.call().munmap(fresh, PAGE).unwrap();
            }
            result
        }
    };
    assert!(failures(in_fresh_area(AccessKind::Write)) >= 2, "tables and a page");
    assert!(failures(in_fresh_area(AccessKind::Read)) >= 1, "tables");
    assert_eq!(failures(|subject| subject.fault(at(3), AccessKind::Write)), 1, "a copy");
    assert!(failures(|subject| subject.fault(VirtAddr::new(SHARED), AccessKind::Write)) >= 1, "a page of a file");
}

#[test]
fn fork_fails_whole() {
    let fork = |subject: &Subject<'_, '_>| {
        let child = subject.manager.dup_mm(subject.cpu, &subject.mm, PROCESS)?;
        subject.manager.mmput(subject.cpu, child);
        Ok(())
    };
    assert!(failures(fork) >= 4, "a root and three tables");
}

#[test]
fn moving_an_area_fails_whole() {
    let relocate = |subject: &Subject<'_, '_>| {
        let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
        let (old_len, new_len) = (PAGES * PAGE, 2 * PAGES * PAGE);
        let request = RemapRequest { addr: at(0), old_len, new_len, flags, new_addr: VirtAddr::new(ELSEWHERE) };
        subject.call().mremap(&request).map(drop)
    };
    assert!(failures(relocate) >= 1, "a table");
}

#[test]
fn calls_that_split_areas_need_no_page_while_slabs_have_objects() {
    let advice = |subject: &Subject<'_, '_>| subject.call().madvise(at(2), 3 * PAGE, Advice::DontFork);
    assert_eq!(failures(|subject| subject.call().munmap(at(2), 3 * PAGE)), 0);
    assert_eq!(failures(|subject| subject.call().mprotect(at(2), 3 * PAGE, Prot::READ)), 0);
    assert_eq!(failures(advice), 0);
}

#[test]
fn mmap_that_cannot_populate_maps_all_the_same() {
    let populate = |subject: &Subject<'_, '_>| {
        subject.call().mmap(&request(ELSEWHERE, 4, MapFlags::PRIVATE | MapFlags::POPULATE)).map(drop)
    };
    assert_eq!(failures(populate), 0);
}

#[test]
fn locking_that_cannot_populate_tells_so_and_locks_the_area() {
    let lock = |subject: &Subject<'_, '_>| subject.call().mlock(at(2), 3 * PAGE, LockWhen::Now);
    assert_eq!(failures_after(|_| (), Leaves::Areas, lock), 3, "a copy of each page that the child has too");
}

#[test]
fn the_heap_and_areas_in_their_place_change_without_a_page() {
    let brk = |size: u64| {
        move |subject: &Subject<'_, '_>| {
            let end = VirtAddr::new(HEAP + size * PAGE);
            if subject.call().brk(end) == end { Ok(()) } else { Err(MmError::NoMemory) }
        }
    };
    assert_eq!(failures(brk(4)), 0);
    let there_and_back = |subject: &Subject<'_, '_>| brk(4)(subject).and_then(|()| brk(1)(subject));
    assert_eq!(failures(there_and_back), 0);
    let resize = |new_pages: u64| {
        move |subject: &Subject<'_, '_>| {
            let flags = RemapFlags::empty();
            let (old_len, new_len) = (PAGES * PAGE, new_pages * PAGE);
            let request = RemapRequest { addr: at(0), old_len, new_len, flags, new_addr: VirtAddr::ZERO };
            subject.call().mremap(&request).map(drop)
        }
    };
    assert_eq!(failures(resize(2 * PAGES)), 0);
    // What is given up is not looked at afterwards.
    let shrink = |subject: &Subject<'_, '_>| {
        resize(2 * PAGES)(subject).and_then(|()| subject.call().munmap(at(PAGES), PAGES * PAGE))
    };
    assert_eq!(failures(shrink), 0);
}

#[test]
fn a_stack_that_cannot_grow_grows_later() {
    let stack = VirtRange::new(VirtAddr::new(ELSEWHERE), VirtAddr::new(ELSEWHERE + 4 * PAGE));
    let below = VirtAddr::new(ELSEWHERE - 2 * PAGE);
    let insert = |subject: &Subject<'_, '_>| {
        let flags = VmFlags::READ | VmFlags::WRITE | VmFlags::MAYACCESS | VmFlags::GROWSDOWN | VmFlags::ACCOUNT;
        let pgoff = stack.start.raw() / PAGE;
        let vma = Vma { range: stack, flags, pgoff, file: None, anon: None, uffd: 0, name: None };
        subject.call().insert_area(&vma).unwrap();
    };
    let grow = |subject: &Subject<'_, '_>| subject.fault(below, AccessKind::Write);
    // The area has grown when its page is missing, as in Linux.
    assert!(failures_after(insert, Leaves::Areas, grow) >= 2, "tables and a page");
}

#[test]
fn advice_on_one_s_own_pages_needs_none_but_to_make_them_present() {
    let advise = |advice| {
        move |subject: &Subject<'_, '_>| {
            let ranges = [(at(0), 2 * PAGE), (at(4), PAGE)];
            let process = &address_space::Process { rights: address_space::Rights::SYS_NICE, ..*PROCESS };
            let advised =
                subject.manager.call(subject.cpu, &subject.mm, process).process_madvise(ranges, advice, Whose::Own)?;
            assert_eq!(advised, 3 * PAGE);
            Ok(())
        }
    };
    assert_eq!(failures(advise(Advice::Cold)), 0);
    assert_eq!(failures(advise(Advice::WillNeed)), 0);
    let populate = |subject: &Subject<'_, '_>| subject.call().madvise(at(2), 3 * PAGE, Advice::PopulateWrite);
    assert_eq!(failures(populate), 3, "a copy of each page that the child has too");
}

#[test]
fn shared_anonymous_memory_is_made_whole_or_not_at_all() {
    let map = |subject: &Subject<'_, '_>| {
        let shared = request(ELSEWHERE, 4, MapFlags::SHARED);
        subject.call().mmap(&shared).map(drop)
    };
    assert_eq!(failures(map), 0, "a file and an area of slabs");
    let populate =
        |subject: &Subject<'_, '_>| subject.call().madvise(VirtAddr::new(SHARED), 3 * PAGE, Advice::PopulateWrite);
    assert!(failures(populate) >= 3, "pages of a file");
}
