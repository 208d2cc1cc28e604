//! Huge pages on the host: whether a process gets them, whether the kernel had them when it was asked, and whether it made some unasked.

use crate::failure::Failure;

/// Whether a process gets huge pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HugePages {
    /// Where the kernel's settings and advice say so.
    On,
    /// Nowhere.
    Off,
}

/// Events after which huge pages are not where they would be with memory at hand: none was free, or the kernel split one on its own.
const EVENTS: [&str; 3] = ["thp_fault_fallback", "thp_collapse_alloc_failed", "thp_underused_split_page"];

/// Huge pages that khugepaged made, which comes by every few seconds; a kernel built without it has no such file.
const COLLAPSED: &str = "/sys/kernel/mm/transparent_hugepage/khugepaged/pages_collapsed";

/// How often these came, on the whole host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct HugePageEvents {
    missed: [u64; 3],
    collapsed: u64,
}

impl HugePageEvents {
    /// Reads /proc/vmstat, and what khugepaged counts.
    pub(super) fn read() -> Result<Self, Failure> {
        let collapsed = std::fs::read_to_string(COLLAPSED).unwrap_or_default();
        Ok(Self::parse(&std::fs::read_to_string("/proc/vmstat")?, &collapsed))
    }

    fn parse(text: &str, collapsed: &str) -> Self {
        let count = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            lines.find(|(event, _)| *event == name).and_then(|(_, count)| count.parse().ok()).unwrap_or(0)
        };
        Self { missed: EVENTS.map(count), collapsed: collapsed.trim().parse().unwrap_or(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_huge_pages_that_were_missed_or_made_unasked_count() {
        let before = HugePageEvents::parse("pgfault 7\nthp_fault_alloc 3\nthp_fault_fallback 1\n", "5\n");
        assert_eq!(before, HugePageEvents::parse("pgfault 9\nthp_fault_alloc 8\nthp_fault_fallback 1\n", "5\n"));
        assert_ne!(before, HugePageEvents::parse("thp_fault_fallback 2\n", "5\n"));
        assert_ne!(before, HugePageEvents::parse("thp_fault_fallback 1\n", "6\n"));
    }
}
