//! The memory of a process as another one reaches it: with the rights that its areas give, or by force.
//!
//! A processor can read whatever it can write or execute; here the area is asked for the right itself. A debugger sets breakpoints by force: it writes to code that
//! nobody may write to. Then the page becomes the process's own, and its entry stays read-only.
//! Linux 6.12: mm/gup.c (`check_vma_flags`, `can_follow_write_common`), mm/memory.c (`__access_remote_vm`).

use address_space::{Access, Mm, Process};
use page_allocator::Hooks;
use page_fault::{AccessKind, may_force};
use platform::Platform;
use sync::Cpu;
use units::{VirtAddr, VmFlags};

use super::MemoryManager;
use super::fault::UserPlace;
use super::user_access::BadUserAddress;

/// What of another process's memory may be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// What its areas allow now (process_vm_readv).
    Allowed,
    /// What its areas could allow, and below its stack, which grows (/proc/PID/mem; Linux: FOLL_FORCE).
    Forced,
}

impl<'k, P: Platform, H: Hooks + Sync> MemoryManager<'k, P, H> {
    /// Copies bytes of another process from `addr` on into `to`.
    ///
    /// # Errors
    /// [`BadUserAddress`].
    pub fn read_remote(
        &self,
        cpu: &Cpu,
        (mm, process): (&Mm<'k>, &Process),
        addr: VirtAddr,
        to: &mut [u8],
        reach: Reach,
    ) -> Result<(), BadUserAddress> {
        let start = UserPlace { cpu, mm, process, addr };
        self.each_user_page(start, to.len(), |place, part| {
            self.read_part(place, to.get_mut(part)?, self.remote_access(place, Access::Read, reach)?)
        })
    }

    /// Copies bytes to another process from `addr` on.
    ///
    /// # Errors
    /// [`BadUserAddress`].
    pub fn write_remote(
        &self,
        cpu: &Cpu,
        (mm, process): (&Mm<'k>, &Process),
        addr: VirtAddr,
        from: &[u8],
        reach: Reach,
    ) -> Result<(), BadUserAddress> {
        let start = UserPlace { cpu, mm, process, addr };
        self.each_user_page(start, from.len(), |place, part| {
            self.write_part(place, from.get(part)?, self.remote_access(place, Access::Write, reach)?)
        })
    }

    /// Says what kind of access reaches a page; `None` if it may not be reached. Areas may change before the access, which asks again what must not be wrong:
    /// that a page written to by force is nobody else's.
    fn remote_access(&self, place: UserPlace<'_, 'k>, access: Access, reach: Reach) -> Option<AccessKind> {
        let (right, allowed, forced) = match access {
            Access::Read => (VmFlags::READ, AccessKind::Read, AccessKind::ForcedRead),
            Access::Write => (VmFlags::WRITE, AccessKind::Write, AccessKind::ForcedWrite),
        };
        match self.area_flags(place) {
            Some(area) if area.contains(right) => Some(allowed),
            Some(area) => (reach == Reach::Forced && may_force(forced, area)).then_some(forced),
            None => (reach == Reach::Forced).then_some(allowed),
        }
    }

    fn area_flags(&self, place: UserPlace<'_, 'k>) -> Option<VmFlags> {
        place.mm.read(place.cpu).lookup(place.addr).map(|vma| vma.flags)
    }
}
