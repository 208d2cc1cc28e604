//! What `mem=` and `memmap=` would have changed of a recorded boot's memory, had they stood on its command line.
//!
//! The recorded calls add the memory that the kernel had. On x86 the options change the firmware's map, which the log shows: what they
//! take from it or give to it is taken from memblock, or given to it, right after the last recorded call that adds memory.
//! Elsewhere `mem=` limits the amount at that point.
//! Linux 6.12: arch/x86/kernel/e820.c, arch/arm64/mm/init.c (`arm64_memblock_init`).

use boot_memory::firmware::{BootOptions, MemoryMap, OptionToken, RangeKind, option_tokens, parse_e820_log};
use boot_memory::memblock::{BootContext, Memblock, MemblockError};
use units::PhysRange;

use super::start::ByteSet;
use super::{Architecture, BootLog, BootLogError};

/// A change to make.
#[derive(Clone, Debug, Default)]
pub(super) struct MemoryChange {
    removed: ByteSet,
    added: ByteSet,
    /// Most bytes of memory (arm64).
    limit: Option<u64>,
}

impl MemoryChange {
    /// Compares the memory that `appended` leaves with that of the recorded command line.
    ///
    /// # Errors
    /// [`BootLogError::NoFirmwareMap`] if the options change a map that the log does not show, or cut it into too many pieces.
    pub(super) fn of(log: &BootLog, appended: &BootOptions<'_>) -> Result<Self, BootLogError> {
        let changes_map = appended.map_changes().next().is_some();
        if log.architecture == Architecture::Other || !changes_map {
            return Ok(Self { limit: appended.mem, ..Self::default() });
        }
        let map = parse_e820_log(&log.lines.join("\n")).map_err(|_| BootLogError::NoFirmwareMap)?;
        let recorded: Vec<&str> = option_tokens(log.command_line.as_deref().unwrap_or_default())
            .filter(is_memory_option)
            .map(|token| token.text)
            .collect();
        let recorded = recorded.join(" ");
        let before = usable(map.clone(), &recorded)?;
        let after = usable(map, &format!("{recorded} {}", appended.command_line()))?;
        let without = |all: &[PhysRange], gone: &[PhysRange]| {
            let mut set = ByteSet::default();
            all.iter().for_each(|&range| set.insert(range));
            gone.iter().for_each(|&range| set.remove(range));
            set
        };
        Ok(Self { removed: without(&before, &after), added: without(&after, &before), limit: None })
    }

    /// Makes the change.
    pub(super) fn apply(&self, memblock: &mut Memblock, cx: &mut BootContext<'_>) -> Result<(), MemblockError> {
        for range in self.removed.sorted() {
            memblock.remove(range.start, range.len(), cx)?;
        }
        for range in self.added.sorted() {
            memblock.add(range.start, range.len(), cx)?;
        }
        match self.limit {
            Some(limit) => memblock.mem_limit_remove_map(limit, cx),
            None => Ok(()),
        }
    }
}

/// The kernel has read past options that it could not use.
fn is_memory_option(token: &OptionToken<'_>) -> bool {
    (token.is("mem") || token.is("memmap")) && BootOptions::parse(token.text).is_ok()
}

/// Returns what a kernel with this command line takes for memory.
fn usable(mut map: MemoryMap, command_line: &str) -> Result<Vec<PhysRange>, BootLogError> {
    let options = BootOptions::parse(command_line).unwrap_or_default();
    map.sanitize()
        .and_then(|()| options.apply_to(&mut map).map(drop))
        .and_then(|()| map.trim_bios_range())
        .map_err(|_| BootLogError::NoFirmwareMap)?;
    Ok(map.of_kind(RangeKind::Usable).map(|entry| entry.range.whole_frames(12).phys(12)).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use units::PhysAddr;

    use super::super::{Until, replay, replay_with};
    use super::*;

    fn recorded(name: &str) -> BootLog {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/boots");
        BootLog::parse(&fs::read(directory.join(name).join("dmesg")).unwrap()).unwrap()
    }

    fn memory(name: &str, append: &str) -> Vec<PhysRange> {
        let replayed = replay_with(&recorded(name), Until::HandOver, &BootOptions::parse(append).unwrap()).unwrap();
        replayed.memblock.memory().iter().map(|region| region.range()).collect()
    }

    #[test]
    fn without_memory_options_nothing_changes() {
        for name in ["m2g", "memlimit", "memmap-holes", "arm64-m2g", "i386-m3g"] {
            let plain = replay(&recorded(name), Until::HandOver).unwrap();
            let plain: Vec<PhysRange> = plain.memblock.memory().iter().map(|region| region.range()).collect();
            assert_eq!(memory(name, "kernelcore=64M quiet"), plain, "{name}");
        }
    }

    #[test]
    fn a_limit_cuts_memory_off() {
        let end = |ranges: &[PhysRange]| ranges.last().unwrap().end;
        assert_eq!(end(&memory("m2g", "mem=1G")), PhysAddr::new(1 << 30));
        assert_eq!(end(&memory("i386-m3g", "mem=1G")), PhysAddr::new(1 << 30));
        let arm: u64 = memory("arm64-m2g", "mem=1G").iter().map(|range| range.len()).sum();
        assert_eq!(arm, 1 << 30);
    }

    #[test]
    fn a_hole_and_an_added_range_change_the_firmwares_map() {
        let hole = PhysRange::new(PhysAddr::new(0x2000_0000), PhysAddr::new(0x2400_0000));
        let ranges = memory("m2g", "memmap=64M$512M");
        assert!(ranges.iter().all(|range| !range.overlaps(hole)), "{ranges:?}");
        let more = memory("m2g", "memmap=1G@4G");
        assert_eq!(more.last(), Some(&PhysRange::new(PhysAddr::new(4 << 30), PhysAddr::new(5 << 30))));
    }

    #[test]
    fn options_come_on_top_of_the_recorded_ones() {
        let recorded = memory("memlimit", "");
        let end = recorded.last().unwrap().end;
        assert_eq!(memory("memlimit", "mem=64G"), recorded, "the lower limit counts");
        assert!(memory("memlimit", "mem=256M").last().unwrap().end < end);
    }

    #[test]
    fn a_log_without_the_map_says_so() {
        let mut log = recorded("m2g");
        log.lines.iter_mut().filter(|line| line.starts_with("BIOS-e820:")).for_each(String::clear);
        let options = BootOptions::parse("mem=1G").unwrap();
        assert_eq!(replay_with(&log, Until::End, &options).err(), Some(BootLogError::NoFirmwareMap));
    }
}
