//! Sizes of the units of the first chunk, computed from plain data.
//!
//! Linux 6.12: `setup_per_cpu_areas` of mm/percpu.c and arch/x86, `pcpu_build_alloc_info`, `pcpu_embed_first_chunk`, `pcpu_dump_alloc_info`.

use core::fmt;

use units::{CpuId, NodeId};

use super::{MAX_AREA, MIN_ALLOC_SIZE};

/// Bytes for the per-CPU variables of modules (Linux: PERCPU_MODULE_RESERVE).
const MODULE_RESERVE: usize = 8 << 10;

/// What an architecture asks of the first chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EmbedRule {
    /// Bytes that only modules get.
    pub reserved: usize,
    /// Least bytes for dynamic areas.
    pub dynamic: usize,
    /// Units are allocated in multiples of this, a power of two and multiple of the page size.
    pub atom: usize,
}

impl EmbedRule {
    /// x86-64: modules have a part of their own, and huge pages map the units.
    pub const X86_64: Self = Self { reserved: MODULE_RESERVE, dynamic: 28 << 10, atom: 2 << 20 };

    /// 32-bit x86: modules share the dynamic part.
    pub const I386: Self = Self { reserved: 0, dynamic: MODULE_RESERVE + (20 << 10), atom: 4 << 10 };

    /// Every other 64-bit architecture.
    pub const fn generic(page_shift: u32) -> Self {
        Self { reserved: MODULE_RESERVE, dynamic: 28 << 10, atom: 1 << page_shift }
    }
}

/// Sizes of a unit, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnitSizes {
    /// Variables that the kernel's image defines.
    pub static_size: usize,
    /// Part for modules.
    pub reserved_size: usize,
    /// First dynamic part.
    pub dyn_size: usize,
    /// A unit with what rounding adds; that part is given back to memblock.
    pub unit_size: usize,
    /// See [`EmbedRule::atom`].
    pub atom_size: usize,
    /// Bytes of the units that share an allocation.
    pub alloc_size: usize,
}

impl UnitSizes {
    /// Computes the sizes for CPUs on `cpu_nodes`: as many units to an allocation as waste the fewest.
    pub fn compute(rule: EmbedRule, static_size: usize, page_shift: u32, cpu_nodes: &[NodeId]) -> Self {
        let static_size = static_size.next_multiple_of(MIN_ALLOC_SIZE);
        let page = 1 << page_shift;
        let used = (static_size + rule.reserved + rule.dynamic.max(MIN_DYNAMIC)).next_multiple_of(page);
        let least_unit = used.max(MAX_AREA).next_multiple_of(page);
        let alloc_size = least_unit.next_multiple_of(rule.atom);
        let divides = |&units: &usize| alloc_size.is_multiple_of(units) && (alloc_size / units).is_multiple_of(page);
        let (mut best, mut best_allocs) = (1, usize::MAX);
        for units in (1..=alloc_size / least_unit).rev().filter(divides) {
            let allocs: usize = groups(cpu_nodes).map(|group| nr_on(cpu_nodes, group).div_ceil(units)).sum();
            // A third of the units may be wasted, and fewer units to an allocation must not need more of them.
            if allocs * units - cpu_nodes.len() > cpu_nodes.len() / 3 {
                continue;
            }
            if allocs > best_allocs {
                break;
            }
            (best, best_allocs) = (units, allocs);
        }
        Self {
            static_size,
            reserved_size: rule.reserved,
            dyn_size: used - static_size - rule.reserved,
            unit_size: alloc_size / best,
            atom_size: rule.atom,
            alloc_size,
        }
    }

    /// Returns the bytes of a unit that are used.
    pub const fn used(&self) -> usize {
        self.static_size + self.reserved_size + self.dyn_size
    }

    /// Returns the units that share an allocation.
    pub const fn units_per_alloc(&self) -> usize {
        self.alloc_size / self.unit_size
    }
}

/// Least bytes for dynamic areas that boot can do with (Linux: PERCPU_DYNAMIC_EARLY_SIZE).
const MIN_DYNAMIC: usize = 20 << 10;

/// Iterates over the nodes that have CPUs, in the order of their first CPU: CPUs of a node lie together.
pub(super) fn groups(cpu_nodes: &[NodeId]) -> impl Iterator<Item = NodeId> + '_ {
    let nodes = cpu_nodes.iter().enumerate();
    nodes.filter(|&(at, node)| !cpu_nodes.iter().take(at).any(|earlier| earlier == node)).map(|(_, &node)| node)
}

/// Returns the number of CPUs on a node.
pub(super) fn nr_on(cpu_nodes: &[NodeId], node: NodeId) -> usize {
    cpu_nodes.iter().filter(|&&on| on == node).count()
}

/// Writes the log line about the first chunk.
///
/// # Errors
/// Only what `log` returns; so for all functions here.
pub fn write_embedded(log: &mut dyn fmt::Write, sizes: &UnitSizes, page_shift: u32) -> fmt::Result {
    let UnitSizes { static_size, reserved_size, dyn_size, unit_size, .. } = sizes;
    let pages = sizes.used() >> page_shift;
    writeln!(log, "percpu: Embedded {pages} pages/cpu s{static_size} r{reserved_size} d{dyn_size} u{unit_size}")
}

/// Writes which CPUs share an allocation, allocation by allocation.
pub fn write_unit_map(log: &mut dyn fmt::Write, sizes: &UnitSizes, cpu_nodes: &[NodeId]) -> fmt::Result {
    let UnitSizes { static_size, reserved_size, dyn_size, unit_size, atom_size, alloc_size } = sizes;
    let atoms = alloc_size / atom_size;
    write!(log, "pcpu-alloc: s{static_size} r{reserved_size} d{dyn_size} u{unit_size} ")?;
    writeln!(log, "alloc={atoms}*{atom_size}")?;
    let (upa, digits) = (sizes.units_per_alloc(), decimal_digits(cpu_nodes.len()));
    let group_digits = decimal_digits(groups(cpu_nodes).count());
    let fitting: usize = (60 / (upa * (digits + 1) + group_digits + 3)).max(1);
    let per_line = 1 << fitting.ilog2();
    let mut allocs = 0;
    write!(log, "pcpu-alloc: ")?;
    for (number, group) in groups(cpu_nodes).enumerate() {
        let mut cpus =
            (0..).filter_map(CpuId::try_new).zip(cpu_nodes).filter(|&(_, &on)| on == group).map(|(id, _)| id);
        for _ in 0..nr_on(cpu_nodes, group).div_ceil(upa) {
            if allocs > 0 && allocs % per_line == 0 {
                write!(log, "\npcpu-alloc: ")?;
            }
            allocs += 1;
            write!(log, "[{number:0group_digits$}] ")?;
            for _ in 0..upa {
                match cpus.next() {
                    Some(cpu) => write!(log, "{:0digits$} ", cpu.raw())?,
                    None => (0..digits).try_for_each(|_| log.write_char('-')).and_then(|()| log.write_char(' '))?,
                }
            }
        }
    }
    writeln!(log)
}

/// Returns the digits of a decimal number.
fn decimal_digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}
