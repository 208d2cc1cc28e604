//! From the firmware's memory map to the one that the kernel uses, with the lines of the kernel log.
//!
//! Linux 6.12: arch/x86/kernel/setup.c, e820.c (`e820__memory_setup`, `e820__finish_early_params`, `trim_bios_range`).

use boot_memory::firmware::{BootOptions, MapOrigin, MemoryMap};

use crate::console::{ConsoleLog, print_line};
use crate::cpu_area::this_cpu;
use crate::error::BootError;

/// Sanitizes `map` and changes it as the options of `command_line` say; prints both maps.
///
/// # Errors
/// [`BootError::BadOption`], after printing which; a map that grows too large.
pub(crate) fn apply_options<'a>(map: &mut MemoryMap, command_line: &'a str) -> Result<BootOptions<'a>, BootError> {
    let cpu = this_cpu();
    print_line!(cpu, "Command line: {command_line}");
    map.sanitize()?;
    print_line!(cpu, "BIOS-provided physical RAM map:");
    print_map(map, "BIOS-e820");
    let options = BootOptions::parse(command_line).map_err(|error| {
        print_line!(cpu, "{error}");
        BootError::BadOption
    })?;
    if options.apply_to(map)? == MapOrigin::User {
        print_line!(cpu, "user-defined physical RAM map:");
        print_map(map, "user");
    }
    for change in map.trim_bios_range()? {
        print_line!(cpu, "{change}");
    }
    Ok(options)
}

fn print_map(map: &MemoryMap, prefix: &str) {
    // The console cannot fail.
    let _ = map.write_log(prefix, &mut ConsoleLog);
}
