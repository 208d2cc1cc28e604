//! Large pages among small ones, in every format: they stay whole where they can, and no page is lost where they cannot.

use std::collections::BTreeMap;

use mmkit_page_tables::{NoMemory, ZapWhat};
use object_allocator::mmu::{Found, UserTables};
use platform::{Arm64, Level, PageTableFormat, Prot, X86_64};
use proptest::prelude::*;
use units::{Order, Pfn, VirtAddr, VirtRange, VmFlags};

use crate::machine::{Objects, View, WRITE, end, everything, machine_of, map_at};

/// First address of the areas that are worked on: a border between two tables of the third level.
const BASE: u64 = 0x3fff_8000_0000;

const READ: VmFlags = VmFlags::READ.union(VmFlags::MAYWRITE);

fn page<F: PageTableFormat>(index: u64) -> VirtAddr {
    VirtAddr::new(BASE & !(F::leaf_bytes(Level::PMD) - 1)).saturating_add(index << F::PAGE_SHIFT)
}

fn pages<F: PageTableFormat>(first: u64, nr: u64) -> VirtRange {
    VirtRange::with_len(page::<F>(first), nr << F::PAGE_SHIFT)
}

/// Pages of a large page.
fn block<F: PageTableFormat>() -> u64 {
    F::leaf_bytes(Level::PMD) >> F::PAGE_SHIFT
}

/// A page as the model has it.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Page {
    pfn: Pfn,
    writable: bool,
    exclusive: bool,
}

type Model = BTreeMap<u64, Page>;

/// Returns what is mapped, page by page.
fn found<F: PageTableFormat>(view: &View<'_, F>) -> Model {
    let mut found = Model::new();
    view.for_each_mapped(everything::<F>(), |mapped| {
        let first = mapped.range.start.since(page::<F>(0)) >> F::PAGE_SHIFT;
        for index in 0..mapped.order.nr_pages() {
            let writable = mapped.attributes.prot.contains(Prot::WRITE);
            let here = Page { pfn: mapped.pfn.add(index), writable, exclusive: mapped.exclusive };
            assert_eq!(found.insert(first + index, here), None);
        }
    });
    found
}

/// Returns the number of entries that map a large page.
fn large_entries<F: PageTableFormat>(view: &View<'_, F>) -> usize {
    let mut large = 0;
    view.for_each_mapped(everything::<F>(), |mapped| large += usize::from(mapped.order > Order::ZERO));
    large
}

/// Checks that every page counts as many mappings and references as entries map it.
fn check_counts<F: PageTableFormat>(objects: &Objects<F>, views: &[View<'_, F>]) {
    let frames = &objects.pages().map().frames;
    let mut counts: BTreeMap<Pfn, u32> = BTreeMap::new();
    for view in views {
        view.for_each_mapped(everything::<F>(), |mapped| {
            *counts.entry(frames.compound_head(mapped.pfn).unwrap()).or_default() += 1;
        });
    }
    for (head, entries) in counts {
        let frame = frames.at(head);
        assert_eq!((frame.mapcount(), frame.count()), (entries, entries as i32), "of {head:?}");
    }
}

fn with_tables<F: PageTableFormat>(format: F, test: impl FnOnce(&Objects<F>, &View<'_, F>)) {
    let (objects, cpu) = machine_of(16 * block::<F>(), format);
    let before = objects.pages().check_invariants(&cpu).unwrap();
    let tables = UserTables::new();
    let view = View { mmu: objects.start_mmu(&cpu).unwrap().on(&cpu), tables: &tables };
    view.mmu.make_root(&tables).unwrap();
    test(&objects, &view);
    end(&view);
    assert_eq!((tables.rss().anon, tables.nr_tables()), (0, 0));
    assert_eq!(objects.pages().check_invariants(&cpu).unwrap(), before, "something is lost");
}

#[test]
fn a_split_page_is_mapped_by_its_parts_with_all_marks() {
    with_tables(X86_64::<4>, |objects, view| {
        let first = map_at(view, page::<X86_64<4>>(0), Level::PMD).unwrap();
        let before = found(view);
        let tables = view.tables.nr_tables();
        view.split_large(&mut view.mmu.gather(view.tables), page::<X86_64<4>>(77));
        assert_eq!(found(view), before);
        assert_eq!((large_entries(view), view.tables.nr_tables()), (0, tables), "the table was there");
        let mut dirty = 0;
        view.for_each_mapped(everything::<X86_64<4>>(), |page| {
            dirty += usize::from(page.attributes.prot.contains(Prot::DIRTY | Prot::ACCESSED));
        });
        assert_eq!(dirty, 512);
        let head = objects.pages().map().frames.at(first);
        assert_eq!((head.count(), head.mapcount()), (512, 512));
        assert_eq!(view.tables.rss().anon, 512);
    });
}

#[test]
fn a_zap_of_a_part_keeps_the_page_until_its_last_part_goes() {
    with_tables(X86_64::<4>, |objects, view| {
        let first = map_at(view, page::<X86_64<4>>(0), Level::PMD).unwrap();
        let zap = |range| {
            let mut gather = view.mmu.gather(view.tables);
            view.split_ends(&mut gather, range);
            view.zap(&mut gather, range, ZapWhat::All);
        };
        zap(pages::<X86_64<4>>(0, 511));
        let head = objects.pages().map().frames.at(first);
        assert_eq!((head.count(), head.mapcount(), view.tables.rss().anon), (1, 1, 1));
        assert_eq!(found(view).into_keys().collect::<Vec<_>>(), [511]);
        zap(pages::<X86_64<4>>(511, 1));
        assert_eq!(head.count(), 0);
    });
}

/// Takes all memory that is left.
fn hoard(view: &View<'_>) -> Vec<frame_table::OwnedBlock> {
    let pages = view.mmu.objects().pages();
    std::iter::from_fn(|| pages.alloc(view.mmu.cpu(), units::Gfp::KERNEL, Order::ZERO).ok()).collect()
}

fn give_back(view: &View<'_>, hoard: Vec<frame_table::OwnedBlock>) {
    hoard.into_iter().for_each(|block| view.mmu.objects().pages().free(view.mmu.cpu(), block));
}

#[test]
fn without_any_memory_a_large_page_is_split_and_moved_within_its_table() {
    with_tables(X86_64::<4>, |_, view| {
        map_at(view, page::<X86_64<4>>(0), Level::PMD).unwrap();
        map_at(view, page::<X86_64<4>>(512), Level::PMD).unwrap();
        let before = found(view);
        let hoard = hoard(view);
        let mut gather = view.mmu.gather(view.tables);
        view.split_large(&mut gather, page::<X86_64<4>>(3));
        assert_eq!((&found(view), large_entries(view)), (&before, 1));
        view.relocate(&mut gather, pages::<X86_64<4>>(512, 512), page::<X86_64<4>>(1024), 0).unwrap();
        view.split_ends(&mut gather, pages::<X86_64<4>>(1024, 3));
        assert_eq!((found(view).len(), large_entries(view)), (1024, 0));
        give_back(view, hoard);
    });
}

#[test]
fn a_move_that_needs_tables_fails_whole_without_memory() {
    with_tables(X86_64::<4>, |_, view| {
        map_at(view, page::<X86_64<4>>(0), Level::PMD).unwrap();
        let before = found(view);
        let hoard = hoard(view);
        let mut gather = view.mmu.gather(view.tables);
        let moved = view.relocate(&mut gather, pages::<X86_64<4>>(0, 512), page::<X86_64<4>>(1 << 20), 0);
        assert_eq!((moved, found(view), large_entries(view)), (Err(NoMemory), before, 1));
        give_back(view, hoard);
    });
}

#[test]
fn a_table_waits_for_each_large_page_wherever_it_moves() {
    with_tables(X86_64::<4>, |objects, view| {
        map_at(view, page::<X86_64<4>>(0), Level::PMD).unwrap();
        // The root's three levels below, and the one that waits.
        assert_eq!(view.tables.nr_tables(), 3);
        let far = page::<X86_64<4>>(1 << 20);
        view.relocate(&mut view.mmu.gather(view.tables), pages::<X86_64<4>>(0, 512), far, 0).unwrap();
        let waits_beside = |virt| {
            let walk = view.mmu.walk(view.tables).unwrap();
            let Some(Found::Entry(above)) = walk.find(virt, Level::PUD) else { panic!("there are tables") };
            let platform::Entry::Table(at) = platform::X86_64::<4>::decode(Level::PUD, above.load().raw()) else {
                panic!("there is a table")
            };
            let (frames, upper) = (&objects.pages().map().frames, at.pfn_down(12));
            let waiting = frames.withdraw(upper);
            waiting.into_iter().for_each(|table| frames.deposit(upper, table));
            waiting.is_some()
        };
        assert_eq!((waits_beside(page::<X86_64<4>>(0)), waits_beside(far)), (false, true));
        let tables = view.tables.nr_tables();
        let mut gather = view.mmu.gather(view.tables);
        view.zap(&mut gather, everything::<X86_64<4>>(), ZapWhat::All);
        assert_eq!((view.tables.nr_tables(), waits_beside(far)), (tables - 1, false));
    });
}

#[test]
fn a_fork_without_memory_for_the_table_that_waits_fails_and_copies_nothing() {
    with_tables(X86_64::<4>, |_, view| {
        map_at(view, page::<X86_64<4>>(0), Level::PMD).unwrap();
        let child = UserTables::new();
        view.mmu.make_root(&child).unwrap();
        let of_child = View { mmu: view.mmu, tables: &child };
        view.mmu.make_tables(&child, page::<X86_64<4>>(0), Level::PMD, units::Gfp::KERNEL).unwrap();
        let copy = || view.copy_to(&of_child, &mut view.mmu.gather(view.tables), pages::<X86_64<4>>(0, 512), WRITE);
        let hoard = hoard(view);
        assert_eq!((copy(), large_entries(&of_child), child.rss().anon), (Err(NoMemory), 0, 0));
        give_back(view, hoard);
        assert_eq!((copy(), large_entries(&of_child), child.nr_tables()), (Ok(()), 1, 3));
        end(&of_child);
    });
}

#[test]
fn a_large_page_moves_and_forks_whole_if_it_lies_alike() {
    with_tables(X86_64::<4>, |objects, view| {
        map_at(view, page::<X86_64<4>>(0), Level::PMD).unwrap();
        view.relocate(&mut view.mmu.gather(view.tables), pages::<X86_64<4>>(0, 600), page::<X86_64<4>>(512 * 4), 0)
            .unwrap();
        assert_eq!((large_entries(view), found(view).into_keys().next()), (1, Some(2048)));
        let child = UserTables::new();
        view.mmu.make_root(&child).unwrap();
        let of_child = View { mmu: view.mmu, tables: &child };
        view.copy_to(&of_child, &mut view.mmu.gather(view.tables), everything::<X86_64<4>>(), WRITE).unwrap();
        assert_eq!((large_entries(view), large_entries(&of_child), child.rss().anon), (1, 1, 512));
        assert!(found(view).values().all(|page| !page.writable && !page.exclusive));
        check_counts(objects, &[*view, of_child]);
        end(&of_child);
        view.relocate(&mut view.mmu.gather(view.tables), pages::<X86_64<4>>(2048, 512), page::<X86_64<4>>(1), 0)
            .unwrap();
        assert_eq!((large_entries(view), found(view).into_keys().next()), (0, Some(1)));
    });
}

/// One random operation: which one, a position, a length, another position.
type Step = (u8, u64, u64, u64);

/// Positions are mostly near borders of large pages.
fn step<F: PageTableFormat>() -> impl Strategy<Value = Step> {
    let block = block::<F>();
    let position =
        move || (0..4u64, 0..4u64, 0..3u64).prop_map(move |(at, quarter, off)| at * block + quarter * block / 4 + off);
    let len = prop_oneof![1..4u64, Just(block / 4), Just(block), Just(2 * block + 1)];
    (0u8..8, position(), len, position())
}

/// What a run works on.
struct Run<'a, F: PageTableFormat> {
    view: View<'a, F>,
    model: Model,
    forks: Vec<UserTables>,
}

impl<F: PageTableFormat> Run<'_, F> {
    fn apply(&mut self, (what, at, len, to): Step) {
        let block = block::<F>();
        match what {
            0 => self.map(at, Level::PTE, 1),
            1 | 2 => self.map(at - at % block, Level::PMD, block),
            3 => self.zap(at, len),
            4 => self.relocate(at, len, 8 * block + to),
            5 => self.fork(at, len),
            6 => self.protect(at, len, if to % 2 == 0 { READ } else { WRITE }),
            _ => self.view.split_large(&mut self.view.mmu.gather(self.view.tables), page::<F>(at)),
        }
    }

    fn map(&mut self, at: u64, level: Level, nr: u64) {
        if self.model.range(at..at + nr).next().is_none()
            && let Some(pfn) = map_at(&self.view, page::<F>(at), level)
        {
            let fresh = |index| (at + index, Page { pfn: pfn.add(index), writable: true, exclusive: true });
            self.model.extend((0..nr).map(fresh));
        }
    }

    fn zap(&mut self, at: u64, len: u64) {
        let mut gather = self.view.mmu.gather(self.view.tables);
        self.view.split_ends(&mut gather, pages::<F>(at, len));
        self.view.zap(&mut gather, pages::<F>(at, len), ZapWhat::All);
        self.model.retain(|index, _| !(at..at + len).contains(index));
    }

    fn relocate(&mut self, at: u64, len: u64, to: u64) {
        self.zap(to, len);
        self.view.relocate(&mut self.view.mmu.gather(self.view.tables), pages::<F>(at, len), page::<F>(to), 0).unwrap();
        let moved = |index: u64| if (at..at + len).contains(&index) { index - at + to } else { index };
        self.model = std::mem::take(&mut self.model).into_iter().map(|(index, page)| (moved(index), page)).collect();
    }

    fn fork(&mut self, at: u64, len: u64) {
        let child = UserTables::new();
        self.view.mmu.make_root(&child).unwrap();
        let of_child = View { mmu: self.view.mmu, tables: &child };
        self.view.copy_to(&of_child, &mut self.view.mmu.gather(self.view.tables), pages::<F>(at, len), WRITE).unwrap();
        for (_, page) in self.model.range_mut(at..at + len) {
            (page.writable, page.exclusive) = (false, false);
        }
        let expected: Model = self.model.range(at..at + len).map(|(at, page)| (*at, *page)).collect();
        assert_eq!(found(&of_child), expected);
        assert_eq!(child.rss().anon, expected.len() as u64);
        self.forks.push(child);
    }

    fn protect(&mut self, at: u64, len: u64, flags: VmFlags) {
        let mut gather = self.view.mmu.gather(self.view.tables);
        self.view.split_ends(&mut gather, pages::<F>(at, len));
        self.view.protect(&mut gather, pages::<F>(at, len), flags);
        for (_, page) in self.model.range_mut(at..at + len) {
            page.writable = flags.contains(VmFlags::WRITE) && page.exclusive;
        }
    }
}

/// Applies `steps` to tables and to a map of pages, which have to agree after each.
fn run<F: PageTableFormat>(format: F, steps: Vec<Step>) {
    with_tables(format, |objects, view| {
        let mut run = Run { view: *view, model: Model::new(), forks: Vec::new() };
        for step in steps {
            run.apply(step);
            assert_eq!(found(view), run.model, "after {step:?}");
            assert_eq!(view.tables.rss().anon, run.model.len() as u64);
        }
        let views: Vec<_> = run.forks.iter().map(|child| View { mmu: view.mmu, tables: child }).collect();
        check_counts(objects, &[&[*view], &views[..]].concat());
        views.iter().for_each(end);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn large_and_small_pages_agree_with_a_model(steps in proptest::collection::vec(step::<X86_64<4>>(), 1..24)) {
        run(X86_64::<4>, steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn five_levels_agree_with_a_model(steps in proptest::collection::vec(step::<X86_64<5>>(), 1..24)) {
        run(X86_64::<5>, steps);
    }

    #[test]
    fn arm64_with_16_kib_pages_agrees_with_a_model(steps in proptest::collection::vec(step::<Arm64<14, 47>>(), 1..16)) {
        run(Arm64::<14, 47>, steps);
    }

    #[test]
    fn arm64_with_64_kib_pages_agrees_with_a_model(steps in proptest::collection::vec(step::<Arm64<16, 48>>(), 1..12)) {
        run(Arm64::<16, 48>, steps);
    }
}

#[test]
fn a_gather_takes_nothing_out_of_another_address_space() {
    with_tables(X86_64::<4>, |_, view| {
        map_at(view, page::<X86_64<4>>(0), Level::PMD).unwrap();
        let other = UserTables::new();
        view.mmu.make_root(&other).unwrap();
        view.zap(&mut view.mmu.gather(&other), everything::<X86_64<4>>(), ZapWhat::All);
        assert_eq!(large_entries(view), 1, "whose flush would be missing");
        end(&View { mmu: view.mmu, tables: &other });
    });
}
