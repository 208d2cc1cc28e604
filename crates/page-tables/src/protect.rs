//! Giving the pages of a range other permissions.
//!
//! Linux 6.12: mm/mprotect.c (`change_protection`, `change_pte_range`, `can_change_pte_writable`).

use object_allocator::mmu::{EntryRef, Gather, PageKind, Pte};
use page_allocator::Hooks;
use platform::{Platform, Prot, TableFormat};
use units::{VirtRange, VmFlags};

use crate::Tables;
use crate::each::{Seen, Visitor, each_leaf, holds_whole, visit_leaves};
use crate::protection::{WriteTracking, attributes_of, is_watched};

impl<'a, P: Platform, H: Hooks> Tables<'a, P, H> {
    /// Gives the pages of `range` the permissions of an area with `flags`. Marks of use stay. What lost a right is noted in `gather`, to be flushed.
    ///
    /// The caller holds the area locked for writing, and has split large pages at the range's ends ([`Tables::split_ends`]): as in [`Tables::zap`], those that
    /// the range does not hold whole allow nothing any more, until a fault splits them.
    // Inlined into a caller, the loop has fewer registers and takes more instructions a page.
    #[inline(never)]
    pub fn protect(&self, gather: &mut Gather<'a, P, H>, range: VirtRange, flags: VmFlags) {
        let Some(walk) = self.mmu.walk(self.tables) else { return };
        visit_leaves(&walk, range, &mut Protect { gather, range, rules: Rules::of(self.mmu.format(), flags) });
    }
}

/// Gives entries the permissions of their area.
struct Protect<'g, 'a, P: Platform, H: Hooks> {
    gather: &'g mut Gather<'a, P, H>,
    range: VirtRange,
    rules: Rules,
}

impl<'w, P: Platform, H: Hooks> Visitor<'w, P::Format> for Protect<'_, '_, P, H> {
    #[inline(always)]
    fn visit(&mut self, entry: EntryRef<'w, P::Format>, pte: Pte) -> Seen {
        let Some(before) = entry.prot(pte) else { return Seen::Done };
        let after = if holds_whole(self.range, &entry) {
            self.rules.prot(&entry, pte, before)
        } else {
            before - Prot::USER - Prot::WRITE
        };
        change(self.gather, &entry, pte, before, after)
    }
}

/// What entries of an area allow.
struct Rules {
    flags: VmFlags,
    /// Of pages whose first write is told to somebody.
    tracked: Prot,
    /// Of others.
    untracked: Prot,
    /// Marks that an entry has to have to be writable.
    needed: Prot,
}

impl Rules {
    fn of(format: impl TableFormat, flags: VmFlags) -> Self {
        let prot = |kind| attributes_of(flags, WriteTracking::of(format, flags, kind)).prot - Prot::ACCESSED;
        let needed = if is_watched(format, flags) { Prot::SOFT_DIRTY } else { Prot::empty() };
        Self { flags, tracked: prot(PageKind::File), untracked: prot(PageKind::Shmem), needed }
    }

    /// Returns what the entry, which holds `pte` and allows `before`, allows by the rules. Marks of use stay.
    #[inline(always)]
    fn prot<F: TableFormat>(&self, entry: &EntryRef<'_, F>, pte: Pte, before: Prot) -> Prot {
        // Only what may be written depends on the page.
        let mut prot = self.untracked | before & Prot::MARKS;
        if self.flags.contains(VmFlags::WRITE) {
            prot.set(Prot::WRITE, self.allows_write(entry, pte, before));
        }
        prot
    }

    /// Returns true if the entry may be writable without a fault that looks at its page first.
    #[inline(always)]
    fn allows_write<F: TableFormat>(&self, entry: &EntryRef<'_, F>, pte: Pte, before: Prot) -> bool {
        if !self.flags.contains(VmFlags::SHARED) {
            return before.contains(self.needed) && entry.is_exclusive(pte);
        }
        let fresh = if entry.kind(pte) == Some(PageKind::File) { self.tracked } else { self.untracked };
        // Somebody was told of the first write already if there was one.
        (fresh.contains(Prot::WRITE) || before.contains(self.needed | Prot::DIRTY)) && !entry.is_zero_page(pte)
    }
}

impl<'a, P: Platform, H: Hooks> Tables<'a, P, H> {
    /// Makes what is mapped in `range` read-only. What lost the right is noted in `gather`, to be flushed.
    ///
    /// The caller keeps faults away that would give it back.
    pub fn write_protect(&self, gather: &mut Gather<'a, P, H>, range: VirtRange) {
        let Some(walk) = self.walk() else { return };
        each_leaf(&walk, range, |entry, pte| {
            let Some(before) = entry.prot(pte) else { return Seen::Done };
            change(gather, &entry, pte, before, before - Prot::WRITE)
        });
    }
}

/// Lets the mapping that the entry holds as `pte` allow something else, and has its addresses flushed. If it holds something else by now, it is to be looked at again: it may
/// have been split.
#[inline(always)]
pub(crate) fn change<P: Platform, H: Hooks>(
    gather: &mut Gather<'_, P, H>,
    entry: &EntryRef<'_, P::Format>,
    pte: Pte,
    before: Prot,
    after: Prot,
) -> Seen {
    if after == before {
        return Seen::Done;
    }
    if !entry.set_prot(pte, after) {
        return Seen::Changed;
    }
    gather.note(entry.range());
    Seen::Done
}
