//! The memory report (`Mem-Info:`) of allocation failures, OOM kills and sysrq-m.
//!
//! [`ShowMem`] writes it from a [`MemorySource`], which the allocator's owner implements; field sets and wording are the
//! [`Profile`]'s. The line types are public, because reports are also written and read line by line.
//! Linux 6.12: mm/show_mem.c.

use core::fmt;

use units::{MigrateType, NodeId, Order, ZoneType};

use crate::{Config, Profile, Release};

/// Where a report gets its values. Names are those of the report.
pub trait MemorySource {
    /// Returns a counter of the whole machine in pages.
    fn total(&self, name: &str) -> u64;
    /// Returns the n-th node to report, `None` behind the last.
    fn node(&self, index: usize) -> Option<NodeId>;
    /// Returns a counter of a node in kB.
    fn node_kb(&self, node: NodeId, name: &str) -> u64;
    /// Returns 1 if reclaim has given up on a node, else 0.
    fn all_unreclaimable(&self, node: NodeId) -> u64;
    /// Returns the n-th populated zone to report, `None` behind the last.
    fn zone(&self, index: usize) -> Option<(NodeId, ZoneType)>;
    /// Returns a counter of a zone in kB.
    fn zone_kb(&self, node: NodeId, zone: ZoneType, name: &str) -> u64;
    /// Returns the pages that a zone keeps from allocations that could use the `index`-th zone; `None` behind the last.
    fn lowmem_reserve(&self, node: NodeId, zone: ZoneType, index: usize) -> Option<u64>;
    /// Returns the free blocks of an order; `None` above the machine's largest order.
    fn free_blocks(&self, node: NodeId, zone: ZoneType, order: Order) -> Option<FreeBlocks>;
    /// Returns the n-th huge-page pool to report, `None` behind the last.
    fn huge_pages(&self, index: usize) -> Option<HugePages>;
    /// Returns the figures at the end of the report.
    fn summary(&self) -> Summary;
}

/// Free blocks of one order of a zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FreeBlocks {
    /// Number of blocks.
    pub nr_free: u64,
    /// Migratetypes with at least one of them.
    pub types: TypeSet,
}

/// Set of migratetypes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TypeSet(u8);

impl TypeSet {
    /// Returns the set with `migrate_type` in it.
    #[must_use]
    pub const fn with(self, migrate_type: MigrateType) -> Self {
        Self(self.0 | 1 << migrate_type.index())
    }

    /// Returns true if `migrate_type` is in the set.
    pub const fn contains(self, migrate_type: MigrateType) -> bool {
        self.0 >> migrate_type.index() & 1 == 1
    }

    /// Returns true if no type is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for TypeSet {
    /// Writes one letter a type, as in `(UME)` without the parentheses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types = MigrateType::ALL.into_iter().filter(|migrate_type| self.contains(*migrate_type));
        types.map(MigrateType::letter).try_for_each(|letter| write!(f, "{letter}"))
    }
}

/// Pool of huge pages of one size on one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HugePages {
    /// Node.
    pub node: NodeId,
    /// Pages of the pool.
    pub total: u64,
    /// Pages not in use.
    pub free: u64,
    /// Pages above the configured number.
    pub surplus: u64,
    /// Size of a page in kB.
    pub size_kb: u64,
}

impl fmt::Display for HugePages {
    /// Writes the line without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node {} hugepages_total={} hugepages_free={} ", self.node, self.total, self.free)?;
        write!(f, "hugepages_surp={} hugepages_size={}kB", self.surplus, self.size_kb)
    }
}

/// Figures at the end of a report, in pages unless named otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Page cache.
    pub pagecache: u64,
    /// Pages in the swap cache.
    pub swap_cache: u64,
    /// Free swap in kB.
    pub free_swap_kb: u64,
    /// All swap in kB.
    pub total_swap_kb: u64,
    /// Present pages.
    pub ram: u64,
    /// Present pages of HighMem and Movable zones.
    pub highmem: u64,
    /// Present pages that the allocator does not manage.
    pub reserved: u64,
    /// Pages of contiguous-memory areas; written with [`Config::CMA`].
    pub cma_reserved: u64,
    /// Pages taken out of use; written with [`Config::MEMORY_FAILURE`].
    pub hwpoisoned: u64,
}

/// How a field of a report is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FieldStyle {
    /// `name:7`
    Number,
    /// `name:7kB`
    Kb,
    /// `name: 7kB`
    SpacedKb,
    /// `name:7KB`
    CapitalKb,
    /// `name? yes`; 0 is no.
    YesNo,
}

/// A named value of a report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReportField<N> {
    /// Name.
    pub name: N,
    /// Value in the unit of the style.
    pub value: u64,
    /// Form.
    pub style: FieldStyle,
}

impl<N: AsRef<str>> fmt::Display for ReportField<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, value) = (self.name.as_ref(), self.value);
        match self.style {
            FieldStyle::Number => write!(f, "{name}:{value}"),
            FieldStyle::Kb => write!(f, "{name}:{value}kB"),
            FieldStyle::SpacedKb => write!(f, "{name}: {value}kB"),
            FieldStyle::CapitalKb => write!(f, "{name}:{value}KB"),
            FieldStyle::YesNo => write!(f, "{name}? {}", if value == 0 { "no" } else { "yes" }),
        }
    }
}

/// One order of a zone's free lists, as in `3*64kB (UM)`.
pub(crate) struct OrderEntry {
    pub(crate) blocks: FreeBlocks,
    pub(crate) block_kb: u64,
}

impl fmt::Display for OrderEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}*{}kB", self.blocks.nr_free, self.block_kb)?;
        if self.blocks.types.is_empty() { Ok(()) } else { write!(f, " ({})", self.blocks.types) }
    }
}

/// Start of a zone's lines: `Node 0 DMA32`, or the bare name where there is one node only.
pub(crate) struct ZoneName(pub(crate) Option<NodeId>, pub(crate) ZoneType);

impl fmt::Display for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |node| write!(f, "Node {node} "))?;
        f.write_str(self.1.name())
    }
}

/// The report, from `Mem-Info:` to the last figure; each line ends in a newline.
#[derive(Clone, Copy, Debug)]
pub struct ShowMem<'a, S> {
    /// Release and configuration whose field sets and wording are written.
    pub profile: Profile,
    /// Binary logarithm of the page size.
    pub page_shift: u32,
    /// Values.
    pub source: &'a S,
}

impl<S: MemorySource> fmt::Display for ShowMem<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Mem-Info:")?;
        self.fmt_totals(f)?;
        (0..).map_while(|index| self.source.node(index)).try_for_each(|node| self.fmt_node(f, node))?;
        let zones = || (0..).map_while(|index| self.source.zone(index));
        zones().try_for_each(|(node, zone)| self.fmt_zone(f, node, zone))?;
        zones().try_for_each(|(node, zone)| self.fmt_free_blocks(f, node, zone))?;
        (0..).map_while(|index| self.source.huge_pages(index)).try_for_each(|pool| writeln!(f, "{pool}"))?;
        self.fmt_summary(f)
    }
}

impl<S: MemorySource> ShowMem<'_, S> {
    fn fmt_totals(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (line, names) in self.profile.report_totals().enumerate() {
            for (column, name) in names.enumerate() {
                // Every line but the first is a continuation and starts with a blank.
                f.write_str(if line + column > 0 { " " } else { "" })?;
                write!(f, "{}", ReportField { name, value: self.source.total(name), style: FieldStyle::Number })?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn fmt_node(&self, f: &mut fmt::Formatter<'_>, node: NodeId) -> fmt::Result {
        write!(f, "Node {node}")?;
        for name in self.profile.report_node() {
            let spaced =
                self.profile.release == Release::V6_1 && matches!(name, "shmem_thp" | "shmem_pmdmapped" | "anon_thp");
            let style = if spaced { FieldStyle::SpacedKb } else { FieldStyle::Kb };
            write!(f, " {}", ReportField { name, value: self.source.node_kb(node, name), style })?;
        }
        let value = self.source.all_unreclaimable(node);
        write!(f, " {}", ReportField { name: "all_unreclaimable", value, style: FieldStyle::YesNo })?;
        if self.profile.release >= Release::V6_18 {
            let value = self.source.node_kb(node, "Balloon");
            write!(f, " {}", ReportField { name: "Balloon", value, style: FieldStyle::Kb })?;
        }
        writeln!(f)
    }

    /// Returns the zone's name as this configuration prints it.
    fn zone_name(&self, node: NodeId, zone: ZoneType) -> ZoneName {
        ZoneName(self.profile.config.contains(Config::NUMA).then_some(node), zone)
    }

    fn fmt_zone(&self, f: &mut fmt::Formatter<'_>, node: NodeId, zone: ZoneType) -> fmt::Result {
        write!(f, "{}", self.zone_name(node, zone))?;
        for name in self.profile.report_zone() {
            let style = if name.ends_with("_highatomic") { FieldStyle::CapitalKb } else { FieldStyle::Kb };
            write!(f, " {}", ReportField { name, value: self.source.zone_kb(node, zone, name), style })?;
        }
        write!(f, "\nlowmem_reserve[]:")?;
        let reserves = (0..).map_while(|index| self.source.lowmem_reserve(node, zone, index));
        reserves.into_iter().try_for_each(|pages| write!(f, " {pages}"))?;
        writeln!(f)
    }

    fn fmt_free_blocks(&self, f: &mut fmt::Formatter<'_>, node: NodeId, zone: ZoneType) -> fmt::Result {
        write!(f, "{}: ", self.zone_name(node, zone))?;
        let page_kb = 1_u64 << self.page_shift.saturating_sub(10);
        let mut total_kb = 0;
        for order in Order::ZERO.through(Order::MAX) {
            let Some(blocks) = self.source.free_blocks(node, zone, order) else { break };
            let block_kb = page_kb * order.nr_pages();
            total_kb += blocks.nr_free * block_kb;
            write!(f, "{} ", OrderEntry { blocks, block_kb })?;
        }
        writeln!(f, "= {total_kb}kB")
    }

    fn fmt_summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = self.source.summary();
        writeln!(f, "{} total pagecache pages", summary.pagecache)?;
        writeln!(f, "{} pages in swap cache", summary.swap_cache)?;
        writeln!(f, "Free swap  = {}kB", summary.free_swap_kb)?;
        writeln!(f, "Total swap = {}kB", summary.total_swap_kb)?;
        writeln!(f, "{} pages RAM", summary.ram)?;
        writeln!(f, "{} pages HighMem/MovableOnly", summary.highmem)?;
        writeln!(f, "{} pages reserved", summary.reserved)?;
        if self.profile.config.contains(Config::CMA) {
            writeln!(f, "{} pages cma reserved", summary.cma_reserved)?;
        }
        if self.profile.config.contains(Config::MEMORY_FAILURE) {
            writeln!(f, "{} pages hwpoisoned", summary.hwpoisoned)?;
        }
        Ok(())
    }
}
