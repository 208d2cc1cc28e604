//! Cutting memory down: `mem=` limits, capped ranges and page alignment.
//!
//! Linux 6.12: mm/memblock.c (`memblock_enforce_memory_limit`, `memblock_cap_memory_range`,
//! `memblock_mem_limit_remove_map`, `memblock_trim_memory`).

use units::{PhysAddr, PhysRange};

use super::context::BootContext;
use super::region::RegionFlags;
use super::{ListKind, Memblock, MemblockError};

impl Memblock {
    /// Keeps the lowest `limit` bytes of memory and drops memory and reservations above them; 0 keeps everything.
    pub fn enforce_memory_limit(&mut self, limit: u64, cx: &mut BootContext<'_>) -> Result<(), MemblockError> {
        let Some(max_addr) = self.max_addr(limit) else { return Ok(()) };
        self.remove_range(ListKind::Memory, max_addr, u64::MAX, cx)?;
        self.remove_range(ListKind::Reserved, max_addr, u64::MAX, cx)
    }

    /// Drops memory and reservations outside the given range, except memory marked nomap.
    pub fn cap_memory_range(
        &mut self,
        base: PhysAddr,
        size: u64,
        cx: &mut BootContext<'_>,
    ) -> Result<(), MemblockError> {
        if size == 0 {
            return Ok(());
        }
        if self.memory.total_size() == 0 {
            self.warn_no_memory("memblock_cap_memory_range", cx);
            return Ok(());
        }
        let kept = PhysRange::with_len(base, size);
        self.make_room(ListKind::Memory, 2, kept, cx)?;
        self.make_room(ListKind::Reserved, 2, kept, cx)?;
        let window = self.memory.isolate(kept);
        for index in (0..self.memory.regions().len()).rev() {
            let outside = !window.contains(&index);
            if outside && !self.memory.regions()[index].flags.contains(RegionFlags::NOMAP) {
                self.memory.replace(index..index + 1, &[]);
            }
        }
        let all = self.memory.regions().len();
        self.memory.merge(0..all);
        self.remove_range(ListKind::Reserved, PhysAddr::ZERO, base.raw(), cx)?;
        self.remove_range(ListKind::Reserved, kept.end, u64::MAX, cx)
    }

    /// Keeps the lowest `limit` bytes of memory and what is marked nomap; 0 keeps everything.
    pub fn mem_limit_remove_map(&mut self, limit: u64, cx: &mut BootContext<'_>) -> Result<(), MemblockError> {
        let Some(max_addr) = self.max_addr(limit) else { return Ok(()) };
        self.cap_memory_range(PhysAddr::ZERO, max_addr.raw(), cx)
    }

    /// Shrinks every memory region to multiples of `align`, a power of two, and drops what becomes empty.
    ///
    /// The total size keeps counting what was shaved off a region that stays, as in Linux; the configuration dump shows it.
    pub fn trim_memory(&mut self, align: u64) {
        for index in (0..self.memory.regions().len()).rev() {
            let region = self.memory.regions()[index];
            let start = region.base.align_up(align);
            let end = region.end().align_down(align);
            if start < end && start >= region.base {
                self.memory.shrink_uncounted(index, PhysRange::new(start, end));
            } else {
                self.memory.replace(index..index + 1, &[]);
            }
        }
    }

    /// Returns the address below which `limit` bytes of memory lie; `None` if there is less, or no limit.
    fn max_addr(&self, limit: u64) -> Option<PhysAddr> {
        if limit == 0 {
            return None;
        }
        let mut left = limit;
        for region in self.memory() {
            if left <= region.size {
                return Some(region.base.saturating_add(left));
            }
            left -= region.size;
        }
        None
    }
}
