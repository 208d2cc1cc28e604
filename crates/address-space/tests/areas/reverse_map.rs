//! The reverse map against a look at every area of every process.

use std::collections::BTreeSet;

use proptest::prelude::*;
use units::{VirtAddr, VmFlags};

use crate::{Space, Spaces, fixed, objects};
use mmkit_address_space::*;

const BASE: u64 = 0x7000_0000_0000;
const PAGE: u64 = PAGE_SIZE;
const RW: Prot = Prot::READ.union(Prot::WRITE);
/// Most processes, and pages of the files and of the arena.
const PROCESSES: usize = 3;
const PAGES: u64 = 40;

#[derive(Clone, Copy, Debug)]
enum Step {
    MapFile { at: u64, len: u64, file: u64, offset: u64, shared: bool },
    Map(u64, u64),
    Write(u64),
    Unmap(u64, u64),
    Protect(u64, u64),
    Move(u64, u64, u64),
    Fork,
    Exit,
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let one =
        (0..12u8, 0..24u64, 1..9u64, 0..24u64, any::<bool>()).prop_map(|(kind, at, len, to, shared)| match kind {
            0..3 => Step::MapFile { at, len, file: 1 + to % 2, offset: to / 2, shared },
            3 | 4 => Step::Map(at, len),
            5 | 6 => Step::Write(at),
            7 => Step::Unmap(at, len),
            8 => Step::Protect(at, len),
            9 => Step::Move(at, len, 24 + to % 8),
            10 => Step::Fork,
            _ => Step::Exit,
        });
    prop::collection::vec((0..PROCESSES, one), 1..60)
}

fn at(page: u64) -> VirtAddr {
    VirtAddr::new(BASE + page * PAGE)
}

/// What a walk shows: the process, the address of the page, and the area.
type Shown = BTreeSet<(usize, u64, u64)>;

/// Looks at every area.
fn look(processes: &[Option<Space<'_, '_>>], fits: impl Fn(&Vma, u64) -> bool, page: u64) -> Shown {
    let mut shown = Shown::new();
    for (number, space) in processes.iter().enumerate().filter_map(|(n, space)| Some((n, space.as_ref()?))) {
        for vma in space.read().areas().filter(|vma| fits(vma, page)) {
            shown.insert((number, vma.start().raw() + (page - vma.pgoff) * PAGE, vma.start().raw()));
        }
    }
    shown
}

fn has_page(vma: &Vma, page: u64) -> bool {
    vma.pgoff <= page && page < vma.pgoff + vma.nr_pages()
}

/// Compares walks for every page of every file and family.
fn compare(spaces: &Spaces<'_>, cpu: &sync::Cpu, processes: &[Option<Space<'_, '_>>]) -> Result<(), TestCaseError> {
    let number_of = |mm: &Mm<'_>| {
        let same = |space: &Option<Space<'_, '_>>| {
            space.as_ref().is_some_and(|space| std::ptr::eq(&raw const *space.mm, std::ptr::from_ref(mm).cast()))
        };
        processes.iter().position(same).unwrap()
    };
    let note = |shown: &mut Shown, mapped: Mapped<'_, '_>| {
        assert_eq!(mapped.range.len(), PAGE);
        assert!(shown.insert((number_of(mapped.mm), mapped.range.start.raw(), mapped.vma.start().raw())));
    };
    for file in [1, 2].map(|file| FileId::new(file).unwrap()) {
        for page in 0..PAGES {
            let mut shown = Shown::new();
            spaces.for_each_file_area(cpu, file, page..=page, |mapped| note(&mut shown, mapped));
            let expected = look(processes, |vma, page| vma.file == Some(file) && has_page(vma, page), page);
            prop_assert_eq!(shown, expected, "page {} of {:?}", page, file);
        }
    }
    let areas = processes.iter().flatten().flat_map(|space| space.read().areas().collect::<Vec<_>>());
    let pages: BTreeSet<_> = areas
        .filter_map(|vma| Some((vma.anon?.root, vma)))
        .flat_map(|(root, vma)| (vma.pgoff..vma.pgoff + vma.nr_pages()).map(move |page| (root.raw(), page)))
        .collect();
    for (root, page) in pages {
        let root = AnonVmaId::new(root).unwrap();
        let mut shown = Shown::new();
        spaces.for_each_anon_area(cpu, root.family(), page..=page, |mapped| note(&mut shown, mapped));
        let is_of = |vma: &Vma, page| vma.anon.is_some_and(|anon| anon.root == root) && has_page(vma, page);
        prop_assert_eq!(shown, look(processes, is_of, page), "page {} of {:?}", page, root);
    }
    Ok(())
}

fn run(space: &mut Space<'_, '_>, step: Step) {
    let mut call = space.call();
    // What fails changes nothing, or what it changed is compared.
    let _ = match step {
        Step::MapFile { at: page, len, file, offset, shared } => {
            let kind = if shared { MapFlags::SHARED } else { MapFlags::PRIVATE };
            let (flags, file) = (kind | MapFlags::FIXED, FileId::new(file));
            let request = fixed(at(page).raw(), len * PAGE, RW);
            call.mmap(&MapRequest { flags, file, offset: offset * PAGE, ..request }).map(drop)
        }
        Step::Map(page, len) => call.mmap(&fixed(at(page).raw(), len * PAGE, RW)).map(drop),
        Step::Write(page) => call.area_for_access(at(page), Access::Write).map(drop),
        Step::Unmap(page, len) => call.munmap(at(page), len * PAGE),
        Step::Protect(page, len) => call.mprotect(at(page), len * PAGE, Prot::READ),
        Step::Move(page, len, to) => {
            let (flags, len) = (RemapFlags::MAYMOVE | RemapFlags::FIXED, len * PAGE);
            call.mremap(&RemapRequest { addr: at(page), old_len: len, new_len: len, flags, new_addr: at(to) }).map(drop)
        }
        Step::Fork | Step::Exit => Ok(()),
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_walk_shows_what_a_look_at_every_area_shows(steps in steps()) {
        let (objects, cpu) = objects(2048);
        let spaces = Spaces::new(&objects, &cpu, Settings::X86_64, CommitRules::for_ram(1 << 20)).unwrap();
        let mut processes: [Option<Space<'_, '_>>; PROCESSES] = [Some(Space::new(&spaces, &cpu)), None, None];
        for (number, step) in steps {
            let free = processes.iter().position(Option::is_none);
            match (processes[number].take(), step, free) {
                (Some(parent), Step::Fork, Some(free)) => {
                    let mut child = Space::new(&spaces, &cpu);
                    child.copy_of(&parent).unwrap();
                    processes[free] = Some(child);
                    processes[number] = Some(parent);
                }
                (Some(mut space), Step::Exit, _) if number > 0 => space.call().exit(),
                (Some(mut space), step, _) => {
                    run(&mut space, step);
                    processes[number] = Some(space);
                }
                (None, ..) => {}
            }
            compare(&spaces, &cpu, &processes)?;
        }
        for space in processes.iter_mut().flatten() {
            space.call().exit();
        }
        prop_assert_eq!(spaces.check_reverse_map(&cpu), Ok([0, 0]));
    }
}

#[test]
fn a_walk_meets_a_parent_before_its_child_and_may_keep_both() {
    let (objects, cpu) = objects(2048);
    let spaces = Spaces::new(&objects, &cpu, Settings::X86_64, CommitRules::for_ram(1 << 20)).unwrap();
    let [mut parent, mut child] = [Space::new(&spaces, &cpu), Space::new(&spaces, &cpu)];
    let file = FileId::new(5);
    let flags = MapFlags::SHARED | MapFlags::FIXED;
    parent.call().mmap(&MapRequest { flags, file, ..fixed(BASE, 8 * PAGE, RW) }).unwrap();
    child.copy_of(&parent).unwrap();
    let mut met = Vec::new();
    spaces.for_each_file_area(&cpu, file.unwrap(), 2..=u64::MAX, |mapped| {
        assert_eq!((mapped.range.start, mapped.range.end), (at(2), at(8)));
        assert!(mapped.vma.flags.contains(VmFlags::SHARED));
        met.push(mapped.mm.grab().unwrap());
    });
    let users: Vec<_> = met.iter().map(|mm| mm.get_not_zero().unwrap()).collect();
    assert!(users[0].is(&parent.mm) && users[1].is(&child.mm) && users.len() == 2);
    parent.call().exit();
    child.call().exit();
}
