//! Lines of a memory report.

use std::fmt;
use std::string::String;
use std::vec::Vec;

use units::{MigrateType, NodeId, Order, ZoneType};

use super::Trigger;
use crate::parse::{Cursor, ParseError};
use crate::show_mem::{FieldStyle, FreeBlocks, HugePages, OrderEntry, ReportField, TypeSet, ZoneName};

/// A field with its own name.
pub(super) type Field = ReportField<String>;

/// A line that was understood, and what stood before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LogLine {
    pub(super) prefix: String,
    pub(super) body: Body,
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.prefix, self.body)
    }
}

/// The kernel's words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Body {
    Trigger(Trigger),
    MemInfo,
    /// Counters of the whole machine, one of several lines.
    Totals(Vec<Field>),
    Node(NodeId, Vec<Field>),
    Zone(Option<NodeId>, ZoneType, Vec<Field>),
    LowmemReserve(Vec<u64>),
    FreeBlocks(FreeLine),
    HugePages(HugePages),
    /// `N pages RAM` and the like.
    Count(u64, String),
    /// `Free swap  = NkB` and `Total swap = NkB`.
    Swap(&'static str, u64),
}

/// Free blocks of a zone by order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FreeLine {
    pub(super) node: Option<NodeId>,
    pub(super) zone: ZoneType,
    pub(super) page_kb: u64,
    pub(super) orders: Vec<FreeBlocks>,
    pub(super) total_kb: u64,
}

impl fmt::Display for FreeLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", ZoneName(self.node, self.zone))?;
        for (order, blocks) in self.orders.iter().enumerate() {
            write!(f, "{} ", OrderEntry { blocks: *blocks, block_kb: self.page_kb << order })?;
        }
        write!(f, "= {}kB", self.total_kb)
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trigger(trigger) => trigger.fmt(f),
            Self::MemInfo => f.write_str("Mem-Info:"),
            Self::Totals(fields) => fmt_fields(f, "", fields),
            Self::Node(node, fields) => {
                write!(f, "Node {node}")?;
                fmt_fields(f, " ", fields)
            }
            Self::Zone(node, zone, fields) => {
                ZoneName(*node, *zone).fmt(f)?;
                fmt_fields(f, " ", fields)
            }
            Self::LowmemReserve(pages) => {
                f.write_str("lowmem_reserve[]:")?;
                pages.iter().try_for_each(|pages| write!(f, " {pages}"))
            }
            Self::FreeBlocks(line) => line.fmt(f),
            Self::HugePages(pool) => pool.fmt(f),
            Self::Count(value, what) => write!(f, "{value} {what}"),
            Self::Swap(name, value) => write!(f, "{name:<10} = {value}kB"),
        }
    }
}

fn fmt_fields(f: &mut fmt::Formatter<'_>, mut separator: &str, fields: &[Field]) -> fmt::Result {
    for field in fields {
        write!(f, "{separator}{field}")?;
        separator = " ";
    }
    Ok(())
}

/// Names that start a line of totals.
const TOTALS: [&str; 12] = [
    "active_anon:",
    "active_file:",
    "inactive_file:",
    "unevictable:",
    "slab_reclaimable:",
    "mapped:",
    "sec_pagetables:",
    "bounce:",
    "kernel_misc_reclaimable:",
    "free:",
    "free_pcp:",
    "free_cma:",
];

/// Reads the words of a line inside a report; `None` if the line is no part of one.
pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Option<Body>, ParseError> {
    let text = cursor.rest().trim_start();
    if is_wrapped_rest(text) {
        return Err(cursor.error("the start of a report's line; this looks like the wrapped rest of one"));
    }
    if TOTALS.iter().any(|name| text.starts_with(name)) {
        return fields(cursor).map(|fields| Some(Body::Totals(fields)));
    }
    if cursor.try_literal("lowmem_reserve[]:") {
        return numbers(cursor).map(|pages| Some(Body::LowmemReserve(pages)));
    }
    for name in ["Free swap", "Total swap"] {
        if cursor.try_literal(name) {
            cursor.literal("=")?;
            let value = cursor.number("an amount of swap")?;
            cursor.literal("kB")?;
            return cursor.end().map(|()| Some(Body::Swap(name, value)));
        }
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(count(cursor));
    }
    let start = *cursor;
    let node = if cursor.try_literal("Node ") { Some(cursor.node()?) } else { None };
    if let Some(node) = node {
        if cursor.try_literal("hugepages_total=") {
            return huge_pages(cursor, node).map(|pool| Some(Body::HugePages(pool)));
        }
        if cursor.rest().trim_start().starts_with("active_anon:") {
            return fields(cursor).map(|fields| Some(Body::Node(node, fields)));
        }
    }
    let Ok(zone) = cursor.zone() else {
        // `Node 0` alone is half of a line that another CPU's output cut in two.
        return if node.is_some() {
            Err(start.error("a node's counters, a zone or a huge-page pool"))
        } else {
            Ok(None)
        };
    };
    if cursor.try_literal(":") {
        return free_line(cursor, node, zone).map(|line| Some(Body::FreeBlocks(line)));
    }
    if cursor.rest().trim_start().starts_with("free:") {
        return fields(cursor).map(|fields| Some(Body::Zone(node, zone, fields)));
    }
    Ok(None)
}

/// Returns true for text that starts with an amount of a node's, a zone's or a free list's line.
fn is_wrapped_rest(text: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or("");
    first == "=" || first.ends_with("kB") && first.contains([':', '*'])
}

fn fields(cursor: &mut Cursor<'_>) -> Result<Vec<Field>, ParseError> {
    let mut fields = Vec::new();
    loop {
        // System loggers write a newline inside a message as an escape.
        while cursor.try_literal("#012") || cursor.try_literal("\\x0a") {}
        if cursor.at_end() {
            return Ok(fields);
        }
        fields.push(field(cursor)?);
    }
}

fn field(cursor: &mut Cursor<'_>) -> Result<Field, ParseError> {
    let here = *cursor;
    let name = cursor.run(|c| c.is_ascii_alphanumeric() || "_()".contains(c));
    let name = String::from(name.ok_or_else(|| here.error("a field name"))?);
    if cursor.try_literal("?") {
        let answer = cursor.word("yes or no")?;
        let value = match answer {
            "no" => 0,
            "yes" => 1,
            _ => return Err(here.error("a field with the answer yes or no")),
        };
        return Ok(Field { name, value, style: FieldStyle::YesNo });
    }
    cursor.literal(":")?;
    let spaced = cursor.rest().starts_with(' ');
    let value = cursor.number("a number")?;
    let style = match cursor.rest().get(..2) {
        Some("kB") if spaced => FieldStyle::SpacedKb,
        Some("kB") => FieldStyle::Kb,
        Some("KB") => FieldStyle::CapitalKb,
        _ => return Ok(Field { name, value, style: FieldStyle::Number }),
    };
    cursor.try_literal("kB");
    cursor.try_literal("KB");
    Ok(Field { name, value, style })
}

fn numbers(cursor: &mut Cursor<'_>) -> Result<Vec<u64>, ParseError> {
    let mut numbers = Vec::new();
    while !cursor.at_end() {
        numbers.push(cursor.number("a number of pages")?);
    }
    Ok(numbers)
}

/// Reads `N pages RAM` and the like.
pub(super) fn count(cursor: &mut Cursor<'_>) -> Option<Body> {
    let value = cursor.number("a number of pages").ok()?;
    let what = cursor.rest().trim();
    let known = what == "total pagecache pages" || what.starts_with("pages ");
    known.then(|| Body::Count(value, what.into()))
}

fn huge_pages(cursor: &mut Cursor<'_>, node: NodeId) -> Result<HugePages, ParseError> {
    const EXPECTED: &str = "a number of huge pages";
    let total = cursor.number(EXPECTED)?;
    cursor.literal("hugepages_free=")?;
    let free = cursor.number(EXPECTED)?;
    cursor.literal("hugepages_surp=")?;
    let surplus = cursor.number(EXPECTED)?;
    cursor.literal("hugepages_size=")?;
    let size_kb = cursor.number("the size of a huge page")?;
    cursor.literal("kB")?;
    cursor.end().map(|()| HugePages { node, total, free, surplus, size_kb })
}

fn free_line(cursor: &mut Cursor<'_>, node: Option<NodeId>, zone: ZoneType) -> Result<FreeLine, ParseError> {
    /// Orders of the largest configuration: 17, on ia64 before it was removed.
    const LIMIT: usize = 17;
    let mut orders = Vec::new();
    let mut page_kb = 0;
    while !cursor.try_literal("=") {
        let here = *cursor;
        let nr_free = cursor.number("a count of free blocks, or `=`")?;
        cursor.literal("*")?;
        let block_kb = cursor.number("the size of a block")?;
        cursor.literal("kB")?;
        if orders.is_empty() {
            page_kb = block_kb;
        }
        let shift = u32::try_from(orders.len()).unwrap_or(u32::MAX);
        if orders.len() == LIMIT || page_kb.checked_shl(shift) != Some(block_kb) || block_kb >> shift != page_kb {
            return Err(here.error("blocks of twice the size before, in 17 orders at most"));
        }
        orders.push(FreeBlocks { nr_free, types: types(cursor)? });
    }
    let total_kb = cursor.number("the sum of the blocks")?;
    cursor.literal("kB")?;
    cursor.end().map(|()| FreeLine { node, zone, page_kb, orders, total_kb })
}

/// Takes `(UME)` if it is there. Letters of types that are gone (`R`, reserve, before 4.4) are passed over.
fn types(cursor: &mut Cursor<'_>) -> Result<TypeSet, ParseError> {
    let mut types = TypeSet::default();
    if !cursor.try_literal("(") {
        return Ok(types);
    }
    let letters = cursor.run(|c| c.is_ascii_uppercase()).ok_or_else(|| cursor.error("letters of migratetypes"))?;
    for letter in letters.chars() {
        let known = MigrateType::ALL.into_iter().find(|migrate_type| migrate_type.letter() == letter);
        types = known.map_or(types, |migrate_type| types.with(migrate_type));
    }
    cursor.literal(")").map(|()| types)
}

impl FreeLine {
    /// Returns the blocks of an order.
    pub(super) fn order(&self, order: Order) -> Option<FreeBlocks> {
        self.orders.get(order.index()).copied()
    }
}
