//! Every call with room for 0, 1, 2 ... further areas and none after: it fails as a whole, or it succeeds.
//!
//! What a program could see must be as before a call that failed: which pages are mapped, and how. Whether like pages lie in one area or
//! in two, it cannot.

use crate::{Space, Spaces, fixed, objects};
use mmkit_address_space::*;
use units::{VirtAddr, VirtRange, VmFlags};

const RW: Prot = Prot::READ.union(Prot::WRITE);
const BASE: u64 = 0x7000_0000_0000;
/// Where areas lie that only use objects up.
const BALLAST: u64 = 0x6000_0000_0000;
const PAGE: u64 = PAGE_SIZE;
/// No call here needs so many areas.
const MOST: u64 = 11;

type AnyCall<'a> = dyn Fn(&mut Space<'_, '_>) -> Result<(), MmError> + 'a;

fn at(page: u64) -> VirtAddr {
    VirtAddr::new(BASE + page * PAGE)
}

/// Returns runs of like pages outside the ballast.
fn pages(mm: &MmRead<'_, '_>) -> Vec<(VirtRange, VmFlags, Option<FileId>)> {
    let mut runs: Vec<(VirtRange, VmFlags, Option<FileId>)> = Vec::new();
    for vma in mm.areas().filter(|vma| vma.start().raw() >= BASE || vma.start().raw() < BALLAST) {
        match runs.last_mut() {
            Some((range, flags, file)) if (range.end, *flags, *file) == (vma.start(), vma.flags, vma.file) => {
                range.end = vma.range.end;
            }
            _ => runs.push((vma.range, vma.flags, vma.file)),
        }
    }
    runs
}

/// Runs `call` after `prepare` with objects for `spare` areas and no page to make more from; returns the result, after checking that
/// a failure changed nothing.
fn with_room_for(spare: u64, prepare: &AnyCall<'_>, call: &AnyCall<'_>) -> Result<(), MmError> {
    let (objects, cpu) = objects(2048);
    let spaces = Spaces::new(&objects, &cpu, Settings::X86_64, CommitRules::for_ram(1 << 20)).unwrap();
    let mut space = Space::new(&spaces, &cpu);
    prepare(&mut space).unwrap();
    objects.pages().arm_faults(0, u64::MAX);
    let ballast = |number: u64| fixed(BALLAST + number * 4 * PAGE, PAGE, RW);
    let full = (0..).find(|&number| space.call().mmap(&ballast(number)).is_err()).unwrap_or_default();
    assert!(full > MOST, "the first slabs hold more areas than a call needs");
    for number in full - spare..full {
        space.call().munmap(ballast(number).addr, PAGE).unwrap();
    }
    let before = pages(&space.read());
    let result = call(&mut space);
    space.check();
    if result.is_err() {
        assert_eq!(pages(&space.read()), before, "with room for {spare}");
    }
    objects.pages().arm_faults(u64::MAX, 0);
    if result.is_err() {
        call(&mut space).unwrap();
        space.check();
    }
    space.call().exit();
    space.check();
    result
}

/// Tries `call` with ever more room until it succeeds; returns how often it failed.
fn failures(prepare: &AnyCall<'_>, call: &AnyCall<'_>) -> u64 {
    let failed = (0..MOST).take_while(|&spare| match with_room_for(spare, prepare, call) {
        Ok(()) => false,
        Err(error) => {
            // Advice that found no memory asks to be repeated.
            assert!(matches!(error, MmError::NoMemory | MmError::TryAgain), "{error}");
            true
        }
    });
    let count = failed.count() as u64;
    assert!(count < MOST, "the call never succeeded");
    count
}

fn eight_pages(space: &mut Space<'_, '_>) -> Result<(), MmError> {
    space.call().mmap(&fixed(BASE, 8 * PAGE, RW)).map(drop)
}

#[test]
fn a_change_inside_an_area_needs_two_more() {
    let changes: [&AnyCall<'_>; 5] = [
        &|space| space.call().mprotect(at(2), 3 * PAGE, Prot::READ),
        &|space| space.call().madvise(at(2), 3 * PAGE, Advice::DontDump),
        &|space| space.call().madvise(at(2), 3 * PAGE, Advice::DontFork),
        &|space| space.call().mlock(at(2), 3 * PAGE, LockWhen::Now),
        &|space| space.call().mseal(at(2), 3 * PAGE, 0),
    ];
    for change in changes {
        assert_eq!(failures(&eight_pages, change), 2);
    }
}

#[test]
fn a_hole_in_an_area_needs_one_more() {
    assert_eq!(failures(&eight_pages, &|space| space.call().munmap(at(2), 3 * PAGE)), 1);
}

#[test]
fn a_heap_needs_an_area_when_it_starts_and_none_when_it_grows() {
    let grow = |space: &mut Space<'_, '_>, pages: u64| {
        let wanted = space.read().program().start_brk.saturating_add(pages * PAGE);
        if space.call().brk(wanted) == wanted { Ok(()) } else { Err(MmError::NoMemory) }
    };
    assert_eq!(failures(&eight_pages, &|space| grow(space, 3)), 1);
    assert_eq!(failures(&|space| grow(space, 3), &|space| grow(space, 9)), 0);
}

#[test]
fn moving_part_of_an_area_fails_without_a_trace() {
    let request = RemapRequest {
        addr: at(2),
        old_len: 2 * PAGE,
        new_len: 4 * PAGE,
        flags: RemapFlags::MAYMOVE,
        new_addr: VirtAddr::ZERO,
    };
    assert!(failures(&eight_pages, &|space| space.call().mremap(&request).map(drop)) > 0);
}

#[test]
fn a_fork_that_fails_leaves_the_parent_alone_and_the_child_empty() {
    let prepare = |space: &mut Space<'_, '_>| {
        (0..4).try_for_each(|area| space.call().mmap(&fixed(at(3 * area).raw(), 2 * PAGE, RW)).map(drop))
    };
    let fork = |parent: &mut Space<'_, '_>| {
        let ballast = VirtRange::new(VirtAddr::new(BALLAST), VirtAddr::new(BASE));
        // The ballast is not for the child.
        let own: Vec<VirtRange> =
            parent.read().areas().map(|vma| vma.range).filter(|range| ballast.contains(range.start)).collect();
        for range in own {
            parent.call().madvise(range.start, range.len(), Advice::DontFork)?;
        }
        let spaces = parent.spaces;
        let before = spaces.overcommit().committed();
        let mut child = Space::new(spaces, parent.cpu);
        let copied = child.copy_of(parent);
        child.call().exit();
        assert_eq!((child.read().nr_areas(), spaces.overcommit().committed()), (0, before));
        copied
    };
    // Nodes of the child's tree count as well.
    assert!(failures(&prepare, &fork) >= 4);
}
