//! Recorded lines and numbers beside ours.

use proc_files::parse::{Zone, ZoneInfo};
use recordings::boot_log::{ComparedLine, Verdict};

use super::zone_numbers::{MachineNumbers, ZoneNumbers};

/// A number that is not the recorded one.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub(super) struct NumberDifference {
    /// What it is about, such as `node 0, zone DMA32: low`.
    pub(super) what: String,
    /// The kernel's.
    pub(super) recorded: String,
    /// Ours.
    pub(super) ours: String,
}

/// Pairs recorded lines with ours: equal lines at both ends first, what is between them in order.
///
/// `recorded` gives line numbers and texts. If the recording has none of these lines, because its log begins later, ours count
/// as given.
pub(super) fn pair_lines(recorded: &[(usize, &str)], ours: &str) -> Vec<ComparedLine> {
    let ours: Vec<&str> = ours.lines().collect();
    let equal = |((_, theirs), mine): &(&(usize, &str), &&str)| theirs == *mine;
    let head = recorded.iter().zip(&ours).take_while(equal).count();
    let shorter = recorded.len().min(ours.len()) - head;
    let tail = recorded.iter().rev().zip(ours.iter().rev()).take(shorter).take_while(equal).count();
    let middle = (recorded.len().max(ours.len()) - head - tail) + head;
    let compared = |index: usize| {
        let (theirs, mine) = if index < middle {
            let theirs = (index < recorded.len() - tail).then(|| recorded.get(index)).flatten();
            (theirs, (index < ours.len() - tail).then(|| ours.get(index)).flatten())
        } else {
            let back = middle + tail - index;
            (recorded.get(recorded.len() - back), ours.get(ours.len() - back))
        };
        let near = recorded.get(index.min(recorded.len().saturating_sub(1)));
        ComparedLine {
            line: theirs.or(near).map_or(0, |(line, _)| *line),
            recorded: theirs.map(|(_, text)| (*text).to_owned()),
            ours: mine.map(|&text| text.to_owned()),
            verdict: match (recorded.is_empty(), theirs.map(|(_, text)| text) == mine) {
                (true, _) => Verdict::Given,
                (false, true) => Verdict::Equal,
                (false, false) => Verdict::Different,
            },
        }
    };
    (0..middle + tail).map(compared).collect()
}

/// Compares every number that boot computes with /proc/zoneinfo.
pub(super) fn compare_numbers(numbers: &MachineNumbers, recorded: &ZoneInfo) -> Vec<NumberDifference> {
    let mut found = Vec::new();
    for zone in &numbers.zones {
        let place = format!("node {}, zone {}", zone.node, zone.kind.name());
        match recorded.zone(zone.node, zone.kind) {
            Some(recorded) => compare_zone(&place, zone, &recorded, &mut found),
            None => found.push(difference(&place, "no such zone", "a zone")),
        }
    }
    for zone in recorded.zones().filter(|zone| zone.pages("present").unwrap_or(0) != 0) {
        if !numbers.zones.iter().any(|ours| (ours.node, ours.kind) == (zone.node, zone.zone)) {
            found.push(difference(&format!("node {}, zone {}", zone.node, zone.zone.name()), "a zone", "no such zone"));
        }
    }
    found
}

fn difference(what: &str, recorded: impl ToString, ours: impl ToString) -> NumberDifference {
    NumberDifference { what: what.to_owned(), recorded: recorded.to_string(), ours: ours.to_string() }
}

fn compare_zone(place: &str, ours: &ZoneNumbers, recorded: &Zone<'_>, found: &mut Vec<NumberDifference>) {
    // A boost is the work of the workload; /proc/zoneinfo has it in the watermarks.
    let boost = recorded.pages("boost").unwrap_or(0);
    let pages = [
        ("spanned", ours.span.nr_pages()),
        ("present", ours.present),
        ("managed", ours.managed),
        ("min", ours.marks.min + boost),
        ("low", ours.marks.low + boost),
        ("high", ours.marks.high + boost),
    ];
    let promo = recorded.pages("promo").map(|recorded| ("promo", ours.marks.promo + boost, recorded));
    let fields = pages.iter().map(|&(name, ours)| (name, ours, recorded.pages(name).unwrap_or(0)));
    for (name, ours, recorded) in fields.chain(promo).filter(|(_, ours, recorded)| ours != recorded) {
        found.push(difference(&format!("{place}: {name}"), recorded, ours));
    }
    if let Some(start) = recorded.start_pfn().filter(|&start| start != ours.span.start) {
        found.push(difference(&format!("{place}: start_pfn"), start.raw(), ours.span.start.raw()));
    }
    compare_protection(place, ours, recorded, found);
    compare_pagesets(place, ours, recorded, found);
}

/// The file has one column for each kind of zone that the kernel was built with.
fn compare_protection(place: &str, ours: &ZoneNumbers, recorded: &Zone<'_>, found: &mut Vec<NumberDifference>) {
    let Some(protection) = recorded.protection() else { return };
    let shown: Vec<u64> = ours.configured.iter().map(|kind| ours.reserve[kind.index()]).collect();
    if protection != shown {
        found.push(difference(&format!("{place}: protection"), format!("{protection:?}"), format!("{shown:?}")));
    }
}

fn compare_pagesets(place: &str, ours: &ZoneNumbers, recorded: &Zone<'_>, found: &mut Vec<NumberDifference>) {
    for set in recorded.pagesets() {
        let place = format!("{place}, cpu {}", set.cpu);
        if set.stat_threshold != ours.stat_threshold {
            found.push(difference(&format!("{place}: vm stats threshold"), set.stat_threshold, ours.stat_threshold));
        }
        let Some(pcp) = ours.pcp else { continue };
        // A tuned `high` depends on what ran; later kernels show its bounds instead, 6.12 neither.
        let fields: &[(&str, u64, u64)] = match pcp {
            _ if set.high_max != 0 => {
                &[("high_min", set.high_min, pcp.high_min), ("high_max", set.high_max, pcp.high_max)]
            }
            fixed if fixed.high_min == fixed.high_max => &[("high", set.high, pcp.high_min)],
            _ => &[],
        };
        let fields = [("batch", set.batch, pcp.batch)].into_iter().chain(fields.iter().copied());
        for (name, recorded, ours) in fields.filter(|(_, recorded, ours)| recorded != ours) {
            found.push(difference(&format!("{place}: {name}"), recorded, ours));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(recorded: &[(usize, &str)], ours: &str) -> Vec<(usize, Verdict)> {
        pair_lines(recorded, ours).into_iter().map(|pair| (pair.line, pair.verdict)).collect()
    }

    #[test]
    fn a_missing_line_is_one_difference() {
        use Verdict::{Different, Equal};
        let recorded = [(3, "a"), (4, "b"), (5, "c")];
        assert_eq!(verdicts(&recorded, "a\nc\n"), [(3, Equal), (4, Different), (5, Equal)]);
        assert_eq!(verdicts(&recorded[..2], "a\nx\nb\n"), [(3, Equal), (4, Different), (4, Equal)]);
    }

    #[test]
    fn a_changed_line_shows_both_sides() {
        let pairs = pair_lines(&[(7, "a"), (8, "b")], "a\nB\n");
        assert_eq!((pairs[1].recorded.as_deref(), pairs[1].ours.as_deref()), (Some("b"), Some("B")));
    }

    #[test]
    fn lines_that_the_log_has_lost_are_given() {
        assert_eq!(verdicts(&[], "a\n"), [(0, Verdict::Given)]);
    }
}
