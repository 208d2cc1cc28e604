//! Beginning, copying and end of address spaces, with their page tables.
//!
//! Linux 6.12: kernel/fork.c (`mm_alloc`, `dup_mm`, `mmput`, `__mmdrop`).

use address_space::{Call, Mm, MmError, MmGrab, MmRef, MmapLayout, Process, ProgramRanges};
use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;

use super::MemoryManager;

impl<'k, P: Platform, H: Hooks + Sync> MemoryManager<'k, P, H> {
    /// Makes an address space without areas, with one user (Linux: `mm_alloc`).
    ///
    /// # Errors
    /// [`MmError::NoMemory`].
    pub fn mm_alloc(&self, cpu: &Cpu, layout: MmapLayout, program: ProgramRanges) -> Result<MmRef<'k>, MmError> {
        let mm = self.spaces.mm_alloc(cpu, layout, program)?;
        match self.mmu(cpu).make_root(mm.tables()) {
            Ok(()) => Ok(mm),
            Err(_) => {
                self.mmput(cpu, mm);
                Err(MmError::NoMemory)
            }
        }
    }

    /// Makes a copy of an address space for fork: areas, pages shared until somebody writes (Linux: `dup_mm`).
    ///
    /// # Errors
    /// [`MmError::NoMemory`]; nothing remains of the copy.
    pub fn dup_mm(&self, cpu: &Cpu, parent: &MmRef<'k>, process: &Process) -> Result<MmRef<'k>, MmError> {
        let child = self.mm_alloc(cpu, MmapLayout::NONE, ProgramRanges::default())?;
        child.inherit_flags(parent.flags());
        let locked = parent.write(cpu);
        let mut backing = self.backing(cpu, &child, process, locked.counters().total);
        backing.parent = Some(self.tables(cpu, parent));
        let mut call = Call { mm: child.write_nested(cpu), spaces: &self.spaces, cpu, process, backing };
        let copied = call.duplicate_areas(&locked);
        drop((call, locked));
        match copied {
            Ok(()) => Ok(child),
            Err(error) => {
                self.mmput(cpu, child);
                Err(error)
            }
        }
    }

    /// Gives a user back. With the last one all areas and pages go (Linux: `mmput`, `exit_mmap`).
    pub fn mmput(&self, cpu: &Cpu, mm: MmRef<'k>) {
        if let Some(last) = mm.put() {
            self.call(cpu, &last, &Process::default()).exit();
            self.mmdrop(cpu, last);
        }
    }

    /// Gives a reference back. With the last one the root table goes (Linux: `mmdrop`).
    pub fn mmdrop(&self, cpu: &Cpu, mm: MmGrab<'k>) {
        self.spaces.mmdrop(cpu, mm, |mm| self.free_root(cpu, mm));
    }

    fn free_root(&self, cpu: &Cpu, mm: &Mm<'k>) {
        self.mmu(cpu).gather(mm.tables()).free_root();
    }
}
