//! Which areas count as written to, and what clear_refs takes back.

use crate::*;

const BASE: u64 = 0x2000_0000;
const PAGE: u64 = PAGE_SIZE;
const RW: Prot = Prot::READ.union(Prot::WRITE);

/// Returns the first page of each area from [`BASE`], its number of pages, and whether it counts as written to.
fn areas(space: &Space<'_, '_>) -> Vec<(i64, u64, bool)> {
    let page = |vma: &Vma| (vma.start().raw() as i64 - BASE as i64) / PAGE as i64;
    let area = |vma: Vma| (page(&vma), vma.nr_pages(), vma.flags.contains(VmFlags::SOFTDIRTY));
    space.read().areas().map(area).collect()
}

fn at(page: u64) -> VirtAddr {
    VirtAddr::new(BASE + page * PAGE)
}

fn map(space: &mut Space<'_, '_>, page: u64, nr_pages: u64) {
    space.call().mmap(&fixed(BASE + page * PAGE, nr_pages * PAGE, RW)).unwrap();
}

#[test]
fn new_areas_count_as_written_to_until_that_is_taken_back() {
    with_space(|space| {
        map(space, 0, 4);
        assert_eq!(areas(space), [(0, 4, true)]);
        space.call().clear_refs(ClearRefs::SoftDirty);
        assert_eq!(areas(space), [(0, 4, false)]);
        space.call().clear_refs(ClearRefs::SoftDirty);
        assert_eq!(space.files.cleared, [(PageMark::SoftDirty, at(0)); 2], "pages may have been written to since");
    });
}

#[test]
fn an_area_that_a_mapping_extends_counts_as_written_to_and_stays_one() {
    with_space(|space| {
        map(space, 0, 2);
        map(space, 4, 2);
        space.call().clear_refs(ClearRefs::SoftDirty);
        map(space, 2, 1);
        assert_eq!(areas(space), [(0, 3, true), (4, 2, false)]);
        map(space, 3, 1);
        assert_eq!(areas(space), [(0, 6, true)]);
        space.call().clear_refs(ClearRefs::SoftDirty);
        map(space, 8, 1);
        space.call().clear_refs(ClearRefs::SoftDirty);
        map(space, 7, 1);
        assert_eq!(areas(space), [(0, 6, false), (7, 2, true)]);
    });
}

#[test]
fn parts_that_change_and_join_keep_what_the_changed_part_had() {
    with_space(|space| {
        map(space, 0, 2);
        space.call().clear_refs(ClearRefs::SoftDirty);
        space.call().mprotect(at(1), PAGE, Prot::READ).unwrap();
        space.call().mmap(&fixed(BASE + 2 * PAGE, 2 * PAGE, RW)).unwrap();
        assert_eq!(areas(space), [(0, 1, false), (1, 1, false), (2, 2, true)]);
        space.call().mprotect(at(1), PAGE, RW).unwrap();
        assert_eq!(areas(space), [(0, 4, false)]);
        space.call().munmap(at(1), PAGE).unwrap();
        assert_eq!(areas(space), [(0, 1, false), (2, 2, false)]);
    });
}

#[test]
fn a_part_that_is_sealed_joins_with_what_its_neighbour_had() {
    with_space(|space| {
        map(space, 2, 2);
        space.call().mseal(at(2), 2 * PAGE, 0).unwrap();
        space.call().clear_refs(ClearRefs::SoftDirty);
        map(space, 4, 2);
        map(space, 0, 2);
        assert_eq!(areas(space), [(0, 2, true), (2, 2, false), (4, 2, true)]);
        space.call().mseal(at(4), PAGE, 0).unwrap();
        assert_eq!(areas(space), [(0, 2, true), (2, 3, false), (5, 1, true)]);
        space.call().mseal(at(1), PAGE, 0).unwrap();
        assert_eq!(areas(space), [(0, 1, true), (1, 4, false), (5, 1, true)]);
        space.call().mseal(at(0), 6 * PAGE, 0).unwrap();
        assert_eq!(areas(space), [(0, 6, false)]);
    });
    with_space(|space| {
        map(space, 0, 1);
        space.call().clear_refs(ClearRefs::SoftDirty);
        map(space, 2, 1);
        space.call().mseal(at(2), PAGE, 0).unwrap();
        map(space, 1, 1);
        assert_eq!(areas(space), [(0, 2, true), (2, 1, true)]);
    });
}

#[test]
fn a_stack_does_not_count_as_written_to() {
    with_space(|space| {
        let flags = VmFlags::READ | VmFlags::WRITE | VmFlags::MAYACCESS | VmFlags::GROWSDOWN;
        let vma =
            Vma { range: VirtRange::new(at(0), at(2)), flags, pgoff: 0, file: None, anon: None, uffd: 0, name: None };
        space.call().insert_area(&vma).unwrap();
        let vdso = Vma { range: VirtRange::new(at(4), at(5)), flags: flags - VmFlags::GROWSDOWN, ..vma };
        space.call().insert_area(&vdso).unwrap();
        assert_eq!(areas(space), [(0, 2, false), (4, 1, true)]);
    });
}

#[test]
fn moves_and_copies_take_the_state_of_their_area_along() {
    with_space(|space| {
        map(space, 0, 2);
        map(space, 20, 1);
        space.call().clear_refs(ClearRefs::SoftDirty);
        map(space, 30, 1);
        let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
        let request = |from, to| RemapRequest { addr: at(from), old_len: PAGE, new_len: PAGE, flags, new_addr: at(to) };
        space.call().mremap(&request(1, 10)).unwrap();
        space.call().mremap(&request(30, 21)).unwrap();
        assert_eq!(areas(space), [(0, 1, false), (10, 1, false), (20, 2, false)]);
        map(space, 40, 1);
        let mut child = Space::new(space.spaces, space.cpu);
        child.copy_of(space).unwrap();
        assert_eq!(areas(&child), [(0, 1, false), (10, 1, false), (20, 2, false), (40, 1, true)]);
        child.call().exit();
    });
}

#[test]
fn the_heap_counts_as_written_to_when_it_grows() {
    with_space(|space| {
        let start = space.call().brk(VirtAddr::ZERO);
        space.call().brk(start.saturating_add(PAGE));
        space.call().clear_refs(ClearRefs::SoftDirty);
        let states =
            |space: &Space<'_, '_>| areas(space).iter().map(|(_, nr, state)| (*nr, *state)).collect::<Vec<_>>();
        assert_eq!(states(space), [(1, false)]);
        space.call().brk(start.saturating_add(3 * PAGE));
        assert_eq!(states(space), [(3, true)]);
    });
}

#[test]
fn areas_by_what_is_behind_them_lose_their_marks_of_use_only() {
    with_space(|space| {
        map(space, 0, 1);
        let shared = MapRequest {
            flags: MapFlags::SHARED | MapFlags::ANONYMOUS | MapFlags::FIXED,
            ..fixed(BASE + 2 * PAGE, PAGE, RW)
        };
        space.call().mmap(&shared).unwrap();
        for what in [ClearRefs::Anon, ClearRefs::Mapped, ClearRefs::All, ClearRefs::MmHiwaterRss] {
            space.call().clear_refs(what);
        }
        let cleared: Vec<_> = space.files.cleared.iter().map(|(mark, start)| (*mark, *start)).collect();
        let used = PageMark::Referenced;
        assert_eq!(cleared, [(used, at(0)), (used, at(2)), (used, at(0)), (used, at(2))]);
        assert_eq!(areas(space), [(0, 1, true), (2, 1, true)]);
    });
}
