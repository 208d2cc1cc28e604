//! SRAT and SLIT: which memory and CPUs belong to which proximity domain, and the distances between domains.
//!
//! ACPI 6.5, sections 5.2.16 and 5.2.17; Linux 6.12: drivers/acpi/numa/srat.c, arch/x86/mm/srat.c.

use units::{MAX_NODES, NodeId, PhysAddr, PhysRange};

use super::super::error::{FirmwareError, Problem};
use super::super::memory_map::RangeFlags;
use super::super::numa_map::{LOCAL_DISTANCE, MemoryAffinity, NumaFull, NumaMap};
use super::super::phys_read::{PhysRead, le_u32, le_u64};
use super::AcpiTable;

/// First entry of an SRAT: behind the header, a revision of 4 bytes and 8 reserved ones.
const SRAT_ENTRIES: u64 = 48;
const SLIT_ENTRIES: u64 = 44;

/// The node of each proximity domain: domains are numbered as they appear, processors before memory.
///
/// Linux: acpi_map_pxm_to_node.
#[derive(Clone, Copy, Debug)]
pub struct ProximityDomains {
    domains: [u32; MAX_NODES],
    len: usize,
}

impl ProximityDomains {
    /// Makes a numbering without domains.
    pub const fn new() -> Self {
        Self { domains: [0; MAX_NODES], len: 0 }
    }

    /// Returns the node of `domain`, if it has one.
    pub fn node(&self, domain: u32) -> Option<NodeId> {
        let index = self.domains.iter().take(self.len).position(|&known| known == domain)?;
        NodeId::try_new(index as u64)
    }

    /// Returns the node of `domain`, giving it the next number if it has none; `None` if all numbers are taken.
    fn node_or_next(&mut self, domain: u32) -> Option<NodeId> {
        if let Some(node) = self.node(domain) {
            return Some(node);
        }
        *self.domains.get_mut(self.len)? = domain;
        self.len += 1;
        NodeId::try_new(self.len as u64 - 1)
    }
}

impl Default for ProximityDomains {
    fn default() -> Self {
        Self::new()
    }
}

/// Adds the enabled memory ranges and CPUs of an SRAT to `numa`.
///
/// Understands local APIC, x2APIC, GICC, generic initiator and memory entries; others are skipped.
///
/// # Errors
/// A table that ends inside an entry, an entry too short for its type, more domains, ranges or CPUs than there is room for, a range
/// that wraps, ranges of two nodes that overlap.
pub fn parse_srat(
    memory: &impl PhysRead,
    srat: AcpiTable,
    numa: &mut NumaMap,
) -> Result<ProximityDomains, FirmwareError> {
    let mut domains = ProximityDomains::new();
    srat.for_each_entry(memory, SRAT_ENTRIES, |offset, kind, len| {
        let Some((domain, cpu)) = read_initiator(memory, &srat, offset, kind, len)? else { return Ok(()) };
        let node = domains.node_or_next(domain).ok_or(too_many_domains(&srat, offset))?;
        numa.add_node(node);
        cpu.map_or(Ok(()), |cpu| numa.add_cpu(u64::from(cpu), node)).map_err(|full| no_room(&srat, offset, full))
    })?;
    srat.for_each_entry(memory, SRAT_ENTRIES, |offset, kind, len| {
        if kind == 1 { add_memory(memory, &srat, offset, len, &mut domains, numa) } else { Ok(()) }
    })?;
    match numa.conflict() {
        None => Ok(domains),
        Some(_) => Err(srat.error(SRAT_ENTRIES, Problem::Expected("memory of different domains not to overlap"))),
    }
}

/// Reads domain and CPU number of an entry that starts memory accesses: a CPU, or a generic initiator, which has no number.
///
/// `None` for a disabled one, and for other types.
fn read_initiator(
    memory: &impl PhysRead,
    srat: &AcpiTable,
    offset: u64,
    kind: u8,
    len: u8,
) -> Result<Option<(u32, Option<u32>)>, FirmwareError> {
    let enabled = |bytes: &[u8], flags: usize| le_u32(bytes, flags) & 1 == 1;
    match kind {
        0 => {
            let entry: [u8; 16] = srat.entry(memory, offset, len)?;
            let low = le_u64::<1>(&entry, 2) as u32;
            // Revision 1 had eight bits of domain; what follows was reserved.
            let high = if srat.revision >= 2 { le_u64::<3>(&entry, 9) as u32 } else { 0 };
            Ok(enabled(&entry, 4).then_some((high << 8 | low, Some(le_u64::<1>(&entry, 3) as u32))))
        }
        2 => {
            let entry: [u8; 24] = srat.entry(memory, offset, len)?;
            Ok(enabled(&entry, 12).then_some((le_u32(&entry, 4), Some(le_u32(&entry, 8)))))
        }
        3 => {
            let entry: [u8; 18] = srat.entry(memory, offset, len)?;
            Ok(enabled(&entry, 10).then_some((le_u32(&entry, 2), Some(le_u32(&entry, 6)))))
        }
        5 => {
            let entry: [u8; 32] = srat.entry(memory, offset, len)?;
            Ok(enabled(&entry, 24).then_some((le_u32(&entry, 4), None)))
        }
        _ => Ok(None),
    }
}

fn add_memory(
    memory: &impl PhysRead,
    srat: &AcpiTable,
    offset: u64,
    len: u8,
    domains: &mut ProximityDomains,
    numa: &mut NumaMap,
) -> Result<(), FirmwareError> {
    let entry: [u8; 40] = srat.entry(memory, offset, len)?;
    let attributes = le_u32(&entry, 28);
    if attributes & 1 == 0 {
        return Ok(());
    }
    let start = PhysAddr::new(le_u64::<8>(&entry, 8));
    let wraps = srat.error(offset + 8, Problem::Expected("a range that ends below 2^64"));
    let end = start.checked_add(le_u64::<8>(&entry, 16)).ok_or(wraps)?;
    let mask = if srat.revision >= 2 { u32::MAX } else { 0xff };
    let node = domains.node_or_next(le_u32(&entry, 2) & mask).ok_or(too_many_domains(srat, offset))?;
    let flags = if attributes & 2 == 0 { RangeFlags::empty() } else { RangeFlags::HOTPLUG };
    let affinity = MemoryAffinity { range: PhysRange::new(start, end), node, flags };
    numa.add_memory_affinity(affinity).map_err(|full| no_room(srat, offset, full))
}

fn too_many_domains(srat: &AcpiTable, offset: u64) -> FirmwareError {
    srat.error(offset, Problem::TooMany("proximity domains"))
}

fn no_room(srat: &AcpiTable, offset: u64, full: NumaFull) -> FirmwareError {
    srat.error(offset, Problem::TooMany(full.0))
}

/// Sets the distances of a SLIT between the domains that the SRAT named.
///
/// # Errors
/// A table too short for its number of localities; a distance to itself that is not 10, or one to others that is not more.
pub fn parse_slit(
    memory: &impl PhysRead,
    slit: AcpiTable,
    domains: &ProximityDomains,
    numa: &mut NumaMap,
) -> Result<(), FirmwareError> {
    let count = u64::from_le_bytes(slit.read(memory, 36, "the number of localities")?);
    let bytes = count.checked_mul(count).filter(|&bytes| bytes <= slit.range.len() - SLIT_ENTRIES);
    bytes.ok_or(slit.error(36, Problem::Truncated("all distances of its localities")))?;
    for (from, to) in (0..count).flat_map(|from| (0..count).map(move |to| (from, to))) {
        let offset = SLIT_ENTRIES + from * count + to;
        let [distance] = slit.read(memory, offset, "a distance")?;
        if (from == to) != (distance == LOCAL_DISTANCE) || distance < LOCAL_DISTANCE {
            return Err(
                slit.error(offset, Problem::Expected("distance 10 of a locality to itself and more than 10 to others"))
            );
        }
        let node = |locality: u64| u32::try_from(locality).ok().and_then(|domain| domains.node(domain));
        if let (Some(from), Some(to)) = (node(from), node(to)) {
            numa.set_distance(from, to, distance);
        }
    }
    Ok(())
}
