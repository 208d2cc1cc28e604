//! ACPI tables made here: good, contradictory, truncated and damaged ones.

extern crate std;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use units::NodeId;

use super::super::memory_map::RangeFlags;
use super::super::phys_read::MemoryImage;
use super::*;

const BASE: u64 = 0xf_0000;

fn checksum(bytes: &mut [u8], at: usize) {
    bytes[at] = 0;
    bytes[at] = bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_sub(byte));
}

fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = signature.to_vec();
    bytes.extend((36 + body.len() as u32).to_le_bytes());
    bytes.push(revision);
    bytes.resize(36, 0);
    bytes.extend(body);
    checksum(&mut bytes, 9);
    bytes
}

fn cpu_entry(domain: u8, apic: u8, flags: u32) -> Vec<u8> {
    let mut entry = vec![0, 16, domain, apic];
    entry.extend(flags.to_le_bytes());
    entry.resize(16, 0);
    entry
}

fn memory_entry(domain: u32, start: u64, len: u64, flags: u32) -> Vec<u8> {
    let mut entry = vec![1, 40];
    entry.extend(domain.to_le_bytes());
    entry.extend([0; 2]);
    entry.extend(start.to_le_bytes());
    entry.extend(len.to_le_bytes());
    entry.extend([0; 4]);
    entry.extend(flags.to_le_bytes());
    entry.resize(40, 0);
    entry
}

fn srat(entries: &[Vec<u8>]) -> Vec<u8> {
    table(b"SRAT", 3, &[vec![0; 12], entries.concat()].concat())
}

fn slit(count: u64, distances: &[u8]) -> Vec<u8> {
    table(b"SLIT", 1, &[&count.to_le_bytes(), distances].concat())
}

/// Root pointer, root table and the given tables, one after the other from `BASE` up.
fn machine(pointer_bytes: usize, tables: &[Vec<u8>]) -> Vec<u8> {
    let root_at = BASE + 48;
    let mut at = root_at + 36 + (pointer_bytes * tables.len()) as u64;
    let mut pointers = Vec::new();
    for table in tables {
        pointers.extend(&at.to_le_bytes()[..pointer_bytes]);
        at += table.len() as u64;
    }
    let mut rsdp = b"RSD PTR \0BOCHS ".to_vec();
    rsdp.push(if pointer_bytes == 8 { 2 } else { 0 });
    rsdp.extend(if pointer_bytes == 8 { [0; 4] } else { (root_at as u32).to_le_bytes() });
    rsdp.extend(36u32.to_le_bytes());
    rsdp.extend(root_at.to_le_bytes());
    rsdp.resize(36, 0);
    checksum(&mut rsdp[..20], 8);
    checksum(&mut rsdp, 32);
    rsdp.resize(48, 0);
    [rsdp, table(if pointer_bytes == 8 { b"XSDT" } else { b"RSDT" }, 1, &pointers), tables.concat()].concat()
}

fn read(bytes: &[u8]) -> Result<NumaMap, FirmwareError> {
    let memory = MemoryImage { base: PhysAddr::new(BASE), bytes };
    let mut numa = NumaMap::new();
    parse_acpi_numa(&memory, PhysAddr::new(BASE), &mut numa)?;
    let root = parse_rsdp(&memory, PhysAddr::new(BASE))?;
    if let Some(madt) = root.find(&memory, *b"APIC")? {
        read_madt(&memory, madt, |_| ())?;
    }
    Ok(numa)
}

/// Four nodes, the last without CPUs and, in the table, before all others.
fn four_nodes(pointer_bytes: usize) -> Vec<u8> {
    let entries = [
        memory_entry(3, 0x1_2000_0000, 0x2000_0000, 3),
        cpu_entry(0, 0, 1),
        cpu_entry(1, 1, 1),
        cpu_entry(2, 2, 1),
        cpu_entry(9, 3, 0),
        memory_entry(0, 0, 0xa_0000, 1),
        memory_entry(0, 0x10_0000, 0x3ff0_0000, 1),
        memory_entry(1, 0x4000_0000, 0x4000_0000, 1),
        memory_entry(2, 0x8000_0000, 0x4000_0000, 1),
        memory_entry(7, 0, 0, 0),
    ];
    let distances = [10, 20, 30, 40, 20, 10, 20, 25, 30, 20, 10, 17, 40, 25, 17, 10];
    let mut madt = vec![0, 0, 0xe0, 0xfe, 1, 0, 0, 0];
    madt.extend([0, 8, 0, 5, 1, 0, 0, 0]);
    madt.extend([1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
    madt.extend([2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
    madt.extend([4, 6, 0, 0, 0, 1]);
    madt.extend([9, 16, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    machine(
        pointer_bytes,
        &[table(b"FACP", 1, &[1, 2, 3]), srat(&entries), slit(4, &distances), table(b"APIC", 1, &madt)],
    )
}

fn node(raw: u64) -> NodeId {
    NodeId::try_new(raw).unwrap()
}

#[test]
fn nodes_distances_and_cpus_are_read_through_both_root_tables() {
    for pointer_bytes in [4, 8] {
        let numa = read(&four_nodes(pointer_bytes)).unwrap();
        assert_eq!(numa.nodes().len(), 4);
        assert_eq!(numa.cpus().len(), 3);
        assert_eq!(numa.memory().len(), 5);
        assert_eq!(numa.memory()[0].node, node(3), "processors are numbered before memory");
        assert_eq!(numa.memory()[0].flags, RangeFlags::HOTPLUG);
        assert_eq!(numa.node_of(PhysAddr::new(0x9000_0000)), Some(node(2)));
        assert_eq!((numa.distance(node(1), node(3)), numa.distance(node(3), node(2))), (25, 17));
    }
}

#[test]
fn the_cpu_list_names_cpus_and_interrupt_controllers() {
    let bytes = four_nodes(8);
    let memory = MemoryImage { base: PhysAddr::new(BASE), bytes: &bytes };
    let madt = parse_rsdp(&memory, PhysAddr::new(BASE)).unwrap().find(&memory, *b"APIC").unwrap().unwrap();
    let mut entries = Vec::new();
    read_madt(&memory, madt, |entry| entries.push(entry)).unwrap();
    assert_eq!(
        entries,
        [
            MadtEntry::LocalApicAddress(PhysAddr::new(0xfee0_0000)),
            MadtEntry::Cpu(MadtCpu { apic_id: 5, enabled: true, online_capable: false }),
            MadtEntry::IoApic { address: PhysAddr::new(0xfec0_0000), first_interrupt: 0 },
            MadtEntry::Override { isa: 0, interrupt: 2, mode: 0 },
            MadtEntry::Cpu(MadtCpu { apic_id: 0x100, enabled: false, online_capable: true }),
        ]
    );
}

#[test]
fn the_root_pointer_is_found_in_low_memory() {
    let bytes = [vec![0; 32], four_nodes(4)].concat();
    let memory = MemoryImage { base: PhysAddr::new(BASE), bytes: &bytes };
    let range = PhysRange::with_len(PhysAddr::new(BASE), 0x1_0000);
    assert_eq!(scan_for_rsdp(&memory, range), Some(PhysAddr::new(BASE + 32)));
    assert_eq!(scan_for_rsdp(&memory, PhysRange::with_len(PhysAddr::new(BASE), 32)), None);
}

#[test]
fn a_flipped_bit_in_a_table_is_found_by_its_checksum() {
    let good = four_nodes(8);
    let srat_at = good.windows(4).position(|window| window == b"SRAT").unwrap();
    let mut bad = good.clone();
    bad[srat_at + 60] ^= 4;
    assert_eq!(read(&bad).unwrap_err().problem, Problem::Checksum);
}

#[test]
fn a_firmware_without_affinity_says_so() {
    let bytes = machine(8, &[table(b"FACP", 1, &[])]);
    let memory = MemoryImage { base: PhysAddr::new(BASE), bytes: &bytes };
    assert_eq!(parse_acpi_numa(&memory, PhysAddr::new(BASE), &mut NumaMap::new()), Ok(false));
}

#[test]
fn tables_that_contradict_themselves_are_refused() {
    let overlap = srat(&[memory_entry(0, 0, 0x2000, 1), memory_entry(1, 0x1000, 0x1000, 1)]);
    let wraps = srat(&[memory_entry(0, u64::MAX, 2, 1)]);
    let endless = srat(&[vec![1, 0]]);
    let short = srat(&[vec![1, 8, 0, 0, 0, 0, 0, 0]]);
    let cut = srat(&[memory_entry(0, 0, 1, 1)[..39].to_vec()]);
    let domains: Vec<_> = (0..65).map(|domain| memory_entry(domain, u64::from(domain) << 20, 1 << 20, 1)).collect();
    for bad in [overlap, wraps, endless, short, cut, srat(&domains)] {
        let error = read(&machine(4, &[bad])).unwrap_err();
        assert_eq!(error.input, Input::AcpiTable(*b"SRAT"));
    }
    let good = srat(&[cpu_entry(0, 0, 1)]);
    for bad in [slit(2, &[10, 20, 20]), slit(1, &[11]), slit(2, &[10, 10, 20, 10]), slit(u64::MAX, &[10])] {
        let error = read(&machine(4, &[good.clone(), bad])).unwrap_err();
        assert_eq!(error.input, Input::AcpiTable(*b"SLIT"));
    }
}

#[test]
fn every_truncation_is_refused() {
    let bytes = four_nodes(4);
    for len in 0..bytes.len() {
        assert!(read(&bytes[..len]).is_err(), "{len}");
    }
}

proptest! {
    #[test]
    fn no_damage_makes_the_parsers_panic(at in any::<prop::sample::Index>(), value in any::<[u8; 3]>(), wide in any::<bool>()) {
        let mut bytes = four_nodes(if wide { 8 } else { 4 });
        let at = at.index(bytes.len());
        for (slot, byte) in bytes.iter_mut().skip(at).zip(value) {
            *slot = byte;
        }
        let _ = read(&bytes);
    }

    #[test]
    fn no_entries_with_a_right_checksum_make_the_parsers_panic(body in prop::collection::vec(0u8..48, 0..200)) {
        let _ = read(&machine(8, &[table(b"SRAT", 2, &body), table(b"SLIT", 1, &body), table(b"APIC", 3, &body)]));
    }
}
