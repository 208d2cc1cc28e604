//! What the loader and the firmware say about the machine: memory map, nodes, CPUs, modules, command line.
//!
//! Read once, on the boot page tables. Formats and checks are `boot_memory::firmware`'s; this file says where to look.

use boot_memory::Nodes;
use boot_memory::firmware::{
    FirmwareError, MadtEntry, MemoryMap, NumaMap, PhysRead, PvhStartInfo, parse_acpi_numa, parse_pvh, parse_rsdp,
    read_madt,
};
use units::{PhysAddr, PhysRange};

use crate::cpu_area::MAX_CPUS;
use crate::paging::{BOOT_MAPPED, direct_pointer};

/// Longest command line (Linux: COMMAND_LINE_SIZE on x86).
pub(crate) const MAX_COMMAND_LINE: usize = 2048;
/// Most modules that are kept.
const MAX_MODULES: usize = 16;
/// Bytes of the start info with its memory-map fields.
const START_INFO_BYTES: u64 = 56;

/// Interrupt controllers of the CPUs that can be started, the boot CPU's first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ApicIds {
    ids: [u32; MAX_CPUS],
    len: usize,
    /// Usable CPUs that the machine has no room for.
    pub(crate) left_out: usize,
}

impl ApicIds {
    fn new(boot: u32) -> Self {
        let mut ids = [0; MAX_CPUS];
        ids[0] = boot;
        Self { ids, len: 1, left_out: 0 }
    }

    fn add(&mut self, id: u32) {
        if self.ids.iter().take(self.len).any(|&known| known == id) {
            return;
        }
        match self.ids.get_mut(self.len) {
            Some(slot) => {
                *slot = id;
                self.len += 1;
            }
            None => self.left_out += 1,
        }
    }

    /// Iterates in the order of CPU numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ids.iter().take(self.len).copied()
    }
}

/// What was found.
pub(crate) struct Firmware {
    /// Typed ranges of memory, as given.
    pub(crate) map: MemoryMap,
    /// Nodes; without any if the firmware has no SRAT.
    pub(crate) numa: NumaMap,
    /// The CPUs.
    pub(crate) cpus: ApicIds,
    info: PvhStartInfo,
    start_info: PhysRange,
    modules: [PhysRange; MAX_MODULES],
    nr_modules: usize,
}

/// Reads everything but the command line; `boot_apic` is the interrupt controller of the CPU that runs.
///
/// # Errors
/// What the parsers find wrong. A machine without memory map has an empty one.
pub(crate) fn read(memory: &impl PhysRead, start_info: PhysAddr, boot_apic: u32) -> Result<Firmware, FirmwareError> {
    let info = parse_pvh(memory, start_info)?;
    let map = info.memory_map(memory)?.unwrap_or_default();
    let mut numa = NumaMap::new();
    let mut cpus = ApicIds::new(boot_apic);
    if let Some(rsdp) = info.rsdp {
        parse_acpi_numa(memory, rsdp, &mut numa)?;
        read_cpus(memory, rsdp, &mut cpus)?;
    }
    let mut modules = [PhysRange::new(PhysAddr::ZERO, PhysAddr::ZERO); MAX_MODULES];
    let mut nr_modules = 0;
    info.modules(memory, |module| {
        if let Some(slot) = modules.get_mut(nr_modules) {
            *slot = module.range;
            nr_modules += 1;
        }
    })?;
    let start_info = PhysRange::with_len(start_info, START_INFO_BYTES);
    Ok(Firmware { map, numa, cpus, info, start_info, modules, nr_modules })
}

fn read_cpus(memory: &impl PhysRead, rsdp: PhysAddr, cpus: &mut ApicIds) -> Result<(), FirmwareError> {
    let Some(madt) = parse_rsdp(memory, rsdp)?.find(memory, *b"APIC")? else { return Ok(()) };
    read_madt(memory, madt, |entry| match entry {
        MadtEntry::Cpu(cpu) if cpu.enabled => cpus.add(cpu.apic_id),
        _ => (),
    })
}

impl Firmware {
    /// Copies the command line into `buffer`.
    ///
    /// # Errors
    /// A line that does not fit or is not UTF-8.
    pub(crate) fn command_line<'b>(
        &self,
        memory: &impl PhysRead,
        buffer: &'b mut [u8; MAX_COMMAND_LINE],
    ) -> Result<&'b str, FirmwareError> {
        self.info.read_command_line(memory, buffer)
    }

    /// Forgets the nodes of CPUs and distances too if those of memory are not in use (Linux: numa_init, dummy_numa_init).
    pub(crate) fn keep_nodes(&mut self, nodes: Nodes) {
        if nodes == Nodes::One {
            self.numa = NumaMap::new();
        }
    }

    /// Returns the first module, which is the initrd.
    pub(crate) fn initrd(&self) -> Option<PhysRange> {
        self.modules.iter().take(self.nr_modules).next().copied()
    }

    /// Iterates over what the loader put into memory beside the image: its start info and the modules.
    pub(crate) fn loaded(&self) -> impl Iterator<Item = PhysRange> + '_ {
        core::iter::once(self.start_info).chain(self.modules.iter().take(self.nr_modules).copied())
    }
}

/// Reads physical memory through the boot page tables' direct map.
pub(crate) fn read_phys(at: PhysAddr, buffer: &mut [u8]) -> bool {
    let end = at.checked_add(buffer.len() as u64);
    if end.is_none_or(|end| end > BOOT_MAPPED) {
        return false;
    }
    let source = direct_pointer(at).as_ptr();
    // SAFETY: the boot page tables map all of it; firmware tables are written by nobody while this runs.
    unsafe { source.copy_to_nonoverlapping(buffer.as_mut_ptr(), buffer.len()) };
    true
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use boot_memory::firmware::{MemoryImage, RangeKind};
    use units::NodeId;

    use super::*;

    const BASE: u64 = 0x7000;
    const RSDP: u64 = BASE + 0x200;
    const RSDT: u64 = BASE + 0x300;
    const MADT: u64 = BASE + 0x400;
    const SRAT: u64 = BASE + 0x500;

    /// Puts `bytes` at physical address `at`.
    fn put(image: &mut Vec<u8>, at: u64, bytes: &[u8]) {
        let start = (at - BASE) as usize;
        image.resize(image.len().max(start + bytes.len()), 0);
        image[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Puts an ACPI table with a right length and checksum.
    fn put_table(image: &mut Vec<u8>, at: u64, signature: &[u8; 4], body: &[u8]) {
        let mut table = Vec::from(signature);
        table.extend((36 + body.len() as u32).to_le_bytes());
        table.resize(36, 0);
        table[8] = 3;
        table.extend(body);
        table[9] = 0u8.wrapping_sub(table.iter().fold(0, |sum: u8, &byte| sum.wrapping_add(byte)));
        put(image, at, &table);
    }

    /// A machine with CPUs 0 to 2, of which 2 is disabled, on two nodes, and one module.
    fn machine() -> Vec<u8> {
        let mut image = Vec::new();
        let mut start_info: Vec<u8> = [0x336e_c578u32, 1, 0, 1].into_iter().flat_map(u32::to_le_bytes).collect();
        start_info.extend([BASE + 0x40, BASE + 0x60, RSDP, BASE + 0x80].into_iter().flat_map(u64::to_le_bytes));
        start_info.extend(1u32.to_le_bytes());
        put(&mut image, BASE, &start_info);
        let words = |words: &[u64]| words.iter().copied().flat_map(u64::to_le_bytes).collect::<Vec<u8>>();
        put(&mut image, BASE + 0x40, &words(&[0x20_0000, 0x1000, 0, 0]));
        put(&mut image, BASE + 0x60, b"mem=64M\0");
        put(&mut image, BASE + 0x80, &words(&[0x10_0000, 0x700_0000, 1]));
        let mut rsdp = Vec::from(b"RSD PTR \0MMKIT \0");
        rsdp.extend((RSDT as u32).to_le_bytes());
        rsdp[8] = 0u8.wrapping_sub(rsdp.iter().fold(0, |sum: u8, &byte| sum.wrapping_add(byte)));
        put(&mut image, RSDP, &rsdp);
        let tables: Vec<u8> = [MADT as u32, SRAT as u32].into_iter().flat_map(u32::to_le_bytes).collect();
        put_table(&mut image, RSDT, b"RSDT", &tables);
        let mut madt = Vec::from([0, 0, 0xe0, 0xfe, 0, 0, 0, 0]);
        for (id, enabled) in [(0, 1), (1, 1), (2, 0)] {
            madt.extend([0, 8, id, id, enabled, 0, 0, 0]);
        }
        put_table(&mut image, MADT, b"APIC", &madt);
        let mut srat = std::vec![0; 12];
        for id in 0..2 {
            srat.extend([0, 16, id, id, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        put_table(&mut image, SRAT, b"SRAT", &srat);
        image.resize(0x600, 0);
        image
    }

    #[test]
    fn a_machine_is_read_from_its_loader_and_tables() {
        let bytes = machine();
        let memory = MemoryImage { base: PhysAddr::new(BASE), bytes: &bytes };
        let firmware = read(&memory, PhysAddr::new(BASE), 1).unwrap();
        assert_eq!(firmware.map.bytes_of(RangeKind::Usable), 0x700_0000);
        assert!(firmware.cpus.iter().eq([1, 0]));
        assert_eq!(firmware.numa.cpus().len(), 2);
        assert_eq!(firmware.numa.cpus()[1].node, NodeId::try_new(1).unwrap());
        let module = PhysRange::with_len(PhysAddr::new(0x20_0000), 0x1000);
        assert!(firmware.loaded().eq([PhysRange::with_len(PhysAddr::new(BASE), START_INFO_BYTES), module]));
        let mut buffer = [0; MAX_COMMAND_LINE];
        assert_eq!(firmware.command_line(&memory, &mut buffer).unwrap(), "mem=64M");
    }

    #[test]
    fn cpus_are_on_no_node_that_memory_is_not_on() {
        let bytes = machine();
        let memory = MemoryImage { base: PhysAddr::new(BASE), bytes: &bytes };
        let mut firmware = read(&memory, PhysAddr::new(BASE), 1).unwrap();
        firmware.keep_nodes(Nodes::Firmware);
        assert_eq!(firmware.numa.cpus().len(), 2);
        firmware.keep_nodes(Nodes::One);
        assert!(firmware.numa.cpus().is_empty() && firmware.numa.nodes().is_empty());
    }

    #[test]
    fn a_table_with_a_flipped_bit_is_refused() {
        for table in [RSDP, RSDT, MADT, SRAT] {
            let mut bytes = machine();
            bytes[(table - BASE) as usize + 12] ^= 1;
            let memory = MemoryImage { base: PhysAddr::new(BASE), bytes: &bytes };
            assert!(read(&memory, PhysAddr::new(BASE), 0).is_err(), "{table:#x}");
        }
    }

    #[test]
    fn the_boot_cpu_stays_first_and_known_once() {
        let mut cpus = ApicIds::new(2);
        for id in [0, 1, 2, 3] {
            cpus.add(id);
        }
        assert!(cpus.iter().eq([2, 0, 1, 3]));
    }

    #[test]
    fn cpus_beyond_the_last_area_are_counted() {
        let mut cpus = ApicIds::new(0);
        (0..10).for_each(|id| cpus.add(id));
        assert_eq!((cpus.iter().count(), cpus.left_out), (MAX_CPUS, 10 - MAX_CPUS));
    }
}
