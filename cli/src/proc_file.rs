//! `--proc FILE`: the /proc files of a machine in this process.

use std::fmt;

use boot_memory::memblock::Memblock;
use kernel_mm::ProcView;
use page_allocator::Hooks;
use platform::Platform;
use proc_files::iomem::Resource;
use units::PhysAddr;

/// A file of /proc that every machine has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum ProcFile {
    /// Free blocks by order.
    Buddyinfo,
    /// What each range of physical addresses is.
    Iomem,
    /// Memory in kB.
    Meminfo,
    /// Free blocks and pageblocks by migratetype.
    Pagetypeinfo,
    /// Figures of per-CPU memory, from /sys/kernel/debug.
    #[value(name = "percpu_stats")]
    PercpuStats,
    /// Objects and pages of the slab caches.
    Slabinfo,
    /// Areas that are contiguous for the kernel only.
    Vmallocinfo,
    /// Counters of the whole machine.
    Vmstat,
    /// Watermarks, sizes, counters and per-CPU page sets of the zones.
    Zoneinfo,
}

impl ProcFile {
    /// Writes the file; `iomem` writes the one that firmware and not the kernel knows.
    pub(crate) fn write<P: Platform, H: Hooks>(
        self,
        out: &mut String,
        view: &ProcView<'_, P, H>,
        iomem: impl FnOnce(&mut String) -> fmt::Result,
    ) -> fmt::Result {
        match self {
            Self::Buddyinfo => view.write_buddyinfo(out),
            Self::Iomem => iomem(out),
            Self::Meminfo => view.write_meminfo(out),
            Self::Pagetypeinfo => view.write_pagetypeinfo(out),
            Self::PercpuStats => view.write_percpu_stats(out),
            Self::Slabinfo => view.write_slabinfo(out),
            Self::Vmallocinfo => view.write_vmallocinfo(out),
            Self::Vmstat => view.write_vmstat(out),
            Self::Zoneinfo => view.write_zoneinfo(out),
        }
    }
}

/// Writes /proc/iomem of a machine of which only memory is known.
pub(crate) fn write_memory_ranges(out: &mut dyn fmt::Write, memblock: &Memblock) -> fmt::Result {
    memblock.memory().iter().try_for_each(|region| {
        let (start, last) = (region.base, PhysAddr::new(region.end().raw().saturating_sub(1)));
        writeln!(out, "{}", Resource { depth: 0, start, last, name: "System RAM" })
    })
}
