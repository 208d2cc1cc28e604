//! Disjoint ranges of addresses with one machine word each: VMAs of a process, areas of vmalloc.
//!
//! A B+-tree of 256-byte nodes. Leaves hold ranges; an inner node holds, for each child, where its last range ends and the largest
//! gap before any of its ranges, so that a free gap is found in one descent.
//!
//! Locking: lookups take no lock and may run at any time. Changes are made by one writer at a time; the owner of the tree has a lock for that
//! (mmap_lock, the vmap area lock). The tree does not rely on it: a second writer waits for the first.
//! `try_` lookups return [`Raced`] if a writer came in between, and the caller falls back to its lock; the others repeat.
//! Linux 6.12: lib/maple_tree.c, include/linux/maple_tree.h; mm/mmap.c (`find_vma`, `find_vma_prev`), mm/memory.c (`lock_vma_under_rcu`).

mod around;
mod change;
mod check;
mod cursor;
mod gap;
mod insert;
mod lookup;
mod node;
mod path;
mod remove;
mod sequence;
mod source;
#[cfg(all(test, not(loom)))]
mod tests;

use core::fmt;
use core::marker::PhantomData;
use core::ptr;

use units::{VirtAddr, VirtRange};

pub use around::Around;
pub use check::BrokenInvariant;
pub use cursor::{Cursor, Entries};
pub use node::Node;
pub use source::NodeSource;

use crate::atomic::Ordering::Relaxed;
use crate::atomic::{AtomicPtr, AtomicU64, AtomicUsize};
use path::MAX_HEIGHT;
use sequence::Sequence;

/// Value of a range: anything that is one machine word.
///
/// The tree hands back with [`from_word`](Self::from_word) what [`to_word`](Self::to_word) returned, and nothing else.
/// Values are read by lookups of other threads, hence `Send + Sync`.
pub trait Word: Copy + Send + Sync {
    /// Returns the word that stands for the value.
    fn to_word(self) -> *mut ();

    /// Returns the value that stands behind the word.
    ///
    /// # Safety
    /// The word came from [`to_word`](Self::to_word) of a value of this type.
    unsafe fn from_word(word: *mut ()) -> Self;
}

impl Word for usize {
    #[inline]
    fn to_word(self) -> *mut () {
        ptr::without_provenance_mut(self)
    }

    #[inline]
    unsafe fn from_word(word: *mut ()) -> Self {
        word.addr()
    }
}

#[cfg(target_pointer_width = "64")]
impl Word for u64 {
    #[inline]
    fn to_word(self) -> *mut () {
        ptr::without_provenance_mut(self as usize)
    }

    #[inline]
    unsafe fn from_word(word: *mut ()) -> Self {
        word.addr() as u64
    }
}

/// A range and its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<V> {
    /// The addresses.
    pub range: VirtRange,
    /// What was inserted with them.
    pub value: V,
}

/// A writer changed the tree during a lookup that takes no lock; take the writers' lock and look again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Raced;

impl fmt::Display for Raced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the tree was changed during the lookup")
    }
}

impl core::error::Error for Raced {}

/// Why a change was not made. The tree is as before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TreeError {
    /// The range shares a byte with another one.
    Overlap,
    /// The range holds no byte.
    Empty,
    /// There is no such range.
    NotFound,
    /// The source has no node, or the tree is as high as it can be (over 2^32 ranges).
    NoMemory,
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overlap => "the range overlaps another one",
            Self::Empty => "the range is empty",
            Self::NotFound => "there is no such range",
            Self::NoMemory => "no memory for a tree node",
        })
    }
}

impl core::error::Error for TreeError {}

/// Disjoint, non-empty ranges of addresses, each with a value.
///
/// Nodes come from the [`NodeSource`] that each growing call is given; always the same one for one tree. Dropping a tree does not give its nodes
/// back; [`clear`](Self::clear) does.
///
/// # Invariants
/// `root` and, while a lookup's or writer's sequence count is valid, every child word that it reads point to nodes of a `NodeSource`
/// with `height` levels below `root`; `root` is null exactly if `height` is 0.
pub struct RangeTree<V> {
    sequence: Sequence,
    root: AtomicPtr<Node>,
    /// Levels of nodes.
    height: AtomicUsize,
    /// End of the last range; 0 if there is none.
    top: AtomicU64,
    len: AtomicUsize,
    /// Invariant in `V`: values go in and come out through `&self`.
    values: PhantomData<fn(V) -> V>,
}

impl<V: Word> RangeTree<V> {
    /// Makes a tree without ranges. Takes no node.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            sequence: Sequence::new(),
            root: AtomicPtr::new(ptr::null_mut()),
            height: AtomicUsize::new(0),
            top: AtomicU64::new(0),
            len: AtomicUsize::new(0),
            values: PhantomData,
        }
    }

    /// Makes a tree without ranges. Takes no node.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            sequence: Sequence::new(),
            root: AtomicPtr::new(ptr::null_mut()),
            height: AtomicUsize::new(0),
            top: AtomicU64::new(0),
            len: AtomicUsize::new(0),
            values: PhantomData,
        }
    }

    /// Returns the number of ranges. A hint while a writer is inside.
    pub fn len(&self) -> usize {
        // Relaxed: nothing else is read because of it.
        self.len.load(Relaxed)
    }

    /// Returns true if there is no range. A hint while a writer is inside.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the most nodes that one [`insert`](Self::insert) or [`split`](Self::split) can take at the present height.
    pub fn nodes_for_insert(&self) -> usize {
        self.height.load(Relaxed).min(MAX_HEIGHT) + 1
    }
}

impl<V: Word> Default for RangeTree<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Word + fmt::Debug> fmt::Debug for RangeTree<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|entry| (entry.range, entry.value))).finish()
    }
}

/// Makes the entry of a leaf's slot.
#[inline(always)]
fn entry_of<V: Word>(start: u64, end: u64, word: *mut ()) -> Entry<V> {
    // SAFETY: words of a tree's leaves come from `to_word` of its values; callers validate the snapshot that the slot was read in.
    let value = unsafe { V::from_word(word) };
    Entry { range: VirtRange::new(VirtAddr::new(start), VirtAddr::new(end)), value }
}
