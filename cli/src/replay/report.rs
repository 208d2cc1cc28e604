//! What a simulated replay prints: our allocator next to the recorded one.

use std::io::{self, Write};

use recordings::pages::{CpuNodes, Snapshot, Surroundings, ZoneSnapshot};
use serde::Serialize;
use units::MigrateType;

use super::fragmentation::Sample;
use super::node_report::NodeReport;
use super::recorder::ListTraffic;
use super::simulate::{FreeCounts, Run};
use super::watch::events_per_second;

/// The report, as printed with `--json`.
#[derive(Serialize)]
pub(super) struct Report {
    recording: String,
    /// Residual of each run, and their mean.
    phases: Vec<Phase>,
    mean_residual: f64,
    /// Everything below is of the first run.
    complete: bool,
    events: u64,
    cpu_seconds: f64,
    events_per_second: f64,
    requests: u64,
    same_pfn_share: f64,
    bulk_pages: u64,
    failed: Pair,
    failed_here_only: u64,
    /// The same by order, up to the largest that failed.
    failed_here_by_order: Vec<u64>,
    #[serde(flatten)]
    traffic: TrafficReport,
    unmatched_frees: u64,
    not_loaded_blocks: u64,
    warnings: u64,
    /// Of a machine of several nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<NodeReport>,
    zones: Vec<ZoneReport>,
    samples: Vec<Sample>,
}

/// One figure here and in the recording.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Pair {
    pub(super) ours: u64,
    pub(super) recorded: u64,
}

/// What moved between the buddy lists and the per-CPU lists.
#[derive(Clone, Copy, Serialize)]
struct TrafficReport {
    refilled_pages: Pair,
    drained_pages: Pair,
    fallbacks: Pair,
}

impl TrafficReport {
    fn new(ours: ListTraffic, recorded: ListTraffic) -> Self {
        Self {
            refilled_pages: Pair { ours: ours.refilled, recorded: recorded.refilled },
            drained_pages: Pair { ours: ours.drained, recorded: recorded.drained },
            fallbacks: Pair { ours: ours.fallbacks, recorded: recorded.fallbacks },
        }
    }
}

/// One run in short.
#[derive(Serialize)]
struct Phase {
    phase_ms: u64,
    residual: f64,
    #[serde(flatten)]
    traffic: TrafficReport,
}

#[derive(Serialize)]
struct ZoneReport {
    node: u8,
    zone: &'static str,
    /// Pages by which the free blocks differ.
    distance: u64,
    #[serde(flatten)]
    traffic: TrafficReport,
    lists: Vec<ListReport>,
}

/// Free blocks by order, of one migratetype or of all.
#[derive(Serialize)]
struct ListReport {
    migrate_type: &'static str,
    ours: Vec<u64>,
    recorded: Vec<u64>,
}

/// Cuts off the zeros at the end.
fn up_to_last(counts: &[u64]) -> Vec<u64> {
    let length = counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
    counts.iter().copied().take(length).collect()
}

/// Sums |ours - recorded| x 2^order.
fn distance(ours: &[u64], recorded: &[u64]) -> u64 {
    (0..).zip(ours.iter().zip(recorded)).map(|(order, (a, b)): (u32, _)| a.abs_diff(*b) << order).sum()
}

fn by_order(counts: &FreeCounts, orders: usize, migrate_type: Option<MigrateType>) -> Vec<u64> {
    let sum = |types: &[u32; MigrateType::COUNT]| match migrate_type {
        Some(migrate_type) => u64::from(types[migrate_type.index()]),
        None => types.iter().copied().map(u64::from).sum(),
    };
    counts.iter().take(orders).map(sum).collect()
}

/// Returns the distance of our end from the recorded one, as a share of the distance that the recorded kernel went.
fn residual(run: &Run, before: &Snapshot, after: &Snapshot) -> f64 {
    let (mut off, mut went) = (0, 0);
    for (counts, before) in run.free.iter().zip(&before.zones) {
        let Some(after) = after.zone(before.node, before.zone) else { continue };
        off += distance(&by_order(counts, after.free_blocks.len(), None), &after.free_blocks);
        went += distance(&before.free_blocks, &after.free_blocks);
    }
    off as f64 / (went as f64).max(1.0)
}

impl Report {
    /// Makes the report of `runs`; `None` if there are none.
    pub(super) fn new(
        recording: &str,
        runs: &[Run],
        surroundings: &Surroundings,
        cpu_nodes: &CpuNodes,
    ) -> Option<Self> {
        let first = runs.first()?;
        let Surroundings { before, after, .. } = surroundings;
        let phases: Vec<Phase> = runs.iter().map(|run| Phase::new(run, before, after)).collect();
        let demand = first.demand;
        let served = demand.allocations - demand.failed;
        Some(Self {
            recording: recording.to_owned(),
            mean_residual: phases.iter().map(|phase| phase.residual).sum::<f64>() / phases.len().max(1) as f64,
            phases,
            complete: runs.iter().all(|run| run.complete),
            events: first.events,
            cpu_seconds: first.cpu_time.as_secs_f64(),
            events_per_second: events_per_second(first.events, first.cpu_time),
            requests: demand.allocations,
            same_pfn_share: demand.same_pfn as f64 / served.max(1) as f64,
            bulk_pages: demand.bulk_pages,
            failed: Pair { ours: demand.failed, recorded: demand.recorded_failed },
            failed_here_only: demand.failed_here_only.iter().sum(),
            failed_here_by_order: up_to_last(&demand.failed_here_only),
            traffic: TrafficReport::new(first.ours(), first.recorded()),
            unmatched_frees: demand.unmatched_frees,
            not_loaded_blocks: first.not_loaded,
            warnings: first.warnings,
            nodes: NodeReport::new(before, cpu_nodes, demand.by_node, served),
            zones: zone_reports(first, before, after),
            samples: first.samples.clone(),
        })
    }

    /// Writes the report as text.
    pub(super) fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let end = if self.complete { "" } else { ", interrupted: figures so far" };
        writeln!(out, "{}: simulated replay{end}", self.recording)?;
        writeln!(
            out,
            "{} events at {:.1} million a second of processor time",
            self.events,
            self.events_per_second / 1e6
        )?;
        self.write_figures(out)?;
        for zone in &self.zones {
            zone.write_text(out)?;
            if self.nodes.is_some() {
                zone.write_traffic(out)?;
            }
        }
        self.write_samples(out)?;
        self.write_phases(out)
    }

    fn write_figures(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\n{:<28}{:>12}{:>12}", "", "ours", "recorded")?;
        let rows = [
            ("pages refilled", self.traffic.refilled_pages),
            ("pages drained", self.traffic.drained_pages),
            ("fallbacks", self.traffic.fallbacks),
            ("failed requests", self.failed),
        ];
        for (name, Pair { ours, recorded }) in rows {
            writeln!(out, "{name:<28}{ours:>12}{recorded:>12}")?;
        }
        writeln!(out, "{:<28}{:>12}{}", "failed here only", self.failed_here_only, self.failures_in_words())?;
        writeln!(out, "{:<28}{:>12}", "requests", self.requests)?;
        writeln!(out, "{:<28}{:>11.2}%", "same frame as recorded", self.same_pfn_share * 100.0)?;
        writeln!(out, "{:<28}{:>12}", "pages of bulk requests", self.bulk_pages)?;
        writeln!(out, "{:<28}{:>12}", "frees without a holder", self.unmatched_frees)?;
        writeln!(out, "{:<28}{:>12}", "blocks not loaded", self.not_loaded_blocks)?;
        self.nodes.iter().try_for_each(|nodes| nodes.write_text(out))
    }

    /// Says which orders could not be served, and why nothing was done about it.
    fn failures_in_words(&self) -> String {
        let orders = self.failed_here_by_order.iter().enumerate().filter(|(_, count)| **count > 0);
        let orders: Vec<String> = orders.map(|(order, count)| format!("{count} of order {order}")).collect();
        if orders.is_empty() {
            return String::new();
        }
        format!("  ({}; reclaim and compaction are not simulated)", orders.join(", "))
    }

    fn write_samples(&self, out: &mut impl Write) -> io::Result<()> {
        let what = if self.nodes.is_some() { "largest zone of each node" } else { "largest zone" };
        writeln!(out, "\n{what} over time, thousandths for a huge page (ours | recorded)")?;
        writeln!(out, "{:>8} {:>21} {:>13} {:>13}", "ms", "free pages", "unusable", "fragmentation")?;
        let mut samples: Vec<&Sample> = self.samples.iter().collect();
        samples.sort_by_key(|sample| sample.node);
        let mut node = samples.first().map(|sample| sample.node).filter(|_| self.nodes.is_none());
        for Sample { time_ms, node: of, zone, ours, recorded, .. } in samples {
            if node.replace(*of) != Some(*of) {
                writeln!(out, "node {of}, zone {zone}")?;
            }
            writeln!(
                out,
                "{time_ms:>8} {:>9} | {:>9} {:>5} | {:>5} {:>5} | {:>5}",
                ours.free_pages,
                recorded.free_pages,
                ours.unusable_free_index,
                recorded.unusable_free_index,
                ours.fragmentation_index,
                recorded.fragmentation_index
            )?;
        }
        Ok(())
    }

    fn write_phases(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\ntimer phase  residual    refilled     drained  fallbacks")?;
        for phase in &self.phases {
            writeln!(
                out,
                "{:>8} ms  {:>8.4}  {:>10}  {:>10}  {:>9}",
                phase.phase_ms,
                phase.residual,
                phase.traffic.refilled_pages.ours,
                phase.traffic.drained_pages.ours,
                phase.traffic.fallbacks.ours
            )?;
        }
        writeln!(out, "       mean  {:>8.4}", self.mean_residual)
    }
}

impl Phase {
    fn new(run: &Run, before: &Snapshot, after: &Snapshot) -> Self {
        Self {
            phase_ms: run.phase_ms,
            residual: residual(run, before, after),
            traffic: TrafficReport::new(run.ours(), run.recorded()),
        }
    }
}

fn zone_reports(run: &Run, before: &Snapshot, after: &Snapshot) -> Vec<ZoneReport> {
    let zones = run.free.iter().zip(&before.zones).zip(&run.traffic);
    let zone = |((counts, before), traffic): ((&FreeCounts, &ZoneSnapshot), &(ListTraffic, ListTraffic))| {
        let after = after.zone(before.node, before.zone)?;
        let orders = after.free_blocks.len();
        let all = ListReport {
            migrate_type: "all types",
            ours: by_order(counts, orders, None),
            recorded: after.free_blocks.clone(),
        };
        let distance = distance(&all.ours, &all.recorded);
        let typed = MigrateType::ALL.into_iter().zip(&after.free_by_type).map(|(migrate_type, recorded)| ListReport {
            migrate_type: migrate_type.name(),
            ours: by_order(counts, orders, Some(migrate_type)),
            recorded: recorded.clone(),
        });
        let in_use = |list: &ListReport| list.ours.iter().chain(&list.recorded).any(|count| *count > 0);
        let lists = std::iter::once(all).chain(typed.filter(in_use)).collect();
        let traffic = TrafficReport::new(traffic.0, traffic.1);
        Some(ZoneReport { node: after.node.raw(), zone: after.zone.name(), distance, traffic, lists })
    };
    zones.filter_map(zone).collect()
}

impl ZoneReport {
    fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "\nnode {}, zone {}: free blocks at the end by order, {} pages off",
            self.node, self.zone, self.distance
        )?;
        for list in &self.lists {
            for (side, counts) in [("ours", &list.ours), ("recorded", &list.recorded)] {
                write!(out, "  {:<12} {side:<8}", list.migrate_type)?;
                counts.iter().try_for_each(|count| write!(out, " {count:>6}"))?;
                writeln!(out)?;
            }
        }
        Ok(())
    }

    fn write_traffic(&self, out: &mut impl Write) -> io::Result<()> {
        let TrafficReport { refilled_pages, drained_pages, fallbacks } = self.traffic;
        let rows = [("pages refilled", refilled_pages), ("pages drained", drained_pages), ("fallbacks", fallbacks)];
        write!(out, " ")?;
        for (name, Pair { ours, recorded }) in rows {
            write!(out, " {name} {ours} | {recorded} ")?;
        }
        writeln!(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_listed_up_to_the_largest_order() {
        assert_eq!(up_to_last(&[0, 3, 0, 1, 0, 0]), [0, 3, 0, 1]);
        assert!(up_to_last(&[0; 4]).is_empty());
    }

    #[test]
    fn the_distance_weighs_blocks_by_their_pages() {
        assert_eq!(distance(&[1, 0, 5], &[0, 2, 5]), 1 + 2 * 2);
    }
}
