//! A page fault, from the address to the page.
//!
//! First the area alone is locked, and nothing else; who finds it locked, gone, without its anon_vma, or a stack that has to grow takes the lock of the address
//! space. Linux 6.12: arch/x86/mm/fault.c (`do_user_addr_fault`), mm/memory.c (`lock_mm_and_find_vma`).

use address_space::{Access, Mm, MmError, Process};
use object_allocator::vmstat::VmEvent;
use page_allocator::Hooks;
use page_fault::{AccessKind, FaultAction, FaultError};
use platform::Platform;
use sync::Cpu;
use units::VirtAddr;

use super::MemoryManager;

/// An address of a process, and the CPU on which somebody needs it.
#[derive(Clone, Copy)]
pub(super) struct UserPlace<'a, 'k> {
    pub(super) cpu: &'a Cpu,
    pub(super) mm: &'a Mm<'k>,
    pub(super) process: &'a Process,
    pub(super) addr: VirtAddr,
}

impl<'k, P: Platform, H: Hooks + Sync> MemoryManager<'k, P, H> {
    /// Makes an access of a process to `addr` possible, and counts the fault.
    ///
    /// Not while the CPU holds the lock of this address space, or walks page tables.
    ///
    /// # Errors
    /// [`FaultError`]: a signal ([`FaultError::signal`]), or no memory.
    pub fn fault(
        &self,
        cpu: &Cpu,
        mm: &Mm<'k>,
        process: &Process,
        addr: VirtAddr,
        access: AccessKind,
    ) -> Result<FaultAction, FaultError> {
        let place = UserPlace { cpu, mm, process, addr };
        self.objects.vmstat().count_events(cpu, VmEvent::Pgfault, 1);
        self.fault_area(place, access).unwrap_or_else(|| self.fault_locked(place, access))
    }

    /// Handles a fault with the lock of its area only; `None` if that does not suffice.
    #[inline]
    fn fault_area(&self, place: UserPlace<'_, 'k>, access: AccessKind) -> Option<Result<FaultAction, FaultError>> {
        let mut area = place.mm.lock_area(place.cpu, place.addr)?;
        let backing = self.backing(place.cpu, place.mm, place.process, 0);
        let faults = backing.faults();
        match faults.make_possible(area.vma(), place.addr, access) {
            Err(FaultError::NeedsAnonVma) => {
                let vma = area.prepare_anon(&self.spaces, place.cpu).ok()?;
                Some(faults.make_possible(&vma, place.addr, access))
            }
            outcome => Some(outcome),
        }
    }

    fn fault_locked(&self, place: UserPlace<'_, 'k>, access: AccessKind) -> Result<FaultAction, FaultError> {
        let UserPlace { cpu, mm, process, addr } = place;
        let locked = mm.read(cpu);
        let Some(vma) = locked.lookup(addr) else {
            drop(locked);
            return self.fault_below_stack(place, access);
        };
        let backing = self.backing(cpu, mm, process, locked.counters().total);
        match backing.faults().make_possible(&vma, addr, access) {
            Err(FaultError::NeedsAnonVma) => {
                let vma = locked.prepare_anon(&self.spaces, cpu, &vma).map_err(|_| FaultError::NoMemory)?;
                backing.faults().make_possible(&vma, addr, access)
            }
            outcome => outcome,
        }
    }

    /// Handles a fault where no area lies: a stack above may grow.
    fn fault_below_stack(&self, place: UserPlace<'_, 'k>, access: AccessKind) -> Result<FaultAction, FaultError> {
        let mut call = self.call(place.cpu, place.mm, place.process);
        let kind = if access.is_write() { Access::Write } else { Access::Read };
        let found = call.area_for_access(place.addr, kind);
        let vma = found.map_err(|error| match error {
            MmError::AccessDenied => {
                let area = call.mm.find(place.addr).map(|vma| vma.flags).unwrap_or_default();
                FaultError::refusal(area, access)
            }
            MmError::NoMemory => FaultError::NoMemory,
            _ => FaultError::NotMapped,
        })?;
        call.backing.faults().make_possible(&vma, place.addr, access)
    }
}
