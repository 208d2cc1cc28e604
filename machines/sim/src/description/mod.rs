//! Descriptions of machines: architecture, CPUs, nodes, firmware map, kernel, command line, read from TOML, a devicetree or /proc/iomem.
//!
//! Used by the hosted machine to build itself and by the `mmkit` command (`--machine`). A description that parses is one that can
//! boot: impossible ones are refused with file, line and what was expected. Plain values, no locking.
//!
//! # The file
//! ```toml
//! arch = "x86-64"            # x86-64, x86-64-la57, i386, arm64
//! page-size = "4K"           # arm64 also 16K, 64K
//! memory-model = "sparse"    # or flat
//! linux = "6.12"             # whose file formats to print: 6.1, 6.12, 6.18
//! cmdline = "kernelcore=1G"
//! kernel = { image = "16M+40M", reserved = ["64K+64K"] }
//! distances = [[10, 21], [21, 10]]    # or { remote = 21 }, or { remote = 32, near = 16, group = 8 }
//! nodes = [
//!   { cpus = 2, memory = ["0+2G"] },            # a count, numbered on, or a list of numbers
//!   { cpus = 2, memory = ["2G+1G", "4G+1G"], hotplug = true },
//! ]
//! firmware = [                                  # left out: all memory of the nodes is usable
//!   { range = "0x0-0x9fbff", kind = "usable" },
//!   { range = "0x9fc00-0x9ffff", kind = "reserved" },
//!   { range = "1M+3071M", kind = "usable" },
//!   { range = "4G+1G", kind = "usable", mirror = true },    # mirrored by the hardware: for kernelcore=mirror
//! ]
//! ```

mod arch;
mod check;
mod error;
mod firmware;
mod ready;
mod schema;

use boot_memory::firmware::{MemoryMap, NumaMap, RangeFlags, RangeKind};
use serde::Deserialize;
use units::{CpuId, NodeId, PhysRange};

pub use arch::{Arch, Granule};
pub use error::{DescriptionError, Fault};
pub use ready::{READY_MACHINES, ReadyMachine};

/// How frame numbers become descriptors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryModel {
    /// Descriptors by section, holes without any.
    #[default]
    Sparse,
    /// One array from the first frame to the last.
    Flat,
}

/// The Linux version whose file formats the machine prints.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Deserialize)]
pub enum LinuxVersion {
    /// 6.1.
    #[serde(rename = "6.1")]
    V6_1,
    /// 6.12, the reference.
    #[default]
    #[serde(rename = "6.12")]
    V6_12,
    /// 6.18.
    #[serde(rename = "6.18")]
    V6_18,
}

/// A node of a machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// Its CPUs, ascending; empty for a node of memory only.
    pub cpus: Vec<CpuId>,
    /// The addresses that belong to it, ascending and apart; empty for a node of CPUs only. RAM is what the firmware map calls
    /// usable in them.
    pub memory: Vec<PhysRange>,
    /// Whether its memory may be unplugged.
    pub hotplug: bool,
}

/// A machine that can boot.
///
/// # Invariants
/// Nodes are numbered from 0 without gaps and do not overlap; every usable byte of `firmware` lies in a node and below the
/// architecture's limit; `firmware` is sanitized; the kernel lies in usable memory; distances are square and lawful.
///
/// ```
/// use mmkit_sim::description::Machine;
///
/// let machine = Machine::ready("server-2node").unwrap();
/// assert_eq!(machine.nodes.len(), 2);
///
/// let error = Machine::parse("mine.toml", "arch = \"x86-64\"\nnodes = []\n").unwrap_err();
/// assert_eq!(error.to_string(), "mine.toml, line 2: expected 1 to 64 nodes, found 0");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Name of the file or of the ready machine.
    pub name: String,
    /// Architecture and page size.
    pub arch: Arch,
    /// Memory model.
    pub memory_model: MemoryModel,
    /// Whose formats to print.
    pub linux: LinuxVersion,
    /// The kernel's command line.
    pub cmdline: String,
    /// The nodes, by number.
    pub nodes: Vec<Node>,
    /// `distances[from][to]`, for every node.
    pub distances: Vec<Vec<u8>>,
    /// What the firmware reports.
    pub firmware: MemoryMap,
    /// Where the kernel's image lies.
    pub kernel_image: Option<PhysRange>,
    /// What is reserved before memblock allocates anything, beside the image: initrd, firmware tables.
    pub kernel_reserved: Vec<PhysRange>,
    /// Memory that the firmware wants left out of the direct map (`no-map`).
    pub unmapped: Vec<PhysRange>,
    /// Memory that the firmware wants reserved wherever there is room.
    pub placed: Vec<PlacedReservation>,
}

/// A reservation whose place is found while the machine boots: a node of /reserved-memory with a `size`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacedReservation {
    /// Name of its node, for the log.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Power of two that the address is a multiple of; 0 if the firmware does not say.
    pub alignment: u64,
    /// Where it may lie, tried in this order; anywhere if empty.
    pub within: Vec<PhysRange>,
    /// Whether it is left out of the direct map (`no-map`).
    pub unmapped: bool,
}

impl Machine {
    /// Reads a description; `file` is named in errors.
    ///
    /// # Errors
    /// [`DescriptionError`] with the line and what was expected there.
    pub fn parse(file: &str, text: &str) -> Result<Self, DescriptionError> {
        check::parse(file, text)
    }

    /// Reads a description in any form: a flattened devicetree (by its magic number), the text of /proc/iomem (by a line of its
    /// form), else TOML; `file` is named in errors.
    ///
    /// A devicetree describes an arm64 machine with 4 KiB pages: its memory nodes, their NUMA nodes and distances, reservations, CPUs,
    /// and the command line and initrd of /chosen. It does not say where the kernel lies, so no image is reserved; a `reusable`
    /// reservation stays reserved. /proc/iomem describes an x86-64 machine of one node and one CPU.
    ///
    /// # Errors
    /// [`DescriptionError`] with the place and what was expected there.
    pub fn from_bytes(file: &str, bytes: &[u8]) -> Result<Self, DescriptionError> {
        firmware::from_bytes(file, bytes)
    }

    /// Returns the ready machine of that name, or `None` if there is none.
    pub fn ready(name: &str) -> Option<Self> {
        let ready = READY_MACHINES.iter().find(|ready| ready.name == name)?;
        Self::parse(ready.name, ready.text).ok()
    }

    /// Returns the node of each CPU, by CPU number.
    pub fn cpu_nodes(&self) -> Vec<NodeId> {
        let mut cpus: Vec<_> = self.nodes.iter().flat_map(|node| node.cpus.iter().map(|&cpu| (cpu, node.id))).collect();
        cpus.sort_unstable();
        cpus.into_iter().map(|(_, node)| node).collect()
    }

    /// Returns affinities and distances in the form that the firmware parsers give.
    ///
    /// CPUs have their number as hardware id.
    pub fn numa_map(&self) -> NumaMap {
        // The checks of `parse` counted nodes, ranges and CPUs against the room in the map.
        check::numa_map(&self.nodes, &self.distances).unwrap_or_default()
    }

    /// Returns the usable memory of `node`: the firmware's usable ranges inside the node's, ascending.
    pub fn usable_of(&self, node: NodeId) -> Vec<PhysRange> {
        let owned = self.nodes.get(node.index()).map(|node| node.memory.as_slice()).unwrap_or_default();
        let usable = self.firmware.of_kind(RangeKind::Usable).map(|entry| entry.range);
        let shared = usable.flat_map(|usable| owned.iter().map(move |&owned| usable.intersection(owned)));
        let mut ranges: Vec<_> = shared.filter(|range| !range.is_empty()).collect();
        ranges.sort_unstable_by_key(|range| range.start);
        ranges
    }

    /// Returns all usable bytes, whole pages or not.
    pub fn usable_bytes(&self) -> u64 {
        self.firmware.bytes_of(RangeKind::Usable)
    }

    /// Returns the address after the last usable byte.
    pub fn end_of_memory(&self) -> units::PhysAddr {
        self.firmware.of_kind(RangeKind::Usable).map(|entry| entry.range.end).max().unwrap_or_default()
    }
}

impl Node {
    fn flags(&self) -> RangeFlags {
        if self.hotplug { RangeFlags::HOTPLUG } else { RangeFlags::empty() }
    }
}

#[cfg(test)]
mod tests;
