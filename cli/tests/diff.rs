//! `mmkit diff` as a user runs it, on the kernel of this host.

use std::io::Write;
use std::process::{Command, Output};

fn diff(options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmkit")).arg("diff").args(options).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Says why nothing can be compared here, if so: the host's kernel is none whose rules are known (6.12, or 6.17 and later), or does not let processes run
/// without randomised addresses or be read.
#[expect(clippy::explicit_write, reason = "the harness keeps what eprintln prints to itself")]
fn is_skipped() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    if version != (6, 12) && version < (6, 17) {
        writeln!(std::io::stderr(), "SKIPPED: the rules of Linux {release} are not known, so nothing was compared")
            .unwrap();
        return true;
    }
    let tried = diff(&["--ops", "50"]);
    let told = String::from_utf8(tried.stderr).unwrap();
    let is_refused = ["personality", "process_vm_readv", "prlimit"].into_iter().any(|call| told.contains(call));
    if tried.status.code() == Some(2) && is_refused {
        writeln!(std::io::stderr(), "SKIPPED: {told}").unwrap();
        return true;
    }
    false
}

#[test]
fn this_kernel_and_ours_agree_on_random_calls() {
    if is_skipped() {
        return;
    }
    for seed in ["101", "102"] {
        let output = diff(&["--ops", "5000", "--seed", seed]);
        assert!(output.status.success(), "{}", text(&output));
        assert!(text(&output).contains("0 differences"), "{}", text(&output));
    }
}

#[test]
fn the_rules_of_another_release_are_found_to_differ_and_shrunk() {
    if is_skipped() {
        return;
    }
    let other = if std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().starts_with("6.12.") {
        "6.18"
    } else {
        "6.12"
    };
    let output = diff(&["--ops", "20000", "--only", "mmap,mremap,munmap", "--release", other]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let shortest = text(&output).lines().filter(|line| line.trim_start().starts_with("Operation::")).count();
    assert!((1..20).contains(&shortest), "{}", text(&output));
}

#[test]
fn a_call_that_does_not_exist_is_named() {
    let output = diff(&["--only", "mmap,frobnicate"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("frobnicate"));
}
