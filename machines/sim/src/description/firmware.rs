//! Makes a `Machine` of what a computer says of itself: a flattened devicetree, or the text of /proc/iomem.
//!
//! Used by `Machine::from_bytes`. The parsers are those of `boot_memory::firmware`; the checks are those of a TOML description.

use boot_memory::firmware::{
    BootOptions, Devicetree, MemoryMap, Placement, RangeFlags, RangeKind, is_iomem, parse_iomem, read_iomem,
};
use units::{CpuId, NodeId, PhysRange};

use super::arch::{Arch, Granule};
use super::error::{DescriptionError, Fault};
use super::{LinuxVersion, Machine, MemoryModel, Node, PlacedReservation, check};

pub(super) fn from_bytes(name: &str, bytes: &[u8]) -> Result<Machine, DescriptionError> {
    let fail = |fault| DescriptionError { file: name.to_owned(), line: None, fault };
    if Devicetree::is_blob(bytes) {
        return from_devicetree(name, bytes).map_err(fail);
    }
    let text = core::str::from_utf8(bytes).map_err(|error| fail(Fault::NoText(error.valid_up_to())))?;
    if is_iomem(text) { from_iomem(name, text).map_err(fail) } else { check::parse(name, text) }
}

fn from_devicetree(name: &str, blob: &[u8]) -> Result<Machine, Fault> {
    let tree = Devicetree::parse(blob)?;
    let chosen = tree.chosen()?;
    let (mut kernel_reserved, mut unmapped) = (Vec::from_iter(chosen.initrd), Vec::new());
    let mut firmware = MemoryMap::new();
    for entry in tree.memory_map()?.entries() {
        match entry.kind {
            RangeKind::Usable => firmware.push_entry(*entry).map_err(full)?,
            _ if entry.flags.contains(RangeFlags::NOMAP) => unmapped.push(entry.range),
            _ => kernel_reserved.push(entry.range),
        }
    }
    firmware.sanitize().map_err(full)?;
    let (nodes, distances) = devicetree_nodes(&tree, &firmware)?;
    checked(Machine {
        arch: Arch::Arm64(Granule::Size4K),
        cmdline: chosen.boot_arguments.to_owned(),
        distances,
        kernel_reserved,
        unmapped,
        placed: placed_reservations(&tree)?,
        ..plain(name, firmware, nodes)
    })
}

fn placed_reservations(tree: &Devicetree<'_>) -> Result<Vec<PlacedReservation>, Fault> {
    let mut placed = Vec::new();
    tree.reserved_memory(|reserved| {
        if let Placement::Dynamic { size, alignment, within } = reserved.placement {
            let (name, within) = (reserved.name.to_owned(), within.iter().collect());
            placed.push(PlacedReservation { name, size, alignment, within, unmapped: reserved.no_map });
        }
    })?;
    Ok(placed)
}

/// Reads nodes and distances. Without NUMA nodes, or if they leave memory out, there is one (Linux: dummy_numa_init).
fn devicetree_nodes(tree: &Devicetree<'_>, firmware: &MemoryMap) -> Result<(Vec<Node>, Vec<Vec<u8>>), Fault> {
    let mut cpus = Vec::new();
    tree.cpus(|node| cpus.push(node.unwrap_or(NodeId::ZERO)))?;
    if cpus.is_empty() {
        cpus.push(NodeId::ZERO);
    }
    let covers_all =
        |numa: &_| firmware.of_kind(RangeKind::Usable).all(|entry| check::outside(entry.range, numa).is_none());
    let Some(numa) = tree.numa_map()?.filter(covers_all) else {
        cpus.fill(NodeId::ZERO);
        return Ok((vec![node(NodeId::ZERO, &cpus, vec![span(firmware)])?], vec![vec![10]]));
    };
    let mut nodes = Vec::new();
    for id in numa.nodes().iter() {
        if id.index() != nodes.len() {
            return Err(Fault::NodeNumber(id));
        }
        let memory = numa.memory().iter().filter(|affinity| affinity.node == id).map(|affinity| affinity.range);
        nodes.push(node(id, &cpus, check::joined(memory.collect()))?);
    }
    let row = |from| numa.nodes().iter().map(|to| numa.distance(from, to)).collect();
    let distances = numa.nodes().iter().map(row).collect();
    Ok((nodes, distances))
}

/// Makes node `id` with those CPUs of `cpus`, which is by CPU number, that are on it.
fn node(id: NodeId, cpus: &[NodeId], memory: Vec<PhysRange>) -> Result<Node, Fault> {
    let own = (0u64..).zip(cpus).filter(|&(_, &node)| node == id).map(|(number, _)| number);
    let cpus = own.map(|number| CpuId::try_new(number).ok_or(Fault::CpuCount(cpus.len()))).collect::<Result<_, _>>()?;
    Ok(Node { id, cpus, memory, hotplug: false })
}

fn from_iomem(name: &str, text: &str) -> Result<Machine, Fault> {
    let mut firmware = parse_iomem(text)?;
    firmware.sanitize().map_err(full)?;
    let (mut kernel_image, mut kernel_reserved, mut in_ram) = (None::<PhysRange>, Vec::new(), false);
    read_iomem(text, |line| {
        if line.depth == 0 {
            in_ram = line.name == "System RAM";
        } else if in_ram && !line.range.is_empty() {
            match line.name {
                "Kernel code" | "Kernel rodata" | "Kernel data" | "Kernel bss" => {
                    let image = kernel_image.get_or_insert(line.range);
                    let (start, end) = (image.start.min(line.range.start), image.end.max(line.range.end));
                    *image = PhysRange::new(start, end);
                }
                "Reserved" | "reserved" | "Crash kernel" => kernel_reserved.push(line.range),
                _ => {}
            }
        }
    })?;
    let nodes = vec![node(NodeId::ZERO, &[NodeId::ZERO], vec![span(&firmware)])?];
    checked(Machine { kernel_image, kernel_reserved, ..plain(name, firmware, nodes) })
}

/// Makes an x86-64 machine of which only memory and nodes are known.
fn plain(name: &str, firmware: MemoryMap, nodes: Vec<Node>) -> Machine {
    Machine {
        name: name.to_owned(),
        arch: Arch::X86_64,
        memory_model: MemoryModel::default(),
        linux: LinuxVersion::default(),
        cmdline: String::new(),
        nodes,
        distances: vec![vec![10]],
        firmware,
        kernel_image: None,
        kernel_reserved: Vec::new(),
        unmapped: Vec::new(),
        placed: Vec::new(),
    }
}

/// Returns the addresses from the first usable byte to the last.
fn span(firmware: &MemoryMap) -> PhysRange {
    let usable = || firmware.of_kind(RangeKind::Usable).map(|entry| entry.range);
    let start = usable().map(|range| range.start).min().unwrap_or_default();
    PhysRange::new(start, usable().map(|range| range.end).max().unwrap_or(start))
}

fn checked(machine: Machine) -> Result<Machine, Fault> {
    for entry in machine.firmware.of_kind(RangeKind::Usable) {
        check::check_height(machine.arch, entry.range)?;
    }
    BootOptions::parse(&machine.cmdline).map_err(|error| Fault::CommandLine(error.to_string()))?;
    check::check_cpus(&machine.nodes)?;
    check::check_memory(&machine, &check::numa_map(&machine.nodes, &machine.distances)?)?;
    check::check_kernel(&machine)?;
    Ok(machine)
}

fn full<E>(_: E) -> Fault {
    Fault::TooMany("firmware ranges")
}
