//! Moving what entries map to other entries of the same address space.
//!
//! Entries are emptied, their addresses flushed, and only then are the others filled: nobody who takes a page out at its new place can free it while a TLB still
//! knows the old one. In between what they held is kept here, so no reference is taken or given back. Linux 6.12: mm/mremap.c (`move_ptes`).

use core::mem::MaybeUninit;

use page_allocator::Hooks;
use platform::{Level, Platform, TableFormat};

use super::Gather;
use super::entry::{EntryRef, Pte};
use super::row::Row;

/// Entries that are moved with one flush: those of a table.
const AT_ONCE: usize = 512;

impl<P: Platform, H: Hooks> Gather<'_, P, H> {
    /// Moves what the entries of `from` map to those of `to`, empty ones of the same level and address space, each to the one with its number (mremap). No CPU uses the
    /// old addresses when this returns. Returns how many entries were moved; what finds no place stays. What moved counts as written to for those who watch its new place
    /// (Linux: `move_soft_dirty_pte`).
    ///
    /// The caller keeps others from both rows.
    pub fn relocate(&mut self, from: Row<'_, P::Format>, to: Row<'_, P::Format>) -> usize {
        let Some(root) = self.root().filter(|&root| root == from.root() && root == to.root()) else { return 0 };
        if from.level() != to.level() {
            return 0;
        }
        let (mut rest, mut moved) = (Some((from, to)), 0);
        while let Some((from, to)) = rest {
            let ((here, from), (there, to)) = (from.split_at(AT_ONCE.min(to.nr_entries())), to.split_at(AT_ONCE));
            let mut held = [const { MaybeUninit::uninit() }; AT_ONCE];
            let held = match here.lowest_entries() {
                Some(entries) => empty(entries, &mut held),
                None => empty(here.entries(), &mut held),
            };
            if held.iter().any(|pte| !pte.is_none()) {
                self.mmu().objects.pages().platform().flush_user_range(root, here.range());
                moved += self.fill(here, there, held);
            }
            rest = from.zip(to);
        }
        moved
    }

    /// Lets the entries of `to` hold what those of `from` held, which were emptied and flushed. Returns how many do.
    fn fill(&mut self, from: Row<'_, P::Format>, to: Row<'_, P::Format>, held: &[Pte]) -> usize {
        let mut moved = 0;
        let is_large = from.level() != Level::PTE;
        let mark = self.mmu().format().soft_dirty();
        for ((entry, target), &pte) in from.entries().zip(to.entries()).zip(held) {
            if pte.is_none() {
                continue;
            }
            if is_large {
                moved += usize::from(self.fill_large(entry, target, pte));
                continue;
            }
            if target.change(Pte::NONE, pte.raw() | mark) {
                moved += 1;
            } else if !entry.change(Pte::NONE, pte.raw()) {
                self.release_later(&entry, pte);
            }
        }
        moved
    }

    /// As [`Gather::fill`], for one large entry, and the table that waits for it.
    #[cold]
    #[inline(never)]
    fn fill_large(&mut self, entry: EntryRef<'_, P::Format>, target: EntryRef<'_, P::Format>, pte: Pte) -> bool {
        let has_deposit = entry.has_deposit(pte);
        let mark = self.mmu().format().soft_dirty();
        if has_deposit {
            entry.move_deposit(&target);
        }
        if target.change(Pte::NONE, pte.raw() | mark) {
            return true;
        }
        if has_deposit {
            target.move_deposit(&entry);
        }
        if !entry.change(Pte::NONE, pte.raw()) {
            self.release_later(&entry, pte);
        }
        false
    }
}

/// Empties the entries, of at most [`AT_ONCE`], that map memory. Returns what each held, which is the caller's, or nothing.
#[inline(always)]
fn empty<'w, 'h, F: TableFormat>(
    entries: impl Iterator<Item = EntryRef<'w, F>>,
    held: &'h mut [MaybeUninit<Pte>; AT_ONCE],
) -> &'h [Pte] {
    let mut len = 0;
    for (entry, slot) in entries.zip(held.iter_mut()) {
        slot.write(entry.clear().unwrap_or(Pte::NONE));
        len += 1;
    }
    let written = held.get(..len).unwrap_or_default();
    // SAFETY: the first `len` were written.
    unsafe { written.assume_init_ref() }
}
