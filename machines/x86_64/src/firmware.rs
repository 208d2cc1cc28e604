//! What the loader and the firmware say about the machine: memory map, nodes, CPUs, modules, command line.
//!
//! Read once, on the boot page tables. Formats and checks are `boot_memory::firmware`'s; this file says where to look.

use boot_memory::firmware::{
    FirmwareError, MadtEntry, MemoryMap, NumaMap, PvhStartInfo, parse_acpi_numa, parse_pvh, parse_rsdp, read_madt,
};
use units::{PhysAddr, PhysRange};

use crate::apic;
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

/// Reads everything but the command line.
///
/// # Errors
/// What the parsers find wrong. A machine without memory map has an empty one.
pub(crate) fn read(start_info: PhysAddr) -> Result<Firmware, FirmwareError> {
    let info = parse_pvh(&read_phys, start_info)?;
    let map = info.memory_map(&read_phys)?.unwrap_or_default();
    let mut numa = NumaMap::new();
    let mut cpus = ApicIds::new(apic::id());
    if let Some(rsdp) = info.rsdp {
        parse_acpi_numa(&read_phys, rsdp, &mut numa)?;
        read_cpus(rsdp, &mut cpus)?;
    }
    let mut modules = [PhysRange::new(PhysAddr::ZERO, PhysAddr::ZERO); MAX_MODULES];
    let mut nr_modules = 0;
    info.modules(&read_phys, |module| {
        if let Some(slot) = modules.get_mut(nr_modules) {
            *slot = module.range;
            nr_modules += 1;
        }
    })?;
    let start_info = PhysRange::with_len(start_info, START_INFO_BYTES);
    Ok(Firmware { map, numa, cpus, info, start_info, modules, nr_modules })
}

fn read_cpus(rsdp: PhysAddr, cpus: &mut ApicIds) -> Result<(), FirmwareError> {
    let Some(madt) = parse_rsdp(&read_phys, rsdp)?.find(&read_phys, *b"APIC")? else { return Ok(()) };
    read_madt(&read_phys, madt, |entry| match entry {
        MadtEntry::Cpu(cpu) if cpu.enabled => cpus.add(cpu.apic_id),
        _ => (),
    })
}

impl Firmware {
    /// Copies the command line into `buffer`.
    ///
    /// # Errors
    /// A line that does not fit or is not UTF-8.
    pub(crate) fn command_line<'b>(&self, buffer: &'b mut [u8; MAX_COMMAND_LINE]) -> Result<&'b str, FirmwareError> {
        self.info.read_command_line(&read_phys, buffer)
    }

    /// Iterates over what the loader put into memory beside the image: its start info and the modules.
    pub(crate) fn loaded(&self) -> impl Iterator<Item = PhysRange> + '_ {
        core::iter::once(self.start_info).chain(self.modules.iter().take(self.nr_modules).copied())
    }
}

/// Reads physical memory through the boot page tables' direct map.
fn read_phys(at: PhysAddr, buffer: &mut [u8]) -> bool {
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
    use super::*;

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
