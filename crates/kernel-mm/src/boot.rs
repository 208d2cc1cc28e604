//! From memblock to a running page allocator.

use core::sync::atomic::Ordering;

use boot_memory::memblock::Memblock;
use frame_table::BootArena;
use object_allocator::ObjectAllocator;
use page_allocator::layout::boot_log::{self, MemoryFigures};
use page_allocator::layout::{MemmapCost, MobilityGrouping, MovableRule, policy_zone};
use page_allocator::{Hooks, PageAllocator, Zone};
use platform::Platform;
use sync::{Cpu, SpinLock};
use units::{MigrateType, PfnRange, ZoneType};

use crate::config::{BootConfig, Deferral, HandOver};
use crate::error::BootError;
use crate::handover::{self, ZonedMemory};
use crate::kernel::Kernel;
use crate::line_log::LineLog;
use crate::settings;
use crate::tables::{TableBuilder, all_nodes, free_ranges, nr_zones};

impl<P: Platform, H: Hooks> Kernel<P, H> {
    /// Boots: lays out zones, cuts tables from the arena, initialises descriptors and hands free memory over.
    ///
    /// `cpu` is the boot CPU. The log gets what Linux prints on the way, in its words.
    ///
    /// # Errors
    /// [`BootError`]; boot memory used so far stays reserved.
    pub fn boot(
        platform: P,
        hooks: H,
        mut arena: BootArena<'_>,
        config: &BootConfig<'_>,
        cpu: &Cpu,
    ) -> Result<Self, BootError> {
        if config.cpu_nodes.is_empty() {
            return Err(BootError::NoCpu);
        }
        let config = &apart(*config);
        let mut builder = TableBuilder { arena: &mut arena, machine: &platform, config, cpu };
        let memory = builder.memory_ranges()?;
        let nodes = builder.node_layouts(&memory)?;
        let (percpu, page_sets) = builder.percpu(nr_zones(&nodes))?;
        let mut parts = builder.parts(&memory, &nodes, page_sets)?;
        let marks = builder.deferred_marks(&memory, &nodes, &parts.zones)?;
        let early = builder.table("memmap_init", parts.zones.len(), |number| {
            // Relaxed: boot is single-threaded here.
            let mark = Some(marks[number].load(Ordering::Relaxed)).filter(|_| config.deferral != Deferral::None);
            handover::early_part(&parts.zones[number], mark)
        })?;
        builder.arena.finish("memblock_free_all")?;
        if config.deferral == Deferral::UntilNeeded && config.hand_over == HandOver::Release {
            parts.deferred = Some(builder.deferred(&memory, marks)?);
        }
        let allocator = PageAllocator::new(platform, hooks, parts);
        let memblock = config.described.unwrap_or(arena.memblock());
        let zoned = ZonedMemory { ranges: &memory, zones: allocator.zones(), rule: config.movable };
        for (zone, &part) in allocator.zones().iter().zip(early.iter()) {
            handover::init_frames(&allocator, memblock, zoned, zone, part);
            if config.hand_over == HandOver::Release {
                handover::release(&allocator, cpu, memblock, zoned, zone, part)?;
            }
        }
        let reserved_low = config.arch.reserved_low(memory.iter().copied(), free_ranges(memblock));
        let total = memmap_cost(config, reserved_low).total_pages(&nodes, config.release);
        let grouping = MobilityGrouping::decide(total, config.geometry.pageblock_pages(), MigrateType::COUNT as u64);
        allocator.set_group_by_mobility(grouping);
        if config.hand_over == HandOver::Release {
            settings::apply(&allocator, cpu, &config.tunables, config.release, |zone| {
                handover::free_in(memblock, zoned, zone, zone.span()).map(PfnRange::nr_pages).sum()
            });
        }
        let figures = memory_figures(&allocator, memblock, config);
        let log = &mut LineLog::new(arena.log());
        let kinds = allocator.zones().iter().map(Zone::kind);
        let policy = policy_zone(kinds, config.limits.configured());
        let _logged = boot_log::write_zonelists_built(log, u64::from(all_nodes(&nodes).len()), grouping, total);
        let _logged = boot_log::write_policy_zone(log, policy);
        let _logged = boot_log::write_memory(log, &figures, config.geometry.page_shift);
        Ok(Self {
            objects: ObjectAllocator::new(allocator).with_percpu(percpu).with_slab_options(config.slab),
            nodes,
            configured: config.limits.configured(),
            release: config.release,
            tunables: SpinLock::new(config.tunables),
        })
    }
}

/// Defers nothing where zones overlap: a section that waits would be of both.
fn apart(config: BootConfig<'_>) -> BootConfig<'_> {
    let deferral = if config.movable == MovableRule::Mirror { Deferral::None } else { config.deferral };
    BootConfig { deferral, ..config }
}

/// Returns what Linux counts for descriptors; `dma_reserve` is the reserved frames below 16 MiB.
const fn memmap_cost(config: &BootConfig<'_>, dma_reserve: u64) -> MemmapCost {
    MemmapCost {
        descriptor_bytes: config.arch.descriptor_bytes,
        page_shift: config.geometry.page_shift,
        model: config.memory_model,
        dma_reserve,
    }
}

/// Counts what the Memory: line shows. The kernel's image is not known here: it is part of what is reserved.
fn memory_figures<P: Platform, H: Hooks>(
    allocator: &PageAllocator<P, H>,
    memblock: &Memblock,
    config: &BootConfig<'_>,
) -> MemoryFigures<'static> {
    let sum = |of: &dyn Fn(&Zone) -> u64| -> u64 { allocator.zones().iter().map(of).sum() };
    let present = sum(&Zone::present);
    let handed: u64 = free_ranges(memblock).map(PfnRange::nr_pages).sum();
    let has_highmem = config.limits.configured().contains(ZoneType::HighMem);
    let highmem = |zone: &Zone| if zone.kind() == ZoneType::HighMem { zone.free_pages() } else { 0 };
    MemoryFigures {
        available: sum(&Zone::free_pages),
        present,
        image_sizes: boot_log::NO_IMAGE_SIZES,
        reserved: present.saturating_sub(handed),
        cma: 0,
        highmem: has_highmem.then(|| sum(&highmem)),
    }
}
