//! Where the nodes of a range tree come from, and lists of nodes on their way in or out.
//!
//! Locking: a source is called by the one writer of a tree, outside the tree's write section.
//! Linux 6.12: lib/maple_tree.c (`mt_alloc_one`, `mas_alloc_nodes`, `ma_free_rcu`).

use core::ptr::NonNull;

use super::{Node, TreeError};

/// Supplier of nodes.
///
/// # Safety
/// The implementer promises for every node that [`alloc`](Self::alloc) returns:
/// - It points to a [`Node`] that was initialised with [`Node::new`], and nobody else uses it until it is given to [`free`](Self::free).
/// - Lookups that take no lock may still load from it after `free`. Its memory stays a `Node`, never overwritten but by the trees that
///   it is handed to, until every call on the tree that began before `free` has returned. It suffices that memory of nodes
///   is never used for anything else (Linux: `SLAB_TYPESAFE_BY_RCU`), or that `free` waits for readers before it gives the memory away (RCU).
/// - A node that is handed out again was given to `free` before, and the second hand-out happens after it (as under a lock).
pub unsafe trait NodeSource {
    /// Returns a node of any content, or `None` if there is no memory.
    fn alloc(&mut self) -> Option<NonNull<Node>>;

    /// Takes back a node that [`alloc`](Self::alloc) of this source returned and that is in no tree.
    fn free(&mut self, node: NonNull<Node>);
}

/// A node with the address that it is linked or freed by; `'n` ends with the call on the tree.
#[derive(Clone, Copy)]
pub(super) struct Linked<'n> {
    pub(super) pointer: NonNull<Node>,
    pub(super) node: &'n Node,
}

/// Nodes in no tree, linked through themselves.
///
/// # Invariants
/// Every node on the list came from a [`NodeSource`] and is used by nobody else.
pub(super) struct NodeList {
    head: Option<NonNull<Node>>,
}

impl NodeList {
    pub(super) const EMPTY: Self = Self { head: None };

    /// Takes `count` nodes from `source`; on failure gives all of them back.
    pub(super) fn reserve<S: NodeSource>(count: usize, source: &mut S) -> Result<Self, TreeError> {
        let mut list = Self::EMPTY;
        for _ in 0..count {
            let Some(node) = source.alloc() else {
                list.release(source);
                return Err(TreeError::NoMemory);
            };
            // INVARIANT: `NodeSource::alloc` promises a node that nobody else uses.
            list.push(node);
        }
        Ok(list)
    }

    /// Adds a node that is in no tree and on no list.
    pub(super) fn push(&mut self, node: NonNull<Node>) {
        // SAFETY: by the type invariant this is a node of a source, which stays a valid `Node`; its fields are atomics.
        unsafe { node.as_ref() }.set_next(self.head);
        self.head = Some(node);
    }

    /// Takes a node to write its content and link it into a tree.
    pub(super) fn take<'n>(&mut self) -> Option<Linked<'n>> {
        let pointer = self.pop()?;
        // SAFETY: by the type invariant this was a node of a source used by nobody else; it stays a valid `Node` during this call on the tree.
        Some(Linked { pointer, node: unsafe { pointer.as_ref() } })
    }

    fn pop(&mut self) -> Option<NonNull<Node>> {
        let node = self.head?;
        // SAFETY: by the type invariant this is a node of a source, which stays a valid `Node`; its fields are atomics.
        self.head = unsafe { node.as_ref() }.next();
        Some(node)
    }

    /// Gives every node to `source`.
    pub(super) fn release<S: NodeSource>(mut self, source: &mut S) {
        while let Some(node) = self.pop() {
            source.free(node);
        }
    }
}
