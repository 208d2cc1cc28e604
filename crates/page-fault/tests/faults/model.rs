//! Random accesses, unmappings, forks and changes of permissions of up to three address spaces against a model of bytes; and of the pages that were written to since
//! somebody watches.

use std::collections::BTreeSet;

use object_allocator::mmu::UserTables;
use proptest::prelude::*;

use crate::*;

const PAGES: u64 = 24;

#[derive(Clone, Copy, Debug)]
enum Step {
    Read(usize, u64),
    Write(usize, u64, u8),
    Zap(usize, u64, u64),
    Fork(usize, usize),
    /// To reading only, and back.
    Protect(usize),
    ClearMarks(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (space, page) = (0usize..3, 0..PAGES);
    prop_oneof![
        4 => (space.clone(), page.clone()).prop_map(|(space, page)| Step::Read(space, page)),
        4 => (space.clone(), page.clone(), 1u8..).prop_map(|(space, page, byte)| Step::Write(space, page, byte)),
        1 => (space.clone(), page, 1u64..8).prop_map(|(space, page, len)| Step::Zap(space, page, len)),
        1 => (space.clone(), space.clone()).prop_map(|(from, to)| Step::Fork(from, to)),
        1 => space.clone().prop_map(Step::Protect),
        1 => space.prop_map(Step::ClearMarks),
    ]
}

/// The bytes that a process should see: its own pages over those of the file.
#[derive(Clone, Default)]
struct Model {
    own: BTreeMap<u64, u8>,
    /// Pages with the mark of a write, where somebody watches.
    marked: BTreeSet<u64>,
}

/// Checks that the pages with the mark are those of the model, and that no other may be written without a fault.
fn check_marks(space: &Space<'_>, model: &Model) {
    let mut marked = BTreeSet::new();
    space.view.for_each_mapped(EVERYTHING, |page| {
        if page.attributes.prot.contains(Prot::SOFT_DIRTY) {
            marked.insert(page.range.start.since(at(0)) >> 12);
        }
        assert!(page.attributes.prot.contains(Prot::SOFT_DIRTY) || !page.attributes.prot.contains(Prot::WRITE));
    });
    assert_eq!(marked, model.marked);
}

fn protect(space: &Space<'_>, range: VirtRange, flags: VmFlags) {
    space.view.protect(&mut space.view.gather(), range, flags);
}

fn run(steps: Vec<Step>, flags: VmFlags, behind: Option<FileId>, tracking: WriteTracking) {
    let (objects, cpu) = machine(1024);
    let before = objects.pages().check_invariants(&cpu).unwrap();
    let mut files = Files::new(&objects, &cpu, PAGES);
    files.tracking = tracking;
    let tables = [const { UserTables::new() }; 3];
    let spaces = [0, 1, 2].map(|number| Space::new(&objects, &cpu, &tables[number], &files));
    let vma = area(flags, PAGES, behind);
    let mut models: [Model; 3] = Default::default();
    let mut shared: BTreeMap<u64, u8> = BTreeMap::new();
    let is_shared = flags.contains(VmFlags::SHARED);
    let is_watched = !flags.contains(VmFlags::SOFTDIRTY);
    for step in steps {
        match step {
            Step::Read(number, page) => {
                let of_file = if behind.is_some() { page as u8 + 1 } else { 0 };
                let source = if is_shared { &shared } else { &models[number].own };
                let expected = source.get(&page).copied().unwrap_or(of_file);
                assert_eq!(spaces[number].access(&vma, page, None).unwrap().0, expected);
            }
            Step::Write(number, page, byte) => {
                spaces[number].access(&vma, page, Some(byte)).unwrap();
                if is_shared { &mut shared } else { &mut models[number].own }.insert(page, byte);
                models[number].marked.insert(page);
            }
            Step::Zap(number, page, len) => {
                let (range, view) = (VirtRange::new(at(page), at((page + len).min(PAGES))), &spaces[number].view);
                view.zap(&mut view.mmu.gather(view.tables), range, ZapWhat::All);
                models[number].own.retain(|at, _| !(page..page + len).contains(at));
                models[number].marked.retain(|at| !(page..page + len).contains(at));
            }
            Step::Fork(from, to) if from != to => {
                let (parent, child) = (&spaces[from].view, &spaces[to].view);
                child.zap(&mut child.mmu.gather(child.tables), EVERYTHING, ZapWhat::All);
                parent.copy_to(child, &mut parent.mmu.gather(parent.tables), vma.range, vma.flags).unwrap();
                models[to] = models[from].clone();
            }
            Step::Fork(..) => {}
            Step::Protect(number) => {
                protect(&spaces[number], vma.range, flags - VmFlags::WRITE);
                protect(&spaces[number], vma.range, flags);
            }
            Step::ClearMarks(number) if is_watched => {
                check_marks(&spaces[number], &models[number]);
                spaces[number].view.clear_soft_dirty(&mut spaces[number].view.gather(), vma.range, flags);
                models[number].marked.clear();
            }
            Step::ClearMarks(_) => {}
        }
    }
    for (space, model) in spaces.iter().zip(&models) {
        if is_watched {
            check_marks(space, model);
        }
        let own = if is_shared { 0 } else { model.own.len() as u64 };
        assert_eq!(space.rss().anon, own);
        space.end();
        assert_eq!(space.rss(), Rss::default());
    }
    files.end();
    assert_eq!(objects.pages().check_invariants(&cpu).unwrap(), before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn anonymous_memory_is_what_each_process_wrote(steps in proptest::collection::vec(step(), 1..120)) {
        run(steps.clone(), WRITE, None, WriteTracking::None);
        run(steps, WRITE - VmFlags::SOFTDIRTY, None, WriteTracking::None);
    }

    #[test]
    fn private_copies_lie_over_the_file(steps in proptest::collection::vec(step(), 1..120)) {
        run(steps.clone(), WRITE, Some(file()), WriteTracking::None);
        run(steps, WRITE - VmFlags::SOFTDIRTY, Some(file()), WriteTracking::None);
    }

    #[test]
    fn shared_memory_is_the_same_for_all(steps in proptest::collection::vec(step(), 1..120)) {
        for tracking in [WriteTracking::None, WriteTracking::FirstWrite] {
            run(steps.clone(), SHARED, Some(file()), tracking);
            run(steps.clone(), SHARED - VmFlags::SOFTDIRTY, Some(file()), tracking);
        }
    }
}
