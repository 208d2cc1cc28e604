//! Reads the firmware's memory map out of a kernel log: the lines that start with `BIOS-e820:`.
//!
//! Linux 6.12: arch/x86/kernel/e820.c (e820__print_table).

use super::error::{FirmwareError, Input, Place, Problem};
use super::memory_map::{MemoryMap, RangeKind};
use super::text::{numbered_lines, take_range};

/// Parses every `BIOS-e820: [mem 0x...-0x...] TYPE` line of a kernel log, whatever time stamps or prefixes stand before it.
///
/// Older kernels wrote ` BIOS-e820: START - END (TYPE)` with an exclusive end; this form is read too. Other lines are skipped.
/// The map is as the log has it: not sorted, not sanitized.
///
/// # Errors
/// A `BIOS-e820` line that has neither form, or a log without any such line.
///
/// ```
/// use mmkit_boot_memory::firmware::{RangeKind, parse_e820_log};
///
/// let map = parse_e820_log("[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x000000001ffdffff] usable\n").unwrap();
/// assert_eq!(map.bytes_of(RangeKind::Usable), 0x1fee_0000);
/// ```
pub fn parse_e820_log(log: &str) -> Result<MemoryMap, FirmwareError> {
    let mut map = MemoryMap::new();
    let mut seen = false;
    for (number, line) in numbered_lines(log) {
        let Some((_, entry)) = line.split_once("BIOS-e820:") else { continue };
        let error = |problem| FirmwareError { input: Input::KernelLog, at: Place::Line(number), problem };
        let (range, kind) =
            parse_entry(entry.trim()).ok_or_else(|| error(Problem::Expected("[mem 0xSTART-0xLAST] TYPE")))?;
        map.push(range, kind).map_err(|_| error(Problem::TooMany("memory ranges")))?;
        seen = true;
    }
    let missing = Problem::Expected("at least one BIOS-e820 line");
    if seen { Ok(map) } else { Err(FirmwareError { input: Input::KernelLog, at: Place::Whole, problem: missing }) }
}

fn parse_entry(entry: &str) -> Option<(units::PhysRange, RangeKind)> {
    if let Some(bracket) = entry.strip_prefix("[mem ") {
        let (range, rest) = take_range(bracket)?;
        return Some((range, rest.strip_prefix(']')?.trim().parse().ok()?));
    }
    let (range, kind) = entry.split_once('(')?;
    let (start, end) = range.split_once('-')?;
    let start = u64::from_str_radix(start.trim(), 16).ok()?;
    let end = u64::from_str_radix(end.trim(), 16).ok()?;
    let range = units::PhysRange::new(units::PhysAddr::new(start), units::PhysAddr::new(end));
    Some((range, kind.strip_suffix(')')?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::{String, ToString};

    use proptest::prelude::*;

    use super::*;

    const LOG: &str = "[    0.000000] BIOS-provided physical RAM map:
[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable
[    0.000000] BIOS-e820: [mem 0x000000000009fc00-0x000000000009ffff] reserved
[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x00000000bffdffff] ACPI NVS
[    0.000000] BIOS-e820: [mem 0x00000000bffe0000-0x00000000bfffffff] persistent (type 12)
[    0.000000] BIOS-e820: [mem 0x0000000100000000-0x000000013fffffff] type 20
[    0.000000] NX (Execute Disable) protection: active
";

    #[test]
    fn every_kind_is_read_and_printed_in_the_same_words() {
        let map = parse_e820_log(LOG).unwrap();
        let mut printed = String::new();
        map.write_log("BIOS-e820", &mut printed).unwrap();
        let read: String = LOG.lines().skip(1).take(5).map(|line| line[15..].to_string() + "\n").collect();
        assert_eq!(printed, read);
    }

    #[test]
    fn the_form_of_old_kernels_is_read() {
        let map = parse_e820_log(" BIOS-e820: 0000000000000000 - 000000000009fc00 (usable)\n").unwrap();
        assert_eq!(map.bytes_of(RangeKind::Usable), 0x9_fc00);
    }

    #[test]
    fn a_damaged_line_is_refused_with_its_number() {
        let error = parse_e820_log("BIOS-e820: [mem 0x0-0x9fbff] usable\nBIOS-e820: [mem 0x0-0x9fb").unwrap_err();
        assert_eq!(error.to_string(), "kernel log, line 2: expected [mem 0xSTART-0xLAST] TYPE");
    }

    #[test]
    fn a_log_without_a_map_is_refused() {
        assert_eq!(parse_e820_log("Linux version 6.12\n").unwrap_err().at, Place::Whole);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(BIOS-e820:)?[ \\[\\]mem0-9a-fx(){}-]{0,60}.{0,8}") {
            let _ = parse_e820_log(&text);
        }

        #[test]
        fn a_damaged_log_never_makes_the_parser_panic(at in 0..LOG.len(), byte in 0u8..128) {
            let mut bytes = LOG.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = parse_e820_log(core::str::from_utf8(&bytes).unwrap());
        }
    }
}
