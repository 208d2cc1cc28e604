//! /proc/iomem: what each range of physical addresses belongs to, as a tree.
//!
//! Written one [`Resource`] a line, parents before children. Linux 6.12: kernel/resource.c (`r_show`).

use core::fmt;

use units::PhysAddr;

/// One range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resource<N> {
    /// Number of ranges around this one.
    pub depth: usize,
    /// First byte.
    pub start: PhysAddr,
    /// Last byte, inclusive: a range may end at the last address.
    pub last: PhysAddr,
    /// Owner.
    pub name: N,
}

impl<N: AsRef<str>> fmt::Display for Resource<N> {
    /// Writes the line without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indent = 2 * self.depth;
        write!(f, "{:indent$}{:08x}-{:08x} : {}", "", self.start, self.last, self.name.as_ref())
    }
}
