//! From a firmware map and kernel options to a memblock: what is taken, then memory, then nodes, in Linux's order.
//!
//! Used by the boot code of the machines, each of which adds what only it knows. In that order `memblock=debug` reads like Linux's log.
//! Linux 6.12: arch/x86/kernel/setup.c (`setup_arch`, `reserve_low`), arch/x86/kernel/e820.c (`e820__memblock_setup`), mm/numa_memblks.c.

use units::{NodeId, PhysAddr, PhysRange};

use crate::firmware::{BootOptions, CoreSize, MemoryMap, NumaMap, NumaOption, RangeFlags, RangeKind};
use crate::memblock::{
    BootContext, DebugLines, HotplugPolicy, ListKind, Memblock, MemblockConfig, MemblockError, MirrorPolicy,
};

/// Firmware of PCs is known to write here behind the kernel's back.
const RESERVED_LOW: PhysRange = PhysRange::new(PhysAddr::ZERO, PhysAddr::new(64 << 10));

/// Whether the first 64 KiB are set aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LowMemory {
    /// They are: a PC.
    Reserved,
    /// They are memory as any other.
    Plain,
}

/// Whose nodes are in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nodes {
    /// Those of the firmware.
    Firmware,
    /// There is one node.
    One,
}

impl Memblock {
    /// Makes an empty memblock of form `config`, with the policies that the options ask for.
    pub fn with_options(config: MemblockConfig, options: &BootOptions<'_>) -> Self {
        let mirror =
            if options.kernelcore == Some(CoreSize::Mirror) { MirrorPolicy::Prefer } else { MirrorPolicy::Ignore };
        let hotplug = if options.movable_node { HotplugPolicy::Avoid } else { HotplugPolicy::Use };
        let mut memblock = Self::new(MemblockConfig { hotplug, mirror, ..config });
        memblock.set_debug(if options.memblock_debug { DebugLines::On } else { DebugLines::Off });
        memblock
    }

    /// Reserves what is in use before anything is allocated.
    ///
    /// # Errors
    /// [`MemblockError`] if a list is full.
    pub fn reserve_taken(
        &mut self,
        taken: impl Iterator<Item = PhysRange>,
        low: LowMemory,
        cx: &mut BootContext<'_>,
    ) -> Result<(), MemblockError> {
        let low = (low == LowMemory::Reserved).then_some(RESERVED_LOW);
        taken.chain(low).try_for_each(|range| self.reserve(range.start, range.len(), cx))
    }

    /// Adds what `map` calls usable, and marks what of it may be unplugged or is mirrored (Linux: efi_find_mirror).
    ///
    /// # Errors
    /// [`MemblockError`] if a list is full.
    pub fn add_usable(&mut self, map: &MemoryMap, cx: &mut BootContext<'_>) -> Result<(), MemblockError> {
        map.of_kind(RangeKind::Usable).try_for_each(|entry| {
            let (start, len) = (entry.range.start, entry.range.len());
            self.add(start, len, cx)?;
            if entry.flags.contains(RangeFlags::HOTPLUG) {
                self.mark_hotplug(start, len, cx)?;
            }
            if entry.flags.contains(RangeFlags::MIRROR) { self.mark_mirror(start, len, cx) } else { Ok(()) }
        })
    }

    /// Says which node memory is on; returns whether the firmware's nodes are in use.
    ///
    /// Without them, or if they leave memory out, all of it is on node 0 (Linux: dummy_numa_init).
    ///
    /// # Errors
    /// [`MemblockError`] if a list is full.
    pub fn set_nodes(
        &mut self,
        numa: &NumaMap,
        option: NumaOption,
        cx: &mut BootContext<'_>,
    ) -> Result<Nodes, MemblockError> {
        if option == NumaOption::Firmware || option == NumaOption::NoHmat {
            for affinity in numa.memory() {
                let (start, len) = (affinity.range.start, affinity.range.len());
                self.set_node(start, len, ListKind::Memory, Some(affinity.node), cx)?;
                if affinity.flags.contains(RangeFlags::HOTPLUG) {
                    self.mark_hotplug(start, len, cx)?;
                }
            }
            if self.memory().iter().all(|region| region.node.is_some()) {
                return Ok(Nodes::Firmware);
            }
        }
        self.set_node(PhysAddr::ZERO, u64::MAX, ListKind::Memory, Some(NodeId::ZERO), cx)?;
        Ok(Nodes::One)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memblock::SilentLog;

    fn range(start: u64, end: u64) -> PhysRange {
        PhysRange::new(PhysAddr::new(start), PhysAddr::new(end))
    }

    fn filled(low: LowMemory) -> Memblock {
        let mut map = MemoryMap::new();
        map.push(range(0x1000, 0x9_fc00), RangeKind::Usable).unwrap();
        map.push(range(0x9_fc00, 0xa_0000), RangeKind::Reserved).unwrap();
        map.push(range(0x10_0000, 0x800_0000), RangeKind::Usable).unwrap();
        let mut memblock = Memblock::with_options(MemblockConfig::new(), &BootOptions::default());
        let mut log = SilentLog;
        let cx = &mut BootContext::new(&(), &mut log, "test");
        memblock.reserve_taken([range(0x100_0000, 0x200_0000)].into_iter(), low, cx).unwrap();
        memblock.add_usable(&map, cx).unwrap();
        memblock
    }

    fn set_nodes(memblock: &mut Memblock, numa: &NumaMap, option: NumaOption) -> Nodes {
        let mut log = SilentLog;
        memblock.set_nodes(numa, option, &mut BootContext::new(&(), &mut log, "test")).unwrap()
    }

    #[test]
    fn usable_memory_is_added_and_taken_memory_reserved() {
        let memblock = filled(LowMemory::Reserved);
        let ranges: [PhysRange; 2] = core::array::from_fn(|at| memblock.memory()[at].range());
        assert_eq!(ranges, [range(0x1000, 0x9_fc00), range(0x10_0000, 0x800_0000)]);
        let reserved: [PhysRange; 2] = core::array::from_fn(|at| memblock.reserved()[at].range());
        assert_eq!(reserved, [RESERVED_LOW, range(0x100_0000, 0x200_0000)]);
        assert_eq!(filled(LowMemory::Plain).reserved().len(), 1);
    }

    #[test]
    fn options_choose_the_policies() {
        let config = |text| *Memblock::with_options(MemblockConfig::new(), &BootOptions::parse(text).unwrap()).config();
        assert_eq!(config("quiet").hotplug, HotplugPolicy::Use);
        assert_eq!(config("movable_node").hotplug, HotplugPolicy::Avoid);
        assert_eq!(config("kernelcore=mirror").mirror, MirrorPolicy::Prefer);
    }

    #[test]
    fn nodes_that_leave_memory_out_are_not_used() {
        let half = range(0, 0x400_0000);
        let mut numa = NumaMap::new();
        numa.add_memory(half, NodeId::try_new(1).unwrap()).unwrap();
        let mut memblock = filled(LowMemory::Plain);
        assert_eq!(set_nodes(&mut memblock, &numa, NumaOption::Firmware), Nodes::One);
        assert!(memblock.memory().iter().all(|region| region.node == Some(NodeId::ZERO)));
        numa.add_memory(range(0x400_0000, 0x800_0000), NodeId::ZERO).unwrap();
        assert_eq!(set_nodes(&mut memblock, &numa, NumaOption::Firmware), Nodes::Firmware);
        assert_eq!(set_nodes(&mut memblock, &numa, NumaOption::Off), Nodes::One);
    }
}
