//! An address space that two CPUs use: locks of areas, users and references.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sync::Cpu;
use units::{VirtAddr, VirtRange, VmFlags};

use crate::{Files, Space, Spaces, fixed, objects, objects_for};
use mmkit_address_space::*;

const RW: Prot = Prot::READ.union(Prot::WRITE);
const BASE: u64 = 0x7000_0000_0000;
const PAGE: u64 = PAGE_SIZE;

fn at(page: u64) -> VirtAddr {
    VirtAddr::new(BASE + page * PAGE)
}

/// Runs `test` with an address space of CPU 0 that has `pages` pages at [`BASE`] and those far above, and another CPU.
fn with_two_cpus(test: impl FnOnce(&mut Space<'_, '_>, &Cpu)) {
    let (objects, [zero, one]) = objects_for(2048);
    let spaces = Spaces::new(&objects, &zero, Settings::X86_64, CommitRules::for_ram(1 << 20)).unwrap();
    let mut space = Space::new(&spaces, &zero);
    space.call().mmap(&fixed(BASE, 8 * PAGE, RW)).unwrap();
    space.call().mmap(&fixed(at(100).raw(), 8 * PAGE, Prot::READ)).unwrap();
    test(&mut space, &one);
    space.check();
    space.call().exit();
}

fn lock(space: &Space<'_, '_>, cpu: &Cpu, page: u64) -> Option<VirtRange> {
    space.mm.lock_area(cpu, at(page)).map(|area| area.vma().range)
}

/// Empties an address space that has no other user, and returns the users' reference.
fn exit<'k, B: PageTables + Pager>(spaces: &Spaces<'k>, cpu: &Cpu, mm: MmRef<'k>, backing: B) -> MmGrab<'k> {
    let (last, process) = (mm.put().expect("the last user"), Process::default());
    Call { mm: last.write(cpu), spaces, cpu, process: &process, backing }.exit();
    last
}

#[test]
fn an_area_is_locked_by_any_address_in_it_and_by_no_other() {
    with_two_cpus(|space, cpu| {
        let whole = Some(VirtRange::new(at(0), at(8)));
        assert_eq!([0, 7].map(|page| lock(space, cpu, page)), [whole, whole]);
        assert_eq!([8, 99].map(|page| lock(space, cpu, page)), [None, None]);
    });
}

#[test]
fn a_call_keeps_faults_from_what_it_changes_until_it_ends() {
    with_two_cpus(|space, cpu| {
        let mm = space.mm.get();
        let lock = |page| mm.lock_area(cpu, at(page)).map(|area| area.vma().range);
        let mut call = space.call();
        assert!(lock(0).is_some(), "nothing is changed yet");
        call.mprotect(at(2), 2 * PAGE, Prot::READ).unwrap();
        assert_eq!([0, 2, 4].map(&lock), [None; 3]);
        assert!(lock(100).is_some(), "another area stays open");
        let Call { mm: written, .. } = call;
        let read = written.downgrade();
        assert_eq!([0, 2, 4].map(&lock), [(0, 2), (2, 4), (4, 8)].map(|(a, b)| Some(VirtRange::new(at(a), at(b)))));
        drop(read);
        assert!(mm.put().is_none(), "the address space has another user");
    });
}

#[test]
fn what_was_unmapped_is_not_locked_even_where_its_object_serves_again() {
    with_two_cpus(|space, cpu| {
        space.call().munmap(at(0), 8 * PAGE).unwrap();
        assert_eq!(lock(space, cpu, 0), None);
        let mut other = Space::new(space.spaces, space.cpu);
        other.call().mmap(&fixed(BASE, PAGE, RW)).unwrap();
        assert_eq!((lock(space, cpu, 0), lock(&other, cpu, 0).is_some()), (None, true));
        other.call().exit();
    });
}

#[test]
fn a_fault_that_has_its_area_alone_does_not_wait_for_a_call_to_prepare_it() {
    with_two_cpus(|space, cpu| {
        let mut area = space.mm.lock_area(cpu, at(0)).unwrap();
        let call = space.mm.write(space.cpu);
        assert_eq!(area.prepare_anon(space.spaces, cpu), Err(PrepareError::Retry));
        drop(call);
        let anon = area.prepare_anon(space.spaces, cpu).unwrap().anon;
        assert_eq!(anon.map(|anon| anon.links), Some(1));
        assert_eq!(area.prepare_anon(space.spaces, cpu).unwrap().anon, anon);
        drop(area);
        let area = space.read().lookup(at(0)).unwrap();
        assert_eq!(space.read().prepare_anon(space.spaces, space.cpu, &area).unwrap().anon, anon);
    });
}

#[test]
fn a_fault_shares_the_anon_vma_of_a_neighbour_that_differs_in_permissions_only() {
    with_two_cpus(|space, cpu| {
        space.call().mprotect(at(0), 4 * PAGE, RW | Prot::EXEC).unwrap();
        let prepare = |page| space.mm.lock_area(cpu, at(page)).unwrap().prepare_anon(space.spaces, cpu).unwrap().anon;
        let first = prepare(4);
        assert_eq!(prepare(0), first);
        assert_ne!(prepare(100), first);
    });
}

#[test]
fn the_last_user_empties_an_address_space_and_the_last_reference_frees_it() {
    let (objects, cpu) = objects(2048);
    let spaces = Spaces::new(&objects, &cpu, Settings::X86_64, CommitRules::for_ram(1 << 20)).unwrap();
    let mut space = Space::new(&spaces, &cpu);
    space.call().mmap(&fixed(BASE, 8 * PAGE, RW)).unwrap();
    let Space { mm, mut files, .. } = space;
    let reference = mm.grab();
    let user = reference.get_not_zero().unwrap();
    assert_eq!((user.users(), user.is(&mm)), (2, true));
    assert!(user.put().is_none(), "one user is left");
    spaces.mmdrop(&cpu, exit(&spaces, &cpu, mm, &mut files), |_| unreachable!("a reference is left"));
    assert_eq!(files.gathers.len(), 1);
    assert_eq!(spaces.overcommit().committed(), 0);
    assert!(reference.get_not_zero().is_none());
    let mut released = 0;
    spaces.mmdrop(&cpu, reference.grab(), |_| released += 1);
    assert_eq!(released, 0);
    spaces.mmdrop(&cpu, reference, |_| released += 1);
    assert_eq!(released, 1);
    assert!(spaces.init_mm().get_not_zero().is_none());
}

/// Marks pages that are mapped, as page tables would: bit n for page n.
struct Marks<'a>(&'a AtomicU64, Files);

impl PageTables for &mut Marks<'_> {
    fn begin_unmap(&mut self) {}
    fn unmap(&mut self, _: &Vma, range: VirtRange) {
        for page in range.start.since(at(0)) / PAGE..range.end.since(at(0)) / PAGE {
            self.0.fetch_and(!(1 << page), Ordering::Relaxed);
        }
    }
    fn free_tables(&mut self, _: VirtRange, _: VirtRange) {}
    fn end_unmap(&mut self) {}
    fn copy(&mut self, _: &Vma, _: &Vma) -> Result<(), MmError> {
        Ok(())
    }
    fn protect(&mut self, _: &Vma, _: VirtRange) {}
    fn soft_dirty(&self) -> VmFlags {
        VmFlags::SOFTDIRTY
    }
    fn clear_marks(&mut self, _: &mut dyn Iterator<Item = Vma>, _: PageMark) {}
    fn relocate(&mut self, _: &Vma, _: VirtRange, _: &Vma, _: VirtAddr, _: u64) -> Result<(), MmError> {
        Ok(())
    }
    fn advise(&mut self, _: &Vma, _: VirtRange, _: PageAdvice) -> Result<(), MmError> {
        Ok(())
    }
    fn populate(&mut self, _: &Vma, _: VirtRange, _: Access) -> Result<(), MmError> {
        Ok(())
    }
    fn residency(&mut self, _: &Vma, _: VirtRange, _: &mut [u8]) {}
}

impl Pager for &mut Marks<'_> {
    fn facts(&self, file: FileId) -> Result<FileFacts, MmError> {
        Err(MmError::BadFile).inspect_err(|_| assert!(file.raw() != 0))
    }
    fn shared_anonymous(&mut self, _: u64, _: Reserve) -> Result<FileId, MmError> {
        Err(MmError::NoMemory)
    }
    fn open(&mut self, file: FileId) {
        (&mut self.1).open(file);
    }
    fn close(&mut self, file: FileId) {
        (&mut self.1).close(file);
    }
    fn sync(&mut self, _: FileId, _: u64, _: u64) -> Result<(), MmError> {
        Ok(())
    }
    fn punch_hole(&mut self, _: FileId, _: u64, _: u64) -> Result<(), MmError> {
        Ok(())
    }
}

/// Faults on `mm` until `stop`: marks pages of areas that it locked, and sees that nobody takes a mark from under it.
fn fault(mm: &MmRef<'_>, cpu: &Cpu, marks: &AtomicU64, stop: &AtomicBool, locked: &AtomicU64) {
    let mut page = 0;
    while !stop.load(Ordering::Relaxed) {
        page = (page * 5 + 7) % 32;
        let Some(area) = mm.lock_area(cpu, at(page)) else { continue };
        assert!(area.vma().range.contains(at(page)));
        assert!(area.vma().flags.contains(VmFlags::READ));
        marks.fetch_or(1 << page, Ordering::Relaxed);
        for _ in 0..20 {
            std::hint::spin_loop();
            assert!(marks.load(Ordering::Relaxed) & 1 << page != 0, "nothing is unmapped from a locked area");
        }
        locked.fetch_add(1, Ordering::Relaxed);
    }
}

/// Stops the faults when it goes.
struct Stopped<'a>(&'a AtomicBool);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn faults_and_calls_on_two_cpus_leave_no_page_behind() {
    let (objects, [zero, one]) = objects_for(2048);
    let spaces: Spaces<'_> = Spaces::new(&objects, &zero, Settings::X86_64, CommitRules::for_ram(1 << 20)).unwrap();
    let mm = Space::new(&spaces, &zero).mm;
    let (marks, stop, locked) = (AtomicU64::new(0), AtomicBool::new(false), AtomicU64::new(0));
    let mut backing = Marks(&marks, Files::default());
    let process = Process::default();
    std::thread::scope(|scope| {
        let (mm, marks, stop, locked) = (&mm, &marks, &stop, &locked);
        // Also if a check below fails, or the scope would wait forever.
        let ended = Stopped(stop);
        let faults = scope.spawn(move || fault(mm, &one, marks, stop, locked));
        // On a loaded machine the other thread may not have run yet.
        let enough = |round| round >= 9_000 && (locked.load(Ordering::Relaxed) > 100 || round > 9_000_000);
        for round in (0..).take_while(|&round| !enough(round)) {
            let (mm, backing) = (mm.write(&zero), &mut backing);
            let mut call = Call { mm, spaces: &spaces, cpu: &zero, process: &process, backing };
            match round % 3 {
                0 => drop(call.mmap(&fixed(at(round % 7).raw(), 24 * PAGE, RW)).unwrap()),
                // The area of the round before covers it.
                1 => call.mprotect(at(round % 11 + 7), 4 * PAGE, Prot::READ).unwrap(),
                _ => call.munmap(at(round % 13), 5 * PAGE).unwrap(),
            }
        }
        drop(ended);
        faults.join().unwrap();
    });
    assert!(locked.into_inner() > 100, "faults found areas");
    spaces.mmdrop(&zero, exit(&spaces, &zero, mm, &mut backing), |_| ());
    assert_eq!(marks.load(Ordering::Relaxed), 0);
}
