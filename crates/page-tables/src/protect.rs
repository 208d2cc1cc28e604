//! Giving the pages of a range other permissions.
//!
//! Linux 6.12: mm/mprotect.c (`change_protection`, `change_pte_range`, `can_change_pte_writable`).

use object_allocator::mmu::{EntryRef, Gather, Pte};
use page_allocator::Hooks;
use platform::{Attributes, Platform, Prot, TableFormat};
use units::{VirtRange, VmFlags};

use crate::Tables;
use crate::each::{Seen, each_leaf};
use crate::protection::{WriteTracking, attributes_of};

impl<'a, P: Platform, H: Hooks> Tables<'a, P, H> {
    /// Gives the pages of `range` the permissions of an area with `flags`. Marks of use stay. What lost a right is noted in `gather`, to be flushed.
    ///
    /// The caller holds the area locked for writing, and has split large pages at the range's ends ([`Tables::split_ends`]): as in [`Tables::zap`], those that
    /// the range does not hold whole allow nothing any more, until a fault splits them.
    pub fn protect(&self, gather: &mut Gather<'a, P, H>, range: VirtRange, flags: VmFlags) {
        let Some(walk) = self.mmu.walk(self.tables) else { return };
        each_leaf(&walk, range, |_, entry, pte| {
            if entry.leaf(pte).is_none() {
                return Seen::Done;
            }
            let is_whole = range.intersection(entry.range()) == entry.range();
            let before = update(&entry, |pte, before| {
                if !is_whole {
                    return Attributes { prot: before.prot - Prot::USER - Prot::WRITE, ..before };
                }
                let tracking = entry.kind(pte).map_or(WriteTracking::None, WriteTracking::of);
                let fresh = attributes_of(flags, tracking);
                let marks = before.prot & (Prot::ACCESSED | Prot::DIRTY);
                let mut prot = (fresh.prot - Prot::ACCESSED) | marks;
                let may_write = prot.contains(Prot::WRITE) || may_write(&entry, pte, before, flags);
                prot.set(Prot::WRITE, may_write && !entry.is_zero_page(pte));
                Attributes { prot, ..before }
            });
            note(gather, &entry, before)
        });
    }
}

impl<'a, P: Platform, H: Hooks> Tables<'a, P, H> {
    /// Makes what is mapped in `range` read-only. What lost the right is noted in `gather`, to be flushed.
    ///
    /// The caller keeps faults away that would give it back.
    pub fn write_protect(&self, gather: &mut Gather<'a, P, H>, range: VirtRange) {
        let Some(walk) = self.walk() else { return };
        each_leaf(&walk, range, |_, entry, pte| {
            if entry.leaf(pte).is_none() {
                return Seen::Done;
            }
            let before = update(&entry, |_, before| Attributes { prot: before.prot - Prot::WRITE, ..before });
            note(gather, &entry, before)
        });
    }
}

/// Has the addresses of an entry flushed that was changed. One that maps nothing any more is to be looked at again: it may have been split.
fn note<P: Platform, H: Hooks>(
    gather: &mut Gather<'_, P, H>,
    entry: &EntryRef<'_, P::Format>,
    changed: Option<Attributes>,
) -> Seen {
    if changed.is_some() {
        gather.note(entry.range());
    } else if entry.leaf(entry.load()).is_none() {
        return Seen::Changed;
    }
    Seen::Done
}

/// Changes an entry until nobody comes in between. Returns what was changed; `None` if nothing was.
fn update<F: TableFormat>(
    entry: &EntryRef<'_, F>,
    change: impl Fn(Pte, Attributes) -> Attributes,
) -> Option<Attributes> {
    loop {
        let pte = entry.load();
        let (_, before) = entry.leaf(pte)?;
        let after = change(pte, before);
        if after == before {
            return None;
        }
        if entry.set_attributes(pte, after) {
            return Some(before);
        }
    }
}

/// Returns true if the entry may be writable without a fault that looks at its page first.
fn may_write<F: TableFormat>(entry: &EntryRef<'_, F>, pte: Pte, before: Attributes, flags: VmFlags) -> bool {
    if !flags.contains(VmFlags::WRITE) {
        false
    } else if flags.contains(VmFlags::SHARED) {
        // Somebody was told of the first write already.
        before.prot.contains(Prot::DIRTY)
    } else {
        entry.is_exclusive(pte)
    }
}
