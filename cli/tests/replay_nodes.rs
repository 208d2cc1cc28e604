//! `mmkit replay` on a recording of a machine with two nodes, as a user runs it, with and without the files that say which CPU is where.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

fn recording() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/pages/numa2.trace.zst")
}

fn replay(trace: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmkit")).arg("replay").arg(trace).args(arguments).output().unwrap()
}

fn report(trace: &Path, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    let output = replay(trace, &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(report: &Value, path: &str) -> f64 {
    report.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path}"))
}

/// Copies the recording; `change` is given the directory of its files from before the trace.
fn changed(test: &str, change: impl FnOnce(&Path)) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("replay-nodes-{test}"));
    for side in ["numa2.before", "numa2.after"] {
        fs::create_dir_all(directory.join(side)).unwrap();
        for file in fs::read_dir(recording().with_file_name(side)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), directory.join(side).join(file.file_name())).unwrap();
        }
    }
    let trace = directory.join("numa2.trace.zst");
    fs::copy(recording(), &trace).unwrap();
    change(&directory.join("numa2.before"));
    trace
}

fn refused(trace: &Path, arguments: &[&str]) -> String {
    let output = replay(trace, arguments);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty(), "something was written before the error");
    String::from_utf8(output.stderr).unwrap()
}

/// Checks that our course of one figure is within `share` of the recorded one.
fn near(report: &Value, path: &str, share: f64) {
    let (ours, recorded) = (number(report, &format!("{path}/ours")), number(report, &format!("{path}/recorded")));
    assert!((ours / recorded - 1.0).abs() <= share, "{path}: {ours} of {recorded}");
}

#[test]
fn guided_replay_ends_at_the_recorded_free_frames_of_each_node() {
    let report = report(&recording(), &["--guided"]);
    assert_eq!((number(&report, "/off"), number(&report, "/inconsistent_takes")), (0.0, 0.0));
    let zones = report["zones"].as_array().unwrap();
    let names: Vec<_> = zones.iter().map(|zone| (zone["node"].as_u64(), zone["zone"].as_str())).collect();
    assert_eq!(
        names,
        [(Some(0), Some("DMA")), (Some(0), Some("DMA32")), (Some(0), Some("Normal")), (Some(1), Some("Normal"))]
    );
    for zone in zones {
        assert_eq!((&zone["free"], &zone["off"]), (&zone["recorded_free"], &json!(0)));
    }
}

#[test]
fn simulated_replay_ends_near_the_recorded_kernel_on_both_nodes() {
    let report = report(&recording(), &["--phase", "60,100"]);
    for phase in report["phases"].as_array().unwrap() {
        assert!(number(phase, "/residual") <= 0.1, "{phase}");
        near(phase, "/refilled_pages", 0.02);
        near(phase, "/drained_pages", 0.02);
        assert_eq!(phase["fallbacks"], json!({ "ours": 3, "recorded": 3 }));
    }
    near(&report, "/nodes/remote_requests", 0.03);
    assert!(number(&report, "/nodes/same_node_share") >= 0.99, "{report}");
    assert!(number(&report, "/same_pfn_share") >= 0.5, "{report}");
    for (index, off) in [(0, 0.0), (1, 600.0), (2, 20.0), (3, 3000.0)] {
        assert!(number(&report, &format!("/zones/{index}/distance")) <= off, "{}", report["zones"][index]);
    }
    assert_eq!(report["zones"][0]["refilled_pages"], json!({ "ours": 3359, "recorded": 3359 }));
    near(&report, "/zones/3/refilled_pages", 0.03);
    for name in ["failed_here_only", "unmatched_frees", "not_loaded_blocks"] {
        assert_eq!(report[name], 0, "{name}");
    }
}

#[test]
fn the_nodes_of_cpus_come_from_the_user_the_files_or_the_trace() {
    let expected = json!([{ "node": 0, "cpus": [0, 1] }, { "node": 1, "cpus": [2, 3] }]);
    let by_files = report(&recording(), &["--phase", "60"]);
    let without = changed("inferred", |before| {
        for name in ["cpulist", "distance"] {
            (0..2).for_each(|node| fs::remove_file(before.join(format!("node-node{node}-{name}"))).unwrap());
        }
    });
    let inferred = report(&without, &["--phase", "60"]);
    assert_eq!((&by_files["nodes"]["cpus"], &inferred["nodes"]["cpus"]), (&expected, &expected));
    assert_eq!((&by_files["nodes"]["cpus_known_by"]), "node-nodeN-cpulist");
    assert_eq!(inferred["nodes"]["cpus_known_by"], "inference");
    assert!((0.5..1.0).contains(&number(&inferred, "/nodes/least_local_share")));
    assert_eq!(inferred["zones"], by_files["zones"]);
    let text = String::from_utf8(replay(&without, &["--phase", "60"]).stdout).unwrap();
    assert!(text.contains("CPUs by inference") && text.contains("CPUs of node 1"), "{text}");
    let given = report(&without, &["--phase", "60", "--node-cpus", "0=2,3", "--node-cpus", "1=0-1"]);
    assert_eq!(given["nodes"]["cpus"][0]["cpus"], json!([2, 3]));
    assert!(number(&given, "/nodes/remote_requests/recorded") > 25_000.0, "the other way round, most is remote");
}

#[test]
fn the_proc_files_and_the_course_are_by_node() {
    let csv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("numa2.csv");
    let output = replay(&recording(), &["--phase", "60", "--csv", csv.to_str().unwrap(), "--proc", "zoneinfo"]);
    let ours = String::from_utf8(output.stdout).unwrap();
    let recorded = fs::read_to_string(recording().with_file_name("numa2.after").join("zoneinfo")).unwrap();
    let lines = |text: &str, name: &str| -> Vec<String> {
        text.lines().map(str::trim).filter(|line| line.starts_with(name)).map(str::to_owned).collect()
    };
    for name in ["Node ", "spanned", "present", "managed", "protection", "batch", "start_pfn"] {
        assert_eq!(lines(&ours, name), lines(&recorded, name), "{name}");
    }
    let text = fs::read_to_string(csv).unwrap();
    assert!(text.starts_with("node,zone,time_ms,"));
    let of_node = |node: &str| text.lines().filter(|line| line.starts_with(node)).count();
    assert_eq!((of_node("0,Normal,"), of_node("1,Normal,")), (8, 8));
    assert!(text.lines().all(|line| line.split(',').count() == 16), "{text}");
}

#[test]
fn cpu_lists_that_contradict_each_other_are_refused_with_file_and_line() {
    let list = |node: u8, text: &'static str| {
        move |before: &Path| fs::write(before.join(format!("node-node{node}-cpulist")), text).unwrap()
    };
    let message = refused(&changed("twice", list(1, "1-3\n")), &[]);
    assert!(message.contains("node-node1-cpulist, line 1: found CPU 1, which is also near node 0"), "{message}");
    let message = refused(&changed("beyond", list(1, "2-4\n")), &[]);
    assert!(message.contains("found CPU 4, expected CPUs below 4"), "{message}");
    let message = refused(&changed("missing", list(1, "2\n")), &[]);
    assert!(message.contains("found no list with CPU 3"), "{message}");
    let message = refused(&changed("malformed", list(0, "0-\n")), &[]);
    assert!(message.contains("node-node0-cpulist, line 1: found \"0-\""), "{message}");
    let distance = |before: &Path| fs::write(before.join("node-node1-distance"), "20\n").unwrap();
    let message = refused(&changed("distance", distance), &[]);
    assert!(message.contains("node-node1-distance, line 1: found \"20\", expected 2 distances"), "{message}");
    assert_eq!(message.lines().count(), 1);
}

#[test]
fn options_that_contradict_the_recording_are_refused() {
    let message = refused(&recording(), &["--node-cpus", "0=0-2", "--node-cpus", "1=2-3"]);
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(message.contains("--node-cpus 1: found CPU 2, which is also near node 0"), "{message}");
    assert!(refused(&recording(), &["--node-cpus", "0=0-1"]).contains("no list with CPU 2"));
    assert!(refused(&recording(), &["--node-cpus", "0-1"]).contains("expected NODE=CPUS"));
    assert!(refused(&recording(), &["--guided", "--node-cpus", "0=0-3"]).contains("cannot be used with"));
}

#[test]
fn nodes_that_overlap_are_refused() {
    let trace = changed("overlap", |before| {
        let path = before.join("zoneinfo");
        let text = fs::read_to_string(&path).unwrap();
        let start = text.rfind("spanned  81920").unwrap();
        // Node 1 starts inside node 0's zone Normal.
        let (head, tail) = text.split_at(start);
        fs::write(path, format!("{head}{}", tail.replacen("1081344", "1080000", 1))).unwrap();
    });
    let message = refused(&trace, &[]);
    assert!(message.contains("zoneinfo: found zone Normal of node 1 inside zone Normal of node 0"), "{message}");
}
