//! Mapping ranges with the largest pages that fit.
//!
//! Tables are taken in ascending order of address, and a table before the ones below it, as Linux's early_pgtable_alloc is called.

use platform::{Attributes, Entry, Level, TableFormat};
use units::{Pfn, PhysAddr, PhysRange, VirtAddr};

use super::{DirectMap, MapError, PageTables, TableMemory};

impl<F: TableFormat> PageTables<F> {
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
        memory: &mut impl TableMemory,
        direct: &DirectMap,
        ranges: impl IntoIterator<Item = PhysRange>,
        attributes: Attributes,
        largest: Level,
    ) -> Result<(), MapError> {
        let mut held: Option<PhysRange> = None;
        let page_shift = self.format.page_shift();
        for range in ranges {
            let pages = range.whole_frames(page_shift);
            if pages.is_empty() {
                continue;
            }
            let range = pages.phys(page_shift);
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
        memory: &mut impl TableMemory,
        direct: &DirectMap,
        range: PhysRange,
        attributes: Attributes,
        largest: Level,
    ) -> Result<(), MapError> {
        let outside = MapError::OutsideAddressSpace(direct.start());
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
        memory: &mut impl TableMemory,
        virt: VirtAddr,
        range: PhysRange,
        attributes: Attributes,
        largest: Level,
    ) -> Result<(), MapError> {
        self.check_range(virt, range)?;
        let mut done = 0;
        while done < range.len() {
            let at = virt.saturating_add(done);
            let phys = range.start.saturating_add(done);
            let level = self.largest_fit(at, phys, range.len() - done, largest);
            let level = self.map_leaf(memory, at, phys, attributes, level)?;
            done += self.format.leaf_bytes(level);
        }
        Ok(())
    }

    /// Maps one leaf of `level`, or of a smaller one where smaller tables are in the way; returns the level.
    fn map_leaf(
        &mut self,
        memory: &mut impl TableMemory,
        virt: VirtAddr,
        phys: PhysAddr,
        attributes: Attributes,
        wanted: Level,
    ) -> Result<Level, MapError> {
        let (mut table, mut level) = (self.root(), self.format.root_level());
        loop {
            let index = self.format.index(level, virt);
            let entry = self.entry(memory, table, level, index);
            if entry == Entry::Empty && level <= wanted {
                memory.write_entry(table, index, self.format.encode_leaf(level, phys, attributes));
                return Ok(level);
            }
            (table, level) = self.step_down(memory, table, level, virt)?;
        }
    }

    /// Maps single pages one behind the other from `virt` up. Returns how many, and why not all.
    ///
    /// # Errors
    /// [`MapError`]; the pages before the failing one are mapped, and mapping can go on there.
    pub fn map_pages(
        &mut self,
        memory: &mut impl TableMemory,
        virt: VirtAddr,
        pages: &[Pfn],
        attributes: Attributes,
    ) -> (usize, Result<(), MapError>) {
        let page_shift = self.format.page_shift();
        let mut done = 0;
        while done < pages.len() {
            let at = virt.saturating_add((done as u64) << page_shift);
            let table = match self.lowest_table(memory, at) {
                Ok(table) => table,
                Err(error) => return (done, Err(error)),
            };
            let indexes = self.format.index(Level::PTE, at)..self.format.entries(Level::PTE);
            for (index, pfn) in indexes.zip(pages.iter().skip(done)) {
                if self.entry(memory, table, Level::PTE, index) != Entry::Empty {
                    let at = virt.saturating_add((done as u64) << page_shift);
                    return (done, Err(MapError::AlreadyMapped(at)));
                }
                let entry = self.format.encode_leaf(Level::PTE, pfn.phys(page_shift), attributes);
                memory.write_entry(table, index, entry);
                done += 1;
            }
        }
        (done, Ok(()))
    }

    /// Finds or makes the table whose entries map single pages around `virt`.
    fn lowest_table(&mut self, memory: &mut impl TableMemory, virt: VirtAddr) -> Result<PhysAddr, MapError> {
        if !self.format.is_kernel_address(virt) {
            return Err(MapError::OutsideAddressSpace(virt));
        }
        let (mut table, mut level) = (self.root(), self.format.root_level());
        while level != Level::PTE {
            (table, level) = self.step_down(memory, table, level, virt)?;
        }
        Ok(table)
    }

    /// Goes from a table to the one below it that translates `virt`, which is made if there is none.
    fn step_down(
        &mut self,
        memory: &mut impl TableMemory,
        table: PhysAddr,
        level: Level,
        virt: VirtAddr,
    ) -> Result<(PhysAddr, Level), MapError> {
        let index = self.format.index(level, virt);
        match (self.entry(memory, table, level, index), level.down()) {
            (Entry::Table(below), Some(down)) => Ok((below, down)),
            (Entry::Empty, Some(down)) => {
                let below = memory.alloc_table().ok_or(MapError::OutOfMemory)?;
                memory.write_entry(table, index, self.format.encode_table(level, below));
                Ok((below, down))
            }
            (_, _) => Err(MapError::AlreadyMapped(virt)),
        }
    }

    fn check_range(&self, virt: VirtAddr, range: PhysRange) -> Result<(), MapError> {
        let page = (1 << self.format.page_shift()) - 1;
        if (virt.raw() | range.start.raw() | range.end.raw()) & page != 0 {
            return Err(MapError::Unaligned(virt));
        }
        if range.is_empty() {
            return Ok(());
        }
        if range.end.raw() > 1 << self.format.phys_bits() {
            return Err(MapError::PhysTooHigh(range.end));
        }
        // The gap of unused addresses is longer than any physical range, so lawful ends cannot lie on both sides of it.
        let is_lawful = |virt: &VirtAddr| self.format.is_kernel_address(*virt);
        let last = virt.checked_add(range.len() - 1).filter(|last| is_lawful(last) && is_lawful(&virt));
        last.map(|_| ()).ok_or(MapError::OutsideAddressSpace(virt))
    }

    /// Returns the largest level, at most `largest`, whose leaf starts at both addresses and is no longer than `bytes`.
    pub fn largest_fit(&self, virt: VirtAddr, phys: PhysAddr, bytes: u64, largest: Level) -> Level {
        let mut level = largest.min(self.format.largest_leaf());
        while let Some(down) = level.down() {
            let size = self.format.leaf_bytes(level);
            if bytes >= size && (virt.raw() | phys.raw()) & (size - 1) == 0 {
                break;
            }
            level = down;
        }
        level
    }
}
