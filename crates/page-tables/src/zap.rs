//! Taking the pages of a range out.
//!
//! Linux 6.12: mm/memory.c (`unmap_page_range`, `zap_pte_range`, `zap_page_range_single`).

use object_allocator::mmu::{Gather, PageKind};
use page_allocator::Hooks;
use platform::Platform;
use units::VirtRange;

use crate::each::{Seen, each_leaf};
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
        self.tables.note_rss();
        let mut delta = RssDelta::default();
        each_leaf(&walk, range, |_, entry, pte| {
            let is_whole = range.intersection(entry.range()) == entry.range();
            let is_wanted = what == ZapWhat::All || entry.kind(pte) != Some(PageKind::Anon);
            if !is_whole || !is_wanted || entry.leaf(pte).is_none() {
                return Seen::Done;
            }
            match gather.take(&entry) {
                Some(taken) => delta.remove(&taken),
                None => return Seen::Changed,
            }
            Seen::Done
        });
        drop(walk);
        delta.apply(self.mmu.cpu(), self.tables);
    }
}
