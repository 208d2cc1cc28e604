//! The /proc files read just before or just after a trace, as plain numbers per zone.
//!
//! Text is parsed by `proc_files`; this file only picks what the replay needs and checks that the files fit together.

use std::path::Path;

use proc_files::Profile;
use proc_files::pagetypeinfo::FreeCount;
use proc_files::parse::{BuddyInfo, MemInfo, PageTypeInfo, ParseError, VmStat, Zone, ZoneInfo};
use proc_files::zoneinfo::PageSet;
use units::{CpuId, MigrateType, NodeId, Order, Pfn, PfnRange, ZoneType};

use super::profile::profile_of;
use crate::input_error::{InputError, Place, read_text};

/// State of the page allocator at one moment, as far as /proc shows it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Populated zones in the order of /proc/zoneinfo.
    pub zones: Vec<ZoneSnapshot>,
    /// Kinds of zones that the kernel was built with, lowest first.
    pub zone_kinds: Vec<ZoneType>,
    /// Order of a pageblock.
    pub pageblock_order: Order,
    /// The kernel that wrote the files.
    pub profile: Profile,
}

/// One populated zone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ZoneSnapshot {
    /// Node of the zone.
    pub node: NodeId,
    /// Kind of the zone.
    pub zone: ZoneType,
    /// Frames from the zone's first to its last.
    pub span: PfnRange,
    /// Pages that exist.
    pub present: u64,
    /// Pages that the allocator was given.
    pub managed: u64,
    /// Free pages.
    pub free: u64,
    /// Watermarks min, low, high and promo (0 before 6.12), with the boost taken off.
    pub watermarks: [u64; 4],
    /// Pages kept from allocations that could use a higher zone, by that zone's kind.
    pub protection: [u64; ZoneType::COUNT],
    /// Free blocks by order (/proc/buddyinfo).
    pub free_blocks: Vec<u64>,
    /// Free blocks by migratetype and order (/proc/pagetypeinfo); a list that was too long to count has the least length.
    pub free_by_type: [Vec<u64>; MigrateType::COUNT],
    /// Pageblocks by migratetype.
    pub pageblocks: [u64; MigrateType::COUNT],
    /// Per-CPU page sets.
    pub pagesets: Vec<PageSet>,
}

impl ZoneSnapshot {
    /// Returns the page set of `cpu`.
    pub fn pageset(&self, cpu: CpuId) -> Option<&PageSet> {
        self.pagesets.iter().find(|set| set.cpu == cpu)
    }

    /// Iterates over every count that the replay computes with.
    fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        let sets = self.pagesets.iter().flat_map(|set| [set.count, set.high, set.batch, set.high_min, set.high_max]);
        let lists = self.free_blocks.iter().chain(self.free_by_type.iter().flatten()).chain(&self.pageblocks);
        let sizes = [self.present, self.managed, self.free].into_iter().chain(self.watermarks).chain(self.protection);
        sizes.chain(lists.copied()).chain(sets)
    }
}

impl Snapshot {
    /// Reads buddyinfo, pagetypeinfo, zoneinfo, vmstat and meminfo in `directory`.
    ///
    /// # Errors
    /// A file cannot be read, cannot be parsed, or lacks what the others have.
    pub fn read(directory: &Path) -> Result<Self, InputError> {
        let buddyinfo = File::read(directory, "buddyinfo")?;
        let pagetypeinfo = File::read(directory, "pagetypeinfo")?;
        let zoneinfo = File::read(directory, "zoneinfo")?;
        let vmstat = File::read(directory, "vmstat")?.parse(VmStat::parse)?;
        let meminfo = File::read(directory, "meminfo")?.parse(MemInfo::parse)?;
        let buddy = buddyinfo.parse(BuddyInfo::parse)?;
        let types = pagetypeinfo.parse(PageTypeInfo::parse)?;
        let pageblock_order = types
            .pageblock_order()
            .and_then(|raw| Order::try_new(raw).ok())
            .ok_or_else(|| pagetypeinfo.lacks("the line \"Page block order: N\", N at most 13"))?;
        let parsed = zoneinfo.parse(ZoneInfo::parse)?;
        let mut zone_kinds: Vec<ZoneType> = parsed.zones().map(|zone| zone.zone).collect();
        zone_kinds.sort_unstable();
        zone_kinds.dedup();
        let zones = parsed
            .zones()
            .filter(|zone| zone.pages("managed").is_some_and(|managed| managed > 0))
            .map(|zone| {
                let free_blocks = buddy
                    .nr_free(zone.node, zone.zone)
                    .ok_or_else(|| buddyinfo.lacks(&format!("node {}, zone {}", zone.node, zone.zone.name())))?;
                zone_snapshot(&zoneinfo, &zone, &zone_kinds, free_blocks, &types)
            })
            .collect::<Result<Vec<_>, _>>()?;
        check_zones(&zoneinfo, &zones)?;
        Ok(Self { zones, zone_kinds, pageblock_order, profile: profile_of(&vmstat, &meminfo) })
    }

    /// Returns the zone of a node and kind.
    pub fn zone(&self, node: NodeId, kind: ZoneType) -> Option<&ZoneSnapshot> {
        self.zones.iter().find(|zone| (zone.node, zone.zone) == (node, kind))
    }

    /// Returns the nodes that have memory, in ascending order.
    pub fn nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.zones.iter().map(|zone| zone.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// Returns the index of the zone that holds `pfn`.
    #[inline]
    pub fn zone_of(&self, pfn: Pfn) -> Option<usize> {
        self.zones.iter().rposition(|zone| zone.span.contains(pfn))
    }

    /// Returns the frame after the last zone.
    pub fn end(&self) -> Pfn {
        self.zones.iter().map(|zone| zone.span.end).max().unwrap_or_default()
    }
}

/// Frames above this are refused: 4 TiB, so that a damaged number does not ask for tables of that size.
const FRAME_LIMIT: Pfn = Pfn::new(1 << 30);

/// Checks that there are zones, that they lie within reach, and that a frame number tells the node of a frame.
fn check_zones(file: &File, zones: &[ZoneSnapshot]) -> Result<(), InputError> {
    if zones.is_empty() {
        return Err(file.lacks("a zone with managed pages"));
    }
    let refuse = |found: String, expected: &str| Err(InputError::new(&file.path, Place::File, found, expected));
    if let Some(zone) = zones.iter().find(|zone| zone.span.end > FRAME_LIMIT || zone.span.end < zone.span.start) {
        return refuse(format!("zone {} up to frame {:x}", zone.zone.name(), zone.span.end), "frames below 40000000");
    }
    if let Some((zone, other)) = interleaved(zones) {
        let name = |zone: &ZoneSnapshot| format!("zone {} of node {}", zone.zone.name(), zone.node);
        return refuse(format!("{} inside {}", name(other), name(zone)), "nodes whose zones do not overlap");
    }
    match zones.iter().find(|zone| zone.numbers().any(|number| number > FRAME_LIMIT.raw())) {
        Some(zone) => refuse(format!("zone {}", zone.zone.name()), "numbers of pages and blocks up to 2^30"),
        None => Ok(()),
    }
}

/// Finds two zones of different nodes that span the same frames.
fn interleaved(zones: &[ZoneSnapshot]) -> Option<(&ZoneSnapshot, &ZoneSnapshot)> {
    let overlap = |a: &ZoneSnapshot, b: &ZoneSnapshot| a.node != b.node && !a.span.intersection(b.span).is_empty();
    zones.iter().find_map(|zone| Some((zone, zones.iter().find(|other| overlap(zone, other))?)))
}

fn zone_snapshot(
    file: &File,
    zone: &Zone<'_>,
    zone_kinds: &[ZoneType],
    free_blocks: &[u64],
    types: &PageTypeInfo,
) -> Result<ZoneSnapshot, InputError> {
    let name = format!("node {}, zone {}", zone.node, zone.zone.name());
    let pages = |field: &str| zone.pages(field).ok_or_else(|| file.lacks(&format!("\"{field}\" of {name}")));
    let start = zone.start_pfn().ok_or_else(|| file.lacks(&format!("\"start_pfn\" of {name}")))?;
    let boost = zone.pages("boost").unwrap_or(0);
    let mut free_by_type: [Vec<u64>; MigrateType::COUNT] = Default::default();
    let mut pageblocks = [0; MigrateType::COUNT];
    for (migrate_type, slot) in MigrateType::ALL.into_iter().zip(&mut free_by_type) {
        let counts = types.nr_free(zone.node, zone.zone, migrate_type).unwrap_or_default();
        slot.extend(counts.iter().copied().map(FreeCount::at_least));
    }
    for (migrate_type, count) in types.nr_blocks(zone.node, zone.zone) {
        if let Some(slot) = pageblocks.get_mut(migrate_type.index()) {
            *slot = count;
        }
    }
    let mut protection = [0; ZoneType::COUNT];
    for (kind, pages) in zone_kinds.iter().zip(zone.protection().unwrap_or_default()) {
        if let Some(slot) = protection.get_mut(kind.index()) {
            *slot = *pages;
        }
    }
    Ok(ZoneSnapshot {
        node: zone.node,
        zone: zone.zone,
        span: PfnRange::with_len(start, pages("spanned")?),
        present: pages("present")?,
        managed: pages("managed")?,
        free: pages("free")?,
        watermarks: [pages("min")?, pages("low")?, pages("high")?, zone.pages("promo").unwrap_or(0)]
            .map(|mark| mark.saturating_sub(boost)),
        protection,
        free_blocks: free_blocks.to_vec(),
        free_by_type,
        pageblocks,
        pagesets: zone.pagesets(),
    })
}

/// One file of the directory, kept for its messages.
struct File {
    path: std::path::PathBuf,
    text: String,
}

impl File {
    fn read(directory: &Path, name: &str) -> Result<Self, InputError> {
        let path = directory.join(name);
        let text = read_text(&path)?;
        Ok(Self { path, text })
    }

    fn parse<T>(&self, parser: impl Fn(&str) -> Result<T, ParseError>) -> Result<T, InputError> {
        parser(&self.text).map_err(|error| InputError::from_parse(&self.path, error))
    }

    fn lacks(&self, what: &str) -> InputError {
        InputError::new(&self.path, Place::File, "a file without it", what)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn recorded(name: &str) -> Snapshot {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/pages").join(name);
        Snapshot::read(&directory).unwrap()
    }

    #[test]
    fn a_recorded_directory_gives_its_populated_zones() {
        let snapshot = recorded("cargo.before");
        let names: Vec<_> = snapshot.zones.iter().map(|zone| zone.zone).collect();
        assert_eq!(names, [ZoneType::Dma, ZoneType::Dma32, ZoneType::Normal]);
        assert_eq!((snapshot.pageblock_order.raw(), snapshot.end().raw()), (9, 0x64_0000));
        let normal = &snapshot.zones[2];
        assert_eq!((normal.managed, normal.free), (5_394_266, 4_108_020));
        assert_eq!(normal.watermarks, [14769, 20163, 25557, 30951]);
        assert_eq!(snapshot.zones[0].protection, [0, 3019, 24090, 0, 24090, 24090]);
        assert_eq!(normal.pageblocks, [385, 10090, 277, 0, 0, 0]);
        assert_eq!(normal.free_by_type[MigrateType::Movable.index()][5], 7993);
        assert_eq!(normal.pageset(CpuId::try_new(1).unwrap()).unwrap().count, 54279);
    }

    #[test]
    fn frames_are_found_in_their_zone() {
        let snapshot = recorded("fork.before");
        assert_eq!(snapshot.zone_of(Pfn::new(0xfff)), Some(0));
        assert_eq!(snapshot.zone_of(Pfn::new(0x1000)), Some(1));
        assert_eq!(snapshot.zone_of(Pfn::new(0x10_0000)), Some(2));
        assert_eq!(snapshot.zone_of(Pfn::new(0x64_0000)), None);
    }

    /// Copies cargo.before with one replacement in its zoneinfo.
    fn changed(test: &str, from: &str, to: &str) -> Result<Snapshot, InputError> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/pages/cargo.before");
        let directory = std::env::temp_dir().join(format!("mmkit-snapshot-{test}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        for name in ["buddyinfo", "pagetypeinfo", "zoneinfo", "vmstat", "meminfo"] {
            let text = fs::read_to_string(source.join(name)).unwrap();
            assert!(name != "zoneinfo" || text.contains(from));
            let text = if name == "zoneinfo" { text.replace(from, to) } else { text };
            fs::write(directory.join(name), text).unwrap();
        }
        let snapshot = Snapshot::read(&directory);
        fs::remove_dir_all(&directory).unwrap();
        snapshot
    }

    #[test]
    fn a_zone_too_large_to_describe_is_refused() {
        let error = changed("large", "spanned  5505024", "spanned  55050240000").unwrap_err();
        assert_eq!(error.expected, "frames below 40000000");
    }

    #[test]
    fn numbers_that_no_machine_has_are_refused() {
        let error = changed("batch", "batch:    63", "batch:    18446744073709551615").unwrap_err();
        assert_eq!(error.expected, "numbers of pages and blocks up to 2^30");
    }

    #[test]
    fn nodes_that_interleave_are_refused() {
        let error = changed("interleaved", "Node 0, zone   Normal", "Node 1, zone   Normal");
        assert!(error.unwrap_err().file.ends_with("buddyinfo"), "a zone that only zoneinfo has");
        let snapshot = recorded("cargo.before");
        let mut zones = snapshot.zones;
        zones[2].node = NodeId::try_new(1).unwrap();
        assert_eq!(interleaved(&zones), None);
        zones[2].span.start = Pfn::new(0xf_ffff);
        assert_eq!(interleaved(&zones).map(|(a, b)| (a.zone, b.zone)), Some((ZoneType::Dma32, ZoneType::Normal)));
    }

    #[test]
    fn damaged_files_are_refused_with_file_and_line() {
        let error = changed("damaged", "managed  3840", "managed  many").unwrap_err();
        assert!(error.file.ends_with("zoneinfo"), "{error}");
        let error = changed("lacking", "start_pfn:           4096", "").unwrap_err();
        assert!(error.expected.contains("start_pfn"), "{error}");
    }

    #[test]
    fn a_directory_without_files_is_refused_with_the_path() {
        let error = Snapshot::read(Path::new("/nonexistent")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/buddyinfo"), "{error}");
    }
}
