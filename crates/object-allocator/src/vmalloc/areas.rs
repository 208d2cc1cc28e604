//! Which addresses are taken, by whom, and which of them wait for a purge.
//!
//! Every method needs the lock of the areas. Linux 6.12: vmap_area_root, free_vmap_area_root, `alloc_vmap_area`, `purge_vmap_area_list`.

use core::ptr::NonNull;

use collections::RangeTree;
use collections::range_tree::{Entry, Node, NodeSource, TreeError};
use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;
use units::{Gfp, VirtAddr, VirtRange};

use super::area::{Area, AreaPtr, AreaState, AreaWord};
use crate::ObjectAllocator;

/// The areas of a machine.
///
/// # Invariants
/// Every value of `tree` is the descriptor of an area with the range of its entry. The list from `lazy.first` along `next` holds
/// areas of the tree in [`AreaState::Lazy`], each once.
#[derive(Default)]
pub(super) struct Areas {
    tree: RangeTree<AreaWord>,
    lazy: LazyAreas,
}

/// Areas that wait for a purge.
#[derive(Clone, Copy, Default)]
pub(super) struct LazyAreas {
    pub(super) first: Option<AreaPtr>,
    /// Bytes of their addresses.
    pub(super) bytes: u64,
    /// The smallest range around all of them.
    pub(super) span: VirtRange,
}

/// Why an area got no addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoPlace {
    /// No gap is long enough.
    NoGap,
    /// The tree needs a node and there is none.
    NoNode,
}

impl core::fmt::Debug for Areas {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Areas").field("areas", &self.tree.len()).field("lazy_bytes", &self.lazy.bytes).finish()
    }
}

impl Areas {
    /// Gives the area at `pointer` the lowest `bytes` of `limits` that nobody has.
    ///
    /// # Safety
    /// `pointer` is in no tree and belongs to the caller.
    pub(super) unsafe fn insert_lowest(
        &mut self,
        pointer: AreaPtr,
        limits: VirtRange,
        (bytes, align): (u64, u64),
        nodes: &mut impl NodeSource,
    ) -> Result<VirtAddr, NoPlace> {
        let start = self.tree.lowest_gap(limits, bytes, align).ok_or(NoPlace::NoGap)?;
        let range = VirtRange::with_len(start, bytes);
        // SAFETY: the caller's contract.
        unsafe { (*pointer.as_ptr()).range = range };
        // INVARIANT: the descriptor has the range of the entry.
        match self.tree.insert(range, AreaWord(Some(pointer)), nodes) {
            Ok(()) => Ok(start),
            Err(TreeError::NoMemory) => Err(NoPlace::NoNode),
            Err(TreeError::Overlap | TreeError::Empty | TreeError::NotFound) => Err(NoPlace::NoGap),
        }
    }

    /// Returns the area that `virt` lies in.
    pub(super) fn find(&mut self, virt: VirtAddr) -> Option<(AreaPtr, &mut Area)> {
        let entry = self.tree.find(virt)?;
        self.of_entry(entry)
    }

    /// Returns the first area that ends above `virt`.
    pub(super) fn at_or_after(&mut self, virt: VirtAddr) -> Option<(AreaPtr, &mut Area)> {
        let entry = self.tree.find_at_or_after(virt)?;
        self.of_entry(entry)
    }

    fn of_entry(&mut self, entry: Entry<AreaWord>) -> Option<(AreaPtr, &mut Area)> {
        let pointer = entry.value.0?;
        // SAFETY: by the type invariant the value is a descriptor, which stays while it is in the tree; `&mut self` is the lock.
        Some((pointer, unsafe { &mut *pointer.as_ptr() }))
    }

    /// Returns the descriptor of an area that someone owns.
    ///
    /// # Safety
    /// The area is in the tree.
    pub(super) unsafe fn owned(&mut self, pointer: AreaPtr) -> &mut Area {
        // SAFETY: by the caller's contract and the type invariant a descriptor that stays; `&mut self` is the lock.
        unsafe { &mut *pointer.as_ptr() }
    }

    /// Lets a busy area wait for a purge. Returns the bytes that wait.
    ///
    /// # Safety
    /// The area is in the tree, nothing is mapped in it, and nobody owns it any more.
    pub(super) unsafe fn push_lazy(&mut self, pointer: AreaPtr) -> u64 {
        let first = self.lazy.first;
        // SAFETY: the caller's contract.
        let area = unsafe { self.owned(pointer) };
        debug_assert!(area.state == AreaState::Busy, "an area waits once");
        area.state = AreaState::Lazy;
        // INVARIANT: an area of the tree, on the list for the first time.
        area.next = first;
        let range = area.range;
        self.lazy.first = Some(pointer);
        self.lazy.bytes += range.len();
        self.lazy.span = self.lazy.span.joined(range);
        self.lazy.bytes
    }

    /// Takes the whole list of areas that wait; they stay in the tree.
    pub(super) fn take_lazy(&mut self) -> LazyAreas {
        core::mem::take(&mut self.lazy)
    }

    /// Fills `batch` with areas of a taken list from `first` on; returns how many, and the area behind them.
    pub(super) fn lazy_batch(
        &mut self,
        first: Option<AreaPtr>,
        batch: &mut [(Option<AreaPtr>, VirtRange)],
    ) -> (usize, Option<AreaPtr>) {
        let (mut at, mut count) = (first, 0);
        for slot in batch {
            let Some(pointer) = at else { break };
            // SAFETY: areas of a list stay in the tree until their purge removes them, behind their successors' visit.
            let area = unsafe { self.owned(pointer) };
            *slot = (Some(pointer), area.range);
            at = area.next;
            count += 1;
        }
        (count, at)
    }

    /// Removes an area from the tree; its descriptor is the caller's then.
    pub(super) fn remove(&mut self, start: VirtAddr, nodes: &mut impl NodeSource) -> Option<AreaPtr> {
        self.tree.remove(start, nodes)?.value.0
    }

    /// Returns the bytes that wait for a purge.
    pub(super) fn lazy_bytes(&self) -> u64 {
        self.lazy.bytes
    }

    /// Returns the number of areas, those that wait included.
    pub(super) fn len(&self) -> usize {
        self.tree.len()
    }

    /// Returns the most nodes that an insertion takes.
    pub(super) fn nodes_for_insert(&self) -> usize {
        self.tree.nodes_for_insert()
    }

    /// Checks the laws of the tree.
    pub(super) fn is_sound(&self) -> bool {
        self.tree.check_invariants().is_ok()
    }
}

/// Nodes of the tree from the slab, in atomic context: the lock of the areas is held.
pub(super) struct SlabNodes<'a, P: Platform, H: Hooks> {
    pub(super) objects: &'a ObjectAllocator<P, H>,
    pub(super) cpu: &'a Cpu,
}

impl<P: Platform, H: Hooks> SlabNodes<'_, P, H> {
    /// Allocates as many nodes as an insertion can take and frees them again, so that they lie ready on the CPU.
    pub(super) fn prepare(&self, gfp: Gfp, count: usize) -> bool {
        let Some(cache) = self.objects.vmalloc.node_cache.get() else { return false };
        let mut ready = [const { None }; 16];
        let mut complete = true;
        for slot in ready.iter_mut().take(count) {
            *slot = self.objects.alloc_object(self.cpu, cache, gfp).ok();
            complete &= slot.is_some();
        }
        for object in ready.into_iter().flatten() {
            self.objects.free_object(self.cpu, cache, object);
        }
        complete
    }
}

// SAFETY: objects of the cache have the size and alignment of a node and are written before they are handed out; nobody else has them.
// Every call on the tree is made under the lock of the areas, so none is under way when a node is freed but the one that frees it,
// which does not look at it again.
unsafe impl<P: Platform, H: Hooks> NodeSource for SlabNodes<'_, P, H> {
    fn alloc(&mut self) -> Option<NonNull<Node>> {
        let cache = self.objects.vmalloc.node_cache.get()?;
        let object = self.objects.alloc_object(self.cpu, cache, Gfp::ATOMIC | Gfp::NOWARN).ok()?;
        let node = object.cast::<Node>();
        // SAFETY: an object of the cache of nodes, just allocated.
        unsafe { node.write(Node::new()) };
        Some(node)
    }

    fn free(&mut self, node: NonNull<Node>) {
        if let Some(cache) = self.objects.vmalloc.node_cache.get() {
            self.objects.free_object(self.cpu, cache, node.cast());
        }
    }
}
