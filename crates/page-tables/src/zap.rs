//! Taking the pages of a range out.
//!
//! Linux 6.12: mm/memory.c (`unmap_page_range`, `zap_pte_range`, `zap_page_range_single`).

use object_allocator::mmu::{EntryRef, Gather, PageKind, Pte};
use page_allocator::Hooks;
use platform::Platform;
use units::VirtRange;

use crate::each::{Seen, Visitor, holds_whole, visit_leaves};
use crate::{RssDelta, Tables};

/// Which pages go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ZapWhat {
    /// All.
    All,
    /// Those of files and shared memory; private copies stay (truncation of a hole: `even_cows` = 0).
    NotAnon,
}

impl<'a, P: Platform, H: Hooks> Tables<'a, P, H> {
    /// Takes the pages of `range`, whole pages, out of the tables. They are freed when `gather`, which is of these tables, is finished.
    ///
    /// Faults may go on in the range: they find it empty, or what they map is taken too. A large page goes if the range holds all of it; the caller splits
    /// those at the range's ends before ([`Tables::split_ends`]).
    pub fn zap(&self, gather: &mut Gather<'a, P, H>, range: VirtRange, what: ZapWhat) {
        let Some(walk) = self.walk().filter(|_| gather.flushes(self.tables)) else { return };
        let mut zap = Zap { gather, range, what, delta: RssDelta::default() };
        visit_leaves(&walk, range, &mut zap);
        let delta = zap.delta;
        drop(walk);
        if delta.is_empty() {
            return;
        }
        // They are counted until here.
        self.tables.note_rss();
        delta.apply(self.mmu.cpu(), self.tables);
    }
}

/// Takes pages out.
struct Zap<'g, 'a, P: Platform, H: Hooks> {
    gather: &'g mut Gather<'a, P, H>,
    range: VirtRange,
    what: ZapWhat,
    delta: RssDelta,
}

impl<'w, P: Platform, H: Hooks> Visitor<'w, P::Format> for Zap<'_, '_, P, H> {
    #[inline(always)]
    fn visit(&mut self, entry: EntryRef<'w, P::Format>, pte: Pte) -> Seen {
        let is_wanted = self.what == ZapWhat::All || entry.kind(pte) != Some(PageKind::Anon);
        if !is_wanted || entry.leaf(pte).is_none() || !holds_whole(self.range, &entry) {
            return Seen::Done;
        }
        match self.gather.take_if(&entry, pte) {
            Some(taken) => {
                self.delta.remove(&taken);
                Seen::Done
            }
            None => Seen::Changed,
        }
    }
}
