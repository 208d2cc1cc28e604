//! The start information that a PVH loader (QEMU, Xen, Firecracker) hands to the kernel.
//!
//! Used by the bare-metal x86-64 machine. The format is Xen's: xen/include/public/arch-x86/hvm/start_info.h.

use units::{PhysAddr, PhysRange};

use super::error::{FirmwareError, Input, Place, Problem};
use super::memory_map::{MAX_MAP_ENTRIES, MemoryMap, RangeKind};
use super::phys_read::{PhysRead, le_u32, le_u64, read_array};

const MAGIC: u32 = 0x336e_c578;
const MAX_MODULES: u32 = 64;

/// A file that the loader put into memory; the first is the initrd.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PvhModule {
    /// Where it lies.
    pub range: PhysRange,
    /// Its own command line, or 0.
    pub command_line: PhysAddr,
}

/// The start information, checked; lists and strings stay where the loader put them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PvhStartInfo {
    /// Version of the structure: 0 has no memory map.
    pub version: u32,
    /// The command line, if there is one.
    pub command_line: Option<PhysAddr>,
    /// The ACPI root pointer, if there is one.
    pub rsdp: Option<PhysAddr>,
    modules: (PhysAddr, u32),
    memory_map: Option<(PhysAddr, u32)>,
}

/// Reads the start information at `at`, the address that the loader passes in `ebx`.
///
/// # Errors
/// Memory that cannot be read, another magic number, more modules or map entries than there is room for.
pub fn parse_pvh(memory: &impl PhysRead, at: PhysAddr) -> Result<PvhStartInfo, FirmwareError> {
    let head: [u8; 40] = read_array(memory, Input::Pvh, at)?;
    if le_u32(&head, 0) != MAGIC {
        return Err(error(at, Problem::Expected("the magic number 0x336ec578")));
    }
    let version = le_u32(&head, 4);
    let nr_modules = le_u32(&head, 12);
    if nr_modules > MAX_MODULES {
        return Err(error(at.saturating_add(12), Problem::TooMany("modules")));
    }
    let memory_map = if version == 0 { None } else { Some(read_map_place(memory, at)?) };
    let present = |offset| Some(PhysAddr::new(le_u64::<8>(&head, offset))).filter(|&pointer| pointer != PhysAddr::ZERO);
    let modules = (PhysAddr::new(le_u64::<8>(&head, 16)), nr_modules);
    Ok(PvhStartInfo { version, command_line: present(24), rsdp: present(32), modules, memory_map })
}

fn read_map_place(memory: &impl PhysRead, at: PhysAddr) -> Result<(PhysAddr, u32), FirmwareError> {
    let tail: [u8; 16] = read_array(memory, Input::Pvh, at.saturating_add(40))?;
    let count = le_u32(&tail, 8);
    if count as usize > MAX_MAP_ENTRIES {
        return Err(error(at.saturating_add(48), Problem::TooMany("memory ranges")));
    }
    Ok((PhysAddr::new(le_u64::<8>(&tail, 0)), count))
}

impl PvhStartInfo {
    /// Reads the memory map as given, not sanitized; `None` in version 0, which has none.
    ///
    /// # Errors
    /// Memory that cannot be read, a range that ends above 2^64.
    pub fn memory_map(&self, memory: &impl PhysRead) -> Result<Option<MemoryMap>, FirmwareError> {
        let Some((start, count)) = self.memory_map else { return Ok(None) };
        let mut map = MemoryMap::new();
        for index in 0..u64::from(count) {
            let at = start.saturating_add(index * 24);
            let entry: [u8; 24] = read_array(memory, Input::Pvh, at)?;
            let range = checked_range(&entry).ok_or(error(at, Problem::Expected("a range that ends below 2^64")))?;
            let kind = RangeKind::from_e820(le_u32(&entry, 16));
            map.push(range, kind).map_err(|_| error(at, Problem::TooMany("memory ranges")))?;
        }
        Ok(Some(map))
    }

    /// Calls `visit` for every module, in order.
    ///
    /// # Errors
    /// Memory that cannot be read, a module that ends above 2^64.
    pub fn modules(&self, memory: &impl PhysRead, mut visit: impl FnMut(PvhModule)) -> Result<(), FirmwareError> {
        let (start, count) = self.modules;
        for index in 0..u64::from(count) {
            let at = start.saturating_add(index * 32);
            let entry: [u8; 32] = read_array(memory, Input::Pvh, at)?;
            let range = checked_range(&entry).ok_or(error(at, Problem::Expected("a module that ends below 2^64")))?;
            visit(PvhModule { range, command_line: PhysAddr::new(le_u64::<8>(&entry, 16)) });
        }
        Ok(())
    }

    /// Copies the command line into `buffer` and returns it; empty if there is none.
    ///
    /// # Errors
    /// Memory that cannot be read, a line longer than `buffer`, bytes that are not UTF-8.
    pub fn read_command_line<'b>(
        &self,
        memory: &impl PhysRead,
        buffer: &'b mut [u8],
    ) -> Result<&'b str, FirmwareError> {
        let Some(start) = self.command_line else { return Ok("") };
        for len in 0..buffer.len() {
            let [byte] = read_array(memory, Input::Pvh, start.saturating_add(len as u64))?;
            match buffer.get_mut(len) {
                Some(slot) if byte != 0 => *slot = byte,
                _ => return utf8(start, buffer.get(..len).unwrap_or_default()),
            }
        }
        Err(error(start, Problem::TooMany("bytes of command line")))
    }
}

fn utf8(at: PhysAddr, bytes: &[u8]) -> Result<&str, FirmwareError> {
    core::str::from_utf8(bytes).map_err(|_| error(at, Problem::Expected("a command line in UTF-8")))
}

fn checked_range(entry: &[u8]) -> Option<PhysRange> {
    let start = PhysAddr::new(le_u64::<8>(entry, 0));
    Some(PhysRange::new(start, start.checked_add(le_u64::<8>(entry, 8))?))
}

fn error(at: PhysAddr, problem: Problem) -> FirmwareError {
    FirmwareError { input: Input::Pvh, at: Place::Phys(at), problem }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::super::phys_read::MemoryImage;
    use super::*;

    const BASE: u64 = 0x7000;

    fn image(version: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [MAGIC, version, 0, 1] {
            bytes.extend(word.to_le_bytes());
        }
        for pointer in [BASE + 64, BASE + 160, 0xf_59d0, BASE + 96] {
            bytes.extend(pointer.to_le_bytes());
        }
        bytes.extend(2u32.to_le_bytes());
        bytes.resize(64, 0);
        for field in [0x20_0000u64, 0x1000, 0, 0] {
            bytes.extend(field.to_le_bytes());
        }
        for field in [0u64, 0x9_fc00, 1, 0xfffc_0000, 0x4_0000, 2] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.resize(160, 0);
        bytes.extend(b"mem=64M quiet\0");
        bytes
    }

    fn read_all(bytes: &[u8]) -> Result<(Option<MemoryMap>, Vec<PvhModule>, usize), FirmwareError> {
        let memory = MemoryImage { base: PhysAddr::new(BASE), bytes };
        let info = parse_pvh(&memory, PhysAddr::new(BASE))?;
        let mut modules = Vec::new();
        info.modules(&memory, |module| modules.push(module))?;
        let mut buffer = [0; 32];
        let line = info.read_command_line(&memory, &mut buffer)?.len();
        Ok((info.memory_map(&memory)?, modules, line))
    }

    #[test]
    fn map_modules_and_command_line_are_read() {
        let (map, modules, line) = read_all(&image(1)).unwrap();
        let map = map.unwrap();
        assert_eq!(map.bytes_of(RangeKind::Usable), 0x9_fc00);
        assert_eq!(map.entries()[1].range.end.raw(), 1 << 32);
        assert_eq!(modules[0].range, PhysRange::with_len(PhysAddr::new(0x20_0000), 0x1000));
        assert_eq!(line, "mem=64M quiet".len());
        let memory = MemoryImage { base: PhysAddr::new(BASE), bytes: &image(1) };
        assert_eq!(parse_pvh(&memory, PhysAddr::new(BASE)).unwrap().rsdp, Some(PhysAddr::new(0xf_59d0)));
    }

    #[test]
    fn version_zero_has_no_memory_map() {
        assert_eq!(read_all(&image(0)).unwrap().0, None);
    }

    #[test]
    fn a_command_line_that_does_not_end_in_the_buffer_is_refused() {
        let bytes = image(1);
        let memory = MemoryImage { base: PhysAddr::new(BASE), bytes: &bytes };
        let info = parse_pvh(&memory, PhysAddr::new(BASE)).unwrap();
        assert!(info.read_command_line(&memory, &mut [0; 13]).is_err());
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = image(1);
        for len in 0..bytes.len() {
            assert!(read_all(&bytes[..len]).is_err(), "{len}");
        }
    }

    proptest! {
        #[test]
        fn no_damage_makes_the_parser_panic(at in 0..170usize, value in any::<[u8; 4]>(), len in 0..180usize) {
            let mut bytes = image(1);
            for (slot, byte) in bytes.iter_mut().skip(at).zip(value) {
                *slot = byte;
            }
            bytes.truncate(len);
            let _ = read_all(&bytes);
        }
    }
}
