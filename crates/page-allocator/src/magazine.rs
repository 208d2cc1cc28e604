//! The newest blocks of a CPU's list, kept as they came: their descriptors are neither read nor written before more come than fit.
//!
//! What is freed is often allocated again at once, and then costs nothing but two words in the set. Blocks that stay are put on the list together, so
//! that their descriptors, which are often in no cache, are fetched side by side and not one after the other. A list is its magazine, newest
//! block first, and then the blocks that are linked: the order of Linux's list. Linux 6.12 has none. After Bonwick and Adams, "Magazines and
//! Vmem" (2001), with one magazine and without a depot.

use frame_table::OwnedBlock;

/// Blocks that fit: with the rest of its list a magazine fills two cache lines.
const BLOCKS: usize = 13;

/// A stack of owned blocks.
#[derive(Debug)]
pub(crate) struct Magazine {
    len: usize,
    blocks: [Option<OwnedBlock>; BLOCKS],
}

impl Magazine {
    pub(crate) const EMPTY: Self = Self { len: 0, blocks: [const { None }; BLOCKS] };

    /// Puts a block on top; gives it back if there is no room.
    #[inline(always)]
    pub(crate) fn push(&mut self, block: OwnedBlock) -> Option<OwnedBlock> {
        let Some(slot) = self.blocks.get_mut(self.len) else { return Some(block) };
        *slot = Some(block);
        self.len += 1;
        None
    }

    /// Takes the newest slot off; there is a block in it.
    #[inline(always)]
    pub(crate) fn pop(&mut self) -> Option<&mut Option<OwnedBlock>> {
        let newest = self.len.wrapping_sub(1);
        let slot = self.blocks.get_mut(newest)?;
        self.len = newest;
        Some(slot)
    }

    /// Takes all blocks, the oldest first.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = OwnedBlock> {
        let len = core::mem::take(&mut self.len);
        self.blocks.iter_mut().take(len).filter_map(Option::take)
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }
}
