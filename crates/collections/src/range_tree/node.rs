//! A node of a range tree: up to [`SLOTS`] slots of three words each, every word an atomic.
//!
//! Used by the other files of `range_tree`. Locking: only the tree's one writer stores into a node that is in the tree; anyone
//! loads. Loads and stores are `Relaxed`: their order comes from the fences of the tree's sequence count, see `sequence`.
//! Linux 6.12: include/linux/maple_tree.h (`struct maple_range_64`, `struct maple_arange_64`).

use core::array;
use core::fmt;
use core::ptr::{self, NonNull};

use crate::atomic::Ordering::Relaxed;
use crate::atomic::{AtomicPtr, AtomicU64, AtomicUsize};

/// Slots of a node. Loom explores every reordering of every load, so its nodes are as small as a B-tree's can be.
pub(super) const SLOTS: usize = if cfg!(loom) { 4 } else { 10 };

/// Fewest slots in use, but for the root and for nodes on the right edge, which grow from less.
pub(super) const MIN_SLOTS: usize = if cfg!(loom) { 2 } else { 4 };

/// Most slots that two neighbours are merged into: with less than two slots of room, the next insertions would split the node again.
pub(super) const MERGED_SLOTS: usize = SLOTS - SLOTS / 5;

/// Key of a slot that is not in use, and of the last child, above which nothing separates.
pub(super) const NO_KEY: u64 = u64::MAX;

/// Memory of one node: 256 bytes on 64-bit machines, supplied by a [`NodeSource`](super::NodeSource).
///
/// Opaque outside this crate. Any content is valid until the tree writes its own.
#[repr(C, align(64))]
pub struct Node {
    /// Leaf: end of the range. Inner: end of the last range below the child; [`NO_KEY`] for the last child.
    keys: [AtomicU64; SLOTS],
    /// Leaf: the value. Inner: the child.
    words: [AtomicPtr<()>; SLOTS],
    /// Leaf: start of the range; `u64::MAX` in unused slots. Inner: largest gap below the child; 0 in unused slots.
    middles: [AtomicU64; SLOTS],
    count: AtomicUsize,
    /// Next node of a `NodeList`. Lookups never read it.
    next: AtomicPtr<Node>,
}

/// Content of one slot.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) key: u64,
    pub(super) middle: u64,
    pub(super) word: *mut (),
}

/// The three words of a slot.
struct Words<'n> {
    key: &'n AtomicU64,
    word: &'n AtomicPtr<()>,
    middle: &'n AtomicU64,
}

impl Words<'_> {
    #[inline(always)]
    fn copy(&self, from: Words<'_>) {
        self.key.store(from.key.load(Relaxed), Relaxed);
        self.word.store(from.word.load(Relaxed), Relaxed);
        self.middle.store(from.middle.load(Relaxed), Relaxed);
    }
}

/// What a node's slots stand for; decides what an unused slot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Leaf,
    Inner,
}

impl Kind {
    pub(super) const fn unused(self) -> Slot {
        let middle = match self {
            // A start above every address: a search needs no count to pass over it.
            Self::Leaf => u64::MAX,
            Self::Inner => 0,
        };
        Slot { key: NO_KEY, middle, word: ptr::null_mut() }
    }
}

impl Slot {
    pub(super) const UNUSED: Self = Kind::Inner.unused();
}

impl Node {
    /// Makes the node that a source hands out.
    pub fn new() -> Self {
        Self {
            keys: array::from_fn(|_| AtomicU64::new(NO_KEY)),
            words: array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            middles: array::from_fn(|_| AtomicU64::new(0)),
            count: AtomicUsize::new(0),
            next: AtomicPtr::new(ptr::null_mut()),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    pub(super) fn set_count(&self, count: usize) {
        self.count.store(count, Relaxed);
    }

    pub(super) fn next(&self) -> Option<NonNull<Self>> {
        NonNull::new(self.next.load(Relaxed))
    }

    pub(super) fn set_next(&self, next: Option<NonNull<Self>>) {
        self.next.store(next.map_or(ptr::null_mut(), NonNull::as_ptr), Relaxed);
    }

    /// Returns how many keys are `<= addr`: the index of the first slot that ends above `addr`.
    ///
    /// Counts instead of branching, since which slot it is cannot be predicted: every third key says which two or three slots come into
    /// question, and two more keys which of them it is. (A plain count of all keys takes twice the instructions.)
    #[inline(always)]
    pub(super) fn rank(&self, addr: u64) -> usize {
        let is_passed = |index: usize| usize::from(self.key(index) <= addr);
        let thirds: usize = (1..SLOTS - 2).step_by(3).map(is_passed).sum();
        let first = (3 * thirds).saturating_sub(1);
        first + is_passed(first) + is_passed(first + 1)
    }

    /// Returns the bits of the children below which there is a gap of `len` or more.
    #[inline(always)]
    pub(super) fn children_with_gap(&self, len: u64) -> u32 {
        let is_short = |gap: &AtomicU64| u32::from(gap.load(Relaxed) < len);
        !self.middles.iter().rev().fold(u32::MAX, |bits, gap| (bits << 1) + is_short(gap))
    }

    /// Returns the bits of the ranges in this leaf before which there is a gap of `len` or more; the leaf's ranges begin at `lower` or above.
    #[inline(always)]
    pub(super) fn ranges_after_gap(&self, lower: u64, len: u64) -> u32 {
        let is_short = |start: &AtomicU64, from: u64| u32::from(start.load(Relaxed).wrapping_sub(from) < len);
        let after_others = self.middles.iter().skip(1).zip(&self.keys).rev();
        let short = after_others.fold(u32::MAX, |bits, (start, end)| (bits << 1) + is_short(start, end.load(Relaxed)));
        let short = self.middles.first().map_or(short, |start| (short << 1) + is_short(start, lower));
        // Behind the last range there is an unused slot, not a gap.
        !short & !(u32::MAX << (self.count() as u32 % u32::BITS))
    }

    /// Returns the key, or [`NO_KEY`] outside the node.
    #[inline(always)]
    pub(super) fn key(&self, index: usize) -> u64 {
        self.keys.get(index).map_or(NO_KEY, |key| key.load(Relaxed))
    }

    /// Returns the start or the gap, or `u64::MAX` outside the node.
    #[inline(always)]
    pub(super) fn middle(&self, index: usize) -> u64 {
        self.middles.get(index).map_or(u64::MAX, |middle| middle.load(Relaxed))
    }

    /// Returns the value or the child, or null outside the node.
    #[inline(always)]
    pub(super) fn word(&self, index: usize) -> *mut () {
        self.words.get(index).map_or(ptr::null_mut(), |word| word.load(Relaxed))
    }

    /// Returns the child, or `None` outside the node.
    #[inline(always)]
    pub(super) fn child(&self, index: usize) -> Option<*mut Self> {
        self.words.get(index).map(|word| word.load(Relaxed).cast())
    }

    #[inline(always)]
    pub(super) fn slot(&self, index: usize) -> Slot {
        Slot { key: self.key(index), middle: self.middle(index), word: self.word(index) }
    }

    pub(super) fn set_key(&self, index: usize, key: u64) {
        if let Some(slot) = self.keys.get(index) {
            slot.store(key, Relaxed);
        }
    }

    pub(super) fn set_middle(&self, index: usize, middle: u64) {
        if let Some(slot) = self.middles.get(index) {
            slot.store(middle, Relaxed);
        }
    }

    pub(super) fn set_word(&self, index: usize, word: *mut ()) {
        if let Some(slot) = self.words.get(index) {
            slot.store(word, Relaxed);
        }
    }

    pub(super) fn set(&self, index: usize, slot: Slot) {
        self.set_key(index, slot.key);
        self.set_middle(index, slot.middle);
        self.set_word(index, slot.word);
    }

    /// Writes `slots` and marks all others unused.
    pub(super) fn fill(&self, slots: &[Slot], kind: Kind) {
        let unused = core::iter::repeat(kind.unused());
        for (index, slot) in slots.iter().copied().chain(unused).take(SLOTS).enumerate() {
            self.set(index, slot);
        }
        self.set_count(slots.len());
    }

    /// Moves the slots from `index` on up and writes `slot` there. The node is not full.
    pub(super) fn insert(&self, index: usize, slot: Slot) {
        let count = self.count();
        debug_assert!(index <= count && count < SLOTS, "the node has room");
        for [from, to] in self.neighbours(index, count).rev() {
            to.copy(from);
        }
        self.set(index, slot);
        self.set_count(count + 1);
    }

    /// Takes the slot at `index` out and moves those above it down.
    pub(super) fn remove(&self, index: usize, kind: Kind) {
        let count = self.count();
        debug_assert!(index < count, "the slot is in use");
        for [to, from] in self.neighbours(index, count - 1) {
            to.copy(from);
        }
        self.set(count - 1, kind.unused());
        self.set_count(count - 1);
    }

    /// Moves the slots from `from` on to `to` and behind; those that become free below the end are unused, those in between keep what they held. A leaf's.
    #[inline]
    pub(super) fn shift(&self, from: usize, to: usize) {
        let count = self.count();
        debug_assert!(from <= count && count - from + to <= SLOTS, "the node has room");
        let len = count - from;
        shift_words(&self.keys, from, to, len, |to, from| to.store(from.load(Relaxed), Relaxed));
        shift_words(&self.words, from, to, len, |to, from| to.store(from.load(Relaxed), Relaxed));
        shift_words(&self.middles, from, to, len, |to, from| to.store(from.load(Relaxed), Relaxed));
        (to + len..count).for_each(|index| self.set(index, Kind::Leaf.unused()));
        self.set_count(to + len);
    }

    /// Walks over the slots from `first` to `last`, each with the one after it.
    #[inline(always)]
    fn neighbours(&self, first: usize, last: usize) -> impl DoubleEndedIterator<Item = [Words<'_>; 2]> {
        let keys = self.keys.get(first..=last).unwrap_or_default();
        let words = self.words.get(first..=last).unwrap_or_default();
        let middles = self.middles.get(first..=last).unwrap_or_default();
        let pairs = keys.windows(2).zip(words.windows(2)).zip(middles.windows(2));
        pairs
            .map(|((key, word), middle)| [0, 1].map(|at| Words { key: &key[at], word: &word[at], middle: &middle[at] }))
    }

    /// Returns the largest gap of the node, whose ranges all lie at or above `lower`.
    pub(super) fn largest_gap(&self, kind: Kind, lower: u64) -> u64 {
        match kind {
            Kind::Leaf => {
                let mut from = lower;
                let used = self.middles.iter().zip(&self.keys).take(self.count());
                used.fold(0, |largest, (start, end)| {
                    let gap = start.load(Relaxed).wrapping_sub(from);
                    from = end.load(Relaxed);
                    largest.max(gap)
                })
            }
            Kind::Inner => self.middles.iter().fold(0, |largest, gap| largest.max(gap.load(Relaxed))),
        }
    }
}

/// Copies `len` words from `from` on to `to` and behind.
#[inline(always)]
fn shift_words<W>(words: &[W], from: usize, to: usize, len: usize, copy: impl Fn(&W, &W)) {
    let (Some(source), Some(target)) = (words.get(from..from + len), words.get(to..to + len)) else { return };
    let pairs = target.iter().zip(source);
    if to > from {
        pairs.rev().for_each(|(to, from)| copy(to, from))
    } else {
        pairs.for_each(|(to, from)| copy(to, from))
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("count", &self.count()).finish_non_exhaustive()
    }
}
