//! Values by number, kept sparse, with marks that are found without a walk over the rest.
//!
//! A radix tree of 64 slots a node, as tall as its highest index asks for. Each node says in one word which slots are used and in one more for
//! each [`Mark`] below which slots it is set. The caller allocates nodes beforehand ([`Spare`]) and gets those back that a change has emptied, so
//! changes allocate nothing and may happen under a lock. Locking: `&mut` changes, `&` looks.
//! Linux 6.12: include/linux/xarray.h, lib/xarray.c.

mod node;
mod spare;
#[cfg(all(test, not(loom)))]
mod tests;

use core::marker::PhantomData;
use core::ops::{ControlFlow, DerefMut, RangeInclusive};

pub use node::{Mark, Node};
use node::{Select, level_of};
pub use spare::Spare;

/// Values of type `T` by index; `B` owns a node.
///
/// # Invariants
/// `root` is `None` if and only if nothing is stored. It is a node of level `height - 1`, and the lowest that reaches the highest index. No
/// node below it is empty, and each node's words say what its slots and children hold.
#[derive(Debug)]
pub struct XArray<T, B> {
    root: Option<B>,
    height: u32,
    len: u64,
    values: PhantomData<T>,
}

/// A value was not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused<T> {
    /// The index has a value; the refused one is given back.
    Occupied(T),
    /// So many spare nodes are needed, but fewer are there.
    NodesMissing(T, u32),
}

/// The first law that a tree breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BrokenLaw(pub &'static str);

impl<T, B> XArray<T, B> {
    /// Makes an array without values.
    pub const fn new() -> Self {
        Self { root: None, height: 0, len: 0, values: PhantomData }
    }

    /// Returns the number of values.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Returns true if there is no value.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T, B> Default for XArray<T, B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, B: DerefMut<Target = Node<T, B>>> XArray<T, B> {
    fn top(&self) -> Option<(&Node<T, B>, u32)> {
        Some((self.root.as_deref()?, self.height.checked_sub(1)?))
    }

    /// Returns the root if the tree is tall enough for `index`.
    fn top_for(&self, index: u64) -> Option<(&Node<T, B>, u32)> {
        self.top().filter(|&(_, level)| level >= level_of(index))
    }

    /// Returns the value at `index` (Linux: `xa_load`).
    #[inline]
    pub fn get(&self, index: u64) -> Option<&T> {
        let (mut node, mut level) = self.top_for(index)?;
        while level > 0 {
            node = node.child(index, level)?;
            level -= 1;
        }
        node.item(index)
    }

    /// Returns how many spare nodes storing at `index` takes (Linux: what `xas_nomem` allocates, one at a time).
    pub fn nodes_needed(&self, index: u64) -> u32 {
        let wanted = level_of(index);
        let Some((mut node, mut level)) = self.top() else { return wanted + 1 };
        if level < wanted {
            // Up to the new root, and a branch of its own from there down to the leaf.
            return wanted - level + wanted;
        }
        while level > 0 {
            match node.child(index, level) {
                Some(child) => node = child,
                None => return level,
            }
            level -= 1;
        }
        0
    }

    /// Stores a value where none is (Linux: `xa_insert`).
    ///
    /// # Errors
    /// [`Refused`] gives the value back; nothing has changed then.
    pub fn insert(&mut self, index: u64, value: T, spare: &mut Spare<B>) -> Result<(), Refused<T>> {
        if self.get(index).is_some() {
            return Err(Refused::Occupied(value));
        }
        let needed = self.nodes_needed(index);
        if needed > spare.len() {
            return Err(Refused::NodesMissing(value, needed));
        }
        self.grow(level_of(index), spare);
        let Some((root, level)) = self.root.as_deref_mut().zip(self.height.checked_sub(1)) else {
            return Err(Refused::NodesMissing(value, needed));
        };
        root.insert(index, level, value, spare).map_err(|value| Refused::NodesMissing(value, needed))?;
        self.len += 1;
        Ok(())
    }

    /// Puts nodes above the root until it has `level`.
    fn grow(&mut self, level: u32, spare: &mut Spare<B>) {
        if self.root.is_none() {
            self.root = spare.take(level);
            self.height = level + 1;
        }
        while self.height <= level {
            let (Some(old), Some(mut root)) = (self.root.take(), spare.take(self.height)) else { return };
            root.adopt(0, old);
            self.root = Some(root);
            self.height += 1;
        }
    }

    /// Puts a value in the place of the one at `index`, which is returned. Marks stay (Linux: `xa_store`).
    ///
    /// # Errors
    /// Gives the value back if there is none.
    pub fn replace(&mut self, index: u64, value: T) -> Result<T, T> {
        match self.top_for_change(index) {
            Some((root, level)) => root.replace(index, level, value),
            None => Err(value),
        }
    }

    /// Takes the value at `index` out; nodes that it leaves empty become spare (Linux: `xa_erase`).
    pub fn remove(&mut self, index: u64, spare: &mut Spare<B>) -> Option<T> {
        let (root, level) = self.root.as_deref_mut().zip(self.height.checked_sub(1))?;
        if level < level_of(index) {
            return None;
        }
        let value = root.remove(index, level, spare)?;
        self.len -= 1;
        self.shrink(spare);
        Some(value)
    }

    /// Removes roots that only lead to the lowest indexes.
    fn shrink(&mut self, spare: &mut Spare<B>) {
        while let Some(mut root) = self.root.take() {
            if root.is_empty() {
                spare.give(root);
                self.height = 0;
            } else if let Some(only) = root.take_only_first() {
                spare.give(root);
                self.root = Some(only);
                self.height -= 1;
            } else {
                self.root = Some(root);
                return;
            }
        }
    }

    /// Calls `f` with the values of `range` in ascending order, until it breaks (Linux: `xa_for_each_range`).
    pub fn visit<'a, R>(
        &'a self,
        range: RangeInclusive<u64>,
        mut f: impl FnMut(u64, &'a T) -> ControlFlow<R>,
    ) -> Option<R> {
        self.walk(range, Select::All, &mut f)
    }

    /// Returns the first value of `range` (Linux: `xa_find` with XA_PRESENT).
    pub fn find(&self, range: RangeInclusive<u64>) -> Option<(u64, &T)> {
        self.walk(range, Select::All, &mut |index, value| ControlFlow::Break((index, value)))
    }

    /// Returns the first value of `range` that has a mark (Linux: `xa_find`).
    pub fn find_marked(&self, range: RangeInclusive<u64>, mark: Mark) -> Option<(u64, &T)> {
        self.walk(range, Select::Marked(mark), &mut |index, value| ControlFlow::Break((index, value)))
    }

    fn walk<'a, R>(
        &'a self,
        range: RangeInclusive<u64>,
        select: Select,
        f: &mut impl FnMut(u64, &'a T) -> ControlFlow<R>,
    ) -> Option<R> {
        let (root, level) = self.top_for(*range.start())?;
        root.walk(level, 0, &range, select, f).break_value()
    }

    /// Returns the first index from `from` on without a value; `None` if all up to the last have one.
    pub fn first_absent(&self, from: u64) -> Option<u64> {
        let Some((root, level)) = self.top_for(from) else { return Some(from) };
        root.first_absent(level, 0, from).or_else(|| node::reach(level))
    }

    /// Sets a mark; false if there is no value (Linux: `xa_set_mark`).
    pub fn set_mark(&mut self, index: u64, mark: Mark) -> bool {
        self.top_for_change(index).is_some_and(|(root, level)| root.set_mark(index, level, mark))
    }

    /// Clears a mark; true if it was set (Linux: `xa_clear_mark`).
    pub fn clear_mark(&mut self, index: u64, mark: Mark) -> bool {
        self.has_mark(index, mark)
            && self.top_for_change(index).is_some_and(|(root, level)| root.clear_mark(index, level, mark))
    }

    fn top_for_change(&mut self, index: u64) -> Option<(&mut Node<T, B>, u32)> {
        let level = self.height.checked_sub(1).filter(|&level| level >= level_of(index))?;
        Some((self.root.as_deref_mut()?, level))
    }

    /// Returns true if the value at `index` has the mark (Linux: `xa_get_mark`).
    pub fn has_mark(&self, index: u64, mark: Mark) -> bool {
        self.find_marked(index..=index, mark).is_some()
    }

    /// Returns true if any value has the mark (Linux: `xa_marked`).
    pub fn is_marked(&self, mark: Mark) -> bool {
        self.top().is_some_and(|(root, _)| root.is_marked(mark))
    }

    /// Checks the laws of the tree.
    ///
    /// # Errors
    /// The first law that is broken.
    pub fn check_invariants(&self) -> Result<(), BrokenLaw> {
        let Some((root, level)) = self.top() else {
            let empty = self.len == 0 && self.height == 0 && self.root.is_none();
            return if empty { Ok(()) } else { Err(BrokenLaw("an array without a root has no value")) };
        };
        if level > 0 && root.leads_only_to_first() {
            return Err(BrokenLaw("the root is the lowest that reaches all values"));
        }
        if root.check(level)? == self.len { Ok(()) } else { Err(BrokenLaw("the length is the number of values")) }
    }
}
