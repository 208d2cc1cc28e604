//! Slabs and large objects: blocks whose frames name the slab cache that they belong to.
//!
//! Used by `object-allocator`. Every frame of a slab carries the cache's number and the order, so an address inside finds both in one
//! load, and the head by alignment. The head's `private` word is the cache's.
//! Locking: a [`SlabList`] is protected by the lock that gives `&mut` to it. Linux 6.12: struct slab, `__SetPageSlab`, folio_slab.

use units::{Order, Pfn, PfnRange};

use crate::frame::NIL;
use crate::{BadFree, Frame, FrameTable, OwnedBlock, PageType};

impl OwnedBlock {
    /// Makes the block a slab of cache number `cache`; [`FrameTable::take_slab`] undoes it.
    pub fn into_slab(self, frames: &FrameTable, cache: u16) -> Pfn {
        for pfn in self.frames().iter() {
            frames.at(pfn).set_slab(cache, self.order());
        }
        self.pfn()
    }

    /// Makes the block one object; [`FrameTable::take_large_object`] undoes it.
    pub fn into_large_object(self, frames: &FrameTable) -> Pfn {
        frames.at(self.pfn()).set_state(PageType::LargeObject, self.order());
        self.pfn()
    }
}

impl FrameTable {
    /// Takes back the block of a slab.
    ///
    /// # Errors
    /// [`BadFree`] if no slab of this cache and order starts at `head`.
    pub fn take_slab(&self, head: Pfn, cache: u16, order: Order) -> Result<OwnedBlock, BadFree> {
        let frame = self.get(head).filter(|_| head.is_aligned(order));
        if frame.is_none_or(|frame| frame.slab() != Some((cache, order))) {
            return Err(BadFree { pfn: head, order, found: frame.and_then(Frame::page_type) });
        }
        // No frame of the block says slab afterwards: a stale address inside must not find the cache.
        for pfn in PfnRange::with_len(head, order.nr_pages()).iter() {
            self.at(pfn).set_state(PageType::Inner, Order::ZERO);
        }
        self.at(head).set_state(PageType::Owned, order);
        self.at(head).set_private(0);
        Ok(OwnedBlock::found(self, head, order))
    }

    /// Takes back the block of a large object that starts at `head`.
    ///
    /// # Errors
    /// [`BadFree`] if none does.
    pub fn take_large_object(&self, head: Pfn) -> Result<OwnedBlock, BadFree> {
        let frame = self.get(head);
        let found = frame.and_then(Frame::page_type);
        match (frame, found) {
            (Some(frame), Some((PageType::LargeObject, order)))
                if frame.change_state(PageType::LargeObject, PageType::Owned, order) =>
            {
                Ok(OwnedBlock::found(self, head, order))
            }
            _ => Err(BadFree { pfn: head, order: found.map_or(Order::ZERO, |(_, order)| order), found }),
        }
    }
}

/// List of slabs, threaded through their heads.
///
/// # Invariants
/// Following `next` from `head` reaches `tail` in `len` frames; `prev` mirrors it, but means nothing in the head.
#[derive(Debug)]
pub struct SlabList {
    head: u32,
    tail: u32,
    len: u32,
}

impl Default for SlabList {
    fn default() -> Self {
        Self::new()
    }
}

impl SlabList {
    /// Makes an empty list.
    pub const fn new() -> Self {
        Self { head: NIL, tail: NIL, len: 0 }
    }

    /// Returns the number of slabs.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Returns true if there is no slab.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.head == NIL
    }

    /// Returns the first slab's head frame.
    #[inline]
    pub fn front(&self, frames: &FrameTable) -> Option<Pfn> {
        (self.head != NIL).then(|| frames.pfn(self.head))
    }

    /// Adds a slab, which is on no list, as the first.
    pub fn push_front(&mut self, frames: &FrameTable, slab: Pfn) {
        let index = frames.index(slab);
        frames.at_index(index).set_next(self.head);
        match self.head {
            NIL => self.tail = index,
            head => frames.at_index(head).set_prev(index),
        }
        self.head = index;
        self.len += 1;
    }

    /// Adds a slab, which is on no list, as the last.
    pub fn push_back(&mut self, frames: &FrameTable, slab: Pfn) {
        let index = frames.index(slab);
        frames.at_index(index).set_next(NIL);
        frames.at_index(index).set_prev(self.tail);
        match self.tail {
            NIL => self.head = index,
            tail => frames.at_index(tail).set_next(index),
        }
        self.tail = index;
        self.len += 1;
    }

    /// Takes the first slab.
    pub fn pop_front(&mut self, frames: &FrameTable) -> Option<Pfn> {
        let slab = self.front(frames)?;
        self.remove(frames, slab);
        Some(slab)
    }

    /// Takes a slab that is on this list.
    pub fn remove(&mut self, frames: &FrameTable, slab: Pfn) {
        let index = frames.index(slab);
        let frame = frames.at_index(index);
        let (next, prev) = (frame.next(), frame.prev());
        if index == self.head {
            self.head = next;
        } else {
            frames.at_index(prev).set_next(next);
        }
        if index == self.tail {
            self.tail = if self.head == NIL { NIL } else { prev };
        } else {
            frames.at_index(next).set_prev(prev);
        }
        self.len -= 1;
    }

    /// Iterates over the slabs' head frames, first to last.
    pub fn iter<'a>(&self, frames: &'a FrameTable) -> impl Iterator<Item = Pfn> + use<'a> {
        let (mut next, mut left) = (self.head, self.len);
        core::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let slab = (next != NIL).then(|| frames.pfn(next))?;
            next = frames.at_index(next).next();
            Some(slab)
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use units::PhysRange;

    use super::*;
    use crate::{FramePlace, HeapMemory, MemoryModel, PageFlags, SectionMap};

    const SPAN: PfnRange = PfnRange::new(Pfn::new(16), Pfn::new(48));
    const TWO: Order = Order::new_truncate(1);

    fn table() -> FrameTable {
        let memory = HeapMemory::new(PhysRange::with_len(SPAN.start.phys(12), 1 << 12)).unwrap();
        let sections = SectionMap::new(MemoryModel::Flat, SPAN, collections::BootSlice::empty());
        let frames = FrameTable::new(&memory, SPAN, sections).unwrap();
        frames.init_range(SPAN, FramePlace::new(units::NodeId::ZERO, units::ZoneType::Normal), PageFlags::empty());
        frames
    }

    fn block(frames: &FrameTable, at: u64, order: Order) -> OwnedBlock {
        frames.release_boot_block(Pfn::new(at), order).unwrap().into_owned(frames)
    }

    #[test]
    fn every_frame_of_a_slab_names_its_cache_until_the_slab_goes() {
        let frames = table();
        let head = block(&frames, 18, TWO).into_slab(&frames, 7);
        for pfn in [18, 19] {
            assert_eq!(frames.get(Pfn::new(pfn)).unwrap().slab(), Some((7, TWO)));
        }
        assert!(frames.take_slab(head, 8, TWO).is_err());
        assert!(frames.take_slab(head, 7, Order::ZERO).is_err());
        assert_eq!(frames.take_slab(head, 7, TWO).unwrap().pfn(), head);
        assert_eq!(frames.get(Pfn::new(19)).unwrap().slab(), None);
        assert!(frames.take_slab(head, 7, TWO).is_err());
    }

    #[test]
    fn a_large_object_is_taken_back_once_by_its_head() {
        let frames = table();
        let head = block(&frames, 20, TWO).into_large_object(&frames);
        assert!(frames.take_large_object(Pfn::new(21)).is_err());
        assert_eq!(frames.take_large_object(head).unwrap().order(), TWO);
        assert!(frames.take_large_object(head).is_err());
    }

    #[test]
    fn slabs_leave_a_list_from_both_ends_and_the_middle() {
        let frames = table();
        let slabs: Vec<Pfn> = (16..20).map(|at| block(&frames, at, Order::ZERO).into_slab(&frames, 1)).collect();
        let mut list = SlabList::new();
        list.push_back(&frames, slabs[1]);
        list.push_back(&frames, slabs[2]);
        list.push_front(&frames, slabs[0]);
        list.push_back(&frames, slabs[3]);
        assert!(list.iter(&frames).eq(slabs.iter().copied()));
        list.remove(&frames, slabs[1]);
        list.remove(&frames, slabs[3]);
        assert!(list.iter(&frames).eq([slabs[0], slabs[2]]));
        list.push_back(&frames, slabs[3]);
        assert_eq!(list.pop_front(&frames), Some(slabs[0]));
        assert!(list.iter(&frames).eq([slabs[2], slabs[3]]));
        assert_eq!((list.pop_front(&frames), list.pop_front(&frames)), (Some(slabs[2]), Some(slabs[3])));
        assert!(list.is_empty() && list.front(&frames).is_none() && list.pop_front(&frames).is_none());
    }
}
