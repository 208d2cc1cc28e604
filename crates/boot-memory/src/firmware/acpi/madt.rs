//! MADT: the machine's CPUs and interrupt controllers.
//!
//! ACPI 6.5, section 5.2.12; Linux 6.12: arch/x86/kernel/acpi/boot.c.

use units::PhysAddr;

use super::super::error::FirmwareError;
use super::super::phys_read::{PhysRead, le_u32, le_u64};
use super::AcpiTable;

const ENTRIES: u64 = 44;

/// A CPU of the MADT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MadtCpu {
    /// Local APIC or x2APIC id.
    pub apic_id: u32,
    /// Whether it is there and can be started.
    pub enabled: bool,
    /// Whether it may be plugged in later.
    pub online_capable: bool,
}

/// An entry of the MADT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MadtEntry {
    /// Where every CPU sees its local APIC.
    LocalApicAddress(PhysAddr),
    /// A CPU.
    Cpu(MadtCpu),
    /// An I/O APIC.
    IoApic {
        /// Its registers.
        address: PhysAddr,
        /// Number of its first interrupt.
        first_interrupt: u32,
    },
    /// An ISA interrupt that arrives under another number.
    Override {
        /// ISA interrupt.
        isa: u8,
        /// The number under which it arrives.
        interrupt: u32,
        /// Polarity (bits 0-1) and trigger mode (bits 2-3).
        mode: u16,
    },
}

/// Calls `visit` for the local APIC address and then for every entry of a known type, in order.
///
/// # Errors
/// A table that ends inside an entry, an entry too short for its type.
pub fn read_madt(
    memory: &impl PhysRead,
    madt: AcpiTable,
    mut visit: impl FnMut(MadtEntry),
) -> Result<(), FirmwareError> {
    let fixed: [u8; 8] = madt.read(memory, 36, "the local APIC address")?;
    visit(MadtEntry::LocalApicAddress(PhysAddr::new(u64::from(le_u32(&fixed, 0)))));
    madt.for_each_entry(memory, ENTRIES, |offset, kind, len| {
        if let Some(entry) = read_entry(memory, &madt, offset, kind, len)? {
            visit(entry);
        }
        Ok(())
    })
}

fn read_entry(
    memory: &impl PhysRead,
    madt: &AcpiTable,
    offset: u64,
    kind: u8,
    len: u8,
) -> Result<Option<MadtEntry>, FirmwareError> {
    Ok(Some(match kind {
        0 => {
            let entry: [u8; 8] = madt.entry(memory, offset, len)?;
            cpu(le_u64::<1>(&entry, 3) as u32, le_u32(&entry, 4))
        }
        1 => {
            let entry: [u8; 12] = madt.entry(memory, offset, len)?;
            let address = PhysAddr::new(u64::from(le_u32(&entry, 4)));
            MadtEntry::IoApic { address, first_interrupt: le_u32(&entry, 8) }
        }
        2 => {
            let entry: [u8; 10] = madt.entry(memory, offset, len)?;
            let [_, _, _, isa, ..] = entry;
            MadtEntry::Override { isa, interrupt: le_u32(&entry, 4), mode: le_u64::<2>(&entry, 8) as u16 }
        }
        5 => {
            let entry: [u8; 12] = madt.entry(memory, offset, len)?;
            MadtEntry::LocalApicAddress(PhysAddr::new(le_u64::<8>(&entry, 4)))
        }
        9 => {
            let entry: [u8; 16] = madt.entry(memory, offset, len)?;
            cpu(le_u32(&entry, 4), le_u32(&entry, 8))
        }
        _ => return Ok(None),
    }))
}

fn cpu(apic_id: u32, flags: u32) -> MadtEntry {
    MadtEntry::Cpu(MadtCpu { apic_id, enabled: flags & 1 != 0, online_capable: flags & 2 != 0 })
}
