//! Memory reports inside a kernel log.
//!
//! A log is read whole and prints back whole; the reports in it are read line by line, so that foreign lines between them
//! (another CPU's output) cost nothing but themselves. Read: 4.x to 6.19, with the prefixes of dmesg, syslog and mail.
//! Lines that a mailer wrapped are not joined; [`Log::problems`] names them.

use std::convert::Infallible;
use std::fmt;
use std::string::String;
use std::vec::Vec;

use units::{NodeId, Order, ZoneType};

use super::{Cursor, Lines, ParseError};
use crate::show_mem::{FreeBlocks, HugePages};
use line::{Body, Field, FreeLine, LogLine};

mod line;
mod prefix;
mod trigger;

pub use trigger::{Trigger, TriggerKind};

/// A kernel log with the memory reports in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    lines: Lines<LogLine>,
    problems: Vec<ParseError>,
}

impl Log {
    /// Reads a log. There is no text that this refuses: what it cannot read is kept, and named if it is in a report.
    pub fn parse(text: &str) -> Self {
        let mut problems = Vec::new();
        let mut place = Place::Outside;
        let read = |cursor: &mut Cursor<'_>| Ok::<_, Infallible>(log_line(cursor, &mut place, &mut problems));
        let Ok(lines) = Lines::parse(text, read);
        Self { lines, problems }
    }

    /// Returns the lines that look like part of a report but could not be read, in the order of the log.
    pub fn problems(&self) -> &[ParseError] {
        &self.problems
    }

    /// Iterates over the reports, each with the trigger before it, if the log has one.
    pub fn reports(&self) -> impl Iterator<Item = MemInfoReport<'_>> {
        let mut reports: Vec<MemInfoReport<'_>> = Vec::new();
        let mut trigger = None;
        for (number, line) in self.lines.numbered() {
            let Some(line) = line else { continue };
            match &line.body {
                Body::Trigger(found) => trigger = Some(found),
                Body::MemInfo => {
                    reports.push(MemInfoReport { line: number, trigger: trigger.take(), bodies: Vec::new() });
                }
                body => {
                    if let Some(report) = reports.last_mut() {
                        report.bodies.push(body);
                    }
                }
            }
        }
        reports.into_iter()
    }

    /// Returns the number of lines that are foreign or not in the kernel's form.
    pub fn nr_verbatim(&self) -> usize {
        self.lines.nr_verbatim()
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.fmt(f)
    }
}

/// Where in a log the reader is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first report, or between a trigger and its report.
    Outside,
    /// In a report.
    Inside,
    /// Behind `pages RAM`: a few counts may follow, but nothing else, so that `DMA: preallocated 1024 KiB` of a driver is
    /// no damaged list of free blocks.
    Tail,
}

fn log_line(cursor: &mut Cursor<'_>, place: &mut Place, problems: &mut Vec<ParseError>) -> Option<LogLine> {
    let (prefix, text) = prefix::split_prefix(cursor.rest());
    let prefix = String::from(prefix);
    if let Some(trigger) = Trigger::read(text) {
        *place = Place::Outside;
        return Some(LogLine { prefix, body: Body::Trigger(trigger) });
    }
    if text.trim_end() == "Mem-Info:" || text.trim_end() == "Mem-info:" {
        *place = Place::Inside;
        return Some(LogLine { prefix, body: Body::MemInfo });
    }
    if !cursor.skip(prefix.len()) {
        return None;
    }
    let body = match place {
        Place::Outside => return None,
        Place::Inside => line::read(cursor).unwrap_or_else(|error| {
            problems.push(error);
            None
        }),
        Place::Tail => line::count(cursor),
    };
    if let Some(Body::Count(_, words)) = &body
        && words == "pages RAM"
    {
        *place = Place::Tail;
    }
    body.map(|body| LogLine { prefix, body })
}

/// One report of a log.
#[derive(Clone, Debug)]
pub struct MemInfoReport<'a> {
    /// Line of the log that says `Mem-Info:`.
    pub line: usize,
    /// What happened, if the log says it.
    pub trigger: Option<&'a Trigger>,
    bodies: Vec<&'a Body>,
}

impl<'a> MemInfoReport<'a> {
    /// Returns a counter of the whole machine in pages.
    pub fn total(&self, name: &str) -> Option<u64> {
        self.bodies.iter().find_map(|body| match body {
            Body::Totals(fields) => value(fields, name),
            _ => None,
        })
    }

    /// Iterates over the nodes, from 4.8 on.
    pub fn nodes(&self) -> impl Iterator<Item = ReportNode<'a>> {
        self.bodies.iter().filter_map(|body| match body {
            Body::Node(node, fields) => Some(ReportNode { node: *node, fields }),
            _ => None,
        })
    }

    /// Returns the zones in the order of the report.
    pub fn zones(&self) -> Vec<ReportZone<'a>> {
        let mut zones: Vec<ReportZone<'a>> = Vec::new();
        for body in &self.bodies {
            match body {
                Body::Zone(node, zone, fields) => {
                    zones.push(ReportZone { node: *node, zone: *zone, fields, lowmem_reserve: &[], free: None });
                }
                Body::LowmemReserve(pages) => {
                    if let Some(zone) = zones.last_mut() {
                        zone.lowmem_reserve = pages;
                    }
                }
                Body::FreeBlocks(line) => {
                    let zone = zones.iter_mut().find(|zone| (zone.node, zone.zone) == (line.node, line.zone));
                    if let Some(zone) = zone {
                        zone.free = Some(line);
                    }
                }
                _ => {}
            }
        }
        zones
    }

    /// Iterates over the huge-page pools.
    pub fn huge_pages(&self) -> impl Iterator<Item = HugePages> {
        self.bodies.iter().filter_map(|body| match body {
            Body::HugePages(pool) => Some(*pool),
            _ => None,
        })
    }

    /// Returns a figure of the end by the words behind it, such as `pages RAM`.
    pub fn count(&self, what: &str) -> Option<u64> {
        self.bodies.iter().find_map(|body| match body {
            Body::Count(value, words) if words == what => Some(*value),
            _ => None,
        })
    }

    /// Returns `Free swap` or `Total swap` in kB.
    pub fn swap_kb(&self, what: &str) -> Option<u64> {
        self.bodies.iter().find_map(|body| match body {
            Body::Swap(name, value) if *name == what => Some(*value),
            _ => None,
        })
    }
}

fn value(fields: &[Field], name: &str) -> Option<u64> {
    fields.iter().find(|field| field.name == name).map(|field| field.value)
}

/// A node of a report.
#[derive(Clone, Copy, Debug)]
pub struct ReportNode<'a> {
    /// Node.
    pub node: NodeId,
    fields: &'a [Field],
}

impl ReportNode<'_> {
    /// Returns a field in kB; `all_unreclaimable` is 1 for yes.
    pub fn field(&self, name: &str) -> Option<u64> {
        value(self.fields, name)
    }
}

/// A zone of a report.
#[derive(Clone, Copy, Debug)]
pub struct ReportZone<'a> {
    /// Node; `None` from a kernel without NUMA.
    pub node: Option<NodeId>,
    /// Kind of the zone.
    pub zone: ZoneType,
    /// Pages kept from allocations that could use a higher zone, indexed by that zone.
    pub lowmem_reserve: &'a [u64],
    fields: &'a [Field],
    free: Option<&'a FreeLine>,
}

impl ReportZone<'_> {
    /// Returns a field in kB.
    pub fn field(&self, name: &str) -> Option<u64> {
        value(self.fields, name)
    }

    /// Returns the free blocks of an order; `None` if the report does not list it.
    pub fn free_blocks(&self, order: Order) -> Option<FreeBlocks> {
        self.free.and_then(|line| line.order(order))
    }

    /// Returns the size of a page in kB, which the free lists tell.
    pub fn page_kb(&self) -> Option<u64> {
        self.free.map(|line| line.page_kb)
    }
}

#[cfg(test)]
mod tests;
