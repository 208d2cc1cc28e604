//! Taking the memory of a process that is ended before it ends by itself.
//!
//! Linux 6.12: mm/oom_kill.c (`__oom_reap_task_mm`).

use address_space::{Mm, MmError, PageAdvice, PageTables, Process};
use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;
use units::{VirtAddr, VmFlags};

use super::MemoryManager;

impl<'k, P: Platform, H: Hooks + Sync> MemoryManager<'k, P, H> {
    /// Forgets the pages of an address space that it alone can see: those of private areas, locked ones too. The areas stay.
    ///
    /// # Errors
    /// None that a range of one area could give.
    pub fn reap(&self, cpu: &Cpu, mm: &Mm<'k>, process: &Process) -> Result<(), MmError> {
        let mut call = self.call(cpu, mm, process);
        let mut at = VirtAddr::ZERO;
        while let Some(vma) = call.mm.find(at) {
            if !vma.flags.intersects(VmFlags::SHARED | VmFlags::SPECIAL) {
                call.hold_area(vma.start());
                call.backing.advise(&vma, vma.range, PageAdvice::DontNeed)?;
            }
            at = vma.end();
        }
        Ok(())
    }
}
