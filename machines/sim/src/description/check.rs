//! Makes a `Machine` of a machine file, or says why no machine can be like that.

use std::ops::Range;

use boot_memory::firmware::{
    BootOptions, MAX_CPU_AFFINITIES, MapEntry, MemoryAffinity, MemoryMap, NumaMap, RangeFlags, RangeKind,
};
use units::{CpuId, MAX_NODES, NodeId, PhysRange};

use super::arch::{Arch, Granule};
use super::error::{DescriptionError, Fault};
use super::schema::{ArchName, Cpus, DistanceRule, Distances, MachineFile, NodeTable};
use super::{Machine, Node};

/// Least usable memory beside the kernel: below this not even the boot allocations of one CPU fit.
const LEAST_FREE_BYTES: u64 = 1 << 20;

/// A fault with the place in the text that it is about.
struct At(Range<usize>, Fault);

pub(super) fn parse(name: &str, text: &str) -> Result<Machine, DescriptionError> {
    let fail = |at: Range<usize>, fault| DescriptionError {
        file: name.to_owned(),
        line: Some(line_of(text, at.start)),
        fault,
    };
    let file: MachineFile = toml::from_str(text).map_err(|error| {
        fail(error.span().unwrap_or(0..0), Fault::Syntax(error.message().trim_end().replace('\n', ", ")))
    })?;
    build(name, file).map_err(|At(place, fault)| fail(place, fault))
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count()
}

fn build(name: &str, file: MachineFile) -> Result<Machine, At> {
    let arch = check_arch(&file)?;
    let nodes_at = file.nodes.span();
    check_node_ranges(arch, file.nodes.get_ref())?;
    let nodes = number_nodes(file.nodes.get_ref()).map_err(|fault| At(nodes_at.clone(), fault))?;
    let distances = match &file.distances {
        Some(distances) => {
            expand_distances(distances.get_ref(), nodes.len()).map_err(|fault| At(distances.span(), fault))?
        }
        None => by_rule(&DistanceRule { remote: 20, group: None, near: None }, nodes.len()),
    };
    let numa = numa_map(&nodes, &distances).map_err(|fault| At(nodes_at.clone(), fault))?;
    if let Some((low, high)) = numa.conflict() {
        return Err(At(
            nodes_at,
            Fault::NodesOverlap(low.node.raw(), high.node.raw(), low.range.intersection(high.range)),
        ));
    }
    let firmware = firmware_map(arch, &file, &nodes)?;
    let cmdline = check_cmdline(&file)?;
    let machine = Machine {
        name: name.to_owned(),
        arch,
        memory_model: file.memory_model,
        linux: file.linux,
        cmdline,
        nodes,
        distances,
        firmware,
        kernel_image: file.kernel.image.as_ref().map(|image| image.get_ref().0),
        kernel_reserved: file.kernel.reserved.iter().map(|range| range.get_ref().0).collect(),
        unmapped: Vec::new(),
        placed: Vec::new(),
    };
    check_memory(&machine, &numa).map_err(|fault| At(nodes_at, fault))?;
    let image_at = file.kernel.image.as_ref().map_or(0..0, |image| image.span());
    check_kernel(&machine).map_err(|fault| At(image_at, fault))?;
    Ok(machine)
}

fn check_arch(file: &MachineFile) -> Result<Arch, At> {
    let size = file.page_size.as_ref().map_or(Granule::Size4K, |size| *size.get_ref());
    let (arch, name) = match file.arch {
        ArchName::Arm64 => return Ok(Arch::Arm64(size)),
        ArchName::X86_64 => (Arch::X86_64, "x86-64 (4K)"),
        ArchName::X86_64La57 => (Arch::X86_64La57, "x86-64-la57 (4K)"),
        ArchName::I386 => (Arch::I386, "i386 (4K)"),
    };
    match &file.page_size {
        Some(given) if size != Granule::Size4K => Err(At(given.span(), Fault::PageSize(name))),
        _ => Ok(arch),
    }
}

fn check_node_ranges(arch: Arch, nodes: &[NodeTable]) -> Result<(), At> {
    let mut ranges = nodes.iter().flat_map(|node| &node.memory);
    ranges.try_for_each(|range| check_height(arch, range.get_ref().0).map_err(|fault| At(range.span(), fault)))
}

pub(super) fn check_height(arch: Arch, range: PhysRange) -> Result<(), Fault> {
    let bits = arch.physical_bits();
    if range.end.raw() > 1 << bits {
        return Err(Fault::AddressTooHigh { bits, range });
    }
    Ok(())
}

/// Numbers nodes and CPUs: a count of CPUs takes the next numbers, a list says which.
fn number_nodes(tables: &[NodeTable]) -> Result<Vec<Node>, Fault> {
    if !(1..=MAX_NODES).contains(&tables.len()) {
        return Err(Fault::NodeCount(tables.len()));
    }
    let mut nodes = Vec::with_capacity(tables.len());
    let mut next: u64 = 0;
    for (index, table) in tables.iter().enumerate() {
        let id = NodeId::try_new(index as u64).ok_or(Fault::NodeCount(tables.len()))?;
        let numbers: Vec<u64> = match &table.cpus {
            None => Vec::new(),
            Some(Cpus::Count(count)) => (next..next + u64::from(*count)).collect(),
            Some(Cpus::Numbers(numbers)) => numbers.iter().map(|&number| u64::from(number)).collect(),
        };
        next = numbers.iter().map(|number| number + 1).max().unwrap_or(0).max(next);
        let cpus = numbers.iter().map(|&number| CpuId::try_new(number).ok_or(Fault::CpuCount(number as usize + 1)));
        let mut cpus: Vec<CpuId> = cpus.collect::<Result<_, _>>()?;
        cpus.sort_unstable();
        let memory = joined(table.memory.iter().map(|range| range.get_ref().0).collect());
        nodes.push(Node { id, cpus, memory, hotplug: table.hotplug });
    }
    check_cpus(&nodes)?;
    Ok(nodes)
}

/// Sorts ranges of one node and joins those that touch or overlap.
pub(super) fn joined(mut ranges: Vec<PhysRange>) -> Vec<PhysRange> {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, kept| {
        let touches = next.start <= kept.end;
        kept.end = if touches { kept.end.max(next.end) } else { kept.end };
        touches
    });
    ranges
}

pub(super) fn check_cpus(nodes: &[Node]) -> Result<(), Fault> {
    let mut cpus: Vec<usize> = nodes.iter().flat_map(|node| node.cpus.iter().map(|cpu| cpu.index())).collect();
    cpus.sort_unstable();
    if !(1..=MAX_CPU_AFFINITIES).contains(&cpus.len()) {
        return Err(Fault::CpuCount(cpus.len()));
    }
    let last = cpus.len() - 1;
    match cpus.iter().enumerate().find(|(expected, cpu)| expected != *cpu) {
        Some((expected, &cpu)) => Err(Fault::CpuNumber { number: expected.min(cpu), last }),
        None => Ok(()),
    }
}

fn expand_distances(distances: &Distances, nodes: usize) -> Result<Vec<Vec<u8>>, Fault> {
    let table = match distances {
        Distances::Table(table) => table.clone(),
        Distances::Rule(rule) => by_rule(rule, nodes),
    };
    if table.len() != nodes {
        return Err(Fault::DistancesNotSquare { nodes, row: table.len(), found: 0 });
    }
    for (from, row) in table.iter().enumerate() {
        if row.len() != nodes {
            return Err(Fault::DistancesNotSquare { nodes, row: from, found: row.len() });
        }
        if let Some((to, &found)) =
            row.iter().enumerate().find(|&(to, &distance)| (to == from) != (distance == 10) || distance < 10)
        {
            return Err(Fault::Distance { from, to, found });
        }
    }
    Ok(table)
}

fn by_rule(rule: &DistanceRule, nodes: usize) -> Vec<Vec<u8>> {
    let group = rule.group.unwrap_or(1).max(1);
    let near = rule.near.unwrap_or(rule.remote);
    let distance = |from: usize, to: usize| match () {
        () if from == to => 10,
        () if from / group == to / group => near,
        () => rule.remote,
    };
    (0..nodes).map(|from| (0..nodes).map(|to| distance(from, to)).collect()).collect()
}

pub(super) fn numa_map(nodes: &[Node], distances: &[Vec<u8>]) -> Result<NumaMap, Fault> {
    let mut numa = NumaMap::new();
    for node in nodes {
        numa.add_node(node.id);
        for &range in &node.memory {
            let affinity = MemoryAffinity { range, node: node.id, flags: node.flags() };
            numa.add_memory_affinity(affinity).map_err(|full| Fault::TooMany(full.0))?;
        }
    }
    let mut cpus: Vec<_> = nodes.iter().flat_map(|node| node.cpus.iter().map(|&cpu| (cpu, node.id))).collect();
    cpus.sort_unstable();
    for (cpu, node) in cpus {
        numa.add_cpu(u64::from(cpu.raw()), node).map_err(|full| Fault::TooMany(full.0))?;
    }
    for (from, row) in nodes.iter().zip(distances) {
        for (to, &distance) in nodes.iter().zip(row) {
            numa.set_distance(from.id, to.id, distance);
        }
    }
    Ok(numa)
}

/// Takes the firmware's ranges, or, if there are none, all memory of the nodes as usable.
fn firmware_map(arch: Arch, file: &MachineFile, nodes: &[Node]) -> Result<MemoryMap, At> {
    let mut map = MemoryMap::new();
    let full = |place| move |_| At(place, Fault::TooMany("firmware ranges"));
    for entry in &file.firmware {
        let (range, kind) = (entry.range.get_ref().0, entry.kind.0);
        if kind == RangeKind::Usable {
            check_height(arch, range).map_err(|fault| At(entry.range.span(), fault))?;
        }
        let flags = if entry.mirror { RangeFlags::MIRROR } else { RangeFlags::empty() };
        map.push_entry(MapEntry { range, kind, flags }).map_err(full(entry.range.span()))?;
    }
    if file.firmware.is_empty() {
        let ranges = nodes.iter().flat_map(|node| &node.memory);
        ranges.copied().try_for_each(|range| map.push(range, RangeKind::Usable)).map_err(full(file.nodes.span()))?;
    }
    map.sanitize().map_err(full(file.nodes.span()))?;
    Ok(map)
}

fn check_cmdline(file: &MachineFile) -> Result<String, At> {
    let Some(given) = &file.cmdline else { return Ok(String::new()) };
    let cmdline = given.get_ref();
    match BootOptions::parse(cmdline) {
        Ok(_) => Ok(cmdline.clone()),
        Err(error) => Err(At(given.span(), Fault::CommandLine(error.to_string()))),
    }
}

pub(super) fn check_memory(machine: &Machine, numa: &NumaMap) -> Result<(), Fault> {
    let shift = machine.arch.page_shift();
    for entry in machine.firmware.of_kind(RangeKind::Usable) {
        if let Some(orphan) = outside(entry.range, numa) {
            return Err(Fault::NoNode(orphan));
        }
        if entry.range.end.pfn_up(shift).raw() >= 1 << 32 {
            return Err(Fault::TooManyFrames(entry.range));
        }
    }
    let found = free_bytes(machine)?;
    let at_least = LEAST_FREE_BYTES.max(16 << shift);
    if found < at_least {
        return Err(Fault::TooLittleMemory { at_least, found });
    }
    Ok(())
}

/// Returns the first part of `range` that no node has.
pub(super) fn outside(range: PhysRange, numa: &NumaMap) -> Option<PhysRange> {
    let mut start = range.start;
    while start < range.end {
        let Some(owner) = numa.memory().iter().find(|affinity| affinity.range.contains(start)) else {
            let nexts = numa.memory().iter().map(|affinity| affinity.range.start).filter(|&next| next > start);
            return Some(PhysRange::new(start, nexts.min().unwrap_or(range.end).min(range.end)));
        };
        start = owner.range.end;
    }
    None
}

/// Returns the bytes of whole usable pages that neither the trimmed first megabyte nor the kernel holds.
fn free_bytes(machine: &Machine) -> Result<u64, Fault> {
    let mut map = machine.firmware.clone();
    let full = |_| Fault::TooMany("firmware and reserved ranges");
    if machine.arch.has_bios_range() {
        map.trim_bios_range().map_err(full)?;
    }
    for &range in machine.kernel_image.iter().chain(&machine.kernel_reserved).chain(&machine.unmapped) {
        let taken = boot_memory::firmware::RangeChange { range, from: Some(RangeKind::Usable), to: None };
        map.change(taken).map_err(full)?;
    }
    let shift = machine.arch.page_shift();
    Ok(map.of_kind(RangeKind::Usable).map(|entry| entry.range.whole_frames(shift).nr_pages() << shift).sum())
}

/// Refuses a kernel that is not in usable memory as a whole.
pub(super) fn check_kernel(machine: &Machine) -> Result<(), Fault> {
    let Some(range) = machine.kernel_image else { return Ok(()) };
    let hits = machine.firmware.of_kind(RangeKind::Usable).map(|entry| entry.range.intersection(range).len());
    if hits.sum::<u64>() == range.len() { Ok(()) } else { Err(Fault::KernelOutsideMemory(range)) }
}
