//! The units of per-CPU memory at boot, and what the log says about them.
//!
//! Linux 6.12: `setup_per_cpu_areas` of mm/percpu.c and arch/x86/kernel/setup_percpu.c.

use core::fmt::Write;

use object_allocator::percpu::{EmbedRule, FirstChunkPlan, PercpuAllocator, UnitSizes, write_embedded, write_unit_map};
use page_allocator::layout::PercpuUnits;
use platform::PhysMemory;
use units::{MAX_CPUS, PhysAddr};

use crate::error::BootError;
use crate::line_log::LineLog;
use crate::tables::TableBuilder;

/// Units are kept out of the memory that ISA devices reach (Linux: MAX_DMA_ADDRESS).
const MIN_ADDR: PhysAddr = PhysAddr::new(16 << 20);

impl<M: PhysMemory> TableBuilder<'_, '_, M> {
    /// Cuts a unit for each CPU, with `static_size` bytes for the kernel's own variables.
    pub(crate) fn percpu(&mut self, static_size: usize) -> Result<PercpuAllocator, BootError> {
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
        let first = plan.embed(self.arena, self.machine)?;
        let log = &mut LineLog::new(self.arena.log());
        let _logged = write_embedded(log, &sizes, page_shift);
        let _logged = write_unit_map(log, &sizes, cpu_nodes);
        Ok(PercpuAllocator::with_first_chunk(first))
    }
}
