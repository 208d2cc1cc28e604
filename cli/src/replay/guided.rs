//! `mmkit replay --guided`: applies the recorded list operations and compares the free frames with the recorded ones.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use recordings::pages::{GuidedOutcome, GuidedReplay, Recording, Snapshot};
use serde::Serialize;

use super::watch::{Watch, events_per_second, thread_cpu_time};
use crate::failure::Failure;

/// What guided replay prints.
#[derive(Serialize)]
struct Report {
    recording: String,
    complete: bool,
    events: u64,
    cpu_seconds: f64,
    events_per_second: f64,
    takes: u64,
    returns: u64,
    inconsistent_takes: u64,
    inconsistent_returns: u64,
    corrected_frames: u64,
    free: u64,
    recorded_free: u64,
    off: u64,
    missing: u64,
    extra: u64,
    excused: u64,
    sample: Vec<String>,
    /// Of a machine of several nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    zones: Vec<ZoneReport>,
}

/// One zone at the end.
#[derive(Serialize)]
struct ZoneReport {
    node: u8,
    zone: &'static str,
    free: u64,
    recorded_free: u64,
    off: u64,
}

/// Runs guided replay and prints its report to `out`.
pub(super) fn run(
    recording: &Recording,
    format: super::Format,
    interrupted: &Arc<AtomicBool>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let before = recording.kinds_before()?;
    let after = recording.kinds_after()?;
    let mut reader = recording.events()?;
    let snapshot = recording.before()?;
    let mut replay = GuidedReplay::new(&before, &after, reader.header().start_mono_ns, snapshot.pageblock_order);
    if snapshot.nodes().len() > 1 {
        replay = replay.counting(snapshot.zones.iter().map(|zone| zone.span));
    }
    let watch = Watch::start("guided replay", interrupted);
    let started = thread_cpu_time();
    let mut complete = true;
    while let Some(event) = reader.next_event()? {
        replay.apply(&event);
        if !watch.goes_on(replay.counts().events, || reader.progress()) {
            complete = false;
            break;
        }
    }
    let cpu_time = thread_cpu_time().saturating_sub(started);
    watch.finish();
    let outcome = replay.finish(&after);
    let rate = events_per_second(outcome.counts.events, cpu_time);
    let zones = zone_reports(&snapshot, &outcome);
    let report = Report { zones, ..Report::new(recording.name(), complete, cpu_time.as_secs_f64(), rate, outcome) };
    match format {
        super::Format::Text => report.write_text(out)?,
        super::Format::Json => super::write_json(out, &report)?,
    }
    Ok(())
}

fn zone_reports(snapshot: &Snapshot, outcome: &GuidedOutcome) -> Vec<ZoneReport> {
    let zones = snapshot.zones.iter().zip(&outcome.zones);
    let report = zones.map(|(zone, outcome)| ZoneReport {
        node: zone.node.raw(),
        zone: zone.zone.name(),
        free: outcome.free,
        recorded_free: outcome.recorded_free,
        off: outcome.off,
    });
    report.collect()
}

impl Report {
    fn new(recording: &str, complete: bool, cpu_seconds: f64, events_per_second: f64, outcome: GuidedOutcome) -> Self {
        let counts = outcome.counts;
        Self {
            recording: recording.to_owned(),
            complete,
            events: counts.events,
            cpu_seconds,
            events_per_second,
            takes: counts.takes,
            returns: counts.returns,
            inconsistent_takes: counts.inconsistent_takes,
            inconsistent_returns: counts.inconsistent_returns,
            corrected_frames: counts.corrected_frames,
            free: outcome.free,
            recorded_free: outcome.recorded_free,
            off: outcome.off(),
            missing: outcome.missing,
            extra: outcome.extra,
            excused: outcome.excused,
            sample: outcome.sample.iter().map(|pfn| format!("{pfn:x}")).collect(),
            zones: Vec::new(),
        }
    }

    fn write_text(&self, out: &mut impl Write) -> std::io::Result<()> {
        let end = if self.complete { "" } else { ", interrupted: the comparison with the end means nothing" };
        writeln!(out, "{}: guided replay{end}", self.recording)?;
        writeln!(
            out,
            "events            {:>10}  {:.1} million a second of processor time",
            self.events,
            self.events_per_second / 1e6
        )?;
        writeln!(out, "blocks taken      {:>10}  inconsistent {}", self.takes, self.inconsistent_takes)?;
        writeln!(out, "blocks returned   {:>10}  inconsistent {}", self.returns, self.inconsistent_returns)?;
        writeln!(out, "first scan        {:>10}  frames corrected by their first event", self.corrected_frames)?;
        writeln!(out, "free frames       {:>10}  recorded {}", self.free, self.recorded_free)?;
        writeln!(out, "frames off        {:>10}  missing {}, extra {}", self.off, self.missing, self.extra)?;
        writeln!(out, "excused           {:>10}  frames that changed during the last scan or after it", self.excused)?;
        for ZoneReport { node, zone, free, recorded_free, off } in &self.zones {
            let name = format!("node {node} {zone}");
            writeln!(out, "{name:<18}{free:>10}  recorded {recorded_free}, off {off}")?;
        }
        if !self.sample.is_empty() {
            writeln!(out, "off at            {}", self.sample.join(" "))?;
        }
        Ok(())
    }
}
