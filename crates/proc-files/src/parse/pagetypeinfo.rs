//! Parser of /proc/pagetypeinfo.

use std::fmt;
use std::string::String;
use std::vec::Vec;

use units::{MigrateType, NodeId, Order, ZoneType};

use super::{Cursor, Lines, ParseError};
use crate::pagetypeinfo::{BlockOrder, BlocksRow, FreeCount, FreeRow, OrderHeading, PagesPerBlock, TypeHeading};

/// A parsed /proc/pagetypeinfo, whose nodes follow each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageTypeInfo {
    lines: Lines<Line>,
}

/// Any line of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Line {
    BlockOrder(u64),
    PagesPerBlock(u64),
    Empty,
    Orders(Order),
    Free(FreeRow<Vec<FreeCount>>),
    Types(Vec<MigrateType>),
    Blocks(BlocksRow<Vec<u64>>),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BlockOrder(order) => BlockOrder(*order).fmt(f),
            Self::PagesPerBlock(pages) => PagesPerBlock(*pages).fmt(f),
            Self::Empty => Ok(()),
            Self::Orders(last) => OrderHeading(*last).fmt(f),
            Self::Free(row) => row.fmt(f),
            Self::Types(types) => TypeHeading(types).fmt(f),
            Self::Blocks(row) => row.fmt(f),
        }
    }
}

impl PageTypeInfo {
    /// Reads the file's text.
    ///
    /// A migratetype that is not among [`MigrateType`]'s (`Reserve`, before 4.4) is kept in place but not counted.
    ///
    /// # Errors
    /// At a line that is none of the file's kinds, or whose counts are not numbers.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut heading = BlocksTable::None;
        let lines = Lines::parse(text, |cursor| line(cursor, &mut heading))?;
        Ok(Self { lines })
    }

    /// Returns the order of a pageblock, if the file says it.
    pub fn pageblock_order(&self) -> Option<u64> {
        self.lines.items().find_map(|line| match line {
            Line::BlockOrder(order) => Some(*order),
            _ => None,
        })
    }

    /// Iterates over the free lists of each zone and migratetype.
    pub fn free(&self) -> impl Iterator<Item = &FreeRow<Vec<FreeCount>>> {
        self.lines.items().filter_map(|line| match line {
            Line::Free(row) => Some(row),
            _ => None,
        })
    }

    /// Returns the free blocks of one migratetype of a zone by order.
    pub fn nr_free(&self, node: NodeId, zone: ZoneType, migrate_type: MigrateType) -> Option<&[FreeCount]> {
        let wanted = (node, zone, migrate_type);
        self.free().find(|row| (row.node, row.zone, row.migrate_type) == wanted).map(|row| row.nr_free.as_slice())
    }

    /// Returns the number of pageblocks of each migratetype in a zone.
    pub fn nr_blocks(&self, node: NodeId, zone: ZoneType) -> impl Iterator<Item = (MigrateType, u64)> {
        let mut types: &[MigrateType] = &[];
        let found = self.lines.items().find_map(|line| match line {
            Line::Types(heading) => {
                types = heading;
                None
            }
            Line::Blocks(row) if (row.node, row.zone) == (node, zone) => Some(row.nr_blocks.as_slice()),
            _ => None,
        });
        types.iter().copied().zip(found.unwrap_or_default().iter().copied())
    }

    /// Returns the number of lines that are not in the kernel's form.
    pub fn nr_verbatim(&self) -> usize {
        self.lines.nr_verbatim()
    }
}

/// Table of pageblocks that the rows at hand belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BlocksTable {
    None,
    /// Pageblocks by migratetype.
    Types,
    /// A table of another kind or with unknown columns, such as the mixed blocks of page owner.
    Unknown,
}

fn line(cursor: &mut Cursor<'_>, table: &mut BlocksTable) -> Result<Option<Line>, ParseError> {
    if cursor.at_end() {
        return Ok(Some(Line::Empty));
    }
    if cursor.try_literal("Page block order:") {
        let order = cursor.number("the order of a pageblock")?;
        return cursor.end().map(|()| Some(Line::BlockOrder(order)));
    }
    if cursor.try_literal("Pages per block:") {
        let pages = cursor.number("the pages of a pageblock")?;
        return cursor.end().map(|()| Some(Line::PagesPerBlock(pages)));
    }
    if cursor.try_literal("Free pages count per migrate type at order") {
        return orders(cursor).map(|last| Some(Line::Orders(last)));
    }
    if cursor.try_literal("Number of blocks type") {
        let types = types(cursor);
        *table = if types.is_some() { BlocksTable::Types } else { BlocksTable::Unknown };
        return Ok(types.map(Line::Types));
    }
    if cursor.try_literal("Number of mixed blocks") {
        *table = BlocksTable::Unknown;
        return Ok(None);
    }
    let (node, zone) = cursor.node_and_zone()?;
    if cursor.try_literal(",") { free_row(cursor, node, zone) } else { blocks_row(cursor, *table, node, zone) }
}

fn orders(cursor: &mut Cursor<'_>) -> Result<Order, ParseError> {
    let mut next = 0;
    while !cursor.at_end() {
        let here = *cursor;
        if cursor.number("an order")? != next {
            return Err(here.error("the orders from 0 up, without a gap"));
        }
        next += 1;
    }
    let last = next.checked_sub(1).and_then(|last| Order::try_new(last).ok());
    last.ok_or_else(|| cursor.error("1 to 14 orders"))
}

fn types(cursor: &mut Cursor<'_>) -> Option<Vec<MigrateType>> {
    let mut types = Vec::new();
    while !cursor.at_end() {
        types.push(migrate_type(cursor.word("a migratetype").ok()?)?);
    }
    Some(types)
}

fn migrate_type(name: &str) -> Option<MigrateType> {
    MigrateType::ALL.into_iter().find(|migrate_type| migrate_type.name() == name)
}

fn free_row(cursor: &mut Cursor<'_>, node: NodeId, zone: ZoneType) -> Result<Option<Line>, ParseError> {
    cursor.literal("type")?;
    let name = String::from(cursor.word("a migratetype")?);
    let mut nr_free = Vec::new();
    while !cursor.at_end() {
        if nr_free.len() == Order::COUNT {
            return Err(cursor.error("no more than 14 counts"));
        }
        let stopped = cursor.try_literal(">");
        let count = cursor.number("a count of free blocks")?;
        nr_free.push(if stopped { FreeCount::Stopped(count) } else { FreeCount::Exact(count) });
    }
    if nr_free.is_empty() {
        return Err(cursor.error("a count of free blocks"));
    }
    Ok(migrate_type(&name).map(|migrate_type| Line::Free(FreeRow { node, zone, migrate_type, nr_free })))
}

fn blocks_row(
    cursor: &mut Cursor<'_>,
    table: BlocksTable,
    node: NodeId,
    zone: ZoneType,
) -> Result<Option<Line>, ParseError> {
    let mut nr_blocks = Vec::new();
    while !cursor.at_end() {
        nr_blocks.push(cursor.number("a count of pageblocks")?);
    }
    match table {
        BlocksTable::None => Err(cursor.error("`Number of blocks type` before the first counts of pageblocks")),
        BlocksTable::Unknown => Ok(None),
        BlocksTable::Types => Ok(Some(Line::Blocks(BlocksRow { node, zone, nr_blocks }))),
    }
}

impl fmt::Display for PageTypeInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    const TEXT: &str = "Page block order: 9\nPages per block:  512\n\n\
        Free pages count per migrate type at order       0      1 \n\
        Node    0, zone   Normal, type    Unmovable      4 >100000 \n\
        Node    0, zone   Normal, type      Reserve      1      1 \n\
        \nNumber of blocks type     Unmovable      Movable \n\
        Node 0, zone   Normal           10           11 \n\
        \nNumber of mixed blocks    Unmovable      Movable \n\
        Node 0, zone   Normal            3            4 \n";

    #[test]
    fn lists_and_blocks_are_found_by_type() {
        let parsed = PageTypeInfo::parse(TEXT).unwrap();
        assert_eq!(parsed.pageblock_order(), Some(9));
        let lists = parsed.nr_free(NodeId::ZERO, ZoneType::Normal, MigrateType::Unmovable).unwrap();
        assert_eq!(lists, [FreeCount::Exact(4), FreeCount::Stopped(100_000)]);
        assert_eq!(lists[1].at_least(), 100_000);
        let blocks: Vec<_> = parsed.nr_blocks(NodeId::ZERO, ZoneType::Normal).collect();
        assert_eq!(blocks, [(MigrateType::Unmovable, 10), (MigrateType::Movable, 11)]);
        assert_eq!(parsed.nr_blocks(NodeId::ZERO, ZoneType::Dma).count(), 0);
    }

    #[test]
    fn unknown_types_and_tables_stay_in_place() {
        let parsed = PageTypeInfo::parse(TEXT).unwrap();
        assert_eq!(parsed.to_string(), TEXT);
        // The reserve, and the heading and the row of mixed blocks.
        assert_eq!((parsed.nr_verbatim(), parsed.free().count()), (3, 1));
    }

    #[test]
    fn what_cannot_be_right_is_refused() {
        let refused = |text: &str| PageTypeInfo::parse(text).unwrap_err();
        assert!(refused("Node 0, zone DMA 1 2\n").expected.contains("before the first counts"));
        assert!(refused("Free pages count per migrate type at order 0 2\n").expected.contains("without a gap"));
        assert_eq!(refused("Page block order: nine\n").column, 19);
        assert_eq!(refused("Node 0, zone DMA, type Movable\n").expected, "a count of free blocks");
        assert_eq!(refused("nonsense\n").expected, "Node");
    }
}
