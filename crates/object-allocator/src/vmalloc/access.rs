//! What lies behind an address of an area, and its bytes, by way of the page tables and the direct map.
//!
//! Works on every machine, also where the kernel's addresses cannot be dereferenced because the host has its own.
//! Linux 6.12: `vmalloc_to_page`, `vmalloc_to_pfn`, `vread_iter`.

use core::fmt;

use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;
use units::{Pfn, PhysRange, VirtAddr};

use super::area::{AreaKind, AreaState, VmallocArea};
use crate::ObjectAllocator;

/// Bytes of an area that cannot be reached: behind its end, or in HighMem, which the direct map does not show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfReach(pub VirtAddr);

impl fmt::Display for OutOfReach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} is outside of the area, or its page is not in the direct map", self.0)
    }
}

impl core::error::Error for OutOfReach {}

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Returns true if `virt` is one of the addresses for areas (Linux: is_vmalloc_addr).
    pub const fn is_vmalloc_addr(&self, virt: VirtAddr) -> bool {
        self.vmalloc.contains(virt)
    }

    /// Returns the frame that is mapped at an address of an area (Linux: vmalloc_to_pfn, vmalloc_to_page).
    pub fn vmalloc_to_pfn(&self, cpu: &Cpu, virt: VirtAddr) -> Option<Pfn> {
        if !self.is_vmalloc_addr(virt) {
            return None;
        }
        Some(self.translate(cpu, virt)?.phys.pfn_down(self.pages().map().geometry.page_shift))
    }

    /// Copies bytes of an area from `offset` on to `out`.
    ///
    /// # Errors
    /// [`OutOfReach`] with the first address that cannot be read; what comes before it is copied.
    pub fn read_area(&self, cpu: &Cpu, area: &VmallocArea, offset: u64, out: &mut [u8]) -> Result<(), OutOfReach> {
        self.check_inside(area, offset, out.len())?;
        // SAFETY: the handle proves that the pages are its holder's alone, who has lent it for reading.
        let read = unsafe { self.copy_out(cpu, area.start.saturating_add(offset), out) };
        if read == out.len() { Ok(()) } else { Err(OutOfReach(area.start.saturating_add(offset + read as u64))) }
    }

    /// Copies `bytes` into an area from `offset` on.
    ///
    /// # Errors
    /// [`OutOfReach`] with the first address that cannot be written; what comes before it is written.
    pub fn write_area(&self, cpu: &Cpu, area: &mut VmallocArea, offset: u64, bytes: &[u8]) -> Result<(), OutOfReach> {
        self.check_inside(area, offset, bytes.len())?;
        let start = area.start.saturating_add(offset);
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let here = start.saturating_add(at as u64);
            let (to, len) = self.part(cpu, here, rest.len()).ok_or(OutOfReach(here))?;
            let from = core::ptr::NonNull::from(rest).cast::<u8>();
            // SAFETY: `part` gives memory of one page of the area, which the handle proves to be its holder's alone.
            unsafe { to.copy_from_nonoverlapping(from, len) };
            at += len;
        }
        Ok(())
    }

    /// Copies the kernel's bytes from `virt` on to `out`, zeros where nothing is mapped or the mapping is a device's; returns how many
    /// come from areas (Linux: vread_iter, behind /proc/kcore).
    ///
    /// # Safety
    /// Nobody writes to the areas during the call.
    pub unsafe fn vread(&self, cpu: &Cpu, virt: VirtAddr, out: &mut [u8]) -> usize {
        let page = self.map().page_size();
        let (mut at, mut read) = (0, 0);
        while at < out.len() {
            let here = virt.saturating_add(at as u64);
            let len = (out.len() - at).min(page - here.raw() as usize % page);
            let Some(part) = out.get_mut(at..at + len) else { break };
            part.fill(0);
            if self.may_read(cpu, here) {
                // SAFETY: the caller's contract.
                read += unsafe { self.copy_out(cpu, here, part) };
            }
            at += len;
        }
        read
    }

    /// Returns true if someone owns the area at an address and it shows memory.
    fn may_read(&self, cpu: &Cpu, virt: VirtAddr) -> bool {
        let mut areas = self.vmalloc.areas.lock(cpu);
        areas.find(virt).is_some_and(|(_, area)| area.state == AreaState::Busy && area.kind != AreaKind::Ioremap)
    }

    fn check_inside(&self, area: &VmallocArea, offset: u64, len: usize) -> Result<(), OutOfReach> {
        let end = offset.checked_add(len as u64).filter(|&end| end <= area.bytes);
        end.map(|_| ()).ok_or(OutOfReach(area.range().end))
    }

    /// Copies mapped bytes until the first that cannot be reached; returns how many.
    ///
    /// # Safety
    /// Nobody writes to what is mapped.
    unsafe fn copy_out(&self, cpu: &Cpu, virt: VirtAddr, out: &mut [u8]) -> usize {
        let mut at = 0;
        while let Some(rest) = out.get_mut(at..).filter(|rest| !rest.is_empty()) {
            let Some((from, len)) = self.part(cpu, virt.saturating_add(at as u64), rest.len()) else { break };
            let to = core::ptr::NonNull::from(rest).cast::<u8>();
            // SAFETY: `part` gives memory of at most `rest.len()` bytes; the caller promises that it does not change meanwhile.
            unsafe { from.copy_to_nonoverlapping(to, len) };
            at += len;
        }
        at
    }

    /// Returns where the direct map shows the byte at `virt`, and how many of `len` bytes from there are in the same page.
    fn part(&self, cpu: &Cpu, virt: VirtAddr, len: usize) -> Option<(core::ptr::NonNull<u8>, usize)> {
        let page = self.map().page_size();
        let phys = self.translate(cpu, virt)?.phys;
        let len = len.min(page - virt.raw() as usize % page);
        Some((self.pages().platform().direct_map(PhysRange::with_len(phys, len as u64))?, len))
    }
}
