//! remap_file_pages, process_madvise, names of areas, a program's ranges, and what a processor with protection keys changes.

use units::{VirtAddr, VirtRange, VmFlags};

use crate::{Space, fixed, with_settings, with_space};
use mmkit_address_space::*;

const RW: Prot = Prot::READ.union(Prot::WRITE);
const BASE: u64 = 0x7000_0000_0000;
const PAGE: u64 = PAGE_SIZE;

fn at(page: u64) -> VirtAddr {
    VirtAddr::new(BASE + page * PAGE)
}

#[test]
fn other_pages_of_a_file_are_mapped_in_the_middle_of_its_mapping() {
    with_space(|space| {
        let file = FileId::new(3);
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        space.call().mmap(&MapRequest { flags, file, ..fixed(BASE, 8 * PAGE, RW) }).unwrap();
        let remap = |space: &mut Space<'_, '_>, page, len, prot, pgoff| {
            space.call().remap_file_pages(at(page), len * PAGE, prot, pgoff, MapFlags::empty())
        };
        assert_eq!(remap(space, 2, 3, Prot::empty(), 5), Ok(()));
        let offsets: Vec<_> = space.read().areas().map(|vma| (vma.start(), vma.pgoff)).collect();
        assert_eq!(offsets, [(at(0), 0), (at(2), 5), (at(5), 5)]);
        assert_eq!(remap(space, 0, 0, Prot::empty(), 0), Err(MmError::Invalid));
        assert_eq!(remap(space, 0, 1, Prot::READ, 0), Err(MmError::Invalid));
        assert_eq!(remap(space, 6, 3, Prot::empty(), 0), Err(MmError::Invalid));
        assert_eq!(remap(space, 0, 1, Prot::empty(), u64::MAX), Err(MmError::Invalid));
        assert_eq!(remap(space, 0, 1, Prot::empty(), 1 << 52), Err(MmError::Overflow));
        space.call().mmap(&fixed(at(20).raw(), PAGE, RW)).unwrap();
        assert_eq!(remap(space, 20, 1, Prot::empty(), 0), Err(MmError::Invalid));
    });
}

#[test]
fn advice_for_others_needs_a_right_and_counts_the_bytes_before_a_failure() {
    with_space(|space| {
        space.call().mmap(&fixed(BASE, 4 * PAGE, RW)).unwrap();
        let ranges = [(at(0), PAGE), (at(2), 2 * PAGE), (at(10), PAGE)];
        let advise = |space: &mut Space<'_, '_>, whose, advice, ranges: &[_]| {
            space.call().process_madvise(ranges.iter().copied(), advice, whose)
        };
        for whose in [Whose::Own, Whose::Other] {
            assert_eq!(advise(space, whose, Advice::DontNeed, &ranges), Err(MmError::Invalid));
        }
        assert_eq!(advise(space, Whose::Own, Advice::Cold, &ranges), Ok(3 * PAGE));
        assert_eq!(advise(space, Whose::Other, Advice::Cold, &ranges), Err(MmError::NotPermitted));
        space.process.rights |= Rights::SYS_NICE;
        assert_eq!(advise(space, Whose::Other, Advice::Cold, &ranges), Ok(3 * PAGE));
        assert_eq!(advise(space, Whose::Other, Advice::Cold, &ranges[2..]), Err(MmError::NoMemory));
    });
    with_settings(Settings { release: Release::V6_18, ..Settings::X86_64 }, |space| {
        space.call().mmap(&fixed(BASE, 4 * PAGE, RW)).unwrap();
        let mut of = |whose| space.call().process_madvise([(at(0), PAGE)], Advice::DontNeed, whose);
        assert_eq!((of(Whose::Own), of(Whose::Other)), (Ok(PAGE), Err(MmError::Invalid)));
    });
}

#[test]
fn areas_with_different_names_stay_apart_and_files_have_none() {
    with_space(|space| {
        space.call().mmap(&fixed(BASE, 6 * PAGE, RW)).unwrap();
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        let request = MapRequest { flags, file: FileId::new(3), ..fixed(at(6).raw(), PAGE, RW) };
        space.call().mmap(&request).unwrap();
        let name = AreaName::from_raw(1);
        assert_eq!(space.call().set_anon_name(at(2), 2 * PAGE, name), Ok(()));
        let names: Vec<_> = space.read().areas().map(|vma| vma.name).collect();
        assert_eq!(names, [None, name, None, None]);
        assert_eq!(space.call().set_anon_name(at(0), 6 * PAGE, None), Ok(()));
        assert_eq!(space.read().nr_areas(), 2);
        assert_eq!(space.call().set_anon_name(at(5), 2 * PAGE, name), Err(MmError::BadFile));
        assert_eq!(space.call().set_anon_name(VirtAddr::new(1), PAGE, name), Err(MmError::Invalid));
    });
}

#[test]
fn a_name_is_printable_short_and_free_of_shell_s_signs() {
    assert_eq!(AreaName::check(b"glibc: malloc arena"), Ok(()));
    assert_eq!(AreaName::check(&[b'a'; 79]), Ok(()));
    for bad in [&[b'a'; 80][..], b"a[b", b"$x", b"a\\", b"`", b"\n", b"\x7f"] {
        assert_eq!(AreaName::check(bad), Err(MmError::Invalid), "{bad:?}");
    }
}

#[test]
fn a_program_lies_where_processes_may_and_in_order() {
    with_space(|space| {
        let range = |from: u64, to: u64| VirtRange::new(VirtAddr::new(from), VirtAddr::new(to));
        let good = ProgramRanges {
            code: range(0x40_0000, 0x41_0000),
            data: range(0x42_0000, 0x43_0000),
            start_stack: at(0),
            start_brk: VirtAddr::new(0x50_0000),
            brk: VirtAddr::new(0x50_0000),
            args: range(0x60_0000, 0x60_0010),
            env: range(0x60_0010, 0x60_0020),
        };
        assert_eq!(space.call().set_program(&good), Ok(()));
        assert_eq!(*space.read().program(), good);
        let below = ProgramRanges { args: range(0x1000, 0x2000), ..good };
        let above = ProgramRanges { start_stack: VirtAddr::new(1 << 47), ..good };
        let reversed = ProgramRanges { brk: VirtAddr::new(0x4f_0000), ..good };
        for bad in [below, above, reversed] {
            assert_eq!(space.call().set_program(&bad), Err(MmError::Invalid));
        }
        space.process.limits.data = PAGE;
        assert_eq!(space.call().set_program(&good), Err(MmError::Invalid));
    });
}

#[test]
fn what_may_be_executed_only_is_readable_without_protection_keys_alone() {
    let run = |keys| {
        let mut result = None;
        with_settings(Settings { keys, ..Settings::X86_64 }, |space| {
            space.call().mmap(&fixed(BASE, 2 * PAGE, Prot::EXEC)).unwrap();
            let read = space.call().area_for_access(at(0), Access::Read).map(drop);
            let locked = space.call().mlock(at(0), PAGE, LockWhen::Now);
            space.call().mprotect(at(0), 2 * PAGE, Prot::READ | Prot::EXEC).unwrap();
            assert!(space.read().areas().all(|vma| !vma.flags.contains(VmFlags::PKEY_BIT0)));
            result = Some((read, locked));
        });
        result.unwrap()
    };
    assert_eq!(run(ProtectionKeys::Absent), (Ok(()), Ok(())));
    assert_eq!(run(ProtectionKeys::Present), (Err(MmError::AccessDenied), Err(MmError::NoMemory)));
}

#[test]
fn guard_regions_are_refused_as_what_each_release_knows_of_them() {
    let install = |release| {
        let mut result = None;
        with_settings(Settings { release, ..Settings::X86_64 }, |space| {
            result = Some(space.call().madvise(at(0), PAGE, Advice::GuardInstall));
        });
        result.unwrap()
    };
    assert_eq!(install(Release::V6_12), Err(MmError::Invalid));
    assert_eq!(install(Release::V6_18), Err(MmError::Absent(Absent::GuardRegions)));
}

#[test]
fn a_move_tells_how_much_lies_free_below_both_places() {
    // Since 6.18 as it is, both places may become one area.
    with_settings(Settings { release: Release::V6_18, ..Settings::X86_64 }, |space| {
        for (page, len) in [(90, 2), (100, 4), (200, 1), (400, 4)] {
            space.call().mmap(&fixed(at(page).raw(), len * PAGE, RW)).unwrap();
        }
        let room = |space: &mut Space<'_, '_>, from, len, to, more| {
            let (old_len, new_len, flags) = (len * PAGE, len * PAGE, RemapFlags::MAYMOVE | RemapFlags::FIXED | more);
            let request = RemapRequest { addr: at(from), old_len, new_len, flags, new_addr: at(to) };
            assert_eq!(space.call().mremap(&request), Ok(at(to)));
            space.files.rooms.pop()
        };
        let none = RemapFlags::empty();
        assert_eq!(room(space, 100, 4, 203, none), Some(2 * PAGE));
        assert_eq!(room(space, 205, 2, 300, none), Some(0), "the rest of the area lies below");
        assert_eq!(room(space, 400, 4, 396, RemapFlags::DONTUNMAP), Some(0), "both places are one area");
    });
}

/// An area as page, pages, page offset from that page, and whether it is locked.
type Place = (u64, u64, i64, bool);

/// Moves four pages from page 12 of an area of `nr_pages` from page 10 to page `to` and leaves them mapped; returns all areas then, and the locked pages.
fn left_mapped(release: Release, nr_pages: u64, to: u64, is_locked: bool) -> (Vec<Place>, u64) {
    let mut result = (Vec::new(), 0);
    with_settings(Settings { release, ..Settings::X86_64 }, |space| {
        space.process.rights |= Rights::IPC_LOCK;
        space.call().mmap(&fixed(at(10).raw(), nr_pages * PAGE, RW)).unwrap();
        if is_locked {
            space.call().mlock(at(10), nr_pages * PAGE, LockWhen::Now).unwrap();
        }
        let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED | RemapFlags::DONTUNMAP;
        let (old_len, new_len) = (4 * PAGE, 4 * PAGE);
        space.call().mremap(&RemapRequest { addr: at(12), old_len, new_len, flags, new_addr: at(to) }).unwrap();
        let place = |vma: Vma| {
            let page = vma.start().raw() / PAGE;
            let is_locked = vma.flags.contains(VmFlags::LOCKED);
            (page - BASE / PAGE, vma.nr_pages(), vma.pgoff as i64 - page as i64, is_locked)
        };
        let mm = space.read();
        result = (mm.areas().map(place).collect(), mm.counters().locked);
    });
    result
}

#[test]
fn a_move_that_leaves_the_old_place_mapped_keeps_both_places_apart_and_unlocks_what_moved() {
    let untouched = |release| left_mapped(release, 8, 6, false).0;
    assert_eq!(untouched(Release::V6_12), [(6, 4, 0, false), (10, 8, 0, false)]);
    assert_eq!(untouched(Release::V6_18), [(6, 12, 0, false)]);
    let apart = [(10, 2, 0, true), (12, 4, 0, false), (16, 2, 0, true), (30, 4, -18, true)];
    assert_eq!(left_mapped(Release::V6_12, 8, 30, true), (apart.into(), 8));
}

#[test]
fn tables_go_with_what_is_not_needed_since_6_14_if_all_of_one_is_meant() {
    for (release, expected) in [(Release::V6_12, PageAdvice::DontNeed), (Release::V6_18, PageAdvice::DontNeedTables)] {
        with_settings(Settings { release, ..Settings::X86_64 }, |space| {
            space.call().mmap(&fixed(BASE, 512 * PAGE, RW)).unwrap();
            space.call().madvise(at(0), 512 * PAGE, Advice::DontNeed).unwrap();
            space.call().madvise(at(1), 511 * PAGE, Advice::DontNeedLocked).unwrap();
            assert_eq!(space.files.advised, [expected, PageAdvice::DontNeed]);
        });
    }
}

#[test]
fn executable_memory_is_not_gained_once_that_was_chosen_and_children_inherit_it() {
    with_space(|space| {
        let mdwe = MmFlags::MDWE;
        space.call().mmap(&fixed(BASE, PAGE, Prot::READ | Prot::EXEC)).unwrap();
        space.call().mmap(&fixed(at(4).raw(), PAGE, RW)).unwrap();
        assert_eq!(space.mm.set_mdwe(MmFlags::MDWE_NO_INHERIT), Err(MmError::Invalid));
        assert_eq!(space.mm.set_mdwe(MmFlags::DISABLE_THP), Err(MmError::Invalid));
        assert_eq!(space.mm.set_mdwe(mdwe), Ok(()));
        assert_eq!(space.mm.set_mdwe(MmFlags::empty()), Err(MmError::NotPermitted));
        let before = space.read().areas().count();
        let refused = Err(MmError::AccessDenied);
        assert_eq!(space.call().mmap(&fixed(at(4).raw(), PAGE, RW | Prot::EXEC)).map(drop), refused);
        assert_eq!(space.call().mprotect(at(4), PAGE, Prot::READ | Prot::EXEC), refused);
        assert_eq!(space.call().mprotect(at(0), PAGE, RW | Prot::EXEC), refused);
        assert_eq!(space.read().areas().count(), before, "what was there stays");
        assert_eq!(space.call().mprotect(at(0), PAGE, Prot::EXEC), Ok(()));
        assert_eq!(space.call().mmap(&fixed(at(8).raw(), PAGE, Prot::EXEC)), Ok(at(8)));
    });
    let both = MmFlags::MDWE | MmFlags::MDWE_NO_INHERIT;
    assert_eq!((both | MmFlags::DISABLE_THP).inherited(), MmFlags::DISABLE_THP);
    assert_eq!((MmFlags::MDWE | MmFlags::DISABLE_THP).inherited(), MmFlags::MDWE | MmFlags::DISABLE_THP);
}

#[test]
fn huge_pages_are_for_areas_that_the_policy_and_the_process_admit() {
    let area = |flags| Vma {
        range: VirtRange::with_len(at(0), PAGE),
        flags,
        pgoff: 0,
        file: None,
        anon: None,
        uffd: 0,
        name: None,
    };
    let (plain, asks) = (area(VmFlags::WRITE), area(VmFlags::HUGEPAGE));
    let admitted = |policy: HugePolicy| [&plain, &asks, &area(VmFlags::NOHUGEPAGE)].map(|area| policy.admits(area));
    assert_eq!(admitted(HugePolicy::Always), [true, true, false]);
    assert_eq!(admitted(HugePolicy::Madvise), [false, true, false]);
    assert_eq!(admitted(HugePolicy::Never), [false; 3]);
    with_space(|space| {
        let policy = |space: &Space<'_, '_>| space.spaces.huge_rules(&space.mm).policy;
        assert_eq!(policy(space), HugePolicy::Always);
        space.mm.forbid_huge_pages(true);
        assert_eq!(policy(space), HugePolicy::Never);
        space.mm.forbid_huge_pages(false);
        assert_eq!(policy(space), HugePolicy::Always);
    });
}
