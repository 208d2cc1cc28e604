//! A page fault, from the address to the page.
//!
//! First the area alone is locked, and nothing else; who finds it locked, gone, without its anon_vma, or a stack that has to grow takes the lock of the address
//! space. Linux 6.12: arch/x86/mm/fault.c (`do_user_addr_fault`), mm/memory.c (`lock_mm_and_find_vma`).

use address_space::{Access, Mm, MmError, Process};
use object_allocator::vmstat::VmEvent;
use page_allocator::Hooks;
use page_fault::{AccessKind, FaultError, Faulted};
use platform::Platform;
use sync::Cpu;
use units::VirtAddr;

use super::MemoryManager;

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
    ) -> Result<Faulted, FaultError> {
        self.objects.vmstat().count_events(cpu, VmEvent::Pgfault, 1);
        match self.fault_area(cpu, mm, process, addr, access) {
            Some(outcome) => outcome,
            None => self.fault_locked(cpu, mm, process, addr, access),
        }
    }

    /// Handles a fault with the lock of its area only; `None` if that does not suffice.
    #[inline]
    fn fault_area(
        &self,
        cpu: &Cpu,
        mm: &Mm<'k>,
        process: &Process,
        addr: VirtAddr,
        access: AccessKind,
    ) -> Option<Result<Faulted, FaultError>> {
        let mut area = mm.lock_area(cpu, addr)?;
        let backing = self.backing(cpu, mm, process, 0);
        let faults = backing.faults();
        match faults.make_possible(area.vma(), addr, access) {
            Err(FaultError::NeedsAnonVma) => {
                let vma = area.prepare_anon(&self.spaces, cpu).ok()?;
                Some(faults.make_possible(&vma, addr, access))
            }
            outcome => Some(outcome),
        }
    }

    fn fault_locked(
        &self,
        cpu: &Cpu,
        mm: &Mm<'k>,
        process: &Process,
        addr: VirtAddr,
        access: AccessKind,
    ) -> Result<Faulted, FaultError> {
        let locked = mm.read(cpu);
        if let Some(vma) = locked.lookup(addr) {
            let backing = self.backing(cpu, mm, process, locked.counters().total);
            return match backing.faults().make_possible(&vma, addr, access) {
                Err(FaultError::NeedsAnonVma) => {
                    let vma = locked.prepare_anon(&self.spaces, cpu, &vma).map_err(|_| FaultError::NoMemory)?;
                    backing.faults().make_possible(&vma, addr, access)
                }
                outcome => outcome,
            };
        }
        drop(locked);
        self.fault_below_stack(cpu, mm, process, addr, access)
    }

    /// Handles a fault where no area lies: a stack above may grow.
    fn fault_below_stack(
        &self,
        cpu: &Cpu,
        mm: &Mm<'k>,
        process: &Process,
        addr: VirtAddr,
        access: AccessKind,
    ) -> Result<Faulted, FaultError> {
        let mut call = self.call(cpu, mm, process);
        let kind = if access == AccessKind::Write { Access::Write } else { Access::Read };
        let vma = call.area_for_access(addr, kind).map_err(|error| match error {
            MmError::AccessDenied => FaultError::Forbidden,
            MmError::NoMemory => FaultError::NoMemory,
            _ => FaultError::NotMapped,
        })?;
        call.backing.faults().make_possible(&vma, addr, access)
    }
}
