//! Pages and faults of ours beside the recorded counts.

use object_allocator::mmu::Rss;
use page_fault::FaultAction;
use recordings::processes::{Counts, FaultError};

/// kB of a page.
const PAGE_KB: u64 = address_space::PAGE_SIZE >> 10;

/// Returns what tells that our entry was another than the recorded fault found; `None` if it fits.
pub(super) fn unlike(recorded: FaultError, action: FaultAction) -> Option<&'static str> {
    let was_mapped = match action {
        FaultAction::Touch if recorded.is_protection() => return Some("ours allowed the access before"),
        FaultAction::Touch | FaultAction::WriteShared | FaultAction::Reuse | FaultAction::Copy => true,
        FaultAction::MapZeros
        | FaultAction::MapFile
        | FaultAction::MapFileCopy
        | FaultAction::MapFileShared
        | FaultAction::Refuse => false,
        // In place of nothing, or of the page of zeros.
        FaultAction::MapFresh => return None,
    };
    match (recorded.is_protection(), was_mapped) {
        (true, false) => Some("Linux had mapped the page, ours had not"),
        (false, true) => Some("ours had mapped the page, Linux had not"),
        _ => None,
    }
}

/// Returns resident pages at an exit: name, ours and the recorded ones, in kB.
pub(super) fn resident(ours: Rss, recorded: &Counts) -> Vec<(&'static str, u64, u64)> {
    let rows = [("RssAnon", ours.anon), ("RssFile", ours.file), ("RssShmem", ours.shmem), ("VmSwap", ours.swap)];
    rows.into_iter().filter_map(|(name, pages)| Some((name, pages * PAGE_KB, recorded.get(name)?))).collect()
}

/// Returns the size of page tables at an exit, likewise.
pub(super) fn tables(ours: u64, recorded: &Counts) -> Vec<(&'static str, u64, u64)> {
    recorded.get("VmPTE").map(|recorded| ("VmPTE", ours * PAGE_KB, recorded)).into_iter().collect()
}

/// Returns the recorded number of faults.
pub(super) fn faults(recorded: &Counts) -> u64 {
    recorded.get("minflt").unwrap_or(0) + recorded.get("majflt").unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_fault_fits_if_both_kernels_found_the_page_mapped_or_neither_did() {
        let (absent, protection) = (FaultError::new(4), FaultError::new(7));
        assert_eq!(unlike(absent, FaultAction::MapFile), None);
        assert_eq!(unlike(protection, FaultAction::Copy), None);
        assert!(unlike(absent, FaultAction::Reuse).is_some());
        assert!(unlike(protection, FaultAction::MapFileCopy).is_some());
        assert!(unlike(protection, FaultAction::Touch).is_some());
        assert_eq!(unlike(protection, FaultAction::MapFresh), None);
    }

    #[test]
    fn resident_pages_are_compared_in_kb() {
        let counts = Counts::parse(Path::new("counts"), "minflt 3\nmajflt 1\nRssAnon 8 kB\nRssFile 4 kB\n").unwrap();
        let ours = Rss { file: 1, anon: 3, swap: 0, shmem: 0 };
        assert_eq!(resident(ours, &counts), [("RssAnon", 12, 8), ("RssFile", 4, 4)]);
        assert_eq!((faults(&counts), tables(1, &counts)), (4, Vec::new()));
    }
}
