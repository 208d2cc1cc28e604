//! Single calls whose outcome a reader of the manual can check.

use units::{VirtAddr, VirtRange, VmFlags};

use crate::{Space, Spaces, fixed, objects, with_space};
use mmkit_address_space::*;

const RW: Prot = Prot::READ.union(Prot::WRITE);
const BASE: u64 = 0x7000_0000_0000;
const PAGE: u64 = PAGE_SIZE;

fn areas(space: &Space<'_, '_>) -> Vec<(u64, u64)> {
    space.read().areas().map(|vma| ((vma.start().raw() - BASE) / PAGE, vma.nr_pages())).collect()
}

fn at(page: u64) -> VirtAddr {
    VirtAddr::new(BASE + page * PAGE)
}

#[test]
fn a_mapping_between_two_alike_ones_joins_both() {
    with_space(|space| {
        for page in [0, 2, 1] {
            space.call().mmap(&fixed(at(page).raw(), PAGE, RW)).unwrap();
        }
        assert_eq!(areas(space), [(0, 3)]);
    });
}

#[test]
fn the_first_free_mapping_is_below_the_room_for_the_stack() {
    with_space(|space| {
        let request = MapRequest { flags: MapFlags::PRIVATE | MapFlags::ANONYMOUS, ..fixed(0, PAGE, RW) };
        let top = (1 << 47) - PAGE - (128 << 20);
        assert_eq!(space.call().mmap(&request), Ok(VirtAddr::new(top - PAGE)));
        let huge = MapRequest { len: 4 << 20, ..request };
        assert!(space.call().mmap(&huge).unwrap().raw().is_multiple_of(2 << 20));
    });
}

#[test]
fn mprotect_inside_an_area_makes_three_and_back_makes_one() {
    with_space(|space| {
        space.call().mmap(&fixed(BASE, 8 * PAGE, RW)).unwrap();
        space.call().mprotect(at(2), 3 * PAGE, Prot::READ).unwrap();
        assert_eq!(areas(space), [(0, 2), (2, 3), (5, 3)]);
        space.check();
        space.call().mprotect(at(2), 3 * PAGE, RW).unwrap();
        assert_eq!(areas(space), [(0, 8)]);
    });
}

#[test]
fn mprotect_over_a_gap_changes_what_is_before_it_and_fails() {
    with_space(|space| {
        space.call().mmap(&fixed(BASE, PAGE, RW)).unwrap();
        space.call().mmap(&fixed(at(2).raw(), PAGE, RW)).unwrap();
        assert_eq!(space.call().mprotect(at(0), 3 * PAGE, Prot::READ), Err(MmError::NoMemory));
        let writable: Vec<bool> = space.read().areas().map(|vma| vma.flags.contains(VmFlags::WRITE)).collect();
        assert_eq!(writable, [false, true]);
    });
}

#[test]
fn a_sealed_area_refuses_every_change() {
    with_space(|space| {
        space.call().mmap(&fixed(BASE, 4 * PAGE, Prot::READ)).unwrap();
        space.call().mseal(at(1), PAGE, 0).unwrap();
        let refused = Err(MmError::NotPermitted);
        assert_eq!(space.call().munmap(at(0), 4 * PAGE), refused);
        assert_eq!(space.call().mprotect(at(1), PAGE, RW), refused);
        assert_eq!(space.call().madvise(at(1), PAGE, Advice::DontNeed), refused);
        assert_eq!(space.call().mseal(at(0), 5 * PAGE, 0), Err(MmError::NoMemory));
        assert_eq!(areas(space), [(0, 1), (1, 1), (2, 2)]);
    });
}

#[test]
fn mremap_grows_in_place_if_it_can_and_moves_if_it_may() {
    with_space(|space| {
        space.call().mmap(&fixed(BASE, 2 * PAGE, RW)).unwrap();
        let grow = |old, new, flags| RemapRequest {
            addr: at(0),
            old_len: old * PAGE,
            new_len: new * PAGE,
            flags,
            new_addr: VirtAddr::ZERO,
        };
        assert_eq!(space.call().mremap(&grow(2, 4, RemapFlags::empty())), Ok(at(0)));
        space.call().mmap(&fixed(at(4).raw(), PAGE, Prot::READ)).unwrap();
        assert_eq!(space.call().mremap(&grow(4, 6, RemapFlags::empty())), Err(MmError::NoMemory));
        let moved = space.call().mremap(&grow(4, 6, RemapFlags::MAYMOVE)).unwrap();
        assert_eq!(space.read().lookup(moved).unwrap().nr_pages(), 6);
        assert_eq!(space.read().lookup(at(0)), None);
    });
}

#[test]
fn the_heap_stops_a_page_and_the_guard_gap_before_a_stack() {
    with_space(|space| {
        let start = space.read().program().start_brk;
        let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED | MapFlags::GROWSDOWN;
        let stack = start.saturating_add(300 * PAGE);
        space.call().mmap(&MapRequest { flags, ..fixed(stack.raw(), PAGE, RW) }).unwrap();
        let most = start.saturating_add((300 - 256 - 1) * PAGE);
        assert_eq!(space.call().brk(most), most);
        assert_eq!(space.call().brk(most.saturating_add(1)), most);
        assert_eq!(space.call().brk(VirtAddr::new(u64::MAX)), most);
        let touched = VirtAddr::new(stack.raw() - 2 * PAGE);
        assert_eq!(space.call().area_for_access(touched, Access::Write), Err(MmError::BadAddress));
    });
}

#[test]
fn the_heap_grows_as_one_area_apart_from_what_lies_below_its_start() {
    with_space(|space| {
        let start = space.read().program().start_brk;
        space.call().mmap(&fixed(start.raw() - PAGE, PAGE, RW)).unwrap();
        for pages in [1, 3] {
            space.call().brk(start.saturating_add(pages * PAGE));
            let heap = space.read().lookup(start).unwrap();
            assert_eq!((heap.start(), heap.nr_pages()), (start, pages));
        }
    });
}

#[test]
fn locked_memory_stays_below_its_limit() {
    with_space(|space| {
        space.process.limits.locked = 4 * PAGE;
        space.call().mmap(&fixed(BASE, 8 * PAGE, RW)).unwrap();
        space.call().mlock(at(0), 3 * PAGE, LockWhen::Now).unwrap();
        assert_eq!(space.call().mlock(at(4), 2 * PAGE, LockWhen::Now), Err(MmError::NoMemory));
        // Pages that are locked already count once.
        space.call().mlock(at(1), 3 * PAGE, LockWhen::OnFault).unwrap();
        assert_eq!(space.read().counters().locked, 4);
        let locked = MapRequest { flags: fixed(0, 0, RW).flags | MapFlags::LOCKED, ..fixed(at(9).raw(), PAGE, RW) };
        assert_eq!(space.call().mmap(&locked), Err(MmError::TryAgain));
    });
}

#[test]
fn a_child_of_fork_gets_what_its_parent_lets_it_have() {
    with_space(|parent| {
        parent.call().mmap(&fixed(BASE, 6 * PAGE, RW)).unwrap();
        parent.call().area_for_access(at(0), Access::Write).unwrap();
        parent.call().madvise(at(2), PAGE, Advice::DontFork).unwrap();
        parent.call().madvise(at(4), PAGE, Advice::WipeOnFork).unwrap();
        parent.call().mlock(at(0), PAGE, LockWhen::Now).unwrap();
        let mut child = Space::new(parent.spaces, parent.cpu);
        child.copy_of(parent).unwrap();
        assert_eq!(areas(&child), [(0, 1), (1, 1), (3, 1), (4, 1), (5, 1)]);
        assert_eq!(child.read().counters().locked, 0);
        let links: Vec<u32> = child.read().areas().map(|vma| vma.anon.map_or(0, |anon| anon.links)).collect();
        assert_eq!(links, [2, 2, 2, 0, 2]);
        assert_eq!(child.files.copied, [0, 1, 3, 5].map(at));
        child.call().exit();
    });
}

#[test]
fn areas_that_go_together_are_one_gather_between_their_neighbours() {
    with_space(|space| {
        for (page, prot) in [(0, RW), (2, Prot::READ), (3, RW), (5, RW)] {
            space.call().mmap(&fixed(at(page).raw(), PAGE, prot)).unwrap();
        }
        space.call().munmap(at(1), 3 * PAGE).unwrap();
        space.call().munmap(at(5), PAGE).unwrap();
        space.call().mmap(&fixed(BASE, PAGE, Prot::EXEC)).unwrap();
        let of = |pages: &[u64]| pages.iter().map(|&page| VirtRange::with_len(at(page), PAGE)).collect::<Vec<_>>();
        let (bottom, top) = (VirtAddr::ZERO, VirtAddr::new(u64::MAX));
        let expected = [
            (of(&[2, 3]), vec![VirtRange::new(at(1), at(3)), VirtRange::new(at(1), at(5))]),
            (of(&[5]), vec![VirtRange::new(at(1), top)]),
            (of(&[0]), vec![VirtRange::new(bottom, top)]),
        ];
        assert_eq!(space.files.gathers, expected);
    });
}

#[test]
fn strict_overcommit_refuses_what_goes_beyond_the_limit() {
    let (objects, cpu) = objects(2048);
    let rules = CommitRules { mode: OvercommitMode::Never, ..CommitRules::for_ram(1024) };
    let spaces = Spaces::new(&objects, &cpu, Settings::X86_64, rules).unwrap();
    let mut space = Space::new(&spaces, &cpu);
    let most = rules.limit() - rules.admin_reserve - 1;
    assert_eq!(space.call().mmap(&fixed(BASE, (most + 1) * PAGE, RW)), Err(MmError::NoMemory));
    space.call().mmap(&fixed(BASE, most * PAGE, RW)).unwrap();
    // Without write permission nothing is promised until it is given.
    space.call().mmap(&fixed(at(most).raw(), most * PAGE, Prot::READ)).unwrap();
    assert_eq!(space.call().mprotect(at(most), most * PAGE, RW), Err(MmError::NoMemory));
    space.check();
}

#[test]
fn a_call_without_memory_fails_and_leaves_the_areas_as_they_were() {
    let (objects, cpu) = objects(192);
    let spaces = Spaces::new(&objects, &cpu, Settings::X86_64, CommitRules::for_ram(1 << 20)).unwrap();
    let mut space = Space::new(&spaces, &cpu);
    let mut page = 0;
    while space.call().mmap(&fixed(at(page).raw(), 3 * PAGE, RW)).is_ok() {
        page += 4;
        space.check();
    }
    let before = areas(&space);
    assert!(before.len() > 100, "the machine has room for more than the first areas");
    assert_eq!(space.call().mprotect(at(1), PAGE, Prot::READ), Err(MmError::NoMemory));
    space.check();
    let total: u64 = before.iter().map(|(_, pages)| pages).sum();
    assert_eq!(space.read().counters().total, total);
}
