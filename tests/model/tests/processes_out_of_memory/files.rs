//! Calls and faults on mappings of files, files themselves, and the address space of a new program.

use address_space::{Direction, MapFlags, MapRequest, MmError, MmapLayout, ProgramRanges, Prot, Vma};
use page_cache::EndRule;
use page_fault::AccessKind;
use units::{VirtAddr, VirtRange, VmFlags};

use crate::{ELSEWHERE, FILE_PAGES, Leaves, PAGE, PROCESS, Subject, failures, failures_after};

fn of_file(subject: &Subject<'_, '_>, flags: MapFlags) -> MapRequest {
    MapRequest {
        addr: VirtAddr::new(ELSEWHERE),
        len: FILE_PAGES * PAGE,
        prot: Prot::READ | Prot::WRITE,
        flags: flags | MapFlags::FIXED,
        file: Some(subject.file),
        offset: 0,
    }
}

/// Returns how often touches of the second page of a mapping of the file fail, in turn.
fn touch(flags: MapFlags, accesses: &[AccessKind]) -> u64 {
    let map = |subject: &Subject<'_, '_>| {
        subject.call().mmap(&of_file(subject, flags)).unwrap();
    };
    let addr = VirtAddr::new(ELSEWHERE + PAGE);
    failures_after(map, Leaves::Nothing, |subject| accesses.iter().try_for_each(|&access| subject.fault(addr, access)))
}

#[test]
fn faults_on_mappings_of_files_fail_whole() {
    let (read, write) = (AccessKind::Read, AccessKind::Write);
    assert!(touch(MapFlags::PRIVATE, &[read]) >= 2, "tables and a page of the file");
    assert!(touch(MapFlags::PRIVATE, &[write]) >= 3, "a copy as well");
    assert!(touch(MapFlags::PRIVATE, &[read, write]) >= 3, "a copy as well");
    assert!(touch(MapFlags::SHARED, &[read]) >= 2, "tables and a page of the file");
    assert!(touch(MapFlags::SHARED, &[write]) >= 2, "tables and a page of the file");
}

#[test]
fn other_pages_of_a_file_are_shown_with_what_memory_there_is() {
    let map = |subject: &Subject<'_, '_>| {
        subject.call().mmap(&of_file(subject, MapFlags::SHARED)).unwrap();
    };
    let remap = |subject: &Subject<'_, '_>| {
        subject.call().remap_file_pages(VirtAddr::new(ELSEWHERE), PAGE, Prot::empty(), 2, MapFlags::empty())
    };
    assert_eq!(failures_after(map, Leaves::Nothing, remap), 0, "what cannot be populated comes with a fault");
}

#[test]
fn a_file_that_cannot_be_written_is_as_long_as_before() {
    let size = |subject: &Subject<'_, '_>| subject.manager.files(subject.cpu, PROCESS).stat(subject.file).unwrap().size;
    let append = |subject: &Subject<'_, '_>| {
        let before = size(subject);
        let written =
            subject.manager.files(subject.cpu, PROCESS).write(subject.file, FILE_PAGES * PAGE, &[7; 3 * PAGE as usize]);
        // What was written before memory ended counts.
        assert_eq!(size(subject), before + *written.as_ref().unwrap_or(&0) as u64);
        match written? {
            all if all == 3 * PAGE as usize => Ok(()),
            _ => {
                subject.manager.files(subject.cpu, PROCESS).set_size(subject.file, before).unwrap();
                Err(MmError::NoMemory)
            }
        }
    };
    assert!(failures(append) >= 3, "three pages");
    let allocate = |subject: &Subject<'_, '_>| {
        let before = size(subject);
        let files = subject.manager.files(subject.cpu, PROCESS);
        let allocated = files.allocate(subject.file, 0, (FILE_PAGES + 3) * PAGE, EndRule::Moves);
        assert_eq!(size(subject), if allocated.is_ok() { before + 3 * PAGE } else { before });
        allocated
    };
    assert!(failures(allocate) >= FILE_PAGES + 3, "every page");
}

/// What execve does to memory: an address space with the program's file and a stack with its arguments.
#[test]
fn the_address_space_of_a_new_program_is_made_whole_or_not_at_all() {
    let stack = VirtRange::new(VirtAddr::new(0x7fff_0000_0000), VirtAddr::new(0x7fff_0000_8000));
    let execute = |subject: &Subject<'_, '_>| {
        let (manager, cpu) = (subject.manager, subject.cpu);
        let layout = MmapLayout::new(manager.spaces().settings(), Direction::TopDown, 8 << 20);
        let mm = manager.mm_alloc(cpu, layout, ProgramRanges::default())?;
        let flags = VmFlags::READ | VmFlags::WRITE | VmFlags::MAYACCESS | VmFlags::GROWSDOWN | VmFlags::ACCOUNT;
        let pgoff = stack.start.raw() / PAGE;
        let vma = Vma { range: stack, flags, pgoff, file: None, anon: None, uffd: 0, name: None };
        let segment = of_file(subject, MapFlags::PRIVATE);
        let loaded = manager.call(cpu, &mm, PROCESS).mmap(&segment).map(drop);
        let loaded = loaded.and_then(|()| manager.call(cpu, &mm, PROCESS).insert_area(&vma));
        let written = [(VirtAddr::new(ELSEWHERE + PAGE), 100), (VirtAddr::new(stack.end.raw() - PAGE - 50), 100)];
        let loaded = loaded.and_then(|()| {
            written.iter().try_for_each(|&(addr, len)| {
                let bytes = vec![5; len];
                // A fault without memory is a bad address to who writes.
                manager.write_user(cpu, &mm, PROCESS, addr, &bytes).map_err(|_| MmError::NoMemory)
            })
        });
        manager.mmput(cpu, mm);
        loaded
    };
    assert!(failures(execute) >= 8, "a root, tables and pages");
}
