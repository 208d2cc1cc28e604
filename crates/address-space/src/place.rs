//! Which addresses a mapping gets.
//!
//! A hint is taken if it is free; else the search goes down from below the stack, and if that fails up from a third of the addresses. A stack keeps its
//! guard gap. Large anonymous mappings begin at huge pages.
//! Linux 6.12: mm/mmap.c (`__get_unmapped_area`, `unmapped_area`, `unmapped_area_topdown`), arch/x86/kernel/sys_x86_64.c,
//! mm/huge_memory.c (`thp_get_unmapped_area`).

use page_allocator::Hooks;
use platform::Platform;
use units::{VirtAddr, VirtRange};

use crate::backing::{FileTraits, PageTables, Pager};
use crate::call::Call;
use crate::error::MmError;
use crate::flags::MapFlags;
use crate::limits::Rights;
use crate::program::Direction;
use crate::vma::{FileId, PAGE_SHIFT, PAGE_SIZE};

/// Where MAP_32BIT mappings go.
const LOW_2GB: VirtRange = VirtRange::new(VirtAddr::new(0x4000_0000), VirtAddr::new(0x8000_0000));
/// Below this nothing goes with MAP_ABOVE4G.
const FOUR_GB: VirtAddr = VirtAddr::new(1 << 32);

/// What a place is wanted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlaceRequest {
    /// The file, if any.
    pub file: Option<FileId>,
    /// The hint, or the address with MAP_FIXED; 0 for none.
    pub addr: VirtAddr,
    /// Bytes, whole pages.
    pub len: u64,
    /// Page of the file.
    pub pgoff: u64,
    /// Flags of mmap.
    pub flags: MapFlags,
}

impl<P: Platform, H: Hooks, B: PageTables + Pager> Call<'_, '_, P, H, B> {
    /// Returns the address that a mapping gets (Linux: `get_unmapped_area`). Maps nothing.
    ///
    /// # Errors
    /// [`MmError::NoMemory`], [`MmError::Invalid`] for a fixed address inside a page, [`MmError::NotPermitted`] below vm.mmap_min_addr.
    pub fn unmapped_area(&self, request: &PlaceRequest) -> Result<VirtAddr, MmError> {
        let settings = &self.spaces.settings;
        let top = settings.task_size.raw();
        if request.len > top {
            return Err(MmError::NoMemory);
        }
        let addr = self.choose(request)?;
        if addr.raw() > top - request.len {
            return Err(MmError::NoMemory);
        }
        if !addr.raw().is_multiple_of(PAGE_SIZE) {
            return Err(MmError::Invalid);
        }
        if addr < self.spaces.privileged_below() && !self.process.rights.contains(Rights::SYS_RAWIO) {
            return Err(MmError::NotPermitted);
        }
        Ok(addr)
    }

    fn choose(&self, request: &PlaceRequest) -> Result<VirtAddr, MmError> {
        let aligned = match request.file {
            Some(file) => self.backing.facts(file)?.traits.contains(FileTraits::HUGE_ALIGNED),
            None => {
                let huge = self.spaces.settings.huge_page;
                let shared = request.flags.contains(MapFlags::SHARED);
                !shared && huge != 0 && request.addr == VirtAddr::ZERO && request.len.is_multiple_of(huge)
            }
        };
        if aligned && let Some(addr) = self.huge_aligned(request) {
            return Ok(addr);
        }
        self.search(request)
    }

    /// Returns a place whose huge pages are those of the file, or `None` if there is no room or the mapping holds no huge page
    /// (Linux: `__thp_get_unmapped_area`).
    fn huge_aligned(&self, request: &PlaceRequest) -> Option<VirtAddr> {
        let huge = self.spaces.settings.huge_page;
        let offset = if request.file.is_some() { request.pgoff.checked_shl(PAGE_SHIFT)? } else { 0 };
        let end = offset.checked_add(request.len)?;
        if huge == 0 || end.checked_sub(offset.checked_next_multiple_of(huge)?)? < huge {
            return None;
        }
        let len = request.len.checked_add(huge)?;
        offset.checked_add(len)?;
        let padded = self.search(&PlaceRequest { len, ..*request }).ok()?;
        if padded == request.addr {
            return Some(padded);
        }
        let shift = offset.wrapping_sub(padded.raw()) & (huge - 1);
        let is_top_down = self.mm.layout.direction == Direction::TopDown;
        Some(padded.saturating_add(if is_top_down && shift == 0 { huge } else { shift }))
    }

    /// Linux: `arch_get_unmapped_area_topdown`, `arch_get_unmapped_area`.
    fn search(&self, request: &PlaceRequest) -> Result<VirtAddr, MmError> {
        let settings = &self.spaces.settings;
        if request.len > settings.task_size.raw() {
            return Err(MmError::NoMemory);
        }
        if request.flags.contains(MapFlags::FIXED) {
            return Ok(request.addr);
        }
        if self.mm.layout.direction == Direction::BottomUp || request.flags.contains(MapFlags::LOW_2GB) {
            return self.search_up(request);
        }
        let hint = request.addr.align_down(PAGE_SIZE);
        if hint != VirtAddr::ZERO && self.is_valid_hint(hint, request.len) && self.is_free(hint, request.len) {
            return Ok(hint);
        }
        let low = if request.flags.contains(MapFlags::ABOVE_4GB) { FOUR_GB } else { VirtAddr::new(PAGE_SIZE) };
        let mut high = self.mm.layout.base;
        if hint > settings.default_window {
            high = high.saturating_add(settings.task_size.since(settings.default_window));
        }
        match self.highest(VirtRange::new(low.max(self.spaces.min_addr()), high), request.len) {
            Some(addr) => Ok(addr),
            None => self.search_up(request),
        }
    }

    /// A hint must lie within the addresses, and not across the end of those that are given out unasked.
    fn is_valid_hint(&self, hint: VirtAddr, len: u64) -> bool {
        let settings = &self.spaces.settings;
        let window = settings.default_window;
        settings.task_size.raw() - len >= hint.raw() && (hint > window) == (hint.saturating_add(len) > window)
    }

    fn is_free(&self, addr: VirtAddr, len: u64) -> bool {
        let guard_gap = self.spaces.settings.guard_gap;
        self.mm.find(addr).is_none_or(|next| addr.saturating_add(len) <= next.start_with_gap(guard_gap))
    }

    fn search_up(&self, request: &PlaceRequest) -> Result<VirtAddr, MmError> {
        let settings = &self.spaces.settings;
        let wide = request.addr > settings.default_window;
        let limits = match request.flags.contains(MapFlags::LOW_2GB) {
            true => LOW_2GB,
            false => VirtRange::new(
                self.mm.layout.legacy_base,
                if wide { settings.task_size } else { settings.default_window },
            ),
        };
        if request.len > limits.end.raw() {
            return Err(MmError::NoMemory);
        }
        if request.addr != VirtAddr::ZERO {
            let hint = request.addr.align_up(PAGE_SIZE);
            if limits.end.raw() - request.len >= hint.raw() && self.is_free(hint, request.len) {
                return Ok(hint);
            }
        }
        let limits = VirtRange::new(limits.start.max(self.spaces.min_addr()), limits.end);
        self.lowest(limits, request.len).ok_or(MmError::NoMemory)
    }

    /// Returns the highest place with `len` free bytes, none of them in the guard gap of a stack (Linux: `unmapped_area_topdown`).
    fn highest(&self, limits: VirtRange, len: u64) -> Option<VirtAddr> {
        let guard_gap = self.spaces.settings.guard_gap;
        let mut high = limits.end;
        loop {
            let addr = self.mm.tree.highest_gap(VirtRange::new(limits.start, high), len, PAGE_SIZE)?;
            let end = addr.saturating_add(len);
            let limit = self.mm.find(end).map_or(end, |next| next.start_with_gap(guard_gap));
            if limit >= end {
                return Some(addr);
            }
            high = limit;
        }
    }

    /// Returns the lowest such place (Linux: `unmapped_area`).
    fn lowest(&self, limits: VirtRange, len: u64) -> Option<VirtAddr> {
        let guard_gap = self.spaces.settings.guard_gap;
        let mut low = limits.start;
        loop {
            let addr = self.mm.tree.lowest_gap(VirtRange::new(low, limits.end), len, PAGE_SIZE)?;
            let end = addr.saturating_add(len);
            match self.mm.find(addr) {
                Some(next) if next.start_with_gap(guard_gap) < end => low = next.end(),
                _ => return Some(addr),
            }
        }
    }
}
