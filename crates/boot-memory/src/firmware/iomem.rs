//! Reads /proc/iomem: the tree of physical address ranges with their owners.
//!
//! Linux 6.12: kernel/resource.c (r_show), arch/x86/kernel/e820.c (names of the e820 kinds).

use units::PhysRange;

use super::error::{FirmwareError, Input, Place, Problem};
use super::memory_map::{MemoryMap, RangeKind};
use super::text::{numbered_lines, take_range};

/// One line of /proc/iomem.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IomemLine<'a> {
    /// Nesting: 0 for the ranges of the machine, 1 for what lies inside one, and so on.
    pub depth: usize,
    /// The bytes.
    pub range: PhysRange,
    /// The owner: `System RAM`, `Kernel code`, a device.
    pub name: &'a str,
}

/// Calls `visit` for every line of /proc/iomem, in order.
///
/// # Errors
/// The line that is not `START-LAST : NAME`, with its number; and a file whose ranges are all zero, which is what the kernel shows to a
/// reader without CAP_SYS_ADMIN.
pub fn read_iomem<'a>(text: &'a str, mut visit: impl FnMut(IomemLine<'a>)) -> Result<(), FirmwareError> {
    let mut hidden = true;
    for (number, line) in numbered_lines(text) {
        if line.trim().is_empty() {
            continue;
        }
        let parsed =
            parse_line(line).ok_or(at_line(number, Problem::Expected("START-LAST : NAME, both hexadecimal")))?;
        hidden &= parsed.range.start.raw() == 0 && parsed.range.len() <= 1;
        visit(parsed);
    }
    let readable = "ranges, not 00000000-00000000 (read it as root)";
    if hidden { Err(at_line(1, Problem::Expected(readable))) } else { Ok(()) }
}

/// Parses the ranges of the machine (depth 0) into a map; devices and buses are left out.
///
/// Nested lines say what the kernel made of a range, not what the firmware reported, and are not part of the map; use
/// [`read_iomem`] for them.
///
/// # Errors
/// Those of [`read_iomem`], and a file that names no System RAM.
///
/// ```
/// use mmkit_boot_memory::firmware::{RangeKind, parse_iomem};
///
/// let text = "00001000-0009fbff : System RAM\n000a0000-000bffff : PCI Bus 0000:00\n00100000-1ffdffff : System RAM\n";
/// assert_eq!(parse_iomem(text).unwrap().of_kind(RangeKind::Usable).count(), 2);
/// ```
pub fn parse_iomem(text: &str) -> Result<MemoryMap, FirmwareError> {
    let mut map = MemoryMap::new();
    let mut full = false;
    read_iomem(text, |line| {
        if let (0, Some(kind)) = (line.depth, kind_of_owner(line.name)) {
            full |= map.push(line.range, kind).is_err();
        }
    })?;
    if full {
        return Err(FirmwareError {
            input: Input::Iomem,
            at: Place::Whole,
            problem: Problem::TooMany("memory ranges"),
        });
    }
    if map.of_kind(RangeKind::Usable).next().is_none() {
        let problem = Problem::Expected("a range named System RAM");
        return Err(FirmwareError { input: Input::Iomem, at: Place::Whole, problem });
    }
    Ok(map)
}

/// Returns true if a line of `text` is one of /proc/iomem, so that the whole is meant to be.
pub fn is_iomem(text: &str) -> bool {
    text.lines().any(|line| parse_line(line).is_some())
}

fn at_line(number: u32, problem: Problem) -> FirmwareError {
    FirmwareError { input: Input::Iomem, at: Place::Line(number), problem }
}

fn parse_line(line: &str) -> Option<IomemLine<'_>> {
    let body = line.trim_start_matches(' ');
    let (range, rest) = take_range(body)?;
    let name = rest.strip_prefix(" : ")?;
    Some(IomemLine { depth: (line.len() - body.len()) / 2, range, name })
}

fn kind_of_owner(name: &str) -> Option<RangeKind> {
    Some(match name {
        "System RAM" => RangeKind::Usable,
        "Reserved" | "reserved" => RangeKind::Reserved,
        "ACPI Tables" => RangeKind::AcpiData,
        "ACPI Non-volatile Storage" => RangeKind::AcpiNvs,
        "Unusable memory" => RangeKind::Unusable,
        "Persistent Memory" => RangeKind::Persistent,
        "Persistent Memory (legacy)" => RangeKind::LegacyPersistent,
        "Soft Reserved" => RangeKind::SoftReserved,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "00000000-00000fff : Reserved
00001000-0009fbff : System RAM
000f0000-000fffff : Reserved
  000f0000-000fffff : System ROM
00100000-1ffdffff : System RAM
  01000000-01e01ef1 : Kernel code
20000000-febfffff : PCI Bus 0000:00
  febf0000-febf0fff : 0000:00:02.0
    febf0000-febf0fff : bochs: main
fd00000000-ffffffffff : Reserved
";

    #[test]
    fn nested_lines_keep_their_depth() {
        let mut depths = Vec::new();
        read_iomem(TEXT, |line| depths.push((line.depth, line.name))).unwrap();
        assert_eq!(depths[5], (1, "Kernel code"));
        assert_eq!(depths[8], (2, "bochs: main"));
    }

    #[test]
    fn only_memory_of_the_machine_is_in_the_map() {
        let map = parse_iomem(TEXT).unwrap();
        assert_eq!(map.entries().len(), 5);
        assert_eq!(map.bytes_of(RangeKind::Usable), 0x9_ec00 + 0x1fee_0000);
    }

    #[test]
    fn hidden_addresses_are_named_as_such() {
        let error = parse_iomem("00000000-00000000 : Reserved\n00000000-00000000 : System RAM\n").unwrap_err();
        assert!(error.to_string().contains("read it as root"), "{error}");
    }

    #[test]
    fn one_line_of_the_form_tells_what_a_text_is_meant_to_be() {
        assert!(is_iomem("damaged\n  01000000-01e01ef1 : Kernel code\n"));
        assert!(!is_iomem("arch = \"x86-64\"\nnodes = [{ memory = [\"0x1000-0x1fff\"] }]\n"));
    }

    #[test]
    fn a_line_of_another_form_is_refused_with_its_number() {
        let error = parse_iomem("00001000-0009fbff : System RAM\nhello\n").unwrap_err();
        assert_eq!(error.at, Place::Line(2));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "([ ]{0,6}[0-9a-f]{0,20}-?[0-9a-f]{0,18}( : )?.{0,12}\n?){0,4}") {
            let _ = parse_iomem(&text);
        }

        #[test]
        fn a_damaged_file_never_makes_the_parser_panic(at in 0..TEXT.len(), byte in 0u8..128) {
            let mut bytes = TEXT.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = parse_iomem(core::str::from_utf8(&bytes).unwrap());
        }
    }
}
