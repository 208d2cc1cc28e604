//! The units of per-CPU memory at boot, and what the log says about them.
//!
//! Linux 6.12: `setup_per_cpu_areas` of mm/percpu.c and arch/x86/kernel/setup_percpu.c.

use core::fmt::Write;
use core::ptr::NonNull;

use collections::PerCpuSlice;
use object_allocator::percpu::{EmbedRule, FirstChunkPlan, PercpuAllocator, UnitSizes, write_embedded, write_unit_map};
use page_allocator::PcpSet;
use page_allocator::layout::PercpuUnits;
use platform::PhysMemory;
use sync::{Cpu, OwnerCell};
use units::{MAX_CPUS, PhysAddr};

use crate::error::BootError;
use crate::line_log::LineLog;
use crate::tables::TableBuilder;

/// Units are kept out of the memory that ISA devices reach (Linux: MAX_DMA_ADDRESS).
const MIN_ADDR: PhysAddr = PhysAddr::new(16 << 20);

/// The page sets of all CPUs.
pub(crate) type PageSets = PerCpuSlice<OwnerCell<PcpSet>>;

impl<M: PhysMemory> TableBuilder<'_, '_, M> {
    /// Cuts a unit for each CPU. Its static part, the variables that the kernel knows at boot, are the CPU's page sets.
    pub(crate) fn percpu(&mut self, nr_zones: usize) -> Result<(PercpuAllocator, PageSets), BootError> {
        if nr_zones >= usize::from(u16::MAX) {
            return Err(BootError::TooManyZones(nr_zones));
        }
        let static_size = nr_zones * size_of::<OwnerCell<PcpSet>>();
        let (page_shift, cpu_nodes) = (self.config.geometry.page_shift, self.config.cpu_nodes);
        let rule = match self.config.arch.percpu_units {
            PercpuUnits::HugePages => EmbedRule::X86_64,
            PercpuUnits::SharedReserve => EmbedRule::I386,
            PercpuUnits::Pages => EmbedRule::generic(page_shift),
        };
        let sizes = UnitSizes::compute(rule, static_size, page_shift, cpu_nodes);
        let nr_cpus = cpu_nodes.len();
        let nr_nodes = cpu_nodes.iter().map(|node| node.index() + 1).max().unwrap_or(1);
        let log = &mut LineLog::new(self.arena.log());
        if self.config.arch.percpu_units != PercpuUnits::Pages {
            let _logged = writeln!(
                log,
                "setup_percpu: NR_CPUS:{MAX_CPUS} nr_cpumask_bits:{nr_cpus} nr_cpu_ids:{nr_cpus} nr_node_ids:{nr_nodes}"
            );
        }
        let plan = FirstChunkPlan { sizes, page_shift, cpu_nodes, min_addr: MIN_ADDR, image: &[] };
        let mut first = plan.embed(self.arena, self.machine)?;
        let machine = self.cpu.machine();
        let rows = self.table("setup_per_cpu_areas", nr_cpus, |_| NonNull::dangling())?;
        let boot_set = |id| OwnerCell::new(Cpu::tag_of(machine, id), PcpSet::boot());
        let page_sets = first.take_static(rows, nr_zones, |id, _| boot_set(id))?;
        let log = &mut LineLog::new(self.arena.log());
        let _logged = write_embedded(log, &sizes, page_shift);
        let _logged = write_unit_map(log, &sizes, cpu_nodes);
        Ok((PercpuAllocator::with_first_chunk(first), page_sets))
    }
}
