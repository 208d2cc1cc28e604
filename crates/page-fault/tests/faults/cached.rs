//! Faults on files of the page cache: what a process sees through its mapping, and what others see of it.

use address_space::{CommitRules, Overcommit, Process, Reserve};
use object_allocator::mmu::UserTables;
use page_cache::{FileCall, FileKind, Files};
use page_tables::ZapWhat;

use crate::*;

const PAGE: u64 = 4096;

type Call<'a, 'k> = FileCall<'a, 'k, HeapMemory, NoPressure>;

/// A process that maps a file of the page cache.
struct Mapping<'a, 'k> {
    view: View<'a>,
    call: &'a Call<'a, 'k>,
    vma: Vma,
}

impl Mapping<'_, '_> {
    fn fault(&self, page: u64, access: AccessKind) -> Result<FaultAction, FaultError> {
        let context = FaultContext { pages: self.view, files: self.call, huge: huge(HugePolicy::Never) };
        context.make_possible(&self.vma, at(page), access)
    }

    /// Writes a byte through the entry, as a processor does.
    fn store(&self, page: u64, offset: usize, value: u8) {
        self.fault(page, AccessKind::Write).unwrap();
        let walk = self.view.mmu.walk(self.view.tables).unwrap();
        let (held, _) = self.view.mmu.page(&walk.pte(at(page)).unwrap()).unwrap();
        drop(walk);
        PageBytes::new(self.view.mmu.objects().pages().platform(), &held, 12).unwrap().write(offset, &[value]);
        self.view.mmu.put(held);
    }

    fn end(&self) {
        let mut gather = self.view.mmu.gather(self.view.tables);
        self.view.zap(&mut gather, EVERYTHING, ZapWhat::All);
        self.view.free_tables(&mut gather, EVERYTHING, Bounds::NONE);
        gather.free_root();
    }
}

/// Runs `test` with a file of 8 pages and a process that maps it with `flags`.
fn with_mapping(kind: FileKind<'static>, flags: VmFlags, test: impl FnOnce(&Mapping<'_, '_>, FileId)) {
    let (objects, cpu) = machine(2048);
    let (commit, process) = (Overcommit::new(CommitRules::for_ram(1 << 20)), Process::default());
    let files = Files::new(&objects, &cpu).unwrap();
    let call = Call { files: &files, cpu: &cpu, commit: &commit, process: &process, total_vm: 0 };
    let file = call.create(kind, 8 * PAGE).unwrap();
    let tables = UserTables::new();
    let view = View { mmu: objects.start_mmu(&cpu).unwrap().on(&cpu), tables: &tables };
    view.mmu.make_root(&tables).unwrap();
    let mapping = Mapping { view, call: &call, vma: area(flags, 20, Some(file)) };
    test(&mapping, file);
    mapping.end();
    assert_eq!(tables.rss(), Rss::default());
    call.check_invariants(file).unwrap();
    call.put(file).unwrap();
    assert_eq!(commit.committed(), 0);
}

#[test]
fn a_shared_write_is_read_from_the_file_and_counted_as_shmem() {
    with_mapping(FileKind::Shmem(Reserve::OnUse), SHARED, |mapping, file| {
        mapping.store(3, 7, 0x5a);
        let mut bytes = [0; 2];
        mapping.call.read(file, 3 * PAGE + 7, &mut bytes).unwrap();
        assert_eq!(bytes, [0x5a, 0]);
        assert_eq!((mapping.view.tables.rss().shmem, mapping.view.tables.rss().file), (1, 0));
    });
}

#[test]
fn a_private_write_leaves_the_file_as_it_is() {
    with_mapping(FileKind::Regular, WRITE, |mapping, file| {
        mapping.call.write(file, 0, b"text").unwrap();
        mapping.store(0, 0, b'T');
        let mut bytes = [0; 4];
        mapping.call.read(file, 0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"text");
        assert_eq!((mapping.view.tables.rss().anon, mapping.view.tables.rss().file), (1, 0));
    });
}

#[test]
fn neighbours_in_memory_are_mapped_with_a_page_that_is_read() {
    with_mapping(FileKind::Regular, VmFlags::READ, |mapping, file| {
        mapping.call.write(file, PAGE, &[1; 3 * 4096]).unwrap();
        mapping.fault(2, AccessKind::Read).unwrap();
        assert_eq!(mapping.view.tables.rss().file, 3);
    });
}

#[test]
fn a_touch_behind_the_end_is_a_bus_error_also_after_the_file_was_cut() {
    with_mapping(FileKind::Shmem(Reserve::OnUse), SHARED, |mapping, file| {
        assert_eq!(mapping.fault(8, AccessKind::Read), Err(FaultError::NoPage));
        mapping.store(5, 0, 1);
        // As truncate does: out of the tables, then out of the file.
        let mut gather = mapping.view.mmu.gather(mapping.view.tables);
        mapping.view.zap(&mut gather, VirtRange::new(at(2), at(20)), ZapWhat::All);
        drop(gather);
        mapping.call.set_size(file, 2 * PAGE).unwrap();
        assert_eq!(mapping.fault(5, AccessKind::Write), Err(FaultError::NoPage));
        assert_eq!(mapping.call.stat(file).unwrap().nr_pages, 0);
    });
}

#[test]
fn a_page_that_leaves_its_file_while_it_is_mapped_is_uncounted_as_it_was_counted() {
    with_mapping(FileKind::Shmem(Reserve::OnUse), SHARED, |mapping, file| {
        mapping.store(1, 0, 1);
        mapping.call.punch_hole(file, PAGE, PAGE).unwrap();
        assert_eq!(mapping.view.tables.rss().shmem, 1);
    });
}
