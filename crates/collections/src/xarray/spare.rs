//! Nodes that are in no tree: allocated before a change, or left by one.
//!
//! Linux 6.12: `xas->xa_alloc`, and what `xa_node_free` is called with.

use core::ops::DerefMut;

use super::Node;

/// A stack of nodes, linked through the nodes.
#[derive(Debug)]
pub struct Spare<B> {
    first: Option<B>,
    len: u32,
}

impl<B> Spare<B> {
    /// Makes an empty stack.
    pub const fn new() -> Self {
        Self { first: None, len: 0 }
    }

    /// Returns the number of nodes.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Returns true if there is no node.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<B> Default for Spare<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, B: DerefMut<Target = Node<T, B>>> Spare<B> {
    /// Adds a node.
    pub fn give(&mut self, mut node: B) {
        node.set_next(self.first.take());
        self.first = Some(node);
        self.len += 1;
    }

    /// Takes a node, to free it.
    pub fn pop(&mut self) -> Option<B> {
        let mut node = self.first.take()?;
        self.first = node.set_next(None);
        self.len -= 1;
        Some(node)
    }

    /// Takes a node and makes it an empty one of `level`.
    pub(super) fn take(&mut self, level: u32) -> Option<B> {
        let mut node = self.pop()?;
        node.reset(level);
        Some(node)
    }
}
