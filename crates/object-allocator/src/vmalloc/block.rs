//! Short mappings of a few pages, from a block of addresses that each CPU has ahead.
//!
//! A CPU hands the addresses of its block out one behind the other, without a lock, and never twice. What is unmapped is only counted;
//! once all of a block is, the block goes the way of every area, so that one flush covers all of its mappings.
//! Linux 6.12: struct vmap_block, `vm_map_ram`, `vm_unmap_ram`, `vb_alloc`, `vb_free`, `new_vmap_block`.

use page_allocator::Hooks;
use platform::{Attributes, Platform};
use sync::{Cpu, OwnerCell};
use units::{Gfp, Pfn, VirtAddr, VirtRange};

use super::VmallocError;
use super::alloc::Place;
use super::area::{AreaKind, AreaPtr, AreaState};
use super::error::BadVfree;
use super::free::Pages;
use crate::ObjectAllocator;

/// Most pages of a mapping from a block (Linux: VMAP_MAX_ALLOC).
const MAX_BLOCK_MAPPING: usize = 32;

/// Most and fewest pages of a block (Linux: VMAP_BBMAP_BITS_MAX, VMAP_BBMAP_BITS_MIN).
const MAX_BLOCK_PAGES: u64 = 1024;
const MIN_BLOCK_PAGES: u64 = 2 * MAX_BLOCK_MAPPING as u64;

/// Returns the pages of a block: a sixteenth of each CPU's share of the addresses, within limits (Linux: VMAP_BBMAP_BITS).
pub(super) const fn block_pages(all: u64, nr_cpus: usize) -> u64 {
    let share = all / (nr_cpus as u64).next_power_of_two() / 16;
    if share >= MAX_BLOCK_PAGES {
        MAX_BLOCK_PAGES
    } else if share <= MIN_BLOCK_PAGES {
        MIN_BLOCK_PAGES
    } else {
        1 << share.ilog2()
    }
}

/// The block that a CPU hands addresses out of.
///
/// # Invariants
/// Some addresses of the block are left, so that it cannot go before its CPU gives it up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Front {
    block: Option<Block>,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    area: AreaPtr,
    /// Addresses that were not handed out.
    left: VirtRange,
}

impl Front {
    /// Hands out the next `bytes`.
    fn take(&mut self, bytes: u64) -> Option<VirtAddr> {
        let block = self.block.as_mut().filter(|block| block.left.len() >= bytes)?;
        let start = block.left.start;
        block.left.start = start.saturating_add(bytes);
        if block.left.is_empty() {
            // INVARIANT: a block without addresses left goes when its last mapping does, without its CPU.
            self.block = None;
        }
        Some(start)
    }
}

/// A short mapping (Linux: what vm_map_ram returns).
#[derive(PartialEq, Eq, Debug)]
#[must_use = "dropping a mapping leaks its addresses"]
pub struct RamMapping {
    range: VirtRange,
}

impl RamMapping {
    /// Returns the addresses.
    pub const fn range(&self) -> VirtRange {
        self.range
    }
}

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Shows `pages` side by side for a short time (Linux: vm_map_ram). They stay whose they are.
    ///
    /// # Errors
    /// [`VmallocError`]; nothing is mapped then.
    pub fn vm_map_ram(&self, cpu: &Cpu, pages: &[Pfn]) -> Result<RamMapping, VmallocError> {
        let bytes = (pages.len() * self.map().page_size()) as u64;
        self.pages_of(bytes)?;
        let start = if pages.len() <= MAX_BLOCK_MAPPING {
            self.take_addresses(cpu, bytes)?
        } else {
            self.reserve_area(cpu, &ram_place(bytes, 1))?.1
        };
        let mapping = RamMapping { range: VirtRange::with_len(start, bytes) };
        match self.map_pages(cpu, start, pages, Attributes::KERNEL_DATA, Gfp::KERNEL).1 {
            Ok(()) => Ok(mapping),
            Err(error) => {
                let unmapped = self.vm_unmap_ram(cpu, mapping);
                debug_assert!(unmapped.is_ok(), "the addresses were handed out by this function");
                Err(error)
            }
        }
    }

    /// Takes a short mapping away (Linux: vm_unmap_ram).
    ///
    /// # Errors
    /// [`BadVfree`] if it was not made by this allocator; nothing changes then.
    pub fn vm_unmap_ram(&self, cpu: &Cpu, mapping: RamMapping) -> Result<(), BadVfree> {
        let range = mapping.range;
        let found = self.vmalloc.areas.lock(cpu).find(range.start).and_then(|(pointer, area)| {
            (area.kind == AreaKind::MapRam && area.state == AreaState::Busy).then_some(pointer)
        });
        let area = found.ok_or(BadVfree(range.start))?;
        self.clear_range(cpu, range, Pages::Foreign);
        self.count_unmapped(cpu, area, range.len());
        Ok(())
    }

    /// Takes addresses from the CPU's block; from a block of its own where the CPU's is in use or full.
    fn take_addresses(&self, cpu: &Cpu, bytes: u64) -> Result<VirtAddr, VmallocError> {
        let front = self.fronts().get(cpu.id().index());
        if let Some(start) = front.and_then(|front| front.try_with(cpu, |front| front.take(bytes))?) {
            return Ok(start);
        }
        let block_bytes = self.vmalloc.block_bytes;
        let (area, start) = self.reserve_area(cpu, &ram_place(block_bytes, block_bytes))?;
        let left = VirtRange::new(start.saturating_add(bytes), start.saturating_add(block_bytes));
        let mut retired = Some(Block { area, left });
        front.and_then(|front| front.try_with(cpu, |front| core::mem::swap(&mut front.block, &mut retired)));
        if let Some(block) = retired {
            self.count_unmapped(cpu, block.area, block.left.len());
        }
        Ok(start)
    }

    /// Counts bytes of a block that are no longer mapped, or will never be, and purges if enough waits for it.
    fn count_unmapped(&self, cpu: &Cpu, pointer: AreaPtr, bytes: u64) {
        let waiting = self.retire_bytes(cpu, pointer, bytes);
        self.purge_if_due(cpu, waiting);
    }

    /// Counts bytes of a block that are no longer mapped, or will never be; the last of them send the block to the purge. Returns the bytes
    /// that wait for it then, 0 if the block does not.
    fn retire_bytes(&self, cpu: &Cpu, pointer: AreaPtr, bytes: u64) -> u64 {
        let page_shift = self.pages().map().geometry.page_shift;
        let mut areas = self.vmalloc.areas.lock(cpu);
        // SAFETY: part of the block was still counted as in use, by the caller, so the block is in the tree.
        let area = unsafe { areas.owned(pointer) };
        area.nr_pages += bytes >> page_shift;
        if area.nr_pages << page_shift < area.range.len() {
            return 0;
        }
        // SAFETY: in the tree, nothing of it is mapped, and nobody hands its addresses out.
        unsafe { areas.push_lazy(pointer) }
    }

    /// Takes the blocks of all CPUs away from them; those without a mapping wait for the purge, which the caller starts.
    pub(super) fn retire_idle_blocks(&self, cpu: &Cpu) {
        let fence = || self.pages().platform().fence_other_cpus();
        OwnerCell::with_each(self.fronts().iter(), cpu, fence, |front| {
            if let Some(Block { area, left }) = front.block.take() {
                self.retire_bytes(cpu, area, left.len());
            }
        });
    }
}

fn ram_place(bytes: u64, align: u64) -> Place {
    Place { bytes, align, guard_pages: 0, kind: AreaKind::MapRam, caller: "vm_map_ram", phys: None, gfp: Gfp::KERNEL }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_4_mib_but_where_addresses_are_few() {
        assert_eq!(block_pages((32 << 40) >> 12, 2), 1024);
        assert_eq!(block_pages(30_720, 2), 512);
        assert_eq!(block_pages(30_720, 256), 64);
    }
}
