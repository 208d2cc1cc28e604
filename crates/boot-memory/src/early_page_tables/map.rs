//! Mapping ranges with the largest pages that fit.
//!
//! Tables are taken in ascending order of address, and a table before the ones below it, as Linux's early_pgtable_alloc is called.

use platform::{Attributes, Entry, Level, PageTableFormat};
use units::{PhysAddr, PhysRange, VirtAddr};

use super::{DirectMap, EarlyTableMemory, MapError, PageTables};

impl<F: PageTableFormat> PageTables<F> {
    /// Maps the whole pages of `ranges`, which must ascend, into the direct map.
    ///
    /// Ranges that touch are joined, so that a large page may reach over their border. No leaf is larger than `largest`: an x86
    /// processor without 1 GiB pages takes [`Level::PMD`], and a kernel that changes attributes page by page [`Level::PTE`] (arm64's
    /// rodata=full).
    ///
    /// # Errors
    /// [`MapError`]; the ranges before the failing one, and a part of it, are mapped.
    pub fn map_direct(
        &mut self,
        memory: &mut impl EarlyTableMemory,
        direct: &DirectMap,
        ranges: impl IntoIterator<Item = PhysRange>,
        attributes: Attributes,
        largest: Level,
    ) -> Result<(), MapError> {
        let mut held: Option<PhysRange> = None;
        for range in ranges {
            let pages = range.whole_frames(F::PAGE_SHIFT);
            if pages.is_empty() {
                continue;
            }
            let range = pages.phys(F::PAGE_SHIFT);
            match &mut held {
                Some(joined) if joined.end == range.start => joined.end = range.end,
                _ => {
                    let ready = held.replace(range);
                    ready.map_or(Ok(()), |ready| self.map_shown(memory, direct, ready, attributes, largest))?;
                }
            }
        }
        held.map_or(Ok(()), |ready| self.map_shown(memory, direct, ready, attributes, largest))
    }

    fn map_shown(
        &mut self,
        memory: &mut impl EarlyTableMemory,
        direct: &DirectMap,
        range: PhysRange,
        attributes: Attributes,
        largest: Level,
    ) -> Result<(), MapError> {
        let outside = MapError::OutsideAddressSpace(F::DIRECT_MAP_BASE);
        let virt = direct.phys_to_virt(range.start).ok_or(outside)?;
        direct.phys_to_virt(PhysAddr::new(range.end.raw() - 1)).ok_or(outside)?;
        self.map(memory, virt, range, attributes, largest)
    }

    /// Maps `range` at `virt` with the largest leaves, at most `largest`, that alignment and length allow.
    ///
    /// # Errors
    /// [`MapError`]; a part of the range may be mapped.
    pub fn map(
        &mut self,
        memory: &mut impl EarlyTableMemory,
        virt: VirtAddr,
        range: PhysRange,
        attributes: Attributes,
        largest: Level,
    ) -> Result<(), MapError> {
        check_range::<F>(virt, range)?;
        let mut done = 0;
        while done < range.len() {
            let at = virt.saturating_add(done);
            let phys = range.start.saturating_add(done);
            let level = largest_fit::<F>(at, phys, range.len() - done, largest);
            let level = self.map_leaf(memory, at, phys, attributes, level)?;
            done += F::leaf_bytes(level);
        }
        Ok(())
    }

    /// Maps one leaf of `level`, or of a smaller one where smaller tables are in the way; returns the level.
    fn map_leaf(
        &mut self,
        memory: &mut impl EarlyTableMemory,
        virt: VirtAddr,
        phys: PhysAddr,
        attributes: Attributes,
        wanted: Level,
    ) -> Result<Level, MapError> {
        let (mut table, mut level) = (self.root(), F::ROOT);
        loop {
            let index = F::index(level, virt);
            let entry = F::decode(level, memory.read_entry(table, index));
            table = match (entry, level.down()) {
                (Entry::Leaf(..), _) => return Err(MapError::AlreadyMapped(virt)),
                (Entry::Empty, _) if level <= wanted => {
                    memory.write_entry(table, index, F::encode_leaf(level, phys, attributes));
                    return Ok(level);
                }
                (Entry::Table(below), Some(down)) => {
                    level = down;
                    below
                }
                (Entry::Empty, Some(down)) => {
                    let below = memory.alloc_table().ok_or(MapError::OutOfMemory)?;
                    memory.write_entry(table, index, F::encode_table(level, below));
                    level = down;
                    below
                }
                (_, None) => return Err(MapError::AlreadyMapped(virt)),
            };
        }
    }
}

fn check_range<F: PageTableFormat>(virt: VirtAddr, range: PhysRange) -> Result<(), MapError> {
    let page = (1 << F::PAGE_SHIFT) - 1;
    if (virt.raw() | range.start.raw() | range.end.raw()) & page != 0 {
        return Err(MapError::Unaligned(virt));
    }
    if range.is_empty() {
        return Ok(());
    }
    if range.end.raw() > 1 << F::PHYS_BITS {
        return Err(MapError::PhysTooHigh(range.end));
    }
    // The gap of unused addresses is longer than any physical range, so lawful ends cannot lie on both sides of it.
    let last =
        virt.checked_add(range.len() - 1).filter(|&last| F::is_kernel_address(last) && F::is_kernel_address(virt));
    last.map(|_| ()).ok_or(MapError::OutsideAddressSpace(virt))
}

/// Returns the largest level, at most `largest`, whose leaf starts at both addresses and is no longer than `bytes`.
fn largest_fit<F: PageTableFormat>(virt: VirtAddr, phys: PhysAddr, bytes: u64, largest: Level) -> Level {
    let mut level = largest.min(F::LARGEST_LEAF);
    while let Some(down) = level.down() {
        let size = F::leaf_bytes(level);
        if bytes >= size && (virt.raw() | phys.raw()) & (size - 1) == 0 {
            break;
        }
        level = down;
    }
    level
}
