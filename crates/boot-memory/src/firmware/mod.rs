//! What the firmware says about the machine: memory ranges, nodes, distances, CPUs, and the kernel options that change them.
//!
//! Every parser reads one foreign format and fills the same two structures, [`MemoryMap`] and [`NumaMap`]. None allocates and
//! none panics: a bad input gives a [`FirmwareError`] that names the input, the place and what was expected there.
//! Used by the machines before memblock exists, and by the tools that read recorded logs. No locking: plain values.
//! Linux 6.12: arch/x86/kernel/e820.c, drivers/acpi/numa/srat.c, drivers/of/fdt.c, drivers/of/of_numa.c, mm/memblock.c (options).

mod acpi;
mod devicetree;
mod e820_log;
mod error;
mod iomem;
mod memory_map;
mod numa_map;
mod options;
mod phys_read;
mod pvh;
mod reshape;
mod text;

pub use acpi::{
    AcpiRoot, AcpiTable, MadtCpu, MadtEntry, ProximityDomains, parse_acpi_numa, parse_rsdp, parse_slit, parse_srat,
    read_madt, scan_for_rsdp,
};
pub use devicetree::{Chosen, Devicetree, Placement, RangeList, ReservedMemory, TreeNode, TreeProperty};
pub use e820_log::parse_e820_log;
pub use error::{FirmwareError, Input, Place, Problem};
pub use iomem::{IomemLine, is_iomem, parse_iomem, read_iomem};
pub use memory_map::{MAX_MAP_ENTRIES, MapEntry, MapFull, MemoryMap, RangeFlags, RangeKind, UnknownKind};
pub use numa_map::{
    CpuAffinity, LOCAL_DISTANCE, MAX_CPU_AFFINITIES, MAX_MEMORY_AFFINITIES, MemoryAffinity, NumaFull, NumaMap,
    REMOTE_DISTANCE,
};
pub use options::{
    BootOptions, CmaOption, CoreSize, FailPageAlloc, MapChange, MapOrigin, MemoryDebug, NumaOption, OptionError,
    OptionToken, SlabDebug, TransparentHugepage, UnknownNote, option_tokens,
};
pub use phys_read::{MemoryImage, PhysRead};
pub use pvh::{PvhModule, PvhStartInfo, parse_pvh};
pub use reshape::{BIOS_HOLE, RangeChange};
pub use text::take_size;
