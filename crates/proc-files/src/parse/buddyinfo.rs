//! Parser of /proc/buddyinfo.

use std::fmt;
use std::vec::Vec;

use units::{NodeId, Order, ZoneType};

use super::{Cursor, Lines, ParseError};
use crate::buddyinfo::FreeBlocks;

/// A parsed /proc/buddyinfo.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BuddyInfo {
    lines: Lines<FreeBlocks<Vec<u64>>>,
}

impl BuddyInfo {
    /// Reads the file's text.
    ///
    /// # Errors
    /// At a line that is not `Node N, zone NAME` with one count an order, at most [`Order::COUNT`].
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let lines = Lines::parse(text, |cursor| {
            let empty = cursor.at_end();
            if empty { Ok(None) } else { row(cursor).map(Some) }
        })?;
        Ok(Self { lines })
    }

    /// Iterates over the zones in the order of the file.
    pub fn zones(&self) -> impl Iterator<Item = &FreeBlocks<Vec<u64>>> {
        self.lines.items()
    }

    /// Returns the free blocks of a zone by order; `None` if the file has no such zone.
    pub fn nr_free(&self, node: NodeId, zone: ZoneType) -> Option<&[u64]> {
        self.zones().find(|row| (row.node, row.zone) == (node, zone)).map(|row| row.nr_free.as_slice())
    }

    /// Returns the number of lines that are not in the kernel's form.
    pub fn nr_verbatim(&self) -> usize {
        self.lines.nr_verbatim()
    }
}

fn row(cursor: &mut Cursor<'_>) -> Result<FreeBlocks<Vec<u64>>, ParseError> {
    let (node, zone) = cursor.node_and_zone()?;
    let mut nr_free = Vec::new();
    while !cursor.at_end() {
        if nr_free.len() == Order::COUNT {
            return Err(cursor.error("no more than 14 counts"));
        }
        nr_free.push(cursor.number("a count of free blocks")?);
    }
    if nr_free.is_empty() {
        return Err(cursor.error("a count of free blocks"));
    }
    Ok(FreeBlocks { node, zone, nr_free })
}

impl fmt::Display for BuddyInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_by_node_and_zone() {
        let parsed = BuddyInfo::parse("Node 0, zone   Normal      1      2 \nNode 3, zone  Movable      7 \n").unwrap();
        let three = NodeId::try_new(3).unwrap();
        assert_eq!(parsed.nr_free(NodeId::ZERO, ZoneType::Normal), Some([1, 2].as_slice()));
        assert_eq!(parsed.nr_free(three, ZoneType::Movable), Some([7].as_slice()));
        assert_eq!(parsed.nr_free(three, ZoneType::Normal), None);
    }

    #[test]
    fn a_zone_has_one_to_fourteen_orders() {
        let fourteen = "Node 0, zone DMA 0 1 2 3 4 5 6 7 8 9 10 11 12 13";
        assert!(BuddyInfo::parse(fourteen).is_ok());
        let error = BuddyInfo::parse(&std::format!("{fourteen} 14")).unwrap_err();
        assert_eq!((error.column, error.expected), (fourteen.len() + 2, "no more than 14 counts"));
        assert_eq!(BuddyInfo::parse("Node 0, zone DMA ").unwrap_err().expected, "a count of free blocks");
    }
}
