//! /proc/PID/smaps and /proc/PID/smaps_rollup.
//!
//! Values come from the caller by Linux's name, in kB. Linux 6.12: fs/proc/task_mmu.c (`show_smap`, `show_smaps_rollup`, `__show_smap`).

use core::fmt;

use units::{VirtRange, VmFlags};

use crate::maps::{Device, MapsLine, Permissions};
use crate::meminfo::{MemInfoLine, MemInfoUnit};
use crate::{Counters, Profile, Release};

/// Fields of an area before those that both files have.
const AREA_FIELDS: [&str; 3] = ["Size", "KernelPageSize", "MMUPageSize"];
/// Fields of both files, but for [`ROLLUP_FIELDS`].
const FIELDS: [&str; 22] = [
    "Rss",
    "Pss",
    "Pss_Dirty",
    "Pss_Anon",
    "Pss_File",
    "Pss_Shmem",
    "Shared_Clean",
    "Shared_Dirty",
    "Private_Clean",
    "Private_Dirty",
    "Referenced",
    "Anonymous",
    "KSM",
    "LazyFree",
    "AnonHugePages",
    "ShmemPmdMapped",
    "FilePmdMapped",
    "Shared_Hugetlb",
    "Private_Hugetlb",
    "Swap",
    "SwapPss",
    "Locked",
];
/// Fields of the sum over all areas only.
const ROLLUP_FIELDS: [&str; 3] = ["Pss_Anon", "Pss_File", "Pss_Shmem"];

/// One area of smaps.
#[derive(Clone, Copy)]
pub struct SmapsArea<'a, N> {
    /// Release whose field set is written.
    pub profile: Profile,
    /// Heading.
    pub area: &'a MapsLine<N>,
    /// Values in kB; `THPeligible` is 0 or 1.
    pub values: Counters<'a>,
    /// Protection key, on machines that have them.
    pub protection_key: Option<u8>,
    /// Flags.
    pub flags: VmFlags,
}

impl<N: AsRef<str>> fmt::Display for SmapsArea<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.area)?;
        let fields = fields(self.profile).filter(|name| !ROLLUP_FIELDS.contains(name));
        AREA_FIELDS.into_iter().chain(fields).try_for_each(|name| kb(f, name, self.values))?;
        let bare = |name, value| MemInfoLine { node: None, name, value, unit: MemInfoUnit::Pages };
        writeln!(f, "{}", bare("THPeligible", (self.values)("THPeligible")))?;
        if let Some(key) = self.protection_key {
            writeln!(f, "{}", bare("ProtectionKey", key.into()))?;
        }
        writeln!(f, "VmFlags: {}", self.flags)
    }
}

/// The file with the sums over all areas.
#[derive(Clone, Copy)]
pub struct SmapsRollup<'a> {
    /// Release whose field set is written.
    pub profile: Profile,
    /// From the first area's start to the last one's end.
    pub range: VirtRange,
    /// Values in kB.
    pub values: Counters<'a>,
}

impl fmt::Display for SmapsRollup<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (permissions, device) = (Permissions::empty(), Device::default());
        let heading = MapsLine { range: self.range, permissions, offset: 0, device, inode: 0, name: "[rollup]" };
        writeln!(f, "{heading}")?;
        fields(self.profile).try_for_each(|name| kb(f, name, self.values))
    }
}

/// Returns the fields that `profile` has; Linux 6.1 does not count merged pages here.
fn fields(profile: Profile) -> impl Iterator<Item = &'static str> {
    FIELDS.into_iter().filter(move |name| *name != "KSM" || profile.release > Release::V6_1)
}

fn kb(f: &mut fmt::Formatter<'_>, name: &'static str, values: Counters<'_>) -> fmt::Result {
    writeln!(f, "{}", MemInfoLine { node: None, name, value: values(name), unit: MemInfoUnit::Kb })
}
