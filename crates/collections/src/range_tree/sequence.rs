//! The sequence count of a range tree: one writer at a time, and lookups that notice it.
//!
//! Odd while a writer is inside. A lookup remembers the even count that it began with and validates it after its loads and before it
//! follows a child's address; a writer claims the very count that it planned its change under, so a plan is never carried out on a changed tree.
//! Linux 6.12: include/linux/seqlock.h (`seqcount_t`); mm_lock_seq is the same idea one level up.

use core::ptr::NonNull;

use crate::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::atomic::{AtomicPtr, AtomicU64, fence, relax};

use super::source::Linked;
use super::{Node, Raced};

pub(super) struct Sequence(AtomicU64);

/// Write section; ends when dropped.
pub(super) struct Writing<'t> {
    sequence: &'t AtomicU64,
    after: u64,
}

impl Sequence {
    #[cfg(not(loom))]
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Returns the count that a lookup starts with.
    #[inline(always)]
    pub(super) fn begin(&self) -> Result<u64, Raced> {
        // Acquire: partner is the Release store of `Writing::drop`; what writers before it stored is seen.
        let count = self.0.load(Acquire);
        if count & 1 == 0 { Ok(count) } else { Err(Raced) }
    }

    /// Checks that no writer came since [`begin`](Self::begin) returned `count`: all that was loaded in between belongs to one state.
    #[inline(always)]
    pub(super) fn validate(&self, count: u64) -> Result<(), Raced> {
        // Acquire fence: partner is the Release fence of `claim`. A load above that saw a store of a write section makes the load below see
        // that section's odd count, or a later one.
        fence(Acquire);
        if self.0.load(Relaxed) == count { Ok(()) } else { Err(Raced) }
    }

    /// Opens the write section of a change that was planned under `count`.
    #[inline]
    pub(super) fn claim(&self, count: u64) -> Result<Writing<'_>, Raced> {
        // Acquire: partner is the Release store of `Writing::drop`, so that the writer before is seen whole.
        self.0.compare_exchange(count, count.wrapping_add(1), Acquire, Relaxed).map_err(|_| Raced)?;
        // Release fence: partner is the Acquire fence of `validate`; the odd count is seen before any store of the section.
        fence(Release);
        Ok(Writing { sequence: &self.0, after: count.wrapping_add(2) })
    }
}

impl Writing<'_> {
    /// Returns the child at `index` of `node`, an inner node of the tree that is being written.
    pub(super) fn child<'n>(&self, node: &'n Node, index: usize) -> Option<Linked<'n>> {
        self.linked(node.word(index).cast())
    }

    /// Returns the root of the tree that is being written, given the word that points to it.
    pub(super) fn root(&self, root: &AtomicPtr<Node>) -> Option<Linked<'_>> {
        self.linked(root.load(Relaxed))
    }

    fn linked<'n>(&self, word: *mut Node) -> Option<Linked<'n>> {
        let pointer = NonNull::new(word)?;
        // SAFETY: nobody else changes the tree during the write section, so by the tree's type invariant what its root or a child word
        // points to is a node of a source, whose memory stays a `Node` during the call.
        Some(Linked { pointer, node: unsafe { pointer.as_ref() } })
    }
}

impl Drop for Writing<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release: partners are the Acquire loads of `begin` and `claim`.
        self.sequence.store(self.after, Release);
    }
}

/// Repeats `attempt` until no writer came in between.
#[inline(always)]
pub(super) fn settle<R>(mut attempt: impl FnMut() -> Result<R, Raced>) -> R {
    loop {
        match attempt() {
            Ok(result) => return result,
            Err(Raced) => relax(),
        }
    }
}
