//! /proc/slabinfo, version 2.1, and the list of slabs in the report of an OOM kill.
//!
//! Written by whoever walks the caches, one [`SlabCache`] each behind [`Heading`]; the parser prints through the same lines.
//! Linux 6.12: mm/slab_common.c (`print_slabinfo_header`, `cache_show`, `dump_unreclaimable_slab`).

use core::fmt;

/// The two lines above the caches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heading;

impl fmt::Display for Heading {
    /// Writes both lines, each with its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("slabinfo - version: 2.1\n")?;
        f.write_str("# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>")?;
        f.write_str(" : tunables <limit> <batchcount> <sharedfactor>")?;
        f.write_str(" : slabdata <active_slabs> <num_slabs> <sharedavail>\n")
    }
}

/// One cache.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlabCache<N> {
    /// Name.
    pub name: N,
    /// Objects in use.
    pub active_objs: u64,
    /// Objects of all slabs.
    pub num_objs: u64,
    /// Size of an object with its metadata, in bytes.
    pub objsize: u64,
    /// Objects of a slab.
    pub objperslab: u64,
    /// Pages of a slab.
    pub pagesperslab: u64,
    /// Slabs with an object in use.
    pub active_slabs: u64,
    /// All slabs.
    pub num_slabs: u64,
    /// Limit, batch count and shared factor of per-CPU arrays; 0 with SLUB.
    pub tunables: [u64; 3],
    /// Objects in shared arrays; 0 with SLUB.
    pub sharedavail: u64,
}

impl<N: AsRef<str>> fmt::Display for SlabCache<N> {
    /// Writes the line without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<17} {:6} {:6} {:6} ", self.name.as_ref(), self.active_objs, self.num_objs, self.objsize)?;
        write!(f, "{:4} {:4} : tunables", self.objperslab, self.pagesperslab)?;
        self.tunables.iter().try_for_each(|tunable| write!(f, " {tunable:4}"))?;
        write!(f, " : slabdata {:6} {:6} {:6}", self.active_slabs, self.num_slabs, self.sharedavail)
    }
}

/// The two lines above the caches in the report of an OOM kill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnreclaimableHeading;

impl fmt::Display for UnreclaimableHeading {
    /// Writes both lines, each with its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unreclaimable slab info:\n")?;
        f.write_str("Name                      Used          Total\n")
    }
}

/// One cache in the report of an OOM kill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnreclaimableCache<N> {
    /// Name.
    pub name: N,
    /// Bytes of the objects in use.
    pub used_bytes: u64,
    /// Bytes of all objects.
    pub total_bytes: u64,
}

impl<N: AsRef<str>> fmt::Display for UnreclaimableCache<N> {
    /// Writes the line without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (used, total) = (self.used_bytes / 1024, self.total_bytes / 1024);
        write!(f, "{:<17} {used:10}KB {total:10}KB", self.name.as_ref())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    #[test]
    fn an_oom_report_gives_kilobytes_in_columns() {
        let cache = UnreclaimableCache { name: "task_struct", used_bytes: 1_500_000, total_bytes: 2047 };
        let text = UnreclaimableHeading.to_string() + &cache.to_string();
        assert_eq!(
            text,
            "Unreclaimable slab info:\n\
             Name                      Used          Total\n\
             task_struct             1464KB          1KB"
        );
    }

    #[test]
    fn a_long_name_pushes_the_columns() {
        let name = "request_sock_subflow_v6";
        let cache = SlabCache {
            name,
            active_objs: 0,
            num_objs: 40,
            objsize: 392,
            objperslab: 20,
            pagesperslab: 2,
            active_slabs: 2,
            num_slabs: 2,
            tunables: [0; 3],
            sharedavail: 0,
        };
        let expected = "request_sock_subflow_v6      0     40    392   20    2 \
                        : tunables    0    0    0 : slabdata      2      2      0";
        assert_eq!(cache.to_string(), expected);
    }
}
