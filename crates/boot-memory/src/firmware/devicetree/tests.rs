//! Devicetrees made here, as dtc writes them: good, wrong, truncated and damaged ones.

mod writer;

extern crate std;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use units::{NodeId, PhysAddr, PhysRange};

use self::writer::Writer;
use super::*;
use crate::firmware::{FirmwareError, Problem, RangeFlags, RangeKind};

fn two_nodes() -> Vec<u8> {
    let mut writer = Writer { reservations: vec![0x4800_0000, 0x1000], ..Writer::default() };
    writer.node("", |root| {
        root.cells("#address-cells", &[2]);
        root.cells("#size-cells", &[2]);
        root.node("memory@40000000", |memory| {
            memory.cells("numa-node-id", &[0]);
            memory.cells("reg", &[0, 0x4000_0000, 0, 0x4000_0000]);
            memory.bytes("device_type", b"memory\0");
        });
        root.node("memory@80000000", |memory| {
            memory.cells("reg", &[0, 0x8000_0000, 0, 0x4000_0000, 1, 0, 0, 0x1000_0000]);
            memory.bytes("device_type", b"memory\0");
            memory.cells("numa-node-id", &[1]);
            memory.bytes("hotpluggable", b"");
        });
        root.node("memory@f0000000", |memory| {
            memory.bytes("device_type", b"memory\0");
            memory.cells("reg", &[0, 0xf000_0000, 0, 0x1000]);
            memory.bytes("status", b"disabled\0");
        });
        root.node("reserved-memory", |reserved| {
            reserved.cells("#address-cells", &[2]);
            reserved.cells("#size-cells", &[2]);
            reserved.bytes("ranges", b"");
            reserved.node("firmware@50000000", |node| {
                node.cells("reg", &[0, 0x5000_0000, 0, 0x10_0000]);
                node.bytes("no-map", b"");
            });
            reserved.node("log@51000000", |node| node.cells("reg", &[0, 0x5100_0000, 0, 0x1000]));
            reserved.node("linux,cma", |node| {
                node.cells("size", &[0, 0x400_0000]);
                node.cells("alignment", &[0x20_0000]);
                node.cells("alloc-ranges", &[0, 0x4000_0000, 0, 0x4000_0000]);
                node.bytes("reusable", b"");
                node.bytes("linux,cma-default", b"");
            });
        });
        root.node("cpus", |cpus| {
            cpus.cells("#address-cells", &[1]);
            cpus.cells("#size-cells", &[0]);
            for (number, node) in [(0, 0), (0x100, 1)] {
                cpus.node(if number == 0 { "cpu@0" } else { "cpu@100" }, |cpu| {
                    cpu.bytes("device_type", b"cpu\0");
                    cpu.cells("reg", &[number]);
                    cpu.cells("numa-node-id", &[node]);
                });
            }
        });
        root.node("distance-map", |map| {
            map.bytes("compatible", b"numa-distance-map-v1\0");
            map.cells("distance-matrix", &[0, 0, 10, 0, 1, 25, 1, 1, 10]);
        });
        root.node("chosen", |chosen| {
            chosen.bytes("bootargs", b"quiet cma=96M\0");
            chosen.cells("linux,initrd-start", &[0x4820_0000]);
            chosen.cells("linux,initrd-end", &[0, 0x4830_0000]);
        });
    });
    writer.finish()
}

fn read_all(blob: &[u8]) -> Result<(), FirmwareError> {
    let tree = Devicetree::parse(blob)?;
    tree.memory_map()?;
    tree.numa_map()?;
    tree.chosen()?;
    Ok(())
}

fn range(start: u64, len: u64) -> PhysRange {
    PhysRange::with_len(PhysAddr::new(start), len)
}

#[test]
fn memory_and_fixed_reservations_are_in_the_map() {
    let blob = two_nodes();
    let map = Devicetree::parse(&blob).unwrap().memory_map().unwrap();
    let entries: Vec<_> = map.entries().iter().map(|entry| (entry.range, entry.kind, entry.flags)).collect();
    let none = RangeFlags::empty();
    assert_eq!(
        entries,
        [
            (range(0x4000_0000, 0x4000_0000), RangeKind::Usable, none),
            (range(0x8000_0000, 0x4000_0000), RangeKind::Usable, RangeFlags::HOTPLUG),
            (range(0x1_0000_0000, 0x1000_0000), RangeKind::Usable, RangeFlags::HOTPLUG),
            (range(0x4800_0000, 0x1000), RangeKind::Reserved, none),
            (range(0x5000_0000, 0x10_0000), RangeKind::Reserved, RangeFlags::NOMAP),
            (range(0x5100_0000, 0x1000), RangeKind::Reserved, none),
        ]
    );
}

#[test]
fn a_reservation_to_be_placed_names_size_alignment_and_window() {
    let blob = two_nodes();
    let mut found = None;
    Devicetree::parse(&blob).unwrap().reserved_memory(|reserved| found = Some(reserved)).unwrap();
    let reserved = found.unwrap();
    assert!(reserved.cma_default && reserved.reusable && !reserved.no_map);
    let Placement::Dynamic { size, alignment, within } = reserved.placement else { panic!("{reserved:?}") };
    assert_eq!((size, alignment), (64 << 20, 2 << 20));
    assert!(within.iter().eq([range(0x4000_0000, 0x4000_0000)]));
}

#[test]
fn nodes_cpus_and_distances_are_read_and_distances_hold_both_ways() {
    let blob = two_nodes();
    let numa = Devicetree::parse(&blob).unwrap().numa_map().unwrap().unwrap();
    let second = NodeId::try_new(1).unwrap();
    assert_eq!(numa.node_of(PhysAddr::new(0x1_0000_0000)), Some(second));
    assert_eq!((numa.cpus()[1].hardware_id, numa.cpus()[1].node), (0x100, second));
    assert_eq!((numa.distance(NodeId::ZERO, second), numa.distance(second, NodeId::ZERO)), (25, 25));
}

#[test]
fn every_cpu_is_visited_with_the_node_that_it_names() {
    let blob = two_nodes();
    let mut cpus = Vec::new();
    Devicetree::parse(&blob).unwrap().cpus(|node| cpus.push(node.map(|node| node.raw()))).unwrap();
    assert_eq!(cpus, [Some(0), Some(1)]);
}

#[test]
fn an_alignment_is_a_power_of_two() {
    let with = |alignment| {
        let mut writer = Writer::default();
        writer.node("", |root| {
            root.cells("#address-cells", &[1]);
            root.cells("#size-cells", &[1]);
            root.node("reserved-memory", |reserved| {
                reserved.cells("#address-cells", &[1]);
                reserved.cells("#size-cells", &[1]);
                reserved.node("pool", |pool| {
                    pool.cells("size", &[0x1000]);
                    pool.cells("alignment", &[alignment]);
                });
            });
        });
        Devicetree::parse(&writer.finish()).unwrap().reserved_memory(|_| ())
    };
    assert_eq!((with(0), with(0x1000)), (Ok(()), Ok(())));
    assert_eq!(with(0x3000).unwrap_err().problem, Problem::Expected("an alignment that is a power of two"));
}

#[test]
fn chosen_names_command_line_and_initrd() {
    let blob = two_nodes();
    let chosen = Devicetree::parse(&blob).unwrap().chosen().unwrap();
    assert_eq!(chosen, Chosen { boot_arguments: "quiet cma=96M", initrd: Some(range(0x4820_0000, 0x10_0000)) });
}

#[test]
fn wrong_properties_are_refused_at_their_offset() {
    let with = |name: &'static str, cells: &'static [u32]| {
        let mut writer = Writer::default();
        writer.node("", |root| {
            root.cells("#address-cells", &[1]);
            root.cells("#size-cells", &[1]);
            root.node("memory", |memory| {
                memory.bytes("device_type", b"memory\0");
                memory.cells(name, cells);
            });
        });
        read_all(&writer.finish())
    };
    assert_eq!(with("reg", &[0x1000, 0x1000]), Ok(()));
    assert!(with("reg", &[1]).is_err());
    assert!(with("reg", &[]).is_err());
    assert!(with("numa-node-id", &[64]).is_err());
}

#[test]
fn every_truncation_is_refused() {
    let blob = two_nodes();
    for len in 0..blob.len() {
        assert!(read_all(&blob[..len]).is_err(), "{len}");
    }
}

proptest! {
    #[test]
    fn no_damage_makes_the_reader_panic(at in any::<prop::sample::Index>(), value in any::<[u8; 4]>(), aligned in any::<bool>()) {
        let mut blob = two_nodes();
        let at = at.index(blob.len());
        let at = if aligned { at & !3 } else { at };
        for (slot, byte) in blob.iter_mut().skip(at).zip(value) {
            *slot = byte;
        }
        let _ = read_all(&blob);
    }

    #[test]
    fn small_tokens_in_any_order_never_make_the_reader_panic(words in prop::collection::vec(0u32..12, 0..60)) {
        let structure: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let writer = Writer { structure, strings: b"reg\0#size-cells\0".to_vec(), ..Writer::default() };
        let _ = read_all(&writer.finish());
    }
}
