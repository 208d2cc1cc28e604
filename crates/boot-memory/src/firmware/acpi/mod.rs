//! The ACPI tables that boot memory needs: from the root pointer to SRAT, SLIT and MADT.
//!
//! Tables are read through [`PhysRead`] piece by piece, so none needs a buffer of its size. Each table's length and checksum are
//! verified before anything in it is believed. Used by the bare-metal machine.
//! ACPI 6.5, section 5.2; Linux 6.12: drivers/acpi/acpica/tb*.c, drivers/acpi/numa/srat.c.

mod affinity;
mod madt;

use units::{PhysAddr, PhysRange};

use super::error::{FirmwareError, Input, Place, Problem};
use super::numa_map::NumaMap;
use super::phys_read::{PhysRead, le_u32, le_u64, read_array};

pub use affinity::{ProximityDomains, parse_slit, parse_srat};
pub use madt::{MadtCpu, MadtEntry, read_madt};

const HEADER: u64 = 36;
/// Far above any table that is read here; keeps a wild length from being summed for seconds.
const MAX_TABLE_BYTES: u64 = 4 << 20;

/// A table whose length and checksum have been verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AcpiTable {
    /// Four letters.
    pub signature: [u8; 4],
    /// Revision of the table's form.
    pub revision: u8,
    /// The bytes, header included.
    pub range: PhysRange,
}

/// The root table, which lists all others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AcpiRoot {
    table: AcpiTable,
    pointer_bytes: u64,
}

/// Follows the root pointer (RSDP) at `at` to the XSDT, or to the RSDT where there is no XSDT.
///
/// # Errors
/// Memory that cannot be read, another signature, a wrong checksum or length.
pub fn parse_rsdp(memory: &impl PhysRead, at: PhysAddr) -> Result<AcpiRoot, FirmwareError> {
    let head: [u8; 20] = read_array(memory, Input::AcpiRoot, at)?;
    let error = |problem| FirmwareError { input: Input::AcpiRoot, at: Place::Phys(at), problem };
    if !head.starts_with(b"RSD PTR ") {
        return Err(error(Problem::Expected("the signature `RSD PTR `")));
    }
    if sum(&head) != 0 {
        return Err(error(Problem::Checksum));
    }
    let [.., revision, _, _, _, _] = head;
    if revision >= 2 {
        let all: [u8; 36] = read_array(memory, Input::AcpiRoot, at)?;
        if sum(&all) != 0 {
            return Err(error(Problem::Checksum));
        }
        let xsdt = PhysAddr::new(le_u64::<8>(&all, 24));
        if xsdt != PhysAddr::ZERO {
            return root_table(memory, xsdt, *b"XSDT", 8);
        }
    }
    root_table(memory, PhysAddr::new(u64::from(le_u32(&head, 16))), *b"RSDT", 4)
}

/// Searches `range` for a root pointer, at multiples of 16: the last kilobyte of low memory and 0xe0000-0xfffff on a PC.
pub fn scan_for_rsdp(memory: &impl PhysRead, range: PhysRange) -> Option<PhysAddr> {
    let candidates = (range.start.align_up(16).raw()..range.end.raw()).step_by(16).map(PhysAddr::new);
    candidates.into_iter().find(|&at| {
        let head: Result<[u8; 20], _> = read_array(memory, Input::AcpiRoot, at);
        head.is_ok_and(|head| head.starts_with(b"RSD PTR ") && sum(&head) == 0)
    })
}

fn root_table(
    memory: &impl PhysRead,
    at: PhysAddr,
    signature: [u8; 4],
    pointer_bytes: u64,
) -> Result<AcpiRoot, FirmwareError> {
    let table = check_table(memory, at)?;
    if table.signature != signature {
        let expected = if pointer_bytes == 8 { "a table XSDT" } else { "a table RSDT" };
        return Err(FirmwareError {
            input: Input::AcpiRoot,
            at: Place::Phys(at),
            problem: Problem::Expected(expected),
        });
    }
    Ok(AcpiRoot { table, pointer_bytes })
}

impl AcpiRoot {
    /// Finds the first table with `signature` and verifies it; `None` if the root table lists none.
    ///
    /// Headers of other tables are read but not verified: only what is used has to be sound. Null pointers, which firmware is known
    /// to leave in the list, are skipped.
    ///
    /// # Errors
    /// Memory that cannot be read; a wrong checksum or length of the table.
    pub fn find(&self, memory: &impl PhysRead, signature: [u8; 4]) -> Result<Option<AcpiTable>, FirmwareError> {
        for index in 0..(self.table.range.len() - HEADER) / self.pointer_bytes {
            let slot = self.table.range.start.saturating_add(HEADER + index * self.pointer_bytes);
            let mut pointer = [0; 8];
            let wanted = pointer.get_mut(..self.pointer_bytes as usize).unwrap_or_default();
            if !memory.read(slot, wanted) {
                return Err(FirmwareError {
                    input: Input::AcpiRoot,
                    at: Place::Phys(slot),
                    problem: Problem::Unreadable,
                });
            }
            let at = PhysAddr::new(u64::from_le_bytes(pointer));
            if at == PhysAddr::ZERO {
                continue;
            }
            let found: [u8; 4] = read_array(memory, Input::AcpiRoot, at)?;
            if found == signature {
                return check_table(memory, at).map(Some);
            }
        }
        Ok(None)
    }
}

/// Reads nodes and distances from SRAT and SLIT; returns false if the firmware has no SRAT.
///
/// # Errors
/// Those of [`parse_rsdp`], [`parse_srat`] and [`parse_slit`]; `numa` may then hold a part.
pub fn parse_acpi_numa(memory: &impl PhysRead, rsdp: PhysAddr, numa: &mut NumaMap) -> Result<bool, FirmwareError> {
    let root = parse_rsdp(memory, rsdp)?;
    let Some(srat) = root.find(memory, *b"SRAT")? else { return Ok(false) };
    let domains = parse_srat(memory, srat, numa)?;
    if let Some(slit) = root.find(memory, *b"SLIT")? {
        parse_slit(memory, slit, &domains, numa)?;
    }
    Ok(true)
}

/// Verifies the table at `at`: a length that holds the header, and bytes that add up to zero.
fn check_table(memory: &impl PhysRead, at: PhysAddr) -> Result<AcpiTable, FirmwareError> {
    let head: [u8; HEADER as usize] = read_array(memory, Input::AcpiRoot, at)?;
    let signature = head.first_chunk().copied().unwrap_or_default();
    let input = Input::AcpiTable(signature);
    let error = |problem| FirmwareError { input, at: Place::Phys(at), problem };
    let len = u64::from(le_u32(&head, 4));
    if !(HEADER..=MAX_TABLE_BYTES).contains(&len) {
        return Err(error(Problem::Expected("a length from 36 to 4194304 bytes")));
    }
    let range = PhysRange::with_len(at, len);
    let mut total: u8 = 0;
    let mut offset = 0;
    while offset < len {
        let mut chunk = [0; 64];
        let wanted = chunk.get_mut(..(len - offset).min(64) as usize).unwrap_or_default();
        let place = at.saturating_add(offset);
        if !memory.read(place, wanted) {
            return Err(FirmwareError { input, at: Place::Phys(place), problem: Problem::Unreadable });
        }
        total = total.wrapping_add(sum(wanted));
        offset += 64;
    }
    let revision = le_u64::<1>(&head, 8) as u8;
    if total == 0 { Ok(AcpiTable { signature, revision, range }) } else { Err(error(Problem::Checksum)) }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
}

impl AcpiTable {
    fn error(&self, offset: u64, problem: Problem) -> FirmwareError {
        FirmwareError { input: Input::AcpiTable(self.signature), at: Place::Byte(offset), problem }
    }

    /// Reads `N` bytes at `offset`, which must lie inside the table.
    fn read<const N: usize>(
        &self,
        memory: &impl PhysRead,
        offset: u64,
        what: &'static str,
    ) -> Result<[u8; N], FirmwareError> {
        if offset.checked_add(N as u64).is_none_or(|end| end > self.range.len()) {
            return Err(self.error(offset, Problem::Truncated(what)));
        }
        read_array(memory, Input::AcpiTable(self.signature), self.range.start.saturating_add(offset))
    }

    /// Calls `visit` with offset, type and length of every entry from `first` to the end of the table.
    ///
    /// An entry must hold its own head of two bytes and end inside the table.
    fn for_each_entry(
        &self,
        memory: &impl PhysRead,
        first: u64,
        mut visit: impl FnMut(u64, u8, u8) -> Result<(), FirmwareError>,
    ) -> Result<(), FirmwareError> {
        let mut offset = first;
        while offset < self.range.len() {
            let [kind, len] = self.read(memory, offset, "the head of an entry")?;
            if len < 2 {
                return Err(self.error(offset + 1, Problem::Expected("an entry of at least 2 bytes")));
            }
            if offset + u64::from(len) > self.range.len() {
                return Err(self.error(offset, Problem::Truncated("the end of an entry")));
            }
            visit(offset, kind, len)?;
            offset += u64::from(len);
        }
        Ok(())
    }

    /// Reads an entry of type and length as announced, which must be `N` bytes or more.
    fn entry<const N: usize>(&self, memory: &impl PhysRead, offset: u64, len: u8) -> Result<[u8; N], FirmwareError> {
        if usize::from(len) < N {
            return Err(self.error(offset + 1, Problem::Expected("an entry as long as its type")));
        }
        self.read(memory, offset, "an entry")
    }
}

#[cfg(test)]
mod tests;
