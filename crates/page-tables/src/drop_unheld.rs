//! Dropping the pages of a range that nobody would miss.
//!
//! Linux 6.12: mm/rmap.c (`try_to_unmap_one`, for VM_DROPPABLE).

use object_allocator::mmu::{Dropped, EntryRef, Gather, Pte};
use page_allocator::Hooks;
use platform::Platform;
use units::VirtRange;

use crate::each::{Seen, Visitor, holds_whole, visit_leaves};
use crate::{RssDelta, Tables};

impl<'a, P: Platform, H: Hooks> Tables<'a, P, H> {
    /// As [`Tables::zap`], of pages that nobody has beside the entries that map them. One that somebody pinned or else holds stays, and so does its entry.
    pub fn drop_unheld(&self, gather: &mut Gather<'a, P, H>, range: VirtRange) {
        let Some(walk) = self.walk().filter(|_| gather.flushes(self.tables)) else { return };
        let mut dropping = Dropping { gather, range, delta: RssDelta::default() };
        visit_leaves(&walk, range, &mut dropping);
        let delta = dropping.delta;
        drop(walk);
        // They are counted until here.
        self.tables.note_rss();
        delta.apply(self.mmu.cpu(), self.tables);
    }
}

struct Dropping<'g, 'a, P: Platform, H: Hooks> {
    gather: &'g mut Gather<'a, P, H>,
    range: VirtRange,
    delta: RssDelta,
}

impl<'w, P: Platform, H: Hooks> Visitor<'w, P::Format> for Dropping<'_, '_, P, H> {
    fn visit(&mut self, entry: EntryRef<'w, P::Format>, pte: Pte) -> Seen {
        if entry.leaf(pte).is_none() || !holds_whole(self.range, &entry) {
            return Seen::Done;
        }
        match self.gather.drop_if_unheld(&entry, pte) {
            Dropped::Taken(taken) => {
                self.delta.remove(&taken);
                Seen::Done
            }
            Dropped::Held => Seen::Done,
            Dropped::Changed => Seen::Changed,
        }
    }
}
