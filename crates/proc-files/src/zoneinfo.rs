//! /proc/zoneinfo: watermarks, sizes, counters and per-CPU page sets of every zone.
//!
//! Written by whoever walks the zones, one [`ZoneInfo`] a zone, unpopulated ones included. Which counters appear is the
//! [`Profile`]'s choice; their values come from the caller by name. The parser prints through the line types below.
//! Linux 6.12: mm/vmstat.c (`zoneinfo_show_print`).

use core::fmt;

use units::{CpuId, NodeId, Pfn, ZoneType};

use crate::{Counters, Profile};

/// One zone.
#[derive(Clone, Copy)]
pub struct ZoneInfo<'a> {
    /// Release and configuration whose field set is written.
    pub profile: Profile,
    /// Node of the zone.
    pub node: NodeId,
    /// Kind of the zone.
    pub zone: ZoneType,
    /// Counters of the whole node; given with the node's first populated zone only.
    pub node_stats: Option<Counters<'a>>,
    /// Free pages, watermarks and sizes.
    pub pages: ZonePages,
    /// Pages kept from allocations that could use a higher zone, indexed by that zone (Linux: lowmem_reserve).
    pub protection: &'a [u64],
    /// What only a zone with managed memory has.
    pub populated: Option<PopulatedZone<'a>>,
}

/// Sizes of a zone in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ZonePages {
    /// Free pages.
    pub free: u64,
    /// Temporary boost, which the three watermarks below include.
    pub boost: u64,
    /// Min watermark.
    pub min: u64,
    /// Low watermark.
    pub low: u64,
    /// High watermark.
    pub high: u64,
    /// Promotion watermark; written from 6.12 on.
    pub promo: u64,
    /// Pages from first to last, holes included.
    pub spanned: u64,
    /// Pages that exist.
    pub present: u64,
    /// Pages that the allocator was given.
    pub managed: u64,
    /// Pages in contiguous-memory areas.
    pub cma: u64,
}

/// Part of a zone's text that an unpopulated zone lacks.
#[derive(Clone, Copy)]
pub struct PopulatedZone<'a> {
    /// Counters of the zone, NUMA events included.
    pub stats: Counters<'a>,
    /// Page set of the n-th online CPU, `None` behind the last.
    pub pagesets: &'a dyn Fn(usize) -> Option<PageSet>,
    /// 1 if reclaim has given up on the node, else 0.
    pub node_unreclaimable: u32,
    /// First frame of the zone.
    pub start_pfn: Pfn,
}

/// Per-CPU page set of a zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PageSet {
    /// CPU that the set belongs to.
    pub cpu: CpuId,
    /// Pages in the lists.
    pub count: u64,
    /// Pages above which the lists are drained.
    pub high: u64,
    /// Pages moved at once.
    pub batch: u64,
    /// Lower bound of the tuned `high`; written from 6.13 on.
    pub high_min: u64,
    /// Upper bound of the tuned `high`; written from 6.13 on.
    pub high_max: u64,
    /// Change of a counter that a CPU keeps to itself before it is added to the zone's.
    pub stat_threshold: u64,
}

impl fmt::Display for ZoneInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |line: BorrowedLine<'_>| writeln!(f, "{line}");
        line(ZoneLine::Heading(self.node, self.zone))?;
        if let Some(node_stats) = self.node_stats {
            line(ZoneLine::PerNodeStats)?;
            self.profile.node_stats().try_for_each(|name| line(ZoneLine::Stat(name, node_stats(name))))?;
        }
        self.pages.lines(self.profile, &mut line)?;
        line(ZoneLine::Protection(self.protection))?;
        let Some(populated) = self.populated else { return Ok(()) };
        self.profile.zone_stats().try_for_each(|name| line(ZoneLine::Stat(name, (populated.stats)(name))))?;
        line(ZoneLine::PageSets)?;
        for pageset in (0..).map_while(populated.pagesets) {
            pageset.lines(self.profile.pageset_layout(), &mut line)?;
        }
        line(ZoneLine::Unreclaimable(u64::from(populated.node_unreclaimable)))?;
        line(ZoneLine::StartPfn(populated.start_pfn.raw()))
    }
}

impl ZonePages {
    fn lines(&self, profile: Profile, line: &mut dyn FnMut(BorrowedLine<'_>) -> fmt::Result) -> fmt::Result {
        line(ZoneLine::PagesFree(self.free))?;
        let watermarks = [("boost", self.boost), ("min", self.min), ("low", self.low), ("high", self.high)];
        let promo = profile.prints_promo().then_some(("promo", self.promo));
        let sizes =
            [("spanned", self.spanned), ("present", self.present), ("managed", self.managed), ("cma", self.cma)];
        watermarks
            .into_iter()
            .chain(promo)
            .chain(sizes)
            .try_for_each(|(name, value)| line(ZoneLine::Pages(name, value)))
    }
}

impl PageSet {
    fn lines(&self, layout: PageSetLayout, line: &mut dyn FnMut(BorrowedLine<'_>) -> fmt::Result) -> fmt::Result {
        line(ZoneLine::Cpu(self.cpu))?;
        let fixed = [("count", self.count), ("high", self.high), ("batch", self.batch)];
        let tuned = [("high_min", self.high_min), ("high_max", self.high_max)];
        let tuned = tuned.into_iter().filter(|_| layout == PageSetLayout::Tuned);
        fixed.into_iter().chain(tuned).try_for_each(|(name, value)| line(ZoneLine::PageSet(layout, name, value)))?;
        line(ZoneLine::Threshold(self.stat_threshold))
    }
}

/// Columns of the page-set lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PageSetLayout {
    /// Three lines, values in the column behind `count: ` (up to 6.12).
    Fixed,
    /// Five lines, values in the column behind `high_min: ` (from 6.13).
    Tuned,
}

impl PageSetLayout {
    /// Width of a name with its colon.
    pub(crate) const fn width(self) -> usize {
        match self {
            Self::Fixed => "count:".len(),
            Self::Tuned => "high_min:".len(),
        }
    }
}

/// Any line of the file; `N` holds a name, `L` a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ZoneLine<N, L> {
    Heading(NodeId, ZoneType),
    PerNodeStats,
    PagesFree(u64),
    Pages(N, u64),
    Protection(L),
    Stat(N, u64),
    PageSets,
    Cpu(CpuId),
    PageSet(PageSetLayout, N, u64),
    Threshold(u64),
    Unreclaimable(u64),
    StartPfn(u64),
}

type BorrowedLine<'a> = ZoneLine<&'a str, &'a [u64]>;

impl<N: AsRef<str>, L: AsRef<[u64]>> fmt::Display for ZoneLine<N, L> {
    /// Writes the line without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heading(node, zone) => write!(f, "Node {node}, zone {:>8}", zone.name()),
            Self::PerNodeStats => f.write_str("  per-node stats"),
            Self::PagesFree(value) => write!(f, "  pages free     {value}"),
            Self::Pages(name, value) => write!(f, "        {:<8} {value}", name.as_ref()),
            Self::Protection(pages) => fmt_protection(f, pages.as_ref()),
            Self::Stat(name, value) => write!(f, "      {:<12} {value}", name.as_ref()),
            Self::PageSets => f.write_str("  pagesets"),
            Self::Cpu(cpu) => write!(f, "    cpu: {cpu}"),
            Self::PageSet(layout, name, value) => {
                let gap = layout.width().saturating_sub(name.as_ref().len());
                write!(f, "              {}{:<gap$} {value}", name.as_ref(), ":")
            }
            Self::Threshold(value) => write!(f, "  vm stats threshold: {value}"),
            Self::Unreclaimable(value) => write!(f, "  node_unreclaimable:  {value}"),
            Self::StartPfn(pfn) => write!(f, "  start_pfn:           {pfn}"),
        }
    }
}

fn fmt_protection(f: &mut fmt::Formatter<'_>, pages: &[u64]) -> fmt::Result {
    f.write_str("        protection: (")?;
    for (index, value) in pages.iter().enumerate() {
        f.write_str(if index == 0 { "" } else { ", " })?;
        write!(f, "{value}")?;
    }
    f.write_str(")")
}
