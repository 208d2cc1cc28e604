//! From the firmware's memory map to the one that the kernel uses, with the lines of the kernel log.
//!
//! Linux 6.12: arch/x86/kernel/setup.c, e820.c (`e820__memory_setup`, `e820__finish_early_params`, `trim_bios_range`).

use core::fmt;

use boot_memory::firmware::{BootOptions, MapOrigin, MemoryMap};

use crate::error::BootError;

/// Sanitizes `map` and changes it as the options of `command_line` say; writes both maps to `log`.
///
/// # Errors
/// [`BootError::BadOption`], after writing which; a map that grows too large.
pub(crate) fn apply_options<'a>(
    map: &mut MemoryMap,
    command_line: &'a str,
    log: &mut dyn fmt::Write,
) -> Result<BootOptions<'a>, BootError> {
    map.sanitize()?;
    // The log cannot fail: the console does not, and nothing depends on it.
    let _ = writeln!(log, "Command line: {command_line}");
    let _ = writeln!(log, "BIOS-provided physical RAM map:");
    let _ = map.write_log("BIOS-e820", log);
    let options = BootOptions::parse(command_line).map_err(|error| {
        let _ = writeln!(log, "{error}");
        BootError::BadOption
    })?;
    if let Some(note) = options.unknown_note() {
        let _ = writeln!(log, "{note}");
    }
    if options.apply_to(map)? == MapOrigin::User {
        let _ = writeln!(log, "user-defined physical RAM map:");
        let _ = map.write_log("user", log);
    }
    for change in map.trim_bios_range()? {
        let _ = writeln!(log, "{change}");
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::String;

    use boot_memory::firmware::RangeKind;
    use units::{PhysAddr, PhysRange};

    use super::*;

    fn map() -> MemoryMap {
        let mut map = MemoryMap::new();
        for (start, end) in [(0x10_0000, 0x1000_0000), (0, 0x9_fc00)] {
            map.push(PhysRange::new(PhysAddr::new(start), PhysAddr::new(end)), RangeKind::Usable).unwrap();
        }
        map
    }

    #[test]
    fn options_change_the_map_and_both_maps_are_logged() {
        let (mut map, mut log) = (map(), String::new());
        let options = apply_options(&mut map, "mem=128M init=/bin/sh quiet", &mut log).unwrap();
        assert_eq!(options.mem, Some(128 << 20));
        assert_eq!(map.bytes_of(RangeKind::Usable), (127 << 20) + 0x9_fc00 - 0x1000);
        let expected = "Command line: mem=128M init=/bin/sh quiet\n\
            BIOS-provided physical RAM map:\n\
            BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable\n\
            BIOS-e820: [mem 0x0000000000100000-0x000000000fffffff] usable\n\
            Unknown kernel command line parameters \"quiet\", will be passed to user space.\n\
            user-defined physical RAM map:\n\
            user: [mem 0x0000000000000000-0x000000000009fbff] usable\n\
            user: [mem 0x0000000000100000-0x0000000007ffffff] usable\n\
            e820: update [mem 0x00000000-0x00000fff] usable ==> reserved\n\
            e820: remove [mem 0x000a0000-0x000fffff] usable\n";
        assert_eq!(log, expected);
    }

    #[test]
    fn a_bad_option_is_named_in_the_log() {
        let (mut map, mut log) = (map(), String::new());
        assert_eq!(apply_options(&mut map, "mem=lots", &mut log), Err(BootError::BadOption));
        assert!(log.lines().last().is_some_and(|line| line.contains("`mem=lots`")), "{log}");
    }
}
