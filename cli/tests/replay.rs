//! `mmkit replay` on the recordings, as a user runs it: the figures that the README states, and bad input.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn recording(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/pages").join(format!("{name}.trace.zst"))
}

fn replay(trace: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmkit")).arg("replay").arg(trace).args(arguments).output().unwrap()
}

fn report(name: &str, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    let output = replay(&recording(name), &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(report: &Value, path: &str) -> f64 {
    report.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path}"))
}

#[test]
fn guided_replay_ends_at_the_recorded_free_frames() {
    for name in ["cargo", "fork"] {
        let report = report(name, &["--guided"]);
        assert!(number(&report, "/off") <= 20.0, "{name}: {report}");
        assert_eq!(report["complete"], true);
    }
}

#[test]
fn cargo_simulated_ends_where_the_recorded_kernel_did() {
    let report = report("cargo", &["--phase", "80"]);
    assert!(number(&report, "/mean_residual") <= 0.02, "{report}");
    let (refilled, recorded) = (number(&report, "/refilled_pages/ours"), number(&report, "/refilled_pages/recorded"));
    assert!((refilled / recorded - 1.0).abs() <= 0.005, "{refilled} of {recorded}");
    assert_eq!(report["drained_pages"]["ours"], 0);
    assert_eq!(report["fallbacks"]["ours"], 2);
    assert_eq!(report["failed_here_only"], 0);
    assert!(number(&report, "/same_pfn_share") >= 0.95);
    assert_eq!(report["not_loaded_blocks"], 0);
}

#[test]
fn fork_simulated_ends_near_the_recorded_kernel() {
    let report = report("fork", &["--phase", "60,100"]);
    for phase in report["phases"].as_array().unwrap() {
        assert!(number(phase, "/residual") <= 0.18, "{phase}");
        let ratio = |name: &str| number(phase, &format!("/{name}/ours")) / number(phase, &format!("/{name}/recorded"));
        assert!((ratio("refilled_pages") - 1.0).abs() <= 0.15, "{phase}");
        assert!((ratio("drained_pages") - 1.0).abs() <= 0.10, "{phase}");
        assert!((1.0..=3.0).contains(&number(phase, "/fallbacks/ours")), "{phase}");
    }
    assert_eq!(report["zones"][1]["distance"], 0, "DMA32 is exact");
    assert_eq!(report["failed_here_only"], 0);
}

#[test]
fn pressure_runs_to_its_end() {
    let report = report("pressure", &["--phase", "80"]);
    assert_eq!(report["complete"], true);
    assert_eq!(number(&report, "/events"), 366_451.0);
    let text = replay(&recording("pressure"), &["--phase", "80"]).stdout;
    assert!(String::from_utf8_lossy(&text).contains("reclaim and compaction are not simulated"));
}

#[test]
fn the_proc_files_after_cargo_are_the_recorded_ones() {
    for file in ["buddyinfo", "pagetypeinfo"] {
        let output = replay(&recording("cargo"), &["--phase", "80", "--proc", file]);
        let recorded = recording("cargo").with_file_name("cargo.after").join(file);
        assert_eq!(String::from_utf8_lossy(&output.stdout), fs::read_to_string(recorded).unwrap());
    }
}

#[test]
fn zoneinfo_after_cargo_shows_the_recorded_zones() {
    let output = replay(&recording("cargo"), &["--phase", "80", "--proc", "zoneinfo"]);
    let recorded = fs::read_to_string(recording("cargo").with_file_name("cargo.after").join("zoneinfo")).unwrap();
    let lines = |text: &str, name: &str| -> Vec<String> {
        text.lines().map(str::trim).filter(|line| line.starts_with(name)).map(str::to_owned).collect()
    };
    let ours = String::from_utf8(output.stdout).unwrap();
    for name in ["min ", "low ", "high ", "promo", "spanned", "managed", "protection", "batch", "high_min", "high_max"]
    {
        let (ours, recorded) = (lines(&ours, name), lines(&recorded, name));
        assert_eq!(ours[..3], recorded[..3], "{name}");
    }
    assert_eq!(lines(&ours, "present"), lines(&recorded, "present"));
    assert_eq!(lines(&ours, "nr_free_pages_blocks"), lines(&recorded, "nr_free_pages_blocks"));
}

#[test]
fn every_proc_file_has_the_recorded_kernels_names() {
    let names = |text: &str, separator: char| -> Vec<String> {
        text.lines().filter_map(|line| Some(line.split_once(separator)?.0.to_owned())).collect()
    };
    for (file, separator) in [("vmstat", ' '), ("meminfo", ':')] {
        let output = replay(&recording("cargo"), &["--phase", "80", "--proc", file]);
        let recorded = fs::read_to_string(recording("cargo").with_file_name("cargo.after").join(file)).unwrap();
        let ours = names(&String::from_utf8(output.stdout).unwrap(), separator);
        let vendor_or_later = |name: &&String| !ours.contains(name);
        let recorded = names(&recorded, separator);
        let unknown: Vec<_> = recorded.iter().filter(vendor_or_later).collect();
        assert!(ours.iter().all(|name| recorded.contains(name)), "{file}: {ours:?}");
        assert!(unknown.len() <= 12, "{file}: {unknown:?}");
    }
    let iomem = replay(&recording("cargo"), &["--phase", "80", "--proc", "iomem"]).stdout;
    assert!(String::from_utf8(iomem).unwrap().starts_with("00001000-0009efff : System RAM\n"));
}

#[test]
fn a_csv_file_has_a_line_a_second() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cargo.csv");
    let output = replay(&recording("cargo"), &["--phase", "80", "--csv", path.to_str().unwrap()]);
    assert!(output.status.success());
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(text.lines().count(), 7);
    assert!(text.lines().all(|line| line.split(',').count() == 14), "{text}");
}

#[test]
fn other_settings_change_the_outcome() {
    let fixed = report("cargo", &["--phase", "80", "--set", "vm.percpu_pagelist_high_fraction=2048"]);
    assert!(number(&fixed, "/drained_pages/ours") > 100_000.0, "{fixed}");
}

#[test]
fn without_the_recorded_list_order_the_counts_stay_the_same() {
    let report = report("cargo", &["--phase", "80", "--list-order", "ascending"]);
    assert!(number(&report, "/mean_residual") <= 0.02);
    assert!(number(&report, "/same_pfn_share") < 0.95);
}

#[test]
fn the_older_free_high_rule_drains_what_the_recorded_kernel_kept() {
    let report = report("cargo", &["--phase", "80", "--free-high", "6.12"]);
    assert!(number(&report, "/drained_pages/ours") > 50_000.0, "{report}");
}

/// Copies the directories beside a recording and writes `trace` as its trace; returns the trace's path.
fn damaged(name: &str, trace: &[u8]) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("replay-{name}"));
    for side in ["before", "after"] {
        let (from, to) =
            (recording("fork").with_file_name(format!("fork.{side}")), directory.join(format!("bad.{side}")));
        fs::create_dir_all(&to).unwrap();
        for file in fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
    let path = directory.join("bad.trace.zst");
    fs::write(&path, trace).unwrap();
    path
}

fn refused(trace: &Path, arguments: &[&str]) -> String {
    let output = replay(trace, arguments);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty(), "something was written before the error");
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

#[test]
fn damaged_traces_give_one_error_and_exit_code_2() {
    let whole = fs::read(recording("fork")).unwrap();
    let cut = damaged("cut", &whole[..whole.len() / 2]);
    assert!(refused(&cut, &["--guided"]).contains("expected intact zstd data"));
    assert!(refused(&cut, &[]).contains("bad.trace.zst, byte "));
    let mut flipped = whole;
    let middle = flipped.len() / 2;
    flipped[middle..middle + 64].fill(0x5a);
    assert!(refused(&damaged("flipped", &flipped), &[]).contains("bad.trace.zst"));
    let text = b"# mmtrace 1\n# t0_mono_ns 5\n# cpus 2\nF 0 0 1 40 0\nF 0 0 1 nonsense 0\n";
    assert!(refused(&damaged("text", text), &[]).contains("line 5: found \"nonsense\", expected a page frame number"));
}

#[test]
fn foreign_files_give_one_error_and_exit_code_2() {
    assert!(refused(Path::new("/nonexistent.trace.zst"), &[]).contains("/nonexistent"));
    assert!(refused(&damaged("foreign", b"hello\n"), &["--guided"]).contains("\"# mmtrace 1\""));
    assert!(refused(&recording("fork"), &["--set", "vm.swappiness=60"]).contains("vm.swappiness=60"));
}
