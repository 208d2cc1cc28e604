//! Direct maps of random machines, checked leaf by leaf; errors; recorded shapes.

extern crate std;
use std::collections::BTreeMap;
use std::string::String;
use std::vec::Vec;

use platform::{Arm64, Attributes, Level, PageTableFormat, X86_64};
use proptest::prelude::*;
use units::PhysRange;

use super::*;

/// Tables by address, taken downwards from the end of memory as memblock does.
#[derive(Default)]
pub(super) struct Tables {
    entries: BTreeMap<(u64, usize), u64>,
    pub(super) taken: u64,
    pub(super) limit: u64,
    page: u64,
}

const TOP: u64 = 1 << 45;

impl Tables {
    pub(super) fn new<F: PageTableFormat>(limit: u64) -> Self {
        Self { limit, page: 1 << F::PAGE_SHIFT, ..Self::default() }
    }
}

impl TableMemory for Tables {
    fn alloc_table(&mut self) -> Option<PhysAddr> {
        self.taken += 1;
        (self.taken <= self.limit).then(|| PhysAddr::new(TOP - self.taken * self.page))
    }

    fn read_entry(&self, table: PhysAddr, index: usize) -> u64 {
        self.entries.get(&(table.raw(), index)).copied().unwrap_or(0)
    }

    fn write_entry(&mut self, table: PhysAddr, index: usize, entry: u64) {
        assert!((index as u64) < self.page / 8, "index {index} is outside a table");
        self.entries.insert((table.raw(), index), entry);
    }
}

fn range(start: u64, end: u64) -> PhysRange {
    PhysRange::new(PhysAddr::new(start), PhysAddr::new(end))
}

struct Mapped<F: PageTableFormat> {
    memory: Tables,
    tables: PageTables<F>,
    direct: DirectMap,
}

fn map<F: PageTableFormat>(ranges: &[PhysRange], largest: Level) -> Result<Mapped<F>, MapError> {
    let start = ranges.first().map(|range| range.start).unwrap_or_default();
    let mut memory = Tables::new::<F>(u64::MAX);
    let direct = DirectMap::new::<F>(start);
    let mut tables = PageTables::<F>::alloc(&mut memory)?;
    tables.map_direct(&mut memory, &direct, ranges.iter().copied(), Attributes::KERNEL_DATA, largest)?;
    Ok(Mapped { memory, tables, direct })
}

/// Ascending ranges with borders at, and a page beside, multiples of leaf sizes.
fn any_ranges<F: PageTableFormat>() -> impl Strategy<Value = Vec<PhysRange>> {
    let page = 1u64 << F::PAGE_SHIFT;
    let step = (0u64..4, 0u64..4, 0u64..3, 0u64..2 * page);
    let step = step.prop_map(move |(large, middle, small, odd)| {
        let odd = if odd % 3 == 0 { odd } else { 0 };
        (large / 2) * F::leaf_bytes(F::LARGEST_LEAF) + middle * F::leaf_bytes(Level::PMD) + small * page + odd
    });
    prop::collection::vec((step.clone(), step), 1..6).prop_map(|steps| {
        let mut at = 0;
        let mut ranges = Vec::new();
        for (gap, len) in steps {
            ranges.push(range(at + gap, at + gap + len));
            at += gap + len;
        }
        ranges
    })
}

/// The whole pages of each range, joined where they touch: what has to be mapped.
fn expected<F: PageTableFormat>(ranges: &[PhysRange]) -> Vec<PhysRange> {
    let mut joined: Vec<PhysRange> = Vec::new();
    for pages in ranges.iter().map(|range| range.whole_frames(F::PAGE_SHIFT)).filter(|pages| !pages.is_empty()) {
        let pages = pages.phys(F::PAGE_SHIFT);
        match joined.last_mut() {
            Some(last) if last.end == pages.start => last.end = pages.end,
            _ => joined.push(pages),
        }
    }
    joined
}

fn check_direct_map<F: PageTableFormat>(ranges: &[PhysRange], largest: Level) {
    let mapped = map::<F>(ranges, largest).unwrap();
    let expected = expected::<F>(ranges);
    let mut leaves = Vec::new();
    mapped.tables.for_each_leaf(&mapped.memory, |virt, leaf| leaves.push((virt, leaf)));

    let mut covered: Vec<PhysRange> = Vec::new();
    for &(virt, leaf) in &leaves {
        assert_eq!(mapped.direct.phys_to_virt(leaf.phys), Some(virt));
        let end = leaf.phys.raw() + F::leaf_bytes(leaf.level);
        match covered.last_mut() {
            Some(last) if last.end == leaf.phys => last.end = PhysAddr::new(end),
            _ => covered.push(range(leaf.phys.raw(), end)),
        }
    }
    assert_eq!(covered, expected, "leaves cover what was asked for, and nothing else");

    for &(virt, leaf) in &leaves {
        let room = expected.iter().find(|range| range.contains(leaf.phys)).unwrap();
        check_leaf_is_maximal::<F>(virt, leaf, *room, largest);
    }
    for range in &expected {
        check_translations(&mapped, *range);
    }
    check_dump(&mapped, &expected);
}

/// No leaf one level up would start in the same place, or hold this one, and stay inside `room`.
fn check_leaf_is_maximal<F: PageTableFormat>(virt: VirtAddr, leaf: Translation, room: PhysRange, largest: Level) {
    let larger = [Level::PMD, Level::PUD].into_iter().find(|level| level.down() == Some(leaf.level));
    let Some(larger) = larger.filter(|&level| level <= largest && level <= F::LARGEST_LEAF) else { return };
    let bytes = F::leaf_bytes(larger);
    let start = leaf.phys.align_down(bytes);
    let fits = room.start <= start && start.raw() + bytes <= room.end.raw();
    assert!(!fits, "{virt:?} is mapped by {} but a {larger} fits", leaf.level);
}

fn check_translations<F: PageTableFormat>(mapped: &Mapped<F>, range: PhysRange) {
    let page = 1u64 << F::PAGE_SHIFT;
    let middle = range.start.raw() + range.len() / 2;
    for phys in [range.start.raw(), range.start.raw() + page - 1, middle, middle + 12345 % page, range.end.raw() - 1] {
        let phys = PhysAddr::new(phys.min(range.end.raw() - 1));
        let virt = mapped.direct.phys_to_virt(phys).unwrap();
        assert_eq!(mapped.direct.virt_to_phys(virt), Some(phys));
        assert_eq!(mapped.tables.walk(&mapped.memory, virt).map(|found| found.phys), Some(phys));
    }
}

fn check_dump<F: PageTableFormat>(mapped: &Mapped<F>, expected: &[PhysRange]) {
    let mut runs = Vec::new();
    mapped.tables.for_each_run(&mapped.memory, |run| runs.push(run));
    let bytes: u64 = runs.iter().map(|run| run.bytes).sum();
    assert_eq!(bytes, expected.iter().map(|range| range.len()).sum::<u64>());
    for pair in runs.windows(2) {
        assert!(pair[0].start.raw() + pair[0].bytes <= pair[1].start.raw());
        assert!(
            pair[0].start.raw() + pair[0].bytes < pair[1].start.raw() || pair[0].level != pair[1].level,
            "equal runs fold"
        );
    }
    let mut text = String::new();
    mapped.tables.dump(&mapped.memory, &mut text).unwrap();
    assert_eq!(text.lines().count(), runs.len());
}

#[test]
fn a_pc_is_mapped_with_small_pages_at_the_edges() {
    let ram = [range(0x1000, 0x9f000), range(0x10_0000, 0xbffe_0000), range(0x1_0000_0000, 0x1_4000_0000)];
    let mapped = map::<X86_64<4>>(&ram, Level::PUD).unwrap();
    let mut text = String::new();
    mapped.tables.dump(&mapped.memory, &mut text).unwrap();
    assert_eq!(
        text,
        "\
0xffff888000001000-0xffff88800009f000       632K     RW NX GLB normal pte
0xffff888000100000-0xffff888000200000         1M     RW NX GLB normal pte
0xffff888000200000-0xffff888040000000      1022M     RW NX GLB normal pmd
0xffff888040000000-0xffff888080000000         1G     RW NX GLB normal pud
0xffff888080000000-0xffff8880bfe00000      1022M     RW NX GLB normal pmd
0xffff8880bfe00000-0xffff8880bffe0000      1920K     RW NX GLB normal pte
0xffff888100000000-0xffff888140000000         1G     RW NX GLB normal pud
"
    );
}

#[test]
fn a_processor_without_1_gib_pages_gets_2_mib_ones() {
    let mapped = map::<X86_64<5>>(&[range(0, 2 << 30)], Level::PMD).unwrap();
    let virt = mapped.direct.phys_to_virt(PhysAddr::new(1 << 30)).unwrap();
    assert_eq!(virt.raw(), 0xff11_0000_4000_0000);
    assert_eq!(mapped.tables.walk(&mapped.memory, virt).map(|found| found.level), Some(Level::PMD));
}

#[test]
fn an_arm64_direct_map_starts_where_memory_starts() {
    let mapped = map::<Arm64<16, 48>>(&[range(1 << 30, 9 << 30)], Level::PUD).unwrap();
    assert_eq!(mapped.direct.phys_to_virt(PhysAddr::new(1 << 30)), Some(VirtAddr::new(0xffff_0000_0000_0000)));
    assert_eq!(mapped.direct.phys_to_virt(PhysAddr::new((1 << 30) - 1)), None);
    assert_eq!(mapped.memory.taken, 2, "the root and one table of 512 MiB blocks");
}

#[test]
fn tables_are_taken_from_the_root_down_and_upwards_in_address() {
    let mapped = map::<Arm64<12, 48>>(&[range(0x4000_0000, 0x5000_0000)], Level::PTE).unwrap();
    assert_eq!(mapped.memory.taken, 1 + 1 + 1 + 128);
    let table_of = |at: u64| {
        let virt = mapped.direct.phys_to_virt(PhysAddr::new(at)).unwrap();
        let tables: Vec<_> = mapped
            .memory
            .entries
            .iter()
            .filter(|(_, entry)| **entry & 0xffff_ffff_f000 == at)
            .map(|((table, _), _)| *table)
            .collect();
        assert!(mapped.tables.walk(&mapped.memory, virt).is_some());
        tables[0]
    };
    assert_eq!(table_of(0x4000_0000), TOP - 4 * 4096);
    assert_eq!(table_of(0x4fff_f000), TOP - 131 * 4096);
}

#[test]
fn what_is_mapped_is_not_mapped_again() {
    let mut mapped = map::<X86_64<4>>(&[range(0, 4 << 20)], Level::PMD).unwrap();
    for again in [range(0x1000, 0x2000), range(0, 4 << 20), range(2 << 20, 4 << 20)] {
        let result =
            mapped.tables.map_direct(&mut mapped.memory, &mapped.direct, [again], Attributes::KERNEL_DATA, Level::PUD);
        assert!(matches!(result, Err(MapError::AlreadyMapped(_))), "{again:?}");
    }
}

#[test]
fn mappings_that_cannot_be_are_refused() {
    let mut memory = Tables::new::<X86_64<4>>(u64::MAX);
    let mut tables = PageTables::<X86_64<4>>::alloc(&mut memory).unwrap();
    let mut try_map = |virt, start, end| {
        tables.map(&mut memory, VirtAddr::new(virt), range(start, end), Attributes::KERNEL_CODE, Level::PUD)
    };
    assert!(matches!(try_map(0x1800, 0x1000, 0x2000), Err(MapError::Unaligned(_))));
    assert!(matches!(try_map(0x8000_0000_0000, 0, 0x1000), Err(MapError::OutsideAddressSpace(_))));
    assert!(matches!(try_map(0x7fff_ffff_f000, 0, 0x2000), Err(MapError::OutsideAddressSpace(_))));
    assert!(matches!(try_map(0xffff_ffff_ffff_f000, 0, 0x2000), Err(MapError::OutsideAddressSpace(_))));
    assert!(matches!(try_map(0, 1 << 52, (1 << 52) + 0x1000), Err(MapError::PhysTooHigh(_))));
    assert_eq!(try_map(0xffff_ffff_ffff_f000, 0, 0x1000), Ok(()));
    assert_eq!(try_map(0x1000, 0, 0), Ok(()));
}

#[test]
fn running_out_of_memory_at_any_table_is_an_error_and_keeps_what_is_mapped() {
    let ram = [range(0x1000, 0x40_3000), range(0x8000_0000, 0x8000_1000)];
    let needed = map::<X86_64<4>>(&ram, Level::PMD).unwrap().memory.taken;
    for limit in 1..needed {
        let mut memory = Tables::new::<X86_64<4>>(limit);
        let direct = DirectMap::new::<X86_64<4>>(PhysAddr::ZERO);
        let mut tables = PageTables::<X86_64<4>>::alloc(&mut memory).unwrap();
        assert_eq!(
            tables.map_direct(&mut memory, &direct, ram, Attributes::KERNEL_DATA, Level::PMD),
            Err(MapError::OutOfMemory)
        );
        tables.for_each_leaf(&memory, |virt, leaf| assert_eq!(direct.virt_to_phys(virt), Some(leaf.phys)));
    }
}

#[test]
fn tables_of_random_words_are_walked_without_end_or_panic() {
    struct Noise;
    impl TableMemory for Noise {
        fn alloc_table(&mut self) -> Option<PhysAddr> {
            None
        }
        fn read_entry(&self, table: PhysAddr, index: usize) -> u64 {
            let word = (table.raw() ^ (index as u64) << 3).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            if index.is_multiple_of(64) { word | 3 } else { 0 }
        }
        fn write_entry(&mut self, _: PhysAddr, _: usize, _: u64) {}
    }
    let mut leaves = 0;
    PageTables::<X86_64<4>>::at(PhysAddr::new(0x1000)).for_each_leaf(&Noise, |_, _| leaves += 1);
    assert!((1..=8 * 8 * 8 * 8).contains(&leaves));
}

macro_rules! random_maps {
    ($($name:ident: $format:ty),* $(,)?) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(24))]
            $(#[test]
            fn $name(ranges in any_ranges::<$format>(), largest in prop::sample::select([Level::PMD, Level::PUD].to_vec())) {
                check_direct_map::<$format>(&ranges, largest);
            })*
        }
    };
}

random_maps! {
    a_random_x86_64_map_is_exact: X86_64<4>,
    a_random_five_level_map_is_exact: X86_64<5>,
    a_random_arm64_map_of_4k_pages_is_exact: Arm64<12, 48>,
    a_random_arm64_map_of_three_levels_is_exact: Arm64<12, 39>,
    a_random_arm64_map_of_16k_pages_is_exact: Arm64<14, 47>,
    a_random_arm64_map_of_64k_pages_is_exact: Arm64<16, 48>,
}
