//! Firmware maps and the kernel command line.

use boot_memory::firmware::{BootOptions, MemoryMap, parse_e820_log, parse_iomem};

use super::{Target, outcome};
use crate::corpus::Seed;

const LOG: &str = "\
[    0.000000] Linux version 6.1.0
[    0.000000] BIOS-provided physical RAM map:
[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable
[    0.000000] BIOS-e820: [mem 0x000000000009fc00-0x000000000009ffff] reserved
[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x000000007ffdffff] usable
[    0.000000] BIOS-e820: [mem 0x000000007ffe0000-0x000000007fffffff] ACPI data
[    0.000000] BIOS-e820: [mem 0x0000000100000000-0x000000017fffffff] persistent (type 7)
";
const IOMEM_TEXT: &str = "\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
000a0000-000bffff : PCI Bus 0000:00
00100000-7ffdffff : System RAM
  01000000-01ffffff : Kernel code
7ffe0000-7fffffff : Reserved
100000000-17fffffff : System RAM
";
const COMMAND_LINE: &str = "quiet mem=1500M kernelcore=50% movablecore=512M memmap=64M$256M memmap=1G@4G memmap=4K#0x100000 \
    memmap=exactmap memblock=debug numa=off movable_node cma=64M@0-4G \"name with space\" -- init";

/// `parse_e820_log`, and what follows the parser: sorting out overlaps.
pub(super) const E820_LOG: Target = Target {
    name: "e820-log",
    seeds: &[Seed::Text(LOG), Seed::Each("data/boots", "dmesg")],
    tokens: &["BIOS-e820: ", "[mem 0x", "usable", "reserved", "ACPI NVS", "type ", "]", "user: "],
    run: |input| outcome(parse_e820_log(&String::from_utf8_lossy(input)).map(sanitized)),
};

/// `parse_iomem`.
pub(super) const IOMEM: Target = Target {
    name: "iomem",
    seeds: &[Seed::Text(IOMEM_TEXT), Seed::Each("data/boots", "iomem")],
    tokens: &[" : System RAM\n", " : Reserved\n", "  ", "-", "00000000-00000000", "ACPI Tables", "Persistent Memory"],
    run: |input| outcome(parse_iomem(&String::from_utf8_lossy(input)).map(sanitized)),
};

/// `BootOptions::parse`, and what the options do to a map.
pub(super) const BOOT_OPTIONS: Target = Target {
    name: "boot-options",
    seeds: &[Seed::Text(COMMAND_LINE), Seed::Each("data/boots", "cmdline")],
    tokens: &[
        "mem=",
        "memmap=",
        "kernelcore=mirror",
        "movablecore=",
        "%",
        "@",
        "$",
        "#",
        "!",
        "exactmap",
        "K",
        "M",
        "T",
        "E",
    ],
    run: |input| {
        let text = String::from_utf8_lossy(input);
        let parsed = BootOptions::parse(&text);
        if let (Ok(options), Ok(mut map)) = (&parsed, parse_e820_log(LOG)) {
            let applied = options.apply_to(&mut map).is_ok();
            return format!("accepted, {} unknown, applied: {applied}", options.unknown().count());
        }
        outcome(parsed)
    },
};

fn sanitized(mut map: MemoryMap) -> MemoryMap {
    if map.sanitize().is_ok() {
        let in_order = map.entries().windows(2).all(|pair| pair[0].range.end <= pair[1].range.start);
        assert!(in_order, "overlaps are left: {:?}", map.entries());
    }
    map
}
