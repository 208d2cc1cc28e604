//! `mmkit replay` on the recorded processes, as a user runs it, and on recordings that cannot be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const NAMES: [&str; 4] = ["hello", "prog", "gcc", "bash"];

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/vm")
}

fn replay(trace: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmkit")).arg("replay").arg(trace).args(arguments).output().unwrap()
}

fn report(name: &str) -> Value {
    let output = replay(&data().join(format!("{name}.vmtrace.zst")), &["--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A directory with a copy of a recording, removed at the end.
struct Copied(PathBuf);

impl Copied {
    /// Makes `NAME.vmtrace` of `lines`, beside the states of the recording `states`.
    fn new(test: &str, lines: &str, states: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("mmkit-{test}-{}", std::process::id()));
        fs::create_dir_all(directory.join("copy.vm")).unwrap();
        for entry in fs::read_dir(data().join(format!("{states}.vm"))).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, directory.join("copy.vm").join(path.file_name().unwrap())).unwrap();
        }
        fs::write(directory.join("copy.vmtrace"), lines).unwrap();
        Self(directory)
    }

    fn error(&self) -> String {
        let output = replay(&self.0.join("copy.vmtrace"), &[]);
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn trace(name: &str) -> String {
    let packed = fs::read(data().join(format!("{name}.vmtrace.zst"))).unwrap();
    String::from_utf8(zstd::decode_all(&packed[..]).unwrap()).unwrap()
}

#[test]
fn every_recorded_result_area_and_resident_page_is_ours() {
    for name in NAMES {
        let report = report(name);
        assert_eq!(report["differences"], Value::Array(Vec::new()), "{name}");
        for row in report["compared"].as_array().unwrap() {
            // Only bash forks; the others make children that share their address space until they exec.
            let is_absent = row["kind"] == "fork" && name != "bash";
            assert_eq!(row["compared"].as_u64().unwrap() == 0, is_absent, "{name}: {row}");
        }
    }
}

#[test]
fn what_only_the_recording_knows_is_counted() {
    let report = report("bash");
    assert_eq!(report["residency"]["too_many"], 0);
    assert!(report["residency"]["entered"].as_u64().unwrap() > 0);
    // A signal came while the page of the stack that its frame goes to was shared after a fork.
    assert_eq!(report["repeated_faults"]["while_disabled"], 1);
    assert_eq!(report["signals"], 0);
}

#[test]
fn smaps_of_a_task_has_the_recorded_pages_and_flags() {
    for (name, task) in [("hello", "t1"), ("gcc", "t3"), ("bash", "t13")] {
        let output = replay(&data().join(format!("{name}.vmtrace.zst")), &["--smaps", task]);
        let recorded = fs::read_to_string(data().join(format!("{name}.vm/{task}.exit.smaps"))).unwrap();
        let (recorded, _) = recorded.split_once("ffffffffff600000-").unwrap();
        let lines = |text: &str| {
            let stable = |line: &&str| {
                let first = line.split_whitespace().next().unwrap_or_default();
                !first.ends_with(':') || ["Size:", "Rss:", "Anonymous:", "Swap:", "VmFlags:"].contains(&first)
            };
            // The recorded kernel was built without marks of writes, which ours always keeps.
            let flags = |line: &str| line.trim_end().trim_end_matches(" sd").to_owned();
            text.lines().filter(stable).map(flags).collect::<Vec<_>>()
        };
        assert_eq!(lines(&String::from_utf8(output.stdout).unwrap()), lines(recorded), "{name} {task}");
    }
}

#[test]
fn all_events_are_done() {
    let numbers = |name: &str| {
        let report = report(name);
        ["events", "tasks", "execs", "exits", "faults"].map(|field| report[field].as_u64().unwrap())
    };
    assert_eq!(numbers("hello"), [178, 1, 1, 1, 48]);
    assert_eq!(numbers("prog"), [1_862, 1, 1, 1, 855]);
    assert_eq!(numbers("gcc"), [11_392, 5, 5, 5, 5_230]);
    assert_eq!(numbers("bash"), [9_558, 30, 17, 30, 3_696]);
}

#[test]
fn maps_of_a_task_are_the_recorded_file() {
    for (name, task) in [("hello", "t1"), ("gcc", "t3"), ("bash", "t13")] {
        let output = replay(&data().join(format!("{name}.vmtrace.zst")), &["--maps", task]);
        let recorded = fs::read_to_string(data().join(format!("{name}.vm/{task}.exit.maps"))).unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), recorded, "{name} {task}");
    }
}

#[test]
fn a_result_that_is_not_linuxs_is_told_with_its_line() {
    let wrong = trace("hello").replace("mmap 7ffff7fb6000 file", "mmap 7ffff7fb5000 file");
    let copied = Copied::new("wrong-result", &wrong, "hello");
    let output = replay(&copied.0.join("copy.vmtrace"), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Linux 0x7ffff7fb5000, ours 0x7ffff7fb6000"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("line 68, task 1: Mmap")), "{text}");
}

#[test]
fn calls_of_two_threads_at_once_are_made_in_the_order_that_gives_the_recorded_addresses() {
    // The first thread's mmap begins first and gets the upper page, the second one's ends first.
    let threads = "\
N 1 1 t2 10100
< 1 2 clone3 0
> 1 1 mmap 0 1000 3 22 ffffffff 0
> 1 2 mmap 0 1000 3 22 ffffffff 0
< 1 2 mmap 7ffff7fbe000
< 1 1 mmap 7ffff7fbf000
> 1 1 munmap 7ffff7fbe000 2000
< 1 1 munmap 0
> 1 2 exit 0
Q 1 2
";
    let end = "> 37936 1 exit_group 0\n";
    let copied = Copied::new("threads", &trace("hello").replace(end, &format!("{threads}{end}")), "hello");
    for kind in ["maps", "smaps", "counts"] {
        let states = copied.0.join("copy.vm");
        fs::copy(states.join(format!("t1.exit.{kind}")), states.join(format!("t2.exit.{kind}"))).unwrap();
    }
    let output = replay(&copied.0.join("copy.vmtrace"), &["--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["differences"], &report["tasks"]), (&Value::Array(Vec::new()), &Value::from(2)));
}

/// Replays hello with `lines` before its exit, which make `faults` more faults than it had; returns the report.
fn with_more(test: &str, lines: &str, faults: u32) -> Value {
    let end = "> 37936 1 exit_group 0\n";
    let copied = Copied::new(test, &trace("hello").replace(end, &format!("{lines}{end}")), "hello");
    let counts = copied.0.join("copy.vm/t1.exit.counts");
    let more = fs::read_to_string(&counts).unwrap().replace("minflt 75\n", &format!("minflt {}\n", 75 + faults));
    fs::write(counts, more).unwrap();
    let output = replay(&copied.0.join("copy.vmtrace"), &["--json"]);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_segment_is_as_large_as_its_place_says_and_every_attachment_shows_its_pages() {
    let lines = "\
> 1 1 shmat 7 0 0
< 1 1 shmat 7ffff7fbe000
U 1 1 7ffff7fbe000 0 6
R 1 1 m1 1 3 4096
> 1 1 shmat 7 0 1000
< 1 1 shmat 7ffff7fbc000
U 1 1 7ffff7fbc008 0 4
R 1 1 m1 1 3 8192
> 1 1 shmdt 7ffff7fbe000
R 1 1 m1 1 3 4096
< 1 1 shmdt 0
> 1 1 shmdt 7ffff7fbc000
R 1 1 m1 1 3 0
< 1 1 shmdt 0
";
    let report = with_more("segments", lines, 2);
    assert_eq!(report["differences"], Value::Array(Vec::new()));
    assert_eq!(report["calls_taken"].as_object().unwrap().len(), 1, "limits only: {}", report["calls_taken"]);
}

#[test]
fn a_file_that_is_cut_off_by_a_call_that_is_not_recorded_loses_pages_and_answers_no_fault() {
    let lines = "\
> 1 1 mmap 0 3000 3 1 3 0
< 1 1 mmap 7ffff7fbd000 file 12288 /tmp/cut
U 1 1 7ffff7fbd000 0 6
R 1 1 m1 1 0 1064960
U 1 1 7ffff7fbe000 0 6
R 1 1 m1 1 0 1069056
> 1 1 msync 7ffff7fbd000 1000 4
< 1 1 msync 0
R 1 1 m1 1 0 1064960
U 1 1 7ffff7fbe000 0 4
R 1 1 m1 1 0 1064960
> 1 1 munmap 7ffff7fbd000 3000
R 1 1 m1 1 0 1060864
< 1 1 munmap 0
";
    let report = with_more("cut", lines, 2);
    assert_eq!(report["differences"], Value::Array(Vec::new()));
    assert_eq!((&report["unprompted_steps"], &report["signals"]), (&Value::from(1), &Value::from(1)));
}

#[test]
fn pages_that_calls_remove_and_bring_in_are_counted_with_their_faults() {
    let lines = "\
> 1 1 mmap 0 2000 3 21 ffffffff 0
< 1 1 mmap 7ffff7fbe000
U 1 1 7ffff7fbe000 0 6
R 1 1 m1 1 3 4096
> 1 1 madvise 7ffff7fbe000 2000 9
R 1 1 m1 1 3 0
< 1 1 madvise 0
> 1 1 mmap 0 2000 3 22 ffffffff 0
< 1 1 mmap 7ffff7fbc000
> 1 1 mlock 7ffff7fbc000 2000
R 1 1 m1 1 1 98304
< 1 1 mlock 0
> 1 1 munmap 7ffff7fbc000 4000
R 1 1 m1 1 1 90112
< 1 1 munmap 0
";
    assert_eq!(with_more("removed", lines, 3)["differences"], Value::Array(Vec::new()));
}

#[test]
fn a_step_that_is_not_linuxs_is_told_with_its_line() {
    let wrong = trace("hello").replace("R 4967 1 m1 1 1 32768", "R 4967 1 m1 1 1 36864");
    let copied = Copied::new("wrong-step", &wrong, "hello");
    let output = replay(&copied.0.join("copy.vmtrace"), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("anonymous pages: Linux 9, ours 8"), "{text}");
}

#[test]
fn a_fault_that_ours_would_not_take_is_told_with_its_line() {
    // The first fault of the program once more, at the same page.
    let line = "U 53369 1 7ffff7fe4b70 7ffff7fe4b70 14\n";
    let wrong = trace("hello").replace("> 44146 1 brk 0\n", &format!("{line}> 44146 1 brk 0\n"));
    let copied = Copied::new("wrong-fault", &wrong, "hello");
    let output = replay(&copied.0.join("copy.vmtrace"), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("fault at 0x7ffff7fe4b70, error code 0x14: ours had mapped the page, Linux had not"),
        "{text}"
    );
}

#[test]
fn a_trace_that_was_cut_off_is_an_error_at_its_last_line() {
    let lines: String = trace("hello").split_inclusive('\n').take(100).collect();
    let error = Copied::new("cut", &lines, "hello").error();
    assert!(
        error.contains("copy.vmtrace, line 100: found the end of the trace, expected the exit of task 1"),
        "{error}"
    );
    let half = Copied::new("half", lines.trim_end(), "hello").error();
    assert!(half.contains("line 100: found") && half.contains("a line that ends in a newline"), "{half}");
}

#[test]
fn states_of_another_recording_are_an_error_where_they_end() {
    let error = Copied::new("mixed", &trace("bash"), "hello").error();
    assert!(error.contains("found exec 2 of the recording by task 4"), "{error}");
    let error = Copied::new("mixed-more", &trace("hello"), "gcc").error();
    assert!(error.contains("expected the exit of task 2"), "{error}");
}

#[test]
fn events_out_of_order_are_an_error_at_their_line() {
    let header = "# vmtrace 1\n# t0_mono_ns 1\n";
    let error = |name: &str, lines: &str| Copied::new(name, &format!("{header}{lines}"), "hello").error();
    let ended = error("ended", "< 1 1 brk 0\n");
    assert!(ended.contains("line 3: found the end of brk, expected its entry before"), "{ended}");
    let other = error("other", "> 1 1 brk 0\n< 1 1 mmap 0\n");
    assert!(other.contains("line 4: found the end of mmap, expected the end of the call"), "{other}");
    let unknown = error("unknown", "U 1 7 1000 1000 4\n");
    assert!(unknown.contains("line 3: found an event of task 7"), "{unknown}");
    let twice = error("twice", "N 1 1 t1 0\n");
    assert!(twice.contains("line 3: found task 1, which lives"), "{twice}");
}

#[test]
fn a_trace_of_pages_under_the_name_of_one_of_processes_is_refused() {
    let copied = Copied::new("foreign", "# mmkit page trace\n", "hello");
    assert!(copied.error().contains("line 1: found \"# mmkit page trace\", expected \"# vmtrace 1\""));
}

#[test]
fn options_of_the_other_kind_of_trace_are_refused() {
    let guided = replay(&data().join("hello.vmtrace.zst"), &["--guided"]);
    assert_eq!(guided.status.code(), Some(2));
    let maps = replay(&data().join("../pages/fork.trace.zst"), &["--maps", "t1"]);
    assert_eq!(maps.status.code(), Some(2));
    let nobody = replay(&data().join("hello.vmtrace.zst"), &["--maps", "t9"]);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("task t9 does not exit"));
}
