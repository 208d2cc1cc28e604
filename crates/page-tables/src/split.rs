//! Large pages that become small ones.
//!
//! Linux 6.12: mm/huge_memory.c (`__split_huge_pmd`, `vma_adjust_trans_huge`).

use object_allocator::mmu::{EntryRef, Gather};
use page_allocator::Hooks;
use platform::{Level, Platform};
use units::{VirtAddr, VirtRange};

use crate::{RssDelta, Tables};

impl<'a, P: Platform, H: Hooks> Tables<'a, P, H> {
    /// Lets a large page that is mapped at `virt` be mapped by entries of the lowest level; one of a file is taken out. `gather`, which is of these tables, is
    /// told. Does nothing if no large page is mapped there.
    ///
    /// The caller keeps others from taking tables out.
    pub fn split_large(&self, gather: &mut Gather<'a, P, H>, virt: VirtAddr) {
        debug_assert!(gather.flushes(self.tables), "a gather is used for its own tables");
        let mut delta = RssDelta::default();
        if let Some(taken) = self.with_large(virt, |entry| gather.split(&entry)).flatten() {
            delta.remove(&taken);
        }
        delta.apply(self.mmu.cpu(), self.tables);
    }

    /// Splits large pages that begin outside `range` and end in it, or begin in it and end outside.
    pub fn split_ends(&self, gather: &mut Gather<'a, P, H>, range: VirtRange) {
        for end in [range.start, range.end] {
            if self.crosses_large_page(end) {
                self.split_large(gather, end);
            }
        }
    }

    /// Returns true if a large page crosses `at`.
    // Asked at each end of a range that changes, and nearly always answered by one load.
    #[inline(never)]
    pub fn crosses_large_page(&self, at: VirtAddr) -> bool {
        self.with_large(at, |entry| entry.virt() != at).unwrap_or(false)
    }

    /// Returns true if a large page is mapped at `at`.
    pub fn is_large(&self, at: VirtAddr) -> bool {
        self.with_large(at, |_| ()).is_some()
    }

    /// Returns true if `range` is what one large page is mapped at.
    pub(crate) fn is_one_large(&self, range: VirtRange) -> bool {
        self.with_large(range.start, |entry| entry.range() == range).unwrap_or(false)
    }

    /// Calls `visit` with the entry that maps a large page at `virt`, if there is one.
    fn with_large<R>(&self, virt: VirtAddr, visit: impl FnOnce(EntryRef<'_, P::Format>) -> R) -> Option<R> {
        if !self.tables.has_large() {
            return None;
        }
        self.with_entry(virt, |entry, pte| {
            let is_large = entry.level() != Level::PTE && entry.leaf(pte).is_some();
            is_large.then(|| visit(entry))
        })
    }
}
