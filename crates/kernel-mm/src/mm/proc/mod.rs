//! /proc files of one process: maps, smaps, smaps_rollup, status, statm, pagemap, numa_maps.
//!
//! A [`ProcMm`] is an address space as these files see it. Texts go through the writers of `proc-files`; values are computed as Linux computes them, from areas,
//! page tables and descriptors of pages, under the lock of the address space for reading. `out` must not touch a process's memory, whose fault would wait
//! for that lock. Linux 6.12: fs/proc/task_mmu.c, fs/proc/array.c.

mod names;
mod pages;
mod scan;
mod smaps;
mod status;
mod usage;

use core::fmt::{self, Write};

use address_space::{Mm, PAGE_SHIFT, ProgramRanges, Vma};
use page_allocator::Hooks;
use platform::Platform;
use proc_files::Profile;
use proc_files::maps::{MapsLine, Permissions};
use sync::Cpu;
use units::{VirtAddr, VmFlags};

use super::MemoryManager;

pub use names::{AreaNames, CacheNames, FileLabel};
pub use pages::FrameNumbers;
pub use scan::ScanStop;

/// An address space, for the files that tell of it.
pub struct ProcMm<'a, 'k, P: Platform, H: Hooks + Sync> {
    /// The machine's address spaces.
    pub manager: &'a MemoryManager<'k, P, H>,
    /// The CPU that reads.
    pub cpu: &'a Cpu,
    /// The address space.
    pub mm: &'a Mm<'k>,
    /// What the embedder calls areas.
    pub names: &'a dyn AreaNames,
    /// Release whose fields are written.
    pub profile: Profile,
}

impl<P: Platform, H: Hooks + Sync> fmt::Debug for ProcMm<'_, '_, P, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcMm").field("mm", &self.mm).finish_non_exhaustive()
    }
}

impl<P: Platform, H: Hooks + Sync> ProcMm<'_, '_, P, H> {
    /// Writes /proc/PID/maps.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_maps(&self, out: &mut dyn Write) -> fmt::Result {
        let locked = self.mm.read(self.cpu);
        locked.areas().try_for_each(|vma| self.write_map(out, locked.program(), &vma))
    }

    /// Writes the line of the first area that ends above `from`, and returns where to go on; `None` if there is none. For readers that take the
    /// file in parts: what changes between two calls is seen by the second.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_next_map(&self, out: &mut dyn Write, from: VirtAddr) -> Result<Option<VirtAddr>, fmt::Error> {
        let locked = self.mm.read(self.cpu);
        let Some(vma) = locked.find(from) else { return Ok(None) };
        self.write_map(out, locked.program(), &vma)?;
        Ok(Some(vma.end()))
    }

    fn write_map(&self, out: &mut dyn Write, program: &ProgramRanges, vma: &Vma) -> fmt::Result {
        self.with_line(program, vma, &mut |line| writeln!(out, "{line}"))
    }

    /// Calls `show` with the area's line of maps.
    fn with_line(
        &self,
        program: &ProgramRanges,
        vma: &Vma,
        show: &mut dyn FnMut(&MapsLine<&str>) -> fmt::Result,
    ) -> fmt::Result {
        self.with_label(program, vma, &mut |label| {
            show(&MapsLine {
                range: vma.range,
                permissions: permissions(vma.flags),
                offset: if vma.file.is_some() { vma.pgoff << PAGE_SHIFT } else { 0 },
                device: label.device,
                inode: label.inode,
                name: label.name,
            })
        })
    }
}

fn permissions(flags: VmFlags) -> Permissions {
    let letters = [
        (VmFlags::READ, Permissions::READ),
        (VmFlags::WRITE, Permissions::WRITE),
        (VmFlags::EXEC, Permissions::EXEC),
        (VmFlags::MAYSHARE, Permissions::SHARED),
    ];
    letters.into_iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, letter)| letter).collect()
}
