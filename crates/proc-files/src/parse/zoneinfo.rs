//! Parser of /proc/zoneinfo.

use std::fmt;
use std::string::String;
use std::vec::Vec;

use units::{CpuId, NodeId, Pfn, ZoneType};

use super::{Cursor, Lines, ParseError};
use crate::zoneinfo::{PageSet, PageSetLayout, ZoneLine};

type Line = ZoneLine<String, Vec<u64>>;

/// A parsed /proc/zoneinfo.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ZoneInfo {
    lines: Lines<Line>,
}

impl ZoneInfo {
    /// Reads the file's text. Fields with names of their own are read whatever their name; other lines are kept.
    ///
    /// # Errors
    /// At a line before the first zone, or a known line without its number.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut part = Part::BeforeZones;
        Ok(Self { lines: Lines::parse(text, |cursor| line(cursor, &mut part))? })
    }

    /// Iterates over the zones in the order of the file.
    pub fn zones(&self) -> impl Iterator<Item = Zone<'_>> {
        let mut rest: Vec<&Line> = self.lines.items().collect();
        let mut zones = Vec::new();
        while let Some(start) = rest.iter().rposition(|line| matches!(line, Line::Heading(..))) {
            let lines = rest.split_off(start);
            if let Some(Line::Heading(node, zone)) = lines.first() {
                zones.push(Zone { node: *node, zone: *zone, lines });
            }
        }
        zones.into_iter().rev()
    }

    /// Returns the zone of a node; `None` if the file has no such zone.
    pub fn zone(&self, node: NodeId, zone: ZoneType) -> Option<Zone<'_>> {
        self.zones().find(|found| (found.node, found.zone) == (node, zone))
    }

    /// Returns the number of lines that are not in the kernel's form.
    pub fn nr_verbatim(&self) -> usize {
        self.lines.nr_verbatim()
    }
}

impl fmt::Display for ZoneInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.fmt(f)
    }
}

/// One zone of the file.
#[derive(Clone, Debug)]
pub struct Zone<'a> {
    /// Node of the zone.
    pub node: NodeId,
    /// Kind of the zone.
    pub zone: ZoneType,
    lines: Vec<&'a Line>,
}

impl<'a> Zone<'a> {
    /// Returns a line of the `pages` block: `free`, `min`, `managed` and so on, in pages.
    pub fn pages(&self, name: &str) -> Option<u64> {
        self.lines.iter().find_map(|line| match line {
            Line::PagesFree(value) if name == "free" => Some(*value),
            Line::Pages(field, value) if field == name => Some(*value),
            _ => None,
        })
    }

    /// Returns the pages kept from allocations that could use a higher zone, indexed by that zone.
    pub fn protection(&self) -> Option<&'a [u64]> {
        self.lines.iter().find_map(|line| match line {
            Line::Protection(pages) => Some(pages.as_slice()),
            _ => None,
        })
    }

    /// Returns a counter of the zone.
    pub fn stat(&self, name: &str) -> Option<u64> {
        self.stats().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// Returns a counter of the zone's node, if this is the zone that shows them.
    pub fn node_stat(&self, name: &str) -> Option<u64> {
        self.node_stats().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// Iterates over the zone's counters in the order of the file.
    pub fn stats(&self) -> impl Iterator<Item = (&'a str, u64)> {
        self.lines.iter().skip_while(|line| !matches!(line, Line::Protection(..))).filter_map(|line| stat(line))
    }

    /// Iterates over the node's counters in the order of the file; none unless this is the zone that shows them.
    pub fn node_stats(&self) -> impl Iterator<Item = (&'a str, u64)> {
        self.lines.iter().take_while(|line| !matches!(line, Line::PagesFree(..))).filter_map(|line| stat(line))
    }

    /// Returns the per-CPU page sets; a field that the file does not show is 0.
    pub fn pagesets(&self) -> Vec<PageSet> {
        let mut sets: Vec<PageSet> = Vec::new();
        for line in &self.lines {
            if let Line::Cpu(cpu) = line {
                sets.push(PageSet { cpu: *cpu, ..PageSet::default() });
                continue;
            }
            let Some(set) = sets.last_mut() else { continue };
            match line {
                Line::PageSet(_, name, value) => set_field(set, name, *value),
                Line::Threshold(value) => set.stat_threshold = *value,
                _ => {}
            }
        }
        sets
    }

    /// Returns the number after `node_unreclaimable`; `None` for an unpopulated zone.
    pub fn node_unreclaimable(&self) -> Option<u64> {
        self.lines.iter().find_map(|line| match line {
            Line::Unreclaimable(value) => Some(*value),
            _ => None,
        })
    }

    /// Returns the first frame of the zone; `None` for an unpopulated zone.
    pub fn start_pfn(&self) -> Option<Pfn> {
        self.lines.iter().find_map(|line| match line {
            Line::StartPfn(pfn) => Some(Pfn::new(*pfn)),
            _ => None,
        })
    }
}

fn stat(line: &Line) -> Option<(&str, u64)> {
    match line {
        Line::Stat(name, value) => Some((name, *value)),
        _ => None,
    }
}

fn set_field(set: &mut PageSet, name: &str, value: u64) {
    match name {
        "count" => set.count = value,
        "high" => set.high = value,
        "batch" => set.batch = value,
        "high_min" => set.high_min = value,
        "high_max" => set.high_max = value,
        _ => {}
    }
}

/// Part of a zone's text; tells apart lines that are both `name value`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    BeforeZones,
    Stats,
    Pages,
    PageSets,
}

fn line(cursor: &mut Cursor<'_>, part: &mut Part) -> Result<Option<Line>, ParseError> {
    if cursor.at_end() {
        return Ok(None);
    }
    if *part == Part::BeforeZones || cursor.rest().starts_with("Node ") {
        let (node, zone) = cursor.node_and_zone()?;
        *part = Part::Stats;
        return cursor.end().map(|()| Some(Line::Heading(node, zone)));
    }
    if cursor.try_literal("per-node stats") {
        return Ok(Some(Line::PerNodeStats));
    }
    if cursor.try_literal("pages free") {
        *part = Part::Pages;
        return cursor.last_number("a number").map(|value| Some(Line::PagesFree(value)));
    }
    if cursor.try_literal("protection:") {
        *part = Part::Stats;
        return protection(cursor).map(|pages| Some(Line::Protection(pages)));
    }
    if cursor.try_literal("pagesets") {
        *part = Part::PageSets;
        return Ok(Some(Line::PageSets));
    }
    if *part == Part::PageSets { pageset_line(cursor) } else { named_line(cursor, *part) }
}

fn protection(cursor: &mut Cursor<'_>) -> Result<Vec<u64>, ParseError> {
    cursor.literal("(")?;
    let mut pages = Vec::new();
    loop {
        pages.push(cursor.number("a number of pages")?);
        if cursor.try_literal(")") {
            return cursor.end().map(|()| pages);
        }
        cursor.literal(",")?;
    }
}

fn pageset_line(cursor: &mut Cursor<'_>) -> Result<Option<Line>, ParseError> {
    if cursor.try_literal("cpu:") {
        let here = *cursor;
        let cpu =
            CpuId::try_new(cursor.last_number("a number")?).ok_or_else(|| here.error("a CPU number below 4096"))?;
        return Ok(Some(Line::Cpu(cpu)));
    }
    if cursor.try_literal("vm stats threshold:") {
        return cursor.last_number("a number").map(|value| Some(Line::Threshold(value)));
    }
    if cursor.try_literal("node_unreclaimable:") {
        return cursor.last_number("a number").map(|value| Some(Line::Unreclaimable(value)));
    }
    if cursor.try_literal("start_pfn:") {
        return cursor.last_number("a number").map(|value| Some(Line::StartPfn(value)));
    }
    let name = String::from(cursor.run(|c| !c.is_whitespace() && c != ':').unwrap_or_default());
    if !cursor.try_literal(":") {
        return Ok(None);
    }
    let before_value = cursor.rest();
    let value = cursor.last_number("a number")?;
    let blanks = before_value.len() - before_value.trim_start().len();
    let fixed = name.len() + blanks == PageSetLayout::Fixed.width();
    let layout = if fixed { PageSetLayout::Fixed } else { PageSetLayout::Tuned };
    Ok(Some(Line::PageSet(layout, name, value)))
}

fn named_line(cursor: &mut Cursor<'_>, part: Part) -> Result<Option<Line>, ParseError> {
    let name = String::from(cursor.word("a field name")?);
    if name.ends_with(':') {
        return Ok(None);
    }
    let value = cursor.last_number("a number")?;
    Ok(Some(if part == Part::Pages { Line::Pages(name, value) } else { Line::Stat(name, value) }))
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec;

    use super::*;

    const TEXT: &str = "\
Node 0, zone      DMA
  per-node stats
      nr_dirty     5
  pages free     10
        min      1
        promo    4
        protection: (0, 7)
      nr_free_pages 10
  pagesets
    cpu: 0
              count:    3
              high:     6
              batch:    1
              high_min: 2
              high_max: 9
  vm stats threshold: 4
    cpu: 2
              count:    8
              high:     6
              batch:    1
              high_min: 2
              high_max: 9
  vm stats threshold: 4
  node_unreclaimable:  1
  start_pfn:           16
Node 0, zone   Normal
  pages free     0
        min      0
        protection: (0, 0)
";

    #[test]
    fn every_part_of_a_zone_is_found_by_name() {
        let parsed = ZoneInfo::parse(TEXT).unwrap();
        assert_eq!((parsed.to_string().as_str(), parsed.nr_verbatim()), (TEXT, 0));
        let zone = parsed.zone(NodeId::ZERO, ZoneType::Dma).unwrap();
        assert_eq!(["free", "min", "promo", "high"].map(|name| zone.pages(name)), [Some(10), Some(1), Some(4), None]);
        assert_eq!(zone.protection(), Some([0, 7].as_slice()));
        assert_eq!((zone.stat("nr_free_pages"), zone.stat("nr_dirty")), (Some(10), None));
        assert_eq!((zone.node_stat("nr_dirty"), zone.node_stat("nr_free_pages")), (Some(5), None));
        assert_eq!((zone.node_unreclaimable(), zone.start_pfn()), (Some(1), Some(Pfn::new(16))));
    }

    #[test]
    fn page_sets_belong_to_their_cpus() {
        let parsed = ZoneInfo::parse(TEXT).unwrap();
        let cpu = |raw| CpuId::try_new(raw).unwrap();
        let set = PageSet { cpu: cpu(0), count: 3, high: 6, batch: 1, high_min: 2, high_max: 9, stat_threshold: 4 };
        let sets = parsed.zone(NodeId::ZERO, ZoneType::Dma).unwrap().pagesets();
        assert_eq!(sets, vec![set, PageSet { cpu: cpu(2), count: 8, ..set }]);
    }

    #[test]
    fn an_unpopulated_zone_has_sizes_only() {
        let parsed = ZoneInfo::parse(TEXT).unwrap();
        let zone = parsed.zone(NodeId::ZERO, ZoneType::Normal).unwrap();
        assert_eq!((zone.pages("free"), zone.start_pfn(), zone.pagesets().len()), (Some(0), None, 0));
        assert_eq!(parsed.zones().map(|zone| zone.zone).collect::<Vec<_>>(), [ZoneType::Dma, ZoneType::Normal]);
    }

    #[test]
    fn bad_lines_are_named() {
        let refused = |text: &str| {
            let error = ZoneInfo::parse(text).unwrap_err();
            (error.line, error.column, error.expected)
        };
        assert_eq!(refused("  pages free 1\n"), (1, 3, "Node"));
        assert_eq!(refused("Node 0, zone DMA\n  protection: (0, 1\n"), (2, 20, ","));
        assert_eq!(refused("Node 0, zone DMA\n      nr_dirty\n"), (2, 15, "a number"));
        assert_eq!(refused("Node 0, zone DMA\n  pagesets\n    cpu: 5000\n"), (3, 10, "a CPU number below 4096"));
        assert_eq!(refused("Node 0, zone DMA\n  pages free 1 2\n"), (2, 16, "the end of the line"));
    }
}
