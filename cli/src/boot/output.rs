//! Prints a compared boot: as a kernel log that shows where it differs, or as JSON.

use std::io::{self, Write};

use recordings::boot_log::{ComparedLine, Verdict};
use serde::Serialize;
use units::ZoneType;

use super::comparison::NumberDifference;
use super::from_log::ComparedBoot;
use super::zone_numbers::ZoneNumbers;

/// Writes our log; where it differs, the recorded line behind `-` and ours behind `+`. The last line counts the differences.
pub(super) fn write_text(out: &mut dyn Write, boot: &ComparedBoot) -> io::Result<()> {
    for line in &boot.lines {
        write_line(out, line)?;
    }
    for NumberDifference { what, recorded, ours } in &boot.numbers {
        writeln!(out, "- {what} {recorded}")?;
        writeln!(out, "+ {what} {ours}")?;
    }
    for what in &boot.not_compared {
        writeln!(out, "not compared: {what}")?;
    }
    let count = |verdict| boot.lines.iter().filter(|line| line.verdict == verdict).count();
    writeln!(out, "{} log lines equal, {} not explained by the log", count(Verdict::Equal), count(Verdict::Given))?;
    match boot.differences() {
        1 => writeln!(out, "1 difference")?,
        differences => writeln!(out, "{differences} differences")?,
    }
    out.flush()
}

fn write_line(out: &mut dyn Write, line: &ComparedLine) -> io::Result<()> {
    if line.verdict != Verdict::Different {
        let text = line.ours.as_ref().or(line.recorded.as_ref());
        return writeln!(out, "{}", text.map_or("", String::as_str));
    }
    if let Some(recorded) = &line.recorded {
        writeln!(out, "- {recorded}")?;
    }
    if let Some(ours) = &line.ours {
        writeln!(out, "+ {ours}")?;
    }
    Ok(())
}

#[derive(Serialize)]
struct BootReport<'a> {
    differences: usize,
    lines: Vec<LineReport<'a>>,
    numbers: &'a [NumberDifference],
    not_compared: &'a [String],
    min_free_kbytes: u64,
    zones: Vec<ZoneReport>,
}

#[derive(Serialize)]
struct LineReport<'a> {
    line: usize,
    verdict: &'static str,
    recorded: Option<&'a str>,
    ours: Option<&'a str>,
}

/// Numbers of a zone, in pages.
#[derive(Serialize)]
struct ZoneReport {
    node: u8,
    zone: &'static str,
    start_pfn: u64,
    spanned: u64,
    present: u64,
    managed: u64,
    min: u64,
    low: u64,
    high: u64,
    promo: u64,
    protection: [u64; ZoneType::COUNT],
    pcp_batch: Option<u64>,
    pcp_high_min: Option<u64>,
    pcp_high_max: Option<u64>,
    stat_threshold: u64,
}

impl From<&ZoneNumbers> for ZoneReport {
    fn from(zone: &ZoneNumbers) -> Self {
        Self {
            node: zone.node.raw(),
            zone: zone.kind.name(),
            start_pfn: zone.span.start.raw(),
            spanned: zone.span.nr_pages(),
            present: zone.present,
            managed: zone.managed,
            min: zone.marks.min,
            low: zone.marks.low,
            high: zone.marks.high,
            promo: zone.marks.promo,
            protection: zone.reserve,
            pcp_batch: zone.pcp.map(|pcp| pcp.batch),
            pcp_high_min: zone.pcp.map(|pcp| pcp.high_min),
            pcp_high_max: zone.pcp.map(|pcp| pcp.high_max),
            stat_threshold: zone.stat_threshold,
        }
    }
}

/// Writes one JSON object with every compared line and number.
pub(super) fn write_json(out: &mut dyn Write, boot: &ComparedBoot) -> io::Result<()> {
    let verdict = |line: &ComparedLine| match line.verdict {
        Verdict::Equal => "equal",
        Verdict::Different => "different",
        Verdict::Given => "given",
    };
    let lines = boot.lines.iter().map(|line| LineReport {
        line: line.line,
        verdict: verdict(line),
        recorded: line.recorded.as_deref(),
        ours: line.ours.as_deref(),
    });
    let report = BootReport {
        differences: boot.differences(),
        lines: lines.collect(),
        numbers: &boot.numbers,
        not_compared: &boot.not_compared,
        min_free_kbytes: boot.machine.min_free_kbytes,
        zones: boot.machine.zones.iter().map(ZoneReport::from).collect(),
    };
    write_report(out, &report)
}

/// Writes one JSON object.
pub(super) fn write_report(out: &mut dyn Write, report: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)?;
    out.flush()
}
