//! Marks of writes (soft-dirty): whether the host's kernel has them, and which pages have one.

use units::VmFlags;

use super::maps::Smap;
use crate::failure::Failure;

/// Whether the host's kernel tracks writes (CONFIG_MEM_SOFT_DIRTY).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WriteMarks {
    /// pagemap and VmFlags tell of them.
    Tracked,
    /// It was built without.
    Absent,
}

impl WriteMarks {
    /// Asks the host: new areas are marked from the start.
    pub(super) fn of_host() -> Result<Self, Failure> {
        let smaps = std::fs::read_to_string("/proc/self/smaps")?;
        let mut flags = smaps.lines().filter_map(|line| line.strip_prefix("VmFlags:"));
        let is_marked = flags.any(|flags| flags.split(' ').any(|flag| flag == "sd"));
        Ok(if is_marked { Self::Tracked } else { Self::Absent })
    }

    /// Returns the flag of areas that is not to be compared.
    pub(super) const fn ignored(self) -> VmFlags {
        match self {
            Self::Tracked => VmFlags::empty(),
            Self::Absent => VmFlags::SOFTDIRTY,
        }
    }
}

/// Says which pages of an area only one side has marked, given as entries of pagemap.
pub(super) fn compare(area: &Smap, theirs: &[u64], ours: &[u64]) -> Option<String> {
    let marked = |entries: &[u64]| -> Vec<bool> { entries.iter().map(|entry| entry >> 55 & 1 == 1).collect() };
    let (theirs, ours) = (marked(theirs), marked(ours));
    let differing = theirs.iter().zip(&ours).position(|(theirs, ours)| theirs != ours)?;
    let (theirs, ours) = (theirs.get(differing)?, ours.get(differing)?);
    Some(format!("  {}\n  page {differing} of it is marked as written: host {theirs}, ours {ours}\n", area.line))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::generate::Generator;
    use super::super::maps::parse_smaps;
    use super::*;

    #[test]
    fn the_first_page_that_one_side_has_marked_is_named() {
        let smaps = "10000-13000 rw-p 00000000 00:00 0 \nSize: 12 kB\nVmFlags: rd wr sd \n";
        let areas = parse_smaps(smaps, &BTreeMap::new()).unwrap();
        let (written, clean) = (1 << 55 | 1 << 63, 1 << 63);
        assert_eq!(compare(&areas[0], &[written, clean, 0], &[written, 0, clean]), None);
        let text = compare(&areas[0], &[written, clean, 0], &[written, written, 0]).unwrap();
        assert!(text.contains("page 1 of it is marked as written: host false, ours true"), "{text}");
        assert_eq!(areas[0].flags - WriteMarks::Absent.ignored(), areas[0].flags - VmFlags::SOFTDIRTY);
        assert!(areas[0].flags.contains(VmFlags::SOFTDIRTY) && WriteMarks::Tracked.ignored().is_empty());
    }

    #[test]
    fn marks_are_cleared_only_where_they_are_tracked() {
        let calls = |marks| {
            let mut generator = Generator::new(1, 2, &[], marks);
            (0..2000).filter(|_| generator.next().call() == "clear_refs").count()
        };
        assert_eq!(calls(WriteMarks::Absent), 0);
        assert!(calls(WriteMarks::Tracked) > 10);
    }
}
