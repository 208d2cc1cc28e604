//! What a page fault does first: finds its area and locks it alone, without the lock of the address space.
//!
//! While an [`AreaRead`] lives, the area stays as it is, but that another fault may give it an anon_vma; nothing of it is unmapped, and page tables
//! that serve it stay: every call write-locks an area, and so waits for this, before it changes the area or its pages' place.
//! A fault that finds no area here, or has to wait, takes the lock of the address space.
//! Linux 6.12: mm/memory.c (`lock_vma_under_rcu`, `__vmf_anon_prepare`), mm/rmap.c (`__anon_vma_prepare`), mm/vma.c (`find_mergeable_anon_vma`).

use core::fmt;

use page_allocator::Hooks;
use platform::Platform;
use sync::{Cpu, PartHold, rank};
use units::{VirtAddr, VmFlags};

use crate::error::MmError;
use crate::mm::{Mm, MmGuard};
use crate::spaces::AddressSpaces;
use crate::vma::{AnonVma, Slot, Vma};

/// How often a lookup that met a writer is repeated before the fault takes the lock of the address space.
const LOOKUPS: usize = 3;

/// An area that is locked for reading.
pub struct AreaRead<'a, 'k> {
    mm: &'a Mm<'k>,
    slot: Slot<'k>,
    vma: Vma,
    /// Ends the lock.
    _hold: PartHold<'a, { rank::VMA_LOCK }>,
}

/// Why an area got no anon_vma.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PrepareError {
    /// Somebody changes the address space: let go of the area, take the lock of the address space and look the area up again (VM_FAULT_RETRY).
    Retry,
    /// No memory (VM_FAULT_OOM).
    NoMemory,
}

impl fmt::Display for PrepareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Retry => "the address space is being changed",
            Self::NoMemory => "no memory for a reverse map",
        })
    }
}

impl core::error::Error for PrepareError {}

impl<'k> Mm<'k> {
    /// Locks the area that holds `addr` for reading, without waiting (Linux: `lock_vma_under_rcu`).
    ///
    /// Returns `None` if there is none, or somebody changes it or its surroundings; take the lock of the address space then.
    pub fn lock_area<'a>(&'a self, cpu: &'a Cpu, addr: VirtAddr) -> Option<AreaRead<'a, 'k>> {
        let found = (0..LOOKUPS).find_map(|_| self.tree.try_find(addr).ok())??;
        let slot = found.value;
        let hold = slot.get().lock.try_read(cpu, self.id(), &self.turns)?;
        // Locked, the area stays as it is; but since the lookup it may have become another one.
        let vma = slot.load();
        vma.range.contains(addr).then_some(AreaRead { mm: self, slot, vma, _hold: hold })
    }
}

impl fmt::Debug for AreaRead<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AreaRead").field(&self.vma).finish()
    }
}

impl<'a, 'k> AreaRead<'a, 'k> {
    /// Returns the area as it was when it was locked, or when it was last prepared here.
    pub const fn vma(&self) -> &Vma {
        &self.vma
    }

    /// Returns the address space.
    pub const fn mm(&self) -> &'a Mm<'k> {
        self.mm
    }

    /// Gives the area an anon_vma if it has none, and returns it as it is then (Linux: `vmf_anon_prepare`).
    ///
    /// # Errors
    /// [`PrepareError`]: the lock of the address space is needed for a look at the neighbours, and is not waited for.
    pub fn prepare_anon<P: Platform, H: Hooks>(
        &mut self,
        spaces: &AddressSpaces<'k, P, H>,
        cpu: &Cpu,
    ) -> Result<Vma, PrepareError> {
        if self.vma.anon.is_none() {
            let locked = self.mm.try_read(cpu).ok_or(PrepareError::Retry)?;
            self.vma = locked.prepare_slot(spaces, cpu, self.slot).map_err(|_| PrepareError::NoMemory)?;
        }
        Ok(self.vma)
    }
}

impl<'k, L> MmGuard<'_, 'k, L> {
    /// Gives an area of this address space an anon_vma if it has none, and returns it as it is then; the lock for reading suffices.
    ///
    /// # Errors
    /// [`MmError::NoMemory`]; [`MmError::BadAddress`] if no area begins where `vma` does.
    pub fn prepare_anon<P: Platform, H: Hooks>(
        &self,
        spaces: &AddressSpaces<'k, P, H>,
        cpu: &Cpu,
        vma: &Vma,
    ) -> Result<Vma, MmError> {
        if vma.anon.is_some() {
            return Ok(*vma);
        }
        let slot = self.slot(vma.start()).ok_or(MmError::BadAddress)?;
        self.prepare_slot(spaces, cpu, slot)
    }

    /// Gives the area an anon_vma: that of a neighbour that it could become one with, else another (Linux: `__anon_vma_prepare`).
    fn prepare_slot<P: Platform, H: Hooks>(
        &self,
        spaces: &AddressSpaces<'k, P, H>,
        cpu: &Cpu,
        slot: Slot<'k>,
    ) -> Result<Vma, MmError> {
        // Other faults may be here for the same area or its neighbours.
        let alone = self.mm().anon_prepare.write(cpu);
        let vma = slot.load();
        if vma.anon.is_some() {
            return Ok(vma);
        }
        let anon = match self.mergeable_anon(&vma) {
            Some(anon) => anon,
            None => {
                let id = spaces.another_anon_vma().ok_or(MmError::NoMemory)?;
                AnonVma { id, root: id, links: 1 }
            }
        };
        let prepared = Vma { anon: Some(anon), ..vma };
        // Before anybody can make a page that is found by it.
        spaces.rmap.link_family(cpu, slot, &prepared);
        slot.publish_anon(anon);
        drop(alone);
        Ok(prepared)
    }

    /// Returns the anon_vma of a neighbour that the area may share (Linux: `find_mergeable_anon_vma`).
    fn mergeable_anon(&self, vma: &Vma) -> Option<AnonVma> {
        let behind = self.find(vma.end()).filter(|behind| shares_anon(vma, behind));
        let before = || self.find_before(vma.start()).filter(|before| shares_anon(before, vma));
        behind.and_then(|behind| singular(&behind)).or_else(|| before().and_then(|before| singular(&before)))
    }
}

/// Returns true if two areas that touch differ in permissions only, and so may have one anon_vma (Linux: `anon_vma_compatible`).
fn shares_anon(low: &Vma, high: &Vma) -> bool {
    low.end() == high.start()
        && low.file == high.file
        && (low.flags ^ high.flags) - VmFlags::ACCESS - VmFlags::SOFTDIRTY == VmFlags::empty()
        && low.pgoff.wrapping_add(low.nr_pages()) == high.pgoff
}

fn singular(vma: &Vma) -> Option<AnonVma> {
    vma.anon.filter(|_| vma.has_one_anon_vma())
}
