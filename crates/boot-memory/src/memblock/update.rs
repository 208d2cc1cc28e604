//! Changes to the lists: add, reserve, remove, free, nodes and flags, and doubling a full array.
//!
//! Linux 6.12: mm/memblock.c (`memblock_add_range`, `memblock_isolate_range`, `memblock_remove_range`,
//! `memblock_double_array`, `memblock_setclr_flag`, `memblock_set_node`).

use units::{NodeId, PhysAddr, PhysRange};

use super::context::BootContext;
use super::find::Exhausted;
use super::region::{Region, RegionFlags};
use super::{ListKind, Memblock, MemblockError, NodeTracking, REGION_BYTES, Resizing};

/// Whether a flag is put on or taken off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FlagChange {
    Set,
    Clear,
}

impl Memblock {
    /// Adds memory of unknown node (Linux: memblock_add).
    ///
    /// Parts that are there already keep their node and flags.
    pub fn add(&mut self, base: PhysAddr, size: u64, cx: &mut BootContext<'_>) -> Result<(), MemblockError> {
        self.log_range("memblock_add", base, size, cx);
        self.add_range(ListKind::Memory, base, size, None, RegionFlags::empty(), cx)
    }

    /// Adds memory of `node` with `flags` (Linux: memblock_add_node).
    pub fn add_node(
        &mut self,
        base: PhysAddr,
        size: u64,
        node: NodeId,
        flags: RegionFlags,
        cx: &mut BootContext<'_>,
    ) -> Result<(), MemblockError> {
        self.log_add_node(base, size, node, flags, cx);
        self.add_range(ListKind::Memory, base, size, Some(node), flags, cx)
    }

    /// Marks a range as taken, whether or not there is memory (Linux: memblock_reserve).
    #[inline]
    pub fn reserve(&mut self, base: PhysAddr, size: u64, cx: &mut BootContext<'_>) -> Result<(), MemblockError> {
        self.log_range("memblock_reserve", base, size, cx);
        self.add_range(ListKind::Reserved, base, size, None, RegionFlags::empty(), cx)
    }

    /// Takes memory out, as if it were not there (Linux: memblock_remove).
    pub fn remove(&mut self, base: PhysAddr, size: u64, cx: &mut BootContext<'_>) -> Result<(), MemblockError> {
        self.log_range("memblock_remove", base, size, cx);
        self.remove_range(ListKind::Memory, base, size, cx)
    }

    /// Gives a reserved or allocated range back (Linux: memblock_phys_free).
    pub fn phys_free(&mut self, base: PhysAddr, size: u64, cx: &mut BootContext<'_>) -> Result<(), MemblockError> {
        self.log_range("memblock_phys_free", base, size, cx);
        self.remove_range(ListKind::Reserved, base, size, cx)
    }

    /// Gives back what an allocation returned (Linux: memblock_free).
    pub fn free(&mut self, range: PhysRange, cx: &mut BootContext<'_>) -> Result<(), MemblockError> {
        if range.is_empty() {
            return Ok(());
        }
        self.phys_free(range.start, range.len(), &mut cx.inner("memblock_free"))
    }

    /// Says which node a range of one list is on; `None` forgets it (Linux: memblock_set_node).
    pub fn set_node(
        &mut self,
        base: PhysAddr,
        size: u64,
        list: ListKind,
        node: Option<NodeId>,
        cx: &mut BootContext<'_>,
    ) -> Result<(), MemblockError> {
        if self.config.nodes == NodeTracking::Flat {
            return Ok(());
        }
        self.change_regions(list, base, size, cx, |region| region.node = node)
    }

    /// Marks memory that the firmware may unplug (Linux: memblock_mark_hotplug).
    pub fn mark_hotplug(&mut self, base: PhysAddr, size: u64, cx: &mut BootContext<'_>) -> Result<(), MemblockError> {
        self.change_flag(ListKind::Memory, base, size, FlagChange::Set, RegionFlags::HOTPLUG, cx)
    }

    /// Takes the hotplug mark off (Linux: memblock_clear_hotplug).
    pub fn clear_hotplug(&mut self, base: PhysAddr, size: u64, cx: &mut BootContext<'_>) -> Result<(), MemblockError> {
        self.change_flag(ListKind::Memory, base, size, FlagChange::Clear, RegionFlags::HOTPLUG, cx)
    }

    /// Marks mirrored memory; does nothing unless the configuration prefers it (Linux: memblock_mark_mirror).
    pub fn mark_mirror(&mut self, base: PhysAddr, size: u64, cx: &mut BootContext<'_>) -> Result<(), MemblockError> {
        if self.config.mirror == super::MirrorPolicy::Ignore {
            return Ok(());
        }
        self.change_flag(ListKind::Memory, base, size, FlagChange::Set, RegionFlags::MIRROR, cx)?;
        self.has_mirror = true;
        Ok(())
    }

    /// Marks memory that the kernel must not map (Linux: memblock_mark_nomap).
    pub fn mark_nomap(&mut self, base: PhysAddr, size: u64, cx: &mut BootContext<'_>) -> Result<(), MemblockError> {
        self.change_flag(ListKind::Memory, base, size, FlagChange::Set, RegionFlags::NOMAP, cx)
    }

    /// Takes the nomap mark off (Linux: memblock_clear_nomap).
    pub fn clear_nomap(&mut self, base: PhysAddr, size: u64, cx: &mut BootContext<'_>) -> Result<(), MemblockError> {
        self.change_flag(ListKind::Memory, base, size, FlagChange::Clear, RegionFlags::NOMAP, cx)
    }

    /// Marks reserved memory whose descriptors stay uninitialised (Linux: memblock_reserved_mark_noinit).
    pub fn reserved_mark_noinit(
        &mut self,
        base: PhysAddr,
        size: u64,
        cx: &mut BootContext<'_>,
    ) -> Result<(), MemblockError> {
        self.change_flag(ListKind::Reserved, base, size, FlagChange::Set, RegionFlags::RSRV_NOINIT, cx)
    }

    fn change_flag(
        &mut self,
        list: ListKind,
        base: PhysAddr,
        size: u64,
        change: FlagChange,
        flag: RegionFlags,
        cx: &mut BootContext<'_>,
    ) -> Result<(), MemblockError> {
        self.change_regions(list, base, size, cx, |region| region.flags.set(flag, change == FlagChange::Set))
    }

    /// Applies `change` to exactly the given bytes of a list, splitting and merging regions around them.
    fn change_regions(
        &mut self,
        kind: ListKind,
        base: PhysAddr,
        size: u64,
        cx: &mut BootContext<'_>,
        change: impl Fn(&mut Region),
    ) -> Result<(), MemblockError> {
        let range = PhysRange::with_len(base, size);
        if range.is_empty() {
            return Ok(());
        }
        self.make_room(kind, 2, range, cx)?;
        if kind == ListKind::Memory {
            self.exhausted = Exhausted::NOTHING;
        }
        let list = self.list_mut(kind);
        let window = list.isolate(range);
        list.regions_mut()[window.clone()].iter_mut().for_each(change);
        list.merge(window);
        Ok(())
    }

    /// Inserts the parts of a range that a list does not cover yet.
    #[inline]
    pub(super) fn add_range(
        &mut self,
        kind: ListKind,
        base: PhysAddr,
        size: u64,
        node: Option<NodeId>,
        flags: RegionFlags,
        cx: &mut BootContext<'_>,
    ) -> Result<(), MemblockError> {
        let range = PhysRange::with_len(base, size);
        if range.is_empty() {
            return Ok(());
        }
        let node = if self.config.nodes == NodeTracking::Flat { None } else { node };
        loop {
            let list = self.list_mut(kind);
            let touched = list.overlapping(range);
            let gaps = list.nr_gaps(range, touched.clone());
            if gaps == 0 {
                return Ok(());
            }
            if list.has_room(gaps) {
                list.fill_gaps(Region { base: range.start, size: range.len(), flags, node }, touched);
                if kind == ListKind::Memory {
                    self.exhausted = Exhausted::NOTHING;
                }
                return Ok(());
            }
            self.double_array(kind, range, cx)?;
        }
    }

    /// Takes a range out of a list.
    pub(super) fn remove_range(
        &mut self,
        kind: ListKind,
        base: PhysAddr,
        size: u64,
        cx: &mut BootContext<'_>,
    ) -> Result<(), MemblockError> {
        let range = PhysRange::with_len(base, size);
        if range.is_empty() {
            return Ok(());
        }
        self.make_room(kind, 2, range, cx)?;
        self.list_mut(kind).cut(range);
        if kind == ListKind::Reserved {
            self.exhausted.note_free_up_to(self.reserved.next_start(range.end));
        }
        Ok(())
    }

    /// Doubles the array of a list until `more` regions fit; `busy` is the range about to be inserted.
    pub(super) fn make_room(
        &mut self,
        kind: ListKind,
        more: usize,
        busy: PhysRange,
        cx: &mut BootContext<'_>,
    ) -> Result<(), MemblockError> {
        while !self.list(kind).has_room(more) {
            self.double_array(kind, busy, cx)?;
        }
        Ok(())
    }

    /// Moves the regions of a list into an array of twice the size, allocated from memblock itself.
    ///
    /// An array of reserved regions must not land on `busy`, the range whose reservation made it overflow.
    fn double_array(&mut self, kind: ListKind, busy: PhysRange, cx: &mut BootContext<'_>) -> Result<(), MemblockError> {
        let capacity = self.list(kind).capacity();
        let failure = MemblockError::CannotGrow { list: kind, capacity };
        if self.resizing == Resizing::Forbidden {
            return Err(failure);
        }
        let doubled = capacity * 2;
        let bytes = doubled as u64 * REGION_BYTES;
        let alloc_bytes = PhysAddr::new(bytes).align_up(self.page_size()).raw();
        let at = self.place_array(kind, busy, alloc_bytes, cx).map(|start| PhysRange::with_len(start, alloc_bytes));
        let array = at.and_then(|at| cx.memory.region_slice(at).map(|slots| (at, slots)));
        let Some((at, slots)) = array.filter(|(_, slots)| slots.len() >= doubled) else {
            self.log_cannot_double(kind, capacity, cx);
            return Err(failure);
        };
        self.log_doubled(kind, doubled, PhysRange::with_len(at.start, bytes), cx);
        if kind == ListKind::Memory {
            self.make_room(ListKind::Reserved, 2, at, cx)?;
        }
        let old = self.list_mut(kind).move_into(slots, at, doubled);
        if let Some(old) = old {
            self.free(old, cx)?;
        }
        self.reserve(at.start, alloc_bytes, &mut cx.inner("memblock_double_array"))
    }

    fn place_array(&self, kind: ListKind, busy: PhysRange, bytes: u64, cx: &mut BootContext<'_>) -> Option<PhysAddr> {
        let page_size = self.page_size();
        if kind == ListKind::Memory {
            let all = PhysRange::new(PhysAddr::ZERO, self.current_limit);
            return self.find_in_range(all, bytes, page_size, cx);
        }
        let above = PhysRange::new(busy.end, self.current_limit);
        self.find_in_range(above, bytes, page_size, cx).or_else(|| {
            // An end of 0 would mean the limit (MEMBLOCK_ALLOC_ACCESSIBLE), and the array could land on `busy`, as it can in Linux.
            let below = PhysRange::new(PhysAddr::ZERO, busy.start.min(self.current_limit));
            if below.is_empty() { None } else { self.find_in_range(below, bytes, page_size, cx) }
        })
    }
}
