//! A node of an array: 64 slots, and a word of bits for what is in them.
//!
//! Linux 6.12: `struct xa_node`.

use core::ops::{ControlFlow, DerefMut, RangeInclusive};

use super::{BrokenLaw, Spare};

/// Slots of a node.
const SLOTS: usize = 64;
/// Bits of an index that a level decides.
const SHIFT: u32 = 6;

/// A property of values that is found quickly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// XA_MARK_0.
    First,
    /// XA_MARK_1.
    Second,
    /// XA_MARK_2.
    Third,
}

impl Mark {
    /// All marks.
    pub const ALL: [Self; 3] = [Self::First, Self::Second, Self::Third];

    const fn index(self) -> usize {
        self as usize
    }
}

/// Which values a walk is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Select {
    All,
    Marked(Mark),
}

/// A node of an [`XArray`](super::XArray). Its content is the tree's business; callers only keep it.
///
/// # Invariants
/// Bit `n` of `present` says whether slot `n` is used; bit `n` of a word of `marks` whether a value in or below slot `n` has that mark.
#[derive(Debug)]
pub struct Node<T, B> {
    slots: Slots<T, B>,
    present: u64,
    marks: [u64; Mark::ALL.len()],
    /// Next node of a [`Spare`].
    next: Option<B>,
}

#[derive(Debug)]
enum Slots<T, B> {
    Leaf([Option<T>; SLOTS]),
    Inner([Option<B>; SLOTS]),
}

/// Returns the level of the lowest node that reaches `index` from 0 on.
pub(super) const fn level_of(index: u64) -> u32 {
    match index.checked_ilog2() {
        Some(highest) => highest / SHIFT,
        None => 0,
    }
}

/// Returns the first index that a root of `level` does not reach; `None` if it reaches all.
pub(super) const fn reach(level: u32) -> Option<u64> {
    1u64.checked_shl(SHIFT * (level + 1))
}

const fn slot_of(index: u64, level: u32) -> usize {
    (index >> (SHIFT * level)) as usize % SLOTS
}

const fn bit_of(index: u64, level: u32) -> u64 {
    1 << slot_of(index, level)
}

impl<T, B> Node<T, B> {
    /// Makes a node for a [`Spare`].
    pub const fn new() -> Self {
        Self { slots: Slots::Leaf([const { None }; SLOTS]), present: 0, marks: [0; Mark::ALL.len()], next: None }
    }

    /// Empties the node for use at `level`.
    pub(super) fn reset(&mut self, level: u32) {
        // INVARIANT: no slot is used and no bit is set.
        self.slots =
            if level == 0 { Slots::Leaf([const { None }; SLOTS]) } else { Slots::Inner([const { None }; SLOTS]) };
        self.present = 0;
        self.marks = [0; Mark::ALL.len()];
    }

    /// Returns the link that the new one replaces.
    pub(super) fn set_next(&mut self, next: Option<B>) -> Option<B> {
        core::mem::replace(&mut self.next, next)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.present == 0
    }

    pub(super) fn is_marked(&self, mark: Mark) -> bool {
        self.bits(Select::Marked(mark)) != 0
    }

    fn bits(&self, select: Select) -> u64 {
        match select {
            Select::All => self.present,
            Select::Marked(mark) => self.marks.get(mark.index()).copied().unwrap_or_default(),
        }
    }

    /// Sets or clears the bit of a slot in the word of a mark.
    fn write_mark(&mut self, mark: Mark, bit: u64, value: bool) {
        if let Some(word) = self.marks.get_mut(mark.index()) {
            *word = if value { *word | bit } else { *word & !bit };
        }
    }

    /// Notes that a slot is not used.
    fn forget(&mut self, bit: u64) {
        // INVARIANT: the caller has emptied the slot.
        self.present &= !bit;
        self.marks.iter_mut().for_each(|word| *word &= !bit);
    }

    /// Returns the value in a leaf.
    #[inline]
    pub(super) fn item(&self, index: u64) -> Option<&T> {
        match &self.slots {
            Slots::Leaf(items) => items.get(slot_of(index, 0))?.as_ref(),
            Slots::Inner(_) => None,
        }
    }
}

impl<T, B> Default for Node<T, B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, B: DerefMut<Target = Self>> Node<T, B> {
    #[inline]
    pub(super) fn child(&self, index: u64, level: u32) -> Option<&Self> {
        match &self.slots {
            Slots::Inner(children) => children.get(slot_of(index, level))?.as_deref(),
            Slots::Leaf(_) => None,
        }
    }

    /// Puts a node that is not empty into a slot.
    pub(super) fn adopt(&mut self, slot: usize, child: B) {
        let bit = 1 << slot;
        for mark in Mark::ALL {
            self.write_mark(mark, bit, child.is_marked(mark));
        }
        if let Slots::Inner(children) = &mut self.slots
            && let Some(slot) = children.get_mut(slot)
        {
            // INVARIANT: the bits of the slot are those of the child.
            *slot = Some(child);
            self.present |= bit;
        }
    }

    /// Stores a value below this node; gives it back if a node is missing.
    pub(super) fn insert(&mut self, index: u64, level: u32, value: T, spare: &mut Spare<B>) -> Result<(), T> {
        let slot = slot_of(index, level);
        match &mut self.slots {
            Slots::Leaf(items) => match items.get_mut(slot) {
                Some(item) => *item = Some(value),
                None => return Err(value),
            },
            Slots::Inner(children) => {
                let below = level.saturating_sub(1);
                let Some(child) = children.get_mut(slot) else { return Err(value) };
                if child.is_none() {
                    *child = spare.take(below);
                }
                match child {
                    Some(child) => child.insert(index, below, value, spare)?,
                    None => return Err(value),
                }
            }
        }
        self.present |= bit_of(index, level);
        Ok(())
    }

    /// Puts a value in the place of one below this node; gives it back if there is none.
    pub(super) fn replace(&mut self, index: u64, level: u32, value: T) -> Result<T, T> {
        if let Some(below) = level.checked_sub(1) {
            return match self.child_mut(index, level) {
                Some(child) => child.replace(index, below, value),
                None => Err(value),
            };
        }
        match &mut self.slots {
            Slots::Leaf(items) => match items.get_mut(slot_of(index, 0)) {
                Some(Some(item)) => Ok(core::mem::replace(item, value)),
                _ => Err(value),
            },
            Slots::Inner(_) => Err(value),
        }
    }

    /// Takes a value out below this node.
    pub(super) fn remove(&mut self, index: u64, level: u32, spare: &mut Spare<B>) -> Option<T> {
        let (slot, bit) = (slot_of(index, level), bit_of(index, level));
        let children = match &mut self.slots {
            Slots::Leaf(items) => {
                let value = items.get_mut(slot)?.take()?;
                self.forget(bit);
                return Some(value);
            }
            Slots::Inner(children) => children,
        };
        let place = children.get_mut(slot)?;
        let value = place.as_deref_mut()?.remove(index, level.saturating_sub(1), spare)?;
        match place.take_if(|child| child.is_empty()) {
            Some(child) => {
                spare.give(child);
                self.forget(bit);
            }
            None => Mark::ALL.into_iter().for_each(|mark| self.note_mark(index, level, mark)),
        }
        Some(value)
    }

    /// Sets the bit of a mark to what the child says.
    fn note_mark(&mut self, index: u64, level: u32, mark: Mark) {
        let is_marked = self.child(index, level).is_some_and(|child| child.is_marked(mark));
        self.write_mark(mark, bit_of(index, level), is_marked);
    }

    fn child_mut(&mut self, index: u64, level: u32) -> Option<&mut Self> {
        match &mut self.slots {
            Slots::Inner(children) => children.get_mut(slot_of(index, level))?.as_deref_mut(),
            Slots::Leaf(_) => None,
        }
    }

    /// Sets a mark on the way down to a value; false, with nothing changed, if there is none.
    pub(super) fn set_mark(&mut self, index: u64, level: u32, mark: Mark) -> bool {
        let is_there = match level.checked_sub(1) {
            None => self.item(index).is_some(),
            Some(below) => self.child_mut(index, level).is_some_and(|child| child.set_mark(index, below, mark)),
        };
        if is_there {
            self.write_mark(mark, bit_of(index, level), true);
        }
        is_there
    }

    /// Clears a mark; false if there is no value.
    pub(super) fn clear_mark(&mut self, index: u64, level: u32, mark: Mark) -> bool {
        let Some(below) = level.checked_sub(1) else {
            self.write_mark(mark, bit_of(index, 0), false);
            return self.item(index).is_some();
        };
        let is_there = self.child_mut(index, level).is_some_and(|child| child.clear_mark(index, below, mark));
        self.note_mark(index, level, mark);
        is_there
    }

    /// Returns true if the first slot is the only one in use.
    pub(super) const fn leads_only_to_first(&self) -> bool {
        self.present == 1
    }

    /// Takes the first child if it is the only one.
    pub(super) fn take_only_first(&mut self) -> Option<B> {
        match &mut self.slots {
            Slots::Inner([first, ..]) if self.present == 1 => {
                let only = first.take();
                self.forget(1);
                only
            }
            _ => None,
        }
    }

    /// Calls `f` with the selected values of `range` below this node, whose first index is `base`.
    pub(super) fn walk<'a, R>(
        &'a self,
        level: u32,
        base: u64,
        range: &RangeInclusive<u64>,
        select: Select,
        f: &mut impl FnMut(u64, &'a T) -> ControlFlow<R>,
    ) -> ControlFlow<R> {
        let shift = SHIFT * level;
        let first = range.start().saturating_sub(base) >> shift;
        let mut bits = self.bits(select) & u64::MAX.checked_shl(first as u32).unwrap_or(0);
        while bits != 0 {
            let slot = bits.trailing_zeros();
            bits &= bits - 1;
            let start = base + (u64::from(slot) << shift);
            if start > *range.end() {
                break;
            }
            match (self.item(start), self.child(start, level)) {
                (Some(item), _) if level == 0 => f(start, item)?,
                (_, Some(child)) => child.walk(level.saturating_sub(1), start, range, select, f)?,
                _ => debug_assert!(false, "the bit of an unused slot is clear"),
            }
        }
        ControlFlow::Continue(())
    }

    /// Returns the first index at or above `from` below this node without a value.
    pub(super) fn first_absent(&self, level: u32, base: u64, from: u64) -> Option<u64> {
        let shift = SHIFT * level;
        let first = from.saturating_sub(base) >> shift;
        for slot in first..SLOTS as u64 {
            let start = base.checked_add(slot.checked_mul(1 << shift)?)?;
            if self.present >> slot & 1 == 0 {
                return Some(start.max(from));
            }
            let below = self.child(start, level).zip(level.checked_sub(1));
            if let Some(absent) = below.and_then(|(child, below)| child.first_absent(below, start, from)) {
                return Some(absent);
            }
        }
        None
    }

    /// Checks the laws of this node and those below; returns the number of values.
    pub(super) fn check(&self, level: u32) -> Result<u64, BrokenLaw> {
        if self.is_empty() {
            return Err(BrokenLaw("a node in the tree is not empty"));
        }
        if self.marks.iter().any(|word| word & !self.present != 0) {
            return Err(BrokenLaw("a mark stands on a used slot"));
        }
        let is_leaf = matches!(self.slots, Slots::Leaf(_));
        if is_leaf != (level == 0) {
            return Err(BrokenLaw("leaves are at level 0"));
        }
        // Of the highest level only so many slots have indexes.
        let slots = (u64::MAX >> (SHIFT * level)).saturating_add(1).min(SLOTS as u64);
        (0..slots).try_fold(0, |values, slot| Ok(values + self.check_slot(slot << (SHIFT * level), level)?))
    }

    /// Checks the slot that `index` leads to; returns the number of values in or below it.
    fn check_slot(&self, index: u64, level: u32) -> Result<u64, BrokenLaw> {
        let bit = bit_of(index, level);
        let (values, marks) = match &self.slots {
            Slots::Leaf(_) => (u64::from(self.item(index).is_some()), None),
            Slots::Inner(_) => match (self.child(index, level), level.checked_sub(1)) {
                (Some(child), Some(below)) => (child.check(below)?, Some(child)),
                _ => (0, None),
            },
        };
        let is_right = |mark: Mark| {
            marks.is_none_or(|child| child.is_marked(mark) == (self.bits(Select::Marked(mark)) & bit != 0))
        };
        if (values != 0) != (self.present & bit != 0) || !Mark::ALL.into_iter().all(is_right) {
            return Err(BrokenLaw("the bits of a slot say what is in it"));
        }
        Ok(values)
    }
}
