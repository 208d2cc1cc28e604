//! /proc/PID/numa_maps: the memory policy of each area and the nodes of its pages.
//!
//! Linux 6.12: fs/proc/task_mmu.c (`show_numa_map`), mm/mempolicy.c (`mpol_to_str`).

use core::fmt;

use units::{NodeId, VirtAddr};

/// What an area maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backing<'a> {
    /// Anonymous memory.
    Anonymous,
    /// A file with this path.
    File(&'a str),
    /// The heap.
    Heap,
    /// The first thread's stack.
    Stack,
}

/// Pages of an area, in base pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NumaPages {
    /// All.
    pub pages: u64,
    /// Anonymous.
    pub anon: u64,
    /// Dirty.
    pub dirty: u64,
    /// On the active list.
    pub active: u64,
    /// Under write-back.
    pub writeback: u64,
    /// In the swap cache.
    pub swapcache: u64,
    /// Most mappings of one page.
    pub mapcount_max: u64,
}

/// One line.
#[derive(Clone, Copy)]
pub struct NumaMapsLine<'a> {
    /// Start of the area.
    pub start: VirtAddr,
    /// Policy in words: `default`, `bind:0-1`, `interleave=static:0,2`.
    pub policy: &'a dyn fmt::Display,
    /// What the area maps.
    pub backing: Backing<'a>,
    /// Size of its pages in kB.
    pub page_kb: u64,
    /// Whether these are pages of a huge-page pool.
    pub is_hugetlb: bool,
    /// Pages in memory; nothing more is written if there are none.
    pub pages: NumaPages,
    /// Pages on each node, in order of nodes; those with none may be left out.
    pub nodes: &'a [(NodeId, u64)],
}

impl fmt::Display for NumaMapsLine<'_> {
    /// Writes the line without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x} {}", self.start.raw(), self.policy)?;
        match self.backing {
            Backing::Anonymous => {}
            Backing::File(path) => {
                f.write_str(" file=")?;
                write_escaped(f, path)?;
            }
            Backing::Heap => f.write_str(" heap")?,
            Backing::Stack => f.write_str(" stack")?,
        }
        if self.is_hugetlb {
            f.write_str(" huge")?;
        }
        if self.pages.pages == 0 { Ok(()) } else { self.write_pages(f) }
    }
}

impl NumaMapsLine<'_> {
    fn write_pages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pages = &self.pages;
        let is_mixed = pages.pages != pages.anon && pages.pages != pages.dirty;
        let is_idle = pages.active < pages.pages && !self.is_hugetlb;
        let figures = [
            ("anon", pages.anon, pages.anon > 0),
            ("dirty", pages.dirty, pages.dirty > 0),
            ("mapped", pages.pages, is_mixed),
            ("mapmax", pages.mapcount_max, pages.mapcount_max > 1),
            ("swapcache", pages.swapcache, pages.swapcache > 0),
            ("active", pages.active, is_idle),
            ("writeback", pages.writeback, pages.writeback > 0),
        ];
        for (name, value, _) in figures.iter().filter(|(_, _, is_shown)| *is_shown) {
            write!(f, " {name}={value}")?;
        }
        for (node, count) in self.nodes.iter().filter(|(_, count)| *count > 0) {
            write!(f, " N{node}={count}")?;
        }
        write!(f, " kernelpagesize_kB={}", self.page_kb)
    }
}

/// Writes a path with the characters that separate fields in octal.
fn write_escaped(f: &mut fmt::Formatter<'_>, path: &str) -> fmt::Result {
    path.chars().try_for_each(|c| match c {
        '\n' | '\t' | '=' | ' ' => write!(f, "\\{:03o}", u32::from(c)),
        c => write!(f, "{c}"),
    })
}
