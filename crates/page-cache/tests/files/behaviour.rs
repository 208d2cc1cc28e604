//! What files do, one claim a test.

use std::sync::Mutex;

use address_space::{Access, FileId, FileTraits, MmError, Pager, Reserve};
use frame_table::{PageBytes, PageFlags};
use mmkit_page_cache::{BytesSource, EndRule, FileKind, PageSource, Seals};
use object_allocator::mmu::PageKind;
use object_allocator::vmstat::NodeItem;
use sync::Cpu;

use crate::{Call, PAGE, counter, with_files};

const SHMEM: FileKind<'static> = FileKind::Shmem(Reserve::OnUse);

fn contents(call: &Call<'_, '_>, file: FileId, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; len];
    let read = call.read(file, offset, &mut bytes).unwrap();
    bytes.truncate(read);
    bytes
}

/// Touches a page and gives the reference back at once.
fn touch(call: &Call<'_, '_>, file: FileId, index: u64, access: Access) -> Result<(), MmError> {
    call.page(file, index, access).map(|page| call.put_page(page))
}

#[test]
fn a_page_is_made_once_and_found_again() {
    with_files(1000, |call, objects| {
        let file = call.create(SHMEM, 2 * PAGE).unwrap();
        let first = call.page(file, 1, Access::Read).unwrap();
        let again = call.page(file, 1, Access::Write).unwrap();
        assert_eq!(first.pfn(), again.pfn());
        let frame = objects.pages().map().frames.get(first.pfn()).unwrap();
        assert_eq!(frame.count(), 3, "the file's reference and two");
        let flags = PageFlags::UPTODATE | PageFlags::SWAPBACKED | PageFlags::DIRTY;
        assert_eq!(frame.flags(), flags);
        assert_eq!(call.files.file_of(first.pfn()), Some((file, 1)));
        assert_eq!((counter(objects, NodeItem::NrShmem), counter(objects, NodeItem::NrFilePages)), (1, 1));
        call.put_page(first);
        call.put_page(again);
        assert_eq!(call.stat(file).unwrap().kind, PageKind::Shmem);
        call.check_invariants(file).unwrap();
        call.put(file).unwrap();
    });
}

#[test]
fn a_touch_behind_the_end_is_a_bad_address_and_makes_nothing() {
    with_files(1000, |call, _| {
        let file = call.create(FileKind::Regular, PAGE + 1).unwrap();
        assert_eq!(touch(call, file, 2, Access::Read), Err(MmError::BadAddress));
        assert_eq!(touch(call, file, u64::MAX, Access::Read), Err(MmError::BadAddress));
        assert_eq!(call.stat(file).unwrap().nr_pages, 0);
        touch(call, file, 1, Access::Read).unwrap();
        call.put(file).unwrap();
        assert_eq!(touch(call, file, 1, Access::Read), Err(MmError::BadFile));
    });
}

#[test]
fn an_index_that_no_frame_can_keep_has_no_page() {
    with_files(1000, |call, _| {
        let file = call.create(FileKind::Regular, i64::MAX as u64).unwrap();
        assert_eq!(touch(call, file, 1 << 40, Access::Read), Err(MmError::NoSpace));
        touch(call, file, (1 << 40) - 1, Access::Read).unwrap();
        assert_eq!(call.create(FileKind::Regular, 1 << 63).err(), Some(MmError::TooLarge));
        assert_eq!(call.write(file, i64::MAX as u64, b"x"), Err(MmError::TooLarge));
        assert_eq!(call.set_size(file, 1 << 63), Err(MmError::TooLarge));
        call.put(file).unwrap();
    });
}

#[test]
fn a_file_lives_until_its_last_user_of_either_kind_goes() {
    with_files(1000, |call, _| {
        let file = call.create(SHMEM, PAGE).unwrap();
        touch(call, file, 0, Access::Write).unwrap();
        call.open_mapping(file).unwrap();
        call.get(file).unwrap();
        call.put(file).unwrap();
        call.put(file).unwrap();
        assert_eq!(call.put(file), Err(MmError::BadFile), "there is no further reference");
        let stat = call.stat(file).unwrap();
        assert_eq!((stat.references, stat.mappings, stat.nr_pages), (0, 1, 1));
        call.close_mapping(file).unwrap();
        assert_eq!(call.stat(file), Err(MmError::BadFile));
        let next = call.create(SHMEM, 0).unwrap();
        assert_eq!(next, file, "the number is used again");
        call.put(next).unwrap();
    });
}

#[test]
fn a_page_that_outlives_its_file_belongs_to_nobody() {
    with_files(1000, |call, objects| {
        let file = call.create(SHMEM, PAGE).unwrap();
        let page = call.page(file, 0, Access::Write).unwrap();
        call.put(file).unwrap();
        assert_eq!(call.files.file_of(page.pfn()), None);
        let frame = objects.pages().map().frames.get(page.pfn()).unwrap();
        assert_eq!(frame.count(), 1);
        let kind = PageKind::of(frame.flags(), frame.mapping().0);
        assert_eq!(kind, PageKind::Shmem, "who maps it counts it as before");
        call.put_page(page);
    });
}

#[test]
fn shared_anonymous_memory_is_promised_at_once_and_its_area_is_the_only_user() {
    with_files(100, |call, _| {
        let mut pager = Call { ..*call };
        let file = pager.shared_anonymous(10 * PAGE, Reserve::Whole).unwrap();
        assert_eq!(call.commit.committed(), 10);
        touch(call, file, 3, Access::Write).unwrap();
        assert_eq!(call.commit.committed(), 10);
        assert_eq!(call.name(file).unwrap().unwrap().as_bytes(), b"dev/zero");
        assert_eq!(pager.shared_anonymous(95 * PAGE, Reserve::Whole), Err(MmError::NoMemory));
        call.set_size(file, 20 * PAGE).unwrap();
        assert_eq!(call.set_size(file, 101 * PAGE), Err(MmError::NoMemory));
        call.set_size(file, 5 * PAGE).unwrap();
        assert_eq!(call.commit.committed(), 5);
        pager.close(file);
    });
}

#[test]
fn memory_without_reserve_is_promised_page_by_page() {
    with_files(3, |call, _| {
        let file = call.create(SHMEM, 100 * PAGE).unwrap();
        assert_eq!(call.commit.committed(), 0);
        touch(call, file, 50, Access::Write).unwrap();
        touch(call, file, 51, Access::Write).unwrap();
        assert_eq!(touch(call, file, 52, Access::Write), Err(MmError::NoSpace));
        assert_eq!(call.write(file, 51 * PAGE, &[1; 2 * 4096]), Ok(4096), "as far as memory goes");
        assert_eq!(call.write(file, 52 * PAGE, &[1; 9]), Err(MmError::NoSpace));
        call.punch_hole(file, 50 * PAGE, PAGE).unwrap();
        assert_eq!(call.commit.committed(), 1);
        call.put(file).unwrap();
    });
}

#[test]
fn cutting_a_file_frees_pages_and_zeros_the_rest_of_the_last() {
    with_files(1000, |call, _| {
        for kind in [SHMEM, FileKind::Regular] {
            let file = call.create(kind, 0).unwrap();
            call.write(file, 0, &[7; 5 * 4096]).unwrap();
            call.set_size(file, PAGE + 100).unwrap();
            assert_eq!(call.stat(file).unwrap().nr_pages, 2);
            call.check_invariants(file).unwrap();
            call.set_size(file, 3 * PAGE).unwrap();
            let bytes = contents(call, file, 0, 4 * 4096);
            assert_eq!(bytes.len() as u64, 3 * PAGE);
            assert!(bytes.iter().enumerate().all(|(at, &byte)| byte == if at < 4196 { 7 } else { 0 }));
            call.put(file).unwrap();
        }
    });
}

#[test]
fn a_hole_frees_whole_pages_and_zeros_parts() {
    with_files(1000, |call, _| {
        let file = call.create(SHMEM, 0).unwrap();
        call.write(file, 0, &[7; 4 * 4096]).unwrap();
        call.punch_hole(file, 4000, 2 * PAGE).unwrap();
        assert_eq!(call.stat(file).unwrap().nr_pages, 3);
        assert_eq!(call.stat(file).unwrap().size, 4 * PAGE);
        let bytes = contents(call, file, 0, 4 * 4096);
        assert!(bytes.iter().enumerate().all(|(at, &byte)| byte == if (4000..12192).contains(&at) { 0 } else { 7 }));
        call.punch_hole(file, 10, 20).unwrap();
        assert_eq!(contents(call, file, 9, 22), [&[7u8][..], &[0; 20], &[7]].concat());
        assert_eq!(call.seek_hole(file, 0), Ok(Some(PAGE)));
        assert_eq!(call.seek_data(file, PAGE + 1), Ok(Some(2 * PAGE)));
        assert_eq!(call.seek_hole(file, 2 * PAGE), Ok(Some(4 * PAGE)));
        assert_eq!(call.seek_data(file, 4 * PAGE), Ok(None));
        assert_eq!(call.punch_hole(file, 0, 0), Err(MmError::Invalid));
        call.put(file).unwrap();
        let ramfs = call.create(FileKind::Regular, PAGE).unwrap();
        assert_eq!(call.punch_hole(ramfs, 0, PAGE), Err(MmError::NotSupported));
        call.put(ramfs).unwrap();
    });
}

#[test]
fn pages_are_put_where_none_are_and_the_end_moves_if_it_may() {
    with_files(1000, |call, _| {
        let file = call.create(SHMEM, 2 * PAGE).unwrap();
        touch(call, file, 1, Access::Write).unwrap();
        call.allocate(file, 0, 2 * PAGE, EndRule::Stays).unwrap();
        assert_eq!((call.stat(file).unwrap().nr_pages, call.stat(file).unwrap().size), (2, 2 * PAGE));
        call.allocate(file, 3 * PAGE, 5, EndRule::Moves).unwrap();
        assert_eq!((call.stat(file).unwrap().nr_pages, call.stat(file).unwrap().size), (3, 3 * PAGE + 5));
        assert_eq!(call.allocate(file, 0, 0, EndRule::Moves), Err(MmError::Invalid));
        // So much may not be promised: what was put behind the end goes again.
        assert_eq!(call.allocate(file, 0, 2000 * PAGE, EndRule::Moves), Err(MmError::NoSpace));
        assert_eq!((call.stat(file).unwrap().nr_pages, call.stat(file).unwrap().size), (3, 3 * PAGE + 5));
        call.check_invariants(file).unwrap();
        call.put(file).unwrap();
    });
}

#[test]
fn a_page_that_is_set_aside_is_in_memory_once_somebody_asks_for_it() {
    with_files(1000, |call, _| {
        let file = call.create(SHMEM, 8 * PAGE).unwrap();
        call.allocate(file, PAGE, 5 * PAGE, EndRule::Stays).unwrap();
        let resident = || {
            let mut resident = [9; 8];
            call.residency(file, 0, &mut resident).unwrap();
            resident
        };
        assert_eq!((call.stat(file).unwrap().nr_pages, resident()), (5, [0; 8]));
        assert_eq!((call.seek_data(file, 0), call.seek_hole(file, PAGE)), (Ok(None), Ok(Some(PAGE))));
        assert_eq!(contents(call, file, PAGE, 4096), vec![0; 4096]);
        assert_eq!(resident(), [0; 8], "a read does not ask for it");
        assert!(call.resident_page(file, 1).unwrap().is_none());
        touch(call, file, 2, Access::Read).unwrap();
        call.write(file, 4 * PAGE, b"x").unwrap();
        call.allocate(file, 5 * PAGE, PAGE, EndRule::Stays).unwrap();
        assert_eq!(resident(), [0, 0, 1, 0, 1, 1, 0, 0], "nor is it set aside twice");
        assert_eq!((call.seek_data(file, 0), call.seek_hole(file, 4 * PAGE)), (Ok(Some(2 * PAGE)), Ok(Some(6 * PAGE))));
        call.check_invariants(file).unwrap();
        call.put(file).unwrap();
    });
}

#[test]
fn pages_that_could_not_all_be_set_aside_go_again() {
    with_files(1000, |call, _| {
        let file = call.create(SHMEM, 4000 * PAGE).unwrap();
        call.allocate(file, 5 * PAGE, PAGE, EndRule::Stays).unwrap();
        call.allocate(file, 3500 * PAGE, PAGE, EndRule::Stays).unwrap();
        touch(call, file, 7, Access::Read).unwrap();
        assert_eq!(call.allocate(file, 4 * PAGE, 3000 * PAGE, EndRule::Stays), Err(MmError::NoSpace));
        let nr_pages = call.stat(file).unwrap().nr_pages;
        assert_eq!(
            (nr_pages, call.seek_data(file, 0), call.seek_data(file, 6 * PAGE)),
            (3, Ok(Some(5 * PAGE)), Ok(Some(7 * PAGE)))
        );
        call.check_invariants(file).unwrap();
        call.put(file).unwrap();
    });
}

#[test]
fn pages_stay_behind_an_end_that_stays_until_it_is_set() {
    with_files(1000, |call, _| {
        let file = call.create(SHMEM, 3).unwrap();
        let facts = || (call.stat(file).unwrap().nr_pages, call.stat(file).unwrap().size);
        call.allocate(file, 0, 2 * PAGE, EndRule::Stays).unwrap();
        call.allocate(file, 8 * PAGE, 1, EndRule::Stays).unwrap();
        assert_eq!(facts(), (3, 3));
        assert_eq!((call.seek_data(file, 4), call.read(file, 0, &mut [0; 9])), (Ok(None), Ok(3)));
        assert_eq!(touch(call, file, 1, Access::Read), Err(MmError::BadAddress));
        call.check_invariants(file).unwrap();
        // An attempt that fails takes only its own.
        assert!(call.allocate(file, 9 * PAGE, 2000 * PAGE, EndRule::Stays).is_err());
        assert_eq!(facts(), (3, 3));
        call.set_size(file, 9 * PAGE).unwrap();
        assert_eq!((facts(), contents(call, file, 0, 3 * PAGE as usize)), ((3, 9 * PAGE), vec![0; 3 * PAGE as usize]));
        call.set_size(file, 5).unwrap();
        assert_eq!(facts(), (1, 5));
        call.allocate(file, 0, 2 * PAGE, EndRule::Stays).unwrap();
        call.set_size(file, 5).unwrap();
        assert_eq!(facts(), (1, 5), "the same end, set again");
        call.check_invariants(file).unwrap();
        call.put(file).unwrap();
    });
}

#[test]
fn reading_a_hole_makes_no_page() {
    with_files(1000, |call, _| {
        let file = call.create(SHMEM, 3 * PAGE).unwrap();
        assert_eq!(contents(call, file, 10, 20_000), vec![0; 3 * 4096 - 10]);
        assert_eq!(call.stat(file).unwrap().nr_pages, 0);
        call.put(file).unwrap();
    });
}

#[test]
fn neighbours_in_memory_are_found_in_one_walk() {
    with_files(1000, |call, _| {
        let file = call.create(FileKind::Regular, 200 * PAGE).unwrap();
        for index in [60, 63, 64, 70, 199] {
            touch(call, file, index, Access::Read).unwrap();
        }
        let mut found = [const { None }; 16];
        assert_eq!(call.resident_pages(file, 60, &mut found), Ok(4));
        let at: Vec<_> = (0..16).filter(|&slot| found[slot].is_some()).collect();
        assert_eq!(at, [0, 3, 4, 10]);
        found.into_iter().flatten().for_each(|page| call.put_page(page));
        let mut resident = [9; 4];
        call.residency(file, 198, &mut resident).unwrap();
        assert_eq!(resident, [0, 1, 0, 0]);
        assert!(call.resident_page(file, 61).unwrap().is_none());
        call.put_page(call.resident_page(file, 64).unwrap().unwrap());
        assert_eq!(call.stat(file).unwrap().nr_pages, 5);
        call.put(file).unwrap();
    });
}

#[test]
fn seals_forbid_what_they_say() {
    with_files(1000, |call, _| {
        let file = call.create_memfd(b"shared", Seals::empty()).unwrap();
        assert_eq!(call.name(file).unwrap().unwrap().as_bytes(), b"memfd:shared");
        call.write(file, 0, b"text").unwrap();
        call.add_seals(file, Seals::GROW).unwrap();
        assert_eq!(call.write(file, 2, b"more"), Err(MmError::NotPermitted));
        assert_eq!(call.set_size(file, 5), Err(MmError::NotPermitted));
        call.add_seals(file, Seals::SHRINK).unwrap();
        assert_eq!(call.set_size(file, 3), Err(MmError::NotPermitted));
        call.write(file, 0, b"TE").unwrap();
        call.map_writable(file).unwrap();
        assert_eq!(call.add_seals(file, Seals::WRITE), Err(MmError::Busy));
        call.unmap_writable(file).unwrap();
        assert!(!call.facts(file).unwrap().traits.contains(FileTraits::SEALED_WRITE));
        call.add_seals(file, Seals::WRITE | Seals::SEAL).unwrap();
        assert_eq!(call.write(file, 0, b"x"), Err(MmError::NotPermitted));
        assert_eq!(call.punch_hole(file, 0, 1), Err(MmError::NotPermitted));
        assert_eq!(call.map_writable(file), Err(MmError::NotPermitted));
        assert_eq!(call.add_seals(file, Seals::EXEC), Err(MmError::NotPermitted));
        assert!(call.facts(file).unwrap().traits.contains(FileTraits::SEALED_WRITE | FileTraits::SHMEM));
        assert_eq!(contents(call, file, 0, 10), b"TExt");
        call.put(file).unwrap();
        let closed = call.create_memfd(b"x", Seals::SEAL).unwrap();
        assert_eq!(call.add_seals(closed, Seals::WRITE), Err(MmError::NotPermitted));
        call.put(closed).unwrap();
        assert_eq!(call.create_memfd(&[b'x'; 250], Seals::SEAL), Err(MmError::Invalid));
    });
}

/// A source that remembers what is written, and refuses one page.
#[derive(Debug, Default)]
struct Disk {
    written: Mutex<Vec<(u64, u8)>>,
    broken: Option<u64>,
}

impl PageSource for Disk {
    fn read_page(&self, _: &Cpu, index: u64, page: &PageBytes<'_>) -> Result<(), MmError> {
        page.write(0, &[index as u8 + 1; 4096]);
        if self.broken == Some(index) { Err(MmError::Io) } else { Ok(()) }
    }

    fn write_page(&self, _: &Cpu, index: u64, page: &PageBytes<'_>) -> Result<(), MmError> {
        let mut first = [0];
        page.read(0, &mut first);
        self.written.lock().unwrap().push((index, first[0]));
        if self.broken == Some(index) { Err(MmError::Io) } else { Ok(()) }
    }
}

static DISK: Disk = Disk { written: Mutex::new(Vec::new()), broken: None };
static BROKEN_DISK: Disk = Disk { written: Mutex::new(Vec::new()), broken: Some(2) };

#[test]
fn pages_come_from_the_source_until_the_file_is_cut_there() {
    with_files(1000, |call, objects| {
        let file = call.create(FileKind::Backed(&DISK), 3 * PAGE - 10).unwrap();
        assert_eq!(contents(call, file, PAGE, 2), [2, 2]);
        let page = call.page(file, 2, Access::Read).unwrap();
        let bytes = PageBytes::new(objects.pages().platform(), &page, 12).unwrap();
        let mut tail = [9; 12];
        bytes.read(4084, &mut tail);
        assert_eq!(tail, [3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "zeros behind the end");
        call.put_page(page);
        call.set_size(file, PAGE / 2).unwrap();
        call.set_size(file, 3 * PAGE).unwrap();
        let bytes = contents(call, file, 0, 3 * 4096);
        assert!(bytes.iter().enumerate().all(|(at, &byte)| byte == u8::from(at < 2048)));
        call.check_invariants(file).unwrap();
        call.put(file).unwrap();
    });
}

#[test]
fn dirty_pages_of_the_range_are_written_back_and_clean_then() {
    with_files(1000, |call, objects| {
        let disk: &'static Disk = Box::leak(Box::default());
        let file = call.create(FileKind::Backed(disk), 8 * PAGE).unwrap();
        for index in [1, 2, 5] {
            call.write(file, index * PAGE, &[index as u8 * 10]).unwrap();
        }
        touch(call, file, 3, Access::Read).unwrap();
        assert_eq!(counter(objects, NodeItem::NrDirty), 3);
        call.sync_range(file, PAGE + 5, 2 * PAGE).unwrap();
        assert_eq!(*disk.written.lock().unwrap(), [(1, 10), (2, 20)]);
        assert_eq!(counter(objects, NodeItem::NrDirty), 1);
        call.sync_range(file, 0, u64::MAX).unwrap();
        call.sync_range(file, 0, u64::MAX).unwrap();
        assert_eq!(*disk.written.lock().unwrap(), [(1, 10), (2, 20), (5, 50)]);
        call.mark_dirty(file, 3).unwrap();
        assert_eq!(counter(objects, NodeItem::NrDirty), 1, "goes with the file");
        call.check_invariants(file).unwrap();
        call.put(file).unwrap();
    });
}

#[test]
fn a_page_that_cannot_be_read_or_written_says_so_and_stays_as_it_is() {
    with_files(1000, |call, objects| {
        let file = call.create(FileKind::Backed(&BROKEN_DISK), 4 * PAGE).unwrap();
        assert_eq!(touch(call, file, 2, Access::Read), Err(MmError::Io));
        assert_eq!(contents(call, file, 0, 4 * 4096).len() as u64, 2 * PAGE, "up to the broken page");
        assert_eq!(call.stat(file).unwrap().nr_pages, 2);
        call.put(file).unwrap();
        let text = BytesSource(b"a text");
        let image = call.create(FileKind::Backed(Box::leak(Box::new(text))), 6).unwrap();
        assert_eq!(contents(call, image, 2, 100), b"text");
        call.write(image, 0, b"A").unwrap();
        assert_eq!(call.sync_range(image, 0, 6), Err(MmError::Io));
        assert_eq!(counter(objects, NodeItem::NrDirty), 1);
        assert_eq!(contents(call, image, 0, 6), b"A text");
        call.put(image).unwrap();
    });
}

#[test]
fn names_are_set_replaced_and_limited() {
    with_files(1000, |call, _| {
        let file = call.create(FileKind::Regular, 0).unwrap();
        assert_eq!(call.name(file), Ok(None));
        call.set_name(file, b"/bin/old").unwrap();
        call.set_name(file, b"/bin/sh").unwrap();
        assert_eq!(call.set_name(file, &[b'x'; 256]), Err(MmError::Invalid));
        assert_eq!(call.name(file).unwrap().unwrap().as_bytes(), b"/bin/sh");
        call.put(file).unwrap();
        assert_eq!(call.set_name(file, b"gone"), Err(MmError::BadFile));
    });
}

#[test]
fn numbers_that_no_file_has_are_refused() {
    with_files(1000, |call, _| {
        for number in [1, 16, 17, 1 << 20, u64::MAX] {
            assert_eq!(call.stat(FileId::new(number).unwrap()), Err(MmError::BadFile));
        }
        let many: Vec<_> = (0..300).map(|_| call.create(FileKind::Regular, 0).unwrap()).collect();
        assert!(many.iter().enumerate().all(|(at, file)| file.raw() == at as u64 + 1));
        many.iter().for_each(|&file| call.put(file).unwrap());
    });
}
