//! Sanitizing and changing maps, against a model that looks at every byte.

extern crate std;
use std::string::ToString;
use std::vec::Vec;

use proptest::prelude::*;
use units::Pfn;

use super::*;
use crate::firmware::RangeFlags;

fn range(start: u64, end: u64) -> PhysRange {
    PhysRange::new(PhysAddr::new(start), PhysAddr::new(end))
}

/// What each byte is, of a small address space: the slow and obvious meaning of a map.
fn kinds_by_byte(map: &MemoryMap) -> Vec<Option<u32>> {
    let kind_at = |byte| {
        map.entries()
            .iter()
            .filter(|entry| entry.range.contains(PhysAddr::new(byte)))
            .map(|entry| entry.kind.e820())
            .max()
    };
    (0..128).map(kind_at).collect()
}

fn any_map() -> impl Strategy<Value = MemoryMap> {
    prop::collection::vec((0u64..120, 0u64..40, 1u32..8), 0..12).prop_map(|ranges| {
        let mut map = MemoryMap::new();
        for (start, len, kind) in ranges {
            map.push(range(start, (start + len).min(128)), RangeKind::from_e820(kind)).unwrap();
        }
        map
    })
}

#[test]
fn the_first_megabyte_is_trimmed_as_a_real_kernel_logs_it() {
    let mut map = MemoryMap::new();
    map.push(range(0, 0x1ffe_0000), RangeKind::Usable).unwrap();
    let changes = map.trim_bios_range().unwrap();
    assert_eq!(changes[0].to_string(), "e820: update [mem 0x00000000-0x00000fff] usable ==> reserved");
    assert_eq!(changes[1].to_string(), "e820: remove [mem 0x000a0000-0x000fffff] usable");
    let kept: Vec<_> = map.entries().iter().map(|entry| (entry.range, entry.kind)).collect();
    assert_eq!(
        kept,
        [
            (range(0, 0x1000), RangeKind::Reserved),
            (range(0x1000, 0xa_0000), RangeKind::Usable),
            (range(0x10_0000, 0x1ffe_0000), RangeKind::Usable),
        ]
    );
    assert_eq!(map.last_pfn(12, Pfn::new(1 << 34)), Pfn::new(0x1ffe0));
}

#[test]
fn a_removal_prints_the_last_byte_that_the_kernel_prints() {
    let change = RangeChange { range: range(0x5dc0_0000, u64::MAX), from: Some(RangeKind::Usable), to: None };
    assert_eq!(change.to_string(), "e820: remove [mem 0x5dc00000-0xfffffffffffffffe] usable");
}

#[test]
fn the_pieces_of_a_soft_reserved_range_stay_apart() {
    let mut map = MemoryMap::new();
    map.push(range(0, 10), RangeKind::SoftReserved).unwrap();
    map.push(range(10, 20), RangeKind::SoftReserved).unwrap();
    map.push(range(20, 30), RangeKind::Usable).unwrap();
    map.push(range(30, 40), RangeKind::Usable).unwrap();
    map.sanitize().unwrap();
    assert_eq!(map.entries().len(), 3);
}

#[test]
fn flags_survive_and_keep_ranges_apart() {
    let mut map = MemoryMap::new();
    map.push(range(0, 10), RangeKind::Usable).unwrap();
    map.push_entry(MapEntry { range: range(10, 20), kind: RangeKind::Usable, flags: RangeFlags::HOTPLUG }).unwrap();
    map.sanitize().unwrap();
    assert_eq!(map.entries().len(), 2);
    assert_eq!(map.entries()[1].flags, RangeFlags::HOTPLUG);
}

#[test]
fn too_many_pieces_are_refused_and_change_nothing() {
    let mut map = MemoryMap::new();
    map.push(range(0, 1 << 20), RangeKind::Usable).unwrap();
    for index in 1..MAX_MAP_ENTRIES as u64 {
        map.push(range(index * 100, index * 100 + 10), RangeKind::Reserved).unwrap();
    }
    let before = map.clone();
    assert_eq!(map.sanitize(), Err(MapFull));
    assert_eq!(map, before);
}

proptest! {
    #[test]
    fn sanitizing_keeps_the_highest_kind_of_each_byte(map in any_map()) {
        let mut clean = map.clone();
        clean.sanitize().unwrap();
        prop_assert_eq!(kinds_by_byte(&clean), kinds_by_byte(&map));
        for pair in clean.entries().windows(2) {
            prop_assert!(pair[0].range.end <= pair[1].range.start);
            prop_assert!(pair[0].range.end < pair[1].range.start || pair[0].kind != pair[1].kind);
        }
        let again = { let mut again = clean.clone(); again.sanitize().unwrap(); again };
        prop_assert_eq!(again, clean);
    }

    #[test]
    fn a_change_touches_only_its_bytes_of_its_kind(map in any_map(), start in 0u64..120, len in 0u64..60, from in 1u32..4, to in 0u32..4) {
        let mut changed = map.clone();
        changed.sanitize().unwrap();
        let before = kinds_by_byte(&changed);
        let (from, to) = (RangeKind::from_e820(from), (to != 0).then(|| RangeKind::from_e820(to)));
        changed.change(RangeChange { range: range(start, start + len), from: Some(from), to }).unwrap();
        for (byte, (old, new)) in before.iter().zip(kinds_by_byte(&changed)).enumerate() {
            let hit = (start..start + len).contains(&(byte as u64)) && *old == Some(from.e820());
            prop_assert_eq!(new, if hit { to.map(RangeKind::e820) } else { *old });
        }
    }
}
