//! Changes to a [`MemoryMap`] as a whole: overlaps resolved, parts retyped or removed, the first megabyte trimmed.
//!
//! Used by the boot code of the x86 machines and by the kernel options.
//! Linux 6.12: arch/x86/kernel/e820.c (e820__update_table, e820__range_update, e820__range_remove), setup.c (trim_bios_range).

use core::fmt;

use units::{PhysAddr, PhysRange};

use super::memory_map::{MAX_MAP_ENTRIES, MapEntry, MapFull, MemoryMap, RangeKind};

/// The addresses of legacy video memory and ROMs, which a PC never has usable RAM at.
pub const BIOS_HOLE: PhysRange = PhysRange::new(PhysAddr::new(0xa_0000), PhysAddr::new(0x10_0000));

/// A retyping or removal, as the kernel log reports it: `update [mem ...] usable ==> reserved` or `remove [mem ...] usable`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RangeChange {
    /// The range that was asked for, whether or not all of it was there.
    pub range: PhysRange,
    /// The kind that is changed; `None` for every kind.
    pub from: Option<RangeKind>,
    /// The kind that it gets; `None` removes it.
    pub to: Option<RangeKind>,
}

impl fmt::Display for RangeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.to.is_some() { "update" } else { "remove" };
        let last = self.range.end.raw().saturating_sub(1);
        write!(f, "e820: {verb} [mem {:#010x}-{last:#010x}]", self.range.start.raw())?;
        self.from.map_or(Ok(()), |from| write!(f, " {from}"))?;
        self.to.map_or(Ok(()), |to| write!(f, " ==> {to}"))
    }
}

impl MemoryMap {
    /// Sorts the ranges and resolves overlaps: where ranges overlap, the one with the highest e820 type number wins.
    ///
    /// Neighbours of one kind and equal flags are merged, except soft-reserved ones, which keep the firmware's borders.
    ///
    /// # Errors
    /// [`MapFull`] if the pieces are too many; the map is unchanged.
    pub fn sanitize(&mut self) -> Result<(), MapFull> {
        self.entries_mut().sort_unstable_by_key(|entry| (entry.range.start, entry.range.end));
        let mut borders = [PhysAddr::ZERO; 2 * MAX_MAP_ENTRIES];
        let count = collect_borders(self.entries(), &mut borders);
        let sorted = borders.get(..count).unwrap_or_default();
        let mut clean = Self::new();
        let mut last: Option<MapEntry> = None;
        for (&start, &end) in sorted.iter().zip(sorted.iter().skip(1)) {
            let Some(piece) = winner(self.entries(), PhysRange::new(start, end)) else { continue };
            match &mut last {
                Some(entry) if joins(entry, &piece) => entry.range.end = piece.range.end,
                _ => {
                    last.map_or(Ok(()), |entry| clean.push_entry(entry))?;
                    last = Some(piece);
                }
            }
        }
        last.map_or(Ok(()), |entry| clean.push_entry(entry))?;
        *self = clean;
        Ok(())
    }

    /// Retypes or removes the part of `change.range` that has the kind `change.from`.
    ///
    /// # Errors
    /// [`MapFull`] if the pieces are too many; the map is unchanged.
    pub fn change(&mut self, change: RangeChange) -> Result<(), MapFull> {
        let mut changed = Self::new();
        for entry in self.entries() {
            let hit = entry.range.intersection(change.range);
            if hit.is_empty() || change.from.is_some_and(|from| from != entry.kind) {
                changed.push_entry(*entry)?;
                continue;
            }
            changed.push_entry(MapEntry { range: PhysRange::new(entry.range.start, hit.start), ..*entry })?;
            if let Some(kind) = change.to {
                changed.push_entry(MapEntry { range: hit, kind, ..*entry })?;
            }
            changed.push_entry(MapEntry { range: PhysRange::new(hit.end, entry.range.end), ..*entry })?;
        }
        *self = changed;
        Ok(())
    }

    /// Takes page 0 and [`BIOS_HOLE`] out of usable memory and sanitizes; returns the two changes for the log.
    ///
    /// Page 0 holds firmware data and marks null; firmware is known to report RAM in the hole where there is none.
    ///
    /// # Errors
    /// [`MapFull`] if the pieces are too many.
    pub fn trim_bios_range(&mut self) -> Result<[RangeChange; 2], MapFull> {
        let first_page = RangeChange {
            range: PhysRange::with_len(PhysAddr::ZERO, 0x1000),
            from: Some(RangeKind::Usable),
            to: Some(RangeKind::Reserved),
        };
        let hole = RangeChange { range: BIOS_HOLE, from: Some(RangeKind::Usable), to: None };
        self.change(first_page)?;
        self.change(hole)?;
        self.sanitize()?;
        Ok([first_page, hole])
    }
}

/// Writes the sorted, distinct starts and ends of `entries` and returns how many there are.
fn collect_borders(entries: &[MapEntry], borders: &mut [PhysAddr; 2 * MAX_MAP_ENTRIES]) -> usize {
    let ends = entries.iter().flat_map(|entry| [entry.range.start, entry.range.end]);
    let mut filled = 0;
    for (slot, border) in borders.iter_mut().zip(ends) {
        *slot = border;
        filled += 1;
    }
    let used = borders.get_mut(..filled).unwrap_or_default();
    used.sort_unstable();
    let mut distinct = 0;
    for index in 0..used.len() {
        let Some(&border) = used.get(index) else { break };
        if distinct == 0 || used.get(distinct - 1) != Some(&border) {
            if let Some(slot) = used.get_mut(distinct) {
                *slot = border;
            }
            distinct += 1;
        }
    }
    distinct
}

/// Returns `piece`, which no border of `entries` cuts, with the highest kind that covers it and the flags of all of that kind.
fn winner(entries: &[MapEntry], piece: PhysRange) -> Option<MapEntry> {
    let mut best: Option<MapEntry> = None;
    for entry in entries.iter().take_while(|entry| entry.range.start <= piece.start) {
        if entry.range.end <= piece.start {
            continue;
        }
        match &mut best {
            Some(held) if held.kind == entry.kind => held.flags |= entry.flags,
            Some(held) if held.kind.e820() > entry.kind.e820() => {}
            _ => best = Some(MapEntry { range: piece, kind: entry.kind, flags: entry.flags }),
        }
    }
    best
}

fn joins(low: &MapEntry, high: &MapEntry) -> bool {
    let alike = low.kind == high.kind && low.flags == high.flags;
    alike && low.range.end == high.range.start && low.kind != RangeKind::SoftReserved
}

#[cfg(test)]
mod tests;
