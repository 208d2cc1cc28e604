//! mremap: resize in place, move, copy.
//!
//! Two orders of checks: up to 6.16 the range is looked at where it is needed, 6.17 checks the arguments first and moves several areas at once.
//! Linux 6.12: mm/mremap.c (`mremap`, `mremap_to`, `vma_to_resize`, `move_vma`), mm/vma.c (`copy_vma`, `vma_merge_extend`).

use collections::range_tree::Entry;
use page_allocator::Hooks;
use platform::Platform;
use units::{VirtAddr, VirtRange, VmFlags};

use crate::backing::{PageTables, Pager};
use crate::call::Call;
use crate::error::MmError;
use crate::flags::{MapFlags, RemapFlags};
use crate::limits::Release;
use crate::place::PlaceRequest;
use crate::vma::{PAGE_SHIFT, PAGE_SIZE, Slot, Vma};

/// Areas that a move may need beyond those that there are.
const SPARE_AREAS: usize = 3;

/// Arguments of mremap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemapRequest {
    /// Where the range is.
    pub addr: VirtAddr,
    /// Its bytes; 0 copies a shared mapping.
    pub old_len: u64,
    /// Bytes that it is to have.
    pub new_len: u64,
    /// What may be done.
    pub flags: RemapFlags,
    /// Where it is to be, with `FIXED`; a hint with `DONTUNMAP`.
    pub new_addr: VirtAddr,
}

impl RemapRequest {
    const fn names_address(&self) -> bool {
        self.flags.intersects(RemapFlags::FIXED.union(RemapFlags::DONTUNMAP))
    }

    fn overlaps(&self) -> bool {
        self.addr.raw().wrapping_add(self.old_len) > self.new_addr.raw()
            && self.new_addr.raw().wrapping_add(self.new_len) > self.addr.raw()
    }

    /// Checks that 6.12 makes before it looks at any area; `unaligned` has the lengths as they came.
    fn check(&self, unaligned: &Self) -> Result<(), MmError> {
        let known = RemapFlags::FIXED | RemapFlags::MAYMOVE | RemapFlags::DONTUNMAP;
        let moves = self.flags.contains(RemapFlags::MAYMOVE);
        let resizes = unaligned.old_len != unaligned.new_len;
        let bad_keep = self.flags.contains(RemapFlags::DONTUNMAP) && (!moves || resizes);
        let bad_fixed = self.flags.contains(RemapFlags::FIXED) && !moves;
        let unaligned = !self.addr.raw().is_multiple_of(PAGE_SIZE);
        if !known.contains(self.flags) || bad_fixed || bad_keep || unaligned || self.new_len == 0 {
            return Err(MmError::Invalid);
        }
        Ok(())
    }
}

/// Rounds up to whole pages; what does not fit becomes 0, as in Linux.
const fn page_align(len: u64) -> u64 {
    len.wrapping_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1)
}

impl<'k, P: Platform, H: Hooks, B: PageTables + Pager> Call<'_, 'k, P, H, B> {
    /// Resizes or moves a range (Linux: `mremap`). Returns where it is.
    ///
    /// # Errors
    /// What mremap(2) says. The range is where it was then; with `FIXED`, what was mapped at the new address may be gone.
    pub fn mremap(&mut self, request: &RemapRequest) -> Result<VirtAddr, MmError> {
        let aligned =
            RemapRequest { old_len: page_align(request.old_len), new_len: page_align(request.new_len), ..*request };
        if self.release() >= Release::V6_18 {
            aligned.check(&aligned)?;
            self.check_new_address(&aligned)?;
            if request.flags.contains(RemapFlags::FIXED) && aligned.old_len == aligned.new_len {
                return self.move_areas(&aligned);
            }
        } else {
            aligned.check(request)?;
        }
        let vma = self.mm.lookup(aligned.addr).ok_or(MmError::BadAddress)?;
        self.remap_one(&vma, &aligned)
    }

    /// Checks of 6.17 that need no area.
    fn check_new_address(&self, request: &RemapRequest) -> Result<(), MmError> {
        let top = self.spaces.settings.task_size.raw();
        let is_silly = top.checked_sub(request.new_len).is_none_or(|most| request.new_addr.raw() > most);
        if is_silly {
            return Err(MmError::Invalid);
        }
        if !request.names_address() {
            return Ok(());
        }
        if !request.new_addr.raw().is_multiple_of(PAGE_SIZE) || request.overlaps() {
            return Err(MmError::Invalid);
        }
        self.check_spare_areas()
    }

    fn check_spare_areas(&self) -> Result<(), MmError> {
        let most = self.spaces.max_map_count();
        if self.mm.nr_areas() + 2 >= most.saturating_sub(SPARE_AREAS) { Err(MmError::NoMemory) } else { Ok(()) }
    }

    /// Moves all areas of a range and keeps the gaps between them (Linux 6.17: `remap_move`).
    fn move_areas(&mut self, request: &RemapRequest) -> Result<VirtAddr, MmError> {
        let end = VirtAddr::new(request.addr.raw().wrapping_add(request.old_len));
        let mut at = request.addr;
        let mut result = Err(MmError::BadAddress);
        while let Some(vma) = self.mm.find_intersection(VirtRange::new(at, end)) {
            let addr = vma.start().max(request.addr);
            if result.is_err() && vma.start() > request.addr {
                return Err(MmError::BadAddress);
            }
            let len = vma.end().min(end).since(addr);
            let new_addr = request.new_addr.saturating_add(addr.since(request.addr));
            at = vma.end();
            let moved =
                self.remap_one(&vma, &RemapRequest { addr, old_len: len, new_len: len, new_addr, ..*request })?;
            result = result.or(Ok(moved));
        }
        result
    }

    /// Linux: the rest of `mremap`, with the area looked up.
    fn remap_one(&mut self, vma: &Vma, request: &RemapRequest) -> Result<VirtAddr, MmError> {
        if !vma.can_modify() {
            return Err(MmError::NotPermitted);
        }
        let checks_first = self.release() >= Release::V6_18;
        let shrinks = request.old_len >= request.new_len;
        if checks_first && (request.names_address() || !shrinks) {
            self.check_resize(vma, request)?;
        }
        if request.names_address() {
            return self.remap_to(request);
        }
        if shrinks {
            if request.old_len > request.new_len {
                self.munmap(request.addr.saturating_add(request.new_len), request.old_len - request.new_len)?;
            }
            return Ok(request.addr);
        }
        if !checks_first {
            self.check_resize(vma, request)?;
        }
        if request.old_len == vma.end().since(request.addr)
            && let Some(result) = self.extend_in_place(vma, request)
        {
            return result;
        }
        if !request.flags.contains(RemapFlags::MAYMOVE) {
            return Err(MmError::NoMemory);
        }
        let new_addr = self.place_for(vma, &RemapRequest { new_addr: VirtAddr::ZERO, ..*request })?;
        self.move_area(vma, &RemapRequest { new_addr, ..*request })
    }

    /// Linux: `vma_to_resize`, later `check_prep_vma`.
    fn check_resize(&self, vma: &Vma, request: &RemapRequest) -> Result<(), MmError> {
        let (mut old_len, new_len) = (request.old_len, request.new_len);
        let fixed_size = VmFlags::DONTEXPAND | VmFlags::PFNMAP;
        if old_len == 0 && !vma.flags.intersects(VmFlags::SHARED | VmFlags::MAYSHARE) {
            return Err(MmError::Invalid);
        }
        if request.flags.contains(RemapFlags::DONTUNMAP) && vma.flags.intersects(fixed_size) {
            return Err(MmError::Invalid);
        }
        if self.release() >= Release::V6_18 {
            // What a shrinking move cuts off may lie beyond the area.
            old_len = old_len.min(new_len);
        }
        if old_len > vma.end().since(request.addr) {
            return Err(MmError::BadAddress);
        }
        if new_len == old_len {
            return Ok(());
        }
        vma.pgoff_at(request.addr).checked_add(new_len >> PAGE_SHIFT).ok_or(MmError::Invalid)?;
        if vma.flags.intersects(fixed_size) {
            return Err(MmError::BadAddress);
        }
        let delta = new_len - old_len;
        if !self.may_lock(vma.flags, delta) {
            return Err(MmError::TryAgain);
        }
        if self.may_expand(vma.flags, delta >> PAGE_SHIFT) { Ok(()) } else { Err(MmError::NoMemory) }
    }

    /// Grows an area at its end; `None` if something is in the way (Linux: `vma_expandable`, `vma_merge_extend`).
    fn extend_in_place(&mut self, vma: &Vma, request: &RemapRequest) -> Option<Result<VirtAddr, MmError>> {
        let delta = request.new_len - request.old_len;
        let end = vma.end().checked_add(delta)?;
        let range = VirtRange::new(vma.end(), end);
        if self.mm.find_intersection(range).is_some() {
            return None;
        }
        let len = end.since(vma.start());
        let whole = PlaceRequest { file: None, addr: vma.start(), len, pgoff: 0, flags: MapFlags::FIXED };
        self.unmapped_area(&whole).ok()?;
        Some(self.extend(vma, range).map(|()| request.addr))
    }

    fn extend(&mut self, vma: &Vma, range: VirtRange) -> Result<(), MmError> {
        let nr_pages = range.len() >> PAGE_SHIFT;
        let charged = if vma.flags.contains(VmFlags::ACCOUNT) { nr_pages } else { 0 };
        self.charge(charged)?;
        let more = Vma { range, pgoff: vma.pgoff_at(range.start), ..*vma };
        let around = self.mm.around(range);
        if self.merge_new(&more, &around).is_none() {
            self.spaces.overcommit.uncharge(charged);
            return Err(MmError::NoMemory);
        }
        self.mm.counters.add(vma.flags, nr_pages);
        if vma.flags.contains(VmFlags::LOCKED) {
            self.mm.counters.locked += nr_pages;
            let _ = self.populate(range);
        }
        Ok(())
    }

    /// Linux: `mremap_to`.
    fn remap_to(&mut self, request: &RemapRequest) -> Result<VirtAddr, MmError> {
        let top = self.spaces.settings.task_size.raw();
        let most = top.checked_sub(request.new_len).ok_or(MmError::Invalid)?;
        let is_aligned = request.new_addr.raw().is_multiple_of(PAGE_SIZE);
        if !is_aligned || request.new_addr.raw() > most || request.overlaps() {
            return Err(MmError::Invalid);
        }
        self.check_spare_areas()?;
        let mut request = *request;
        if request.flags.contains(RemapFlags::FIXED) {
            self.munmap(request.new_addr, request.new_len)?;
        }
        if request.old_len > request.new_len {
            self.munmap(request.addr.saturating_add(request.new_len), request.old_len - request.new_len)?;
            request.old_len = request.new_len;
        }
        let vma = self.mm.lookup(request.addr).ok_or(MmError::BadAddress)?;
        if self.release() < Release::V6_18 {
            self.check_resize(&vma, &request)?;
        }
        let keeps = request.flags.contains(RemapFlags::DONTUNMAP);
        if keeps && !self.may_expand(vma.flags, request.old_len >> PAGE_SHIFT) {
            return Err(MmError::NoMemory);
        }
        let placed = self.place_for(&vma, &request)?;
        if !request.flags.contains(RemapFlags::FIXED) {
            request.new_addr = placed;
        }
        self.move_area(&vma, &request)
    }

    fn place_for(&self, vma: &Vma, request: &RemapRequest) -> Result<VirtAddr, MmError> {
        let mut flags = MapFlags::empty();
        flags.set(MapFlags::SHARED, vma.flags.contains(VmFlags::MAYSHARE));
        flags.set(MapFlags::FIXED, request.flags.contains(RemapFlags::FIXED));
        self.unmapped_area(&PlaceRequest {
            file: vma.file,
            addr: request.new_addr,
            len: request.new_len,
            pgoff: vma.pgoff_at(request.addr),
            flags,
        })
    }

    /// Moves a part of an area to where nothing is. That both places are mapped for a while does not count as a peak (Linux: `move_vma`).
    fn move_area(&mut self, vma: &Vma, request: &RemapRequest) -> Result<VirtAddr, MmError> {
        let hiwater = self.mm.counters.hiwater;
        let moved = self.move_mapped(vma, request);
        self.mm.counters.hiwater = hiwater;
        moved
    }

    fn move_mapped(&mut self, vma: &Vma, request: &RemapRequest) -> Result<VirtAddr, MmError> {
        if self.mm.nr_areas() >= self.spaces.max_map_count().saturating_sub(SPARE_AREAS) {
            return Err(MmError::NoMemory);
        }
        let old = VirtRange::with_len(request.addr, request.old_len);
        let keeps = request.flags.contains(RemapFlags::DONTUNMAP);
        let vma = &self.part_to_unlock(vma, old, request)?;
        let is_accounted = vma.flags.contains(VmFlags::ACCOUNT);
        let more = if keeps { request.new_len } else { request.new_len - request.old_len };
        let charged = if is_accounted { more >> PAGE_SHIFT } else { 0 };
        self.charge(charged)?;
        self.write_lock(vma.start());
        let copied = self.copy_area(vma, request).inspect_err(|_| self.spaces.overcommit.uncharge(charged))?;
        let room = self.room_below(old.start, request.new_addr);
        // A walk of the reverse map would otherwise look at the new place before the pages are there, and at the old one after.
        let held = self.spaces.rmap.hold(self.cpu, vma);
        let relocated = self.backing.relocate(vma, old, &copied, request.new_addr, room);
        drop(held);
        if let Err(error) = relocated {
            self.abandon_copy(request, charged);
            return Err(error);
        }
        let nr_pages = request.new_len >> PAGE_SHIFT;
        self.mm.counters.add(vma.flags, nr_pages);
        if keeps {
            // Since 6.16 the new place counts as locked, while what the old one no longer is goes on counting.
            if vma.flags.contains(VmFlags::LOCKED) && self.release() >= Release::V6_18 {
                self.mm.counters.locked += nr_pages;
            }
            self.leave_empty(old);
            return Ok(request.new_addr);
        }
        if !old.is_empty() {
            self.unmap_moved(old);
        }
        if vma.flags.contains(VmFlags::LOCKED) {
            self.mm.counters.locked += nr_pages;
            if request.new_len > request.old_len {
                let new = VirtRange::with_len(request.new_addr, request.new_len);
                let _ = self.populate(VirtRange::new(new.start.saturating_add(request.old_len), new.end));
            }
        }
        Ok(request.new_addr)
    }

    /// Returns the area whose pages are to move: what stays mapped and is locked becomes an area of its own first, since it alone is unlocked.
    fn part_to_unlock(&mut self, vma: &Vma, old: VirtRange, request: &RemapRequest) -> Result<Vma, MmError> {
        let is_to_unlock = request.flags.contains(RemapFlags::DONTUNMAP) && vma.flags.contains(VmFlags::LOCKED);
        if !is_to_unlock || self.release() >= Release::V6_18 {
            return Ok(*vma);
        }
        let part = vma.part(old);
        self.split_off(&self.mm.among(vma.range).ok_or(MmError::BadAddress)?, &part)?;
        Ok(part)
    }

    /// Returns how many bytes below both places of a move hold no area. None if an area reaches down there, as does the one that both places became if they
    /// are side by side.
    fn room_below(&self, from: VirtAddr, to: VirtAddr) -> u64 {
        let room = |at: VirtAddr| {
            let begins = self.mm.lookup(at).is_some_and(|area| area.start() == at);
            let before = self.mm.find_before(at).map_or(VirtAddr::ZERO, |before| before.end());
            if begins { at.since(before) } else { 0 }
        };
        room(from).min(room(to))
    }

    /// Makes the area at the new place, or lets a neighbour reach over it (Linux: `copy_vma`).
    fn copy_area(&mut self, vma: &Vma, request: &RemapRequest) -> Result<Vma, MmError> {
        let range = VirtRange::with_len(request.new_addr, request.new_len);
        // Without anonymous pages the offset is free to fit the neighbours at the new place.
        let pgoff = if vma.is_untouched() { Self::page_of(range.start) } else { vma.pgoff_at(request.addr) };
        let copy = Vma { range, pgoff, ..*vma };
        // Both places stay, so they are not to become one area.
        let is_apart =
            vma.is_untouched() && request.flags.contains(RemapFlags::DONTUNMAP) && self.release() < Release::V6_18;
        let mut around = self.mm.around(range);
        let may_join = |neighbour: &Entry<Slot<'k>>| !is_apart || neighbour.range != vma.range;
        (around.before, around.behind) = (around.before.filter(may_join), around.behind.filter(may_join));
        // The pages take their marks along; a neighbour becomes no other for that.
        if let Some(whole) = self.merge_new(&Vma { flags: copy.flags - VmFlags::SOFTDIRTY, ..copy }, &around) {
            return Ok(whole);
        }
        self.enter(&copy)?;
        self.open_file(&copy);
        Ok(copy)
    }

    /// Takes back the new place after its pages could not be moved. The copy may have become part of a neighbour, so it is unmapped as a range.
    fn abandon_copy(&mut self, request: &RemapRequest, charged: u64) {
        let range = VirtRange::with_len(request.new_addr, request.new_len);
        let Ok(gathered) = self.gather(range) else { return };
        if let Some(vma) = self.mm.lookup(range.start) {
            self.mm.counters.add(vma.flags, gathered.nr_pages);
            if vma.flags.contains(VmFlags::LOCKED) {
                self.mm.counters.locked += gathered.nr_pages;
            }
        }
        self.complete_unmap(range, &gathered, gathered.accounted);
        self.spaces.overcommit.uncharge(charged);
    }

    /// Unmaps the old place; its promise has moved along.
    fn unmap_moved(&mut self, old: VirtRange) {
        match self.gather(old) {
            Ok(gathered) => self.complete_unmap(old, &gathered, gathered.accounted),
            // The area cannot be split: both places stay mapped, and both count.
            Err(_) => {
                let accounted = self.mm.lookup(old.start).is_some_and(|vma| vma.flags.contains(VmFlags::ACCOUNT));
                if accounted {
                    self.spaces.overcommit.charge_unasked(old.len() >> PAGE_SHIFT);
                }
            }
        }
    }

    /// Leaves the old place mapped without pages (MREMAP_DONTUNMAP): not locked, and if it is all of its area, as one that was never touched.
    fn leave_empty(&mut self, old: VirtRange) {
        let Some(vma) = self.mm.lookup(old.start) else { return };
        let mut left = Vma { flags: vma.flags - VmFlags::LOCKED_MASK, ..vma };
        if vma.range == old {
            left.anon = None;
            if vma.is_anonymous() && self.release() < Release::V6_18 {
                left.pgoff = Self::page_of(old.start);
            }
        }
        self.store(&left);
    }
}
