//! Each row of the table, done.

use object_allocator::mmu::UserTables;
use page_tables::{Tables, WriteTracking};
use units::VmFlags;

use crate::*;
use FaultAction as Did;

#[test]
fn anonymous_memory_reads_as_the_page_of_zeros_until_it_is_written() {
    let (objects, cpu) = machine(256);
    let (tables, files) = (UserTables::new(), Files::new(&objects, &cpu, 0));
    let space = Space::new(&objects, &cpu, &tables, &files);
    let vma = area(WRITE, 4, None);
    assert_eq!(space.access(&vma, 1, None), Ok((0, vec![Did::MapZeros])));
    assert_eq!(space.rss().anon, 0);
    assert_eq!(space.access(&vma, 1, Some(9)), Ok((9, vec![Did::MapFresh])));
    assert_eq!(space.access(&vma, 1, None), Ok((9, vec![])));
    assert_eq!(space.access(&vma, 2, Some(5)), Ok((5, vec![Did::MapFresh])));
    assert_eq!(space.rss().anon, 2);
    space.end();
}

#[test]
fn after_fork_the_first_writer_copies_and_the_last_one_keeps_the_page() {
    let (objects, cpu) = machine(512);
    let before = objects.pages().check_invariants(&cpu).unwrap();
    let (tables, other, files) = (UserTables::new(), UserTables::new(), Files::new(&objects, &cpu, 0));
    let parent = Space::new(&objects, &cpu, &tables, &files);
    let child = Space::new(&objects, &cpu, &other, &files);
    let vma = area(WRITE, 4, None);
    parent.access(&vma, 0, Some(1)).unwrap();
    parent.view.copy_to(&child.view, &mut parent.view.mmu.gather(&tables), vma.range, vma.flags).unwrap();
    assert_eq!(child.access(&vma, 0, Some(2)), Ok((2, vec![Did::Copy])));
    assert_eq!(parent.access(&vma, 0, None), Ok((1, vec![])));
    assert_eq!(parent.access(&vma, 0, Some(3)), Ok((3, vec![Did::Reuse])));
    assert_eq!(child.access(&vma, 0, None), Ok((2, vec![])));
    assert_eq!((parent.rss().anon, child.rss().anon), (1, 1));
    parent.end();
    child.end();
    assert_eq!(objects.pages().check_invariants(&cpu).unwrap(), before);
}

#[test]
fn reading_a_file_maps_the_neighbours_that_are_in_memory() {
    let (objects, cpu) = machine(512);
    let (tables, files) = (UserTables::new(), Files::new(&objects, &cpu, 40));
    [1, 2, 5, 15, 16].into_iter().for_each(|index| files.load(index).unwrap());
    let space = Space::new(&objects, &cpu, &tables, &files);
    let vma = area(VmFlags::READ, 40, Some(file()));
    assert_eq!(space.access(&vma, 3, None), Ok((4, vec![Did::MapFile])));
    assert_eq!(space.rss().file, 5, "four neighbours in the same 16 pages and the page itself");
    assert_eq!(space.access(&vma, 15, None), Ok((16, vec![])));
    assert_eq!(space.access(&vma, 16, None), Ok((17, vec![Did::MapFile])));
    assert_eq!(space.rss().file, 6);
    space.end();
    files.end();
}

#[test]
fn a_private_write_copies_the_files_page_and_leaves_the_file_alone() {
    let (objects, cpu) = machine(512);
    let (tables, files) = (UserTables::new(), Files::new(&objects, &cpu, 40));
    let space = Space::new(&objects, &cpu, &tables, &files);
    let vma = area(WRITE, 40, Some(file()));
    assert_eq!(space.access(&vma, 0, Some(77)), Ok((77, vec![Did::MapFileCopy])));
    assert_eq!((space.rss().file, space.rss().anon), (0, 1));
    assert_eq!(space.access(&vma, 20, None), Ok((21, vec![Did::MapFile])));
    assert_eq!(space.access(&vma, 20, Some(78)), Ok((78, vec![Did::Copy])));
    assert_eq!((space.rss().file, space.rss().anon), (0, 2));
    assert!(files.written.borrow().is_empty());
    let other = UserTables::new();
    let other = Space::new(&objects, &cpu, &other, &files);
    assert_eq!(other.access(&vma, 20, None).unwrap().0, 21);
    other.end();
    space.end();
    files.end();
}

#[test]
fn shared_writes_reach_the_file_and_are_told_where_it_wants_to_know() {
    let (objects, cpu) = machine(512);
    for tracking in [WriteTracking::None, WriteTracking::FirstWrite] {
        let (tables, mut files) = (UserTables::new(), Files::new(&objects, &cpu, 40));
        files.tracking = tracking;
        let space = Space::new(&objects, &cpu, &tables, &files);
        let vma = area(SHARED, 40, Some(file()));
        assert_eq!(space.access(&vma, 20, None), Ok((21, vec![Did::MapFile])));
        let told = space.access(&vma, 20, Some(3)).unwrap().1;
        let expected: &[Did] = if tracking == WriteTracking::None { &[] } else { &[Did::WriteShared] };
        assert_eq!(told, expected);
        assert_eq!(space.access(&vma, 0, Some(4)), Ok((4, vec![Did::MapFileShared])));
        let written: &[u64] = if tracking == WriteTracking::None { &[0] } else { &[20, 0] };
        assert_eq!(*files.written.borrow(), written);
        let other = UserTables::new();
        let other = Space::new(&objects, &cpu, &other, &files);
        assert_eq!(other.access(&vma, 20, None).unwrap().0, 3);
        other.end();
        space.end();
        files.end();
    }
}

#[test]
fn where_somebody_watches_each_page_faults_once_at_its_first_write() {
    let (objects, cpu) = machine(512);
    let (tables, mut files) = (UserTables::new(), Files::new(&objects, &cpu, 40));
    files.tracking = WriteTracking::None;
    let space = Space::new(&objects, &cpu, &tables, &files);
    let marked = |page| {
        let walk = space.view.mmu.walk(&tables).unwrap();
        let entry = walk.pte(at(page)).unwrap();
        entry.prot(entry.load()).is_some_and(|prot| prot.contains(Prot::SOFT_DIRTY))
    };
    let own = area(WRITE - VmFlags::SOFTDIRTY, 16, None);
    let shared =
        Vma { range: VirtRange::new(at(16), at(32)), pgoff: 16, ..area(SHARED - VmFlags::SOFTDIRTY, 40, Some(file())) };
    space.access(&own, 0, Some(1)).unwrap();
    space.access(&shared, 16, Some(2)).unwrap();
    space.view.clear_soft_dirty(&mut space.view.gather(), EVERYTHING, own.flags);
    assert_eq!((marked(0), marked(16)), (false, false));
    assert_eq!(space.access(&own, 0, None), Ok((1, vec![])));
    assert_eq!(space.access(&shared, 17, None), Ok((18, vec![Did::MapFile])));
    for (vma, page, did) in [(&own, 0, Did::Reuse), (&shared, 16, Did::WriteShared), (&shared, 17, Did::WriteShared)] {
        assert!(!marked(page));
        assert_eq!(space.access(vma, page, Some(9)), Ok((9, vec![did])));
        assert_eq!(space.access(vma, page, Some(9)), Ok((9, vec![])));
        assert!(marked(page));
    }
    space.end();
    files.end();
}

#[test]
fn behind_the_end_of_a_file_there_is_no_page() {
    let (objects, cpu) = machine(256);
    let (tables, files) = (UserTables::new(), Files::new(&objects, &cpu, 2));
    let space = Space::new(&objects, &cpu, &tables, &files);
    for flags in [WRITE, SHARED] {
        let vma = area(flags, 4, Some(file()));
        assert_eq!(space.access(&vma, 2, None), Err(FaultError::NoPage));
        assert_eq!(space.access(&vma, 3, Some(1)), Err(FaultError::NoPage));
    }
    space.end();
    files.end();
}

#[test]
fn neighbours_are_mapped_though_the_page_itself_is_behind_the_end() {
    let (objects, cpu) = machine(256);
    let (tables, files) = (UserTables::new(), Files::new(&objects, &cpu, 2));
    let space = Space::new(&objects, &cpu, &tables, &files);
    let vma = area(WRITE, 4, Some(file()));
    assert_eq!(space.access(&vma, 2, None), Err(FaultError::NoPage));
    assert_eq!(tables.nr_tables(), 2, "the lowest is made for a page only");
    files.load(1).unwrap();
    assert_eq!(space.access(&vma, 2, None), Err(FaultError::NoPage));
    assert_eq!((tables.nr_tables(), space.rss().file), (3, 1));
    space.end();
    files.end();
}

#[test]
fn a_private_write_behind_the_end_asks_for_the_anon_vma_first() {
    let (objects, cpu) = machine(256);
    let (tables, files) = (UserTables::new(), Files::new(&objects, &cpu, 2));
    let space = Space::new(&objects, &cpu, &tables, &files);
    let vma = Vma { anon: None, ..area(WRITE, 4, Some(file())) };
    assert_eq!(space.access(&vma, 3, Some(1)), Err(FaultError::NeedsAnonVma));
    assert_eq!(space.access(&area(SHARED, 4, Some(file())), 3, Some(1)), Err(FaultError::NoPage));
    space.end();
    files.end();
}

#[test]
fn a_fetch_of_data_brings_the_page_in_before_it_is_refused() {
    let (objects, cpu) = machine(256);
    let (tables, files) = (UserTables::new(), Files::new(&objects, &cpu, 2));
    let space = Space::new(&objects, &cpu, &tables, &files);
    let vma = area(WRITE, 4, Some(file()));
    assert_eq!(space.fault(&vma, 0, AccessKind::Fetch), Ok(Did::MapFile));
    assert_eq!(space.fault(&vma, 0, AccessKind::Fetch), Err(FaultError::Forbidden));
    assert_eq!(space.fault(&vma, 2, AccessKind::Fetch), Err(FaultError::NoPage));
    let keyed = area(VmFlags::EXEC | VmFlags::PKEY_BIT0, 4, None);
    assert_eq!(space.fault(&keyed, 3, AccessKind::Read), Err(FaultError::ForbiddenByKey));
    space.end();
    files.end();
}

#[test]
fn an_area_without_an_anon_vma_is_sent_back_for_one() {
    let (objects, cpu) = machine(256);
    let (tables, files) = (UserTables::new(), Files::new(&objects, &cpu, 4));
    let space = Space::new(&objects, &cpu, &tables, &files);
    for behind in [None, Some(file())] {
        let vma = Vma { anon: None, ..area(WRITE, 4, behind) };
        assert_eq!(space.fault(&vma, 0, AccessKind::Write), Err(FaultError::NeedsAnonVma));
        assert!(space.fault(&vma, 0, AccessKind::Read).is_ok());
        assert_eq!(space.fault(&vma, 0, AccessKind::Write), Err(FaultError::NeedsAnonVma));
        let tables: &Tables<'_, _, _> = &space.view;
        tables.zap(&mut tables.mmu.gather(tables.tables), vma.range, ZapWhat::All);
    }
    space.end();
    files.end();
}
