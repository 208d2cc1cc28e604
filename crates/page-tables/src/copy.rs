//! Fork: the child's tables.
//!
//! Linux 6.12: mm/memory.c (`copy_page_range`, `copy_present_pte`, `vma_needs_copy`), mm/huge_memory.c (`copy_huge_pmd`).

use object_allocator::mmu::{EntryRef, Gather, Pte};
use page_allocator::Hooks;
use platform::{Level, Platform, Prot, TableFormat};
use units::{Gfp, VirtRange, VmFlags};

use crate::each::each_pair;
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
        let rules = Rules::of(flags, self.tables.has_pinned());
        let mut at = range.start;
        while at < range.end {
            let end = at.align_down(block).saturating_add(block).min(range.end);
            let part = VirtRange::new(at, end);
            let is_pinned = rules.may_be_pinned && self.is_pinned(at);
            if self.is_large(at) && (is_pinned || !(self.is_one_large(part) && child.takes_large(at)?)) {
                self.split_large(gather, at);
            }
            match self.lowest_entry(at) {
                Some((Level::PTE, _)) => {
                    child.make_tables(at, Level::PTE)?;
                    self.copy_lowest(child, gather, part, rules);
                    if rules.may_be_pinned {
                        self.copy_pinned(child, part, flags)?;
                    }
                }
                Some((_, false)) => self.copy_large(child, gather, part, rules)?,
                // The tables that are here are there too, though they hold nothing.
                Some((level, true)) => child.make_tables(at, level)?,
                None => {}
            }
            at = end;
        }
        Ok(())
    }

    /// Copies what entries of the lowest level map in `part`; the child has its tables.
    fn copy_lowest(&self, child: &Self, gather: &mut Gather<'a, P, H>, part: VirtRange, rules: Rules) {
        let (Some(walk), Some(to)) = (self.walk(), child.walk()) else { return };
        let mut delta = RssDelta::default();
        each_pair(&walk, part, &to, part.start, |row, targets| {
            if let (Some(entries), Some(targets)) = (row.lowest_entries(), targets.lowest_entries()) {
                self.copy_row(gather, entries.zip(targets), rules, &mut delta);
            }
        });
        drop((walk, to));
        delta.apply(self.mmu.cpu(), child.tables);
    }

    /// Copies the large page that one entry maps at `part`; the child has the tables above its own (Linux: `copy_huge_pmd`). One of a file comes back by a fault.
    fn copy_large(
        &self,
        child: &Self,
        gather: &mut Gather<'a, P, H>,
        part: VirtRange,
        rules: Rules,
    ) -> Result<(), NoMemory> {
        let table = self.mmu.alloc_table(Gfp::KERNEL).map_err(|_| NoMemory)?;
        let (walk, to) = (self.walk(), child.walk());
        let entry = walk.as_ref().and_then(|walk| walk.pmd(part.start));
        let target = to.as_ref().and_then(|to| to.pmd(part.start));
        let (Some(entry), Some(target)) = (entry, target) else {
            self.mmu.free_fresh(table);
            return Ok(());
        };
        let mut pte = entry.load();
        if rules.is_cow {
            pte = write_protect(gather, &entry, pte);
        }
        let prot = entry.prot(pte).unwrap_or(Prot::empty()) - rules.forgotten;
        if let Some(kind) = self.mmu.duplicate_large(&entry, pte, (child.tables, &target), prot, table) {
            child.tables.add_rss(self.mmu.cpu(), kind, entry.order().nr_pages().cast_signed());
        }
        Ok(())
    }

    /// Copies what the first of each pair of entries of one level maps to the second.
    #[inline(always)]
    fn copy_row<'w>(
        &self,
        gather: &mut Gather<'a, P, H>,
        pairs: impl Iterator<Item = (EntryRef<'w, P::Format>, EntryRef<'w, P::Format>)>,
        rules: Rules,
        delta: &mut RssDelta,
    ) where
        P::Format: 'w,
    {
        for (entry, target) in pairs {
            let mut pte = entry.load();
            if pte.is_none() || rules.may_be_pinned && is_pinned(&entry, pte) {
                continue;
            }
            if rules.is_cow {
                pte = write_protect(gather, &entry, pte);
            }
            let Some(now) = entry.prot(pte) else { continue };
            if let Some(kind) = self.mmu.duplicate(&entry, pte, &target, now - rules.forgotten) {
                delta.add(kind, entry.order().nr_pages().cast_signed());
            }
        }
    }
}

/// Returns true if whoever pinned the page that `entry` maps as `pte` must keep it: nobody else may get it (Linux: `folio_needs_cow_for_dma`).
#[cold]
pub(crate) fn is_pinned<F: TableFormat>(entry: &EntryRef<'_, F>, pte: Pte) -> bool {
    entry.is_exclusive(pte) && entry.is_maybe_pinned(pte)
}

/// Returns true if pages of the area are shared until somebody writes.
pub(crate) fn is_cow_mapping(flags: VmFlags) -> bool {
    flags & (VmFlags::SHARED | VmFlags::MAYWRITE) == VmFlags::MAYWRITE
}

/// How an area is copied.
#[derive(Clone, Copy)]
struct Rules {
    /// Linux: `is_cow_mapping`.
    is_cow: bool,
    /// Pages may be pinned: those are copied at once.
    may_be_pinned: bool,
    /// Marks that the child's entries do not get: it has not used them yet, and where the memory is shared the parent's entry tells of changes.
    forgotten: Prot,
}

impl Rules {
    fn of(flags: VmFlags, has_pinned: bool) -> Self {
        let is_cow = is_cow_mapping(flags);
        let clean = if flags.contains(VmFlags::SHARED) { Prot::DIRTY } else { Prot::empty() };
        Self { is_cow, may_be_pinned: is_cow && has_pinned, forgotten: Prot::ACCESSED | clean }
    }
}

/// Makes the parent's entry, which held `pte`, read-only. Returns what it holds then.
#[inline(always)]
fn write_protect<P: Platform, H: Hooks>(
    gather: &mut Gather<'_, P, H>,
    entry: &EntryRef<'_, P::Format>,
    mut pte: Pte,
) -> Pte {
    while let Some(before) = entry.prot(pte).filter(|before| before.contains(Prot::WRITE)) {
        if entry.set_prot(pte, before - Prot::WRITE) {
            gather.note(entry.range());
        }
        // Looked at again, since hardware may have marked it meanwhile.
        pte = entry.load();
    }
    pte
}
