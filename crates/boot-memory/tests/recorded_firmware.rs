//! The firmware parsers against recorded boots: the same maps, the same log lines, the same number of page tables.

use std::fs;
use std::path::{Path, PathBuf};

use mmkit_boot_memory::firmware::{BootOptions, MapOrigin, MemoryMap, RangeKind, parse_e820_log, parse_iomem};
use mmkit_boot_memory::page_tables::{DirectMap, PageTables, TableMemory};
use platform::{Arm64, Attributes, Level, PageTableFormat};
use units::{Pfn, PhysAddr, PhysRange, VirtAddr};

/// A recorded boot of an x86 machine.
struct Boot {
    name: String,
    log: String,
    command_line: String,
    iomem: String,
}

fn recordings() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/boots")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn x86_boots() -> Vec<Boot> {
    let mut boots: Vec<Boot> = fs::read_dir(recordings())
        .expect("data/boots")
        .map(|entry| entry.expect("data/boots").path())
        .filter(|path| path.is_dir())
        .map(|path| Boot {
            name: path.display().to_string(),
            log: read(&path.join("dmesg")),
            command_line: read(&path.join("cmdline")),
            iomem: read(&path.join("iomem")),
        })
        .filter(|boot| boot.log.contains("BIOS-e820:"))
        .collect();
    boots.sort_by(|low, high| low.name.cmp(&high.name));
    assert!(boots.len() >= 15, "only {} recorded boots", boots.len());
    boots
}

/// Lines of the log that start with `prefix` after the time stamp, each ended by a newline.
fn lines(log: &str, prefix: &str) -> String {
    let messages = log.lines().filter_map(|line| line.split_once("] ").map(|(_, message)| message));
    messages.filter(|message| message.starts_with(prefix)).map(|message| format!("{message}\n")).collect()
}

fn user_map(boot: &Boot) -> (MemoryMap, MapOrigin) {
    let mut map = parse_e820_log(&boot.log).expect("a map in the log");
    map.sanitize().unwrap();
    let options = BootOptions::parse(&boot.command_line).expect("good options");
    let origin = options.apply_to(&mut map).unwrap();
    (map, origin)
}

#[test]
fn the_firmware_map_is_printed_as_it_was_recorded() {
    for boot in x86_boots() {
        let mut map = parse_e820_log(&boot.log).unwrap();
        map.sanitize().unwrap();
        let mut printed = String::new();
        map.write_log("BIOS-e820", &mut printed).unwrap();
        assert_eq!(printed, lines(&boot.log, "BIOS-e820:"), "{}", boot.name);
    }
}

#[test]
fn options_change_the_map_as_recorded() {
    let mut changed = 0;
    for boot in x86_boots() {
        let (map, origin) = user_map(&boot);
        let mut printed = String::new();
        if origin == MapOrigin::User {
            map.write_log("user", &mut printed).unwrap();
            changed += 1;
        }
        assert_eq!(printed, lines(&boot.log, "user:"), "{}", boot.name);
    }
    assert!(changed >= 2, "no recorded boot changes its map");
}

#[test]
fn trimming_and_the_last_frame_are_as_recorded() {
    for boot in x86_boots() {
        let (mut map, _) = user_map(&boot);
        let changes = map.trim_bios_range().unwrap();
        let trimmed: String = changes.iter().map(|change| format!("{change}\n")).collect();
        assert!(boot.log.contains("Linux version") && lines(&boot.log, "e820: ").contains(&trimmed), "{}", boot.name);
        let last_pfn = format!("last_pfn = {:#x} max_arch_pfn", map.last_pfn(12, Pfn::new(1 << 34)).raw());
        assert!(lines(&boot.log, "last_pfn").starts_with(&last_pfn), "{}: {last_pfn}", boot.name);

        let added: String = map.of_kind(RangeKind::Usable).map(|entry| range_text(entry.range)).collect();
        let recorded = lines(&boot.log, "memblock_add: ")
            .lines()
            .filter_map(|line| line.split(' ').nth(1).map(|range| range.to_owned() + "\n"))
            .collect::<String>();
        assert_eq!(added, recorded, "{}", boot.name);
    }
}

fn range_text(range: PhysRange) -> String {
    format!("[{:#018x}-{:#018x}]\n", range.start.raw(), range.end.raw() - 1)
}

#[test]
fn iomem_shows_the_same_system_ram_as_the_log() {
    for boot in x86_boots() {
        let (mut map, _) = user_map(&boot);
        map.trim_bios_range().unwrap();
        let iomem = parse_iomem(&boot.iomem).unwrap_or_else(|error| panic!("{}: {error}", boot.name));
        let usable = |map: &MemoryMap| map.of_kind(RangeKind::Usable).map(|entry| entry.range).collect::<Vec<_>>();
        assert_eq!(usable(&iomem), usable(&map), "{}", boot.name);
    }
}

/// Counts tables; holds their entries.
#[derive(Default)]
struct Tables {
    entries: std::collections::HashMap<(u64, usize), u64>,
    taken: u64,
}

impl TableMemory for Tables {
    fn alloc_table(&mut self) -> Option<PhysAddr> {
        self.taken += 1;
        Some(PhysAddr::new(self.taken << 12))
    }

    fn read_entry(&self, table: PhysAddr, index: usize) -> u64 {
        self.entries.get(&(table.raw(), index)).copied().unwrap_or(0)
    }

    fn write_entry(&mut self, table: PhysAddr, index: usize, entry: u64) {
        self.entries.insert((table.raw(), index), entry);
    }
}

/// The recorded kernel maps its image with blocks where they fit, then memory page by page (rodata=full), except its own text and
/// read-only data, whose alias is mapped with blocks again. The sizes of the image's parts are in the log's `Memory:` line.
#[test]
fn an_arm64_boot_takes_as_many_tables_as_recorded() {
    type Format = Arm64<12, 48>;
    let log = read(&recordings().join("arm64-oom/dmesg"));
    let before_swap = log.split("paging_init+").next().unwrap();
    let recorded = before_swap.matches("early_pgtable_alloc+").count() as u64;

    let mut memory = Tables::default();
    let mut tables = PageTables::<Format>::alloc(&mut memory).unwrap();
    let (code, read_only, init, data, end) = (0x4021_0000, 0x40f0_0000, 0x4186_0000, 0x41eb_0000, 0x4221_0000);
    let image_base = 0xffff_8000_0800_0000 - 0x4020_0000;
    let range = |start, end| PhysRange::new(PhysAddr::new(start), PhysAddr::new(end));
    for part in [range(code, read_only), range(read_only, init), range(init, data), range(data, end)] {
        let virt = VirtAddr::new(image_base + part.start.raw());
        tables.map(&mut memory, virt, part, Attributes::KERNEL_CODE, Level::PMD).unwrap();
    }
    let direct = DirectMap::new::<Format>(PhysAddr::new(0x4000_0000));
    let outside_image = [range(0x4000_0000, code), range(init, 0x5000_0000)];
    tables.map_direct(&mut memory, &direct, outside_image, Attributes::KERNEL_DATA, Level::PTE).unwrap();
    tables.map_direct(&mut memory, &direct, [range(code, init)], Attributes::KERNEL_READ_ONLY, Level::PMD).unwrap();

    // The root is part of the image.
    assert_eq!(memory.taken - 1, recorded);
    assert_eq!(Format::ROOT, Level::P4D);
}
