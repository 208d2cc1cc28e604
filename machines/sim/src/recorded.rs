//! A machine as a recording shows it: memory, zones and CPUs are known, and the caller says later what each frame held.
//!
//! Used by the replay. Boots through `Kernel::boot` with `HandOver::Keep`: every frame starts in use. The tables that boot makes lie in
//! memory of their own behind the recorded frames, because no frame of the recorded machine held them.

use boot_memory::memblock::{BootContext, Memblock, MemblockConfig, SilentLog};
use frame_table::{FrameTable, MemoryModel};
use kernel_mm::{BootConfig, Deferral, HandOver};
use page_allocator::layout::{ArchRules, MemoryRange, MovableRule, Release, ZoneLimits};
use page_allocator::{Checks, Geometry, Hooks, Tunables};
use proc_files::Profile;
use units::{NodeId, PhysRange};

use crate::machine::{BootMemory, Lines};
use crate::{HostPages, MachineError, MemoryLayout, SimMachine, SimPlatform};

/// What a recording shows of a machine.
#[derive(Clone, Debug)]
pub struct RecordedMachine {
    /// Sizes.
    pub geometry: Geometry,
    /// Memory, ascending.
    pub memory: Vec<MemoryRange>,
    /// Architecture that the kernel was built for.
    pub arch: ArchRules,
    /// Limits of the zones.
    pub limits: ZoneLimits,
    /// Share of ZONE_MOVABLE.
    pub movable: MovableRule,
    /// Node of each CPU.
    pub cpu_nodes: Vec<NodeId>,
    /// `distances[from][to]`; 10 to the node itself and 20 to others where nothing is known.
    pub distances: Vec<Vec<u8>>,
    /// Whose /proc files the machine shows.
    pub profile: Profile,
}

/// Boundary that the tables' memory starts at.
const ROOM_ALIGN: u64 = 1 << 30;
/// Room for tables that do not grow with memory.
const FIXED_ROOM: u64 = 64 << 20;

impl RecordedMachine {
    /// Returns the memory for boot's tables: descriptors, and as much again for all that has an entry per frame or pageblock.
    fn room(&self) -> Option<PhysRange> {
        let (first, last) = (self.memory.first()?, self.memory.last()?);
        let frames = last.frames.end.since(first.frames.start);
        let start = last.frames.phys(self.geometry.page_shift).end.align_up(ROOM_ALIGN);
        let bytes = frames.checked_mul(2 * FrameTable::FRAME_BYTES)?.checked_add(FIXED_ROOM)?;
        Some(PhysRange::with_len(start, bytes.next_multiple_of(1 << self.geometry.page_shift)))
    }

    fn distance(&self, from: NodeId, to: NodeId) -> u8 {
        let row = self.distances.get(from.index());
        row.and_then(|row| row.get(to.index())).copied().unwrap_or(if from == to { 10 } else { 20 })
    }

    fn memblock(&self, ranges: impl Iterator<Item = (PhysRange, NodeId)>) -> Result<Box<Memblock>, MachineError> {
        let mut memblock =
            Memblock::new(MemblockConfig { page_shift: self.geometry.page_shift, ..MemblockConfig::new() });
        let mut log = SilentLog;
        let mut cx = BootContext::new(&(), &mut log, "recorded");
        for (range, node) in ranges {
            memblock.add_node(range.start, range.len(), node, Default::default(), &mut cx)?;
        }
        Ok(Box::new(memblock))
    }
}

impl<H: Hooks> SimMachine<H> {
    /// Boots a recorded machine with every frame in use and no list filled; `PageAllocator::load_managed` and its like fill them.
    ///
    /// # Errors
    /// [`MachineError`] if the recording has no memory, or more ranges of it than a memblock takes without growing, or if the host or
    /// the kernel refuse.
    pub fn boot_recorded(recorded: &RecordedMachine, hooks: H) -> Result<Self, MachineError> {
        let room = recorded.room().ok_or(MachineError::NoMemory)?;
        let shift = recorded.geometry.page_shift;
        let ranges = || recorded.memory.iter().map(|range| (range.frames.phys(shift), range.node));
        let layout = MemoryLayout {
            ram: ranges().map(|(range, _)| range).chain([room]).collect(),
            memmap_pages: HostPages::Huge,
            ..MemoryLayout::default()
        };
        let platform = SimPlatform::new(&layout, recorded.cpu_nodes.len(), None)?;
        let described = recorded.memblock(ranges())?;
        // Requests for memory near a node fall back to the one node there is.
        let memory =
            BootMemory { memblock: recorded.memblock([(room, NodeId::ZERO)].into_iter())?, log: Lines::default() };
        let release =
            if recorded.profile.release == proc_files::Release::V6_1 { Release::V6_1 } else { Release::V6_12 };
        let config = BootConfig {
            geometry: recorded.geometry,
            memory_model: MemoryModel::Flat,
            arch: recorded.arch,
            limits: recorded.limits,
            movable: recorded.movable,
            cpu_nodes: &recorded.cpu_nodes,
            distance: &|from, to| recorded.distance(from, to),
            tunables: Tunables::default(),
            release,
            checks: Checks::empty(),
            page_owner: false,
            deferral: Deferral::None,
            hand_over: HandOver::Keep,
            slab: Default::default(),
            described: Some(&described),
        };
        let machine = Self::start(&platform, hooks, &config, memory, recorded.profile)?;
        Ok(machine.with_memblock(described))
    }
}

#[cfg(test)]
mod tests {
    use page_allocator::Untraced;
    use proc_files::Config;
    use units::{CpuId, Gfp, MigrateType, Order, Pfn, PfnRange, PhysAddr, ZoneType};

    use super::*;

    fn two_nodes() -> RecordedMachine {
        let node = |raw| NodeId::try_new(raw).unwrap();
        let range = |start, end, on| MemoryRange::plain(PfnRange::new(Pfn::new(start), Pfn::new(end)), node(on));
        let memory = vec![range(1, 0x9f, 0), range(0x100, 0x4000, 0), range(0x4000, 0x8000, 1)];
        RecordedMachine {
            geometry: Geometry::FOUR_KIB,
            arch: ArchRules::X86_64,
            limits: ZoneLimits::x86_64(PfnRange::new(Pfn::new(1), Pfn::new(0x8000))),
            memory,
            movable: MovableRule::NONE,
            cpu_nodes: vec![node(0), node(1)],
            distances: vec![vec![10, 21], vec![21, 10]],
            profile: Profile::new(proc_files::Release::V6_18, Config::X86_64),
        }
    }

    #[test]
    fn all_frames_are_in_use_until_they_are_loaded() {
        let machine = SimMachine::boot_recorded(&two_nodes(), Untraced).unwrap();
        let (pages, cpu) = (machine.pages(), machine.cpu(CpuId::ZERO).unwrap());
        assert_eq!(pages.zones().iter().map(|zone| zone.present()).sum::<u64>(), 0x8000 - 1 - 0x61);
        assert_eq!(pages.check_invariants(&cpu), Ok(0));
        let order = Order::new_truncate(4);
        assert!(pages.alloc(&cpu, Gfp::KERNEL | Gfp::NOWARN, order).is_err());
        let remote = pages.zone(NodeId::try_new(1).unwrap(), ZoneType::Dma32).unwrap();
        assert_eq!(remote.span(), PfnRange::new(Pfn::new(0x4000), Pfn::new(0x8000)));
        pages.load_free_block(&cpu, Pfn::new(0x4010), order, MigrateType::Movable).unwrap();
        pages.load_managed(remote, 0x3f00);
        assert_eq!((pages.check_invariants(&cpu), remote.managed()), (Ok(16), 0x3f00));
        // The DMA32 zone of the CPU's own node is empty, so the request goes to the other node.
        let block = pages.alloc(&cpu, Gfp::KERNEL, order).unwrap();
        assert_eq!(block.pfn(), Pfn::new(0x4010));
        pages.free(&cpu, block);
    }

    #[test]
    fn boots_tables_take_no_recorded_frame() {
        let machine = SimMachine::boot_recorded(&two_nodes(), Untraced).unwrap();
        assert_eq!(machine.memblock().reserved().len(), 0);
        assert_eq!(machine.memblock().end_of_dram(), PhysAddr::new(0x8000 << 12));
        assert!(machine.boot_log().iter().any(|line| line == "Zone ranges:"));
    }

    #[test]
    fn a_recording_without_memory_is_refused() {
        let empty = RecordedMachine { memory: Vec::new(), ..two_nodes() };
        assert!(matches!(SimMachine::boot_recorded(&empty, Untraced), Err(MachineError::NoMemory)));
    }
}
