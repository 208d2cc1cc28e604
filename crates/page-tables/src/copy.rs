//! Fork: the child's tables.
//!
//! Linux 6.12: mm/memory.c (`copy_page_range`, `copy_present_pte`, `vma_needs_copy`), mm/huge_memory.c (`copy_huge_pmd`).

use object_allocator::mmu::{EntryRef, Exclusive, Gather};
use page_allocator::Hooks;
use platform::{Attributes, Level, Platform, Prot, TableFormat};
use units::{VirtRange, VmFlags};

use crate::each::{Beside, Seen, each_leaf};
use crate::{NoMemory, RssDelta, Tables};

impl<'a, P: Platform, H: Hooks> Tables<'a, P, H> {
    /// Maps what `range`, an area with `flags`, maps here in `child` too. Private pages become read-only on both sides; `gather`, of these tables, is told.
    ///
    /// The caller holds both areas locked for writing; the child's is empty. A large page is mapped whole, unless the range or the child's tables have no
    /// place for all of it: then it is split here.
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
            if self.is_large(at) && !(self.is_one_large(part) && child.takes_large(at)?) {
                self.split_large(gather, at)?;
            }
            match self.lowest_entry(at) {
                Some((Level::PTE, _)) => {
                    child.make_tables(at, Level::PTE)?;
                    self.copy_level(child, gather, part, flags, Level::PTE);
                }
                Some((level, false)) => self.copy_level(child, gather, part, flags, level),
                // The tables that are here are there too, though they hold nothing.
                Some((level, true)) => child.make_tables(at, level)?,
                None => {}
            }
            at = end;
        }
        Ok(())
    }

    /// Copies what entries of `level` map in `part`; the child has its tables.
    fn copy_level(&self, child: &Self, gather: &mut Gather<'a, P, H>, part: VirtRange, flags: VmFlags, level: Level) {
        let (Some(walk), Some(to)) = (self.walk(), child.walk()) else { return };
        let is_cow = flags & (VmFlags::SHARED | VmFlags::MAYWRITE) == VmFlags::MAYWRITE;
        let mut delta = RssDelta::default();
        let mut beside = Beside::new(&to);
        each_leaf(&walk, part, |virt, entry, _| {
            let Some(target) = beside.entry(virt, level) else { return Seen::Done };
            let now = if is_cow { share(gather, &entry) } else { attributes(&entry) };
            if let Some(now) = now
                && let Some(kind) = self.mmu.duplicate(&entry, &target, inherited(now, flags))
            {
                delta.add(kind, entry.order().nr_pages().cast_signed());
            }
            Seen::Done
        });
        drop((walk, to));
        delta.apply(self.mmu.cpu(), child.tables);
    }
}

/// Makes the parent's entry read-only and its page shared. Returns its attributes.
fn share<'a, P: Platform, H: Hooks>(
    gather: &mut Gather<'a, P, H>,
    entry: &EntryRef<'_, P::Format>,
) -> Option<Attributes> {
    let before = entry.update(|now| Attributes { prot: now.prot - Prot::WRITE, ..now })?;
    entry.set_exclusive(entry.load(), Exclusive::No);
    if before.prot.contains(Prot::WRITE) {
        gather.note(entry.range());
    }
    Some(Attributes { prot: before.prot - Prot::WRITE, ..before })
}

fn attributes<F: TableFormat>(entry: &EntryRef<'_, F>) -> Option<Attributes> {
    entry.leaf(entry.load()).map(|(_, now)| now)
}

/// Returns what the child's entry gets: not used yet, and clean where the memory is shared, since the parent's entry tells of the change.
fn inherited(now: Attributes, flags: VmFlags) -> Attributes {
    let clean = if flags.contains(VmFlags::SHARED) { Prot::DIRTY } else { Prot::empty() };
    Attributes { prot: now.prot - clean - Prot::ACCESSED, ..now }
}
