//! Taking the pages of a range out.
//!
//! Linux 6.12: mm/memory.c (`unmap_page_range`, `zap_pte_range`, `zap_page_range_single`).

use object_allocator::mmu::{Gather, PageKind};
use page_allocator::Hooks;
use platform::{Platform, TableFormat};
use units::{VirtAddr, VirtRange};

use crate::each::each_leaf;
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
    /// those at the range's ends before.
    pub fn zap(&self, gather: &mut Gather<'a, P, H>, range: VirtRange, what: ZapWhat) {
        let Some(walk) = self.mmu.walk(self.tables) else { return };
        let mut delta = RssDelta::default();
        each_leaf(&walk, range, |virt, entry, pte| {
            let bytes = walk.format().leaf_bytes(entry.level());
            let is_whole = range.intersection(VirtRange::with_len(virt, bytes)).len() == bytes;
            let is_wanted = what == ZapWhat::All || entry.kind(pte) != Some(PageKind::Anon);
            if is_whole
                && is_wanted
                && let Some(taken) = gather.take(&entry, virt)
            {
                delta.remove(&taken);
            }
        });
        drop(walk);
        delta.apply(self.tables);
    }

    /// Returns true if a large page crosses `at`.
    pub fn crosses_large_page(&self, at: VirtAddr) -> bool {
        use object_allocator::mmu::Found;
        let Some(walk) = self.mmu.walk(self.tables) else { return false };
        match walk.find(at, platform::Level::PTE) {
            Some(Found::Above(entry, pte)) => {
                entry.leaf(pte).is_some() && at.align_down(walk.format().leaf_bytes(entry.level())) != at
            }
            _ => false,
        }
    }
}
