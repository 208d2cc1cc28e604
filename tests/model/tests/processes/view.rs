//! A process as one CPU sees it: accesses through the TLB, with faults handed to the kernel as they come.

use address_space::{MapFlags, MapRequest, MmError, MmRef, Process, Prot, RemapFlags, RemapRequest};
use frame_table::PageRef;
use page_fault::{AccessKind, FaultError};
use sim::{Access, SimPlatform, VirtFault};
use sync::Cpu;
use units::{Gfp, VirtAddr, VirtRange};

use crate::Manager;
use crate::layout::{Kind, PAGE, kind, place};

#[derive(Clone, Copy)]
pub(crate) struct View<'a, 'k> {
    pub(crate) platform: &'a SimPlatform,
    pub(crate) manager: &'a Manager<'k>,
    pub(crate) cpu: &'a Cpu,
    pub(crate) mm: &'a MmRef<'k>,
    pub(crate) process: &'a Process,
}

impl View<'_, '_> {
    /// Tries `access` until it works or the kernel refuses it.
    #[track_caller]
    fn access(
        &self,
        addr: VirtAddr,
        kind: AccessKind,
        mut access: impl FnMut() -> Result<(), sim::UserFault>,
    ) -> Result<(), FaultError> {
        loop {
            match access() {
                Ok(()) => return Ok(()),
                Err(stopped) => assert!(!matches!(stopped.fault, VirtFault::Stale(_)), "{stopped}"),
            }
            match self.manager.fault(self.cpu, self.mm, self.process, addr, kind) {
                Ok(_) => {}
                Err(FaultError::NoMemory) => panic!("memory is plenty"),
                Err(error) => return Err(error),
            }
        }
    }

    #[track_caller]
    pub(crate) fn read(&self, addr: VirtAddr) -> Result<u64, FaultError> {
        let root = self.manager.root(self.mm).unwrap();
        let mut word = [0; 8];
        let read = || self.platform.read_user(self.cpu, root, addr, Access::Read, &mut word);
        self.access(addr, AccessKind::Read, read)?;
        Ok(u64::from_le_bytes(word))
    }

    #[track_caller]
    pub(crate) fn write(&self, addr: VirtAddr, word: u64) -> Result<(), FaultError> {
        let root = self.manager.root(self.mm).unwrap();
        let write = || self.platform.write_user(self.cpu, root, addr, &word.to_le_bytes());
        self.access(addr, AccessKind::Write, write)
    }

    pub(crate) fn map(&self, area: usize, range: VirtRange) {
        let sharing = if kind(area) == Kind::Shared { MapFlags::SHARED } else { MapFlags::PRIVATE };
        let flags = sharing | MapFlags::ANONYMOUS | MapFlags::FIXED;
        let (prot, addr, len) = (Prot::READ | Prot::WRITE, range.start, range.len());
        let request = MapRequest { addr, len, prot, flags, file: None, offset: 0 };
        assert_eq!(self.manager.call(self.cpu, self.mm, self.process).mmap(&request), Ok(addr));
    }

    pub(crate) fn unmap(&self, range: VirtRange) {
        self.manager.call(self.cpu, self.mm, self.process).munmap(range.start, range.len()).unwrap();
    }

    pub(crate) fn unmap_slots(&self, area: usize) {
        (0..2).for_each(|slot| self.unmap(place(area, slot)));
    }

    pub(crate) fn protect(&self, range: VirtRange, prot: Prot) -> Result<(), MmError> {
        self.manager.call(self.cpu, self.mm, self.process).mprotect(range.start, range.len(), prot)
    }

    /// Moves the page at an address to another frame, if it is small; returns whether it moved.
    pub(crate) fn migrate(&self, addr: VirtAddr) -> bool {
        let pages = self.manager.objects().pages();
        let mut frame = None;
        let range = VirtRange::with_len(addr, PAGE);
        self.manager.tables(self.cpu, self.mm).for_each_mapped(range, |page| frame = page.page.map(|_| page.pfn));
        let Some(page) = frame.and_then(|frame| PageRef::try_get(&pages.map().frames, frame)) else { return false };
        let to = pages.alloc(self.cpu, Gfp::HIGHUSER_MOVABLE, page.order()).unwrap();
        let migrated = self.manager.migrate_page(self.cpu, &page, to);
        pages.put(self.cpu, page);
        migrated.is_ok()
    }

    /// Moves an area; fails if it is not one piece.
    pub(crate) fn relocate(&self, from: VirtRange, to: VirtAddr) -> Result<VirtAddr, MmError> {
        let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
        let len = from.len();
        let request = RemapRequest { addr: from.start, old_len: len, new_len: len, flags, new_addr: to };
        self.manager.call(self.cpu, self.mm, self.process).mremap(&request)
    }
}
