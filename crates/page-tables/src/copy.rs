//! Fork: the child's tables.
//!
//! Linux 6.12: mm/memory.c (`copy_page_range`, `copy_present_pte`, `vma_needs_copy`).

use object_allocator::mmu::{EntryRef, Exclusive, Gather};
use page_allocator::Hooks;
use platform::{Attributes, Level, Platform, Prot, TableFormat};
use units::{Gfp, VirtAddr, VirtRange, VmFlags};

use crate::each::each_leaf;
use crate::{NoMemory, RssDelta, Tables};

impl<'a, P: Platform, H: Hooks> Tables<'a, P, H> {
    /// Maps what `range`, an area with `flags`, maps here in `child` too. Private pages become read-only on both sides; `gather`, of these tables, is told.
    ///
    /// The caller holds both areas locked for writing; the child's is empty.
    ///
    /// # Errors
    /// [`NoMemory`]; what was mapped stays.
    pub fn copy_to(
        &self,
        child: &Self,
        gather: &mut Gather<'a, P, H>,
        range: VirtRange,
        flags: VmFlags,
    ) -> Result<(), NoMemory> {
        let block = self.mmu.format().leaf_bytes(Level::PMD);
        let mut at = range.start;
        while at < range.end {
            let end = at.align_down(block).saturating_add(block).min(range.end);
            let part = VirtRange::new(at, end);
            if self.maps_any(part) {
                self.copy_table(child, gather, part, flags)?;
            }
            at = end;
        }
        Ok(())
    }

    /// Copies what lies in one table of the lowest level.
    fn copy_table(
        &self,
        child: &Self,
        gather: &mut Gather<'a, P, H>,
        part: VirtRange,
        flags: VmFlags,
    ) -> Result<(), NoMemory> {
        child.mmu.make_tables(child.tables, part.start, Level::PTE, Gfp::KERNEL).map_err(|_| NoMemory)?;
        let (Some(walk), Some(to)) = (self.mmu.walk(self.tables), child.mmu.walk(child.tables)) else {
            return Ok(());
        };
        let is_cow = flags & (VmFlags::SHARED | VmFlags::MAYWRITE) == VmFlags::MAYWRITE;
        let mut delta = RssDelta::default();
        each_leaf(&walk, part, |virt, entry, _| {
            let Some(target) = to.pte(virt) else { return };
            let inherited = if is_cow { self.protect_for_copy(gather, virt, &entry) } else { shared(&entry) };
            let Some(attributes) = inherited else { return };
            if let Some(kind) = self.mmu.duplicate(&entry, &target, attributes) {
                delta.add(kind, 1);
            }
        });
        drop((walk, to));
        delta.apply(child.tables);
        Ok(())
    }

    /// Makes the parent's entry read-only and its page shared; returns what the child's gets.
    fn protect_for_copy(
        &self,
        gather: &mut Gather<'a, P, H>,
        virt: VirtAddr,
        entry: &EntryRef<'_, P::Format>,
    ) -> Option<Attributes> {
        let before = entry.update(|now| Attributes { prot: now.prot - Prot::WRITE, ..now })?;
        entry.set_exclusive(entry.load(), Exclusive::No);
        if before.prot.contains(Prot::WRITE) {
            gather.note(VirtRange::with_len(virt, self.mmu.format().leaf_bytes(entry.level())));
        }
        Some(Attributes { prot: before.prot - Prot::WRITE - Prot::ACCESSED, ..before })
    }
}

/// Returns what the child's entry of a shared area gets: clean and not used yet.
fn shared<F: TableFormat>(entry: &EntryRef<'_, F>) -> Option<Attributes> {
    let (_, now) = entry.leaf(entry.load())?;
    Some(Attributes { prot: now.prot - Prot::DIRTY - Prot::ACCESSED, ..now })
}
