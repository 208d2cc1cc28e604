//! Typed ranges of physical memory, as the firmware reports them: the structure that every firmware parser fills.
//!
//! Holds ranges in the order in which they were reported, overlapping or not, until [`MemoryMap::sanitize`] (in `reshape`)
//! sorts them. Linux 6.12: struct e820_table; E820_MAX_ENTRIES.

use core::fmt;

use units::{Pfn, PhysRange};

/// Most ranges of a map: 128 of the boot protocol and three for each of 64 nodes (Linux: E820_MAX_ENTRIES).
pub const MAX_MAP_ENTRIES: usize = 128 + 3 * units::MAX_NODES;

/// What a range of physical memory may be used for. The order is that of the e820 type numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RangeKind {
    /// RAM that the kernel may use.
    Usable,
    /// Not to be touched.
    Reserved,
    /// ACPI tables: usable once they have been read.
    AcpiData,
    /// ACPI memory that must survive sleep.
    AcpiNvs,
    /// RAM found broken.
    Unusable,
    /// Non-volatile memory (type 7).
    Persistent,
    /// Non-volatile memory as firmware reported it before a number was assigned, and as `memmap=nn!ss` marks it (type 12).
    LegacyPersistent,
    /// RAM that the firmware asks to be kept for a special purpose.
    SoftReserved,
    /// Any other type number.
    Other(u32),
}

impl RangeKind {
    /// Names the kind with e820 type number `number`.
    pub const fn from_e820(number: u32) -> Self {
        match number {
            1 => Self::Usable,
            2 => Self::Reserved,
            3 => Self::AcpiData,
            4 => Self::AcpiNvs,
            5 => Self::Unusable,
            7 => Self::Persistent,
            12 => Self::LegacyPersistent,
            0xefff_ffff => Self::SoftReserved,
            other => Self::Other(other),
        }
    }

    /// Returns the e820 type number.
    pub const fn e820(self) -> u32 {
        match self {
            Self::Usable => 1,
            Self::Reserved => 2,
            Self::AcpiData => 3,
            Self::AcpiNvs => 4,
            Self::Unusable => 5,
            Self::Persistent => 7,
            Self::LegacyPersistent => 12,
            Self::SoftReserved => 0xefff_ffff,
            Self::Other(number) => number,
        }
    }
}

/// Writes the kind in the words of the kernel log.
impl fmt::Display for RangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usable => f.write_str("usable"),
            Self::Reserved => f.write_str("reserved"),
            Self::AcpiData => f.write_str("ACPI data"),
            Self::AcpiNvs => f.write_str("ACPI NVS"),
            Self::Unusable => f.write_str("unusable"),
            Self::Persistent | Self::LegacyPersistent => write!(f, "persistent (type {})", self.e820()),
            Self::SoftReserved => f.write_str("soft reserved"),
            Self::Other(number) => write!(f, "type {number}"),
        }
    }
}

/// Words that name no [`RangeKind`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownKind;

impl fmt::Display for UnknownKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "expected usable, reserved, ACPI data, ACPI NVS, unusable, persistent (type N), soft reserved or type N",
        )
    }
}

impl core::error::Error for UnknownKind {}

/// Reads the words that [`fmt::Display`] writes.
impl core::str::FromStr for RangeKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Ok(match text {
            "usable" => Self::Usable,
            "reserved" => Self::Reserved,
            "ACPI data" => Self::AcpiData,
            "ACPI NVS" => Self::AcpiNvs,
            "unusable" => Self::Unusable,
            "soft reserved" => Self::SoftReserved,
            _ => {
                let persistent = text.strip_prefix("persistent (").and_then(|inner| inner.strip_suffix(')'));
                let number = persistent.unwrap_or(text).strip_prefix("type ").ok_or(UnknownKind)?;
                Self::from_e820(number.parse().map_err(|_| UnknownKind)?)
            }
        })
    }
}

bitflags::bitflags! {
    /// What is known of a range beside its kind.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct RangeFlags: u8 {
        /// May be unplugged while the system runs.
        const HOTPLUG = 1;
        /// Mirrored by the hardware against errors.
        const MIRROR = 2;
        /// Must not be in the direct map.
        const NOMAP = 4;
    }
}

/// One range of a [`MemoryMap`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapEntry {
    /// The bytes; never empty.
    pub range: PhysRange,
    /// What they may be used for.
    pub kind: RangeKind,
    /// What else is known of them.
    pub flags: RangeFlags,
}

/// Writes the range as a line of the kernel log does, after its prefix: `[mem 0x...-0x...] usable`.
impl fmt::Display for MapEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.range.end.raw().saturating_sub(1);
        write!(f, "[mem {:#018x}-{:#018x}] {}", self.range.start.raw(), last, self.kind)
    }
}

/// A map that already holds [`MAX_MAP_ENTRIES`] ranges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapFull;

impl fmt::Display for MapFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the memory map has more than {MAX_MAP_ENTRIES} ranges")
    }
}

impl core::error::Error for MapFull {}

/// Typed ranges of physical memory.
///
/// # Invariants
/// The first `len` entries are set and none of them is empty.
///
/// ```
/// use mmkit_boot_memory::firmware::{MemoryMap, RangeKind};
/// use units::{PhysAddr, PhysRange};
///
/// let mut map = MemoryMap::new();
/// map.push(PhysRange::with_len(PhysAddr::new(0), 64 << 20), RangeKind::Usable).unwrap();
/// map.push(PhysRange::with_len(PhysAddr::new(16 << 20), 1 << 20), RangeKind::Reserved).unwrap();
/// map.sanitize().unwrap();
/// assert_eq!(map.entries().len(), 3);
/// assert_eq!(map.bytes_of(RangeKind::Usable), 63 << 20);
/// ```
#[derive(Clone)]
pub struct MemoryMap {
    entries: [MapEntry; MAX_MAP_ENTRIES],
    len: usize,
}

const UNSET: MapEntry = MapEntry {
    range: PhysRange::new(units::PhysAddr::ZERO, units::PhysAddr::ZERO),
    kind: RangeKind::Reserved,
    flags: RangeFlags::empty(),
};

impl MemoryMap {
    /// Makes a map without ranges.
    pub const fn new() -> Self {
        Self { entries: [UNSET; MAX_MAP_ENTRIES], len: 0 }
    }

    /// Returns the ranges, in the order in which they were added or sorted.
    pub fn entries(&self) -> &[MapEntry] {
        self.entries.get(..self.len).unwrap_or_default()
    }

    /// Returns the ranges for sorting in place.
    pub(super) fn entries_mut(&mut self) -> &mut [MapEntry] {
        self.entries.get_mut(..self.len).unwrap_or_default()
    }

    /// Forgets all ranges.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds a range without flags; an empty range is dropped.
    ///
    /// # Errors
    /// [`MapFull`]; the map is unchanged.
    pub fn push(&mut self, range: PhysRange, kind: RangeKind) -> Result<(), MapFull> {
        self.push_entry(MapEntry { range, kind, flags: RangeFlags::empty() })
    }

    /// Adds a range with its flags; an empty range is dropped.
    ///
    /// # Errors
    /// [`MapFull`]; the map is unchanged.
    pub fn push_entry(&mut self, entry: MapEntry) -> Result<(), MapFull> {
        if entry.range.is_empty() {
            return Ok(());
        }
        *self.entries.get_mut(self.len).ok_or(MapFull)? = entry;
        self.len += 1;
        Ok(())
    }

    /// Returns the ranges of one kind, in the map's order.
    pub fn of_kind(&self, kind: RangeKind) -> impl Iterator<Item = &MapEntry> {
        self.entries().iter().filter(move |entry| entry.kind == kind)
    }

    /// Returns the sum of the lengths of the ranges of one kind; exact for a sanitized map.
    pub fn bytes_of(&self, kind: RangeKind) -> u64 {
        self.of_kind(kind).fold(0, |sum: u64, entry| sum.saturating_add(entry.range.len()))
    }

    /// Returns the frame after the last whole usable one below `limit` (Linux: e820__end_of_ram_pfn; last_pfn).
    ///
    /// A partial page at the end of a range does not count.
    pub fn last_pfn(&self, page_shift: u32, limit: Pfn) -> Pfn {
        self.of_kind(RangeKind::Usable)
            .filter(|entry| entry.range.start.pfn_down(page_shift) < limit)
            .map(|entry| entry.range.end.pfn_down(page_shift).min(limit))
            .max()
            .unwrap_or(Pfn::ZERO)
    }

    /// Writes one kernel-log line for each range: `PREFIX: [mem 0x...-0x...] usable` (prefix `BIOS-e820` or `user`).
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_log(&self, prefix: &str, out: &mut dyn fmt::Write) -> fmt::Result {
        self.entries().iter().try_for_each(|entry| writeln!(out, "{prefix}: {entry}"))
    }
}

impl Default for MemoryMap {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for MemoryMap {
    fn eq(&self, other: &Self) -> bool {
        self.entries() == other.entries()
    }
}

impl Eq for MemoryMap {}

impl fmt::Debug for MemoryMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries().iter().map(|entry| (entry.range, entry.kind, entry.flags))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use units::PhysAddr;

    #[test]
    fn a_full_map_refuses_one_more_range_and_keeps_what_it_has() {
        let mut map = MemoryMap::new();
        for index in 0..MAX_MAP_ENTRIES as u64 {
            map.push(PhysRange::with_len(PhysAddr::new(index * 0x2000), 0x1000), RangeKind::Usable).unwrap();
        }
        let kept = map.clone();
        assert_eq!(map.push(PhysRange::with_len(PhysAddr::ZERO, 1), RangeKind::Reserved), Err(MapFull));
        assert_eq!(map, kept);
    }

    #[test]
    fn last_pfn_ignores_partial_pages_and_ranges_above_the_limit() {
        let mut map = MemoryMap::new();
        map.push(PhysRange::new(PhysAddr::new(0x10_0000), PhysAddr::new(0x1ff_0800)), RangeKind::Usable).unwrap();
        map.push(PhysRange::with_len(PhysAddr::new(1 << 40), 1 << 30), RangeKind::Usable).unwrap();
        assert_eq!(map.last_pfn(12, Pfn::new(1 << 20)), Pfn::new(0x1ff0));
        assert_eq!(map.last_pfn(12, Pfn::new(1 << 34)), Pfn::new((1 << 28) + (1 << 18)));
    }

    #[test]
    fn type_numbers_and_kinds_name_each_other() {
        for number in (0..20).chain([0xefff_ffff, u32::MAX]) {
            assert_eq!(RangeKind::from_e820(number).e820(), number);
        }
    }
}
