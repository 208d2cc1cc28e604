//! Binary tables: PVH start information and ACPI, where the input is physical memory from address 0 up; devicetree blobs.

use boot_memory::firmware::{
    Devicetree, FirmwareError, MemoryImage, NumaMap, parse_acpi_numa, parse_pvh, parse_rsdp, read_madt,
};
use units::PhysAddr;

use super::{Target, outcome};
use crate::corpus::Seed;

/// Where the seed's tables lie. Damage moves what comes after it, which is one more way to damage.
const RSDT_AT: usize = 0x20;
const TABLES_AT: [usize; 3] = [0x60, 0x120, 0x180];
const HEADER: usize = 36;

/// `parse_rsdp`, `parse_acpi_numa` and `read_madt`.
pub(super) const ACPI: Target = Target {
    name: "acpi",
    seeds: &[Seed::Made(acpi_seed)],
    tokens: &["SRAT", "SLIT", "APIC", "RSD PTR ", "\u{0}\u{10}", "\u{1}(", "\u{2}\u{18}", "\u{3}\u{12}"],
    run: |input| {
        let mut bytes = input.to_vec();
        repair_checksums(&mut bytes);
        outcome(read_acpi(&image(&bytes)))
    },
};

/// `parse_pvh` and everything that its result reads.
pub(super) const PVH: Target = Target {
    name: "pvh",
    seeds: &[Seed::Made(pvh_seed)],
    tokens: &["mem=", "\u{0}"],
    run: |input| outcome(read_pvh(&image(input))),
};

/// `Devicetree` and everything that is read out of it.
pub(super) const DEVICETREE: Target = Target {
    name: "devicetree",
    seeds: &[Seed::Made(devicetree_seed)],
    tokens: &["memory@0\0", "device_type\0", "reg\0", "reserved-memory\0", "\0\0\0\u{1}", "\0\0\0\u{2}", "\0\0\0\u{3}"],
    run: |input| outcome(read_devicetree(input)),
};

fn image(bytes: &[u8]) -> MemoryImage<'_> {
    MemoryImage { base: PhysAddr::ZERO, bytes }
}

fn read_acpi(memory: &MemoryImage<'_>) -> Result<(), FirmwareError> {
    let mut numa = NumaMap::new();
    parse_acpi_numa(memory, PhysAddr::ZERO, &mut numa)?;
    for from in numa.nodes().iter() {
        numa.nodes().iter().for_each(|to| assert!(numa.distance(from, to) > 0));
    }
    if let Some(madt) = parse_rsdp(memory, PhysAddr::ZERO)?.find(memory, *b"APIC")? {
        read_madt(memory, madt, |_| ())?;
    }
    Ok(())
}

fn read_pvh(memory: &MemoryImage<'_>) -> Result<(), FirmwareError> {
    let info = parse_pvh(memory, PhysAddr::ZERO)?;
    if let Some(mut map) = info.memory_map(memory)? {
        // A map that has no room for the pieces is one of the outcomes.
        let _ = map.sanitize();
    }
    info.modules(memory, |_| ())?;
    info.read_command_line(memory, &mut [0; 256])?;
    Ok(())
}

fn read_devicetree(blob: &[u8]) -> Result<(), FirmwareError> {
    let tree = Devicetree::parse(blob)?;
    tree.reservations(|_| ())?;
    tree.reserved_memory(|_| ())?;
    tree.chosen()?;
    tree.numa_map()?;
    // A map that has no room for the pieces is one of the outcomes.
    let _ = tree.memory_map()?.sanitize();
    Ok(())
}

/// Makes the bytes of each table add up to zero, so that damage gets past the checksums.
fn repair_checksums(bytes: &mut [u8]) {
    if let Some(pointer) = bytes.get_mut(..20) {
        repair(pointer, 8);
    }
    for at in TABLES_AT.into_iter().chain([RSDT_AT]) {
        let length = bytes.get(at + 4..at + 8).and_then(|field| field.try_into().ok()).map_or(0, u32::from_le_bytes);
        let end = usize::try_from(length).unwrap_or(0).saturating_add(at);
        if let Some(table) = bytes.get_mut(at..end).filter(|table| table.len() >= HEADER) {
            repair(table, 9);
        }
    }
}

fn repair(table: &mut [u8], checksum: usize) {
    if let Some(place) = table.get_mut(checksum) {
        *place = 0;
    }
    let total = table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(place) = table.get_mut(checksum) {
        *place = total.wrapping_neg();
    }
}

fn table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let length = (HEADER + body.len()) as u32;
    let mut bytes = [&signature[..], &length.to_le_bytes(), &[3]].concat();
    bytes.resize(HEADER, 0);
    [bytes, body.to_vec()].concat()
}

fn acpi_seed() -> Vec<u8> {
    let cpu = |domain: u8, apic: u8| [&[0, 16, domain, apic, 1, 0, 0, 0][..], &[0; 8]].concat();
    let memory = |domain: u32, start: u64, length: u64| {
        let place = [&domain.to_le_bytes()[..], &[0; 2], &start.to_le_bytes(), &length.to_le_bytes()].concat();
        [&[1, 40][..], &place, &[0; 4], &[1, 0, 0, 0], &[0; 8]].concat()
    };
    let entries = [cpu(0, 0), cpu(1, 1), memory(0, 0, 1 << 30), memory(1, 1 << 30, 1 << 30)].concat();
    let tables = [
        table(b"SRAT", &[&[0; 12], &entries[..]].concat()),
        table(b"SLIT", &[&2_u64.to_le_bytes()[..], &[10, 20, 20, 10]].concat()),
        table(b"APIC", &[0, 0, 0xe0, 0xfe, 1, 0, 0, 0, 0, 8, 0, 0, 1, 0, 0, 0, 0, 8, 1, 1, 1, 0, 0, 0]),
    ];
    let pointers: Vec<u8> = TABLES_AT.iter().flat_map(|&at| (at as u32).to_le_bytes()).collect();
    let mut bytes = [&b"RSD PTR \0OEMOEM\0"[..], &(RSDT_AT as u32).to_le_bytes()].concat();
    for (at, table) in [(RSDT_AT, table(b"RSDT", &pointers))].into_iter().chain(TABLES_AT.into_iter().zip(tables)) {
        bytes.resize(at, 0);
        bytes.extend(table);
    }
    bytes
}

fn pvh_seed() -> Vec<u8> {
    let quads = |values: &[u64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let (head, tail) = ([0x336e_c578_u32, 1, 0, 1], [2_u32, 0]);
    let words = |values: &[u32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let (modules_at, line_at, map_at) = (0x40, 0xa0, 0x60);
    let mut bytes = [words(&head), quads(&[modules_at, line_at, 0, map_at]), words(&tail)].concat();
    bytes.resize(0x40, 0);
    bytes.extend(quads(&[0x10_0000, 0x1000, line_at, 0]));
    bytes.extend(quads(&[0, 0x9_fc00, 1, 0x10_0000, 0x1ff0_0000, 1]));
    bytes.resize(0xa0, 0);
    bytes.extend(b"quiet mem=1G\0");
    bytes
}

pub(super) fn devicetree_seed() -> Vec<u8> {
    const NAMES: [&str; 7] = [
        "#address-cells",
        "#size-cells",
        "device_type",
        "reg",
        "bootargs",
        "numa-node-id",
        "linux,usable-memory-range",
    ];
    let words = |values: &[u32]| values.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<u8>>();
    let padded = |mut bytes: Vec<u8>| {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let begin = |name: &str| [words(&[1]), padded([name.as_bytes(), &[0]].concat())].concat();
    let property = |name: usize, value: Vec<u8>| {
        let offset: usize = NAMES[..name].iter().map(|name| name.len() + 1).sum();
        [words(&[3, value.len() as u32, offset as u32]), padded(value)].concat()
    };
    let cells = [property(0, words(&[2])), property(1, words(&[2]))].concat();
    let memory = [property(2, b"memory\0".to_vec()), property(3, words(&[0, 0x4000_0000, 0, 0x8000_0000]))].concat();
    let range = property(3, words(&[0, 0x4800_0000, 0, 0x10_0000]));
    let structure = [
        [begin(""), cells.clone()].concat(),
        [begin("memory@40000000"), memory, property(5, words(&[0])), words(&[2])].concat(),
        [begin("chosen"), property(4, b"quiet mem=1G\0".to_vec()), property(6, words(&[0, 0, 0, 1])), words(&[2])]
            .concat(),
        [begin("reserved-memory"), cells, begin("pool@48000000"), range, words(&[2, 2])].concat(),
        words(&[2, 9]),
    ]
    .concat();
    let strings: Vec<u8> = NAMES.iter().flat_map(|name| [name.as_bytes(), &[0]].concat()).collect();
    let (structure_at, strings_at) = (40 + 32, 40 + 32 + structure.len());
    let total = strings_at + strings.len();
    let sizes = [0xd00d_feed, total, structure_at, strings_at, 40, 17, 16, 0, strings.len(), structure.len()];
    let header = words(&sizes.map(|size| size as u32));
    [header, words(&[0, 0x4000_0000, 0, 0x1000, 0, 0, 0, 0]), structure, strings].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_accepted() {
        assert_eq!((ACPI.run)(&acpi_seed()), "accepted");
        assert_eq!((PVH.run)(&pvh_seed()), "accepted");
        assert_eq!((DEVICETREE.run)(&devicetree_seed()), "accepted");
    }

    #[test]
    fn a_repaired_table_adds_up_to_zero() {
        let mut bytes = acpi_seed();
        bytes[TABLES_AT[0] + 50] = 0x77;
        repair_checksums(&mut bytes);
        let srat = &bytes[TABLES_AT[0]..TABLES_AT[0] + HEADER + 12 + 2 * 16 + 2 * 40];
        assert_eq!(srat.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
    }
}
