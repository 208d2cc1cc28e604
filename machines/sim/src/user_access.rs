//! What a process does on a CPU: reads, writes and fetches through its own page tables.
//!
//! Used by tests and programs that play processes; faults are theirs to hand to the kernel. Bytes move as relaxed atomics, since other CPUs may write them, and
//! before a flush can come, as a processor's accesses do.

use frame_table::PageBytes;
use platform::TableFormat;
use sync::Cpu;
use units::{PhysAddr, PhysRange, VirtAddr};

use crate::SimPlatform;
use crate::tlb::{Access, Stale, UserLookup, VirtFault};

/// An access that stopped at a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserFault {
    /// Bytes before it, which were moved.
    pub done: usize,
    /// The address that faulted.
    pub virt: VirtAddr,
    /// Why.
    pub fault: VirtFault,
}

impl std::fmt::Display for UserFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} behind {} bytes", self.fault, self.done)
    }
}

impl std::error::Error for UserFault {}

/// A process's memory from `virt` on, as `cpu` reaches it.
#[derive(Clone, Copy)]
struct UserAccess<'a> {
    cpu: &'a Cpu,
    root: PhysAddr,
    virt: VirtAddr,
    access: Access,
}

impl SimPlatform {
    /// Translates an address as `cpu` does in user mode, in the process whose root table is at `root`. What the result says may be over when it is there: the
    /// kernel of another CPU may change it.
    ///
    /// # Errors
    /// [`VirtFault`]; [`VirtFault::Stale`] if the CPU used what a flush should have removed.
    pub fn translate_user(
        &self,
        cpu: &Cpu,
        root: PhysAddr,
        virt: VirtAddr,
        access: Access,
    ) -> Result<PhysAddr, VirtFault> {
        self.parts.tlbs.as_user(&self.user_lookup(cpu, root)?, virt, access, |phys| phys)
    }

    /// Copies bytes of a process from `virt` on into `out`, on `cpu`; `access` is a read or a fetch.
    ///
    /// # Errors
    /// [`UserFault`].
    pub fn read_user(
        &self,
        cpu: &Cpu,
        root: PhysAddr,
        virt: VirtAddr,
        access: Access,
        out: &mut [u8],
    ) -> Result<(), UserFault> {
        let len = out.len();
        self.each_user_page(UserAccess { cpu, root, virt, access }, len, |page, offset, at, len| {
            if let Some(part) = out.get_mut(at..at + len) {
                page.read(offset, part);
            }
        })
    }

    /// Copies bytes to a process from `virt` on, on `cpu`.
    ///
    /// # Errors
    /// [`UserFault`].
    pub fn write_user(&self, cpu: &Cpu, root: PhysAddr, virt: VirtAddr, bytes: &[u8]) -> Result<(), UserFault> {
        let range = UserAccess { cpu, root, virt, access: Access::Write };
        self.each_user_page(range, bytes.len(), |page, offset, at, len| {
            if let Some(part) = bytes.get(at..at + len) {
                page.write(offset, part);
            }
        })
    }

    /// Returns a translation of a process that some CPU remembers although the page tables say something else. Asked while no CPU is in the kernel, a result is
    /// a flush that is missing, whether or not anybody will use the translation.
    pub fn stale_user_translation(&self) -> Option<Stale> {
        let tables = self.parts.tables.get()?;
        self.parts.tlbs.find_stale(&self.parts.memory, tables.format, &self.parts.cpus)
    }

    fn user_lookup(&self, cpu: &Cpu, root: PhysAddr) -> Result<UserLookup<'_>, VirtFault> {
        let format = self.parts.tables.get().ok_or(VirtFault::NoTables)?.format;
        Ok(UserLookup { cpu: cpu.id(), root, format, memory: &self.parts.memory, cpus: &self.parts.cpus })
    }

    /// Calls `visit` with each part of `len` bytes that lies in one page: the page, the offset there, the offset in the range, the length.
    fn each_user_page(
        &self,
        range: UserAccess<'_>,
        len: usize,
        mut visit: impl FnMut(PageBytes<'_>, usize, usize, usize),
    ) -> Result<(), UserFault> {
        let stopped = |done: usize, fault| UserFault { done, virt: range.virt.saturating_add(done as u64), fault };
        let lookup = self.user_lookup(range.cpu, range.root).map_err(|fault| stopped(0, fault))?;
        let page = 1u64 << lookup.format.page_shift();
        let mut at = 0;
        while at < len {
            let virt = range.virt.saturating_add(at as u64);
            let offset = (virt.raw() % page) as usize;
            let part = (len - at).min(page as usize - offset);
            let moved = self.parts.tlbs.as_user(&lookup, virt, range.access, |phys| {
                let whole = PhysRange::with_len(phys.align_down(page), page);
                let start = self.parts.memory.host(whole).ok_or(VirtFault::NoMemory(phys))?;
                // SAFETY: a page of the machine's memory, which lasts as long as `self`. A mapping lets a process reach it, so the kernel does as atomics too.
                let bytes = unsafe { PageBytes::of_words(start.cast(), page as usize / size_of::<u64>()) };
                visit(bytes, offset, at, part);
                Ok(())
            });
            moved.flatten().map_err(|fault| stopped(at, fault))?;
            at += part;
        }
        Ok(())
    }
}
