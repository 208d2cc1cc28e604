//! The balance step: destroys chunks that are free, gives empty pages back and keeps some ready for atomic requests.
//!
//! Runs when [`PercpuAllocator::wants_balance`] says so, driven by the machine. Linux 6.12: `pcpu_balance_workfn`,
//! `pcpu_balance_free`, `pcpu_reclaim_populated`, `pcpu_balance_populated`.

use core::ptr::NonNull;

use page_allocator::{Hooks, PageAllocator};
use platform::Platform;
use sync::Cpu;
use units::Gfp;

use super::allocator::PercpuAllocator;
use super::chunk::{Chunk, ChunkKind, Ended};
use super::chunk_list::Slot;
use super::population::Claim;
use super::{EMPTY_POPULATED_HIGH, dynamic_chunk};

/// What a balance step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Balanced {
    /// Chunks destroyed.
    pub destroyed: usize,
    /// Pages of a unit given back.
    pub depopulated: usize,
    /// Pages of a unit populated.
    pub populated: usize,
}

impl PercpuAllocator {
    /// Runs one balance step. Allocates and frees pages; atomic context must not call it.
    pub fn balance<P: Platform, H: Hooks>(&self, pages: &PageAllocator<P, H>, cpu: &Cpu) -> Balanced {
        self.balance_starts();
        let before = self.destroy_free(pages, cpu);
        let depopulated = self.reclaim_populated(pages, cpu);
        let populated = self.keep_ready(pages, cpu);
        Balanced { destroyed: before + self.destroy_free(pages, cpu), depopulated, populated }
    }

    /// Gives back every chunk without an area and every page without one, the spare ones too: for the end of a machine, and when
    /// memory is short.
    pub fn give_all_back<P: Platform, H: Hooks>(&self, pages: &PageAllocator<P, H>, cpu: &Cpu) {
        while let Some(chunk) = self.take_free_chunk(cpu, Keep::None) {
            // SAFETY: just taken off the list, where it was unused.
            unsafe { dynamic_chunk::destroy(pages, cpu, chunk) };
        }
        while let Some(claim) = self.claim_any_empty_page(cpu) {
            claim.depopulate(pages, cpu);
            self.end_claim(cpu, claim, Ended::Missing);
        }
    }

    fn claim_any_empty_page(&self, cpu: &Cpu) -> Option<Claim> {
        let mut chunks = self.chunks.lock(cpu);
        for slot in Slot::FULL.through(Slot::TO_DEPOPULATE) {
            let mut at = chunks.lists.first(slot);
            while let Some(chunk) = at {
                // SAFETY: found on a list, and the lock is held since.
                let found = unsafe { chunks.lists.chunk(chunk) };
                let (rows, dynamic) = (found.rows, matches!(found.kind, ChunkKind::Dynamic { .. }));
                // SAFETY: as above.
                let page = if dynamic { unsafe { chunks.change(chunk, Chunk::claim_empty) } } else { None };
                if let Some(page) = page {
                    // INVARIANT: just marked busy.
                    return Some(Claim { chunk, rows, pages: page..page + 1 });
                }
                // SAFETY: as above.
                at = unsafe { chunks.lists.next(chunk) };
            }
        }
        None
    }

    /// Destroys free chunks but one.
    fn destroy_free<P: Platform, H: Hooks>(&self, pages: &PageAllocator<P, H>, cpu: &Cpu) -> usize {
        let mut destroyed = 0;
        while let Some(chunk) = self.take_free_chunk(cpu, Keep::First) {
            // SAFETY: just taken off the list, where it was unused.
            unsafe { dynamic_chunk::destroy(pages, cpu, chunk) };
            destroyed += 1;
        }
        destroyed
    }

    /// Takes a free dynamic chunk off its list.
    fn take_free_chunk(&self, cpu: &Cpu, keep: Keep) -> Option<NonNull<Chunk>> {
        let mut chunks = self.chunks.lock(cpu);
        let first = chunks.lists.first(Slot::FREE)?;
        let mut at = match keep {
            Keep::None => Some(first),
            // SAFETY: the head of a list.
            Keep::First => unsafe { chunks.lists.next(first) },
        };
        while let Some(chunk) = at {
            // SAFETY: found on a list, and the lock is held since.
            let found = unsafe { chunks.lists.chunk(chunk) };
            let (unused, kind, populated) = (found.is_unused(), found.kind, found.nr_populated);
            let spare = found.spare_pages();
            if unused && matches!(kind, ChunkKind::Dynamic { .. }) {
                chunks.nr_populated -= populated;
                chunks.nr_empty_populated -= spare;
                chunks.counts.note_chunk_gone();
                // SAFETY: as above.
                unsafe { chunks.lists.remove(chunk) };
                return Some(chunk);
            }
            // SAFETY: as above.
            at = unsafe { chunks.lists.next(chunk) };
        }
        None
    }

    /// Gives back the empty pages of isolated chunks, until few are left for atomic requests.
    fn reclaim_populated<P: Platform, H: Hooks>(&self, pages: &PageAllocator<P, H>, cpu: &Cpu) -> usize {
        let mut freed = 0;
        while let Some(claim) = self.claim_isolated_page(cpu) {
            claim.depopulate(pages, cpu);
            self.end_claim(cpu, claim, Ended::Missing);
            freed += 1;
        }
        freed
    }

    /// Claims an empty page of a chunk that is to be depopulated; chunks without one go to the sidelined list, or back into use if pages
    /// are short.
    fn claim_isolated_page(&self, cpu: &Cpu) -> Option<Claim> {
        let mut chunks = self.chunks.lock(cpu);
        while let Some(chunk) = chunks.lists.first(Slot::TO_DEPOPULATE) {
            if chunks.nr_empty_populated < EMPTY_POPULATED_HIGH {
                // SAFETY: the head of a list.
                unsafe { chunks.reintegrate(chunk) };
                continue;
            }
            // SAFETY: the head of a list.
            let page = unsafe { chunks.change(chunk, Chunk::claim_empty) };
            // SAFETY: the head of a list.
            let found = unsafe { chunks.lists.chunk(chunk) };
            let (rows, unused) = (found.rows, found.nr_alloc == 0);
            match page {
                // INVARIANT: just marked busy.
                Some(page) => return Some(Claim { chunk, rows, pages: page..page + 1 }),
                // SAFETY: the head of a list.
                None if unused => unsafe { chunks.reintegrate(chunk) },
                // SAFETY: the head of a list.
                None => unsafe { chunks.lists.relocate(chunk, Slot::SIDELINED) },
            }
        }
        None
    }

    /// Populates pages ahead of atomic requests, in a chunk made for it if all others are populated. Stops at the first that cannot be
    /// had: the next request asks again.
    fn keep_ready<P: Platform, H: Hooks>(&self, pages: &PageAllocator<P, H>, cpu: &Cpu) -> usize {
        const GFP: Gfp = Gfp::KERNEL.union(Gfp::NORETRY).union(Gfp::NOWARN);
        let mut populated = 0;
        loop {
            match self.claim_missing_page(cpu) {
                NextPage::Enough => return populated,
                NextPage::NoRoom if self.add_chunk(pages, cpu, GFP).is_ok() => {}
                NextPage::NoRoom => return populated,
                NextPage::Claimed(claim) => {
                    let done = claim.populate(pages, cpu, GFP);
                    self.end_claim(cpu, claim, if done.is_ok() { Ended::Populated } else { Ended::Missing });
                    if done.is_err() {
                        return populated;
                    }
                    populated += 1;
                }
            }
        }
    }

    /// Claims an unpopulated page in a chunk in use, if there are too few empty populated ones.
    fn claim_missing_page(&self, cpu: &Cpu) -> NextPage {
        let mut chunks = self.chunks.lock(cpu);
        if chunks.nr_empty_populated >= EMPTY_POPULATED_HIGH {
            return NextPage::Enough;
        }
        for slot in Slot::FULL.through(Slot::FREE) {
            let mut at = chunks.lists.first(slot).filter(|_| slot != Slot::SIDELINED);
            while let Some(chunk) = at {
                // SAFETY: found on a list, and the lock is held since.
                let found = unsafe { chunks.lists.chunk(chunk) };
                let (missing, rows) = (found.first_missing(), found.rows);
                if let Some(page) = missing {
                    found.claim(page..page + 1);
                    // INVARIANT: just marked busy.
                    return NextPage::Claimed(Claim { chunk, rows, pages: page..page + 1 });
                }
                // SAFETY: as above.
                at = unsafe { chunks.lists.next(chunk) };
            }
        }
        NextPage::NoRoom
    }
}

/// Which free chunk stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Keep {
    /// The first on the list, for the next request.
    First,
    None,
}

/// What [`PercpuAllocator::balance`] finds when it looks for a page to populate.
enum NextPage {
    /// Enough pages are ready.
    Enough,
    /// This one is to be populated.
    Claimed(Claim),
    /// Every page of every chunk is populated or on its way.
    NoRoom,
}
